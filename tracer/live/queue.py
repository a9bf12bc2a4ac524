"""Packets by way of user space: nfqueue taps, to observe without BPF, to hold a packet, to step it, to change it.

A rule in a table of this process (nft's queue expression, or the xt NFQUEUE target where the kernel lacks it) sends
the flow's packets to a queue of this process, one queue for each hook and priority asked for. The rule lets packets
pass where nobody listens (bypass), the queue lets them pass when it is full (fail-open); so what a stopped or killed
reader costs is what it held at that moment, at most ``max_len`` packets a tap.

    print(*describe_changes(flow, taps), sep="\\n")
    taps = [TapPoint(FORWARD, -1), TapPoint(POST_ROUTING, 101)]
    with QueueTaps(netns, flow, taps, allow_changes=True) as queue:
        for seen in queue.read(timeout=1.0):            # already on their way
            seen.point, seen.indev, seen.mark, seen.entry, seen.packet.summary()
        queue.loss()                                    # {"queue_passed": …, "queue_dropped": …, "queue_user": …}

    with QueueTaps(netns, flow, taps, hold=True, allow_changes=True) as queue:
        for held in queue.held(timeout=10.0):           # each waits for its verdict
            packet = held.seen.packet
            packet.ttl = 3
            held.change(packet)                         # or held.accept(), held.drop()
"""

from __future__ import annotations

import errno
import os
import random
import re
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ...sim.errors import InputError, MissingFacility, NattraceError
from ...sim.model.rule import HOOK_NAME
from .flow import FlowKey
from .nfnl.listing import rule_counters
from .nfnl.queues import queue_states
from .nfnl.sock import InNetns, Refused, entered, no_privilege
from .nfnl.tables import OwnerTable, counter, expression, match, match_entry
from .nfnl.tracking import tracking_reason
from .nfnl.wire import QUEUE, attribute, be32, error_of, message, messages
from .queue_packet import Seen, TapPoint
from .rules.book import RuleBook
from .rules.nftrace import QUEUES_OF_OTHERS, needs_changes

MAX_LEN = 4  # packets that may wait; what a SIGKILL costs at most
PRE_ROUTING, LOCAL_IN, FORWARD, LOCAL_OUT, POST_ROUTING = range(5)
CONNTRACK_PRIORITY = -200
MSG_PACKET, MSG_CONFIG = 0, 2  # enum nfqnl_msg_types
CFG_PARAMS, CFG_MASK, CFG_FLAGS = 2, 4, 5  # enum nfqnl_attr_config
F_FAIL_OPEN, F_CONNTRACK, F_GSO = 1, 2, 4
COPY_PACKET, LARGEST = 2, 65531
CSUM_NOT_READY, GSO = 1, 2  # NFQA_SKB_INFO
DRAIN = 0.05  # seconds without a packet after the rules are gone


class Held:
    """A packet that waits. Exactly one of ``accept``, ``drop``, ``change`` ends it."""

    def __init__(self, seen: Seen, handle: Any, waiting: set[Held] | None = None) -> None:
        self.seen, self._handle, self.decided = seen, handle, False
        self._waiting = waiting if waiting is not None else set()
        self._waiting.add(self)

    def accept(self, mark: int | None = None) -> None:
        """Let it go on, behind this tap."""
        if mark is not None:
            self._handle.set_mark(mark)
        self._decide(self._handle.accept)

    def drop(self) -> None:
        self._decide(self._handle.drop)

    def change(self, packet: Any, mark: int | None = None) -> bytes:
        """Let it go on as this packet (scapy or bytes), lengths and checksums made right; returns its bytes."""
        from .dissect import rebuilt

        if self.seen.full_length > len(self.seen.data) or self.seen.skb_info & GSO:
            raise InputError("a packet that the network card is to cut up (GSO) can't be changed here")
        data = packet if isinstance(packet, bytes) else rebuilt(packet)
        self._handle.set_payload(data)
        self.accept(mark)
        return data

    def _decide(self, action: Any) -> None:
        if self.decided:
            raise InputError("this packet has its verdict already")
        self.decided = True
        self._waiting.discard(self)
        action()


