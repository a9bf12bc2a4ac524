"""What the local page of ``nattrace view`` asks: answers with and without changes, and tables of the snapshot. Read-only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from threading import Lock
from typing import Any

from nattrace.sim.errors import InputError
from nattrace.sim.model.addr import AF_INET
from nattrace.sim.model.world import World

PAGE_ROWS = 100
KINDS = ("set", "add", "insert", "delete", "route", "rule")
MOST_EDITS, LONGEST = 50, 4000


class Desk:
    """One snapshot. Questions are answered one at a time: they are the work of one processor."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self._lock = Lock()

    def why(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The answer as the page's HTML; with changes also the one without them. Raises InputError, FlowError."""
        flow, edits, flush = _checked(asked)
        with self._lock:
            return self._why(flow, edits, flush)

    def _why(self, flow: str, edits: dict[str, tuple[str, ...]], flush: bool) -> dict[str, Any]:
        from nattrace.sim.explain.answer import explain
        from nattrace.sim.explain.whatif import apply_all, parse_edits
        from nattrace.sim.flow import parse_flow
        from nattrace.sim.render.html import answer

        question = parse_flow(flow, self.world)
        changes = parse_edits(self.world, {**edits, "conntrack_flush": flush}, question.host)
        found = explain(self.world, question)
        result: dict[str, Any] = {
            "schema": "nattrace/view/1",
            "now": answer(found, "now"),
            "then": None,
            "commands": [],
        }
        if changes:
            world = apply_all(self.world, changes)
            result["then"] = answer(explain(world, parse_flow(flow, world)), "then")
            result["commands"] = [f"{e.host}: {c}" for e in changes for c in e.commands()]
        return result

    def table(self, name: str, text: str, offset: int) -> dict[str, Any]:
        """A page of rows that contain a text, from ``offset`` on."""
        from nattrace.sim.tables import TABLES

        own = {"hosts": (_hosts, HOSTS), "policy": (_policies, POLICY), "sysctl": (_sysctls, SYSCTL)}
        if name not in (*own, *TABLES):
            raise InputError(f"no table {name[:40]!r}", remedy=f"one of: {', '.join((*own, *TABLES))}")
        make, columns = (own | TABLES)[name]
        with self._lock:
            rows = list(islice(_matching(make(self.world), text.lower()), offset, offset + PAGE_ROWS + 1))
        shown = [[_cell(row.get(c)) for c in columns] for row in rows[:PAGE_ROWS]]
        return {
            "columns": list(columns),
            "rows": shown,
            "offset": offset,
            "more": len(rows) > PAGE_ROWS,
        }


def _checked(asked: Any) -> tuple[str, dict[str, tuple[str, ...]], bool]:
    """A question's parts, of the right types and sizes."""
    if not isinstance(asked, dict) or not isinstance(asked.get("flow"), str):
        raise InputError("a question has a flow", remedy='{"flow": "10.0.0.1 -> 8.8.8.8", "edits": []}')
    edits = asked.get("edits", [])
    if not isinstance(edits, list) or len(edits) > MOST_EDITS:
        raise InputError(f"edits: expected a list of at most {MOST_EDITS}")
    found: dict[str, tuple[str, ...]] = {}
    for edit in edits:
        kind, text = (edit.get("kind"), edit.get("text")) if isinstance(edit, dict) else (None, None)
        if kind not in KINDS or not isinstance(text, str):
            raise InputError("an edit has a kind and a text", remedy=f"kinds: {', '.join(KINDS)}")
        if len(text) > LONGEST:
            raise InputError(f"an edit of more than {LONGEST} characters")
        found[kind] = (*found.get(kind, ()), text)
    if len(asked["flow"]) > LONGEST:
        raise InputError(f"a flow of more than {LONGEST} characters")
    return asked["flow"], found, bool(asked.get("flush", False))


def _matching(rows: Iterable[dict[str, Any]], text: str) -> Iterator[dict[str, Any]]:
    return (row for row in rows if not text or any(text in str(v).lower() for v in row.values() if v is not None))


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


HOSTS = ("host", "interface", "address", "up", "mtu", "segment")
POLICY = ("host", "family", "rule")
SYSCTL = ("host", "name", "value", "where")


def _hosts(world: World) -> Iterator[dict[str, Any]]:
    from nattrace.sim.tables import addresses

    for row in addresses(world):
        segment = world.segment_of(row["host"], row["interface"])
        yield {**row, "segment": "edge of the known world" if segment is None else segment.name}


def _policies(world: World) -> Iterator[dict[str, Any]]:
    from nattrace.sim.engine.fib_rules import table_name
    from nattrace.sim.engine.routing_words import rule_words

    for host in world.hosts.values():
        for family, rules in host.rules.items():
            for rule in rules:
                action = f"lookup {table_name(rule.table)}" if rule.action == "table" else rule.action
                yield {
                    "host": host.name,
                    "family": 4 if family == AF_INET else 6,
                    "rule": f"{rule_words(rule)} {action}",
                }


def _sysctls(world: World) -> Iterator[dict[str, Any]]:
    for host in world.hosts.values():
        for name, setting in sorted(host.sysctl.items()):
            yield {"host": host.name, "name": name, "value": setting.value, "where": str(setting.where or "")}
