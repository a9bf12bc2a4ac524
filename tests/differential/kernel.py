"""The kernel's half: build a situation, snapshot it, send its packets, write down what happened."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab_support import conntrack_entries, rule_counters, unique_prefix
from nattrace.sim.errors import NattraceError
from nattrace.tracer.lab import netns
from nattrace.tracer.lab.build import Lab, build
from nattrace.tracer.lab.io import EDGE_MAC, Endless, Result, Seen, Wires, is_connect
from nattrace.tracer.lab.packets import SCTP_INIT, number_of
from nattrace.tracer.lab.topology import Topology, from_data, restore_text

from .generator import SYN, steady
from .objects import make_counter, make_timeout

ARRIVALS = (1, 6, 17)
PATIENCE, OUTLAST = 0.98, 0.6  # seconds
MONOTONIC_COARSE = 6  # linux/time.h; Python has no name for it
GONE = "gone"  # neither delivered nor left


@dataclass(slots=True)
class Final:
    """Where one packet ended. ``kind``: "left" or "arrived"; ``main``: the packet that was sent, not an answer."""

    kind: str
    host: str
    dev: str
    packet: dict[str, Any]
    main: bool
    data: bytes = field(default=b"", repr=False)


@dataclass(slots=True)
class Observation:
    """One operation: the record that was really sent (None: could not be made) and what it caused. ``endless``: its
    packets circulated until the lab was cut."""

    index: int
    record: dict[str, Any] | None
    errno: int | None = None
    finals: list[Final] = field(default_factory=list)
    counters: dict[str, dict[tuple[str, str, str, int], tuple[int, int]]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    at: float = 0.0
    endless: bool = False


class Rejected(Exception):
    """A situation that cannot be built at all."""


def admit(lab: Lab, situation: dict[str, Any]) -> None:
    """Load the rules, dropping (from the situation too) what iptables or ipset refuse."""
    for name, host in situation["topology"]["hosts"].items():
        _make_objects(lab, name, [*host.get("iptables", []), *host.get("iptables-legacy", [])])
        host["ipset"] = _admit_sets(lab, name, host.get("ipset", []))
        for key, backend in (("iptables", "nft"), ("iptables-legacy", "legacy")):
            host[key] = _admit_rules(lab, name, backend, host.get(key, []))


def _make_objects(lab: Lab, host: str, lines: list[str]) -> None:
    """What rules refer to by name and no restore makes."""
    for option, make in (("--nfacct-name", make_counter), ("--timeout", make_timeout)):
        words = [line.split() for line in lines if f" {option} " in line and "IDLETIMER" not in line]
        for name in {w[w.index(option) + 1] for w in words}:
            with netns.inside(netns.path_of(lab.netns(host))):
                make(name)


def _admit_sets(lab: Lab, host: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    try:
        lab.run(host, "ipset", "restore", text="".join(f"{x}\n" for x in lines))
        return lines
    except NattraceError:
        lab.run(host, "ipset", "destroy", check=False)
    kept = []
    for line in lines:
        try:
            lab.run(host, "ipset", "restore", text=f"{line}\n")
            kept.append(line)
        except NattraceError:
            continue
    return kept


def _admit_rules(lab: Lab, host: str, backend: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    tool = f"iptables-{backend}-restore"
    lines = list(lines)
    for _ in range(12):
        text = restore_text(lines)
        try:
            lab.run(host, tool, "--noflush", text=text)
            return lines
        except NattraceError as error:
            bad = _offender(str(error), text)
            if bad is None:
                break
            position = _index_of(lines, text, bad)
            if position is None:
                break
            del lines[position]
    return _one_by_one(lab, host, backend, lines)


def _offender(message: str, text: str) -> int | None:
    found = re.search(r"line:? (\d+)|line (\d+) failed", message)
    if not found:
        return None
    number = int(found[1] or found[2])
    rows = text.splitlines()
    return number if 0 < number <= len(rows) and rows[number - 1].startswith("-") else None


def _index_of(lines: list[str], text: str, number: int) -> int | None:
    """Which of ``lines`` became line ``number`` of the restore text."""
    rules = [i for i, row in enumerate(text.splitlines(), 1) if row.startswith("-")]
    return rules.index(number) if number in rules else None


def _one_by_one(lab: Lab, host: str, backend: str, lines: list[str]) -> list[str]:
    for table in ("filter", "nat", "mangle", "raw", "security"):
        if backend == "nft" or any(f"-t {table} " in line for line in lines):
            lab.run(host, f"iptables-{backend}", "-t", table, "-F", check=False)
            lab.run(host, f"iptables-{backend}", "-t", table, "-X", check=False)
    kept = []
    for line in lines:
        try:
            lab.run(host, f"iptables-{backend}-restore", "--noflush", text=restore_text([line]))
            kept.append(line)
        except NattraceError:
            continue
    return kept


def bare_topology(situation: dict[str, Any]) -> Topology:
    """The topology without rule sets (they are admitted separately), forgiving towards odd routes."""
    from dataclasses import replace

    data = situation["topology"]
    members = [m.partition(":") for segment in data["segments"].values() for m in segment]
    for name, host in data["hosts"].items():
        wired = set(host["interfaces"]) if situation.get("silent") else {d for owner, _, d in members if owner == name}
        host["sysctl"] = {**steady(host, wired), **host.get("sysctl", {})}
    topology = from_data(data)
    hosts = tuple(replace(h, iptables="", iptables_legacy="", ipset="", lenient=True) for h in topology.hosts)
    return replace(topology, hosts=hosts)


class KernelRun:
    """A built situation. ``step`` performs one operation and returns what happened."""

    def __init__(self, situation: dict[str, Any], counters: bool = True) -> None:
        self.situation = situation
        self.with_counters = counters
        try:
            self.lab = build(bare_topology(situation), unique_prefix("df"))
        except NattraceError as error:
            raise Rejected(str(error)) from None
        try:
            admit(self.lab, situation)
            self.lab.listen()
            self.wires = Wires(self.lab, set(situation.get("silent", ())), ARRIVALS, neighbour_wait=0.3)
        except BaseException:
            self.lab.down()
            raise
        self.backends = {
            name: tuple(b for key, b in (("iptables", "nft"), ("iptables-legacy", "legacy")) if host.get(key))
            for name, host in situation["topology"]["hosts"].items()
        }
        self.own = {
            h.name: {a.split()[0].partition("/")[0] for i in h.interfaces for a in i.addresses}
            for h in self.lab.topology.hosts
        }
        self.ticks = any("connlimit" in line for host in situation["topology"]["hosts"].values()
                         for line in (*host.get("iptables", ()), *host.get("iptables-legacy", ())))  # fmt: skip
        self.outlasted = 0  # connections that stand in for an unanswered connect()
        self.start: float | None = None
        self.done: dict[int, Observation] = {}

    def close(self) -> None:
        self.wires.close()
        self.lab.down()

    def __enter__(self) -> KernelRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def snapshot(self, target: Path) -> None:
        """The fresh lab as a snapshot; ``fresh`` says that nothing has happened in it yet."""
        import json

        self.lab.snapshot(target)
        for host in self.lab.topology.hosts:
            meta = target / host.name / "meta.json"
            meta.write_text(json.dumps({**json.loads(meta.read_text()), "fresh": True, **self.wires.one_cpu()}))

    def step(self, index: int, op: dict[str, Any]) -> Observation:
        """Perform one operation."""
        if op["op"] == "wait":
            time.sleep(op["seconds"])
        if op["op"] in ("wait", "skip"):
            return Observation(index, None)
        record = concrete(op, self.done, self.own)
        self.outlasted += self.wires.outlast(OUTLAST)
        if record is None or (self.outlasted and _about_tcp(record)):
            return Observation(index, None)
        if self._routed_otherwise(record) or self._from_broadcast(record) or self._floods(record):
            return Observation(index, None)
        record["id"] = index
        record.setdefault("payload", payload_of(record).hex())
        if record.get("in") is not None:
            record["ip_id"] = index + 1
            record.setdefault("mac", EDGE_MAC)
            if (record.get("len") or 0) > self._mtu(record["host"], record["in"]):
                return Observation(index, None)
        if self.start is None:
            self.start = time.monotonic()
        if self.ticks:
            next_jiffy()
        at = time.monotonic() - self.start
        try:
            result = self.wires.send(record)
        except Endless:
            return Observation(index, record, at=at, endless=True)
        if result.errno == errno.EADDRINUSE:  # bind(): a socket of an earlier operation has the port
            return Observation(index, None)
        observation = Observation(index, record, result.errno, seen=result.seen, at=at)
        _complete(record, result)
        observation.finals = _finals(record, result, self._at_edge)
        if self.with_counters:
            for host, backends in self.backends.items():
                if backends:
                    observation.counters[host] = rule_counters(self.lab, host, backends)
        self.done[index] = observation
        return observation

    def _routed_otherwise(self, record: dict[str, Any]) -> bool:
        """A segment made by hand leaves through a raw socket, whose route is looked up without ports: a rule about TCP
        ports does not see it, though it would see the same segment of a real connection."""
        if record.get("in") is not None or record.get("proto") != "tcp" or is_connect(record):
            return False
        rules = self.situation["topology"]["hosts"][record["host"]].get("rules", ())
        return any("ipproto tcp" in rule and "port " in rule for rule in rules)

    def _from_broadcast(self, record: dict[str, Any]) -> bool:
        """No TCP speaks from an address that a route makes a broadcast address: tcp_v4_conn_request() answers none."""
        if record.get("in") is not None or record.get("proto") != "tcp":
            return False
        routes = self.situation["topology"]["hosts"][record["host"]].get("routes", ())
        return any(r.split()[:2] == ["broadcast", record.get("src")] for r in routes)

    def _floods(self, record: dict[str, Any]) -> bool:
        """A frame to everybody on a wire of three: put in for one of them, it reaches the other as well."""
        if record.get("in") is None or not (
            record["dst"].startswith("255.") or 224 <= int(record["dst"].split(".")[0]) < 240
        ):
            return False
        segment = self.lab.topology.segment_of(record["host"], record["in"])
        return segment is not None and len(segment.members) > 2

    def impatient(self) -> bool:
        """Whether a connect() is so old that it may send its SYN again (TCP_TIMEOUT_INIT, one second): on a machine
        that slow the rest of a situation is no comparison."""
        return self.wires.oldest_opening() > PATIENCE

    def _mtu(self, host: str, dev: str) -> int:
        """What the wire at an interface can carry."""
        segment = self.lab.topology.segment_of(host, dev)
        members = segment.members if segment else ((host, dev),)
        return min(self.lab.topology.host(h).interface(d).mtu or 1500 for h, d in members)

    def _at_edge(self, host: str, dev: str) -> bool:
        return (host, dev) in self.lab.edge_ports

    def conntrack(self) -> dict[str, list[dict[str, Any]]]:
        """Every host's table."""
        return {h.name: conntrack_entries(self.lab, h.name) for h in self.lab.topology.hosts}


