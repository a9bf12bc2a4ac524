"""Runs inside a kernel that has flowtables: an offloaded flow passes the hooks by, and ``confirm`` says so.

Prints JSON: the verdict, the first row that differs, its class. Not a test by itself: test_other_kernels.py runs it.
"""

from __future__ import annotations

import json
import platform
import socket
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from tests.live.confirm_lab import spaces_of, watched, world_of  # noqa: E402 - found by the line above
from tests.live.drops_lab import Lab  # noqa: E402

TABLE = (
    "nft 'add table ip f; add flowtable ip f fast { hook ingress priority 0; devices = { rc, rs }; }; "
    "add chain ip f passing { type filter hook forward priority 5; }; add rule ip f passing ip protocol udp flow add @fast'"
)


def main() -> None:
    """Packets until the flow is offloaded; then a rule that would drop it, and it goes on all the same."""
    lab = Lab()
    with ExitStack() as stack:
        stack.callback(lab.down)
        lab.up()
        lab.run("r", TABLE)
        server = lab.listen("s", "udp", 80)
        server.settimeout(5)
        client = lab.socket("c", socket.AF_INET, socket.SOCK_DGRAM)
        client.bind(("10.7.1.2", 40001))
        client.settimeout(5)

        def exchange() -> None:
            client.sendto(b"x", ("10.7.2.2", 80))
            server.sendto(b"y", server.recvfrom(9)[1])
            client.recvfrom(9)

        for _ in range(4):
            exchange()
        lab.run("r", "iptables-nft -A FORWARD -p udp -j DROP")
        done = threading.Event()

        def go_on() -> (
            None
        ):  # a flow that rests for 30 seconds is given back to the hooks, and a slow machine takes longer
            while not done.wait(1.0):
                exchange()

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            spaces = stack.enter_context(spaces_of({h: lab.ns(h) for h in "crs"}))
            world = world_of(spaces)
            report = watched(spaces, lambda: time.sleep(4), 1.0).judged(world, world)
        finally:
            done.set()
            thread.join()
    row = report.first[1] if report.first is not None else None
    print(json.dumps({
        "kernel": platform.release(), "verdict": report.verdict, "class": report.finding.name if report.finding else None,
        "first": None if row is None else [row.host, row.hook, row.stage], "how": report.finding.how if report.finding else None,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
