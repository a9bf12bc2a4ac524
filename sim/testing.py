"""Assertions about flows, for tests that guard a rule set: ``nattrace.testing`` and the pytest plugin.

    from nattrace.testing import assert_delivered, assert_dropped

    def test_the_shop_is_reachable(nattrace_snapshot):
        assert_delivered(nattrace_snapshot, "tcp 203.0.113.9 -> 198.51.100.7:443 in eth0", dnat="10.0.0.5:8443")

A failed assertion shows the whole answer. An outcome that nobody can know fails too: a gate that guesses is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .notebook import Result, Snapshot, load

ARRIVES = ("delivered", "left")


def assert_delivered(
    snapshot: Snapshot | str | Path,
    flow: str,
    *,
    snat: str | None = None,
    dnat: str | None = None,
    out: str | None = None,
    rule: str | None = None,
    reply: bool = True,
    **whatif: Any,
) -> Result:
    """The flow reaches a socket, or leaves the known world, translated as said, and its answer comes back.

    ``snat``/``dnat``: ``ADDRESS`` or ``ADDRESS:PORT`` that it has at its end; ``out``: an interface it leaves by;
    ``rule``: ``nat:POSTROUTING:3``, a rule that must have matched; ``reply`` False: one way is enough.
    ``whatif``: changes as in :meth:`Snapshot.why`. Returns the answer; raises AssertionError with it.
    """
    __tracebackhide__ = True
    result = _asked(snapshot, flow, whatif)
    wanted = [
        f"{verb} {value}" for verb, value in (("snat", snat), ("dnat", dnat), ("out", out), ("rule", rule)) if value
    ]
    if reply:
        wanted.append("reply")
    _decided(result)
    if result.outcome not in ARRIVES:
        raise _failure(f"expected to be delivered, but: {result.outcome} ({result.code})", result)
    _expected(result, wanted)
    return result


def assert_dropped(snapshot: Snapshot | str | Path, flow: str, *, rule: str | None = None, code: str | None = None,
                   **whatif: Any) -> Result:  # fmt: skip
    """The flow does not get through: dropped, rejected, unreachable, or never sent.

    ``rule``: the rule that must have matched; ``code``: the reason code (``nattrace explain``) it must have.
    """
    __tracebackhide__ = True
    result = _asked(snapshot, flow, whatif)
    _decided(result)
    if result.outcome in ARRIVES:
        raise _failure(f"expected to be dropped, but: {result.outcome}", result)
    if code is not None and result.reason != code:
        raise _failure(f"expected to be dropped for {code}, but the reason is {result.reason}", result)
    _expected(result, [f"rule {rule}"] if rule else [])
    return result


def assert_expect(snapshot: Snapshot | str | Path, flow: str, *expectations: str, **whatif: Any) -> Result:
    """Every expectation, written as after ``why --expect``, holds."""
    __tracebackhide__ = True
    result = _asked(snapshot, flow, whatif)
    _expected(result, expectations)
    return result


def assert_unchanged(before: Snapshot | str | Path, after: Snapshot | str | Path, flows: Iterable[str]) -> None:
    """No flow of the list ends otherwise in ``after`` than in ``before``: outcome, place, headers, answer."""
    __tracebackhide__ = True
    old, new = _loaded(before), _loaded(after)
    changed = []
    for flow in flows:
        a, b = (s.why(flow, fixes=False) for s in (old, new))
        if a.ending != b.ending:
            changed.append(f"{flow}\n    before: {a.verdict}\n    after:  {b.verdict}")
    if changed:
        raise AssertionError(f"{len(changed)} flows end otherwise:\n  " + "\n  ".join(changed))


def _loaded(snapshot: Snapshot | str | Path) -> Snapshot:
    return snapshot if isinstance(snapshot, Snapshot) else load(snapshot)


def _asked(snapshot: Snapshot | str | Path, flow: str, whatif: dict[str, Any]) -> Result:
    return _loaded(snapshot).why(flow, fixes=False, **whatif)


def _decided(result: Result) -> None:
    __tracebackhide__ = True
    if result.certainty == "unknown":
        raise _failure("the outcome is not known", result)


def _expected(result: Result, expectations: Iterable[str]) -> None:
    __tracebackhide__ = True
    for text in expectations:
        met, why = result.expect(text)
        if not met:
            raise _failure(f"expected {text}, but {'nobody can know: ' if met is None else ''}{why}", result)


def _failure(text: str, result: Result) -> AssertionError:
    return AssertionError(f"{text}\n\n{result.text()}")
