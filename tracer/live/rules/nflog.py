"""Which iptables-legacy rule matched: TRACE lines of marked packets by NFLOG (net/ipv4/netfilter/ip_tables.c trace_packet()).

ip_tables writes a line for every rule that a packet with ``skb->nf_trace`` meets, to whichever logger the namespace
has; with nfnetlink_log as logger they come to group 0 of NFLOG, packet and conntrack entry included. The mark is set
by the table of nftrace.py, the sysctl is put back by a child that survives us (guard.py).

    with LegacyTrace(netns, flow, book=book, allow_changes=True) as trace:
        ...
        for hit in trace.read():
            hit.hook, hit.step                     # as nftrace's
        trace.loss()                               # {"nflog": lines lost, "nftrace_skipped": packets not marked}

Lines that the kernel logs without naming a logger (TRACE rules, nf_conntrack_log_invalid) come here meanwhile, LOG
rules keep theirs (nf_log_packet()).
"""

from __future__ import annotations

import errno
import re
import struct
import time
from collections.abc import Sequence
from typing import NamedTuple

from ....sim.errors import MissingFacility, NattraceError
from ....sim.model.result import Step
from ....sim.model.rule import HOOK_NAME
from ..flow import AF_INET, FlowKey
from ..nfnl.listing import rule_counters
from ..nfnl.sock import InNetns, Nfnl, Refused, no_privilege
from ..nfnl.tracking import tracking_reason
from ..nfnl.wire import LOG, Message, attribute, attributes, be16, be32, number, text
from .book import KnownRule, RuleBook
from .guard import Guard
from .nftrace import BUFFER, MOST_MARKED, QUEUES_OF_OTHERS, RATE, Headers, mark_table, needs_changes, packet_headers

LOGGER = "nfnetlink_log"
GROUP = 0
MSG_PACKET, MSG_CONFIG = 0, 1  # enum nfulnl_msg_types
CFG_CMD, CFG_MODE, CFG_NLBUFSIZ, CFG_TIMEOUT, CFG_QTHRESH, CFG_FLAGS = 1, 2, 3, 4, 5, 6  # enum nfulnl_attr_config
CMD_BIND, COPY_PACKET, F_SEQ = 1, 2, 1
COPIED = 128  # bytes of each packet: its headers
_TRACE = re.compile(r"TRACE: (\S+?):(.+):(rule|return|policy):(\d+) ?$")


class LogLine(NamedTuple):
    """One NFLOG message. ``prefix``: what the logger wrote before the packet."""

    sequence: int | None
    hook: int
    family: int
    prefix: str
    mark: int
    indev: int | None
    outdev: int | None
    packet: bytes


class LegacyHit(NamedTuple):
    """One rule that one packet met. ``headers``: the packet at that moment."""

    time: int
    hook: int
    step: Step
    headers: Headers | None
    line: LogLine


def decode(message: Message) -> LogLine:
    """The attributes of one packet, enum nfulnl_attr_type."""
    a = attributes(message.body)
    hook = a[1][2] if 1 in a and len(a[1]) > 2 else 0
    return LogLine(
        number(a.get(12)), hook, message.family, text(a.get(10)) or "", number(a.get(2)) or 0, number(a.get(4)),
        number(a.get(5)), a.get(9, b""),
    )  # fmt: skip


def describe_changes(flow: FlowKey) -> list[str]:
    """What is changed on the host while legacy rules are traced, for the user to agree to."""
    number_of = 2 if flow.family == AF_INET else 10
    return [
        f"an nf_tables table that belongs to this process and marks the packets of {flow} for tracing; the kernel "
        "removes it when the process ends, however it ends",
        f"net.netfilter.nf_log.{number_of} = {LOGGER} in this network namespace: lines of TRACE rules and of "
        "nf_conntrack_log_invalid come here instead of to the kernel's log meanwhile (LOG rules are not affected); a "
        "child process puts it back, also when nattrace is killed",
        QUEUES_OF_OTHERS,
    ]