# -------------------------------------------------------------------------------- operations to records

HEADER = {6: 20, 17: 8, 1: 8, 136: 8, 132: 12, 33: 16, 50: 8, 51: 12, 47: 4}


def _about_tcp(record: dict[str, Any]) -> bool:
    """An ICMP error about a segment: it would end a connect(), and does not end what stands in for one."""
    return number_of((record.get("inner") or {}).get("proto", "icmp")) == 6


def next_jiffy() -> None:
    """Wait until a jiffy begins: connlimit tidies up once in each, so that two packets must not share one, nor what
    one packet causes be cut in two by a tick. The coarse clock is advanced by the tick."""
    for _ in range(2):
        before = time.clock_gettime_ns(MONOTONIC_COARSE)
        while time.clock_gettime_ns(MONOTONIC_COARSE) == before:
            time.sleep(0.0001)


def payload_of(record: dict[str, Any]) -> bytes:
    """The bytes after the transport header: a pattern, so that rules that look inside have something to find."""
    proto = number_of(record.get("proto", "icmp"))
    if record.get("inner") is not None or (proto == 6 and record.get("in") is None and is_connect(record)):
        return b""  # an error quotes its packet; a SYN of connect() is all options
    head = 20 + HEADER.get(proto, 0) + (4 if proto == 6 and record.get("mss") is not None else 0)
    size = max((record.get("len") or 0) - head, 0)
    start = SCTP_INIT[:size] if proto == 132 else b""
    return start + bytes(65 + i % 26 for i in range(size - len(start)))


