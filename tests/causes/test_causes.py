"""Every cause of the catalogue: reproduced in namespaces, named first, and gone after its cure was typed."""

from __future__ import annotations

import gc
import io
import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from lab_support import kernel, unique_prefix
from nattrace.sim.explain.reasons import find
from nattrace.sim.flow import parse_flow
from nattrace.sim.snapshot.load import load_world
from nattrace.tracer.cli import run
from nattrace.tracer.lab.build import build
from nattrace.tracer.lab.io import Wires

from ..differential.kernel import ARRIVALS, Final
from ..scenarios.observed import Bench
from .catalogue import NAMES, Cause, cause, live_through

LINES = 25


@cache
def answer(name: str, snapshot: Path | None = None) -> dict[str, Any]:
    one = cause(name)
    return dict(json.loads(said(one.flow, snapshot or one.snapshot, "--json")))


def said(flow: str, snapshot: Path, *options: str) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        assert run(["why", flow, "-S", str(snapshot), *options]) == 0
    return out.getvalue()


def test_there_are_enough_causes_and_each_has_a_page() -> None:
    assert len(NAMES) >= 40
    index = (Path(__file__).resolve().parents[2] / "docs" / "causes" / "README.md").read_text()
    for name in NAMES:
        page = cause(name).snapshot.parent / "README.md"
        assert all(f"## {part}" in page.read_text() for part in ("How it shows", "Why the kernel does it", "The cure"))
        assert f"({name}/README.md)" in index
        assert find(cause(name).code) is not None


@pytest.mark.parametrize("name", NAMES)
def test_the_cause_is_named_first(name: str) -> None:
    head = said(cause(name).flow, cause(name).snapshot).split("\n\n")[0]
    assert f"[{cause(name).code}]" in head, head
    assert answer(name)["diagnosis"][0]["code"] == cause(name).code


def test_answers_fit_a_screen() -> None:
    """The outcome first, the cause second, and no longer than a screen for at least 95 of 100."""
    long = []
    for name in NAMES:
        text = said(cause(name).flow, cause(name).snapshot)
        parts = text.split("\n\n")
        assert parts[1].startswith("WHY "), text
        if len(text.splitlines()) > LINES:
            long.append((name, len(text.splitlines())))
    assert len(long) <= len(NAMES) // 20, long


class CauseBench(Bench):
    """A cause built in namespaces, its history lived through."""

    def __init__(self, one: Cause) -> None:
        from ..scenarios.evidence import Evidence

        self.lab = build(one.topology, unique_prefix("ca"))
        try:
            self.lab.listen()
            self.wires = Wires(self.lab, arrivals=ARRIVALS)
            live_through(one, self.lab, self.wires)
        except BaseException:
            self.lab.down()
            raise
        self.evidence, self.start, self.tables = Evidence(), None, {}
        self.changed, self.ruled = True, set()


class Asked:
    """The flow of a cause as a packet, and whether it was answered."""

    def __init__(self, one: Cause) -> None:
        question = parse_flow(one.flow, load_world(one.snapshot))
        self.one = one
        self.record = {k: v for k, v in question.packet.items() if v is not None}
        self.record |= {"host": question.host, "in": question.in_dev}
        if question.sport_range is not None:
            self.record["sport"] = 40000
        self.host, self.dev = question.host, question.in_dev

    def answered(self, bench: CauseBench) -> bool:
        """Sent, translated as it should be, and answered to where it came from, by whom it was sent to."""
        bench.exchange(dict(self.record))
        dst, source = self.record["dst"], self.one.source
        seen = bench.evidence.captures
        if source is not None and not any(
            f.packet["src"] == source
            and f.kind in ("arrived", "out")
            and "inner" not in f.packet
            and f.packet["dst"] == dst
            for f in seen
        ):
            return False
        if self.record["proto"] == "tcp" and "S" not in self.record.get("flags", "S"):
            return True  # the middle of a connection: nothing answers by itself
        return any(self._is_answer(f) for f in seen)

    def arrived(self, bench: CauseBench) -> bool:
        """At the host that the page wants it to reach."""
        host, _, address = (self.one.arrives or "").partition(" ")
        wanted = ("arrived", host, address or self.record["dst"])
        return any((f.kind, f.host, f.packet["dst"]) == wanted for f in bench.evidence.captures)

    def _is_answer(self, f: Final) -> bool:
        home = f.kind == "arrived" or (f.kind == "out" and f.dev == self.dev)
        port = self.record.get("dport")
        right = f.packet["src"] == self.record["dst"] and (port is None or f.packet.get("sport") == port)
        return (
            home and f.host == self.host and right and "inner" not in f.packet and "R" not in f.packet.get("flags", "")
        )

    def clamped(self, bench: CauseBench) -> bool:
        """A cure for new connections: their SYN says a smaller segment size when it leaves."""
        syn = {k: v for k, v in self.record.items() if k not in ("len", "payload")}
        bench.exchange(syn | {"flags": "S", "mss": 1460, "len": 44})
        last = [f.packet for f in bench.evidence.captures if f.kind == "out" and f.packet.get("flags") == "S"]
        return bool(last) and last[-1]["mss"] < 1460


def cures(one: Cause, snapshot: Path) -> list[tuple[list[tuple[str, str]], str]]:
    """Commands said to work, with what was said: the fixes offered, or those of the page where none can be offered."""
    offered = [f for f in answer(one.name, snapshot)["fixes"] if f["result"] == "works"]
    found = [([(s["host"], s["command"]) for s in f["steps"]], f["text"]) for f in offered]
    assert found or one.cure or one.judged_by, "no cure is known"
    return found or ([(list(one.cure), "")] if one.cure else [])


@pytest.fixture
def rare_collections() -> Iterator[None]:
    """As the program itself sets it: a full connection table is a million objects, none of them garbage."""
    before = gc.get_threshold()
    gc.set_threshold(300_000, 20, 20)
    yield
    gc.set_threshold(*before)


class TestOnTheKernel:
    """The kernel is the judge of all three: the symptom, the answer from a fresh snapshot, the cure."""

    pytestmark = kernel

    @pytest.mark.usefixtures("rare_collections")
    @pytest.mark.parametrize("name", NAMES)
    def test_a_cause_shows_is_named_and_can_be_cured(self, name: str, tmp_path: Path) -> None:
        one = cause(name)
        snapshot = tmp_path / "snapshot"
        with CauseBench(one) as bench:
            bench.lab.snapshot(snapshot)
            asked = Asked(one)
            answered = asked.answered(bench)
            assert not (answered if one.arrives is None else asked.arrived(bench)), bench.evidence.captures
        assert answer(name, snapshot)["diagnosis"][0]["code"] == one.code
        arrived = []
        for commands, text in cures(one, snapshot):
            with CauseBench(one) as bench:
                for host, command in commands:
                    bench.lab.run(host, *command.split())
                cured = asked.clamped if text.startswith("for new connections") else asked.answered
                worked, there = cured(bench), one.arrives is not None and asked.arrived(bench)
                assert worked or there, (commands, bench.evidence.captures)
                arrived.append(there)
        assert one.arrives is None or any(arrived)
