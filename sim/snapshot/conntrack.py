"""``conntrack.txt``: ``conntrack -L`` (plain or ``-o extended,id``) and /proc/net/nf_conntrack, read and written.

    ipv4     2 tcp      6 431999 ESTABLISHED src=… dst=… sport=… dport=… [packets= bytes=] src=… … [ASSURED] mark=0 use=1

Entries say nothing of NAT: it is inferred from the two tuples. Lines ``# host NAME`` (``--conntrack-out``) say whose
entries follow.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..model.addr import AF_INET, AF_INET6, format_addr, parse_addr
from ..model.conntrack import (
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_DST_NAT,
    IPS_DST_NAT_DONE,
    IPS_HELPER,
    IPS_SEEN_REPLY,
    IPS_SRC_NAT,
    IPS_SRC_NAT_DONE,
    Conn,
    Tuple,
)  # fmt: skip
from ..model.drawn import Drawn, Number
from ..model.where import Where
from .problems import Problems, excerpt
from .words import unsigned

ICMP, TCP, UDP, DCCP, GRE, ICMPV6, SCTP, UDPLITE = 1, 6, 17, 33, 47, 58, 132, 136
NAME = {
    ICMP: "icmp",
    TCP: "tcp",
    UDP: "udp",
    DCCP: "dccp",
    GRE: "gre",
    ICMPV6: "icmpv6",
    SCTP: "sctp",
    UDPLITE: "udplite",
}
PORTS = frozenset((TCP, UDP, DCCP, SCTP, UDPLITE))
WITH_STATE = frozenset((TCP, SCTP, DCCP))
L3 = {"ipv4": AF_INET, "ipv6": AF_INET6}
REMEDY = "it is the output of: conntrack -L -o extended,id"


def read_conntrack(text: str, file: str, problems: Problems) -> dict[str | None, tuple[Conn, ...]]:
    """Entries by host; None: entries before (or without) a ``# host`` line."""
    by_host: dict[str | None, list[Conn]] = {None: []}
    current = by_host[None]
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if line.startswith("# host "):
            current = by_host.setdefault(line[7:].strip(), [])
        if not line or line.startswith(("#", "conntrack v")):
            continue
        try:
            current.append(_entry(line, Where(file, number), len(current) + 1))
        except (ValueError, OSError) as error:
            problems.error(f"{error}: {excerpt(line)}", file, number, REMEDY)
    return {host: tuple(conns) for host, conns in by_host.items()}


def _entry(line: str, where: Where, position: int) -> Conn:
    words = line.split()
    family = L3.get(words[0])
    head = words[2:] if family is not None else words
    if len(head) < 3:
        raise ValueError("too short for a conntrack entry")
    proto = unsigned(head[1], "protocol", 255)
    if head[0] not in ("unknown", NAME.get(proto)) and not head[0].isalnum():
        raise ValueError(f"unknown protocol {excerpt(head[0])}")
    timeout = unsigned(head[2], "timeout", 1 << 40) if head[2].isdigit() else None
    sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
    flags: set[str] = set()
    state: str | None = None
    tail: dict[str, str] = {}
    # Only ICMP tuples have an id; what follows them, and every other id, is the entry's own.
    tail_only: dict[str, str] = {} if proto in (ICMP, ICMPV6) else {"id": ""}
    side = -1
    for word in head[2 if timeout is None else 3 :]:
        key, equals, value = word.partition("=")
        if word[0] == "[":
            flags.add(word.strip("[]"))
        elif not equals:
            if state is None and side < 0:
                state = word
        elif key == "src":
            side += 1
            if side > 1:
                raise ValueError("more than two tuples")
            sides[side]["src"] = value
        elif key in _TUPLE_KEYS and side >= 0 and not (key == "id" and "id" in sides[side] | tail_only):
            sides[side][key] = value
        else:
            tail[key] = value
    if side != 1:
        raise ValueError("expected two tuples of src= dst=")
    return _conn(family, proto, timeout, state, sides, flags, tail, where, position)


_TUPLE_KEYS = frozenset((
    "dst", "sport", "dport", "type", "code", "id", "srckey", "dstkey", "packets", "bytes", "zone-orig", "zone-reply",
))  # fmt: skip


def _conn(
    family: int | None, proto: int, timeout: int | None, state: str | None, sides: tuple[dict[str, str], dict[str, str]],
    flags: set[str], tail: dict[str, str], where: Where, position: int,
) -> Conn:  # fmt: skip
    conn_id = position
    orig, reply = _tuple(proto, sides[0], family), _tuple(proto, sides[1], family)
    if orig.family != reply.family:
        raise ValueError("the two tuples are of different address families")
    zone = unsigned(tail.get("zone", "0"), "zone", 0xFFFF)
    zones = (
        unsigned(sides[0].get("zone-orig", tail.get("zone-orig", zone)), "zone-orig", 0xFFFF),
        unsigned(sides[1].get("zone-reply", tail.get("zone-reply", zone)), "zone-reply", 0xFFFF),
    )
    status = IPS_CONFIRMED | IPS_SRC_NAT_DONE | IPS_DST_NAT_DONE | nat_bits(orig, reply)
    if "UNREPLIED" not in flags:
        status |= IPS_SEEN_REPLY
    if "ASSURED" in flags:
        status |= IPS_ASSURED
    helper = tail.get("helper")
    if helper:
        status |= IPS_HELPER
    if tail.get("id", "").isdigit():
        conn_id = unsigned(tail["id"], "id")
    age = tail.get("delta-time", "")
    return Conn(
        conn_id=conn_id,
        tuples=(orig, reply),
        zones=zones,
        status=status,
        timeout_at=float(timeout) if timeout is not None else float(NO_TIMEOUT),
        mark=unsigned(tail.get("mark", "0"), "mark", 0xFFFFFFFF),
        labels=_labels(tail.get("labels")),
        helper=helper,
        proto_state=(NAME[proto], state) if proto in WITH_STATE and state else None,
        acct=_counters(sides),
        created_at=-float(unsigned(age, "delta-time", 1 << 40)) if age else 0.0,
        where=where,
    )


