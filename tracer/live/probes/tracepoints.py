"""Events from raw tracepoints: what happens to packets outside netfilter's hooks. They fire for the whole machine; the
program's first test is the namespace."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable

from .. import bpfsys
from ..event import KIND

STREAMS = {  # stream: (function in nattrace.c, tracepoint)...
    "rx": (("on_packet", "netif_receive_skb"),),
    "tx": (("on_packet", "net_dev_queue"),),
    "drop": (("on_packet", "kfree_skb"),),
    "consume": (("on_packet", "consume_skb"),),
    "icmp_send": (("on_packet", "icmp_send"),),
    "fib": (("on_fib", "fib_table_lookup"), ("on_fib6", "fib6_table_lookup")),
    "neigh": (
        ("on_neigh", "neigh_update_done"),
        ("on_neigh", "neigh_event_send_done"),
        ("on_neigh", "neigh_timer_handler"),
    ),
    "tcp_reset": (("on_packet", "tcp_send_reset"),),
    "xmit": (("on_packet", "net_dev_start_xmit"),),
}
FUNCTIONS = sorted({function for pairs in STREAMS.values() for function, _ in pairs})


def programs(streams: Iterable[str]) -> set[tuple[str, KIND]]:
    """(function, kind) of the programs that these streams need."""
    return {(function, KIND[stream]) for stream in streams if stream in STREAMS for function, _ in STREAMS[stream]}


def attach(streams: list[str], load: Callable[[str, KIND], int]) -> tuple[list[int], dict[str, str]]:
    """Attach the streams: (descriptors, {stream: why it is absent}). A tracepoint this kernel lacks is no error here."""
    held: list[int] = []
    missing: dict[str, str] = {}
    try:
        for stream in streams:
            loaded: dict[str, int] = {}
            for function, tracepoint in STREAMS[stream]:
                try:
                    if function not in loaded:
                        loaded[function] = load(function, KIND[stream])
                    held.append(bpfsys.raw_tracepoint(loaded[function], tracepoint))
                except bpfsys.BpfError as error:
                    if error.errno not in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):
                        raise
                    missing[stream] = (
                        f"this kernel has no tracepoint {tracepoint}" if error.errno == errno.ENOENT else str(error)
                    )
            for fd in loaded.values():
                os.close(fd)  # the attachments hold the programs
    except BaseException:
        for fd in held:
            os.close(fd)
        raise
    return held, missing
