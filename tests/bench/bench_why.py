"""CPU time of cold `nattrace` processes, as ratios to ``iptables-nft-restore --test`` and to a bare interpreter.

    python tests/bench/bench_why.py [RULES] [RUNS]          # root, for a network namespace

Alternating runs, user and system time of each whole process by os.wait4(), medians; wall clock beside it. Not a test:
machines differ. The targets: ``why`` of a scenario ≤ 250 ms, ``--help`` ≤ 120 ms of wall clock on a quiet core;
``why`` over 50,000 rules ≤ 1/4 of the CPU time of ``iptables-nft-restore --test``, ``--strict`` ≤ 1 ×.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kube import kube_save

NETNS = f"why-bench-{os.getpid()}"
BEYOND = NETNS + "-x"  # holds the other ends of its cables
NATTRACE = str(Path(sys.executable).parent / "nattrace")
FLOW = "tcp 10.244.0.5:40000 -> 10.96.0.16:{port} in eth0"
SCENARIOS = {
    "twice-through-conntrack": "icmp 10.10.1.1 -> 8.8.8.8 at client",
    "twice-through-conntrack.zone-orig": "icmp 10.10.1.1 -> 8.8.8.8 at client",
    "two-uplinks": "tcp 192.168.1.7 -> 1.2.3.4:443 in eth1",
}
BASE = "iptables-nft-restore --test"


def run(command: list[str], stdin: str | None = None) -> tuple[float, float]:
    """CPU and wall clock seconds of a process."""
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
    if stdin is not None:
        quiet.append((os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0))
    # users have compiled modules: a shell that forbids writing them would have each run compile everything
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, env, file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    took = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime, took


NETWORK = """
link add eth0 type veth peer name pod netns {beyond}
link add eth1 type veth peer name world netns {beyond}
addr add 10.244.0.1/16 dev eth0
addr add 192.0.2.7/24 dev eth1
link set lo up
link set eth0 up
link set eth1 up
route add default via 192.0.2.1
neigh add 192.0.2.1 dev eth1 lladdr 02:00:00:00:00:99
"""


def node(folder: Path, save: Path) -> Path:
    """A snapshot of a small host, all its dumps real, with the big rule set in it."""
    network = NETWORK.format(beyond=BEYOND)
    subprocess.run(["ip", "-n", NETNS, "-batch", "-"], input=network, text=True, check=True)
    subprocess.run(["ip", "-n", BEYOND, "link", "set", "pod", "up"], check=True)
    subprocess.run(["ip", "-n", BEYOND, "link", "set", "world", "up"], check=True)
    subprocess.run(["ip", "netns", "exec", NETNS, "sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True)
    subprocess.run([NATTRACE, "snapshot", str(folder), "--netns", NETNS], check=True, stdout=subprocess.DEVNULL)
    (saved,) = [p.parent / "iptables-save.txt" for p in folder.rglob("route.json")]
    shutil.copy(save, saved)
    return folder


def jobs(folder: Path, rules: int) -> dict[str, tuple[list[str], str | None]]:
    text = kube_save(rules)
    save = folder / "kube.txt"
    save.write_text(text)
    snapshot = str(node(folder / "snapshot", save))
    port = text.split("-A KUBE-SERVICES -d 10.96.0.16/32 ")[1].split("--dport ")[1].split()[0]
    flow = FLOW.format(port=port)
    found: dict[str, tuple[list[str], str | None]] = {
        BASE: (["ip", "netns", "exec", NETNS, "iptables-nft-restore", "--test"], str(save)),
        "python -c pass": ([sys.executable, "-c", "pass"], None),
        "nattrace --help": ([NATTRACE, "--help"], None),
    }
    for name, asked in SCENARIOS.items():
        found[f"why: {name}"] = ([NATTRACE, "why", asked, "-S", name], None)
    alone = ["--iptables-save", str(save)]
    found[f"why: {rules} rules, dumps around"] = ([NATTRACE, "why", flow, "-S", snapshot], None)
    found[f"why: {rules} rules alone"] = ([NATTRACE, "why", flow, *alone], None)
    found["the same, --strict"] = ([NATTRACE, "why", flow, *alone, "--strict"], None)
    return found


def main() -> None:
    rules = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 9
    cpu: dict[str, list[float]] = {}
    wall: dict[str, list[float]] = {}
    for name in (NETNS, BEYOND):
        subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            todo = jobs(Path(folder), rules)
            for number in range(-1, runs):  # the first round compiles modules and warms the page cache
                for name, (command, stdin) in todo.items():
                    used, took = run(command, stdin)
                    if number >= 0:
                        cpu.setdefault(name, []).append(used)
                        wall.setdefault(name, []).append(took)
    finally:
        for name in (NETNS, BEYOND):
            subprocess.run(["ip", "netns", "del", name], check=True)
    print(f"{rules} rules, {runs} alternating runs: medians, and the median of the paired CPU ratios")
    print(f"{'':38s} {'CPU':>8s} {'wall':>8s} {'/ --test':>8s}")
    for name, found in cpu.items():
        ratio = statistics.median(a / b for a, b in zip(found, cpu[BASE], strict=True))
        middle, took = statistics.median(found) * 1000, statistics.median(wall[name]) * 1000
        print(f"{name:38s} {middle:5.0f} ms {took:5.0f} ms {ratio:8.2f}")


if __name__ == "__main__":
    main()
