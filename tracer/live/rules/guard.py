"""A sysctl for as long as this process lives: a child sets it and puts it back, also when we are killed.

The child is a shell that waits for the end of a pipe. It starts a session of its own, ignores what a terminal sends,
holds no other file of ours (else an owned table would outlive us by it), and sets the value only once it is ready, so
there is no moment at which nobody would put it back. It keeps its namespace alive until then.

    with Guard(netns, {"net.netfilter.nf_log.2": "nfnetlink_log"}) as guard:
        ...
    guard.before                                   # {"net.netfilter.nf_log.2": "NONE"}
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from ....sim.errors import MissingFacility
from ...lab.netns import sysctl_path
from ..nfnl.sock import InNetns, entered

PATIENCE = 5.0  # seconds for a shell to start or to end

# $1: the file, $2: the new value; further pairs follow. Every value is read before any is set. What somebody else set
# meanwhile is left as it is.
_SCRIPT = """
trap '' HUP INT TERM QUIT PIPE USR1 USR2 ALRM
n=0; for word do n=$((n+1)); eval "w$n=\\$word"; done
i=1; while [ $i -le $n ]; do eval "f=\\$w$i"; read -r old < "$f" || exit 3; eval "old$i=\\$old"; i=$((i+2)); done
undo() { i=1; while [ $i -le $n ]; do
  eval "f=\\$w$i; o=\\$old$i; v=\\$w$((i+1))"; read -r now < "$f"; [ "$now" = "$v" ] && echo "$o" > "$f"; i=$((i+2)); done; }
i=1; while [ $i -le $n ]; do eval "f=\\$w$i; v=\\$w$((i+1))"; echo "$v" > "$f" || { undo; exit 4; }; i=$((i+2)); done
echo ready
read -r never
undo
"""


class Guard:
    """Sysctls of a namespace, changed until closed. Raises MissingFacility where they can't be written."""

    def __init__(self, netns: InNetns | None, values: dict[str, str]) -> None:
        self.values = values
        words = [word for name, value in values.items() for word in (sysctl_path(name), value)]
        with entered(netns):
            self.before = {name: _read(name) for name in values}
            self._child = subprocess.Popen(
                ["/bin/sh", "-c", _SCRIPT, "nattrace-guard", *words],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                close_fds=True, cwd="/", env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            )  # fmt: skip
        assert self._child.stdout is not None
        if self._child.stdout.readline() != b"ready\n":
            self._child.wait(PATIENCE)
            names = ", ".join(shlex.quote(name) for name in values)
            raise MissingFacility(f"{names} can't be set", remedy="it needs root (CAP_NET_ADMIN in this namespace)")

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Have everything put back, and wait until it is."""
        for stream in (self._child.stdin, self._child.stdout, self._child.stderr):
            if stream is not None:
                stream.close()
        self._child.wait(PATIENCE)

    @property
    def pid(self) -> int:
        return self._child.pid


def _read(name: str) -> str:
    try:
        return Path(sysctl_path(name)).read_text().strip()
    except OSError:
        raise MissingFacility(
            f"this kernel has no {name}",
            remedy="a kernel with CONFIG_NF_LOG and its nfnetlink_log module (modprobe nfnetlink_log)",
        ) from None


def left_behind(netns: InNetns | None, before: dict[str, str]) -> dict[str, str]:
    """Sysctls that are not what they were: {name: value now}."""
    with entered(netns):
        return {name: now for name, value in before.items() if (now := _read(name)) != value}
