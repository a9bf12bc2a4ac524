"""``nattrace explain CODE``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .complete import codes as codes_known
from .options import print_json, screen_options
from .screen import coloured, put

if TYPE_CHECKING:
    from nattrace.sim.explain.reasons import Code


@click.command(short_help="What a reason code means, how it shows, how to cure it.")
@click.argument("code", required=False, shell_complete=codes_known)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@screen_options
def explain(code: str | None, as_json: bool, plain: bool, no_pager: bool) -> int:
    """What CODE means, how it shows, how to cure it; without CODE, all codes.

    CODE may also be one of the kernel's own drop reasons: SKB_DROP_REASON_IP_RPFILTER, or IP_RPFILTER.
    """
    from nattrace.sim.errors import InputError
    from nattrace.sim.explain.reasons import codes, find, similar

    if code is None:
        if as_json:
            print_json({"schema": "nattrace/reasons/1", "reasons": [entry_json(c) for c in codes()]})
            return 0
        width = max(len(c.code) for c in codes())
        put("".join(f"{c.code:<{width}}  {c.title}\n" for c in codes()), plain=plain, pager=not no_pager)
        return 0
    found = find(code) or _kernel_reason(code)
    if found is None:
        near = similar(code)
        raise InputError(
            f"no code {code!r}",
            remedy=f"did you mean {', '.join(near)}?" if near else "nattrace explain lists all codes",
        )
    if as_json:
        print_json({"schema": "nattrace/reasons/1", "reasons": [entry_json(found)]})
        return 0
    put("\n".join(_lines(found, plain)) + "\n", plain=plain, pager=not no_pager)
    return 0


def _kernel_reason(code: str) -> Code | None:
    """A reason of enum skb_drop_reason in the form of our own codes."""
    from nattrace.sim.explain.reasons import Code

    from ..live.drops import find

    found = find(code)
    if found is None:
        return None
    shows = f"nattrace trace says {found.name}; so do dropwatch and perf trace -e skb:kfree_skb."
    title = f"drop reason of the kernel ({found.layer})"
    return Code(found.name, "reason", title, found.sentence, shows, found.cure, "kfree_skb_reason()", (found.code,))


def entry_json(entry: object) -> dict[str, object]:
    """A code as JSON."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in entry._asdict().items()}  # type: ignore[attr-defined]


def _lines(entry: object, plain: bool) -> list[str]:
    import sys

    from nattrace.sim.render.style import Style, width_of, wrap

    style = Style(coloured(plain))
    width = width_of(sys.stdout)
    e = entry._asdict()  # type: ignore[attr-defined]
    lines = [style(f"{e['code']}: {e['title']}", "bold") + f"   ({e['kind']})"]
    for label, text in (("MEANS", e["meaning"]), ("SHOWS", e["shows"])):
        lines += [(label if i == 0 else "").ljust(8) + line for i, line in enumerate(wrap(text, width - 8))]
    lines += [("CURE" if i == 0 else "").ljust(8) + line for i, line in enumerate(e["cure"])]
    if e["kernel"]:
        lines.append(f"KERNEL  {e['kernel']}")
    if e["see"]:
        lines.append(f"SEE     {', '.join(e['see'])}")
    return lines
