"""Which nf_tables rule matched, exactly: the kernel's own trace messages of one flow (net/netfilter/nf_tables_trace.c).

A table of this process marks the packets of the flow; every rule and policy that such a packet meets is then reported
by netlink. The table goes with the process, also on SIGKILL. Native nft and iptables-nft; for legacy: nflog.py.

    flow = FlowKey.parse("udp", "10.0.0.2", "10.9.9.9", dport=53)
    print(*describe_changes(flow), sep="\\n")                  # what --allow-changes would allow
    with RuleTrace(netns, flow, book=RuleBook.read(netns, host), allow_changes=True) as trace:
        ...                                                    # packets pass
        for hit in trace.read():
            hit.packet, hit.hook, hit.priority, hit.step       # one rule that one packet met, as a Step
        trace.loss()                                           # {"nftrace": messages lost, "nftrace_skipped": packets}

``hit.packet`` numbers the packets from 1: a new one begins at our own rule, not where the trace id changes (the id is
made from the address of the skb, which the next packet gets again).
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ....sim.errors import NattraceError
from ....sim.model.result import Step
from ....sim.model.rule import HOOK_NAME
from ....sim.snapshot.nft import OBSERVER
from ..flow import AF_INET, AF_INET6, PORTS, FlowKey
from ..nfnl.listing import NftChain, rule_counters
from ..nfnl.sock import InNetns, Nfnl
from ..nfnl.tables import (
    LOWEST_PRIORITY,
    NF_ACCEPT,
    NFT_JUMP,
    TRACE,
    OwnerTable,
    counter,
    limit,
    match,
    match_entry,
    set_trace,
    verdict,
)
from ..nfnl.tracking import tracking_reason
from ..nfnl.wire import FAMILY_WORD, GROUP_NFTRACE, NFTABLES, attributes, number, text
from .book import RuleBook

MOST_MARKED = 100_000  # packets of which is kept that they were marked
RATE = 5000  # packets a second that are marked; one packet makes about 7 messages
BUFFER = 8 << 20
AFTER_CONNTRACK = -199  # NF_IP_PRI_CONNTRACK + 1
PRE_ROUTING, LOCAL_OUT = 0, 3
ECHO = (0, 8, 128, 129)  # the ICMP and ICMPv6 types that carry an identifier
NF_VERDICT_MASK = 0xFF
POLICY, RETURN, RULE = 1, 2, 3  # enum nft_trace_types
VERDICTS = {
    0: "DROP", 1: "ACCEPT", 2: "STOLEN", 3: "QUEUE", 4: "REPEAT", -1: None, -2: None, -3: "JUMP", -4: "GOTO", -5: "RETURN",
}  # fmt: skip
CT_STATES = {1: "INVALID", 2: "ESTABLISHED", 4: "RELATED", 8: "NEW", 64: "UNTRACKED"}  # NF_CT_STATE_BIT()


class TraceMessage(NamedTuple):
    """One NFT_MSG_TRACE. Headers come with the first message of a base chain only. ``ct_*``: kernels from 6.18 on."""

    id: int
    family: str
    table: str
    chain: str
    type: int
    handle: int | None
    verdict: int | None
    jump: str | None
    policy: int | None
    mark: int
    iif: int | None
    oif: int | None
    nfproto: int | None
    network: bytes | None
    transport: bytes | None
    ct_id: int | None = None
    ct_direction: int | None = None
    ct_status: int | None = None
    ct_state: str | None = None


class Headers(NamedTuple):
    """What of the packet's headers tells it from others. ``ip_id``: None for IPv6."""

    key: FlowKey
    ip_id: int | None
    length: int
    ttl: int

    @property
    def identity(self) -> tuple[str, str, int | None]:
        """Source, destination, IP identification."""
        family = AF_INET if self.key.family == AF_INET else AF_INET6
        source, target = (socket.inet_ntop(family, end or b"") for end in (self.key.src, self.key.dst))
        return source, target, self.ip_id


