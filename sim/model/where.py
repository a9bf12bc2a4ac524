"""Provenance: the one place in a snapshot that a fact comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..record import NamedTuple


class Where(NamedTuple):
    """``file:line``; ``line`` counts from 1 and is None where a file has no lines worth naming (JSON)."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class Counted(Where):
    """A place whose line is counted when somebody asks: most rules that are looked at are never named by their line."""

    __slots__ = ()

    @classmethod
    def at(cls, file: str, number: Callable[[int], int], offset: int) -> Where:
        """The line of ``offset``, as ``number`` counts it."""
        return tuple.__new__(cls, (file, [number, offset]))

    @property
    def line(self) -> int | None:
        asked: Any = tuple.__getitem__(self, 1)
        if type(asked) is not list:  # from _replace()
            return int(asked)
        if len(asked) > 1:
            number, offset = asked
            asked[:] = [number(offset)]
        return int(asked[0])

    def __iter__(self) -> Iterator[Any]:
        return iter((self.file, self.line))

    def __getitem__(self, place: Any) -> Any:
        return (self.file, self.line)[place]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, tuple) and (self.file, self.line) == (*other,)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.file, self.line))

    def __reduce__(self) -> Any:
        return Where, (self.file, self.line)
