"""CPU time of cold `nattrace` processes, as ratios to ``iptables-nft-restore --test`` and to a bare interpreter.

    python tests/bench/bench_why.py [RULES] [RUNS]          # root, for a network namespace

Alternating runs, user and system time of each whole process by os.wait4(), medians; wall clock beside it. Not a test:
machines differ. The targets: ``why`` of a scenario ≤ 250 ms, ``--help`` ≤ 120 ms of wall clock on a quiet core;
``why`` over 50,000 rules ≤ 1/4 of the CPU time of ``iptables-nft-restore --test``, ``--strict`` ≤ 1 ×.
"""

from __future__ import annotations

import json
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


def node(folder: Path, save: Path) -> Path:
    """A snapshot of a small host with full dumps around the big rule set."""
    host = folder / "node"
    host.mkdir(parents=True)
    shutil.copy(save, host / "iptables-save.txt")
    flags = ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"]
    links, addresses = [], []
    for number, (dev, local, plen) in enumerate(
        [("lo", "127.0.0.1", 8), ("eth0", "10.244.0.1", 16), ("eth1", "192.0.2.7", 24)], 1
    ):
        mine = ["LOOPBACK", "UP", "LOWER_UP"] if dev == "lo" else flags
        link = {"ifindex": number, "ifname": dev, "flags": mine, "mtu": 1500, "operstate": "UP",
                "link_type": "loopback" if dev == "lo" else "ether", "address": f"02:00:00:00:00:0{number}"}  # fmt: skip
        links.append(link)
        scope = "host" if dev == "lo" else "global"
        info = {"family": "inet", "local": local, "prefixlen": plen, "scope": scope, "label": dev}
        addresses.append({**link, "addr_info": [info]})
    routes = [
        {"dst": "default", "gateway": "192.0.2.1", "dev": "eth1", "flags": []},
        {"dst": "10.244.0.0/16", "dev": "eth0", "protocol": "kernel", "scope": "link", "prefsrc": "10.244.0.1", "flags": []},
        {"dst": "192.0.2.0/24", "dev": "eth1", "protocol": "kernel", "scope": "link", "prefsrc": "192.0.2.7", "flags": []},
    ]  # fmt: skip
    rules = [{"priority": p, "src": "all", "table": t} for p, t in ((0, "local"), (32766, "main"), (32767, "default"))]
    neighbours = [{"dst": "192.0.2.1", "dev": "eth1", "lladdr": "02:00:00:00:00:99", "state": ["REACHABLE"]}]
    for name, dump in {
        "link": links, "addr": addresses, "route": routes, "rule": rules, "neigh": neighbours
    }.items():  # fmt: skip
        (host / f"{name}.json").write_text(json.dumps(dump))
    sysctl = "".join(f"net.ipv4.conf.{d}.forwarding = 1\n" for d in ("all", "default", "lo", "eth0", "eth1"))
    (host / "sysctl.txt").write_text(f"net.ipv4.ip_forward = 1\n{sysctl}")
    (host / "conntrack.txt").write_text("")
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
    subprocess.run(["ip", "netns", "add", NETNS], check=True)
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
        subprocess.run(["ip", "netns", "del", NETNS], check=True)
    print(f"{rules} rules, {runs} alternating runs: medians, and the median of the paired CPU ratios")
    print(f"{'':38s} {'CPU':>8s} {'wall':>8s} {'/ --test':>8s}")
    for name, found in cpu.items():
        ratio = statistics.median(a / b for a, b in zip(found, cpu[BASE], strict=True))
        middle, took = statistics.median(found) * 1000, statistics.median(wall[name]) * 1000
        print(f"{name:38s} {middle:5.0f} ms {took:5.0f} ms {ratio:8.2f}")


if __name__ == "__main__":
    main()
