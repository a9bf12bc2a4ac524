"""The least privileges: each way to look at the kernel works as an ordinary user with exactly the capabilities that
doctor names, and without any one of them it says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest
from lab_support import kernel
from lab_support.nobody import reachable
from nattrace.tracer.doctor.modes import MODES

from .router_lab import router

pytestmark = kernel
NOBODY = 65534
PREAMBLE = """
import time
from nattrace.tracer.live import netns
from nattrace.tracer.live.flow import FlowKey
from nattrace.tracer.doctor.trial import send_datagram
flow = FlowKey.parse("udp", "127.0.0.1")
"""
WORK = {  # prints "works" when it has seen what it is for
    "probes": """
from nattrace.tracer.live.filter import Filter
from nattrace.tracer.live.session import Session
with Session([netns.current()], Filter.of(proto="udp", src="127.0.0.1")) as session:
    send_datagram()
    events = session.read(5.0)
print("works" if events is not None and len(events) else "saw nothing")
""",
    "rules of nft": """
from nattrace.tracer.live.rules.book import RuleBook
from nattrace.tracer.live.rules.nftrace import RuleTrace
with RuleTrace(None, flow, book=RuleBook.read(), allow_changes=True) as trace:
    send_datagram()
    time.sleep(0.2)
    texts = [hit.step.text for hit in trace.read()]
print("works" if texts == ["-p udp -j ACCEPT"] else texts)
""",
    "rules of legacy": """
from nattrace.tracer.live.rules.book import RuleBook
from nattrace.tracer.live.rules.nflog import LegacyTrace
book = RuleBook.read()
with LegacyTrace(None, flow, book=book, allow_changes=True) as trace:
    send_datagram()
    time.sleep(0.2)
    texts = [hit.step.text for hit in trace.read()]
print("works" if texts == ["-p udp -j ACCEPT"] else [texts, *book.unread])
""",
    "queue taps": """
from nattrace.tracer.live.queue import QueueTaps, TapPoint
with QueueTaps(None, flow, [TapPoint(3, 0)], allow_changes=True) as taps:
    send_datagram()
    print("works" if taps.read(5.0) else "saw nothing")
""",
    "entries": """
from nattrace.tracer.live.ctevents import ConntrackEvents, entries
with ConntrackEvents() as events:
    send_datagram()
    print("works" if events.read(5.0) and entries() else "saw nothing")
""",
    "other namespaces": """
import os, sys
with netns.by_name(sys.argv[1]).inside():
    print("works" if "eth0" in open("/proc/thread-self/net/dev").read() else "elsewhere")
""",
}
RULES = {"rules of nft": "iptables-nft", "rules of legacy": "iptables-legacy", "entries": "iptables-nft"}
ROWS = [(m.name, left_out) for m in MODES for left_out in (None, *m.capabilities)]


def attempt(space: str, other: str, mode: str, capabilities: list[str], home: str) -> subprocess.CompletedProcess[str]:
    words = "-all" + "".join(f",+{name.removeprefix('CAP_').lower()}" for name in capabilities)
    return subprocess.run(
        reachable("ip", "netns", "exec", space, "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                  f"--inh-caps={words}", f"--ambient-caps={words}", f"--bounding-set={words}", sys.executable, "-c",
                  PREAMBLE + WORK[mode], other),
        capture_output=True, text=True, timeout=60, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home},
    )  # fmt: skip


@pytest.mark.parametrize(("mode", "left_out"), ROWS, ids=[f"{m} without {x}" if x else m for m, x in ROWS])
def test_exactly_these(mode: str, left_out: str | None) -> None:
    wanted = next(m.capabilities for m in MODES if m.name == mode)
    with router(None) as (bench, space), tempfile.TemporaryDirectory() as home:
        os.chown(home, NOBODY, NOBODY)
        bench.run("router", "ip link set lo up")
        if mode in RULES:
            bench.run("router", f"{RULES[mode]} -A OUTPUT -p udp -j ACCEPT")
        if mode == "entries":
            bench.run("router", "iptables-nft -A OUTPUT -m conntrack --ctstate NEW -j ACCEPT")
        done = attempt(space.name, bench.lab.netns("client"), mode, [c for c in wanted if c != left_out], home)
    if left_out is None:
        assert done.stdout.strip() == "works", done.stdout + done.stderr
    else:
        assert done.stdout.strip() != "works" and "CAP_" in done.stdout + done.stderr


def test_every_mode_is_tried() -> None:
    assert {mode.name for mode in MODES} == set(WORK)
