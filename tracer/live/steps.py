"""From single events to the simulator's own steps: headers, changes, conntrack, routes, neighbours, drops.

A header is what ``sim.model.packet.Skb.header()`` writes, less what the record does not hold (tos, window). Functions
here look at one or two events; which belong together is decided in story.py.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING, Any

from ...sim.model.packet import IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, PROTO_NAME, WITH_PORTS, flags_to_text
from ...sim.model.result import Step
from .event import AF_INET6, CTINFO, HOOKS, REPLY_CTINFO, STATUS, address

if TYPE_CHECKING:
    from .plan import Chain
    from .scene import Scene

TABLES = {0: "unspec", 253: "default", 254: "main", 255: "local"}  # enum rt_class_t
NUD = {0x01: "INCOMPLETE", 0x02: "REACHABLE", 0x04: "STALE", 0x08: "DELAY", 0x10: "PROBE", 0x20: "FAILED", 0x40: "NOARP",
       0x80: "PERMANENT"}  # fmt: skip
EAGAIN = 11  # fib_rules: this table has no route, ask the next one
FIB_ERRORS = {
    0: "",
    1: "unreachable",
    13: "prohibit",
    22: "blackhole",
    101: "no route",
    113: "unreachable",
    11: "no match",
}
COMPARED = ("src", "dst", "sport", "dport", "icmp_id", "mark", "ttl")
IPTABLES = frozenset(("raw", "mangle", "nat", "filter", "security"))
SOURCE_NAT_HOOKS = (1, 4)  # INPUT and POSTROUTING
STATES_SHOWN = ("EXPECTED", "SEEN_REPLY", "ASSURED", "CONFIRMED", "SRC_NAT", "DST_NAT", "SEQ_ADJUST", "SRC_NAT_DONE",
                "DST_NAT_DONE", "DYING", "FIXED_TIMEOUT", "HELPER", "OFFLOAD")  # fmt: skip


def header(event: Any) -> dict[str, Any]:
    """The packet's headers as they were at this event."""
    row, proto = event["t"], int(event["t"]["proto"])
    out: dict[str, Any] = {
        "proto": PROTO_NAME.get(proto, str(proto)),
        "src": address(row, "s"),
        "dst": address(row, "d"),
    }
    later = bool(event["frag"] & 0x1FFF)
    if proto in WITH_PORTS and not later:
        out["sport"], out["dport"] = int(row["sport"]), int(row["dport"])
    if proto == IPPROTO_TCP and not later:
        seq, ack = struct.unpack(">II", bytes(event["pay"]))
        out |= {"flags": flags_to_text(int(event["tcp_flags"])), "tcp_seq": seq, "tcp_ack": ack}
    if proto in (IPPROTO_ICMP, IPPROTO_ICMPV6) and not later:
        kind, code = divmod(int(row["dport"]), 256)
        out |= {"type": kind, "code": code}
        if kind in (0, 8, 128, 129):
            out |= {"icmp_id": int(row["sport"]), "seq": int.from_bytes(bytes(event["pay"][:2]), "big")}
    out |= {
        "ttl": int(event["ttl"]),
        "tos": int(event["table"]) & 0xFF,
        "len": int(event["len"]),
        "mark": int(event["mark"]),
    }
    if row["l3num"] != AF_INET6:
        out |= {"df": bool(event["frag"] & 0x4000), "ip_id": int(event["ipid"])}
    if event["frag"] & 0x3FFF:
        out |= {"fragment": (int(event["frag"]) & 0x1FFF) * 8, "more": bool(event["frag"] & 0x2000)}
    if event["gso"]:
        out["gso"] = int(event["gso"])
    return out


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs between two headers of one packet, as the simulator writes it."""
    return {k: (before[k], after[k]) for k in COMPARED if k in before and k in after and before[k] != after[k]}


# ------------------------------------------------------------------------------------------- conntrack


def conntrack_text(event: Any, tracked: bool) -> str | None:
    """``NEW zone 0``, ``ESTABLISHED reply zone 1``, ``INVALID``, ``UNTRACKED``; None where nothing is tracked."""
    info = int(event["ctinfo"])
    if not event["ct"]:
        return "UNTRACKED" if info == 7 else "INVALID" if tracked else None
    back = " reply" if info in REPLY_CTINFO else ""
    return f"{CTINFO.get(info, str(info))}{back} zone {int(event['zone'])}"


def tuple_json(row: Any) -> dict[str, Any]:
    """One direction of an entry."""
    proto = int(row["proto"])
    out = {"proto": PROTO_NAME.get(proto, str(proto)), "src": address(row, "s"), "dst": address(row, "d")}
    if proto in WITH_PORTS:
        return out | {"sport": int(row["sport"]), "dport": int(row["dport"])}
    return out | {"icmp_id": int(row["sport"])} if proto in (IPPROTO_ICMP, IPPROTO_ICMPV6) else out


def tuple_words(row: Any) -> str:
    """``10.0.0.1:5 → 8.8.8.8:53``, ICMP with its id."""
    t = tuple_json(row)
    ends = [t["src"], t["dst"]]
    if "sport" in t:
        ends = [f"[{a}]:{p}" if ":" in a else f"{a}:{p}" for a, p in zip(ends, (t["sport"], t["dport"]), strict=True)]
    return " → ".join(ends) + (f" id {t['icmp_id']}" if "icmp_id" in t else "")


def entry_json(event: Any) -> dict[str, Any] | None:
    """The conntrack entry as a hop holds it."""
    if not event["ct"]:
        return None
    status = STATUS(int(event["status"]))
    out = {
        "state": CTINFO.get(int(event["ctinfo"]), "?"),
        "zone": int(event["zone"]),
        "orig": tuple_json(event["o"]),
        "reply": tuple_json(event["r"]),
        "status": [name for name in STATES_SHOWN if STATUS[name] in status],
        "mark": int(event["ctmark"]),
    }
    return out | {"reply_direction": int(event["ctinfo"]) in REPLY_CTINFO}


def confirm_step(event: Any, hook: int) -> Step:
    """The entry entered the table."""
    proto = PROTO_NAME.get(int(event["o"]["proto"]), str(event["o"]["proto"]))
    note = f"{proto} {tuple_words(event['o'])} | reply {tuple_words(event['r'])}"
    return Step(HOOKS[hook], "confirm", note=note)


# ---------------------------------------------------------------------------------------------- chains


def chain_step(chain: Chain, before: Any, after: Any, found: dict[str, tuple[Any, Any]], tracked: bool) -> Step | None:
    """What a chain (or conntrack itself) was seen to do between two events; None where there is nothing to tell."""
    hook, family = HOOKS[chain.hook], "ip6" if chain.pf == AF_INET6 else "ip"
    if chain.kind == "kernel":
        text = conntrack_text(after, tracked)
        return None if text is None else Step(hook, "conntrack", family=family, conntrack=text, changes=found)
    native = chain.kind == "nft" and chain.table not in IPTABLES
    note = _nat_note(chain, before, after, found) or "passed"
    if before is not None and before["ct"] and before["ct"] == after["ct"] and before["ctmark"] != after["ctmark"]:
        note += f"; connmark {int(before['ctmark']):#x} → {int(after['ctmark']):#x}"
    backend = {"legacy": "legacy", "nft": "nft" if native else "iptables"}.get(chain.kind)
    return Step(hook, "nft" if native else chain.table, table=chain.table, family=family, chain=chain.name,
                changes=found, note=None if note == "passed" and found else note, backend=backend)  # fmt: skip


def _nat_note(chain: Chain, before: Any, after: Any, found: dict[str, tuple[Any, Any]]) -> str | None:
    """Whether NAT decided here, or did what the entry says: the DONE bits of its status tell."""
    if not after["ct"]:
        return None
    source = chain.hook in SOURCE_NAT_HOOKS
    done = STATUS.SRC_NAT_DONE if source else STATUS.DST_NAT_DONE
    what = "source" if source else "destination"
    was = STATUS(int(before["status"])) if before is not None and before["ct"] == after["ct"] else STATUS(0)
    decided = done in STATUS(int(after["status"]))
    if decided and done not in was:
        return f"{what} NAT of this connection is decided here" + ("" if _natted(found) else ": none")
    if chain.table != "nat" or not decided:
        return None
    if _natted(found):
        return "translated by the entry; rules not consulted: decided when the entry was made"
    return f"not consulted: {what} NAT of this connection was decided when the entry was made"


def _natted(found: dict[str, tuple[Any, Any]]) -> bool:
    return bool(found.keys() & {"src", "dst", "sport", "dport", "icmp_id"})


# ------------------------------------------------------------------------------- routes, neighbours, drops


def table_name(number: int) -> str:
    return TABLES.get(number, str(number))


def fib_error(event: Any) -> int:
    """0, or the error number without its sign."""
    value = int(event["reason"])
    return (1 << 32) - value if value >> 31 else value


def gateway(event: Any) -> str | None:
    """The next hop of a lookup, where the record holds it (of IPv6 only half)."""
    if not event["aux"] or event["t"]["l3num"] == AF_INET6:
        return None
    return str(ipaddress.ip_address(int(event["aux"]).to_bytes(8, "little")[:4]))


def fib_text(event: Any, scene: Scene) -> str:
    """``table main: via 10.0.0.1 dev eth0``, or why there is no route."""
    error, table = fib_error(event), table_name(int(event["table"]))
    if error:
        return f"table {table}: {FIB_ERRORS.get(error, f'error {error}')}"
    dev = scene.device(int(event["netns"]), int(event["outdev"]))
    via = gateway(event)
    return f"table {table}: " + (f"via {via} " if via else "") + (f"dev {dev}" if dev else "a route without device")


def fib_step(event: Any, scene: Scene, stage: str, hook: int | None, note: str | None = None) -> Step:
    """A route lookup; ``table``: the routing table that answered."""
    mark = f"mark {int(event['mark']):#x}" if event["mark"] else None
    said = "; ".join(w for w in (note, mark) if w) or None
    name = None if hook is None else HOOKS[hook]
    family = "ip6" if event["t"]["l3num"] == AF_INET6 else "ip"
    return Step(
        name, stage, table=table_name(int(event["table"])), family=family, text=fib_text(event, scene), note=said
    )


def neigh_step(event: Any, scene: Scene) -> Step:
    """A neighbour entry that changed while the packet needed it."""
    state = NUD.get(int(event["reason"]), str(int(event["reason"])))
    dev = scene.device(int(event["netns"]), int(event["outdev"]))
    text = f"{address(event['t'], 'd')} dev {dev}: {state}"
    return Step(None, "neighbour", text=text, verdict="DROP" if state == "FAILED" else None)


def drop_step(event: Any, scene: Scene, hook: int | None, chain: Chain | None, words: str) -> Step:
    """Where the packet ended: the kernel's reason and function, and the chain where that is known."""
    name = scene.reason(int(event["reason"]))
    place = scene.symbol(int(event["aux"]))
    text = name + (f" at {place}" if place else "")
    hook_name = None if hook is None else HOOKS[hook]
    if chain is None:
        return Step(hook_name, "drop", text=text, verdict="DROP", note=words)
    stage = "nft" if chain.kind == "nft" and chain.table not in IPTABLES else chain.table or "conntrack"
    return Step(hook_name, stage, table=chain.table or None, chain=chain.name, text=text, verdict="DROP", note=words)
