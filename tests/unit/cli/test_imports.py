"""What a cold ``why`` must not load: each module here costs more than the answer needs."""

from __future__ import annotations

import json
import subprocess
import sys

SCENARIO = ("why", "icmp 10.10.1.1 -> 8.8.8.8 at client", "-S", "twice-through-conntrack.zone-orig")
HEAVY = {
    "rich", "numpy", "pandas", "scapy", "pyroute2", "bcc", "asyncio", "subprocess", "tarfile", "zipfile", "gzip", "logging",
    "http", "xml", "ssl", "multiprocessing", "importlib.metadata", "email", "tempfile", "shutil",
}  # fmt: skip
# of nattrace: what only some questions need
SELDOM = {
    "nattrace.sim.explain.candidates", "nattrace.sim.explain.diagnose", "nattrace.sim.explain.expect",
    "nattrace.sim.explain.fixes", "nattrace.sim.explain.sample", "nattrace.sim.explain.whatif", "nattrace.sim.flow_paste",
    "nattrace.sim.services", "nattrace.sim.snapshot.infer", "nattrace.sim.snapshot.reach", "nattrace.sim.snapshot.iproute_text",
    "nattrace.sim.engine.trackers.sctp", "nattrace.sim.engine.trackers.dccp", "nattrace.sim.engine.helpers.ftp",
    "nattrace.sim.rules.printer", "nattrace.sim.rules.edit", "nattrace.sim.rules.index", "nattrace.sim.render.schema",
    "nattrace.tracer.capture", "nattrace.tracer.doctor", "nattrace.tracer.lab",
}  # fmt: skip


def loaded(*arguments: str) -> set[str]:
    """Names of the modules that one command line loads into an interpreter; what a site's .pth files load is not ours."""
    program = (
        "import sys; before = set(sys.modules)\n"
        "import io, json\n"
        "from nattrace.tracer.cli import run\n"
        "out, sys.stdout = sys.stdout, io.StringIO()\n"
        "assert run(sys.argv[1:]) == 0\n"
        "out.write(json.dumps(sorted(set(sys.modules) - before)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_why_loads_what_its_answer_needs():
    assert not loaded(*SCENARIO) & (HEAVY | SELDOM)


def test_matches_and_targets_load_when_a_rule_names_them():
    # the reached rules of this snapshot, and what those modules share
    ours = {name for name in loaded(*SCENARIO) if name.startswith(("nattrace.sim.matches.", "nattrace.sim.targets."))}
    known = {"common", "comment", "conntrack", "mark", "natrange", "standard", "masquerade", "ct", "tcp", "udp"}
    assert {name.rpartition(".")[2] for name in ours} <= known


def test_help_loads_no_engine():
    ours = {name for name in loaded("--help") if name.startswith("nattrace.sim.")}
    assert ours <= {"nattrace.sim"}


def test_no_class_is_compiled_at_import():
    # sim's classes come from sim.record; the standard decorator costs more than the rest of a short run
    stray = "import nattrace.sim.explain.answer as a; import dataclasses as d; import sys;" \
        "print([m for m, v in sorted(sys.modules.items()) if m.startswith('nattrace.sim.')" \
        " and getattr(v, 'dataclass', None) is d.dataclass])"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", stray], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
