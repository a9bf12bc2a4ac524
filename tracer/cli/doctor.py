"""``nattrace doctor``."""

from __future__ import annotations

import click

from .options import print_json


@click.command(short_help="What this kernel and this machine allow, and what to install.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def doctor(as_json: bool) -> int:
    """A table of tools, packages and kernel facilities: there, not there, or could not be tested."""
    import sys

    from nattrace.sim.render.style import Style, clean, fit, wants_colour, width_of

    from ..doctor import NO, UNKNOWN, YES, examine, to_json

    findings = examine()
    if as_json:
        print_json(to_json(findings))
        return 0
    style, width = Style(wants_colour(sys.stdout)), width_of(sys.stdout)
    signs = {YES: ("there", "green"), NO: ("missing", "red"), UNKNOWN: ("untested", "yellow")}
    group = ""
    for f in findings:
        if f.group != group:
            group = f.group
            print(style(group.upper(), "bold"))
        sign, colour = signs[f.state]
        tail = f"   get it: {f.get}" if f.state != YES and f.get else ""
        print(
            f"  {f.name:<21}" + style(f"{sign:<9}", colour) + fit(clean(f"{f.detail}; for {f.use}{tail}"), width - 32)
        )
    return 0
