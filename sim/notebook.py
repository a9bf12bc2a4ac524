"""The public Python API: load a snapshot, ask why, try changes, look at tables. pandas only where it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import InputError, MissingFacility
from .model.world import World


def load(path: str | Path, *, strict: bool = False, **single_files: str | Path) -> Snapshot:
    """A snapshot: directory, archive, or name of a bundled one. Single dumps as keywords: ``sysctl="sysctl.txt"``."""
    from .snapshot.load import load_world

    files = {kind.replace("_", "-"): file for kind, file in single_files.items()}
    return Snapshot(load_world(path, strict=strict, single_files=files or None))


def _frame(rows: list[dict[str, Any]], columns: Iterable[str]) -> Any:
    try:
        import pandas
    except ImportError:
        raise MissingFacility("pandas is not installed", remedy="pip install 'nattrace[notebook]'") from None
    return pandas.DataFrame(rows, columns=list(columns))


class Snapshot:
    """Hosts as they were captured, possibly with changes. Immutable: :meth:`with_` returns another one."""

    def __init__(self, world: World, edits: tuple[str, ...] = ()) -> None:
        self._world = world
        self.edits = edits

    @property
    def hosts(self) -> list[str]:
        """Names of the hosts."""
        return list(self._world.hosts)

    @property
    def notes(self) -> list[str]:
        """What was assumed or ignored while reading."""
        return list(self._world.notes)

    def __repr__(self) -> str:
        changed = f", changed by {len(self.edits)}" if self.edits else ""
        return f"<Snapshot of {', '.join(self.hosts)}{changed}>"

    def why(
        self,
        flow: str,
        *,
        expect: str | Iterable[str] = (),
        fixes: bool = True,
        sample: int | None = None,
        **whatif: Any,
    ) -> Result:
        """What happens to ``flow`` and why. ``whatif``: as the command line: ``set``, ``add``, ``insert``, ``delete``,
        ``route``, ``rule``, ``without`` (a text or several) and ``conntrack_flush=True``. Raises FlowError.
        """
        from .explain.answer import explain
        from .explain.parts import SAMPLE
        from .flow import parse_flow

        wanted = (expect,) if isinstance(expect, str) else tuple(expect)
        question = parse_flow(flow, self._world)
        changed = self.with_(default_host=question.host, **whatif) if whatif else self
        if whatif:
            question = parse_flow(flow, changed._world)
        found = explain(
            changed._world, question, expect=wanted, fixes=fixes, sample=SAMPLE if sample is None else sample
        )
        if whatif:
            found.before = explain(self._world, parse_flow(flow, self._world), fixes=False)
            found.edits = list(changed.edits[len(self.edits) :])
        return Result(found)

    def with_(self, *, default_host: str | None = None, **whatif: Any) -> Snapshot:
        """The snapshot with changes applied; keywords as in :meth:`why`."""
        from .explain.whatif import apply_all, parse_edits

        known = {"set", "add", "insert", "delete", "route", "rule", "without", "conntrack_flush"}
        strange = sorted(set(whatif) - known)
        if strange:
            raise InputError(f"unknown change {strange[0]!r}", remedy=f"known: {', '.join(sorted(known))}")
        options = {k: (v,) if isinstance(v, str) else v for k, v in whatif.items()}
        edits = parse_edits(self._world, options, default_host)
        texts = tuple(f"{e.host}: {c}" for e in edits for c in e.commands())
        return Snapshot(apply_all(self._world, edits), (*self.edits, *texts))

    def simulate(self, records: Iterable[Mapping[str, Any]], *, replies: bool = False) -> Iterator[dict[str, Any]]:
        """Put packets in one after the other, state carried over; one result document each (the contract's JSON)."""
        from .engine.simulate import Simulator
        from .snapshot.learn import Learner

        simulator = Simulator(self._world, replies=replies, learn=Learner(self._world))
        for record in records:
            yield simulator.feed(dict(record))

    @property
    def rules(self) -> Any:
        """All iptables rules as a DataFrame."""
        rows = [
            {
                "host": host.name,
                "backend": table.backend,
                "table": table.name,
                "chain": rule.rule_id.chain,
                "rule": rule.rule_id.index,
                "text": rule.text,
                "packets": rule.counters[0] if rule.counters else None,
                "where": str(rule.where or ""),
            }
            for host in self._world.hosts.values()
            for table in host.tables
            for rule in table.all_rules()
        ]
        return _frame(rows, ("host", "backend", "table", "chain", "rule", "text", "packets", "where"))

    @property
    def routes(self) -> Any:
        """All routes as a DataFrame."""
        from .model.addr import format_addr

        rows = []
        for host in self._world.hosts.values():
            for (family, table), routes in host.routes.items():
                for r in routes:
                    legs = [
                        f"{format_addr(n.via_family, n.via)} " * (n.via is not None) + f"dev {n.dev}"
                        if n.via is not None
                        else f"dev {n.dev}"
                        for n in r.nexthops
                    ]
                    rows.append(
                        {
                            "host": host.name,
                            "family": 4 if family == 2 else 6,
                            "table": table,
                            "prefix": str(r.prefix),
                            "type": r.type,
                            "nexthops": "; ".join(legs),
                            "metric": r.metric,
                        }
                    )
        return _frame(rows, ("host", "family", "table", "prefix", "type", "nexthops", "metric"))

    @property
    def conntrack(self) -> Any:
        """All connection entries of the snapshot as a DataFrame."""
        from .engine.conntrack import entry_text

        rows = [
            {
                "host": host.name,
                "entry": entry_text(c),
                "zone": c.zones[0],
                "status": " ".join(c.status_names()),
                "mark": c.mark,
                "timeout": c.timeout_at,
                "where": str(c.where or ""),
            }
            for host in self._world.hosts.values()
            for c in host.conns
        ]
        return _frame(rows, ("host", "entry", "zone", "status", "mark", "timeout", "where"))


class Result:
    """An answer of :meth:`Snapshot.why`. ``print`` it, look at ``steps``, or take ``to_json()``."""

    def __init__(self, explanation: Any) -> None:
        self._explanation = explanation

    @property
    def verdict(self) -> str:
        """The first sentence."""
        return str(self._explanation.verdict)

    @property
    def outcome(self) -> str:
        return str(self._explanation.trial.leaf.outcome)

    @property
    def code(self) -> str:
        """The most decisive diagnosis, or the reason of the outcome where nothing is wrong."""
        return str(self._explanation.code)

    @property
    def reason(self) -> str:
        """Why the outcome is what it is: a reason code (``nattrace explain``)."""
        return str(self._explanation.trial.leaf.reason.code)

    @property
    def certainty(self) -> str:
        """``exact``, ``one_of`` (the kernel draws) or ``unknown`` (the snapshot does not tell)."""
        return str(self._explanation.certainty)

    @property
    def ending(self) -> tuple[Any, ...]:
        """What an observer outside sees of both directions; equal for flows that end alike."""
        trial = self._explanation.trial
        ways = (trial.forward, trial.reply)
        return tuple(None if way is None else tuple(g[0].signature() for g in way.groups()) for way in ways)

    def expect(self, text: str) -> tuple[bool | None, str]:
        """Whether an expectation (as after ``--expect``) is met, None where nobody can know, and why."""
        from .explain.expect import check

        found = check(self._explanation.trial, text)
        return found.met, found.why

    @property
    def diagnosis(self) -> list[str]:
        """Diagnosis codes, most decisive first."""
        return [d.code for d in self._explanation.diagnosis]

    @property
    def fixes(self) -> list[dict[str, Any]]:
        """Fixes as the contract's JSON has them, best first."""
        return [f.to_json() for f in self._explanation.fixes]

    def to_json(self) -> dict[str, Any]:
        """The document of ``why --json``."""
        document: dict[str, Any] = self._explanation.to_json()
        return document

    def text(self, width: int = 100, verbose: bool = False) -> str:
        """The answer as ``nattrace why`` prints it."""
        from .render.text import render

        return render(self._explanation, width=width, verbose=verbose)

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre style='line-height:1.25'>{escape(self.text())}</pre>"

    @property
    def steps(self) -> Any:
        """Every step of both directions as a DataFrame."""
        rows = []
        document = self.to_json()
        for phase, result in (("forward", document), ("reply", document["reply"])):
            for number, hop in enumerate(result["hops"] if result else (), 1):
                for step in hop["steps"]:
                    rows.append(
                        {"phase": phase, "hop": number, "host": hop["host"], "in": hop["in"], "out": hop["out"], **step}
                    )
        columns = (
            "phase",
            "hop",
            "host",
            "in",
            "out",
            "hook",
            "stage",
            "table",
            "chain",
            "rule",
            "text",
            "where",
            "matched",
            "verdict",
            "changes",
            "conntrack",
            "note",
        )
        return _frame(rows, columns)
