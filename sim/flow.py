"""The FLOW grammar: what a user has at hand → a :class:`Question` that the engine can be asked.

    [PROTO] [SRC[:SPORT]] [->] DST[:DPORT] [in IFACE] [at HOST] [uid USER] [mark N] [key value …]

Whatever can be derived is derived and said so in ``Question.derived``; whatever cannot is a :class:`FlowError` with
a caret and an example. Pasted lines of other tools are rewritten by :mod:`.flow_paste` first.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

from .errors import FlowError, InputError
from .flow_words import (
    ARROWS,
    EXAMPLE,
    MAX_TEXT,
    Endpoint,
    Keys,
    Word,
    dscp_value,
    endpoint,
    fail,
    family_text,
    icmp_type,
    mac_value,
    number,
    port_of,
    protocol,
    tcp_flags,
    time_value,
    tos_value,
    words_of,
)
from .model.addr import AF_INET, format_addr, parse_addr
from .model.drawn import Domain
from .model.packet import IPPROTO_ICMP, IPPROTO_ICMPV6, PROTO_NAME, WITH_PORTS
from .model.route import RT_TABLE_MAIN
from .model.state import WorldState
from .model.world import Host, World
from .record import dataclass, field, replace

DEFAULT_PORT_RANGE = (32768, 60999)  # net/ipv4/af_inet.c inet_init_net()
PING_ID = 4711  # what an echo request has when nobody says


@dataclass(frozen=True, slots=True)
class Question:
    """A flow as understood. ``packet``: simulate's form of its first packet, without host and interface.

    ``sport_range``: candidates of a source port that the flow leaves open. ``derived``: what was filled in, in words.
    """

    text: str
    host: str
    in_dev: str | None
    packet: dict[str, Any]
    sport_range: tuple[int, int] | None = None
    derived: tuple[str, ...] = ()
    time: float | None = None
    cgroup: str | None = None
    family: int = AF_INET

    def start(self, world: World, state: WorldState | None = None) -> tuple[WorldState, Any]:
        """The state to start from and the Injection; an open source port becomes a drawn value of that state."""
        from .engine.simulate import injection_of

        state = WorldState(world) if state is None else state
        found = injection_of(world, {**self.packet, "host": self.host, "in": self.in_dev})
        if self.sport_range is not None:
            found.skb.sport = state.draw("sport", Domain.of(*self.sport_range, uniform=False))
        if self.cgroup is not None and found.skb.sk is not None:
            found.skb.sk.cgroup = self.cgroup
        return state, found

    def prepare(self, world: World) -> World:
        """The world at the flow's ``time``, and with what the snapshot lacks taken from rules and flow."""
        world = inferred(world, self.host, self.family, self.packet.get("src"), self.packet["dst"], self.in_dev)
        if self.time is None:
            return world
        return replace(world, hosts={n: h.with_(captured_at=self.time) for n, h in world.hosts.items()})

    @property
    def proto(self) -> str:
        return str(self.packet["proto"])

    def ends(self) -> str:
        """``10.0.0.1:40000 → 8.8.8.8:443``."""
        p = self.packet
        return f"{_end(p.get('src'), p.get('sport'))} → {_end(p['dst'], p.get('dport'))}"

    def flow(self) -> str:
        """The canonical FLOW that means the same."""
        p = self.packet
        src = f"{_end(p['src'], p.get('sport'))} -> " if p.get("src") else ""
        proto = f"proto {p['proto']}" if str(p["proto"]).isdigit() else p["proto"]
        words = [f"{proto} {src}{_end(p['dst'], p.get('dport'))}"]
        words += ["in", self.in_dev] if self.in_dev else []
        words += ["at", self.host]
        dull = {"type": (8, 128), "code": (0,), "icmp_id": (PING_ID,), "flags": ("S",)}
        for key in ("type", "code", "icmp_id", "uid", "gid", "mark", "tos", "ttl", "len", "flags", "spi"):
            if p.get(key) is not None and p[key] not in dull.get(key, ()):
                words += [key.removeprefix("icmp_"), str(p[key])]
        return " ".join(words)

    def to_json(self) -> dict[str, Any]:
        sport = self.packet.get("sport")
        if self.sport_range is not None:
            sport = Domain.of(*self.sport_range).to_json()
        out: dict[str, Any] = {
            "text": self.text,
            "flow": self.flow(),
            "host": self.host,
            "in": self.in_dev,
            **self.packet,
        }
        out["src"] = self.packet.get("src")
        if sport is not None:
            out["sport"] = sport
        for key in ("time", "cgroup"):
            if getattr(self, key) is not None:
                out[key] = getattr(self, key)
        return out | {"derived": list(self.derived)}


