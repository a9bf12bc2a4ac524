"""CPU time of reading a kube-proxy-like rule set, as a ratio to ``iptables-nft-restore --test`` of the same file.

    python tests/bench/bench_parse.py [RULES] [RUNS]        # root, for a network namespace

Alternating runs, user and system time of each whole process by os.wait4(), medians. Not a test: machines differ.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from kube import kube_save

NETNS = f"prs-bench-{os.getpid()}"
_READ = """
import sys
from nattrace.sim.rules.iptables import parse_save
text = open(sys.argv[1], "rb").read().decode()
tables = {t.name: t for t in parse_save(text, file="kube.txt", strict=%s)}
"""
_WALK = """
from nattrace.sim.model.packet import Skb
skb = Skb(2, 6, 0x0AF40001, 0x0A600010)
skb.dport, skb.length = 80, 60
nat = tables["nat"]
any(t.uses_tracking() for t in tables.values())
chains = ["PREROUTING"]
while chains:
    for rule in nat.chains[chains.pop()].candidates(skb, 1):
        called = getattr(rule.target, "chain", None)
        if called and called.startswith("KUBE-S"):
            chains.append(called)
"""


def cpu(command: list[str], stdin: str | None = None) -> float:
    """CPU seconds of a process and those it waited for."""
    actions = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    if stdin is not None:
        actions.append((os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0))
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{command} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    rules = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "kube.txt")
        with open(path, "w") as out:
            out.write(kube_save(rules))
        jobs = {
            "iptables-nft-restore --test": (["ip", "netns", "exec", NETNS, "iptables-nft-restore", "--test"], path),
            "python -c pass": ([sys.executable, "-c", "pass"], None),
            "import of the parser": ([sys.executable, "-c", "import nattrace.sim.rules.iptables"], None),
            "read and validate all": ([sys.executable, "-c", _READ % True, path], None),
            "lazy: one flow's chains": ([sys.executable, "-c", _READ % False + _WALK, path], None),
        }
        subprocess.run(["ip", "netns", "add", NETNS], check=True)
        try:
            times: dict[str, list[float]] = {name: [] for name in jobs}
            for _ in range(runs):
                for name, (command, stdin) in jobs.items():
                    times[name].append(cpu(command, stdin))
        finally:
            subprocess.run(["ip", "netns", "del", NETNS], check=True)
    base = statistics.median(times["iptables-nft-restore --test"])
    print(f"{rules} rules, {runs} alternating runs, median CPU time")
    for name, found in times.items():
        middle = statistics.median(found)
        print(f"{name:30s} {middle * 1000:7.0f} ms   {middle / base:5.2f} x")


if __name__ == "__main__":
    main()
