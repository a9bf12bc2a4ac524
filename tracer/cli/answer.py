"""What ``nattrace why`` does once its options are known."""

from __future__ import annotations

from typing import Any

from .table import DOCUMENTS
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
    written = any(options[name] is not None for name in DOCUMENTS)
    want_fixes = not options["no_fixes"] and (not options["quiet"] or written)
    sample = SAMPLE if options["sample"] is None else options["sample"]
    before = None
    if edits:
        from nattrace.sim.explain.whatif import apply_all

        before = explain(world, question, fixes=False)
        world = apply_all(world, edits)
        question = parse_flow(" ".join(flow), world)
    found = explain(world, question, expect=expect, sample=sample, fixes=want_fixes, symptom=options["symptom"])
    if edits:
        found.before = before
        found.edits = [f"{e.host}: {c}" for e in edits for c in e.commands()]
    if options["rollback"] or options["lab"]:
        chosen = _chosen(found, options["fix"] or 1, options["rollback"])
        if options["lab"] and chosen is not None:
            _try_in_lab(world, found, chosen, [(e.host, c) for e in edits for c in e.commands()])
        if options["rollback"]:
            _print_scripts(chosen, options["wait"])
            return _status(found)
    _show(found, options)
    return _status(found)


def _chosen(found: Any, number: int, needed: bool) -> Any:
    """The n-th fix that works. Raises InputError where there is none, unless nothing works and the answer will do."""
    from nattrace.sim.errors import InputError
    from nattrace.sim.explain.parts import WORKS

    works = [f for f in found.fixes if f.result == WORKS]
    if not 1 <= number <= len(works):
        have = f"{len(works)} fixes work" if works else "no fix was found that works"
        if not works and not needed:
            from . import say

            say(f"nothing to try: {have}")
            return None
        raise InputError(f"there is no fix {number}: {have}", remedy="nattrace why … shows what was tried")
    return works[number - 1]


def _try_in_lab(world: Any, found: Any, fix: Any, typed: list[tuple[str, str]]) -> None:
    """Ask the kernel, in namespaces built from the snapshot's own directory."""
    from pathlib import Path

    from nattrace.sim.errors import InputError

    if not Path(world.source).is_dir():
        raise InputError(
            "--lab builds from the dumps: the snapshot has to be a directory", remedy="unpack the archive first"
        )
    from ..lab import load_topology
    from ..lab.trial import try_fix

    fix.lab = try_fix(load_topology(world.source), found.trial, fix, typed)


def _print_scripts(fix: Any, wait: int | None) -> None:
    """The script of each host, and nothing else, so that it can be stored as it is."""
    import sys

    scripts = fix.scripts() if wait is None else fix.scripts(wait)
    for host, script in scripts:
        sys.stdout.write(script if len(scripts) == 1 else f"# ---- on {host}:\n{script}\n")


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

    shown = _documents(found, options)
    if options["as_json"]:
        print_json(found.to_json())
        return
    if shown:
        return
    from nattrace.sim.render.style import width_of
    from nattrace.sim.render.text import render

    from .screen import coloured, put

    plain = options["plain"]
    text = render(
        found,
        width=width_of(sys.stdout) - 2 * plain,
        verbose=options["verbose"],
        quiet=options["quiet"],
        persistent=options["persistent"],
        colour=coloured(plain),
    )
    put(text, plain=plain, pager=not options["no_pager"])


def _documents(found: Any, options: dict[str, Any]) -> bool:
    """Write the pages and pictures that were asked for; whether one of them was standard output's."""
    wanted = {name: options[name] for name in DOCUMENTS if options[name] is not None}
    if not wanted:
        return False
    from nattrace.sim.errors import InputError

    from .documents import write

    printed = [f"--{name}" for name, file in wanted.items() if file == "-"]
    if len(printed) + options["as_json"] > 1:
        others = [*printed, *(["--json"] if options["as_json"] else [])]
        raise InputError(f"{' and '.join(others)} cannot share standard output", remedy="give each a FILE")
    for name, file in wanted.items():
        write(found, name, file)
    return bool(printed)


def _status(found: Any) -> int:
    """1: an expectation is not met, or the kernel in the lab disagreed; 4: it cannot be decided."""
    if any(f.lab is not None and not f.lab["agrees"] for f in found.fixes):
        return 1
    met = [e.met for e in found.expectations]
    if False in met:
        return 1
    return 4 if None in met else 0
