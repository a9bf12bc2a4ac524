"""Reading the kernel's counters and conntrack table, independently of the readers under test."""

from __future__ import annotations

import re
from typing import Any

from nattrace.tracer.lab.build import Lab


def rule_counters(
    lab: Lab, host: str, backends: tuple[str, ...] = ("nft",)
) -> dict[tuple[str, str, str, int], tuple[int, int]]:
    """(backend, table, chain, rule number; 0 = policy) → (packets, bytes), as ``iptables-save -c`` prints them."""
    out: dict[tuple[str, str, str, int], tuple[int, int]] = {}
    for backend in backends:
        text = lab.run(host, f"iptables-{backend}-save", "-c")
        table = ""
        numbers: dict[str, int] = {}
        for line in text.splitlines():
            if line.startswith("*"):
                table, numbers = line[1:], {}
            elif line.startswith(":"):
                found = re.match(r":(\S+) (\S+) \[(\d+):(\d+)\]", line)
                if found and found[2] != "-":
                    out[backend, table, found[1], 0] = (int(found[3]), int(found[4]))
            elif line.startswith("["):
                found = re.match(r"\[(\d+):(\d+)\] -A (\S+)", line)
                if found:
                    numbers[found[3]] = numbers.get(found[3], 0) + 1
                    out[backend, table, found[3], numbers[found[3]]] = (int(found[1]), int(found[2]))
    return out


_KEYS = {"src", "dst", "sport", "dport", "type", "code", "id", "srckey", "dstkey", "packets", "bytes"}


def conntrack_entries(lab: Lab, host: str) -> list[dict[str, Any]]:
    """``conntrack -L -o extended``, one dict an entry: proto, timeout, state, orig, reply, flags, mark, zones."""
    return [parse_entry(line) for line in lab.run(host, "conntrack", "-L", "-o", "extended", check=False).splitlines()]


def parse_entry(line: str) -> dict[str, Any]:
    """One line of ``conntrack -L -o extended``."""
    words = line.split()
    out: dict[str, Any] = {
        "proto": int(words[3]),
        "timeout": int(words[4]),
        "state": None,
        "flags": set(),
        "line": line,
    }
    sides: list[dict[str, str]] = [{}, {}]
    side = -1
    for word in words[5:]:
        key, equals, value = word.partition("=")
        if word.startswith("["):
            out["flags"].add(word.strip("[]"))
        elif not equals:
            out["state"] = word
        elif key == "src":
            side += 1
            sides[min(side, 1)][key] = value
        elif key in _KEYS and side >= 0:
            sides[min(side, 1)][key] = value
        elif key in ("zone", "zone-orig", "zone-reply", "mark", "helper", "labels", "use"):
            out[key] = value
    out["orig"], out["reply"] = sides
    return out
