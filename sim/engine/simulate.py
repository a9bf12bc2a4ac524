"""JSON in, JSON out: packets one after the other, conntrack state carried over, worlds forked where needed.

The contract's ``simulate``: every record is one packet; every result says what became of it in all worlds that are
still possible. A drawn value is carried symbolically until an ``observed`` pins it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

from ..errors import InputError
from ..model.addr import parse_addr
from ..model.conntrack import Conn
from ..model.drawn import Domain, Drawn
from ..model.packet import (
    ICMP_ECHO,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
    PROTO_NUMBER,
    TH_SYN,
    Sk,
    Skb,
    flags_from_text,
)
from ..model.result import Hop, Leaf, Reason, Response, Step
from ..model.rule import RuleId
from ..model.state import WorldState
from ..model.world import World
from . import conntrack
from .play import Answer, Injection, natural_reply, play

MAX_WORLDS = 16  # carried from packet to packet; beyond it the likeliest are kept and the answer says "unknown"
SCHEMA = "nattrace/simulate/1"


# ------------------------------------------------------------------------------------------- records in

_INTS = {
    "sport": 65535, "dport": 65535, "uid": 2**32 - 1, "gid": 2**32 - 1, "mark": 2**32 - 1, "ttl": 255, "tos": 255, "len": 65535,
    "type": 255, "code": 255, "icmp_id": 65535, "seq": 65535, "tcp_seq": 2**32 - 1, "tcp_ack": 2**32 - 1,
    "window": 65535, "mss": 65535, "spi": 2**32 - 1, "mtu": 65535,
}  # fmt: skip
_KNOWN = {"id", "host", "in", "proto", "src", "dst", "flags", "at", "observed", "df", "inner", "gateway", "oif", "mac",
          "transparent", "payload", *_INTS}  # fmt: skip


def _number(record: dict[str, Any], key: str) -> int | None:
    value = record.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{key}: expected a whole number, got {value!r}")
    if not 0 <= value <= _INTS[key]:
        raise InputError(f"{key}: {value} is outside 0–{_INTS[key]}")
    return value


def _address(record: dict[str, Any], key: str) -> tuple[int, int] | None:
    value = record.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InputError(f"{key}: expected an address, got {value!r}")
    try:
        return parse_addr(value)
    except (ValueError, OSError):
        raise InputError(f"{key}: not an address: {value!r}") from None


def _ident(record: dict[str, Any]) -> Any:
    """What the packet is called, given back unchanged: it has to be something that JSON can hold."""
    value = record.get("id")
    if not (value is None or isinstance(value, (str, int)) or (isinstance(value, float) and isfinite(value))):
        raise InputError(f"id: expected a number or a text, got {str(value)[:40]!r}")
    return value


def _word(record: dict[str, Any], key: str) -> str | None:
    value = record.get(key)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{key}: expected a name, got {value!r}")
    return value


def protocol_number(value: Any) -> int:
    """``tcp``, ``6`` or 6 to the number. Raises InputError."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255:
        return value
    if isinstance(value, str):
        if value.lower() in PROTO_NUMBER:
            return PROTO_NUMBER[value.lower()]
        if value.isascii() and value.isdigit() and len(value) < 4 and int(value) <= 255:
            return int(value)
    raise InputError(f"proto: unknown protocol {value!r}", remedy="name one like tcp, udp, icmp, or give its number")


def minimal_length(skb: Skb) -> int:
    """The smallest IP total length that the protocol sends with these headers (20-byte IP header, no payload)."""
    if skb.proto == IPPROTO_TCP:
        return 40 + (4 if skb.mss is not None else 0)
    if skb.proto in (IPPROTO_UDP, IPPROTO_UDPLITE) or skb.is_icmp:
        return 28 if skb.inner is None else min(28 + skb.inner.length, 576)
    return {132: 32 + 20, 33: 36, 50: 28, 51: 32, 47: 24}.get(skb.proto, 20)


