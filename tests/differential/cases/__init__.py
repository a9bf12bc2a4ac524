"""Situations made by hand: what is known about NAT, connection tracking, routing and hooks, one claim a case.

A case is a situation of the generator's form (see ``differential/generator.py``) with two more things: an operation
``{"op": "snapshot", "run": [[host, command …] …]}`` where everything before it has happened already when the snapshot
is taken (and the commands have changed the host since), and ``expect``: what the kernel is known to do, as
{number of the operation: text that the ends of its packets contain}.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Op = dict[str, Any]

STATES = ("NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED")


@dataclass(frozen=True, slots=True)
class Case:
    """One claim, or a few that share a laboratory. ``undecided``: what decides it is in no dump; the truth is one of
    the answers."""

    name: str
    hosts: dict[str, dict[str, Any]]
    packets: list[Op]
    expect: dict[int, str] = field(default_factory=dict)
    segments: dict[str, list[str]] = field(default_factory=dict)
    undecided: bool = False

    def situation(self) -> dict[str, Any]:
        """As ``runner.run`` takes it."""
        topology = {"segments": self.segments, "hosts": self.hosts}
        return {"topology": topology, "silent": [], "packets": self.packets}


def host(
    interfaces: dict[str, str | list[str]],
    *rules: str,
    routes: tuple[str, ...] = (),
    policy: tuple[str, ...] = (),
    sysctl: dict[str, Any] | None = None,
    listen: tuple[str, ...] = (),
    legacy: tuple[str, ...] = (),
    neighbours: tuple[str, ...] = (),
) -> dict[str, Any]:
    """A host that forwards. ``rules``: arguments of iptables; ``legacy``: of iptables-legacy; ``policy``: of ip rule."""
    # a busy machine answers late; what is asked in vain is still known before the laboratory stops waiting
    patience = {f"net.ipv4.neigh.{dev}.retrans_time_ms": 60 for dev in interfaces}
    addresses = {k: {"addresses": [v] if isinstance(v, str) else v} for k, v in interfaces.items()}
    return {
        "interfaces": addresses, "routes": list(routes), "rules": list(policy), "nexthops": [], "neighbours": list(neighbours),
        "sysctl": {"net.ipv4.ip_forward": 1, **patience, **(sysctl or {})}, "iptables": list(rules), "iptables-legacy": list(legacy),
        "ipset": [], "listen": list(listen),
    }  # fmt: skip


def gateway(*rules: str, lan: str | list[str] = "192.168.1.1/24", **more: Any) -> dict[str, Any]:
    """``g``: a LAN on eth0, an uplink with two addresses on eth1."""
    more.setdefault("routes", ("default via 10.0.0.2",))
    return {"g": host({"eth0": lan, "eth1": ["10.0.0.1/24", "10.0.0.3/24"]}, *rules, **more)}


def states(chain: str, table: str = "mangle", *more: str) -> tuple[str, ...]:
    """A counting rule for every conntrack state of a chain."""
    extra = " ".join(more)
    return tuple(f"-t {table} -A {chain} {extra} -m conntrack --ctstate {s}" for s in STATES)


def _record(at: str, proto: str, src: str | None, dst: str, **more: Any) -> dict[str, Any]:
    name, _, dev = at.partition(":")
    source, _, sport = (src or "").partition(":")
    target, _, dport = dst.partition(":")
    record: dict[str, Any] = {
        "host": name,
        "in": dev or None,
        "src": source or None,
        "dst": target,
        "proto": proto,
        "ttl": 64,
        "tos": 0,
    }
    if dport:
        record.update(sport=int(sport or 4000), dport=int(dport))
    if not dev:
        record["uid"] = 0
    record.update(more)
    return record


def udp(at: str, src: str | None, dst: str, **more: Any) -> Op:
    """``udp("g:eth0", "192.168.1.10:4000", "9.9.9.9:53")``; ``"g"`` alone: sent by a process of g."""
    size = len(more.get("payload", "")) // 2
    return {"op": "send", "record": _record(at, "udp", src, dst, **{"len": 28 + size, "df": False, **more})}


def tcp(
    at: str,
    src: str | None,
    dst: str,
    flags: str = "S",
    seq: int = 1000,
    ack: int = 0,
    data: int | bytes = 0,
    **more: Any,
) -> Op:
    """A segment with ``data`` bytes of payload; a local SYN is a connect()."""
    record = _record(at, "tcp", src, dst, **{"flags": flags, "df": True, **more})
    if isinstance(data, bytes):
        record["payload"] = data.hex()
        data = len(data)
    if record["in"] is None and flags == "S":
        record["len"] = 44
    else:
        record.update(tcp_seq=seq, tcp_ack=ack, window=more.get("window", 65000), len=40 + data)
    return {"op": "send", "record": record}


def ping(at: str, src: str | None, dst: str, id: int = 7, seq: int = 1, **more: Any) -> Op:
    """An echo request, or another type."""
    fields = {"type": 8, "code": 0, "icmp_id": id, "seq": seq, "len": 28, "df": False, **more}
    return {"op": "send", "record": _record(at, "icmp", src, dst, **fields)}


def proto(at: str, number: str, src: str | None, dst: str, **more: Any) -> Op:
    """Any other protocol."""
    size = {"udplite": 40, "sctp": 52, "dccp": 36, "esp": 28, "ah": 32, "gre": 24}.get(number, 28)
    return {"op": "send", "record": _record(at, number, src, dst, **{"len": size, "df": False, **more})}


def reply(of: int, **more: Any) -> Op:
    """The natural answer to operation ``of``."""
    return {"op": "reply", "of": of, **more}


def error(of: int, type: int = 3, code: int = 1, source: str | None = None) -> Op:
    """An ICMP error about operation ``of``."""
    return {"op": "error", "of": of, "type": type, "code": code, "from": source}


def again(of: int, **change: Any) -> Op:
    """Operation ``of`` once more, some fields changed."""
    return {"op": "again", "of": of, "change": change}


def wait(seconds: float) -> Op:
    """Let time pass."""
    return {"op": "wait", "seconds": seconds}


def snapshot(*commands: str) -> Op:
    """Here the snapshot is taken; ``commands``: ``"g ip route replace …"`` run before it."""
    return {"op": "snapshot", "run": [c.split() for c in commands]}


class Talk:
    """Both ends of one TCP conversation through ``g``: ``c`` says something on eth0, ``s`` on eth1."""

    def __init__(self, port: int = 4000, client: str = "192.168.1.10", server: str = "10.0.0.2") -> None:
        self.client, self.server = f"{client}:{port}", f"{server}:80"

    def c(self, flags: str, seq: int = 0, ack: int = 0, data: int = 0, **more: Any) -> Op:
        return tcp("g:eth0", self.client, self.server, flags, seq, ack, data, **more)

    def s(self, flags: str, seq: int = 0, ack: int = 0, data: int = 0, **more: Any) -> Op:
        return tcp("g:eth1", self.server, self.client, flags, seq, ack, data, **more)

    def handshake(self) -> list[Op]:
        """Sequence numbers 1000 and 5000."""
        return [self.c("S", 1000), self.s("SA", 5000, 1001), self.c("A", 1001, 5001)]
