"""One line of the table."""

from __future__ import annotations

from dataclasses import dataclass

YES, NO, UNKNOWN = "yes", "no", "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """``use``: what nattrace does with it; ``get``: how to get it, where it is missing; ``instead``: what replaces it."""

    name: str
    group: str
    state: str
    detail: str
    use: str
    get: str = ""
    instead: str = ""
