"""How a watch is shown: a live view on a terminal (rich), a line every few seconds elsewhere, JSON lines; and its end."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ....sim.render.style import clean

if TYPE_CHECKING:
    from ..watch import Watcher

EVERY, LIVE_EVERY = 10.0, 0.5  # seconds
ROWS = 12


class Shown:
    """Base of the three: ``tick()`` at every step, ``end()`` once; ``to_json`` gives what is to be told."""

    every = EVERY

    def __init__(self, watcher: Watcher, options: dict[str, Any]) -> None:
        self.watcher, self.options = watcher, options
        self.last = time.monotonic()
        self.stack = ExitStack()

    def __enter__(self) -> Shown:
        if self.options["metrics"] is not None:
            from .metrics import Endpoint

            endpoint = self.stack.enter_context(Endpoint(self.options["metrics"]))
            self.endpoint: Any = endpoint
            print(f"nattrace: metrics at {endpoint.address}", file=sys.stderr, flush=True)
        else:
            self.endpoint = None
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def tick(self) -> None:
        now = time.monotonic()
        if now - self.last < self.every:
            return
        self.last = now
        told = self.watcher.to_json()
        if self.endpoint is not None:
            self.endpoint.publish(told)
        self.show(told)

    def show(self, told: dict[str, Any]) -> None:
        raise NotImplementedError

    def end(self) -> None:
        self.show_end(self.watcher.to_json(final=True))

    def show_end(self, told: dict[str, Any]) -> None:
        sys.stdout.write(summary(told))
        sys.stdout.flush()


class Lines(Shown):
    """For logs: one line at a time on standard error, the summary on standard output."""

    def show(self, told: dict[str, Any]) -> None:
        if not self.options["quiet"]:
            print(f"nattrace: {line(told)}", file=sys.stderr, flush=True)


class Json(Shown):
    """One document at a time."""

    def show(self, told: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()

    show_end = show


class Live(Shown):
    """A table that is drawn again and again."""

    every = LIVE_EVERY

    def __enter__(self) -> Live:
        super().__enter__()
        from rich.console import Console
        from rich.live import Live as Display

        self.display = self.stack.enter_context(
            Display(console=Console(stderr=True), auto_refresh=False, transient=True, vertical_overflow="ellipsis")
        )
        self.show(self.watcher.to_json())
        return self

    def show(self, told: dict[str, Any]) -> None:
        self.display.update(table(told), refresh=True)

    def end(self) -> None:
        self.stack.close()
        super().end()


def shown(options: dict[str, Any], watcher: Watcher) -> Shown:
    """The form that fits: JSON where asked for, a live view where somebody looks."""
    kind: Callable[..., Shown] = Lines
    if options["as_json"]:
        kind = Json
    elif sys.stderr.isatty() and sys.stdout.isatty() and not options["plain"]:
        kind = Live
        if find_spec("rich") is None:
            kind = Lines
            print("nattrace: lines instead of a view: rich is missing (pip install 'nattrace[live]')", file=sys.stderr)
    return kind(watcher, options)


def percent(told: dict[str, Any]) -> str:
    share = told["agreement"]
    return "-" if share is None else f"{share:.2%}" if share < 1 else "100%"


def line(told: dict[str, Any]) -> str:
    """``1204 connections, 19.8/s: 1190 as expected, 2 otherwise, 12 not checked (99.83%)``."""
    missed = sum(told["not_checked"].values())
    words = f"{told['connections']} connections, {told['rate']:.1f}/s: {told['agreed']} as expected"
    words += f", {told['disagreed']} otherwise, {missed} not checked ({percent(told)})"
    lost = sum(told["lost"].values())
    return words + (f"; {lost} events lost" if lost else "")


def summary(told: dict[str, Any]) -> str:
    """The end, for people."""
    out = [f"{'AGREED' if not told['disagreed'] else 'DISAGREED'}: {line(told)}", ""]
    for group in told["disagreements"][:ROWS]:
        out.append(
            f"OTHERWISE {group['count']}×  {group['what']} on {group['host']}: {clean(group['where'])} [{group['cause']}]"
        )
        out.append(f"   expected  {clean(group['example']['expected'])}")
        out.append(f"   kernel    {clean(group['example']['actual'])}")
        out.append(f"   see       nattrace why '{clean(group['example']['flow'])}'")
    rest = len(told["disagreements"]) - ROWS
    if rest > 0:
        out.append(f"and {rest} more groups (--json has all)")
    for why, count in told["not_checked"].items():
        out.append(f"NOT CHECKED {count}×  {clean(why)}")
    second = told["agreed_at_second_look"]
    if second:
        out.append(f"SECOND LOOK {second}×  as expected once the snapshot was taken anew (a port in use, a change)")
    for stream, count in told["lost"].items():
        if count:
            out.append(f"LOST {count} events ({stream}): what they told of is not counted above")
    return "\n".join(out).rstrip() + "\n"


def table(told: dict[str, Any]) -> Any:
    """The live view."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Text.assemble(("nattrace watch  ", "bold"), line(told))
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("", justify="right")
    for name in ("what", "host", "decided by", "expected, and the kernel"):
        grid.add_column(name, overflow="ellipsis", no_wrap=True)
    for group in told["disagreements"][:ROWS]:
        e = group["example"]
        grid.add_row(str(group["count"]), group["what"], clean(group["host"]), Text(clean(group["where"])),
                     Text(f"{clean(e['expected'])}\n{clean(e['actual'])}"))  # fmt: skip
    for why, count in list(told["not_checked"].items())[:ROWS]:
        grid.add_row(
            Text(str(count), style="dim"), Text("not checked", style="dim"), "", Text(clean(why), style="dim"), ""
        )
    return Group(head, *([grid] if grid.row_count else []), Text("Ctrl-C ends", style="dim"))


__all__ = ["Shown", "line", "shown", "summary", "table"]
