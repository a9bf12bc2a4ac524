"""Every error nattrace raises on purpose.

    NattraceError
    ├── InputError          what the user gave is wrong                     exit 2
    │   ├── SnapshotError   a file of a snapshot (file:line)
    │   ├── RuleError       a rule that cannot be understood (file:line)
    │   └── FlowError       a FLOW that cannot be understood (caret)
    ├── MissingFacility     an extra, a tool or a kernel facility is absent  exit 3
    └── InternalError       an invariant of ours broke

An error says what, where and what to do; the command line shows it in one place and never as a traceback.
"""

from __future__ import annotations

from .model.where import Where


class NattraceError(Exception):
    """Base of all: ``message`` (what), ``where`` (file:line or None), ``remedy`` (what to do or None)."""

    exit_code = 2

    def __init__(self, message: str, where: Where | None = None, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"\n  {self.remedy}" if self.remedy else ""
        return f"{place}{self.message}{advice}"


class InputError(NattraceError):
    """The command line or an input is wrong."""


class SnapshotError(InputError):
    """A snapshot or one of its files cannot be read as what its name says."""


class RuleError(InputError):
    """A rule cannot be understood."""


class FlowError(InputError):
    """A FLOW cannot be understood; ``column`` is the 0-based place of the caret in ``text``."""

    def __init__(self, message: str, text: str = "", column: int | None = None, remedy: str | None = None) -> None:
        super().__init__(message, None, remedy)
        self.text = text
        self.column = column

    def __str__(self) -> str:
        lines = [self.message]
        if self.text and self.column is not None:
            lines += [f"  {self.text}", "  " + " " * self.column + "^"]
        if self.remedy:
            lines.append(f"  {self.remedy}")
        return "\n".join(lines)


class ErrorList(InputError):
    """Several errors of one input, all reported (a reader never stops at the first)."""

    def __init__(self, errors: list[InputError]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(str(e) for e in self.errors)


class MissingFacility(NattraceError):
    """Something that has to be installed or enabled first; the message names it and the way out."""

    exit_code = 3


class InternalError(NattraceError):
    """A broken invariant of nattrace itself."""

    exit_code = 70