NO_TIMEOUT = 5 * 86400  # an entry that a flow table has taken over shows [OFFLOAD] in place of the seconds


def _labels(text: str | None) -> int:
    return unsigned(text, "labels", (1 << 128) - 1) if text and text[:2] == "0x" and len(text) <= 34 else 0


def _counters(sides: tuple[dict[str, str], dict[str, str]]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    if not all("packets" in side and "bytes" in side for side in sides):
        return None
    one, two = ((unsigned(side["packets"], "packets"), unsigned(side["bytes"], "bytes")) for side in sides)
    return one, two


_addr = lru_cache(1 << 12)(parse_addr)  # a large table names few addresses, each often


def _tuple(proto: int, side: dict[str, str], wanted: int | None) -> Tuple:
    family, src = _addr(side["src"])
    if "dst" not in side:
        raise ValueError("a tuple lacks dst=")
    other, dst = _addr(side["dst"])
    if family != other or (wanted is not None and wanted != family):
        raise ValueError("addresses of different families")
    sport: int = 0
    dport: int = 0
    if proto in (ICMP, ICMPV6):
        sport = unsigned(side.get("id", "0"), "id", 0xFFFF)
        dport = unsigned(side.get("type", "0"), "type", 255) << 8 | unsigned(side.get("code", "0"), "code", 255)
    elif proto == GRE:
        sport = unsigned(side.get("srckey", "0"), "srckey", 0xFFFF)
        dport = unsigned(side.get("dstkey", "0"), "dstkey", 0xFFFF)
    elif "sport" in side:
        sport = unsigned(side["sport"], "sport", 0xFFFF)
        dport = unsigned(side.get("dport", "0"), "dport", 0xFFFF)
    return Tuple(family, proto, src, dst, sport, dport)


def nat_bits(orig: Tuple, reply: Tuple) -> int:
    """IPS_SRC_NAT and IPS_DST_NAT as the tuples show them: the reply is not the original turned round."""
    bits = 0
    if orig.proto in (ICMP, ICMPV6):
        source, dest = orig.src != reply.dst, orig.dst != reply.src
        if orig.sport != reply.sport and not dest:
            source = True  # the id belongs to the source manipulation, unless only the destination was changed
    else:
        source = (orig.src, orig.sport) != (reply.dst, reply.dport)
        dest = (orig.dst, orig.dport) != (reply.src, reply.sport)
    if source:
        bits |= IPS_SRC_NAT
    if dest:
        bits |= IPS_DST_NAT
    return bits


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────


def format_conntrack(conn: Conn, now: float = 0.0) -> str:
    """The line that ``conntrack -L -o extended`` prints; a drawn value, which no one knows, is ``*``."""
    orig, reply = conn.tuples
    proto = orig.proto
    left = max(0, int((conn.timeout_at if conn.timeout_at is not None else now) - now))
    l3 = "ipv4     2" if orig.family == AF_INET else "ipv6     10"
    words = [f"{l3} {NAME.get(proto, 'unknown'):<8} {proto} {left}"]
    state = state_name(conn.proto_state)
    if proto in WITH_STATE and state:
        words.append(state)
    same = conn.zones[0] == conn.zones[1]
    words += _tuple_words(orig)
    if not same and conn.zones[0]:
        words.append(f"zone-orig={conn.zones[0]}")
    words += _counter_words(conn, 0)
    if not conn.status & IPS_SEEN_REPLY:
        words.append("[UNREPLIED]")
    words += _tuple_words(reply)
    if not same and conn.zones[1]:
        words.append(f"zone-reply={conn.zones[1]}")
    words += _counter_words(conn, 1)
    if conn.status & IPS_ASSURED:
        words.append("[ASSURED]")
    words.append(f"mark={conn.mark}")
    if same and conn.zones[0]:
        words.append(f"zone={conn.zones[0]}")
    if conn.helper:
        words.append(f"helper={conn.helper}")
    words.append("use=1")
    return " ".join(words)


def state_name(state: Any) -> str | None:
    """The state's name from what a tracker keeps: an object with ``name``, or what this reader made."""
    if isinstance(state, tuple) and not hasattr(state, "name"):
        return str(state[1]) if len(state) > 1 else None
    name = getattr(state, "name", state)
    return name if isinstance(name, str) else None


def _number(value: Number) -> str:
    return "*" if isinstance(value, Drawn) else str(value)


def _tuple_words(side: Tuple) -> list[str]:
    words = [f"src={format_addr(side.family, side.src)}", f"dst={format_addr(side.family, side.dst)}"]
    if side.proto in (ICMP, ICMPV6):
        kind = 0 if isinstance(side.dport, Drawn) else side.dport
        words += [f"type={kind >> 8}", f"code={kind & 255}", f"id={_number(side.sport)}"]
    elif side.proto == GRE:
        words += [f"{key}=*" if isinstance(v, Drawn) else f"{key}={v:#x}"
                  for key, v in (("srckey", side.sport), ("dstkey", side.dport))]  # fmt: skip
    elif side.proto in PORTS:
        words += [f"sport={_number(side.sport)}", f"dport={_number(side.dport)}"]
    return words


def _counter_words(conn: Conn, direction: int) -> list[str]:
    if conn.acct is None:
        return []
    packets, octets = conn.acct[direction]
    return [f"packets={packets}", f"bytes={octets}"]
