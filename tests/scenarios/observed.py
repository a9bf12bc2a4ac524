"""The kernel as a judge: a case really sent through namespaces, captured at every interface.

Nothing is made steadier than in life: hosts answer echo requests, send redirects, keep their rate limits, and wait
for neighbours as long as they do. What no stack answers (a silent listener, the edge of the lab) is answered here.
"""

from __future__ import annotations

import time
from typing import Any

from lab_support import conntrack_entries, rule_counters, unique_prefix
from nattrace.tracer.lab.build import Lab, build
from nattrace.tracer.lab.io import Wires, is_connect
from nattrace.tracer.lab.topology import from_data

from ..differential.compare import entry_key, merge_fragments
from ..differential.kernel import ARRIVALS, Final, Observation
from .evidence import Command, Evidence
from .stages import STAGES, live_through

ECHO, ECHOREPLY = 8, 0


class Bench:
    """A stage built in namespaces, and what was seen of it."""

    def __init__(self, stage: str) -> None:
        self.lab = build(from_data(STAGES[stage].data, stage), unique_prefix("sc"))
        try:
            self.lab.listen()
            self.wires = Wires(self.lab, arrivals=ARRIVALS)
            live_through(STAGES[stage], self.lab, self.wires)
            if STAGES[stage].history:  # what is counted begins with the capture
                for host in self.lab.topology.hosts:
                    zero_counters(self.lab, host.name)
        except BaseException:
            self.lab.down()
            raise
        self.evidence = Evidence()
        self.start: float | None = None
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.changed = bool(STAGES[stage].history)
        self.ruled: set[str] = set()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take everything down."""
        self.wires.close()
        self.lab.down()

    @property
    def now(self) -> float:
        """Seconds since the first packet."""
        return 0.0 if self.start is None else time.monotonic() - self.start

    def type(self, command: Command) -> None:
        """Run what the administrator types."""
        self.changed = True
        self.ruled.add(command.host)
        self.lab.run(command.host, *command.text.split())

    @property
    def reusable(self) -> bool:
        """Whether :meth:`forget` gives a bench like a new one: nobody has changed its configuration, and no ICMP error has
        used up a rate limit or taught a host a route."""
        return not self.changed and not any("inner" in f.packet for f in self.evidence.captures)

    def forget(self) -> None:
        """Empty what the hosts remember: entries, counters, neighbours, the senders' sockets."""
        for sock in self.wires.kept:
            sock.close()
        self.wires.kept.clear()
        self.wires.connections.clear()
        for host in self.lab.topology.hosts:
            self.lab.run(host.name, "ip", "neigh", "flush", "all")
            if self.filters(host.name):
                self.lab.run(host.name, "conntrack", "-F")
                zero_counters(self.lab, host.name)
        self.evidence, self.start = Evidence(), None

    def filters(self, host: str) -> bool:
        """Whether a host has rules, and so may count and track."""
        return bool(self.lab.topology.host(host).iptables) or host in self.ruled

    def exchange(self, record: dict[str, Any]) -> tuple[Observation, Observation | None]:
        """Send a packet; give it the natural answer where nobody in the lab answers by himself."""
        first = self.step(record)
        self.evidence.errnos.append(first.errno)
        main = next((f for f in first.finals if f.main), None)
        if main is None or stack_answered(first):
            return first, None
        reply = natural_answer(main)
        return first, self.step(reply) if reply is not None else None

    def step(self, record: dict[str, Any]) -> Observation:
        """One packet and everything that it causes."""
        record = dict(record)
        if record.get("in") is not None:
            record["ip_id"] = 7
        if self.start is None:
            self.start = time.monotonic()
        at = self.now
        result = self.wires.send(record)
        observation = Observation(0, record, result.errno, seen=result.seen, at=at)
        self._complete(observation)
        self._ends(observation)
        self.evidence.captures += captures(observation)
        return observation

    def _complete(self, observation: Observation) -> None:
        """What the kernel alone chose of a connect(): its sequence number and window."""
        record = observation.record or {}
        if record.get("in") is None and is_connect(record):
            for seen in observation.seen:
                if seen.packet.get("flags") == "S":
                    record.update({key: seen.packet[key] for key in ("tcp_seq", "window", "mss")})
                    return

    def _ends(self, observation: Observation) -> None:
        """Where the packet itself ended; its identification field tells it from answers."""
        record = observation.record or {}
        ident = record.get("ip_id")
        if record.get("in") is None:
            ident = next(
                (s.packet["ip_id"] for s in observation.seen if s.direction == "out" and s.host == record["host"]), None
            )
        for seen in observation.seen:
            leaves = seen.direction == "out" and (seen.host, seen.dev) in self.lab.edge_ports
            if leaves or seen.direction == "arrived":
                main = seen.packet["ip_id"] == ident and ("inner" in seen.packet) == ("inner" in record)
                observation.finals.append(
                    Final("left" if leaves else "arrived", seen.host, seen.dev, seen.packet, main)
                )

    def finish(self) -> Evidence:
        """Counters and tables at the end."""
        for host in self.lab.topology.hosts:
            if self.filters(host.name):
                counters = rule_counters(self.lab, host.name)
                self.evidence.counters[host.name] = {
                    (t, c, n): packets for (_, t, c, n), (packets, _) in counters.items() if n
                }
                self.tables[host.name] = self.conntrack(host.name)
                self.evidence.entries[host.name] = [entry_key(e) for e in self.tables[host.name]]
        return self.evidence

    def conntrack(self, host: str) -> list[dict[str, Any]]:
        """A host's table as ``conntrack -L`` prints it, parsed."""
        return conntrack_entries(self.lab, host)


