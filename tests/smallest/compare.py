"""Whether anything smaller would do than what ``why`` offers, for random broken flows.

    python tests/smallest/compare.py [FLOWS] [SEED]        # 200 flows take some minutes

A fix of one change cannot be beaten; where the smallest offered fix has more, or none is offered, brute force over single
changes must find nothing.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nattrace.sim.explain.fixes import find_fixes
from nattrace.sim.explain.parts import WORKS
from nattrace.sim.explain.trial import attempt
from nattrace.sim.explain.whatif import Edit
from smallest.broken import Broken, broken
from smallest.brute import smaller


def offered(one: Broken) -> int | None:
    """Changes of the smallest fix that works; None: none is offered."""
    trial = attempt(one.trial.world, one.trial.question, verbose=True)
    return min((len(f.edits) for f in find_fixes(trial, sample=0) if f.result == WORKS), default=None)


def beaten(one: Broken) -> tuple[int | None, Edit | None]:
    """(changes of the smallest fix offered, a single change that works where that is not one already)."""
    size = offered(one)
    return size, smaller(one.trial) if size != 1 else None


def main(count: int, seed: int) -> int:
    """Print every flow that brute force mends with less; status 1 if there is one."""
    sizes: Counter[str] = Counter()
    slowest = worst = 0.0
    failures = 0
    for number in range(seed, seed + count):
        one = broken(number)
        begun = time.perf_counter()
        size = offered(one)
        slowest = max(slowest, time.perf_counter() - begun)
        sizes["none" if size is None else str(size)] += 1
        if size == 1:
            continue
        begun = time.perf_counter()
        edit = smaller(one.trial)
        worst = max(worst, time.perf_counter() - begun)
        if edit is not None:
            failures += 1
            print(f"{one}\n   offered: {size} changes; smaller: {edit.host}: {edit.commands()}", flush=True)
    print(f"{count} broken flows from seed {seed}: changes of the smallest fix {dict(sorted(sizes.items()))}; "
          f"smaller ones found: {failures}; slowest search {slowest:.2f} s, slowest brute force {worst:.0f} s")  # fmt: skip
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200, int(sys.argv[2]) if len(sys.argv) > 2 else 1))
