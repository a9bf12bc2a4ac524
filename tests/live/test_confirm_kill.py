"""SIGKILL at random moments of ``nattrace confirm``, traffic running: nothing stays behind, nothing is lost.

``python -m pytest tests/live/test_confirm_kill.py`` kills a few times; NATTRACE_KILLS=50 as often as is asked.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from itertools import pairwise

from lab_support import kernel
from nattrace.tracer.live import residue as left

from .router_lab import residue, router
from .test_kill import Traffic

pytestmark = kernel
REPEATS = int(os.environ.get("NATTRACE_KILLS", "4"))
PROGRAM = [
    sys.executable,
    "-c",
    "from nattrace.tracer.cli import main; main()",
    "confirm",
    "udp 10.7.1.2 -> 10.7.2.2:7000",
]


def test_killed_at_any_moment() -> None:
    tracked = ["-A FORWARD -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT"]
    with router("nft", tracked) as (bench, space), Traffic(bench) as traffic:
        time.sleep(0.2)
        counts = [traffic.lost()]
        for _ in range(REPEATS):
            child = subprocess.Popen(
                [*PROGRAM, "--netns", space.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(random.uniform(0.2, 3.0))
            child.kill()
            child.wait()
            until = time.monotonic() + 5
            while (residue(bench) or left.find([space])) and time.monotonic() < until:
                time.sleep(0.05)
            assert residue(bench) == [] and left.find([space]) == []
            counts.append(traffic.lost())
        assert traffic.failed == []
    assert max(after - before for before, after in pairwise(counts)) == 0, counts
