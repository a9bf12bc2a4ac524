"""``nattrace completion SHELL``."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="The script that teaches your shell to complete nattrace.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> int:
    """Print the script for SHELL; source it, or put it where your shell looks for such scripts."""
    from click.shell_completion import get_completion_class

    from .group import cli

    found = get_completion_class(shell)
    assert found is not None
    script = found(cli, {}, "nattrace", "_NATTRACE_COMPLETE")
    print(script.source_template % script.source_vars())
    return 0