def describe_changes(flow: FlowKey, points: Sequence[TapPoint], max_len: int = MAX_LEN) -> list[str]:
    """What is changed on the host while the taps are in place, for the user to agree to."""
    where = ", ".join(str(p) for p in points)
    return [
        f"an nf_tables table that belongs to this process and sends the packets of {flow} through it at {where}; the "
        "kernel removes it when the process ends, however it ends",
        "these packets take some 0.1 ms longer for each of the places; whatever is too fast for the tap passes it unseen",
        f"if the process is killed or stopped, at most the {max_len} packets are lost that each of the places holds then",
        QUEUES_OF_OTHERS,
    ]


class QueueTaps:
    """Taps of one flow in one namespace. ``replies``: tuples by which replies are known; where tracking is active
    already, all packets of the flow's entries are found by their entry.
    """

    def __init__(self, netns: InNetns | None, flow: FlowKey, points: Sequence[TapPoint], *,
                 replies: Sequence[FlowKey] = (), max_len: int = MAX_LEN, hold: bool = False,
                 allow_changes: bool = False) -> None:  # fmt: skip
        if not allow_changes:
            changes = describe_changes(flow, points, max_len)
            raise NattraceError("nfqueue taps change this host", remedy=needs_changes(changes))
        self.netns, self.flow, self.replies = netns, flow, replies
        self.tracked = tracking_reason(netns)
        self.queues: list[_Queue] = []
        self.table: OwnerTable | None = None
        self._final: dict[str, int] | None = None
        try:
            taken = numbers_in_use(netns)
            for point in points:
                self.queues.append(_bind(netns, point, max_len, hold, taken))
            self.table = self._rules()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> QueueTaps:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def filenos(self) -> list[int]:
        return [queue.fd for queue in self.queues]

    def read(self, timeout: float = 0.0) -> list[Seen]:
        """Packets that passed since the last call; those that come within ``timeout`` seconds if there are none."""
        self._wait(timeout)
        found: list[Seen] = []
        for queue in self.queues:
            queue.run()
            found += queue.seen
            queue.seen.clear()
        return sorted(found, key=lambda seen: seen.time)

    def held(self, timeout: float = 0.0) -> list[Held]:
        """Packets that wait now (or that come within ``timeout`` seconds); each must get its verdict."""
        self._wait(timeout)
        found: list[Held] = []
        for queue in self.queues:
            queue.run()
            found += queue.held
            queue.held.clear()
        return sorted(found, key=lambda held: held.seen.time)

    def loss(self) -> dict[str, int]:
        """``queue_passed``: packets of the flow that passed a tap unseen (full, or nobody read in time);
        ``queue_dropped``, ``queue_user``: packets the kernel dropped because of the queue."""
        if self._final is not None:
            return self._final
        passed = dropped = user = 0
        states = {state.number: state for state in queue_states(self.netns)}
        for queue in self.queues:
            state = states.get(queue.number)
            waiting = state.waiting if state else 0
            if state is not None:
                dropped, user = dropped + state.dropped, user + state.user_dropped
            passed += max(0, self._matched(queue) - queue.count - waiting)
        return {"queue_passed": max(0, passed - dropped - user), "queue_dropped": dropped, "queue_user": user}

    def close(self) -> None:
        """Rules first, then what waits goes on, then table and queues; :meth:`loss` says the same ever after."""
        if self._final is None and self.table is not None:
            self._final = self.loss()
            with suppress(OSError):  # somebody ended the namespace
                self.end_rules()
        deadline = time.monotonic() + 1.0
        while self.queues:
            for queue in self.queues:
                queue.release()
            if time.monotonic() > deadline or not self._wait(DRAIN):
                break
        if self.table is not None:
            self.table.close()
        for queue in self.queues:
            queue.close()
        self.queues.clear()

    def end_rules(self) -> None:
        """No packet comes any more; what waits still waits."""
        if self.table is not None:
            self._final = self._final or self.loss()
            self.table.flush()

    def _wait(self, timeout: float) -> bool:
        return bool(select.select(self.filenos(), [], [], timeout)[0])

    def _matched(self, queue: _Queue) -> int:
        assert self.table is not None
        return sum(n for n, _ in rule_counters(self.table.socket, self.table.family, self.table.name, queue.chain))

    def _rules(self) -> OwnerTable:
        """nft's own queue expression if the kernel has it, else the xt target through nft_compat."""
        error: OSError | None = None
        for target in (queue_expression, xt_expression):
            table = OwnerTable(self.netns, self.flow.family, "nattrace-queue")
            try:
                for queue in self.queues:
                    self._rules_of(table, queue, target(queue.number))
                table.commit()
                return table
            except Refused as refused:
                table.close()
                error = refused
                if refused.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
                    raise
            except BaseException:
                table.close()
                raise
        raise MissingFacility(
            f"this kernel can send packets to no queue from nf_tables ({error})",
            remedy="a kernel with CONFIG_NFT_QUEUE, or CONFIG_NETFILTER_XT_TARGET_NFQUEUE and CONFIG_NFT_COMPAT",
        )

    def _rules_of(self, table: OwnerTable, queue: _Queue, target: dict[str, Any]) -> None:
        hook, priority = queue.point
        table.add_chain(queue.chain, hook, priority)
        for key in (self.flow, *self.replies):
            if key.iif is not None and hook in (LOCAL_OUT, POST_ROUTING):
                if hook == LOCAL_OUT:
                    continue
                key = key._replace(iif=None)
            table.add_rule(queue.chain, [*match(key), counter(), target])
        first = hook in (PRE_ROUTING, LOCAL_OUT)
        if self.tracked is not None and (not first or priority > CONNTRACK_PRIORITY):
            table.add_rule(queue.chain, [*match_entry(self.flow), counter(), target])


