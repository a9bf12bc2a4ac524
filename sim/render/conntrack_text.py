"""Conntrack entries as ``conntrack -L -o extended`` prints them (libnetfilter_conntrack, snprintf_default.c)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..engine.conntrack import ICMP_PROTOCOLS, proto_state_name
from ..model.addr import AF_INET, format_addr
from ..model.conntrack import IPS_ASSURED, IPS_SEEN_REPLY, ORIGINAL, REPLY, Conn, Tuple
from ..model.drawn import Drawn
from ..model.packet import PROTO_NAME, WITH_PORTS
from ..model.state import WorldState


def table_text(conns: Iterable[Conn], state: WorldState) -> str:
    """One line for each entry."""
    return "".join(entry_line(conn, state) + "\n" for conn in conns)


def entry_line(conn: Conn, state: WorldState) -> str:
    """One entry; a port that the kernel drew shows as its candidates (``1024-65535``)."""
    orig = conn.tuples[ORIGINAL]
    family = ("ipv4", 2) if orig.family == AF_INET else ("ipv6", 10)
    name = PROTO_NAME.get(orig.proto, "unknown")
    left = 0 if conn.timeout_at is None else max(0, int(conn.timeout_at - state.now))
    words = [f"{family[0]:<8} {family[1]} {name:<8} {orig.proto} {left}"]
    proto_state = proto_state_name(conn) if orig.proto != 17 else None
    if proto_state:
        words.append(proto_state)
    zones = conn.zones
    same = zones[0] == zones[1]
    words += _tuple(orig, state, True)
    words += [f"zone-orig={zones[0]}"] if not same and zones[0] else []
    words += _counters(conn, ORIGINAL)
    if not conn.status & IPS_SEEN_REPLY:
        words.append("[UNREPLIED]")
    words += _tuple(conn.tuples[REPLY], state, False)
    words += [f"zone-reply={zones[1]}"] if not same and zones[1] else []
    words += _counters(conn, REPLY)
    if conn.status & IPS_ASSURED:
        words.append("[ASSURED]")
    words.append(f"mark={conn.mark}")
    if same and zones[0]:
        words.append(f"zone={zones[0]}")
    if conn.helper:
        words.append(f"helper={conn.helper}")
    return " ".join([*words, "use=1"])


def _tuple(t: Tuple, state: WorldState, original: bool) -> list[str]:
    words = [f"src={format_addr(t.family, t.src)}", f"dst={format_addr(t.family, t.dst)}"]
    if t.proto in ICMP_PROTOCOLS:
        number = int(t.dport)  # type: ignore[arg-type]
        return [*words, f"type={number >> 8}", f"code={number & 255}", f"id={_number(t.sport, state)}"]
    if t.proto in WITH_PORTS:
        return [*words, f"sport={_number(t.sport, state)}", f"dport={_number(t.dport, state)}"]
    if t.proto == 47:
        return [*words, f"srckey=0x{_number(t.sport, state)}", f"dstkey=0x{_number(t.dport, state)}"]
    return words


def _number(value: Any, state: WorldState) -> str:
    known = state.known(value)
    if isinstance(known, Drawn):
        return ",".join(f"{low}-{high}" for low, high in state.domains[known.draw_id].ranges)
    return str(known)


def _counters(conn: Conn, direction: int) -> list[str]:
    if conn.acct is None:
        return []
    packets, octets = conn.acct[direction]
    return [f"packets={packets}", f"bytes={octets}"]
