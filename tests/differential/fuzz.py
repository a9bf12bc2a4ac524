"""Random situations against the kernel, without end: ``python tests/differential/fuzz.py [N] [FIRST_SEED]``.

Prints every seed that fails with its smallest form, the certainty of all answers, and what the rules covered.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections import Counter
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from differential import coverage
from differential.compare import show
from differential.generator import STEADY, situation
from differential.runner import STATS, Verdict, run
from differential.shrink import shrink, tidy

REGRESSIONS = Path(__file__).resolve().parent.parent / "data" / "regressions"


def report(seed: int, level: int, small: dict, verdict: Verdict, out) -> None:
    """One failure, as somebody who has to mend it wants to read it."""
    print(f"\n## seed {seed} level {level}: {verdict.signature}", file=out)
    for detail in verdict.details[:8]:
        print(f"- {detail}", file=out)
    if verdict.record:
        print(f"record: {json.dumps(verdict.record)}", file=out)
    if verdict.observation:
        ends = "; ".join(show(f) + (" (main)" if f.main else "") for f in verdict.observation.finals)
        print(f"kernel: errno {verdict.observation.errno}; {ends or 'nothing seen to end'}", file=out)
    if verdict.result:
        result = verdict.result
        print(f"predicted: {result['outcome']} ({result['certainty']}) at {result['at']}; {result['reason']}", file=out)
    print(f"situation: {json.dumps(brief(small))}", file=out, flush=True)


def brief(small: dict) -> dict:
    """Without the settings that every host has (running it adds them again)."""
    out = copy.deepcopy(small)
    for host in out["topology"]["hosts"].values():
        host["sysctl"] = {
            k: v
            for k, v in host["sysctl"].items()
            if k not in STEADY and ".neigh." not in k and "send_redirects" not in k
        }
        for key in [k for k, v in host.items() if not v]:
            del host[key]
    return out


def main(argv: list[str] | None = None) -> int:
    """Status 1 if anything differed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=0, help="how many situations (0: until stopped)")
    parser.add_argument("seed", nargs="?", type=int, default=None, help="first seed (default: from the clock)")
    parser.add_argument("--level", type=int, default=9, help="0 simple forwarding … 9 everything")
    parser.add_argument("--packets", type=int, default=30)
    parser.add_argument("--save", action="store_true", help="keep failures as regression cases")
    parser.add_argument("--no-shrink", action="store_true")
    parser.add_argument("--shrink-seconds", type=float, default=60)
    parser.add_argument("--each-class", type=int, default=2, help="shrink and print at most so many of a class")
    parser.add_argument("--keep", type=Path, help="write every situation that fails into this directory, whole")
    parser.add_argument("--touched", type=Path, help="add this run's coverage to the counts kept in this file")
    parser.add_argument("--report", type=Path, help="append failures to this file")
    options = parser.parse_args(argv)
    first = options.seed if options.seed is not None else int(time.time())
    totals, unknowns, touched, classes = Counter(), Counter(), Counter(), Counter()
    out = options.report.open("a") if options.report else sys.stdout
    print(f"seeds from {first}, level {options.level}: again with SEED={first}", flush=True)
    begun = time.monotonic()
    seed = first
    try:
        while not options.count or seed < first + options.count:
            made = situation(seed, options.level, options.packets)
            verdict = run(made)
            totals["situations"] += 1
            totals.update(verdict.stats)
            unknowns.update(verdict.unknowns)
            touched.update(verdict.touched)
            if verdict.kind and options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"seed{seed}.json").write_text(json.dumps({"found": verdict.signature, **brief(made)}))
            if verdict.kind:
                classes[verdict.signature] += 1
                totals["failed"] += 1
                if classes[verdict.signature] <= options.each_class:
                    small, final = made, verdict
                    if not options.no_shrink and verdict.kind != "rejected":
                        small, final = shrink(copy.deepcopy(made), verdict, options.shrink_seconds)
                    report(seed, options.level, tidy(small), final, out)
                    if options.save:
                        REGRESSIONS.mkdir(parents=True, exist_ok=True)
                        path = REGRESSIONS / f"seed{seed}-level{options.level}.json"
                        path.write_text(json.dumps({"found": final.signature, **brief(tidy(small))}, indent=1) + "\n")
            seed += 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    print(f"\nseeds {first}–{seed - 1}, level {options.level}, {time.monotonic() - begun:.0f} s")
    for name, number in sorted(totals.items()):
        print(f"  {name:32}{number:8}")
    compared = sum(totals[certainty] for certainty in STATS)
    print(f"  packets compared: {compared}, {compared / max(totals['situations'], 1):.1f} of a situation")
    for certainty in STATS:
        print(f"  {certainty + ', share':32}{100 * totals[certainty] / max(compared, 1):8.2f} %")
    for title, found in (("unknown", unknowns), ("failures", classes)):
        for text, number in found.most_common(40):
            print(f"  {title}: {number:6}  {text}")
    if options.touched:
        kept = json.loads(options.touched.read_text()) if options.touched.exists() else {}
        touched.update(kept)
        options.touched.write_text(json.dumps(touched, indent=0, sort_keys=True))
    print(coverage.table(touched))
    return 1 if totals["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
