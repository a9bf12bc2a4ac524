"""All errors and notes of one loading run, collected instead of stopping at the first."""

from __future__ import annotations

from ..errors import ErrorList, InputError, SnapshotError
from ..model.where import Where

MOST_PER_FILE = 25  # a wrong file has as many errors as lines; this many tell enough
SHOWN = 80  # characters of a bad line that are repeated in its error


def excerpt(text: object) -> str:
    """Foreign text for a message: quoted, escaped, short."""
    shown = repr(str(text)[: SHOWN + 1])
    return shown if len(str(text)) <= SHOWN else shown[:SHOWN] + "…'"


class Problems:
    """What went wrong (``errors``) and what was ignored or assumed (``notes``) while reading a snapshot."""

    def __init__(self) -> None:
        self.errors: list[InputError] = []
        self.notes: list[str] = []
        self._per_file: dict[str, int] = {}

    def error(self, message: str, file: str, line: int | None = None, remedy: str | None = None) -> None:
        """Record an error of a file; beyond a limit they are only counted."""
        count = self._per_file[file] = self._per_file.get(file, 0) + 1
        if count <= MOST_PER_FILE:
            self.errors.append(SnapshotError(message, Where(file, line), remedy))

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def add(self, error: InputError) -> None:
        """Record an error that was raised elsewhere (a list of them one by one)."""
        self.errors.extend(error.errors if isinstance(error, ErrorList) else [error])

    def finish(self) -> None:
        """Raise what has been collected, if anything."""
        for file, count in self._per_file.items():
            if count > MOST_PER_FILE:
                self.errors.append(SnapshotError(f"… and {count - MOST_PER_FILE} more errors", Where(file)))
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise ErrorList(self.errors)
