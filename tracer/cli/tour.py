"""``nattrace tour``."""

from __future__ import annotations

import sys
from typing import Any

import click

from .complete import tours


@click.command(short_help="The five situations, step by step.")
@click.option("--scenario", metavar="NAME", help="One of the five only.", shell_complete=tours)
@click.option("--plain", is_flag=True, help="ASCII only: no colour, no symbols.")
@click.option("--json", "as_json", is_flag=True, help="The stops and their verdicts as one JSON document.")
def tour(scenario: str | None, plain: bool, as_json: bool) -> int:
    """Walk through five situations, each with the stages its author went through: the question, the answer, what to see in
    it, what to try next. On a terminal Enter leads to the next stop and q ends the tour.
    """
    from nattrace.sim.errors import InputError
    from nattrace.sim.tour import TOURS

    chosen = [t for t in TOURS if scenario in (None, t.name)]
    if not chosen:
        raise InputError(f"no scenario {scenario!r}", remedy=f"one of: {', '.join(t.name for t in TOURS)}")
    if as_json:
        from .options import print_json

        print_json({"schema": "nattrace/tour/1", "stops": [_stop_json(t, s) for t in chosen for s in t.stops]})
        return 0
    stops = [(t, i) for t in chosen for i in range(len(t.stops))]
    for number, (one, index) in enumerate(stops, 1):
        _show(one, index, number, len(stops), plain)
        if number < len(stops) and not _go_on():
            break
    return 0


def _answer(stop: Any) -> Any:
    """What ``why`` finds out, by the same options."""
    from nattrace.sim.notebook import load

    words = list(stop.options)
    expect = [words[i + 1] for i, word in enumerate(words) if word == "--expect"]
    return load(stop.snapshot).why(stop.flow, expect=expect, fixes="--no-fixes" not in words)


def _stop_json(one: Any, stop: Any) -> dict[str, Any]:
    found = _answer(stop)
    return {
        "scenario": one.name, "snapshot": stop.snapshot, "stage": stop.stage, "command": stop.command,
        "verdict": found.verdict, "code": found.code, "look": stop.look, "next": list(stop.next),
    }  # fmt: skip


def _show(one: Any, index: int, number: int, total: int, plain: bool) -> None:
    from nattrace.sim.render.style import Style, width_of, wrap
    from nattrace.sim.render.text import render

    from .screen import coloured, put

    stop = one.stops[index]
    colour, width = coloured(plain), width_of(sys.stdout) - 2 * plain
    style = Style(colour)
    head = f"{number}/{total}  {one.name}: {one.title}" if index == 0 else f"{number}/{total}  {one.name}"
    lines = ["", style(head, "bold", "cyan"), style("=" * min(len(head), width), "cyan")]
    lines += [f"STAGE {line}" if i == 0 else f"      {line}" for i, line in enumerate(wrap(stop.stage, width - 6))]
    lines += [style(f"{'ASK':<6}", "bold") + stop.command, ""]
    lines.append(render(_answer(stop)._explanation, width=width, colour=colour).rstrip("\n"))
    lines.append("")
    lines += [
        style(f"{'SEE' if i == 0 else '':<6}", "bold") + line for i, line in enumerate(wrap(stop.look, width - 6))
    ]
    lines += [style(f"{'TRY' if i == 0 else '':<6}", "bold") + command for i, command in enumerate(stop.next)]
    put("\n".join(lines) + "\n", plain=plain, pager=False)


def _go_on() -> bool:
    """On a terminal: wait for Enter; anywhere else: go on."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return True
    try:
        typed = input("\nEnter: next   q: end  ")
    except EOFError:
        return False
    return typed.strip().lower() not in ("q", "quit", "exit")
