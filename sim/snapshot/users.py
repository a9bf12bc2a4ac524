"""``passwd.txt``, ``group.txt``, ``hosts.txt``: the output of ``getent``."""

from __future__ import annotations

from ..model.addr import parse_addr
from .problems import Problems, excerpt
from .words import unsigned


def read_ids(text: str, file: str, problems: Problems) -> dict[str, int]:
    """User or group names and their numbers (third field of ``getent passwd`` and ``getent group``)."""
    ids: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split(":")
        try:
            if len(fields) < 3 or not fields[0]:
                raise ValueError("expected NAME:PASSWORD:NUMBER:…")
            ids.setdefault(fields[0], unsigned(fields[2], "number", 0xFFFFFFFF))
        except ValueError as error:
            problems.error(f"{error}: {excerpt(line)}", file, number)
    return ids


def read_hosts(text: str, file: str, problems: Problems) -> dict[str, tuple[int, int]]:
    """Names of ``getent hosts`` (or of /etc/hosts): name → (family, address); the first line that has it counts."""
    names: dict[str, tuple[int, int]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            address = parse_addr(words[0].partition("%")[0])
        except (ValueError, OSError):
            problems.error(f"not an address: {excerpt(words[0])}", file, number, "it is the output of: getent hosts")
            continue
        for name in words[1:]:
            names.setdefault(name, address)
    return names
