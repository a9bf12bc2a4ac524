"""The manual page, written from the commands themselves: man(7) macros, made by docs/generate.py."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from textwrap import fill
from typing import Any

DATE = "2026-11-27"
ABOUT = """nattrace reads what the kernel was told (iptables rules, routes, policy rules, sysctls, conntrack entries,
neighbours, sockets) and says what Linux does with a flow: every hook, every table, every host it passes, the way back of
the reply, the one place that decided, and fixes that were tried out in both directions."""
STATUS = (
    ("0", "answered (also when the answer is that the packet is dropped), or confirmed"),
    ("1", "an expectation is not met, or the kernel did otherwise than predicted"),
    ("2", "the command line or an input is wrong"),
    ("3", "a facility is missing; the message names it"),
    ("4", "undecided: the snapshot does not tell, or nothing was observed"),
    ("130", "interrupted"),
)
ENVIRONMENT = (
    ("NO_COLOR", "No colours."),
    ("PAGER", "What shows an answer that is longer than the terminal; less -FRX where unset, none where empty."),
    ("COLUMNS", "Width of the output."),
    ("NATTRACE_DEBUG", "A traceback where nattrace itself fails."),
)


def roff(text: str) -> str:
    """Text as roff reads it as text: no request, no escape, ASCII hyphens for what is typed."""
    said = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    said = said.replace("^", "\\(ha").replace("~", "\\(ti")
    said = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in said)
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in said.split("\n"))


def running(text: str) -> str:
    """Text that is filled: input lines of a length that mandoc does not mind."""
    return roff(fill(" ".join(text.split()), 66, break_long_words=False, break_on_hyphens=False))


def manual() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    import click
    from nattrace.tracer.cli import COMMANDS, cli

    yield f'.TH NATTRACE 1 "{DATE}" "nattrace {version("nattrace")}" "User Commands"'
    yield ".SH NAME"
    yield "nattrace \\- why a packet goes where it goes through Linux netfilter,\nconntrack, NAT and routing"
    yield ".SH SYNOPSIS\n.B nattrace\n.I COMMAND\n.RI [ OPTIONS ]\n.RI [ ARGUMENTS ]"
    yield ".SH DESCRIPTION"
    yield running(ABOUT)
    yield ".SH COMMANDS"
    with click.Context(cli, info_name="nattrace") as top:
        for name in COMMANDS:
            command = cli.get_command(top, name)
            assert command is not None
            with click.Context(command, info_name=name, parent=top) as ctx:
                yield from _command(f"nattrace {name}", command, ctx)
                for below, inner in command.commands.items() if isinstance(command, click.Group) else ():
                    with click.Context(inner, info_name=below, parent=ctx) as deeper:
                        yield from _command(f"nattrace {name} {below}", inner, deeper)
    yield ".SH EXIT STATUS"
    yield from _list(STATUS)
    yield ".SH ENVIRONMENT"
    yield from _list(ENVIRONMENT)
    yield ".SH SEE ALSO\n.BR ip (8),\n.BR iptables (8),\n.BR conntrack (8),\n.BR tcpdump (8)"


def _list(entries: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for name, text in entries:
        yield f".TP\n.B {roff(name)}\n{running(text)}"


def _command(name: str, command: Any, ctx: Any) -> Iterator[str]:
    usage = " ".join(command.collect_usage_pieces(ctx))
    yield f".SS {roff(name)}\n.B {roff(name)}\n{roff(usage)}"
    for paragraph in (command.help or "").split("\n\n"):
        yield from _paragraph(paragraph)
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None and record[1]:
            names, text = record
            yield f".TP\n.B {roff(names)}\n{running(text)}"
    if command.epilog:
        yield from _paragraph(command.epilog)


def _paragraph(text: str) -> Iterator[str]:
    """One paragraph of click's help: running text, or lines to be kept (those that begin with a backspace)."""
    lines = [line.strip() for line in text.strip("\n").split("\n")]
    if not lines or not any(lines):
        return
    if lines[0] != "\b":
        yield f".PP\n{running(' '.join(lines))}"
        return
    head, *rest = lines[1:]
    if head == "Examples:":
        yield f".PP\n{roff(head)}"
        head, *rest = rest
    yield ".PP\n.nf\n.RS 4"
    yield from (roff(line) for line in (head, *rest))
    yield ".RE\n.fi"


PATH = Path(__file__).resolve().parent / "man" / "nattrace.1"
