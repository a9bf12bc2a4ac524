"""The lazy click group: a command's module is imported when the command runs, not for ``--help``."""

from __future__ import annotations

import os
from typing import Any

import click

from . import COMMANDS, say


def with_examples(name: str, command: click.Command) -> click.Command:
    """A command, and those below it, whose help ends with examples."""
    from .examples import epilog

    if command.epilog is None:
        command.epilog = epilog(name)
    for below, inner in command.commands.items() if isinstance(command, click.Group) else ():
        with_examples(f"{name} {below}", inner)
    return command


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
        return with_examples(name, found)

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


def invoke(arguments: list[str]) -> int:
    """Run one command line; what click itself finds wrong is said here, other errors are raised."""
    try:
        return int(_invoke(arguments) or 0)
    except click.exceptions.Exit as end:
        return int(end.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
    except click.UsageError as error:
        if error.ctx is not None:
            say(error.ctx.get_usage())
        say(f"nattrace: {error.format_message()}")
    except click.ClickException as error:
        say(f"nattrace: {error.format_message()}")
    except click.exceptions.Abort:
        return 130
    return 2


def _invoke(arguments: list[str]) -> Any:
    """What click's main() does, but for one thing: a reader that goes away is not status 1, a disagreement."""
    if "_NATTRACE_COMPLETE" in os.environ:
        return cli.main(arguments, prog_name="nattrace", standalone_mode=False)
    with cli.make_context("nattrace", arguments) as context:
        return cli.invoke(context)