def refer(op: dict[str, Any], done: dict[int, Observation]) -> int:
    """The number of the operation that ``of`` or ``back`` means; -1 when there is none. Resolved in place, so that a
    situation that was run names its references by number."""
    if "of" not in op:
        fit = [
            o.index
            for o in done.values()
            if o.record is not None and (op["op"] == "again" or any(f.main for f in o.finals))
        ]
        back = op.pop("back", 0)
        op["of"] = fit[-1 - back] if len(fit) > back else fit[0] if fit else -1
    return int(op["of"])


def concrete(op: dict[str, Any], done: dict[int, Observation], own: dict[str, set[str]]) -> dict[str, Any] | None:
    """The record of an operation, given what earlier packets became; None when it cannot be made. ``own``: the
    addresses of each host."""
    if op["op"] == "send":
        return dict(op["record"])
    base = done.get(refer(op, done))
    if base is None or base.record is None:
        return None
    if op["op"] == "again":
        return _again(base.record, op.get("change", {}))
    final = next((f for f in base.finals if f.main), None)
    if final is None:
        return None
    if op["op"] == "open":
        return _open(final, op["kind"])
    if op["op"] == "reply":
        return _reply(final, op, own)
    return _error(final, op)


def _again(record: dict[str, Any], change: dict[str, Any]) -> dict[str, Any] | None:
    out = {k: v for k, v in record.items() if k not in ("id", "ip_id", "observed", "payload")}
    if out.get("in") is None and out.get("proto") == "tcp" and is_connect(record):
        out["tos"] = out.get("tos", 0) & 0xFC
        change = {k: v for k, v in change.items() if k != "tos"}
    for key, value in change.items():
        if key in ("sport", "dport") and key not in out:
            continue
        if key == "flags" and (out.get("proto") != "tcp" or (out.get("in") is None and not out.get("src"))):
            continue  # a raw segment needs to know its source for the checksum
        out[key] = value
    if out.get("proto") == "tcp" and out.get("in") is None:
        if is_connect(out):
            out["len"] = SYN
            for key in ("tcp_seq", "tcp_ack", "window", "mss"):
                out.pop(key, None)
            out["df"] = True
        elif is_connect(record):
            out.update(len=40, tcp_seq=(record.get("tcp_seq", 0) + 1) & 0xFFFFFFFF)
            out.pop("mss", None)
    return out


