"""Every target is read and printed as iptables 1.8.9 reads and prints it (printed.txt was recorded from it)."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from nattrace.sim.errors import RuleError
from nattrace.sim.model.addr import AF_INET, AF_INET6
from nattrace.sim.rules.registry import find_target, target_names
from unit.targets.vocabulary import read, written

RECORDED = [
    tuple(part.strip() for part in line.split(" | "))
    for line in Path(__file__).with_name("printed.txt").read_text().splitlines()
    if not line.startswith("#")
]
# Refused because of the table, hook or a kernel object, which the rule parser or nobody can see here.
ELSEWHERE = (
    "nosuch", "TCPMSS --set-mss", "INPUT | -j MASQUERADE", "nat PREROUTING | -j DROP", "INPUT | -j TTL --ttl-set 1",
    "nat PREROUTING | -j TRACE", "mangle INPUT | -j REJECT",
)  # fmt: skip
HERE = [row for row in RECORDED if row[2] != "refused" or not any(e in f"{row[0]} | {row[1]}" for e in ELSEWHERE)]


@pytest.mark.parametrize(("place", "typed", "printed"), HERE, ids=[" ".join(r[:2]) for r in HERE])
def test_a_target_is_printed_as_iptables_prints_it(place: str, typed: str, printed: str) -> None:
    table, chain = place.split()
    if printed == "refused":
        with pytest.raises(RuleError):
            read(typed, table, chain)
    else:
        target = read(typed, table, chain)
        assert written(target) == printed
        head = typed.partition("-j ")[0]
        again = f"{head}-j {target.name} {shlex.join(target.words())}"
        assert written(read(again, table, chain)) == printed


@pytest.mark.parametrize("name", target_names())
def test_the_documented_example_is_printed_back_as_it_stands(name: str) -> None:
    info = find_target(name)
    assert info is not None
    family = AF_INET if AF_INET in info.families else AF_INET6
    target = read(info.doc, (info.tables or ("filter",))[0], "FORWARD", family)
    assert written(target) == info.doc[info.doc.index("-j ") :]
