"""Tables that belong to this process: NFT_TABLE_F_OWNER (kernel 5.12), net/netfilter/nf_tables_api.c.

The kernel removes an owned table when the socket that made it is closed, so also on SIGKILL, and lets nobody else
change or flush it. Messages are built with pyroute2's classes; expressions are kept as ``nft`` itself would write
them, because nft 1.0.6 aborts for everybody (``payload_expr_expand``) when it lists some redundant forms.

    with OwnerTable(netns, IPV4, "nattrace-…") as table:
        table.add_chain("pre", PRE_ROUTING, -400)
        table.add_rule("pre", [*match(flow), *SET_TRACE])
        table.commit()                             # all or nothing
"""

from __future__ import annotations

import errno
import os
import struct
from typing import Any

from ....sim.errors import MissingFacility
from ..flow import AF_INET, ICMP, ICMPV6, PORTS, FlowKey
from .queues import wait_until_empty
from .sock import InNetns, Nfnl, Refused, no_privilege
from .wire import NLM_F_APPEND, NLM_F_CREATE, PAYLOAD

Expression = dict[str, Any]

# enum nf_tables_msg_types
NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN, NEWRULE, GETRULE, DELRULE, GETGEN, TRACE = (
    0,
    1,
    2,
    3,
    4,
    6,
    7,
    8,
    16,
    17,
)
TABLE_OWNER = 2  # enum nft_table_flags
REG_VERDICT, REG_1 = 0, 1
NF_DROP, NF_ACCEPT, NFT_JUMP = 0, 1, -3
META_MARK, META_IIFNAME, META_OIFNAME, META_NFTRACE, META_L4PROTO = 3, 6, 7, 12, 16
CT_DIRECTION, CT_PROTOCOL, CT_PROTO_SRC, CT_PROTO_DST, CT_SRC_IP, CT_DST_IP, CT_SRC_IP6, CT_DST_IP6 = (
    1,
    10,
    11,
    12,
    19,
    20,
    21,
    22,
)
LOWEST_PRIORITY = -(1 << 31)


def expression(name: str, **data: Any) -> Expression:
    """``expression("meta", KEY=12, SREG=1)``: an expression with its attributes, in the order given."""
    prefix = {"immediate": "IMMEDIATE"}.get(name, name.upper())
    return {"attrs": [
        ("NFTA_EXPR_NAME", name),
        ("NFTA_EXPR_DATA", {"attrs": [(f"NFTA_{prefix}_{key}", value) for key, value in data.items()]}),
    ]}  # fmt: skip


def load_meta(key: int) -> Expression:
    return expression("meta", KEY=key, DREG=REG_1)


def equal(data: bytes) -> Expression:
    return expression("cmp", SREG=REG_1, OP=0, DATA={"attrs": [("NFTA_DATA_VALUE", data)]})


def load_payload(base: int, offset: int, length: int) -> Expression:
    return expression("payload", DREG=REG_1, BASE=base, OFFSET=offset, LEN=length)


def load_ct(key: int, direction: int | None = None) -> Expression:
    if direction is None:
        return expression("ct", KEY=key, DREG=REG_1)
    return expression("ct", KEY=key, DREG=REG_1, DIRECTION=direction)


def verdict(code: int, chain: str | None = None) -> Expression:
    parts: list[tuple[str, Any]] = [("NFTA_VERDICT_CODE", code)]
    if chain is not None:
        parts.append(("NFTA_VERDICT_CHAIN", chain))
    return expression("immediate", DREG=REG_VERDICT, DATA={"attrs": [("NFTA_DATA_VERDICT", {"attrs": parts})]})


def limit(rate: int, burst: int, over: bool) -> Expression:
    """``limit rate [over] RATE/second burst BURST packets``."""
    return expression("limit", RATE=rate, UNIT=1, BURST=burst, TYPE=0, FLAGS=int(over))


def counter() -> Expression:
    return expression("counter", BYTES=0, PACKETS=0)


def set_trace() -> list[Expression]:
    """``meta nftrace set 1``."""
    one = {"attrs": [("NFTA_DATA_VALUE", b"\1")]}
    return [expression("immediate", DREG=REG_1, DATA=one), expression("meta", KEY=META_NFTRACE, SREG=REG_1)]


def match(flow: FlowKey) -> list[Expression]:
    """What ``nft`` makes of the same words in a table of family ip or ip6."""
    found: list[Expression] = []
    size = 4 if flow.family == AF_INET else 16
    offset = 12 if flow.family == AF_INET else 8
    if flow.iif is not None:
        found += [load_meta(META_IIFNAME), equal(flow.iif.encode().ljust(16, b"\0"))]
    for address, at in ((flow.src, offset), (flow.dst, offset + size)):
        if address is not None:
            found += [load_payload(1, at, size), equal(address)]
    if flow.proto is not None:
        found += [load_meta(META_L4PROTO), equal(bytes([flow.proto]))]
    if flow.proto in PORTS:
        for port, at in ((flow.sport, 0), (flow.dport, 2)):
            if port is not None:
                found += [load_payload(2, at, 2), equal(struct.pack(">H", port))]
    elif flow.proto in (ICMP, ICMPV6) and flow.sport is not None:
        found += [load_payload(2, 4, 2), equal(struct.pack(">H", flow.sport))]
    return found