def queue_expression(number_: int) -> dict[str, Any]:
    """``queue num N bypass`` of nft."""
    return expression("queue", NUM=number_, TOTAL=1, FLAGS=1)  # NFT_QUEUE_FLAG_BYPASS


def xt_expression(number_: int) -> dict[str, Any]:
    """``-j NFQUEUE --queue-num N --queue-bypass`` of iptables."""
    return expression("target", NAME="NFQUEUE", REV=3, INFO=struct.pack("=HHHxx", number_, 1, 1))  # xt_NFQ_info_v3


class _Queue:
    """One queue: NetfilterQueue's for verdicts, its messages read by us for what it doesn't show (conntrack)."""

    def __init__(self, netns: InNetns | None, point: TapPoint, queue: int, max_len: int, hold: bool) -> None:
        from netfilterqueue import NetfilterQueue

        self.point, self.number, self.hold = point, queue, hold
        self.chain = f"tap-{HOOK_NAME[point.hook].lower()}-{point.priority & 0xFFFFFFFF:x}"
        self.seen: deque[Seen] = deque(maxlen=65536)
        self.held: deque[Held] = deque()  # not handed out yet
        self.waiting: set[Held] = set()  # without a verdict, handed out or not
        self.count = 0
        self.with_conntrack = False
        self._now: Seen | None = None
        try:
            with entered(netns):
                self.queue: Any = NetfilterQueue()  # its run_socket() takes whatever has a recv()
            self.queue.bind(queue, self._packet, max_len=max_len)
        except OSError as error:
            if not os.path.exists("/proc/self/net/netfilter/nfnetlink_queue"):
                raise MissingFacility(
                    "this kernel has no nfnetlink_queue", remedy="a kernel with CONFIG_NETFILTER_NETLINK_QUEUE"
                ) from None
            raise no_privilege(error, "binding a queue") from None
        self.fd = self.queue.get_fd()
        self.socket = socket.socket(fileno=os.dup(self.fd))
        self.socket.setblocking(False)
        self._configure()

    def _configure(self) -> None:
        """What NetfilterQueue has no option for: fail-open, whole packets, conntrack. Raises MissingFacility."""
        params = struct.pack(">IB", LARGEST, COPY_PACKET)
        wanted = [
            attribute(CFG_MASK, be32(flag)) + attribute(CFG_FLAGS, be32(flag))
            for flag in (F_FAIL_OPEN, F_GSO, F_CONNTRACK)
        ]
        for position, body in enumerate([wanted[0], attribute(CFG_PARAMS, params), *wanted[1:]]):
            code = self._ask(body)
            self.with_conntrack = not code  # the last one asked for
            if code and not position:
                self.close()
                raise MissingFacility(
                    "queues of this kernel have no fail-open: a stopped reader would stop the flow",
                    remedy="a kernel from 3.6 on",
                )

    def _ask(self, body: bytes) -> int:
        self.socket.send(message(QUEUE << 8 | MSG_CONFIG, 0x1 | 0x4, 1, 0, self.number, body))
        if not select.select([self.socket], [], [], 5.0)[0]:
            return errno.ETIMEDOUT
        return next((error_of(m.body) for m in messages(self.socket.recv(65536)) if m.type == 2), 0)

    def run(self) -> None:
        """Handle what has come; NetfilterQueue reads through :meth:`recv`."""
        with suppress(BlockingIOError):
            self.queue.run_socket(self)

    def recv(self, _: int) -> bytes:
        """One message: looked at, then given to NetfilterQueue, which calls :meth:`_packet`."""
        data = self.socket.recv(1 << 17)
        for found in messages(data):
            if found.type == QUEUE << 8 | MSG_PACKET:
                self._now = Seen(self.point, found.body, time.monotonic_ns())
        return data

    def _packet(self, handle: Any) -> None:
        self.count += 1
        seen, self._now = self._now, None
        if seen is None:
            handle.accept()
        elif self.hold:
            handle.retain()
            self.held.append(Held(seen, handle, self.waiting))
        else:
            handle.accept()
            self.seen.append(seen)

    def release(self) -> None:
        """Let everything go on that is held, and what comes from now on."""
        self.hold = False
        self.run()
        self.held.clear()
        for held in sorted(self.waiting, key=lambda held: held.seen.id):
            held.accept()

    def close(self) -> None:
        if hasattr(self, "socket"):
            self.socket.close()
        self.queue.unbind()


