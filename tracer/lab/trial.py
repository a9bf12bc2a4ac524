"""A fix tried on the real kernel: the snapshot built in namespaces twice, as it is and with the fix typed in.

In each lab the flow's packet is sent, and its natural answer from where it ended, if the simulator says that one comes.
What was seen is said next to what was predicted; nothing outside the labs' namespaces is touched.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

from .build import Lab, build
from .crowd import crowd, sets_limit
from .io import Seen, Wires
from .netns import ToolFailed
from .topology import Topology

if TYPE_CHECKING:
    from ...sim.explain.fixes import Fix
    from ...sim.explain.trial import Trial
    from ...sim.model.world import World

DEFAULT_SPORT = 40000  # where the flow leaves its source port open
MOST_ENTRIES = 500  # of a host's connection entries are rebuilt
Command = tuple[str, str]  # host, what is typed


def try_fix(topology: Topology, before: Trial, fix: Fix, typed: list[Command]) -> dict[str, Any]:
    """What the kernel did without and with the fix. ``typed``: changes that the question itself assumes, for both.

    Raises MissingFacility without root, ToolFailed where a tool refuses to build the lab.
    """
    notes = list(topology.notes)
    sides = []
    for trial, commands in ((before, typed), (fix.trial, [*typed, *fix.steps()])):
        sides.append(_side(topology, trial, before.world, commands, notes))
    agrees = all([side.pop("agrees") for side in sides])
    return {"before": sides[0], "after": sides[1], "agrees": agrees, "notes": list(dict.fromkeys(notes))}


def _side(topology: Topology, trial: Trial, before: World, commands: list[Command], notes: list[str]) -> dict[str, Any]:
    silent = {
        _text(n) for h in trial.world.hosts.values() for n in h.neighbours if n.state == "FAILED" and n.family == 2
    }
    with build(topology, f"why{os.getpid()}") as lab:
        notes += [note for note in lab.notes if note not in notes]
        lab.listen()
        for host in before.hosts.values():
            _rebuild_entries(lab, host.name, host.conns, notes)
            crowd(lab, trial.world.hosts[host.name], len(host.conns), notes)
        for name, command in commands:
            if sets_limit(command):
                continue  # the machine's: crowd() has made the room that it would make
            try:
                lab.run(name, *shlex.split(command), check=not command.startswith("conntrack "))
            except ToolFailed as error:
                notes.append(f"{name}: {command}: {error}")
        with Wires(lab, silent=silent) as wires:
            return _exchange(wires, trial)


def _rebuild_entries(lab: Lab, host: str, conns: tuple[Any, ...], notes: list[str]) -> None:
    """The entries of the snapshot, both translations given, so that the nat table is not asked again (ctnetlink_setup_nat())."""
    failed = 0
    for conn in conns[:MOST_ENTRIES]:
        try:
            lab.run(host, *_insertion(conn))
        except ToolFailed:
            failed += 1
    left_out = failed + max(len(conns) - MOST_ENTRIES, 0)
    if left_out:
        notes.append(f"{host}: {left_out} of {len(conns)} connection entries could not be rebuilt")


def _insertion(conn: Any) -> list[str]:
    """``conntrack -I`` for an entry."""
    from ...sim.model.addr import format_addr
    from ...sim.model.packet import PROTO_NAME, WITH_PORTS
    from ...sim.snapshot.conntrack import state_name

    orig, reply = conn.tuples
    src, dst, back_src, back_dst = (format_addr(t.family, a) for t in conn.tuples for a in (t.src, t.dst))
    words = ["conntrack", "-I", "-p", str(PROTO_NAME.get(orig.proto, orig.proto)), "-s", src, "-d", dst]
    ports = orig.proto in WITH_PORTS
    if ports:
        words += ["--sport", str(orig.sport), "--dport", str(orig.dport)]
    elif orig.proto == 1:
        words += [
            "--icmp-type",
            str(orig.dport >> 8),
            "--icmp-code",
            str(orig.dport & 255),
            "--icmp-id",
            str(orig.sport),
        ]
    words += ["--timeout", str(max(round(conn.timeout_at or 0), 60))]
    words += ["--src-nat", f"{back_dst}:{reply.dport}" if ports else back_dst]
    words += ["--dst-nat", f"{back_src}:{reply.sport}" if ports else back_src]
    status = [name for name in ("ASSURED", "SEEN_REPLY") if name in conn.status_names()]
    words += ["--status", ",".join(status)] if status else []
    words += ["--state", state_name(conn.proto_state) or "ESTABLISHED"] if orig.proto == 6 else []
    if conn.zones[0] == conn.zones[1] != 0:
        words += ["--zone", str(conn.zones[0])]
    else:
        words += ["--orig-zone", str(conn.zones[0])] if conn.zones[0] else []
        words += ["--reply-zone", str(conn.zones[1])] if conn.zones[1] else []
    return words


def _text(neighbour: Any) -> str:
    from ...sim.model.addr import format_addr

    return format_addr(neighbour.family, neighbour.addr)


def _exchange(wires: Wires, trial: Trial) -> dict[str, Any]:
    """Send, see, answer, see."""
    question = trial.question
    record = {"sport": DEFAULT_SPORT, **question.packet, "host": question.host, "in": question.in_dev}
    if record["proto"] not in ("tcp", "udp"):
        del record["sport"]
    result = wires.send({**record, "ip_id": 7} if question.in_dev is not None else record)
    end = _end(wires, trial, result.seen, str(question.packet["dst"]))
    agrees = (end["outcome"] in ("left", "delivered")) == (trial.leaf.outcome in ("left", "delivered"))
    if end["outcome"] in ("left", "delivered"):
        agrees = agrees and _like(end["packet"], trial.leaf.packet) and end["outcome"] == trial.leaf.outcome
    end.pop("packet", None)
    reply = None
    if trial.reply_asked is not None and end["outcome"] in ("left", "delivered"):
        back = _reply(wires, trial, result.seen)
        reply, agrees = back, agrees and (back["outcome"] in ("left", "delivered")) == trial.ok
    works = trial.ok and reply is not None and reply["outcome"] in ("left", "delivered")
    return {"forward": end, "reply": reply, "works": works, "agrees": agrees}


def _like(packet: dict[str, Any], predicted: dict[str, Any]) -> bool:
    """Same ends; ports only where they are known."""
    same = all(packet.get(k) == predicted.get(k) for k in ("proto", "src", "dst"))
    ports = [(packet.get(k), predicted.get(k)) for k in ("sport", "dport")]
    return same and all(a == b for a, b in ports if isinstance(b, int))


def _end(wires: Wires, trial: Trial, seen: list[Seen], dst: str) -> dict[str, Any]:
    """Where the packet itself was seen last: on its way out of the lab, at a host's transport layer, or nowhere."""
    asked = trial.question.packet
    own = [
        s for s in seen if s.packet.get("proto") == asked["proto"] and "inner" not in s.packet and _forward(s, asked)
    ]
    left = [s for s in own if s.direction == "out" and (s.host, s.dev) in wires.lab.edge_ports]
    arrived = [s for s in own if s.direction == "arrived"]
    for outcome, found in (("left", left), ("delivered", arrived)):
        if found:
            last = found[-1]
            where = f"leaves {last.host} by {last.dev}" if outcome == "left" else f"reaches {last.host}"
            return {"outcome": outcome, "text": f"{where} as {_ends(last.packet)}", "packet": last.packet}
    if not own:
        return {"outcome": "never_sent", "text": "no packet was seen anywhere"}
    last = own[-1]
    return {
        "outcome": "dropped",
        "text": f"last seen {last.direction} {last.dev} of {last.host} as {_ends(last.packet)}",
    }