def _reply(final: Final, op: dict[str, Any], own: dict[str, set[str]]) -> dict[str, Any] | None:
    """The natural answer to a packet, from the place where it ended."""
    packet = final.packet
    if packet.get("frag") is not None or packet["src"] == "0.0.0.0":
        return None
    out: dict[str, Any] = {"host": final.host, "in": final.dev if final.kind == "left" else None}
    out.update(
        src=packet["dst"],
        dst=packet["src"],
        proto=packet["proto"],
        ttl=64,
        tos=packet["tos"] & 0x1C,
        df=packet["proto"] == "tcp",
    )
    if final.kind == "arrived":
        if (
            packet["dst"].startswith("255.")
            or packet["dst"].endswith(".255")
            or int(packet["dst"].split(".")[0]) >= 224
        ):
            return None
        out["uid"] = 0
    proto = number_of(packet["proto"])
    if "sport" in packet:
        out["sport"], out["dport"] = packet["dport"], packet["sport"]
    if proto == 17:
        out["len"] = 28 + 12
    elif proto == 6:
        out.update(_tcp_answer(packet))
        if "flags" in op:
            out["flags"] = op["flags"]
        if out["flags"] is None:
            return None
        out["len"] = 40 + (20 if "P" in out["flags"] else 0)
        if "say" in op:
            words = op["say"].format(me=out["src"].replace(".", ","), dotted=out["src"]).encode()
            out.update(flags="PA", len=40 + len(words), payload=words.hex())
        if final.kind == "arrived" and out["flags"] == "S":
            return None  # a raw SYN of a local process: connect() is the form that is compared
    elif proto == 1:
        if packet.get("type") not in (8, 13, 15, 17):
            return None
        out.update(
            type={8: 0, 13: 14, 15: 16, 17: 18}[packet["type"]],
            code=0,
            icmp_id=packet["icmp_id"],
            seq=packet["seq"],
            len=packet["len"],
        )
    elif proto in (50, 51):
        out.update(spi=packet.get("spi", 1), len=packet["len"])
    elif proto in (33, 132, 136):
        out["len"] = packet["len"]
    else:
        out["len"] = 24 if proto != 47 else 44
    return out


_ANNOUNCED = re.compile(
    rb"(?:PORT|227)\D*(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)|229 .*\(\|\|\|(\d+)\||EPRT \|1\|([\d.]+)\|(\d+)\|"
)


