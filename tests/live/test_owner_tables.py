"""Tables that belong to one process: they go with it, others can't touch them, and everybody can still list rules."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time

import pytest
from lab_support import kernel
from lab_support.nobody import as_nobody
from nattrace.tracer.lab.netns import ToolFailed
from nattrace.tracer.live import netns
from nattrace.tracer.live.flow import FlowKey
from nattrace.tracer.live.nfnl.listing import base_chains, rules
from nattrace.tracer.live.nfnl.sock import Nfnl, Refused
from nattrace.tracer.live.nfnl.tables import OwnerTable, counter, expression, match, match_entry, set_trace, verdict
from nattrace.tracer.live.nfnl.tracking import tracking_reason

from .router_lab import FLOW, residue, router, udp

pytestmark = kernel
FLOWS = [
    FLOW,
    FlowKey.parse("tcp", "10.0.0.1", "10.0.0.2", 4000, 443, "eth0"),
    FlowKey.parse("icmp", "10.0.0.1", None, 77),
    FlowKey.parse(None, None, "10.0.0.2"),
    FlowKey.parse("tcp", "fd00::1", "fd00::2", 4000, 443),
    FlowKey.parse("icmpv6", "fd00::1", None, 77),
]
HOLD = """
import sys, time
from nattrace.tracer.live import netns
from nattrace.tracer.live.flow import FlowKey
from nattrace.tracer.live.rules.nftrace import RuleTrace
trace = RuleTrace(netns.by_name(sys.argv[1]), FlowKey.parse("udp", "10.7.1.2"), allow_changes=True)
print("up", flush=True)
time.sleep(60)
"""


def holder(space: str) -> subprocess.Popen[str]:
    """Another process that holds a table in the namespace."""
    child = subprocess.Popen([sys.executable, "-c", HOLD, space], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "up\n"
    return child


@pytest.mark.parametrize("flow", FLOWS, ids=str)
def test_everybody_can_list_what_we_add(flow: FlowKey) -> None:
    """nft 1.0.6 aborts on some forms of the same rule (payload_expr_expand), for whoever lists the rule set."""
    nfqueue = expression("target", NAME="NFQUEUE", REV=3, INFO=struct.pack("=HHHxx", 5, 1, 1))
    with router("nft") as (bench, space), OwnerTable(space, flow.family, "nattrace-test") as table:
        table.add_chain("mark")
        table.add_rule("mark", [*set_trace(), counter(), verdict(1)])
        table.add_chain("a", 0, -(1 << 31))
        table.add_rule("a", [*match(flow), verdict(-3, "mark")])
        table.add_rule("a", [*match(flow), counter(), nfqueue])
        table.add_chain("b", 2, -199)
        table.add_rule("b", [*match_entry(flow, 1), counter(), nfqueue])
        table.commit()
        text = bench.run("router", "nft -a list ruleset")
        assert "meta nftrace set 1" in text and "queue num 5 bypass" in text and "[invalid" not in text
        bench.run("router", "nft -j list ruleset")  # ends well; before 1.1.0 any table with a flag breaks its document
        assert "-j MASQUERADE" in bench.run("router", "iptables-nft-save")
        assert "nattrace" not in bench.run("router", "iptables-nft-save")


def test_nobody_else_can_change_it_and_it_goes_with_the_process() -> None:
    with router("nft") as (bench, space):
        child = holder(space.name)
        try:
            name = next(c.table for c in base_chains(space) if c.table.startswith("nattrace"))
            with pytest.raises(ToolFailed):
                bench.run("router", f"nft delete table ip {name}")
            bench.run("router", "nft flush ruleset")  # somebody else clears everything: not ours
            assert [line for line in bench.run("router", "nft list tables").splitlines()] == [f"table ip {name}"]
            bench.run("router", "iptables-nft -A FORWARD -j ACCEPT")
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        assert residue(bench) == []
        assert "-j ACCEPT" in bench.run("router", "iptables-nft -S")


def test_a_stopped_process_keeps_it_and_stops_nothing() -> None:
    with router("nft") as (bench, space):
        child = holder(space.name)
        child.send_signal(signal.SIGSTOP)
        bench.seen.clear()
        udp(bench, 8080)
        assert bench.captures("server", "eth0", "in")
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert residue(bench) == []


def test_a_refused_transaction_leaves_nothing() -> None:
    with router("nft") as (bench, space), OwnerTable(space, 2, "nattrace-test") as table:
        table.add_chain("c", 0, 0)
        table.add_rule("c", [expression("target", NAME="NOSUCHTARGET", REV=0, INFO=b"\0" * 8)])
        with pytest.raises(Refused):
            table.commit()
        assert residue(bench) == []


def test_a_namespace_deleted_meanwhile() -> None:
    """Our sockets keep it alive, unseen; closing them ends it with its devices."""
    name, wire = f"ln-{os.getpid()}", f"ln{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "link", "add", wire, "type", "veth", "peer", "name", "inner", "netns", name], check=True)
        space = netns.by_name(name)
        table = OwnerTable(space, 2, "nattrace-test")
        table.add_chain("c", 0, 0)
        table.add_rule("c", [verdict(1)])
        table.commit()
        assert not space.deleted()
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
    assert space.deleted() and [r.table for r in rules(space)] == [table.name]  # still there for us
    table.close()
    space.close()
    deadline = time.monotonic() + 10
    while os.path.exists(f"/sys/class/net/{wire}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/sys/class/net/{wire}")  # the wire's other end went with it


def test_without_the_capability_it_says_which() -> None:
    code = (
        "from nattrace.tracer.live.nfnl.tables import OwnerTable\n"
        "t = OwnerTable(None, 2, 'nattrace-test'); t.add_chain('c', 0, 0); t.commit()"
    )
    run = subprocess.run(
        as_nobody(sys.executable, "-c", code),
        capture_output=True, text=True, env=os.environ,
    )  # fmt: skip
    assert "MissingFacility" in run.stderr and "CAP_NET_ADMIN" in run.stderr


@pytest.mark.parametrize(
    ("backend", "rule", "active"),
    [
        ("nft", "-A FORWARD -p udp -j ACCEPT", False),
        ("nft", "-t raw -A PREROUTING -j CT --notrack", False),
        ("nft", "-A FORWARD -m comment --comment MASQUERADE -j ACCEPT", False),
        ("nft", "-A FORWARD -m conntrack --ctstate NEW -j ACCEPT", True),
        ("nft", "-t nat -A POSTROUTING -j MASQUERADE", True),
        ("legacy", "-A FORWARD -m comment --comment MASQUERADE -j ACCEPT", False),
        ("legacy", "-t raw -A PREROUTING -j CT --notrack", False),
        ("legacy", "-A FORWARD -m state --state NEW -j ACCEPT", True),
        ("legacy", "-t raw -A PREROUTING -j CT --zone 3", True),
    ],
)
def test_whether_tracking_is_active(backend: str, rule: str, active: bool) -> None:
    """As the kernel has it: a datagram makes an entry or doesn't."""
    with router(backend, [rule]) as (bench, space):
        assert (tracking_reason(space) is not None) == active
        udp(bench, 53, "10.7.2.2")
        count = bench.run("router", "cat /proc/sys/net/netfilter/nf_conntrack_count").strip()
        assert (count != "0") == active
        assert (tracking_reason(space) is not None) == active


def test_an_error_of_the_kernel_is_an_error_here() -> None:
    with router(None) as (_, space), Nfnl(space) as sock:
        with pytest.raises(Refused) as caught:
            sock.batch([(6, 0x400, 2, b"")])  # a rule without anything
        assert caught.value.errno
