"""Events from raw tracepoints: what happens to packets outside netfilter's hooks. They fire for the whole machine; the
program's first test is the namespace."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from .. import bpfsys

STREAMS = {  # stream: (function in nattrace.c, tracepoint)...
    "rx": (("on_rx", "netif_receive_skb"),),
    "tx": (("on_tx", "net_dev_queue"),),
    "drop": (("on_drop", "kfree_skb"),),
    "consume": (("on_consume", "consume_skb"),),
    "icmp_send": (("on_icmp_send", "icmp_send"),),
    "fib": (("on_fib", "fib_table_lookup"), ("on_fib6", "fib6_table_lookup")),
    "neigh": (
        ("on_neigh", "neigh_update_done"),
        ("on_neigh", "neigh_event_send_done"),
        ("on_neigh", "neigh_timer_handler"),
    ),
    "tcp_reset": (("on_tcp_reset", "tcp_send_reset"),),
    "xmit": (("on_xmit", "net_dev_start_xmit"),),
}
FUNCTIONS = sorted({function for pairs in STREAMS.values() for function, _ in pairs})


def attach(streams: list[str], load: Callable[[str], int]) -> tuple[list[int], dict[str, str]]:
    """Attach the streams: (descriptors, {stream: why it is absent}). A tracepoint this kernel lacks is no error here."""
    held: list[int] = []
    missing: dict[str, str] = {}
    loaded: dict[str, int] = {}
    try:
        for stream in streams:
            for function, tracepoint in STREAMS[stream]:
                try:
                    if function not in loaded:
                        loaded[function] = load(function)
                    held.append(bpfsys.raw_tracepoint(loaded[function], tracepoint))
                except bpfsys.BpfError as error:
                    if error.errno not in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):
                        raise
                    missing[stream] = (
                        f"this kernel has no tracepoint {tracepoint}" if error.errno == errno.ENOENT else str(error)
                    )
    except BaseException:
        for fd in [*held, *loaded.values()]:
            os.close(fd)
        raise
    for fd in loaded.values():
        os.close(fd)
    return held, missing
