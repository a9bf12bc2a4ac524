"""The sockets of a lab that outlives its maker: one process per host, ended by ``lab down``.

python -m nattrace.tracer.lab.listen NETNS "udp 53" "tcp 80"      # prints a line when it is ready, then waits
"""

from __future__ import annotations

import signal
import subprocess
import sys

from . import netns
from .build import Lab, adopt, silent_listener


def start(lab: Lab) -> None:
    """Start a process for each host that listens, and wait until it is ready."""
    for host in lab.topology.hosts:
        if not host.listen:
            continue
        child = subprocess.Popen(
            [sys.executable, "-m", "nattrace.tracer.lab.listen", lab.netns(host.name), *host.listen],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        adopt(lab.prefix, child.pid)
        assert child.stdout is not None
        if not child.stdout.readline():
            raise netns.ToolFailed(f"{host.name}: the listeners did not start")
        child.stdout.close()


def main(argv: list[str]) -> int:
    """Open the sockets and wait for SIGTERM."""
    place, *texts = argv
    with netns.inside(netns.path_of(place)):
        sockets = [silent_listener(text) for text in texts]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("ready", flush=True)
    while sockets:
        signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
