"""Which IP protocols the running kernel has a receiver for: inet_add_protocol() keeps a table that no file shows.

A receiver is built in or comes with a module, and either way its functions are among the kernel's symbols, whose names
everybody may read (kernel/kallsyms.c hides addresses only).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

SYMBOLS = Path("/proc/kallsyms")
ALWAYS = (1, 2, 6, 17)  # inet_init(), igmp_mc_init(): in every kernel that speaks IPv4
RECEIVERS = {
    b"tunnel4_rcv": 4, b"dccp_v4_rcv": 33, b"tunnel64_rcv": 41, b"gre_add_protocol": 47, b"esp4_rcv_cb": 50,
    b"ah4_rcv_cb": 51, b"pim_rcv": 103, b"ipcomp4_rcv_cb": 108, b"l2tp_ip_recv": 115, b"sctp_rcv": 132, b"udplite_rcv": 136,
}  # fmt: skip


@lru_cache(maxsize=1)
def protocols() -> list[int] | None:
    """Their numbers, ascending; None when the kernel shows no symbols."""
    try:
        text = SYMBOLS.read_bytes()
    except OSError:
        return None
    if b" tcp_v4_rcv\n" not in text:
        return None
    return sorted({*ALWAYS, *(number for name, number in RECEIVERS.items() if _has(text, name))})


def _has(text: bytes, name: bytes) -> bool:
    """A symbol of the kernel itself ends the line, one of a module is followed by its name."""
    return b" " + name + b"\n" in text or b" " + name + b"\t" in text