_INFERRED: WeakKeyDictionary[Host, Any] = WeakKeyDictionary()  # host → (what was asked, what was inferred)


def inferred(world: World, name: str, family: int, src: str | None, dst: str | None, in_dev: str | None) -> World:
    """Interfaces, addresses and routes of a host whose dumps lack them; what was assumed goes into ``notes``."""
    host = world.hosts[name]
    kind = "route" if family == AF_INET else "route6"
    routed = kind in host.files or ("addr" not in host.files and (family, RT_TABLE_MAIN) in host.routes)
    if host.links and host.addresses and routed:
        return world
    from .snapshot.infer import FlowFacts, infer_network

    ends = [parse_addr(a)[1] if a else None for a in (src, dst)]
    facts = FlowFacts(family, ends[0], ends[1], in_dev)
    known = _INFERRED.get(host)
    found = known[1] if known is not None and known[0] == facts else infer_network(host, facts)
    _INFERRED[host] = (facts, found)
    notes = tuple(found.assumptions)
    return replace(world.with_host(found.host), notes=(*world.notes, *(n for n in notes if n not in world.notes)))


def _end(addr: str | None, port: int | None) -> str:
    text = addr or "(source chosen by routing)"
    if port is None:
        return text
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"


@dataclass(slots=True)
class Draft:
    """A flow as written, before the snapshot completes it."""

    text: str
    proto: Word | None = None
    src: Endpoint | None = None
    src_word: Word | None = None
    dst: Endpoint | None = None
    dst_word: Word | None = None
    keys: Keys = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def parse_flow(text: str, world: World) -> Question:
    """Understand a FLOW. Raises FlowError for everything that cannot be understood or is ambiguous."""
    if not isinstance(text, str) or not text.strip():
        raise FlowError("the flow is empty", "", None, EXAMPLE)
    if len(text) > MAX_TEXT:
        raise FlowError(f"the flow is longer than {MAX_TEXT} characters", "", None, EXAMPLE)
    pasted = None
    if "=" in text or any(word.isupper() and len(word) > 1 for word in text.split()):  # as other tools' lines have
        from .flow_paste import read_pasted

        pasted = read_pasted(text)
    flow = pasted.flow if pasted else text
    draft = _read(flow, world)
    if pasted:
        draft.notes.append(f"read from a {pasted.kind}: {flow}")
        draft.notes += pasted.notes
    return _complete(draft, world, text.strip())


# ------------------------------------------------------------------------------------------- the grammar


def _count(low: int, high: int) -> Callable[[str, Word], Any]:
    return lambda text, word: number(text, word, "value", low, high)


def _plain(text: str, word: Word) -> str:
    return word.text


_READERS: dict[str, Callable[[str, Word], Any]] = {
    "in": _plain,
    "at": _plain,
    "uid": _plain,
    "gid": _plain,
    "cgroup": _plain,
    "mark": _count(0, 2**32 - 1),
    "tos": tos_value,
    "dscp": dscp_value,
    "ttl": _count(0, 255),
    "len": _count(20, 65535),
    "flags": tcp_flags,
    "type": icmp_type,
    "code": _count(0, 255),
    "id": _count(0, 65535),
    "seq": _count(0, 2**32 - 1),
    "ack": _count(0, 2**32 - 1),
    "window": _count(0, 65535),
    "mss": _count(0, 65535),
    "spi": _count(0, 2**32 - 1),
    "mac": mac_value,
    "time": time_value,
    "proto": _count(0, 255),
    "sport": lambda text, word: port_of(text, word)[0],
    "dport": lambda text, word: port_of(text, word)[0],
}
_ALIAS = {
    "iif": "in", "dev": "in", "host": "at", "on": "at", "user": "uid", "group": "gid", "port": "dport", "length": "len",
    "hl": "ttl", "fwmark": "mark", "dsfield": "tos",
}  # fmt: skip


