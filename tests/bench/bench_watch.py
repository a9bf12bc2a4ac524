"""``nattrace watch`` for a long time: new connections at a steady rate through the random situations' rule sets.

Run as root: ``python tests/bench/bench_watch.py [SECONDS [RATE [SITUATIONS [SEED]]]]`` (600, 200, 8, 1). Prints what the watch
told and its memory every 30 s, then the sums; the status is 1 if anything was not as predicted or memory grew.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

from nattrace.tracer.lab.packets import build  # noqa: E402

from tests.differential.generator import situation  # noqa: E402
from tests.differential.kernel import KernelRun, Rejected  # noqa: E402

WARM = 60  # seconds until memory counts
GROWTH = 1.03  # of the resident size after that


def labs(stack: ExitStack, count: int, seed: int) -> list[tuple[KernelRun, list[dict[str, Any]]]]:
    """Situations in namespaces, each with the packets that are sent into it."""
    found: list[tuple[KernelRun, list[dict[str, Any]]]] = []
    while len(found) < count:
        drawn = situation(seed, packets=300)
        seed += 1
        records = [op["record"] for op in drawn["packets"] if op["op"] == "send" and usable(op["record"])]
        try:
            run = stack.enter_context(KernelRun(drawn))
        except Rejected:
            continue
        if len(records) > 20:
            found.append((run, records))
    return found


def usable(record: dict[str, Any]) -> bool:
    """A first packet from outside: its ports can be drawn anew, and it comes by itself."""
    return record.get("in") is not None and record.get("proto") in ("udp", "tcp", "icmp") and "inner" not in record


def connections(rnd: random.Random, places: list[tuple[KernelRun, list[dict[str, Any]]]]) -> Iterator[None]:
    """Sends one new connection's first packet at each step."""
    while True:
        run, records = rnd.choice(places)
        record = dict(rnd.choice(records), ip_id=rnd.randrange(1, 65536), payload="")
        if record["proto"] == "icmp":
            record |= {"type": 8, "code": 0, "icmp_id": rnd.randrange(65536), "seq": 1, "len": 28}
        else:
            record["sport"] = rnd.randrange(1024, 65536)
            record["len"] = 28
        if record["proto"] == "tcp":
            record |= {"flags": "S", "tcp_seq": rnd.randrange(1 << 32), "tcp_ack": 0, "window": 65000, "len": 40}
        run.wires.inject(record["host"], record["in"], build(record), record.get("mac"))
        run.wires._drain([])
        yield


def resident(pid: int) -> int:
    """KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))


def main(seconds: float = 600, rate: float = 200, count: int = 8, seed: int = 1) -> int:
    print(f"{seconds:.0f} s, {rate:.0f} connections/s, {count} situations from seed {seed}")
    with ExitStack() as stack:
        places = labs(stack, count, seed)
        names = [run.lab.netns(host.name) for run, _ in places for host in run.lab.topology.hosts]
        ready = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "ready"
        watcher = Path(sys.executable).with_name("nattrace")
        words = [watcher, "watch", "--json", "--ready-file", ready, *(w for n in names for w in ("--netns", n))]
        told = stack.enter_context(tempfile.TemporaryFile("w+"))
        child = subprocess.Popen([*map(str, words)], stdout=told)
        stack.callback(child.kill)
        while not ready.exists():
            if child.poll() is not None:
                print("watch ended", child.returncode)
                return 1
            time.sleep(0.1)
        sizes = feed(places, child, seconds, rate, seed)
        child.send_signal(2)
        child.wait(60)
        told.seek(0)
        sums = json.loads(told.read().splitlines()[-1])
    print(json.dumps(sums, indent=1))
    grown = max(sizes[len(sizes) // 2 :]) / sizes[0] if sizes else 1.0
    print(f"resident after {WARM} s: {sizes[0] if sizes else 0} KiB, later at most {grown:.3f} of that")
    return int(bool(sums["disagreed"]) or grown > GROWTH)


def feed(places: Any, child: subprocess.Popen[bytes], seconds: float, rate: float, seed: int) -> list[int]:
    """Send at the rate; the resident sizes from WARM on."""
    sizes: list[int] = []
    begin, step = time.monotonic(), connections(random.Random(seed), places)
    sent, shown = 0, 0.0
    while (now := time.monotonic() - begin) < seconds:
        while sent < now * rate:
            next(step)
            sent += 1
        if now - shown >= 30 or (shown == 0 and now > 5):
            shown = now
            size = resident(child.pid)
            print(f"{now:5.0f} s  {sent} sent  {size} KiB", flush=True)
            sizes += [size] if now >= min(WARM, seconds / 3) else []
        time.sleep(0.002)
    return sizes


if __name__ == "__main__":
    sys.exit(main(*(float(a) if i < 2 else int(a) for i, a in enumerate(sys.argv[1:]))))  # type: ignore[arg-type]
