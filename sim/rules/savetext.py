"""The text of a save file by offsets: lines, their numbers, and the parts of a rule line."""

from __future__ import annotations

import re

from ..model.where import Counted, Where

_STEP = 1 << 14
COUNTERS = re.compile(r"\[(\d{1,20}):(\d{1,20})\]\s*")
_APPEND = re.compile(r"(?:-A|--append|-I|--insert)\s+(?:\"[^\"]*\"|\S+)(?:\s+(?=[0-9]+(?:\s|$))[0-9]+)?")


class SaveText:
    """A file in memory. Offsets count characters of ``text``, whose lines end in a line feed alone."""

    __slots__ = ("_marks", "file", "text")

    def __init__(self, text: str, file: str) -> None:
        self.text = text.replace("\r\n", "\n") if "\r" in text else text
        self.file = file
        self._marks = [0]  # line feeds before offset 0, _STEP, 2 * _STEP … as far as anybody asked

    def line(self, offset: int) -> str:
        end = self.text.find("\n", offset)
        return self.text[offset:end] if end >= 0 else self.text[offset:]

    def number(self, offset: int) -> int:
        """Line number of an offset, from 1."""
        marks, text = self._marks, self.text
        block = offset // _STEP
        while len(marks) <= block:
            start = (len(marks) - 1) * _STEP
            marks.append(marks[-1] + text.count("\n", start, start + _STEP))
        return marks[block] + text.count("\n", block * _STEP, offset) + 1

    def where(self, offset: int) -> Where:
        return Counted.at(self.file, self.number, offset)


def split_rule(line: str) -> tuple[str, str]:
    """(counters or "", text from the first criterion on with one space before it) of a rule line."""
    if line[:3] == "-A " and line[3:4] not in ' "\t':
        cut = line.find(" ", 3)
        return "", line[cut:] if cut > 0 else ""
    line = line.strip()
    counters = COUNTERS.match(line)
    start = counters.end() if counters else 0
    if line[start : start + 3] == "-A " and line[start + 3 : start + 4] not in ' "\t':
        cut = line.find(" ", start + 3)
        return counters.group() if counters else "", line[cut:] if cut > 0 else ""
    found = _APPEND.match(line, start)
    return counters.group() if counters else "", " " + line[found.end() :].strip() if found else ""


def read_counters(text: str) -> tuple[int, int] | None:
    found = COUNTERS.match(text)
    return (int(found.group(1)), int(found.group(2))) if found else None