_XT_QUEUE = re.compile(r"--queue-(?:num|balance) (\d+)(?::(\d+))?")
_NFT_QUEUE = re.compile(r"\bqueue (?:flags \S+ )?(?:num|to) (\d+)(?:-(\d+))?")


def numbers_in_use(netns: InNetns | None = None) -> set[int]:
    """Queue numbers that somebody has bound, or that a rule sends packets to (nobody may listen yet)."""
    found = {state.number for state in queue_states(netns)}
    for rule in RuleBook.read(netns).rules.values():
        for pattern in (_XT_QUEUE, _NFT_QUEUE):
            for first, last in pattern.findall(rule.text):
                found |= set(range(int(first), int(last or first) + 1))
    return found


def _bind(netns: InNetns | None, point: TapPoint, max_len: int, hold: bool, taken: set[int]) -> _Queue:
    """A queue with a number that is free; another process may take one between looking and binding."""
    error: OSError | None = None
    for _ in range(16):
        free = [n for n in range(1024, 65536) if n not in taken]
        if not free:
            break
        queue = random.choice(free)
        taken.add(queue)
        try:
            return _Queue(netns, point, queue, max_len, hold)
        except OSError as failed:
            error = failed
    raise MissingFacility(
        f"no queue can be bound ({error})", remedy="cat /proc/net/netfilter/nfnetlink_queue shows who holds them"
    )
