"""Runs inside another kernel: a translated packet and a dropped one, told by whichever backend that kernel allows.

Prints JSON: the backend, what is missing, the places of each packet, whether it was whole. Not a test by itself:
test_other_kernels.py runs it under each kernel (with tests/live on PYTHONPATH) and compares.
"""

from __future__ import annotations

import json
import platform

from nattrace.tracer.live.event import KIND, tuple_text
from nattrace.tracer.live.filter import Filter
from probe_lab import RULES, Lab, Seen, lab


def told(seen: Seen, proto: int) -> list[list[str]]:
    """Ways of the packets of a protocol."""
    return [
        seen.places(i) for i in range(seen.packets.count) if seen.events["t"]["proto"][seen.packets.rows(i)[0]] == proto
    ]


def check(made: Lab, seen: Seen) -> dict[str, object]:
    """What there is to compare."""
    last = [e for e in seen.of(KIND.tap) if e["prio"] == 101 and e["t"]["proto"] == 17]
    return {
        "kernel": platform.release(),
        "backend": seen.session.backend,
        "missing": seen.session.missing,
        "not_attached": [str(slot) for slot in seen.slots if slot.state != "attached"],
        "udp": told(seen, 17),
        "icmp": told(seen, 1),
        "complete": seen.packets.complete.tolist(),
        "translated": tuple_text(last[0]["t"]) if last else None,
        "marks": sorted({int(e["mark"]) for e in seen.of(KIND.tap) if e["prio"] == -149 and e["t"]["proto"] == 17}),
        "drop": [seen.reasons.get(int(e["reason"])) for e in seen.of(KIND.drop)],
        "lost": sum(seen.loss.values()),
    }


def main() -> None:
    """Both packets in one session: compiling is what takes long here."""
    with lab(RULES) as made:

        def send() -> None:
            made.send("10.7.1.1", 8080)
            made.send("10.7.2.2", 9999, source=40002)

        seen = made.watch(Filter.of(proto="udp", src="10.7.1.2"), send, wait=1.0)
        print(json.dumps(check(made, seen)))


if __name__ == "__main__":
    main()