def packet_of(record: dict[str, Any], inner: bool = False) -> Skb:
    """A record's packet. Raises InputError naming the key."""
    dst = _address(record, "dst")
    if dst is None:
        raise InputError("dst: missing", remedy='give every packet a destination: "dst": "8.8.8.8"')
    src = _address(record, "src")
    family = dst[0]
    if src is not None and src[0] != family:
        raise InputError("src and dst are of different families")
    proto = record.get("proto", "icmp")
    skb = Skb(family, protocol_number(proto), src[1] if src else 0, dst[1])
    for name, key in (("sport", "sport"), ("dport", "dport"), ("ttl", "ttl"), ("tos", "tos"), ("mark", "mark"),
                      ("icmp_code", "code"), ("icmp_id", "icmp_id"), ("icmp_seq", "seq"), ("tcp_seq", "tcp_seq"),
                      ("tcp_ack", "tcp_ack"), ("window", "window"), ("mss", "mss"), ("spi", "spi"),
                      ("icmp_mtu", "mtu")):  # fmt: skip
        value = _number(record, key)
        if value is not None:
            setattr(skb, name, value)
    skb.df = bool(record.get("df", skb.proto == IPPROTO_TCP))
    if skb.is_icmp:
        given = _number(record, "type")
        skb.icmp_type = ICMP_ECHO if given is None else given
    if skb.proto == IPPROTO_TCP:
        try:
            skb.tcp_flags = flags_from_text(str(record.get("flags") or "S"))
        except ValueError as error:
            raise InputError(f"flags: {error}") from None
    gateway = _address(record, "gateway")
    if gateway:
        skb.icmp_gateway = gateway[1]
    if record.get("inner") is not None and not inner:
        if not isinstance(record["inner"], dict):
            raise InputError("inner: expected the packet that the error quotes")
        skb.inner = packet_of(record["inner"], inner=True)
    if isinstance(record.get("payload"), str):
        try:
            skb.payload = bytes.fromhex(record["payload"])
        except ValueError:
            raise InputError("payload: expected hexadecimal digits") from None
    if isinstance(record.get("mac"), str):
        digits = record["mac"].replace(":", "").replace("-", "")
        if len(digits) != 12 or not digits.isascii() or set(digits.lower()) - set("0123456789abcdef"):
            raise InputError(f"mac: not a hardware address: {record['mac']!r}")
        skb.mac_src = int(digits, 16)
    length = _number(record, "len")
    smallest = minimal_length(skb) + len(skb.payload or b"")
    skb.length = smallest if length is None else length
    if skb.proto == IPPROTO_TCP and skb.tcp_flags & TH_SYN and not skb.payload:
        skb.tcp_options = syn_options(skb)
    return skb


def syn_options(skb: Skb) -> bytes | None:
    """A SYN carries no data: what its length has room for beyond the bare header is options, as connect() sends them."""
    room = skb.length - 40
    if not 0 < room <= 40 or room % 4:
        return None
    mss = b"\x02\x04" + (1460 if skb.mss is None else skb.mss).to_bytes(2, "big")  # a connect() always names one
    full = mss + b"\x04\x02\x08\x0a" + bytes(8) + b"\x01\x03\x03\x07"  # SACK permitted, timestamps, window scale 7
    options = full if len(full) <= room else mss if len(mss) <= room else b""
    return options.ljust(room, b"\x01")