def zero_counters(lab: Lab, host: str) -> None:
    """All rule counters of a host to 0, entries of chains left as they are."""
    text = lab.run(host, "iptables-nft-save")
    for table in {line[1:] for line in text.splitlines() if line.startswith("*")}:
        lab.run(host, "iptables-nft", "-t", table, "-Z")


class Benches:
    """The bench of the stage asked for last, used again while it is as good as new."""

    def __init__(self) -> None:
        self.stage, self.bench = "", None  # type: tuple[str, Bench | None]

    def of(self, stage: str) -> Bench:
        if self.bench is not None and (self.stage != stage or not self.bench.reusable):
            self.close()
        if self.bench is None:
            self.stage, self.bench = stage, Bench(stage)
        else:
            self.bench.forget()
        return self.bench

    def close(self) -> None:
        if self.bench is not None:
            self.bench.close()
        self.bench = None


def stack_answered(observation: Observation) -> bool:
    """Whether a stack has answered: an echo reply, a reset, an ICMP error."""
    main = next((f for f in observation.finals if f.main), None)
    return main is not None and any(
        s.direction == "out" and s.host == main.host and s.packet["src"] == main.packet["dst"] for s in observation.seen
    )


def natural_answer(end: Final) -> dict[str, Any] | None:
    """What the receiver would answer, as a record from the place where the packet ended; None where nothing would."""
    packet = end.packet
    if packet.get("frag") is not None:
        return None
    record: dict[str, Any] = {"host": end.host, "in": end.dev if end.kind == "left" else None, "proto": packet["proto"],
                              "src": packet["dst"], "dst": packet["src"], "ttl": 64, "df": False, "len": packet["len"]}  # fmt: skip
    if packet["proto"] == "icmp" and packet["type"] == ECHO:
        return {**record, "type": ECHOREPLY, "code": 0, "icmp_id": packet["icmp_id"], "seq": packet["seq"]}
    if packet["proto"] == "udp":
        return {**record, "sport": packet["dport"], "dport": packet["sport"]}
    if packet["proto"] == "tcp" and packet["flags"] == "S":
        return {**record, "sport": packet["dport"], "dport": packet["sport"], "flags": "SA", "df": True, "len": 44, "mss": 1460,
                "tcp_seq": 7000, "tcp_ack": packet["tcp_seq"] + 1 & 0xFFFFFFFF, "window": 60000}  # fmt: skip
    return None


def captures(observation: Observation) -> list[Final]:
    """Everything the taps saw, fragments put together."""
    return merge_fragments([Final(s.direction, s.host, s.dev, s.packet, True) for s in observation.seen])
