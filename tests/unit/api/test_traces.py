"""A recording of the documentation, read without root: what was seen, what is predicted, and that a wrong model shows."""

from __future__ import annotations

from pathlib import Path

import nattrace as nt
import pytest

EXAMPLE = Path(__file__).resolve().parents[3] / "docs" / "examples" / "trace"


@pytest.fixture(scope="module")
def trace() -> nt.Trace:
    return nt.load_trace(EXAMPLE / "office.trace")


def test_every_packet_has_its_story(trace: nt.Trace) -> None:
    ends = [(s["outcome"], s["at"]["host"]) for s in trace.stories]
    assert ends.count(("dropped", "office-router")) == 1
    assert ends.count(("delivered", "office-web")) == 5 and ends.count(("delivered", "office-client")) == 5
    assert not any(s["incomplete"] for s in trace.stories) and not any(trace.totals["lost"].values())


def test_the_prediction_agrees_with_what_was_recorded(trace: nt.Trace) -> None:
    rows = trace.compare(nt.load(EXAMPLE / "snapshot"), "arrow").to_pylist()
    assert len(rows) == 12 and all(r["agrees"] for r in rows)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [({"delete": "-D FORWARD 1 at office-router"}, 1), ({"delete": "-t nat -D POSTROUTING 1 at office-router"}, 5)],
)
def test_a_wrong_model_is_contradicted(trace: nt.Trace, change: dict[str, str], wrong: int) -> None:
    rows = trace.compare(nt.load(EXAMPLE / "snapshot").with_(**change), "arrow").to_pylist()
    assert sum(not r["agrees"] for r in rows) == 2 * wrong


def test_steps_and_events_are_tables(trace: nt.Trace) -> None:
    steps = trace.steps("arrow").to_pylist()
    assert any(r["changes"] and "203.0.113.1" in r["changes"] for r in steps)
    assert {"tap", "rx", "tx", "fib", "drop"} <= {r["kind"] for r in trace.events("arrow").to_pylist()}
    latency = trace.latency("arrow").to_pylist()
    assert latency and all(r["us"] >= 0 for r in latency)


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\0" * 100)
    with pytest.raises(nt.InputError):
        nt.load_trace(tmp_path / "x")
    with pytest.raises((nt.InputError, OSError)):
        nt.load_trace(tmp_path / "nowhere")