def injection_of(world: World, record: Any) -> Injection:
    """A record as a question to the engine. Raises InputError for anything that cannot be one."""
    if not isinstance(record, dict):
        raise InputError("expected a JSON object")
    strange = sorted(set(record) - _KNOWN)
    if strange:
        raise InputError(f"unknown key {strange[0]!r}", remedy=f"known keys: {', '.join(sorted(_KNOWN))}")
    host = _word(record, "host")
    if host is None and len(world.hosts) == 1:
        host = next(iter(world.hosts))
    if host is None or host not in world.hosts:
        raise InputError(f"host: {host!r} is not in the snapshot", remedy=f"hosts: {', '.join(world.hosts)}")
    skb = packet_of(record)
    indev = _word(record, "in")
    if indev is not None and indev not in world.hosts[host].links:
        known = ", ".join(world.hosts[host].links)
        raise InputError(f"in: {host} has no interface {indev!r}", remedy=f"interfaces of {host}: {known}")
    oif = _word(record, "oif")
    if oif is not None and oif not in world.hosts[host].links:
        raise InputError(f"oif: {host} has no interface {oif!r}")
    if indev is None:
        skb.uid = _number(record, "uid") or 0
        transparent = bool(record.get("transparent"))
        gid = _number(record, "gid")
        skb.sk = Sk(skb.uid, skb.uid if gid is None else gid, bound_dev=oif, mark=skb.mark, transparent=transparent)
    else:
        if not skb.src and record.get("src") is None:
            raise InputError("src: a received packet has a source address")
        skb.mark = 0
    at = record.get("at", 0.0)
    if isinstance(at, bool) or not isinstance(at, (int, float)) or not 0 <= at < 1e12:
        raise InputError(f"at: expected seconds since the first packet, got {at!r}")
    return Injection(host, indev, skb, float(at), oif)


# ------------------------------------------------------------------------------------------ results out


def plain(value: Any, state: WorldState | None) -> Any:
    """A JSON value: drawn ports as their candidates, places as ``file:line``."""
    if isinstance(value, Drawn):
        domain = state.domains[value.draw_id] if state is not None else Domain(())
        return domain.single if domain.single is not None else domain.to_json()
    if isinstance(value, dict):
        return {k: plain(v, state) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v, state) for v in value]
    return value


def step_json(step: Step, state: WorldState | None) -> dict[str, Any]:
    return {
        "hook": step.hook,
        "stage": step.stage,
        "table": step.table,
        "family": step.family,
        "chain": step.chain,
        "rule": step.rule,
        "handle": step.handle,
        "text": step.text,
        "where": str(step.where) if step.where else None,
        "matched": step.matched,
        "verdict": step.verdict,
        "changes": plain(step.changes, state),
        "conntrack": step.conntrack,
        "note": step.note,
    }


def hop_json(hop: Hop, state: WorldState | None) -> dict[str, Any]:
    return {
        "host": hop.host,
        "in": hop.in_dev,
        "out": hop.out_dev,
        "before": plain(hop.before, state),
        "after": plain(hop.after, state),
        "conntrack": plain(hop.conntrack, state),
        "steps": [step_json(s, state) for s in hop.steps],
    }


def response_json(response: Response, state: WorldState | None) -> dict[str, Any]:
    return {
        "kind": response.kind,
        "type": response.type,
        "code": response.code,
        "from": response.sender,
        "to": response.to,
        "outcome": response.outcome,
        "packet": plain(response.packet, state),
        "at": response.at,
    }


def reason_json(reason: Reason) -> dict[str, Any]:
    return {"code": reason.code, "text": reason.text, "where": str(reason.where) if reason.where else None}


def _shared(values: list[Any]) -> Any:
    """What all have in common: the value itself, key by key for objects, None where they differ."""
    first = values[0]
    if all(v == first for v in values):
        return first
    if all(isinstance(v, dict) for v in values):
        return {k: _shared([v.get(k) for v in values]) for k in first}
    return None