def _read(text: str, world: World) -> Draft:
    draft = Draft(text)
    words = words_of(text)
    names = _names(world, words)
    ends: list[tuple[Endpoint, Word]] = []
    arrow: Word | None = None
    sourceless = False  # "-> DST"
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        lower = word.text.lower()
        key = _ALIAS.get(lower, lower)
        if lower in ARROWS and not draft.keys.keys() - {"proto"}:
            if arrow is not None:
                raise fail(text, word.column, "a second arrow")
            arrow, sourceless = word, not ends
            if len(ends) > 1:
                raise fail(text, word.column, "the arrow stands between source and destination")
        elif key == "df":
            value = True
            if position < len(words) and words[position].text.lower() in ("0", "1", "yes", "no"):
                value = words[position].text.lower() in ("1", "yes")
                position += 1
            draft.keys["df"] = (value, word)
        elif key in _READERS:
            if key in draft.keys:
                raise fail(text, word.column, f"{word.text!r} is given twice")
            if position >= len(words):
                raise fail(text, len(text), f"{word.text!r} needs a value")
            draft.keys[key] = (_READERS[key](text, words[position]), words[position])
            position += 1
        elif protocol(lower) is not None and draft.proto is None:
            draft.proto = word
        elif draft.keys.keys() - {"proto"} or len(ends) == 2 - sourceless:
            raise fail(
                text,
                word.column,
                f"unknown word {word.text!r}",
                f"known keys: {' '.join(sorted(_READERS))} df\n  {EXAMPLE}",
            )
        else:
            ends.append((endpoint(text, word, names), word))
    if arrow is not None and len(ends) < 2 - sourceless:
        raise fail(text, len(text), "the destination is missing after the arrow")
    if not ends:
        raise fail(text, len(text), "the destination is missing")
    if len(ends) == 2:
        draft.src, draft.src_word = ends[0]
    draft.dst, draft.dst_word = ends[-1]
    return draft


def _names(world: World, words: list[Word]) -> Callable[[str], tuple[int, int] | None]:
    """hosts.txt of the asked host, then of the others, then the snapshot's own host names."""
    asked = next((b.text for a, b in pairwise(words) if a.text.lower() == "at"), None)

    def find(name: str) -> tuple[int, int] | None:
        order = sorted(world.hosts.values(), key=lambda h: h.name != asked)
        for host in order:
            found = host.names.get(name) or host.names.get(name.lower())
            if found is not None:
                return found
        if name.lower() == "localhost":
            return AF_INET, 0x7F000001
        called = world.hosts.get(name)
        if called is None:
            return None
        own = [a for a in called.addresses if a.family == AF_INET and a.local >> 24 != 127 and not a.secondary]
        return (own[0].family, own[0].local) if own else None

    return find


# -------------------------------------------------------------------------------- completed by the snapshot


def _complete(draft: Draft, world: World, given: str) -> Question:
    dst, src = draft.dst, draft.src
    assert dst is not None and draft.dst_word is not None
    text, family = draft.text, dst.family
    if src is not None and src.family != family:
        raise fail(
            text,
            draft.dst_word.column,
            f"the source is {family_text(src.family)}, the destination {family_text(family)}",
        )
    if not world.hosts:
        raise FlowError("the snapshot has no host", text, None, "capture one: nattrace snapshot OUT")
    proto = _protocol_of(draft)
    packet = _packet(draft, proto)
    host = _host(draft, world)
    said_in = draft.keys["in"][0] if "in" in draft.keys else None
    world = inferred(world, host.name, family, packet.get("src"), packet["dst"], said_in)
    host = world.hosts[host.name]
    in_dev = _interface(draft, world, host)
    if in_dev is not None and src is None:
        raise fail(text, draft.dst_word.column, f"a packet received on {in_dev} has a source address", EXAMPLE)
    _identity(draft, host, packet, in_dev)
    sport_range = None
    if proto in WITH_PORTS and "sport" not in packet:
        sport_range = _port_range(host, draft)
    if proto in WITH_PORTS and "dport" not in packet:
        name = PROTO_NAME.get(proto, str(proto))
        raise fail(text, draft.dst_word.column + len(draft.dst_word.text), f"{name} needs a destination port",
                   f"example: {name} {format_addr(family, dst.addr)}:443")  # fmt: skip
    time = draft.keys["time"][0] if "time" in draft.keys else None
    cgroup = draft.keys["cgroup"][0] if "cgroup" in draft.keys else None
    return Question(given, host.name, in_dev, packet, sport_range, tuple(draft.notes), time, cgroup, family)


