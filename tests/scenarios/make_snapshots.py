"""Builds every stage of the five situations in namespaces and captures it: the snapshots that ship with nattrace.

Run as root: ``python tests/scenarios/make_snapshots.py [NAME …]``. What a capture holds beside the stage's own
facts (times, socket cookies, the machine's users) is reduced to what nattrace reads, so that a new run changes
nothing where nothing changed.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nattrace.tracer.lab.build import build
from nattrace.tracer.lab.io import Wires
from nattrace.tracer.lab.topology import from_data

if TYPE_CHECKING:
    from stages import Stage

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent.parent / "sim" / "snapshots"
DROPPED = ("nft.json", "fdb.json", "vlan.json", "neigh-proxy.json", "group.txt", "expect.txt", "xfrm.txt", "tc.txt",
           "ip6tables-save.txt", "route6.json", "rule6.json", "nexthop.json", "hosts.txt", "nft.txt")  # fmt: skip
KEPT_SYSCTL = ("net.ipv4.conf.", "net.ipv4.ip_", "net.ipv4.icmp_", "net.ipv4.fib_", "net.ipv4.fwmark", "net.ipv4.tcp_fwmark",
               "net.ipv4.neigh.", "net.ipv4.route.m", "net.netfilter.nf_conntrack", "net.bridge.")  # fmt: skip
CAPTURED_AT = "2026-11-21T09:00:00Z"


def main(names: list[str]) -> None:
    sys.path.insert(0, str(HERE))
    from stages import STAGES

    for name in names or list(STAGES):
        make(STAGES[name])


def make(stage: Stage) -> None:
    from stages import live_through

    name, data = stage.name, stage.data
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "snapshot"
        with build(from_data(data, name), "ntsnap") as lab:
            lab.listen()
            if stage.history:
                with Wires(lab) as wires:
                    live_through(stage, lab, wires)
            lab.snapshot(home)
        for host in sorted(p for p in home.iterdir() if p.is_dir()):
            reduce(host, dict(data["hosts"][host.name].get("users", {})))
        index = json.loads((home / "snapshot.json").read_text())
        index["title"] = stage.title
        (home / "snapshot.json").write_text(json.dumps(index, indent=1) + "\n")
        target = TARGET / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(home, target)
    print(name)


def reduce(folder: Path, users: dict[str, int], protocols: str = "icmp") -> None:
    """What nattrace reads of a dump, the same on every run; entries of ``protocols`` (a regular expression) only."""
    for path in folder.iterdir():
        path.chmod(0o644)
    for file in DROPPED:
        (folder / file).unlink(missing_ok=True)
    sysctl = folder / "sysctl.txt"
    kept = [line for line in sysctl.read_text().splitlines(True) if line.startswith(KEPT_SYSCTL)]
    sysctl.write_text("".join(kept))
    (folder / "passwd.txt").write_text("root:x:0:0::/root:/bin/sh\n" + "".join(
        f"{user}:x:{uid}:{uid}::/home/{user}:/bin/sh\n" for user, uid in users.items()))  # fmt: skip
    for file in ("iptables-save.txt", "iptables-legacy-save.txt"):
        rules = folder / file
        if rules.exists():
            lines = [line for line in rules.read_text().splitlines(True) if not line.startswith("#")]
            rules.write_text("".join(lines))
    conntrack = folder / "conntrack.txt"
    if conntrack.exists():  # entries numbered in order, as old as if they had just been refreshed
        entries = sorted(
            re.sub(r" id=\d+$", "", line)
            for line in conntrack.read_text().splitlines()
            if re.search(f" ({protocols}) ", line)
        )
        conntrack.write_text(
            "".join(re.sub(r"( icmp +1) \d+", r"\1 29", line) + f" id={n}\n" for n, line in enumerate(entries, 1))
        )
    neigh = folder / "neigh.json"
    known = sorted(json.loads(neigh.read_text()), key=lambda entry: (entry["dev"], entry["dst"]))
    neigh.write_text(json.dumps([{**entry, "state": ["STALE"]} for entry in known]) + "\n")
    sockets = folder / "sockets.txt"
    if sockets.exists():
        text = re.sub(r" (ino:\d+|sk:\S+|users:\(\(.*?\)\)|cgroup:\S+)", "", sockets.read_text())
        entries = re.findall(r"^\S.*\n(?:[ \t].*\n)*", text, re.MULTILINE)
        sockets.write_text("".join(sorted(re.sub(r" +\n", "\n", entry) for entry in entries)))
    meta = json.loads((folder / "meta.json").read_text())
    meta["captured_at"], meta["hostname"] = CAPTURED_AT, folder.name
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
