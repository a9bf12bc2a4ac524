"""Trials over netfilter's netlink, in a namespace of their own: tables, traces, queues, logs, conntrack events."""

from __future__ import annotations

import errno
import struct
import time
from typing import Any

from ..live.ctevents import ConntrackEvent, ConntrackEvents
from ..live.flow import FlowKey
from ..live.nfnl.listing import base_chains
from ..live.nfnl.sock import Refused
from ..live.nfnl.tables import OwnerTable, equal, expression, load_ct, verdict
from ..live.queue import QueueTaps, TapPoint, queue_expression, xt_expression
from ..live.rules.nflog import LegacyTrace
from ..live.rules.nftrace import RuleTrace
from .finding import NO, YES
from .trial import Outcome, send_datagram

FLOW = FlowKey.parse("udp", "127.0.0.1", "127.0.0.1")
LOCAL_OUT = 3
PATIENCE = 2.0


def owner_table() -> Outcome:
    with OwnerTable(None, 2, "nattrace-test") as table:
        table.add_chain("c", LOCAL_OUT, 0)
        table.commit()
        made = bool(base_chains())
    return (YES, "made, and gone with its socket") if made and not base_chains() else (NO, "it stays")


def nftrace() -> Outcome:
    with RuleTrace(None, FLOW, allow_changes=True) as trace:
        send_datagram()
        messages = trace.messages() if trace.events.wait(PATIENCE) else []
    if not messages:
        return NO, "a marked packet was not reported"
    return YES, f"{len(messages)} messages about one packet"


def nflog() -> Outcome:
    with LegacyTrace(None, FLOW, allow_changes=True) as trace, OwnerTable(None, 2, "nattrace-test") as table:
        table.add_chain("c", LOCAL_OUT, 0)
        table.add_rule("c", [expression("log", GROUP=0, PREFIX="nattrace ")])
        table.commit()
        send_datagram()
        lines = trace.lines() if trace.events.wait(PATIENCE) else []
    return (YES, "a line came through; it can be the namespace's logger") if lines else (NO, "no line came through")


def nft_queue() -> Outcome:
    return _rule(queue_expression(1))


def xt_nfqueue() -> Outcome:
    return _rule(xt_expression(1))


def _rule(target: dict[str, Any]) -> Outcome:
    with OwnerTable(None, 2, "nattrace-test") as table:
        table.add_chain("c", LOCAL_OUT, 0)
        table.add_rule("c", [target])
        try:
            table.commit()
        except Refused as error:
            if error.errno == errno.ENOENT:
                return NO, "not in this kernel"
            raise
    return YES, "a rule with it is accepted"


def queue() -> Outcome:
    with QueueTaps(None, FLOW, [TapPoint(LOCAL_OUT, 0)], allow_changes=True) as taps:
        send_datagram()
        seen = taps.read(PATIENCE)
    return (YES, "a packet came through; fail-open is set") if seen else (NO, "no packet came through")


def queue_conntrack() -> Outcome:
    with QueueTaps(None, FLOW, [TapPoint(LOCAL_OUT, 0)], allow_changes=True) as taps:
        if taps.queues[0].with_conntrack:
            return YES, "the queue takes the flag"
    return NO, "the queue refuses the flag"


def conntrack_events() -> Outcome:
    """In a namespace without tracking: our own rule switches it on there."""
    with ConntrackEvents() as events, OwnerTable(None, 2, "nattrace-test") as table:
        table.add_chain("c", LOCAL_OUT, 0)
        table.add_rule("c", [load_ct(0), equal(struct.pack("=I", 8)), verdict(1)])  # ct state new
        table.commit()
        send_datagram()
        deadline = time.monotonic() + PATIENCE
        found: list[ConntrackEvent] = []
        while not found and time.monotonic() < deadline:
            found = events.read(0.2)
    return (YES, f"a {found[0].kind} entry was told") if found else (NO, "a new entry was not told")
