"""Rows of a snapshot's rules, routes, addresses, entries and sockets, and of answers: what DataFrames are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .model.addr import AF_INET, format_addr
from .model.route import Nexthop
from .model.world import World

Row = dict[str, Any]

RULES = ("host", "backend", "table", "chain", "rule", "text", "packets", "bytes", "where")
ROUTES = ("host", "family", "table", "prefix", "type", "nexthops", "metric", "where")
ADDRESSES = ("host", "interface", "family", "address", "secondary", "mac", "mtu", "up")
CONNTRACK = (
    "host", "entry", "proto", "src", "sport", "dst", "dport", "reply_src", "reply_sport", "reply_dst", "reply_dport", "zone",
    "status", "mark", "timeout", "where",
)  # fmt: skip
SOCKETS = ("host", "proto", "state", "local", "port", "where")
STEPS = (
    "phase", "hop", "host", "in", "out", "hook", "stage", "table", "chain", "rule", "text", "where", "matched", "verdict",
    "changes", "conntrack", "note",
)  # fmt: skip
PACKETS = (
    "id",
    "host",
    "outcome",
    "certainty",
    "reason",
    "at",
    "interface",
    "proto",
    "src",
    "sport",
    "dst",
    "dport",
    "text",
)


def rules(world: World) -> Iterator[Row]:
    """Every iptables rule, in evaluation order of its chain."""
    for host in world.hosts.values():
        for table in host.tables:
            for rule in table.all_rules():
                packets, size = rule.counters or (None, None)
                yield {
                    "host": host.name, "backend": table.backend, "table": table.name, "chain": rule.rule_id.chain,
                    "rule": rule.rule_id.index, "text": rule.text, "packets": packets, "bytes": size,
                    "where": str(rule.where or ""),
                }  # fmt: skip


def routes(world: World) -> Iterator[Row]:
    """Every route of every table."""
    for host in world.hosts.values():
        for (family, table), found in host.routes.items():
            for r in found:
                legs = [_leg(n) for n in r.nexthops]
                yield {
                    "host": host.name, "family": 4 if family == AF_INET else 6, "table": table, "prefix": str(r.prefix),
                    "type": r.type, "nexthops": "; ".join(legs), "metric": r.metric, "where": str(r.where or ""),
                }  # fmt: skip


def _leg(nexthop: Nexthop) -> str:
    via = "" if nexthop.via is None else f"via {format_addr(nexthop.via_family, nexthop.via)} "
    return f"{via}dev {nexthop.dev}"


def addresses(world: World) -> Iterator[Row]:
    """Every address, beside its interface's link."""
    for host in world.hosts.values():
        for a in host.addresses:
            link = host.links.get(a.dev)
            mac = None if link is None or link.mac is None else link.mac.to_bytes(6, "big").hex(":")
            yield {
                "host": host.name, "interface": a.dev, "family": 4 if a.family == AF_INET else 6,
                "address": f"{format_addr(a.family, a.local)}/{a.plen}", "secondary": a.secondary, "mac": mac,
                "mtu": link.mtu if link else None, "up": link.up if link else None,
            }  # fmt: skip


def conntrack(world: World) -> Iterator[Row]:
    """Every entry of the connection tables, both tuples taken apart."""
    from .engine.conntrack import entry_text, tuple_json

    for host in world.hosts.values():
        for c in host.conns:
            there, back = (tuple_json(t) for t in c.tuples)
            yield {
                "host": host.name, **_ends(there, ""), **_ends(back, "reply_"), "proto": there["proto"], "zone": c.zones[0],
                "status": " ".join(c.status_names()), "mark": c.mark, "timeout": c.timeout_at, "entry": entry_text(c),
                "where": str(c.where or ""),
            }  # fmt: skip


def _ends(t: dict[str, Any], prefix: str) -> Row:
    return {f"{prefix}{key}": t.get(key) for key in ("src", "sport", "dst", "dport")}


def sockets(world: World) -> Iterator[Row]:
    """Every socket of the hosts whose snapshot has them."""
    for host in world.hosts.values():
        for s in host.sockets or ():
            address = "*" if s.local is None else format_addr(s.family, s.local)
            yield {
                "host": host.name, "proto": s.proto, "state": s.state, "local": address, "port": s.lport,
                "where": str(s.where or ""),
            }  # fmt: skip


def steps(document: dict[str, Any]) -> Iterator[Row]:
    """Every step of both directions of a ``why`` document."""
    for phase, result in (("forward", document), ("reply", document.get("reply"))):
        for number, hop in enumerate(result["hops"] if result else (), 1):
            for step in hop["steps"]:
                yield {"phase": phase, "hop": number, "host": hop["host"], "in": hop["in"], "out": hop["out"], **step}


def packets(results: Iterable[dict[str, Any]]) -> Iterator[Row]:
    """One row for each result of ``simulate``: how it ended, and the packet as it was then."""
    for r in results:
        at, packet = r["at"] or {}, r["packet"] or {}
        entry = r["hops"][0]["host"] if r["hops"] else at.get("host")
        yield {
            "id": r.get("id"), "host": entry, "outcome": r["outcome"], "certainty": r["certainty"],
            "reason": r["reason"]["code"], "at": at.get("host"), "interface": at.get("interface"),
            **{key: packet.get(key) for key in ("proto", "src", "sport", "dst", "dport")}, "text": r["reason"]["text"],
        }  # fmt: skip


TABLES = {
    "rules": (rules, RULES),
    "routes": (routes, ROUTES),
    "addresses": (addresses, ADDRESSES),
    "conntrack": (conntrack, CONNTRACK),
    "sockets": (sockets, SOCKETS),
}