class Hit(NamedTuple):
    """One rule (or policy) that one packet met. ``packet``: from 1; ``time``: when read, time.monotonic_ns()."""

    packet: int
    time: int
    hook: int | None
    priority: int | None
    step: Step
    headers: Headers | None
    message: TraceMessage


def decode(body: bytes, family: int) -> TraceMessage:
    """The attributes of one NFT_MSG_TRACE, enum nft_trace_attributes."""
    a = attributes(body)
    v = attributes(a[5]) if 5 in a else {}
    code = struct.unpack(">i", v[1])[0] if 1 in v else None
    state = number(a.get(21))
    return TraceMessage(
        number(a.get(6)) or 0, FAMILY_WORD.get(family, str(family)), text(a.get(1)) or "", text(a.get(2)) or "",
        number(a.get(4)) or 0, number(a.get(3)), code, text(v.get(2)), number(a.get(16)), number(a.get(14)) or 0,
        number(a.get(10)), number(a.get(12)), number(a.get(15)), a.get(8), a.get(9),
        number(a.get(18)), number(a.get(19)), number(a.get(20)),
        None if state is None else CT_STATES.get(state, str(state)),
    )  # fmt: skip


def headers(message: TraceMessage) -> Headers | None:
    """The packet as it was when the base chain began; None where the message carries none."""
    return packet_headers(message.network or b"", message.transport)


def packet_headers(ip: bytes, l4: bytes | None = None) -> Headers | None:
    """The same of any packet; ``l4``: its transport header where that doesn't follow in ``ip``."""
    sport = dport = None
    if len(ip) >= 20 and ip[0] >> 4 == 4:
        proto, family, source, target = ip[9], 2, ip[12:16], ip[16:20]
        ip_id, length, ttl = int.from_bytes(ip[4:6], "big"), int.from_bytes(ip[2:4], "big"), ip[8]
        l4 = ip[4 * (ip[0] & 15) :] if l4 is None else l4
        if int.from_bytes(ip[6:8], "big") & 0x1FFF:
            l4 = b""  # a later fragment has no ports
    elif len(ip) >= 40 and ip[0] >> 4 == 6:
        proto, family, source, target = ip[6], 10, ip[8:24], ip[24:40]
        ip_id, length, ttl = None, 40 + int.from_bytes(ip[4:6], "big"), ip[7]
        l4 = ip[40:] if l4 is None else l4
    else:
        return None
    if proto in (1, 58):
        if len(l4) >= 6 and l4[0] in ECHO:
            sport = int.from_bytes(l4[4:6], "big")
    elif proto in PORTS and len(l4) >= 4:
        sport, dport = int.from_bytes(l4[:2], "big"), int.from_bytes(l4[2:4], "big")
    return Headers(FlowKey(family, proto, source, target, sport, dport), ip_id, length, ttl)


QUEUES_OF_OTHERS = (
    "what other programs hold in an nfqueue of the namespace when the table goes is dropped by the kernel; nattrace waits "
    "for a moment in which they hold nothing, unless it is killed"
)


def describe_changes(flow: FlowKey) -> list[str]:
    """What is changed on the host while rules are traced, for the user to agree to."""
    return [
        f"an nf_tables table of family {_word(flow)} that belongs to this process and marks the packets of {flow} "
        "for tracing (they are not altered); the kernel removes it when the process ends, however it ends",
        "marked packets are logged by iptables-legacy rules too, where there are any",
        QUEUES_OF_OTHERS,
    ]


def _word(flow: FlowKey) -> str:
    return "ip" if flow.family == AF_INET else "ip6"


