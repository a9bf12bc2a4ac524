"""The smallest situation that still fails in the same way: drop packets, then rules, then routes, ask again."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

from .runner import Verdict, run


def shrink(situation: dict[str, Any], verdict: Verdict, seconds: float = 60.0) -> tuple[dict[str, Any], Verdict]:
    """A smaller situation with the same signature, and its verdict; stops when time is up."""
    deadline = time.monotonic() + seconds
    best, last = copy.deepcopy(situation), verdict
    signature = verdict.signature

    def still(candidate: dict[str, Any]) -> bool:
        nonlocal best, last
        if time.monotonic() > deadline:
            return False
        found = run(copy.deepcopy(candidate))
        if found.kind and found.signature == signature:
            best, last = copy.deepcopy(candidate), found
            return True
        return False

    if verdict.kind != "conntrack":
        trimmed = copy.deepcopy(best)
        trimmed["packets"] = trimmed["packets"][: verdict.index + 1]
        if not still(trimmed):
            return best, last
    _drop_packets(lambda: best, still)
    for path in _lists(best):
        _drop_items(lambda: best, still, path)
    _drop_sysctls(lambda: best, still)
    _drop_packets(lambda: best, still)
    return best, last


def _drop_packets(best: Callable[[], dict[str, Any]], still: Callable[[dict[str, Any]], bool]) -> None:
    size = max(len(best()["packets"]) // 2, 1)
    while size:
        start = 0
        while start < len(best()["packets"]):
            candidate = copy.deepcopy(best())
            chunk = range(start, min(start + size, len(candidate["packets"])))
            if any(candidate["packets"][i]["op"] != "skip" for i in chunk):
                for i in chunk:
                    candidate["packets"][i] = {"op": "skip"}
                still(candidate)
            start += size
        size //= 2


def _lists(situation: dict[str, Any]) -> list[tuple[str, str]]:
    keys = ("iptables", "iptables-legacy", "rules", "routes", "ipset", "listen")
    return [(host, key) for key in keys for host in situation["topology"]["hosts"]]


def _drop_items(
    best: Callable[[], dict[str, Any]], still: Callable[[dict[str, Any]], bool], path: tuple[str, str]
) -> None:
    host, key = path
    size = len(best()["topology"]["hosts"][host].get(key, []))
    while size:
        start = 0
        while start < len(best()["topology"]["hosts"][host].get(key, [])):
            candidate = copy.deepcopy(best())
            del candidate["topology"]["hosts"][host][key][start : start + size]
            if not still(candidate):
                start += size
        size //= 2


def _drop_sysctls(best: Callable[[], dict[str, Any]], still: Callable[[dict[str, Any]], bool]) -> None:
    from .generator import STEADY

    for host, data in best()["topology"]["hosts"].items():
        for name in list(data["sysctl"]):
            if name in STEADY or ".neigh." in name or name.endswith("ip_forward"):
                continue
            candidate = copy.deepcopy(best())
            candidate["topology"]["hosts"][host]["sysctl"].pop(name, None)
            still(candidate)


def tidy(situation: dict[str, Any]) -> dict[str, Any]:
    """Without the packets that were dropped, references renumbered: for people to read and for the records."""
    out = copy.deepcopy(situation)
    numbers: dict[int, int] = {}
    kept = []
    for index, op in enumerate(out["packets"]):
        if op["op"] != "skip":
            numbers[index] = len(kept)
            kept.append(op)
    for op in kept:
        if "of" in op:
            op["of"] = numbers.get(op["of"], -1)
    out["packets"] = kept
    return out
