"""What ``nattrace why`` does once its options are known."""

from __future__ import annotations

from typing import Any

from .world import load, print_json


def answer(flow: tuple[str, ...], options: dict[str, Any]) -> int:
    """Print what happens to the flow; returns the exit status."""
    from nattrace.sim.explain.answer import explain
    from nattrace.sim.explain.parts import SAMPLE
    from nattrace.sim.flow import parse_flow

    world = load(options, options["strict"])
    question = parse_flow(" ".join(flow), world)
    edits = _edits(world, question.host, options)
    expect = options["expect"]
    want_fixes = not options["no_fixes"] and not options["quiet"]
    sample = SAMPLE if options["sample"] is None else options["sample"]
    before = None
    if edits:
        from nattrace.sim.explain.whatif import apply_all

        before = explain(world, question, fixes=False)
        world = apply_all(world, edits)
        question = parse_flow(" ".join(flow), world)
    found = explain(world, question, expect=expect, sample=sample, fixes=want_fixes)
    if edits:
        found.before = before
        found.edits = [f"{e.host}: {c}" for e in edits for c in e.commands()]
    _show(found, options)
    return _status(found)


def _edits(world: Any, host: str, options: dict[str, Any]) -> list[Any]:
    given = {"set": options["set_"]} | {
        k: options[k] for k in ("add", "insert", "delete", "route", "rule", "without", "conntrack_flush")
    }
    if not any(given.values()):
        return []
    from nattrace.sim.explain.whatif import parse_edits

    return parse_edits(world, given, host)


def _show(found: Any, options: dict[str, Any]) -> None:
    import sys

    if options["as_json"]:
        print_json(found.to_json())
        return
    from nattrace.sim.render.style import wants_colour, width_of
    from nattrace.sim.render.text import render

    text = render(
        found,
        width=width_of(sys.stdout),
        verbose=options["verbose"],
        quiet=options["quiet"],
        colour=wants_colour(sys.stdout),
    )
    sys.stdout.write(text)


def _status(found: Any) -> int:
    """1: an expectation is not met; 4: it cannot be decided."""
    met = [e.met for e in found.expectations]
    if False in met:
        return 1
    return 4 if None in met else 0
