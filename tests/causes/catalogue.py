"""The catalogue of causes under docs/causes: one folder each, read as data."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nattrace.tracer.lab import load_topology
from nattrace.tracer.lab.topology import Topology

HOME = Path(__file__).resolve().parents[2] / "docs" / "causes"


@dataclass(frozen=True)
class Cause:
    """``flow`` fails in ``topology`` after ``history``; ``code`` is what the answer's first line names.

    ``cure``: (host, command) where no fix can be offered; ``judged_by``: the test that sees it cured, where another one does.
    ``source``: the address that the packet must leave with, ``arrives``: the host it must reach once the cause is gone ("HOST ADDRESS" where it is translated); ``symptom``: in users' words.
    """

    name: str
    title: str
    flow: str
    code: str
    source: str | None
    arrives: str | None
    symptom: str | None
    history: tuple[dict[str, Any], ...]
    cure: tuple[tuple[str, str], ...]
    judged_by: str | None
    topology: Topology

    @property
    def snapshot(self) -> Path:
        return HOME / self.name / "snapshot"


@cache
def cause(name: str) -> Cause:
    data = tomllib.loads((HOME / name / "cause.toml").read_text())
    return Cause(
        name, data["title"], data["flow"], data["code"], data.get("source"), data.get("arrives"), data.get("symptom"),
        tuple(data.get("history", ())), tuple((c["host"], c["command"]) for c in data.get("cure", ())), data.get("judged_by"),
        load_topology(HOME / name / "lab.toml"),
    )  # fmt: skip


NAMES = sorted(path.parent.name for path in HOME.glob("*/cause.toml"))


def live_through(one: Cause, lab: Any, wires: Any) -> None:
    """Let what happened before the capture happen."""
    for event in one.history:
        if "command" in event:
            lab.run(event["host"], *event["command"].split())
        elif "fill" in event:
            fill(lab, event["host"], **event["fill"])
        else:
            wires.send({"host": event["host"], "in": None, **event["packet"]})


def fill(lab: Any, host: str, src: str, dst: str, dport: int, nat: str, timeout: int) -> None:
    """Established TCP connections from ``src`` to addresses that begin with ``dst``, until the host's table is full.

    The limit is the machine's and is left alone; a batch for ``conntrack -R`` fills a table of 262,144 in three seconds.
    """
    limit, count = (int(lab.run(host, "cat", f"/proc/sys/net/netfilter/nf_conntrack_{n}")) for n in ("max", "count"))
    places = (divmod(n, 60000) for n in range(limit - count))
    lines = (
        f"-A -p tcp -s {src} -d {dst}{a + 1} --sport {1024 + p} --dport {dport} -n {nat} -r {dst}{a + 1} -q {nat} "
        f"--reply-port-src {dport} --reply-port-dst {1024 + p} -t {timeout} -u ASSURED,SEEN_REPLY --state ESTABLISHED\n"
        for a, p in places
    )
    lab.run(host, "conntrack", "-R", "-", text="".join(lines))
