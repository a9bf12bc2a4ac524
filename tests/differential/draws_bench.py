"""Many draws of the kernel at little cost, and the simulator's answer about one of them.

Repeats of a draw must not know of each other. They share a namespace but not a destination: every repeat has clients
and peers of its own, so that what one took is free for the next. All frames of a sample go out in a few batches; the
IP identification field says which frame is which.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab_support import Bench, lab
from nattrace.sim.engine.simulate import Simulator
from nattrace.sim.model.drawn import Domain
from nattrace.sim.snapshot.load import load_world
from nattrace.tracer.lab.packets import build, number_of

BATCH = 256
SUSPICIOUS = 1e-4  # chance of a right answer to look wrong: it gets a second sample …
WRONG = 1e-3  # … and the two together stand for 1e-7 per question
BINS = 20

Record = dict[str, Any]
Make = Callable[[int], list[Record]]
"""Repeat number → its packets; the last one is the one that draws."""


@dataclass
class Desk:
    """A lab, its snapshot as a world, the next unused repeat number and the seed that picked the ports."""

    bench: Bench
    world: Any
    seed: int
    random: random.Random = field(init=False)
    used: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def repeats(self, count: int) -> range:
        """Fresh numbers: no two repeats of a lab share one."""
        first = self.used
        self.used += count
        return range(first, first + count)

    def simulator(self, replies: bool = False) -> Simulator:
        """The lab as it was before its first packet."""
        return Simulator(self.world, replies=replies)

    def send(self, records: list[Record]) -> list[Record | None]:
        """What became of each packet: its headers where it left or arrived, with ``dev`` and ``kind``; None: gone."""
        out: list[Record | None] = [None] * len(records)
        wires = self.bench.wires
        for first in range(0, len(records), BATCH):
            batch = records[first : first + BATCH]
            wires.settle()
            for number, record in enumerate(batch):
                if record.get("in") is None:
                    wires.send_local(record)
                else:
                    wires.inject(record["host"], record["in"], build({**record, "ip_id": number + 1}))
            for seen in wires.settle():
                end = "left" if seen.direction == "out" else "arrived" if seen.direction == "arrived" else None
                which = self._number(seen.packet, end, batch) if end else None
                if which is not None and out[first + which] is None:
                    out[first + which] = {**seen.packet, "dev": seen.dev, "end": end}
        return out

    @staticmethod
    def _number(packet: Record, end: str, batch: list[Record]) -> int | None:
        """Which packet of the batch this is; a local one (its ttl is whole) is known by its destination."""
        if packet["ttl"] == 64 and end == "left":
            own = (packet["dst"], packet.get("dport"))
            return next(
                (i for i, r in enumerate(batch) if r.get("in") is None and (r["dst"], r.get("dport")) == own), None
            )
        number = packet["ip_id"] - 1
        if not 0 <= number < len(batch) or batch[number].get("in") is None or "inner" in packet:
            return None
        return number if number_of(packet["proto"]) == number_of(batch[number]["proto"]) else None

    def sample(self, make: Make, count: int) -> list[Record | None]:
        """What became of the drawing packet of ``count`` fresh repeats."""
        records: list[Record] = []
        last: list[int] = []
        for number in self.repeats(count):
            records += make(number)
            last.append(len(records) - 1)
        ends = self.send(records)
        return [ends[i] for i in last]


@contextmanager
def desk(topology: str, scratch: Path, meta: Record | None = None) -> Iterator[Desk]:
    """Build the lab and snapshot it before anything has happened in it."""
    import json

    with lab(topology) as bench:
        bench.snapshot(scratch)
        for host in bench.lab.topology.hosts:
            file = scratch / host.name / "meta.json"
            file = file if file.exists() else scratch / "meta.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), "fresh": True, **(meta or {})}))
        seed = random.SystemRandom().randrange(10**6)
        print(f"seed {seed}")
        yield Desk(bench, load_world(scratch), seed)


# ------------------------------------------------------------------------------------- the simulator's side


@dataclass
class Told:
    """What the simulator says about a drawing packet, from its last of several records."""

    simulator: Simulator
    result: Record
    domain: Domain | None

    @property
    def gone(self) -> float:
        """Probability that the packet gets nowhere."""
        return sum(o["probability"] for o in self.result["outcomes"] if o["outcome"] not in ("left", "delivered"))

    def shares(self) -> dict[int, float]:
        """Number → probability, given that the packet gets somewhere."""
        assert self.domain is not None
        return shares_of_domain(self.domain)


def shares_of_domain(domain: Domain) -> dict[int, float]:
    """Candidate → its share of the whole."""
    pieces = domain.weights or tuple((lo, hi, 1) for lo, hi in domain.ranges)
    return {n: w / domain.mass for lo, hi, w in pieces for n in range(lo, hi + 1)}


def ask(desk: Desk, records: list[Record], key: str, replies: bool = False) -> Told:
    """Feed the packets of one repeat; ``key``: the header that is drawn."""
    simulator = desk.simulator()
    for record in records[:-1]:
        result = simulator.feed(record)
        assert result["certainty"] == "exact", (record, result["outcome"], result["reason"])
    simulator.replies = replies
    result = simulator.feed(records[-1])
    drawn = [o["packet"][key] for o in result["outcomes"] if isinstance(o["packet"].get(key), dict)]
    domain = (
        next((d for _, state in simulator.worlds for d in reversed(state.domains.values())), None) if drawn else None
    )
    return Told(simulator, result, domain)


# -------------------------------------------------------------------------------------------- statistics


def chi_squared(seen: Counter[Any], shares: dict[Any, float]) -> float:
    """p-value of the seen counts, categories with few expected ones put together."""
    from scipy.stats import chisquare

    total = sum(seen.values())
    stray = set(seen) - {k for k, p in shares.items() if p > 0}
    assert not stray, f"not among the candidates: {sorted(stray)[:9]}"
    counts: list[int] = []
    wanted: list[float] = []
    least = max(5.0, total / BINS if len(shares) > BINS else 0.0)
    have, want = 0, 0.0
    for key, share in sorted(shares.items()):
        have += seen[key]
        want += share * total
        if want >= least:
            counts.append(have)
            wanted.append(want)
            have, want = 0, 0.0
    if want and wanted:
        counts[-1] += have
        wanted[-1] += want
    scale = sum(counts) / sum(wanted)
    if len(counts) < 2:
        return 1.0
    return float(chisquare(counts, [w * scale for w in wanted]).pvalue)


def fits(draw: Callable[[int], Counter[Any]], shares: dict[Any, float], count: int) -> str:
    """Empty if ``count`` draws follow ``shares``, else how they do not. A suspicious sample is taken once more."""
    seen = draw(count)
    p = chi_squared(seen, shares)
    if p >= SUSPICIOUS:
        return ""
    again = draw(count)
    q = chi_squared(again, shares)
    return "" if q >= WRONG else f"χ²: p = {p:.2g}, then {q:.2g}; seen {dict((seen + again).most_common(12))}"


def free(low: int, high: int, *taken: int) -> tuple[tuple[int, int], ...]:
    """The ranges of a search that may take anything from ``low`` to ``high`` but what is taken."""
    return Domain.of(low, high, set(taken)).ranges
