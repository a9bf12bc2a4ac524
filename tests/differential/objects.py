"""Named objects that rules refer to and no tool at hand makes: nfacct counters, conntrack timeout policies.

linux/netfilter/nfnetlink_acct.h, nfnetlink_cttimeout.h. A policy made here has the kernel's own default times.
"""

from __future__ import annotations

import socket
import struct

NETLINK_NETFILTER = 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE = 1, 4, 0x400
NFNL_ACCT_NEW = 7 << 8  # NFNL_SUBSYS_ACCT, NFNL_MSG_ACCT_NEW
CTNL_TIMEOUT_NEW = 8 << 8  # NFNL_SUBSYS_CTNETLINK_TIMEOUT, IPCTNL_MSG_TIMEOUT_NEW
NESTED = 0x8000
AF_INET, IPPROTO_UDP = 2, 17


def _attribute(kind: int, data: bytes) -> bytes:
    size = 4 + len(data)
    return struct.pack("=HH", size, kind) + data + bytes(-size % 4)


def _ask(kind: int, attributes: bytes) -> None:
    """One request in the calling thread's namespace. Raises OSError with what the kernel said."""
    body = struct.pack("=BBH", AF_INET, 0, 0) + attributes
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock:
        head = struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, 1, 0)
        sock.send(head + body)
        answer = sock.recv(4096)
    code = struct.unpack_from("=i", answer, 16)[0]
    if code:
        raise OSError(-code, "nfnetlink")


def make_counter(name: str) -> None:
    """``nfacct add NAME``"""
    _ask(NFNL_ACCT_NEW, _attribute(1, name.encode() + b"\0"))


def make_timeout(name: str) -> None:
    """``nfct add timeout NAME inet udp``"""
    _ask(
        CTNL_TIMEOUT_NEW,
        _attribute(1, name.encode() + b"\0")
        + _attribute(2, struct.pack("!H", AF_INET))
        + _attribute(3, bytes([IPPROTO_UDP]))
        + _attribute(4 | NESTED, b""),
    )