def _protocol_of(draft: Draft) -> int:
    """Said, or as a suffix, or what the service runs over, or what the keys belong to; echo request when no port."""
    assert draft.dst is not None and draft.dst_word is not None
    said = draft.proto.text.lower() if draft.proto else None
    for end in (draft.dst, draft.src):
        if end is not None and end.suffix is not None:
            if said is not None and protocol(said) != protocol(end.suffix):
                raise fail(draft.text, draft.dst_word.column, f"the protocol is {said} and {end.suffix} at once")
            said = end.suffix
    if "proto" in draft.keys:
        return int(draft.keys["proto"][0])
    icmp = IPPROTO_ICMP if draft.dst.family == AF_INET else IPPROTO_ICMPV6
    if said is not None:
        number_said = protocol(said)
        assert number_said is not None
        return icmp if said in ("icmp", "ping") else number_said
    ports = [e for e in (draft.dst, draft.src) if e is not None and e.port is not None]
    if ports or "dport" in draft.keys or "sport" in draft.keys:
        implied = next((e.protos for e in ports if e.protos), ())
        return 6 if not implied or "tcp" in implied else 17
    if "flags" in draft.keys:
        return 6
    if "spi" in draft.keys:
        return 50
    return icmp


def _packet(draft: Draft, proto: int) -> dict[str, Any]:
    """The record of simulate. Ports and keys that the protocol does not have are errors, not ignored."""
    assert draft.dst is not None and draft.dst_word is not None
    src, dst, keys, text = draft.src, draft.dst, draft.keys, draft.text
    name = PROTO_NAME.get(proto, str(proto))
    packet: dict[str, Any] = {"proto": name, "dst": format_addr(dst.family, dst.addr)}
    if src is not None and src.addr:
        packet["src"] = format_addr(src.family, src.addr)
    for key, end, word in (("dport", dst, draft.dst_word), ("sport", src, draft.src_word)):
        port = keys[key][0] if key in keys else end.port if end else None
        if port is not None:
            if proto not in WITH_PORTS:
                at = keys[key][1] if key in keys else word
                raise fail(text, at.column if at else None, f"{name} has no ports", f"example: tcp {packet['dst']}:443")
            packet[key] = port
    icmp, tcp = proto in (IPPROTO_ICMP, IPPROTO_ICMPV6), proto == 6
    belongs = dict.fromkeys(("type", "code", "id"), icmp) | dict.fromkeys(("flags", "window", "mss", "ack"), tcp)
    for key, fits in (belongs | {"seq": icmp or tcp, "spi": proto in (50, 51)}).items():
        if key in keys and not fits:
            raise fail(text, keys[key][1].column, f"{key} does not belong to {name}")
    if icmp:
        packet["type"], packet["code"] = 8 if proto == IPPROTO_ICMP else 128, 0
        packet["icmp_id"], packet["seq"] = PING_ID, 1
    if tcp:
        packet["flags"] = "S"
    renamed = {"id": "icmp_id", "dscp": "tos", "ack": "tcp_ack", "seq": "seq" if icmp else "tcp_seq"}
    for key in (
        "type",
        "code",
        "id",
        "seq",
        "flags",
        "window",
        "mss",
        "ack",
        "spi",
        "tos",
        "dscp",
        "ttl",
        "len",
        "df",
        "mac",
        "mark",
    ):
        if key in keys:
            value, word = keys[key]
            if renamed.get(key) == "seq" and value > 65535:
                raise fail(text, word.column, f"seq: expected a number from 0 to 65535, got {value}")
            packet[renamed.get(key, key)] = value
    return packet


def _host(draft: Draft, world: World) -> Host:
    """Where the packet starts or is received; unambiguous or an error with the choices."""
    hosts = world.hosts
    if "at" in draft.keys:
        name, word = draft.keys["at"]
        if name not in hosts:
            raise fail(draft.text, word.column, f"no host {name!r} in the snapshot", f"hosts: {', '.join(hosts)}")
        return hosts[name]
    if len(hosts) == 1:
        return next(iter(hosts.values()))
    found, why = _candidates(draft, world)
    if len(found) == 1:
        draft.notes.append(f"at {found[0].name}: {why}")
        return found[0]
    choices = found or list(hosts.values())
    problem = (
        "which host is meant is not clear" if not found else f"several hosts fit ({why.replace('only host', 'hosts')})"
    )
    raise fail(draft.text, len(draft.text), problem, f"add one of: {', '.join('at ' + h.name for h in choices)}")