class LegacyTrace:
    """Marks the flow's packets in one namespace and reads which iptables-legacy rules they meet."""

    def __init__(self, netns: InNetns | None, flow: FlowKey, *, book: RuleBook | None = None,
                 replies: Sequence[FlowKey] = (), rate: int = RATE, allow_changes: bool = False) -> None:  # fmt: skip
        if not allow_changes:
            raise NattraceError("tracing rules changes this host", remedy=needs_changes(describe_changes(flow)))
        self.book, self.family = book, "ip" if flow.family == AF_INET else "ip6"
        self.tracked = tracking_reason(netns)
        self._next: int | None = None
        self.missed = 0
        self.marked: set[tuple[str, str, int | None]] = (
            set()
        )  # as RuleTrace.marked: each table tells of its policy at least
        self._final: dict[str, int] | None = None
        self.events = Nfnl(netns, buffer=BUFFER)
        try:
            _bind(self.events, flow.family)
            self.guard = Guard(netns, {f"net.netfilter.nf_log.{flow.family}": LOGGER})
            try:
                self.table = mark_table(netns, flow, replies, rate, self.tracked is not None)
            except BaseException:
                self.guard.close()
                raise
        except BaseException:
            self.events.close()
            raise

    def __enter__(self) -> LegacyTrace:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Also the end of what is counted: :meth:`loss` says the same ever after."""
        if self._final is None:
            self._final = self.loss()
            self.table.close()
            self.guard.close()
            self.events.close()

    def fileno(self) -> int:
        return self.events.fileno()

    def lines(self) -> list[LogLine]:
        """What has come, decoded, other lines of the namespace's logger included; gaps in their numbers are counted."""
        found = [decode(m) for m in self.events.receive() if m.type == LOG << 8 | MSG_PACKET]
        for line in found:
            if line.sequence is not None:
                if self._next is not None and line.sequence > self._next:
                    self.missed += line.sequence - self._next
                self._next = line.sequence + 1
        return found

    def read(self) -> list[LegacyHit]:
        """What has come, as steps."""
        found, now = [], time.monotonic_ns()
        for line in self.lines():
            step = step_of(line, self.family, self.book)
            seen = packet_headers(line.packet)
            if seen is not None and len(self.marked) < MOST_MARKED and line.prefix.startswith("TRACE: "):
                self.marked.add(seen.identity)
            if step is not None:
                found.append(LegacyHit(now, line.hook, step, seen, line))
        return found

    def loss(self) -> dict[str, int]:
        if self._final is not None:
            return self._final
        skipped = sum(n for n, _ in rule_counters(self.table.socket, self.table.family, self.table.name, "mark"))
        return {"nflog": max(self.missed, self.events.lost()), "nftrace_skipped": skipped}


def _bind(sock: Nfnl, family: int) -> None:
    """Group 0 for this socket. Raises MissingFacility when another process has it."""
    kind = LOG << 8 | MSG_CONFIG
    try:
        sock.request(kind, family, attribute(CFG_CMD, bytes([CMD_BIND])), GROUP)
    except Refused as error:
        if error.errno in (errno.EBUSY, errno.EPERM) and _has_privilege(sock):
            raise MissingFacility(
                "another process reads NFLOG group 0 of this namespace (ulogd, or a second nattrace)",
                remedy="stop it, or leave --allow-changes out: counters then tell which rules matched",
            ) from None
        raise no_privilege(error, "reading NFLOG") from None
    mode = struct.pack(">IBB", COPIED, COPY_PACKET, 0)
    sock.request(kind, family, attribute(CFG_MODE, mode), GROUP)
    sock.request(kind, family, attribute(CFG_QTHRESH, be32(1)), GROUP)  # every line at once
    sock.request(kind, family, attribute(CFG_FLAGS, be16(F_SEQ)), GROUP)


def _has_privilege(sock: Nfnl) -> bool:
    """A group that nobody uses can be bound only with CAP_NET_ADMIN; binding it changes nothing and is undone."""
    kind = LOG << 8 | MSG_CONFIG
    for group in (64999, 64998):
        try:
            sock.request(kind, 2, attribute(CFG_CMD, bytes([CMD_BIND])), group)
            sock.request(kind, 2, attribute(CFG_CMD, bytes([2])), group)
            return True
        except Refused as error:
            if error.errno == errno.EPERM:
                return False
    return True


def step_of(line: LogLine, family: str, book: RuleBook | None) -> Step | None:
    """A TRACE line as a Step. None for other lines, for a policy that accepts and for the end of a user chain."""
    found = _TRACE.match(line.prefix)
    if found is None:
        return None
    table, chain, kind, place = found[1], found[2], found[3], int(found[4])
    known = book.by_number("legacy", family, table, chain, 0 if kind == "policy" else place) if book else None
    if kind == "return" and known is None:
        return None
    if kind == "policy":
        if known is None or not known.text.endswith("DROP"):
            return None
        return known.step(line.hook, "DROP")
    if known is None:
        return Step(
            HOOK_NAME[line.hook], table, table=table, family=family, chain=chain, rule=place, matched=True,
            note="a rule that was added after the rules were listed", backend="legacy",
        )  # fmt: skip
    return known.step(line.hook, _verdict(known))


_FINAL = {
    "ACCEPT": "ACCEPT", "DROP": "DROP", "REJECT": "DROP", "RETURN": "RETURN", "NFQUEUE": "QUEUE", "SNAT": "ACCEPT",
    "DNAT": "ACCEPT", "MASQUERADE": "ACCEPT", "REDIRECT": "ACCEPT", "NETMAP": "ACCEPT", "SYNPROXY": "STOLEN",
}  # fmt: skip


def _verdict(rule: KnownRule) -> str | None:
    """A legacy line doesn't carry the verdict; the target's name says it where the target has one only."""
    if rule.jumps:
        return "GOTO" if f"-g {rule.target}" in rule.text else "JUMP"
    return _FINAL.get(rule.target or "")
