"""``nattrace doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import print_json

if TYPE_CHECKING:
    from ..doctor import Finding


@click.command(short_help="What this kernel and this machine allow, and what to install.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("-v", "--verbose", is_flag=True, help="Also what each facility is used for and what would replace it.")
def doctor(as_json: bool, verbose: bool) -> int:
    """A table of tools, packages, privileges and kernel facilities: there, not there, or could not be tested.

    What the live commands need is tried, in a network namespace that ends with the trial; nothing is changed and no
    module is loaded.
    """
    from ..doctor import examine, to_json

    findings = examine()
    if as_json:
        print_json(to_json(findings))
    else:
        _table(findings, verbose)
    return 0


def _table(findings: list[Finding], verbose: bool) -> None:
    """One line for what is there, the way out below what is not."""
    import sys

    from nattrace.sim.render.style import Style, clean, fit, wants_colour, width_of

    from ..doctor import NO, UNKNOWN, YES

    style, width = Style(wants_colour(sys.stdout)), width_of(sys.stdout)
    signs = {YES: ("there", "green"), NO: ("missing", "red"), UNKNOWN: ("untested", "yellow")}
    names = max(len(f.name) for f in findings) + 1
    group = ""
    for f in findings:
        if f.group != group:
            group = f.group
            print(style(group.upper(), "bold"))
        sign, colour = signs[f.state]
        print(f"  {f.name:<{names}}" + style(f"{sign:<9}", colour) + fit(clean(f.detail), width - names - 11))
        for words in _more(f, verbose, missing=f.state != YES):
            print(" " * (names + 11) + fit(clean(words), width - names - 11))


def _more(finding: Finding, verbose: bool, missing: bool) -> list[str]:
    """What else is to be said of it."""
    found = [f"for {finding.use}"] if verbose or missing else []
    if missing and finding.get:
        found.append(f"get it: {finding.get}")
    if finding.instead and (verbose or missing):
        found.append(f"instead: {finding.instead}")
    return found
