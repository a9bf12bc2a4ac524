"""Builds every cause of docs/causes in namespaces and captures it: the snapshots that the pages answer from.

Run as root: ``python tests/causes/make_snapshots.py [NAME …]``.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

from nattrace.tracer.lab.build import build
from nattrace.tracer.lab.io import Wires

TESTS = Path(__file__).resolve().parents[1]
KEPT = 64  # entries of a full table in a snapshot that ships


def main(names: list[str]) -> None:
    sys.path[:0] = [str(TESTS)]
    from causes.catalogue import NAMES, cause, live_through
    from scenarios.make_snapshots import reduce

    for name in names or NAMES:
        one = cause(name)
        with tempfile.TemporaryDirectory() as scratch:
            home = Path(scratch) / "snapshot"
            with build(one.topology, "ntcause") as lab:
                lab.listen()
                if one.history:
                    with Wires(lab) as wires:
                        live_through(one, lab, wires)
                        lab.snapshot(home)
                else:
                    lab.snapshot(home)
            for host in sorted(p for p in home.iterdir() if p.is_dir()):
                if any("fill" in event and event["host"] == host.name for event in one.history):
                    scale_down(host)
                reduce(host, dict(one.topology.host(host.name).users), "icmp|udp|tcp")
            index = home / "snapshot.json"
            if index.exists():
                index.write_text(json.dumps(json.loads(index.read_text()) | {"title": one.title}, indent=1) + "\n")
            shutil.rmtree(one.snapshot, ignore_errors=True)
            shutil.copytree(home, one.snapshot)
        print(name)


def scale_down(folder: Path) -> None:
    """A full table of KEPT entries in place of the machine's limit; the page says so."""
    table = folder / "conntrack.txt"
    lines = sorted(re.sub(r"( tcp +6) \d+", r"\1 431999", line) for line in table.read_text().splitlines())
    table.write_text("".join(f"{line}\n" for line in lines[:KEPT]))
    sysctl = folder / "sysctl.txt"
    sysctl.write_text(re.sub(r"(nf_conntrack_(?:max|count)) = \d+", rf"\1 = {KEPT}", sysctl.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
