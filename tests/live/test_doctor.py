"""nattrace doctor: what it says is what the kernel does, and nothing is left of its trials."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from lab_support import kernel
from lab_support.nobody import as_nobody
from nattrace.sim.render.schema import SCHEMAS
from nattrace.tracer.doctor import examine
from nattrace.tracer.lab.netns import ToolFailed
from nattrace.tracer.live import bpfsys

from .router_lab import router

pytestmark = kernel
NATTRACE = [sys.executable, "-c", "from nattrace.tracer.cli import main; main()"]


def state_of_the_machine() -> dict[str, object]:
    """What a trial could leave behind."""
    return {
        "tables": subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout,
        "modules": [line.split()[0] for line in Path("/proc/modules").read_text().splitlines()]
        if os.path.exists("/proc/modules")
        else [],
        "logger": [Path(f"/proc/sys/net/netfilter/nf_log/{n}").read_text() for n in (2, 10)],
        "queues": Path("/proc/net/netfilter/nfnetlink_queue").read_text(),
        "lo": Path("/sys/class/net/lo/flags").read_text(),
    }


def programs() -> set[str]:
    """Names of loaded programs that are a trial's."""
    found = set()
    for number in bpfsys.ids(bpfsys.PROG_NEXT_ID):
        fd = bpfsys.open_id(bpfsys.PROG_FD_BY_ID, number)
        if fd is not None:
            found |= {"nt_doctor"} if b"nt_doctor" in bpfsys.info(fd) else set()
            os.close(fd)
    return found


def test_it_leaves_nothing_and_its_document_is_valid() -> None:
    before = state_of_the_machine()
    done = subprocess.run([*NATTRACE, "doctor", "--json"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert state_of_the_machine() == before and programs() == set()
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMAS["doctor"]())
    names = [f["name"] for f in document["findings"]]
    assert len(names) == len(set(names))
    for finding in document["findings"]:
        assert finding["use"] and finding["detail"]
        assert finding["state"] == "yes" or finding["get"] or finding["instead"], finding


def test_what_it_says_of_tables_and_queues_is_what_the_tools_get() -> None:
    said = {f.name: f.state for f in examine()}
    rules = {
        "nft queue": "nft 'add rule ip t c queue num 9 bypass'",
        "xt NFQUEUE": "iptables-nft -A FORWARD -j NFQUEUE --queue-num 9",
        "nftrace": "nft 'add rule ip t c meta nftrace set 1'",
    }
    with router(None) as (bench, _):
        bench.run("router", "nft add table ip t")
        bench.run("router", "nft add chain ip t c")
        for name, rule in rules.items():
            try:
                bench.lab.run("router", "sh", "-c", rule)
                assert said[name] == "yes", name
            except ToolFailed:
                assert said[name] == "no", name
    assert (said["kprobes"] == "yes") == os.path.exists("/sys/bus/event_source/devices/kprobe/type")
    assert said["BTF of the kernel"] == ("yes" if os.path.exists("/sys/kernel/btf/vmlinux") else "no")
    assert said["owner tables"] == said["conntrack events"] == said["queue"] == "yes"


def test_without_privileges_it_says_what_it_could_not_test() -> None:
    done = subprocess.run(as_nobody(*NATTRACE, "doctor", "--json"), capture_output=True, text=True, check=True)
    found = {f["name"]: f for f in json.loads(done.stdout)["findings"]}
    assert found["CAP_BPF"]["state"] == found["CAP_NET_ADMIN"]["state"] == "no"
    for name in ("netfilter links", "raw tracepoints"):
        detail = found[name]["detail"]  # in a chroot not even a user namespace can be had to try it in
        assert found[name]["state"] == "unknown" and ("CAP_BPF" in detail or "user namespaces" in detail), detail
    # the kernel is the same for everybody: where a user namespace may be made, tables and queues are tried in it
    for name in ("owner tables", "NFLOG"):
        state, detail = found[name]["state"], found[name]["detail"]
        assert (state, "for this host it needs CAP_NET_ADMIN" in detail) == (
            "yes",
            True,
        ) or "could not be tested" in detail


@pytest.mark.parametrize("verbose", [False, True])
def test_the_table_tells_the_way_out_of_what_is_missing(verbose: bool) -> None:
    words = ["doctor", *(["-v"] if verbose else [])]
    out = subprocess.run([*NATTRACE, *words], capture_output=True, text=True, check=True).stdout
    lines = out.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("  ") and line.split("  ")[-1] and (" missing  " in line or " untested " in line):
            assert lines[number + 1].strip().startswith("for ")
    assert ("for tables, queues" in out) == verbose
