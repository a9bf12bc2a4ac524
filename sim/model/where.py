"""Provenance: the one place in a snapshot that a fact comes from."""

from __future__ import annotations

from ..record import NamedTuple


class Where(NamedTuple):
    """``file:line``; ``line`` counts from 1 and is None where a file has no lines worth naming (JSON)."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"
