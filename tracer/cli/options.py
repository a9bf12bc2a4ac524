"""Options that several commands share, as click declares them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from .table import FLAG, MANY, NUMBER, SNAPSHOT, WHY, Option
from .world import live, load, print_json

F = TypeVar("F", bound=Callable[..., Any])


def declare(command: F, options: tuple[Option, ...]) -> F:
    """Give a command the options of a table, in its order."""
    for option in reversed(options):
        kind: dict[str, Any] = {"metavar": option.metavar}
        if option.kind == FLAG:
            kind = {"is_flag": True}
        elif option.kind == MANY:
            kind["multiple"] = True
        elif option.kind == NUMBER:
            kind |= {"type": click.IntRange(0, option.most), "default": None}
        kind["shell_complete"] = _completes(option)
        command = click.option(*option.names, option.key, help=option.help, hidden=option.hidden, **kind)(command)
    return command


def screen_options(command: F) -> F:
    """How text reaches the terminal; the command takes ``plain`` and ``no_pager``."""
    return declare(command, tuple(option for option in WHY if option.key in ("plain", "no_pager")))


def _completes(option: Option) -> Any:
    """What the shell offers as an option's value."""
    from .complete import files, snapshots

    if option.key == "snapshot":
        return snapshots
    return files if option.metavar is not None and "FILE" in option.metavar else None


def snapshot_options(command: F) -> F:
    """-S and one option for each single file."""
    return declare(command, SNAPSHOT)


__all__ = ["declare", "live", "load", "print_json", "screen_options", "snapshot_options"]