def result_json(answer: Answer, ident: Any = None, schema: str = SCHEMA) -> dict[str, Any]:
    """The contract's result document for all worlds of one packet."""
    groups = answer.groups()
    leaf = groups[0][0]
    unsure = [u for g in groups for member in g for u in member.unknowns]
    undecided = len(groups) > 1 and any(m.probability is None for g in groups for m in g)
    undecided = undecided or not answer.complete
    drawn = any(isinstance(v, Drawn) and isinstance(plain(v, leaf.state), dict) for v in leaf.packet.values())
    certainty = "unknown" if undecided else "one_of" if len(groups) > 1 or drawn else "exact"
    outcomes = []
    for group in groups:
        p = None if undecided else sum(m.probability or 0.0 for m in group)
        head = group[0]
        outcomes.append(
            {
                "probability": p,
                "outcome": head.outcome,
                "at": head.at,
                "packet": plain(head.packet, head.state),
                "reason": reason_json(head.reason),
            }
        )
    answers = [[response_json(r, group[0].state) for r in group[0].responses] for group in groups]
    copies = [plain(group[0].copies, group[0].state) for group in groups]
    for key, parts in (("responses", answers), ("copies", copies)):
        if any(part != parts[0] for part in parts):
            for outcome, part in zip(outcomes, parts, strict=True):
                outcome[key] = part
    reason = leaf.reason
    if undecided:
        reason = unsure[0] if unsure else _too_many(answer)
    assumptions: list[str] = []
    for group in groups:
        for member in group:
            assumptions += [a for a in member.assumptions if a not in assumptions]
    assumptions += [text for text in immaterial(answer) if text not in assumptions]
    result: dict[str, Any] = {"schema": schema}
    if ident is not None:
        result["id"] = ident
    result |= {
        "outcome": _shared([o["outcome"] for o in outcomes]),
        "certainty": certainty,
        "at": _shared([o["at"] for o in outcomes]),
        "packet": _shared([o["packet"] for o in outcomes]),
        "errno": _shared([g[0].errno for g in groups]),
        "reason": reason_json(reason),
        "hops": [hop_json(h, leaf.state) for h in leaf.hops],
        "responses": [r for r in answers[0] if all(r in other for other in answers)],
        "outcomes": outcomes,
        "assumptions": assumptions,
    }
    if any(copies):
        result["copies"] = [c for c in copies[0] if all(c in other for other in copies)]
    return result


def immaterial(answer: Answer) -> list[str]:
    """What nobody knows and what makes no difference to what an observer sees of this packet."""
    if not answer.complete or len(answer.groups()) > 1:
        return []
    texts = [f"{u.text}: makes no difference here" for leaf in answer.leaves for u in leaf.unknowns]
    return list(dict.fromkeys(texts))


def _too_many(answer: Answer) -> Reason:
    if answer.complete:
        return Reason("missing_input", "the snapshot does not tell which of these happens")
    return Reason("too_many_worlds", f"not all that can follow was played: {len(answer.leaves)} worlds were")


# -------------------------------------------------------------------------------------------- simulator


