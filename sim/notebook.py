"""The public Python API: load a snapshot, ask why, try changes, look at tables. pandas only where it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import InputError
from .model.world import World


def load(path: str | Path, *, strict: bool = False, **single_files: str | Path) -> Snapshot:
    """A snapshot: directory, archive, or name of a bundled one. Single dumps as keywords: ``sysctl="sysctl.txt"``."""
    from .snapshot.load import load_world

    files = {kind.replace("_", "-"): file for kind, file in single_files.items()}
    return Snapshot(load_world(path, strict=strict, single_files=files or None))


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
        symptom: str | None = None,
        **whatif: Any,
    ) -> Result:
        """What happens to ``flow`` and why. ``whatif``: as the command line: ``set``, ``add``, ``insert``, ``delete``,
        ``route``, ``rule``, ``without`` (a text or several) and ``conntrack_flush=True``. ``symptom``: the trouble in
        your words, to be explained by tests. Raises FlowError.
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
            changed._world,
            question,
            expect=wanted,
            fixes=fixes,
            sample=SAMPLE if sample is None else sample,
            symptom=symptom,
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

    def simulate_table(
        self, records: Iterable[Mapping[str, Any]], *, replies: bool = False, kind: str | None = None
    ) -> Any:
        """As :meth:`simulate`, one row for each packet: how it ended, and its headers then."""
        from .frames import frame
        from .tables import PACKETS, packets

        return frame(list(packets(self.simulate(records, replies=replies))), PACKETS, kind)

    def simulate(self, records: Iterable[Mapping[str, Any]], *, replies: bool = False) -> Iterator[dict[str, Any]]:
        """Put packets in one after the other, state carried over; one result document each (the contract's JSON)."""
        from .engine.simulate import Simulator
        from .snapshot.learn import Learner

        simulator = Simulator(self._world, replies=replies, learn=Learner(self._world))
        for record in records:
            yield simulator.feed(dict(record))

    def table(self, name: str, kind: str | None = None) -> Any:
        """A table of the snapshot: rules, routes, addresses, conntrack or sockets.

        ``kind``: "pandas", "polars" or "arrow"; by default pandas, or polars where only that is installed.
        """
        from .frames import frame
        from .tables import TABLES

        if name not in TABLES:
            raise InputError(f"no table {name!r}", remedy=f"one of: {', '.join(TABLES)}")
        rows, columns = TABLES[name]
        return frame(list(rows(self._world)), columns, kind)

    @property
    def rules(self) -> Any:
        """All iptables rules as a DataFrame."""
        return self.table("rules")

    @property
    def routes(self) -> Any:
        """All routes as a DataFrame."""
        return self.table("routes")

    @property
    def addresses(self) -> Any:
        """All addresses and their interfaces as a DataFrame."""
        return self.table("addresses")

    @property
    def conntrack(self) -> Any:
        """All connection entries of the snapshot as a DataFrame."""
        return self.table("conntrack")

    @property
    def sockets(self) -> Any:
        """All sockets of the snapshot as a DataFrame."""
        return self.table("sockets")

    def overview(self) -> dict[str, Any]:
        """Hosts with their interfaces, addresses and number of rules, the segments between them, and notes."""
        from .tables import addresses

        rows = list(addresses(self._world))
        hosts = {
            host.name: {
                "interfaces": {
                    dev: [r["address"] for r in rows if (r["host"], r["interface"]) == (host.name, dev)]
                    for dev in host.links or dict.fromkeys(a.dev for a in host.addresses)
                },
                "rules": sum(len(chain) for table in host.tables for chain in table.chains.values()),
            }
            for host in self._world.hosts.values()
        }
        segments = {s.name: [str(port) for port in s.members] for s in self._world.segments}
        return {"hosts": hosts, "segments": segments, "notes": self.notes}

    def reach(self, services: Iterable[str] = ("icmp",), kind: str | None = None) -> Any:
        """Who reaches whom: from every host to every other host's addresses, for services such as ``tcp/22``.

        A DataFrame with from, to, address, service, outcome, code and works (the answer comes back too).
        """
        from .frames import frame
        from .reach import COLUMNS, reach

        return frame(list(reach(self, services)), COLUMNS, kind)


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
    def works(self) -> bool | None:
        """Whether the flow arrives and its answer comes back; None where nobody can know."""
        if self.certainty == "unknown":
            return None
        return bool(self._explanation.trial.ok and self.outcome in ("delivered", "left"))

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
        from .render.cell import cell

        return cell(self._explanation)

    def plot(self, ax: Any = None) -> Any:
        """The packet's way, or, for a what-if, the way before and after, as a matplotlib Axes."""
        from .plots import plot_change, plot_path

        document = self.to_json()
        return plot_change(document, ax) if "before" in document else plot_path(document, ax)

    def table(self, kind: str | None = None) -> Any:
        """Every step of both directions as a table; ``kind``: "pandas", "polars" or "arrow"."""
        from .frames import frame
        from .tables import STEPS, steps

        return frame(list(steps(self.to_json())), STEPS, kind)

    @property
    def steps(self) -> Any:
        """Every step of both directions as a DataFrame."""
        return self.table()