def match_entry(flow: FlowKey, direction: int | None = None) -> list[Expression]:
    """The flow by the original tuple of its conntrack entry, whatever its headers say by now.

    Only where tracking is active already: the kernel switches it on for a rule that reads a ``ct`` key
    (nft_ct_get_init()). ``direction``: 0 original, 1 reply, None both.
    """
    found: list[Expression] = []
    if direction is not None:
        found += [load_ct(CT_DIRECTION), equal(bytes([direction]))]
    keys = (CT_SRC_IP, CT_DST_IP) if flow.family == AF_INET else (CT_SRC_IP6, CT_DST_IP6)
    for address, key in zip((flow.src, flow.dst), keys, strict=True):
        if address is not None:
            found += [load_ct(key, 0), equal(address)]
    if flow.proto is not None:
        found += [load_ct(CT_PROTOCOL, 0), equal(bytes([flow.proto]))]
    ports = [(flow.sport, CT_PROTO_SRC), (flow.dport, CT_PROTO_DST)]
    for port, key in ports if flow.proto in PORTS else ports[:1] if flow.proto in (ICMP, ICMPV6) else ():
        if port is not None:
            found += [load_ct(key, 0), equal(struct.pack(">H", port))]
    return found


class OwnerTable:
    """A table of this process; gathers chains and rules, then puts them in place in one transaction."""

    def __init__(self, netns: InNetns | None, family: int, word: str) -> None:
        self.netns, self.family = netns, family
        self.name = f"{word}-{os.getpid()}-{os.urandom(3).hex()}"
        self.socket = Nfnl(netns)
        self._parts: list[tuple[int, int, int, bytes]] = []
        self._made = False

    def __enter__(self) -> OwnerTable:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """The table goes with its socket, in a moment in which that costs no queue of others its packets."""
        if self._made:
            self._made = False
            wait_until_empty(self.netns)
        self.socket.close()

    def add_chain(self, name: str, hook: int | None = None, priority: int = 0, kind: str = "filter") -> None:
        """A base chain with policy accept, or (without hook) a chain to jump to."""
        parts: dict[str, Any] = {"table": self.name, "name": name}
        if hook is not None:
            hooked = [("NFTA_HOOK_HOOKNUM", hook), ("NFTA_HOOK_PRIORITY", priority)]
            parts |= {"hook": {"attrs": hooked}, "policy": NF_ACCEPT, "type": kind}
        self._add(NEWCHAIN, "nft_chain_msg", **parts)

    def add_rule(self, chain: str, expressions: list[Expression]) -> None:
        self._add(NEWRULE, "nft_rule_msg", table=self.name, chain=chain, expressions=expressions)

    def commit(self) -> None:
        """Put everything gathered in place. Raises MissingFacility where the kernel can't; then nothing is left."""
        parts, self._parts = self._parts, []
        if not self._made:
            body = _encode("nft_table_msg", name=self.name, flags=TABLE_OWNER)
            parts.insert(0, (NEWTABLE, NLM_F_CREATE, self.family, body))
        try:
            self.socket.batch(parts)
        except Refused as error:
            if not self._made:
                self._explain(error)
            raise
        self._made = True

    def flush(self) -> None:
        """Take all rules out and leave the chains: no packet comes any more, and none that is queued is dropped yet.

        When a base chain goes, the kernel drops what the queues of the namespace hold (nf_queue_nf_hook_drop()).
        """
        if self._made:
            self.socket.batch([(DELRULE, 0, self.family, _encode("nft_rule_msg", table=self.name))])

    def _add(self, kind: int, class_name: str, **parts: Any) -> None:
        self._parts.append((kind, NLM_F_CREATE | NLM_F_APPEND, self.family, _encode(class_name, **parts)))

    def _explain(self, error: Refused) -> None:
        """Say which facility is missing: the table is asked for alone, and goes with its socket."""
        known = no_privilege(error, "a table of our own")
        if isinstance(known, MissingFacility):
            raise known from None
        try:
            body = _encode("nft_table_msg", name=self.name, flags=TABLE_OWNER)
            with Nfnl(self.netns) as alone:
                alone.batch([(NEWTABLE, NLM_F_CREATE, self.family, body)])
        except Refused as again:
            if again.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                raise MissingFacility(
                    "this kernel has no nf_tables tables that vanish with their process (owner flag)",
                    remedy="a kernel from 5.12 on; without them nothing is changed on this host: leave "
                    "--allow-changes out",
                ) from None


def _encode(class_name: str, **parts: Any) -> bytes:
    """The attributes of a message that pyroute2 knows how to build."""
    from pyroute2.netlink.nfnetlink import nftsocket

    made = getattr(nftsocket, class_name)()
    made["attrs"] = [[made.name2nla(key), value] for key, value in parts.items()]
    made.encode()
    return bytes(made.data[PAYLOAD:])
