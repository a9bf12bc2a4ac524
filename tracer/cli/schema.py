"""``nattrace schema``."""

from __future__ import annotations

import click

from .complete import schemas
from .options import print_json


@click.command(short_help="The JSON Schema of every machine-readable output.")
@click.argument("name", required=False, shell_complete=schemas)
@click.option("--reasons", is_flag=True, help="All reason and diagnosis codes instead.")
def schema(name: str | None, reasons: bool) -> int:
    """The JSON Schema of one output (why, simulate, …), or of all, as one document."""
    from nattrace.sim.errors import InputError
    from nattrace.sim.render.schema import SCHEMAS

    if reasons:
        from nattrace.sim.explain.reasons import codes

        from .explain import entry_json

        print_json({"schema": "nattrace/reasons/1", "reasons": [entry_json(c) for c in codes()]})
        return 0
    if name is None:
        print_json({key: make() for key, make in SCHEMAS.items()})
        return 0
    if name not in SCHEMAS:
        raise InputError(f"no output {name!r}", remedy=f"one of: {', '.join(SCHEMAS)}")
    print_json(SCHEMAS[name]())
    return 0