class Simulator:
    """Feeds packets one by one. ``worlds``: (probability or None, state) of every world still possible.

    ``learn``: given a record, the world to play it in and what is assumed there (hosts whose network is not known).
    """

    def __init__(self, world: World, verbose: bool = False, replies: bool = False,
                 learn: Callable[[Any], tuple[World, tuple[str, ...]]] | None = None) -> None:  # fmt: skip
        self.world = world
        self.verbose, self.replies = verbose, replies
        self.worlds: list[tuple[float | None, WorldState]] = [(1.0, WorldState(world))]
        self.lost = False  # worlds had to be left out: answers are "unknown" from then on
        self.learn = learn

    @property
    def state(self) -> WorldState:
        """The likeliest world's state."""
        return self.worlds[0][1]

    def feed(self, record: dict[str, Any]) -> dict[str, Any]:
        """One packet in, one result document out; raises InputError for a record that is no packet."""
        assumed = self._learned(record)
        question = injection_of(self.world, record)
        ident = _ident(record)
        observed = record.get("observed")
        if observed is not None and not isinstance(observed, dict):
            raise InputError(f'observed: expected an object such as {{"sport": 26298}}, got {observed!r}')
        answer = self.ask(question, observed)
        result = result_json(answer, ident)
        result["assumptions"] += assumed
        if self.replies:
            self._add_reply(result, answer)
        return result

    def _learned(self, record: Any) -> tuple[str, ...]:
        if self.learn is None:
            return ()
        self.world, assumed = self.learn(record)
        for _, state in self.worlds:
            state.world = self.world
        return assumed

    def ask(self, question: Injection, observed: dict[str, Any] | None = None) -> Answer:
        """Play a packet in every world and carry the worlds on."""
        leaves: list[Leaf] = []
        complete = not self.lost
        for weight, state in self.worlds:
            part = play(self.world, state, question, self.verbose)
            complete = complete and part.complete
            for leaf in part.leaves:
                p = leaf.probability
                leaf.probability = None if p is None or weight is None else p * weight
                leaves.append(leaf)
        if observed:
            leaves = _pinned(leaves, observed)
        self._carry(leaves)
        return Answer(leaves, complete, question)

    def _carry(self, leaves: list[Leaf]) -> None:
        worlds: list[tuple[float | None, WorldState]] = []
        for leaf in leaves:
            for i, (p, state) in enumerate(worlds):
                if same_state(state, leaf.state):
                    q = leaf.probability
                    worlds[i] = (None if p is None or q is None else p + q, state)
                    break
            else:
                worlds.append((leaf.probability, leaf.state))
        worlds.sort(key=lambda w: -(w[0] or 0.0))
        if len(worlds) > MAX_WORLDS:
            self.lost = True
            worlds = worlds[:MAX_WORLDS]
        self.worlds = [(1.0, worlds[0][1])] if len(worlds) == 1 else worlds

    def _add_reply(self, result: dict[str, Any], answer: Answer) -> None:
        reply = natural_reply(self.world, answer.main)
        if reply is None:
            result["reply"] = None
            return
        self.worlds = [(1.0, answer.main.state)] if len(self.worlds) > 1 else self.worlds
        result["reply"] = result_json(self.ask(reply._replace(at=self.state.now)))

    def counters(self, host: str) -> dict[RuleId, tuple[int, int]]:
        """Packets and bytes that each rule (index 0: policy) of a host counted, in the likeliest world."""
        return dict(self.state.host(host).counters)

    def conntrack(self, host: str) -> list[Conn]:
        """Live confirmed entries of a host in the likeliest world."""
        now = self.state.now
        return [c for c in self.state.host(host).ct.confirmed() if c.timeout_at is None or c.timeout_at > now]


def same_state(a: WorldState, b: WorldState) -> bool:
    """Whether two worlds have the same future: everything but the counters is equal."""
    if a.domains != b.domains or a._hosts.keys() != b._hosts.keys():
        return False
    for name, left in a._hosts.items():
        right = b._hosts[name]
        if left.ct.entries != right.ct.entries or left.match_state != right.match_state:
            return False
        if (left.sets, left.exceptions, left.neigh, left.misc) != (
            right.sets,
            right.exceptions,
            right.neigh,
            right.misc,
        ):
            return False
    return True


def _pinned(leaves: list[Leaf], observed: dict[str, Any]) -> list[Leaf]:
    """Keep the worlds that agree with what was seen, drawn values narrowed to it; all, if none agrees."""
    kept = []
    for leaf in leaves:
        if _agrees(leaf, observed):
            for key, value in observed.items():
                token = leaf.packet.get(key)
                if isinstance(token, Drawn):
                    conntrack.pin(leaf.state, token, value)
            kept.append(leaf)
    if not kept:
        for leaf in leaves:
            leaf.assumptions.append(f"observed {observed} contradicts every predicted outcome; ignored")
        return leaves
    total = sum(leaf.probability or 0.0 for leaf in kept)
    for leaf in kept:
        if total and leaf.probability is not None:
            leaf.probability /= total
        elif len(kept) == 1:
            leaf.probability = 1.0
    return kept


def _agrees(leaf: Leaf, observed: dict[str, Any]) -> bool:
    for key, value in observed.items():
        if key == "outcome":
            if leaf.outcome != value:
                return False
        elif key in ("host", "interface", "hook"):
            if leaf.at.get(key) != value:
                return False
        elif key in leaf.packet:
            have = leaf.packet[key]
            if isinstance(have, Drawn):
                if not (isinstance(value, int) and leaf.state.domains[have.draw_id].holds(value)):
                    return False
            elif have != value:
                return False
    return True