class RuleTrace:
    """Marks the flow's packets in one namespace and reads which rules they meet.

    ``replies``: tuples by which replies are known beforehand (predicted, or seen); where tracking is active already,
    all packets of the flow's entries are found by their entry. ``lost()`` counts messages the reader was too slow for.
    """

    def __init__(self, netns: InNetns | None, flow: FlowKey, *, book: RuleBook | None = None,
                 replies: Sequence[FlowKey] = (), rate: int = RATE, allow_changes: bool = False) -> None:  # fmt: skip
        if not allow_changes:
            raise NattraceError("tracing rules changes this host", remedy=needs_changes(describe_changes(flow)))
        self.book = book
        self.tracked = tracking_reason(netns)
        self.events = Nfnl(netns, (GROUP_NFTRACE,), BUFFER)
        try:
            self.table = mark_table(netns, flow, replies, rate, self.tracked is not None)
        except BaseException:
            self.events.close()
            raise
        self._packets = Packets(self.table.name)
        self._final: dict[str, int] | None = None

    def __enter__(self) -> RuleTrace:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Also the end of what is counted: :meth:`loss` says the same ever after."""
        if self._final is None:
            self._final = self.loss()
            self.table.close()
            self.events.close()

    def fileno(self) -> int:
        return self.events.fileno()

    def messages(self) -> list[TraceMessage]:
        """What has come, decoded and nothing more."""
        trace = NFTABLES << 8 | TRACE
        return [decode(m.body, m.family) for m in self.events.receive() if m.type == trace]

    def read(self) -> list[Hit]:
        """What has come, as steps of packets; our own table's messages are left out."""
        return self._packets.hits(self.messages(), self.book)

    @property
    def marked(self) -> set[tuple[str, str, int | None]]:
        """Source, destination, IP id of the packets that were marked: what is not told of them did not happen."""
        return self._packets.marked

    def loss(self) -> dict[str, int]:
        """Messages that were lost, and packets that were not marked because there were too many a second."""
        return self._final or {"nftrace": self.events.lost(), "nftrace_skipped": self.skipped()}

    def skipped(self) -> int:
        """Packets over the rate, by the counter of our own rule."""
        return sum(n for n, _ in rule_counters(self.table.socket, self.table.family, self.table.name, "mark"))


def needs_changes(changes: Iterable[str]) -> str:
    """The remedy of an error that asks for --allow-changes."""
    return "--allow-changes allows it, and changes this:\n" + "\n".join(f"    {change}" for change in changes)