def _candidates(draft: Draft, world: World) -> tuple[list[Host], str]:
    hosts = list(world.hosts.values())
    src = draft.src
    if "in" in draft.keys:
        dev = draft.keys["in"][0]
        found = [h for h in hosts if dev in h.links]
        if len(found) > 1 and src is not None:
            near = [
                h
                for h in found
                if any(a.dev == dev and a.family == src.family and src.addr in a.network for a in h.addresses)
            ]
            found = near or found
        return found, f"the only host with an interface {dev}"
    if src is not None:
        own = [h for h in hosts if any(a.local == src.addr and a.family == src.family for a in h.addresses)]
        if own:
            return own, "the only host that has the source address"
        near = [
            h
            for h in hosts
            if any(
                a.family == src.family and src.addr in a.network and world.segment_of(h.name, a.dev) is None
                for a in h.addresses
            )
        ]
        return near, "the only host whose outer network holds the source address"
    users = [h for h in hosts if "uid" in draft.keys and draft.keys["uid"][0] in h.users]
    return users if len(users) == 1 else [], "the only host with that user"


def _interface(draft: Draft, world: World, host: Host) -> str | None:
    """The receiving interface: said, none for the host's own packets, else where the route back leads."""
    if "in" in draft.keys:
        dev, word = draft.keys["in"]
        if host.links and dev not in host.links:
            alias = next((link.name for link in host.links.values() if dev in link.altnames), None)
            if alias is not None:
                return alias
            known = ", ".join(host.links)
            raise fail(
                draft.text, word.column, f"{host.name} has no interface {dev!r}", f"interfaces of {host.name}: {known}"
            )
        return str(dev)
    src = draft.src
    if src is None or not src.addr or (src.addr >> 24 == 127 and src.family == AF_INET):
        return None
    if any(a.local == src.addr and a.family == src.family for a in host.addresses):
        return None
    if src.scope is not None and src.scope in host.links:
        return src.scope
    if "uid" in draft.keys or not host.addresses:
        return None
    dev = route_back(world, host, src)
    if dev is None:
        column = draft.src_word.column if draft.src_word else None
        raise fail(draft.text, column, f"{host.name} does not have this address and no route back to it",
                   f"say where the packet arrives: in {' | '.join(n for n in host.links if n != 'lo')}")  # fmt: skip
    draft.notes.append(f"in {dev}: the route back to {format_addr(src.family, src.addr)} leads there")
    return dev


def route_back(world: World, host: Host, src: Endpoint) -> str | None:
    """The interface by which ``host`` would send to the source address."""
    from .engine import routing
    from .engine.run import Ctx, Run

    run = Run(WorldState(world))
    ctx = Ctx(run, host, run.ws.host(host.name), 3)
    rt = routing.output(ctx, family=src.family, dst=src.addr)
    return rt.dev if rt.kind == "unicast" else None


def _identity(draft: Draft, host: Host, packet: dict[str, Any], in_dev: str | None) -> None:
    """uid and gid by name or number; they belong to local senders only."""
    for key, table, file in (("uid", host.users, "passwd.txt"), ("gid", host.groups, "group.txt")):
        if key not in draft.keys:
            continue
        value, word = draft.keys[key]
        if in_dev is not None:
            raise fail(draft.text, word.column, f"a packet received on {in_dev} has no {key}: only local senders do")
        if value.isascii() and value.isdigit():
            packet[key] = number(draft.text, word, key, 0, 2**32 - 1)
        elif value in table:
            packet[key] = table[value]
        elif value == "root":
            packet[key] = 0
        else:
            kind = "user" if key == "uid" else "group"
            problem = f"{host.name} has no {kind} {value!r} ({file})"
            raise fail(draft.text, word.column, problem, f"give the number, or add {file} to the snapshot")
    if in_dev is not None and packet.pop("mark", 0):
        draft.notes.append("mark left out: a packet from the wire carries none")


def _port_range(host: Host, draft: Draft) -> tuple[int, int]:
    setting = host.sysctl.get("net.ipv4.ip_local_port_range")
    low, high = DEFAULT_PORT_RANGE
    if setting is not None:
        parts = setting.value.split()
        plain = len(parts) == 2 and all(p.isascii() and p.isdigit() and len(p) < 6 for p in parts)
        if plain and 0 < int(parts[0]) <= int(parts[1]) <= 65535:
            low, high = int(parts[0]), int(parts[1])
    draft.notes.append(f"source port: any of {low}-{high} (ip_local_port_range)")
    return low, high


__all__ = ["Endpoint", "InputError", "Question", "parse_flow", "route_back"]
