"""Answers written as pages, pictures and tickets."""

from __future__ import annotations

from importlib import import_module
from typing import Any

MAKERS = {
    "html": ("html", "page"),
    "svg": ("svg", "svg"),
    "mermaid": ("mermaid", "mermaid"),
    "dot": ("dot", "dot"),
    "markdown": ("markdown", "markdown"),
}


def write(found: Any, name: str, file: str) -> None:
    """Make the document and put it where it belongs: a new or replaced file, or standard output (``-``)."""
    import sys

    from . import say

    module, maker = MAKERS[name]
    text: str = getattr(import_module(f"nattrace.sim.render.{module}"), maker)(found)
    if file == "-":
        sys.stdout.write(text)
        return
    with open(file, "w", encoding="utf-8") as out:
        out.write(text)
    say(f"nattrace: {file}: written")
