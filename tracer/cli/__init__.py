"""The command line: one lazy group, and the one place that turns errors into words and an exit status.

A command's module is imported when the command runs, not for ``--help``.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import click

# name: (module, attribute, help)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "why": ("why", "why", "What happens to a flow, hop by hop, and why."),
    "what": ("what", "what", "What the host must have done to the packets of a capture."),
    "snapshot": ("snapshot", "snapshot", "Capture this host, or network namespaces, into a snapshot."),
    "simulate": ("simulate", "simulate", "packets.jsonl in, results.jsonl out; conntrack state carried over."),
    "lab": ("lab", "lab", "Build a topology in network namespaces on this machine."),
    "doctor": ("doctor", "doctor", "What this kernel and this machine allow, and what to install."),
    "explain": ("explain", "explain", "What a reason code means, how it shows, how to cure it."),
    "schema": ("schema", "schema", "The JSON Schema of every machine-readable output."),
    "mcp": ("mcp", "mcp", "The same questions over the Model Context Protocol."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        entry = COMMANDS.get(name)
        if entry is None:
            return None
        from importlib import import_module

        found: click.Command = getattr(import_module(f".{entry[0]}", __package__), entry[1])
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and name not in COMMANDS and not name.startswith("-"):
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"commands: {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(None, "-V", "--version", package_name="nattrace", prog_name="nattrace")
def cli() -> None:
    """Why a packet goes where it goes through Linux netfilter, conntrack, NAT and routing.

    \b
    nattrace why 'icmp 10.10.1.1 -> 8.8.8.8 at client' -S twice-through-conntrack
    nattrace why 'tcp 192.168.1.7 -> 1.2.3.4:443 in eth1'       (this host, read live)
    """


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit status and prints errors, never a traceback for bad input."""
    arguments = ["→" if word == "->" else word for word in arguments]  # click would take it for an option
    try:
        return int(_invoke(arguments) or 0)
    except click.exceptions.Exit as end:
        return int(end.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.UsageError as error:
        if error.ctx is not None:
            say(error.ctx.get_usage())
        say(f"nattrace: {error.format_message()}")
        return 2
    except click.ClickException as error:
        say(f"nattrace: {error.format_message()}")
        return 2
    except (KeyboardInterrupt, click.exceptions.Abort):
        return 130
    except BrokenPipeError:
        return _reader_gone()
    except Exception as error:
        return _failed(error)


def _invoke(arguments: list[str]) -> Any:
    """What click's main() does, but for one thing: a reader that goes away is not status 1, a disagreement."""
    if "_NATTRACE_COMPLETE" in os.environ:
        return cli.main(arguments, prog_name="nattrace", standalone_mode=False)
    with cli.make_context("nattrace", arguments) as context:
        return cli.invoke(context)


def _reader_gone() -> int:
    """128 + SIGPIPE, as a shell would say; what is still buffered goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141


def _failed(error: Exception) -> int:
    from nattrace.sim.errors import NattraceError

    if isinstance(error, NattraceError):
        say(f"nattrace: {error}")
        return error.exit_code
    if isinstance(error, OSError) and error.strerror is not None:
        say(f"nattrace: {'' if error.filename is None else f'{error.filename}: '}{error.strerror}")
        return 2
    if isinstance(error, RecursionError | MemoryError):
        say(f"nattrace: the input is too deep or too large ({type(error).__name__})")
        return 2
    if os.environ.get("NATTRACE_DEBUG"):
        raise error
    say(f"nattrace: a fault of nattrace itself: {type(error).__name__}: {error}")
    say("  please report it with the snapshot (nattrace snapshot --anonymize); NATTRACE_DEBUG=1 shows where")
    return 70


def say(text: str) -> None:
    """A diagnostic on standard error, without characters that a terminal would obey."""
    from nattrace.sim.render.style import clean

    lines = [clean(line) for line in text.splitlines()]
    try:
        print("\n".join(lines), file=sys.stderr)
    except (BrokenPipeError, UnicodeEncodeError):
        print("\n".join(lines).encode("ascii", "backslashreplace").decode(), file=sys.stderr)


def main() -> None:
    """Entry point of the ``nattrace`` script."""
    import gc

    gc.set_threshold(100_000, 20, 20)  # a short run makes little garbage: looking for it cost a tenth of the time
    _open_streams()
    status = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = _reader_gone()
    except OSError as error:
        status = _failed(error)
        _reader_gone()
    gc.freeze()  # else the interpreter looks through everything once more before it ends
    sys.exit(status)


def _open_streams() -> None:
    """Standard streams that are there, even where the caller closed them, and never raise for a character."""
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:  # else the next file opened would be taken for one of them
        pass
    os.close(spare)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