def _forward(seen: Seen, asked: dict[str, Any]) -> bool:
    """Whether a sighting is the packet that was asked about rather than an answer to it."""
    packet = seen.packet
    if asked["proto"] == "icmp":
        return packet.get("type") == asked.get("type", 8)
    if asked["proto"] == "tcp":
        return "R" not in packet.get("flags", "") and packet.get("flags") != "SA"
    return packet["src"] != asked["dst"]


def _ends(packet: dict[str, Any]) -> str:
    ends = [
        f"{packet[a]}{f':{packet[p]}' if packet.get(p) is not None else ''}"
        for a, p in (("src", "sport"), ("dst", "dport"))
    ]
    return " → ".join(ends)


def _reply(wires: Wires, trial: Trial, seen: list[Seen]) -> dict[str, Any]:
    """Give the natural answer where no stack has given one, and look for it where the request began."""
    asked, answer = trial.question.packet, trial.reply_asked
    assert answer is not None and trial.back is not None
    end = [
        s for s in seen if (s.direction == "arrived" or (s.host, s.dev) in wires.lab.edge_ports) and _forward(s, asked)
    ][-1]
    answered = [s for s in seen if s.direction == "out" and s.host == end.host and s.packet["src"] == end.packet["dst"]
                and "inner" not in s.packet]  # fmt: skip
    later = seen if answered and end.direction == "arrived" else wires.send(_answer(end, answer)).seen
    home = [s for s in later if _is_home(s, wires, trial)]
    if home:
        last = home[-1]
        out = last.direction == "out"
        where = f"leaves {last.host} by {last.dev}" if out else f"arrives at {last.host}"
        return {"outcome": "left" if out else "delivered", "text": f"{where} as {_ends(last.packet)}"}
    back = [s for s in later if s.packet.get("src") != asked.get("src")]
    text = (
        f"last seen {back[-1].direction} {back[-1].dev} of {back[-1].host} as {_ends(back[-1].packet)}"
        if back
        else "not seen"
    )
    return {"outcome": "dropped", "text": text}


def _answer(end: Seen, answer: Any) -> dict[str, Any]:
    packet = end.packet
    left = end.direction == "out"
    record: dict[str, Any] = {"host": end.host, "in": end.dev if left else None, "proto": packet["proto"], "src": packet["dst"],
                              "dst": packet["src"], "ttl": 64, "len": packet["len"]}  # fmt: skip
    if packet["proto"] == "icmp":
        return {**record, "type": answer.skb.icmp_type, "code": 0, "icmp_id": packet["icmp_id"], "seq": packet["seq"]}
    record |= {"sport": packet["dport"], "dport": packet["sport"]}
    if packet["proto"] == "tcp":
        ack = packet["tcp_seq"] + 1 & 0xFFFFFFFF
        record |= {"flags": "SA", "df": True, "len": 44, "mss": 1460, "tcp_seq": 7000, "tcp_ack": ack, "window": 60000}
    return record


def _is_home(seen: Seen, wires: Wires, trial: Trial) -> bool:
    """Whether an answer is where the request came from, and belongs to it."""
    asked, packet = trial.question.packet, seen.packet
    if packet["src"] != asked["dst"] or "inner" in packet or (asked.get("dport") not in (None, packet.get("sport"))):
        return False
    host, dev = trial.question.host, trial.question.in_dev
    if dev is None or wires.lab.topology.segment_of(host, dev) is not None:
        return seen.direction == "arrived" and (dev is not None or seen.host == host)
    return seen.direction == "out" and (seen.host, seen.dev) == (host, dev)


__all__ = ["try_fix"]