def _open(final: Final, kind: str) -> dict[str, Any] | None:
    """The connection that a packet announces, from the place where it ended: ftp's data connection, tftp's data."""
    packet = final.packet
    if final.kind != "left" or packet.get("frag") is not None or "sport" not in packet:
        return None
    out = {"host": final.host, "in": final.dev, "src": packet["dst"], "ttl": 64, "tos": 0}
    if kind == "tftp":
        return {
            **out,
            "dst": packet["src"],
            "proto": "udp",
            "sport": 5001,
            "dport": packet["sport"],
            "len": 40,
            "df": False,
        }
    found = _ANNOUNCED.search(final.data)
    if found is None:
        return None
    n = [int(x) if x is not None and x.isdigit() else 0 for x in found.groups()]
    address = found[8].decode() if found[8] else packet["src"] if found[7] else ".".join(map(str, n[:4]))
    port = n[8] if found[8] else n[6] if found[7] else n[4] << 8 | n[5]
    if any(int(part) > 255 for part in address.split(".")):
        return None
    active = packet["dport"] == 21
    return {**out, "dst": address, "proto": "tcp", "flags": "S", "sport": 20 if active else 41000, "dport": port & 0xFFFF,
            "tcp_seq": 70000, "len": 40, "df": True}  # fmt: skip


def _tcp_answer(packet: dict[str, Any]) -> dict[str, Any]:
    """The peer's next segment: RFC 9293's natural answer."""
    flags = packet.get("flags", "")
    data = packet["len"] - 40 - (4 if packet.get("mss") and packet["len"] == 44 else 0)
    if "S" in flags:
        data = 0
    size = max(data, 0) + ("S" in flags) + ("F" in flags)
    answer = {"S": "SA", "SA": "A", "A": "PA", "FA": "FA", "F": "FA", "PA": "A"}.get(flags)
    sequence = packet["tcp_ack"] if "A" in flags else 7000
    return {"flags": answer, "tcp_seq": sequence, "tcp_ack": (packet["tcp_seq"] + size) & 0xFFFFFFFF, "window": 60000}


def _error(final: Final, op: dict[str, Any]) -> dict[str, Any] | None:
    """An ICMP error about a packet, from the place where it left."""
    packet = final.packet
    if final.kind != "left" or "inner" in packet or packet.get("frag") is not None:
        return None
    inner = {k: v for k, v in packet.items() if k not in ("ip_id", "frag", "mf")}
    if inner.get("mss") is None:
        inner.pop("mss", None)
    inner["payload"] = payload_of({**inner, "in": final.dev}).hex()
    out = {"host": final.host, "in": final.dev, "proto": "icmp", "type": op["type"], "code": op["code"], "inner": inner,
           "ttl": 63, "src": op.get("from") or packet["dst"], "dst": packet["src"], "tos": 0xC0, "df": False}  # fmt: skip
    if (op["type"], op["code"]) == (3, 4):
        out["mtu"] = 1300
    out["len"] = 28 + min(packet["len"], 548)
    return out


# ------------------------------------------------------------------------------------------ what happened


def _complete(record: dict[str, Any], result: Result) -> None:
    """Write into a local record what the kernel alone chose: a connect()'s sequence number and window."""
    if record.get("in") is None and is_connect(record):
        for seen in result.seen:
            if seen.packet.get("flags") in ("S", "SEC") and seen.direction == "out" and seen.host == record["host"]:
                record.update(tcp_seq=seen.packet["tcp_seq"], window=seen.packet["window"], mss=seen.packet["mss"])
                return


def _main_id(record: dict[str, Any], result: Result) -> int | None:
    """The identification field of the packet itself; answers have others."""
    if record.get("in") is not None:
        return record["ip_id"]
    proto = number_of(record.get("proto", "icmp"))
    for seen in result.seen:
        if seen.direction != "out" or seen.host != record["host"] or number_of(seen.packet["proto"]) != proto:
            continue
        if ("inner" in seen.packet) != ("inner" in record):
            continue
        if proto == 6 and "R" in seen.packet.get("flags", "") and "R" not in (record.get("flags") or "S"):
            continue
        return seen.packet["ip_id"]
    return None


def _finals(record: dict[str, Any], result: Result, at_edge: Callable[[str, str], bool]) -> list[Final]:
    """Ends of every packet seen: out of an edge, or delivered."""
    main = _main_id(record, result)
    proto = number_of(record.get("proto", "icmp"))
    out = []
    for seen in result.seen:
        kind = (
            "arrived"
            if seen.direction == "arrived"
            else "left"
            if seen.direction == "out" and at_edge(seen.host, seen.dev)
            else None
        )
        if kind is None:
            continue
        packet = seen.packet
        is_main = main is not None and packet["ip_id"] == main and number_of(packet["proto"]) == proto
        if is_main and ("inner" in packet) != ("inner" in record):
            is_main = False
        out.append(Final(kind, seen.host, seen.dev, packet, is_main, seen.data))
    return out
