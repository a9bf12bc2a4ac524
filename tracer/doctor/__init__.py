"""What this machine has for nattrace: tools, packages, privileges, and what its kernel really allows.

A facility has three states: ``yes``, ``no``, or ``unknown`` (it could not be tested, and the reason is said). What the
live commands need is tried, not read from the kernel's configuration: programs are loaded and attached, tables made,
packets sent, all in a network namespace that ends with the trial. Nothing is changed, and no module is loaded for it.
"""

from __future__ import annotations

import sys
from dataclasses import asdict

from .finding import NO, UNKNOWN, YES, Finding
from .machine import machine

__all__ = ["NO", "UNKNOWN", "YES", "Finding", "examine", "to_json"]


def examine() -> list[Finding]:
    """Everything that can be told without changing anything."""
    found = machine()
    if sys.platform.startswith("linux"):
        from .facilities import facilities
        from .modes import modes
        from .privileges import privileges

        found += [*privileges(), *modes(), *facilities()]
    return found


def to_json(findings: list[Finding]) -> dict[str, object]:
    """The document of ``nattrace doctor --json``."""
    return {"schema": "nattrace/doctor/1", "findings": [asdict(f) for f in findings]}
