"""What the packet asked for is told by the way to a rule too."""

from __future__ import annotations

from pathlib import Path

import pytest
from nattrace.sim.explain.answer import explain
from nattrace.sim.flow import parse_flow
from nattrace.sim.snapshot.load import load_world

RULES = """*nat
:PREROUTING ACCEPT [0:0]
:SERVICES - [0:0]
:SEP - [0:0]
-A PREROUTING {to} -j SERVICES
-A SERVICES {service} -j SEP
-A SEP -p tcp -m tcp -j DNAT --to-destination 10.244.0.9:8080
COMMIT
"""


@pytest.mark.parametrize(
    ("to", "service", "wide"),
    [
        ("-p tcp", "-d 10.96.0.16/32 -p tcp -m tcp --dport 80", False),
        ("-i eth0", "-p tcp -m tcp --dport 80", False),
        ("-p tcp", "-p tcp -m tcp --dport 80", True),
    ],
)
def test_a_dnat_rule_need_not_repeat_what_its_caller_asks_for(tmp_path: Path, to: str, service: str, wide: bool):
    save = tmp_path / "save.txt"
    save.write_text(RULES.format(to=to, service=service))
    world = load_world(None, single_files={"iptables-save": save})
    found = explain(world, parse_flow("tcp 10.244.0.5:40000 -> 10.96.0.16:80 in eth0", world), fixes=False)
    assert (found.code == "dnat_too_wide") is wide