def mark_table(
    netns: InNetns | None, flow: FlowKey, replies: Sequence[FlowKey], rate: int, tracked: bool
) -> OwnerTable:
    """The table that sets nftrace: known tuples before everything else; by their entry, right after conntrack.

    One chain does the marking, so that one limit holds for all directions; it ends with accept, which ends our own
    chain only and spares two messages a packet.
    """
    table = OwnerTable(netns, flow.family, "nattrace-trace")
    try:
        table.add_chain("mark")
        table.add_rule("mark", [limit(rate, max(5, rate // 10), over=True), counter(), verdict(NF_ACCEPT)])
        table.add_rule("mark", [*set_trace(), verdict(NF_ACCEPT)])
        for name, hook in (("first-in", PRE_ROUTING), ("first-out", LOCAL_OUT)):
            table.add_chain(name, hook, LOWEST_PRIORITY)
            for key in (flow, *replies):
                if hook == LOCAL_OUT and key.iif is not None:
                    continue
                table.add_rule(name, [*match(key), verdict(NFT_JUMP, "mark")])
        if tracked:
            for name, hook in (("entry-in", PRE_ROUTING), ("entry-out", LOCAL_OUT)):
                table.add_chain(name, hook, AFTER_CONNTRACK)
                table.add_rule(name, [*match_entry(flow, direction=1), verdict(NFT_JUMP, "mark")])
        table.commit()
    except BaseException:
        table.close()
        raise
    return table


class Packets:
    """Messages → packets. The messages of one skb come in order; a packet begins at a rule of our own table."""

    def __init__(self, own_table: str) -> None:
        self.own = own_table
        self._count = 0
        self._now: dict[int, _Current] = {}
        self.marked: set[tuple[str, str, int | None]] = set()  # Headers.identity of packets that our own rule met

    def hits(self, messages: Iterable[TraceMessage], book: RuleBook | None) -> list[Hit]:
        found, now = [], time.monotonic_ns()
        for message in messages:
            current = self._current(message)
            if message.table == self.own or OBSERVER.fullmatch(message.table):
                continue
            hook, priority = current.base(message, book)
            step = step_of(message, hook, book)
            if step is not None:
                found.append(Hit(current.packet, now, hook, priority, step, current.headers, message))
        return found

    def _current(self, message: TraceMessage) -> _Current:
        current = self._now.get(message.id)
        seen = headers(message)
        begins = message.table == self.own and message.type == RULE and seen is not None
        if current is None or (begins and current.begins_anew(message, seen)):
            self._count += 1
            if len(self._now) > 4096:  # ids of packets that ended long ago
                for old in list(self._now)[:2048]:
                    del self._now[old]
            self._now.pop(message.id, None)
            current = self._now[message.id] = _Current(self._count)
        if seen is not None:
            current.headers = seen
        if message.table == self.own:
            current.places.add(message.chain)
            if current.headers is not None and len(self.marked) < MOST_MARKED:
                self.marked.add(current.headers.identity)
        return current


class _Current:
    """The packet that a trace id stands for now."""

    def __init__(self, packet: int) -> None:
        self.packet = packet
        self.headers: Headers | None = None
        self.places: set[str] = set()  # chains of our own table it has met
        self.chain: NftChain | None = None

    def begins_anew(self, message: TraceMessage, seen: Headers | None) -> bool:
        """Whether our own rule was met by another packet with the same id."""
        if self.headers is None or seen is None:
            return True
        if message.chain in self.places:
            return True
        return seen.ip_id != self.headers.ip_id or seen.length != self.headers.length

    def base(self, message: TraceMessage, book: RuleBook | None) -> tuple[int | None, int | None]:
        """Hook and priority of the base chain the packet is in; a message of a user chain belongs to the last one."""
        if book is not None:
            chain = book.chain(message.family, message.table, message.chain)
            if chain is not None:
                self.chain = chain
            if self.chain is not None and (self.chain.family, self.chain.table) == (message.family, message.table):
                return self.chain.hook, self.chain.priority
        return None, None


def step_of(message: TraceMessage, hook: int | None, book: RuleBook | None) -> Step | None:
    """A message as a Step. None for what says nothing: a policy or end of chain that lets the packet on."""
    if message.type == POLICY and message.policy == 1:
        return None
    if message.type != POLICY and not message.handle:
        return None  # the end of a chain without a rule
    if message.type == POLICY:
        rule = book.by_number("iptables", message.family, message.table, message.chain, 0) if book else None
        if rule is not None:
            return rule.step(hook, "DROP")
        return _bare(message, hook, "policy DROP", "DROP")
    word = verdict_word(message.verdict)
    known = None
    if book is not None:
        known = book.by_handle(message.family, message.table, message.chain, message.handle or 0)
    if known is None:
        return _bare(message, hook, None, word, "a rule that was added after the rules were listed")
    return known.step(hook, word)


def verdict_word(code: int | None) -> str | None:
    """ACCEPT, DROP … of a kernel verdict; a queue's number stands in its upper half (NF_QUEUE_NR)."""
    if code is None:
        return None
    code = code & NF_VERDICT_MASK if code >= 0 else code
    return VERDICTS.get(code, str(code))


def _bare(
    message: TraceMessage, hook: int | None, words: str | None, word: str | None, note: str | None = None
) -> Step:
    return Step(
        None if hook is None else HOOK_NAME[hook], "nft", table=message.table, family=message.family,
        chain=message.chain, handle=message.handle, text=words, matched=True, verdict=word, note=note, backend="nft",
    )  # fmt: skip
