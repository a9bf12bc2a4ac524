"""Every stage of the five situations, asked of the running kernel: the same statements, and equality in all that is seen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab_support import kernel

from .cases import CASES
from .evidence import Case, Command, Do, connect, ping, types, udp
from .observed import Bench, Benches
from .predicted import Prediction
from .sidebyside import run

pytestmark = kernel


@pytest.fixture(scope="module")
def benches() -> Iterator[Benches]:
    found = Benches()
    yield found
    found.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.stage}: {case.id}")
def test_the_kernel_does_so_and_the_simulator_predicts_all_of_it(case: Case, benches: Benches) -> None:
    evidence, differences = run(benches.of(case.stage), Prediction(case.stage), case.does)
    for statement in case.shows:
        if not statement.predicted_only:
            statement(evidence)
    agree(differences, evidence.story)


def agree(differences: list[str], story: str) -> None:
    if differences:
        pytest.fail("kernel and simulator differ:\n" + "\n".join(differences) + "\n" + story, pytrace=False)


# ------------------------------------------------- zones, in every place where somebody might put them

OPTIONS = ("--zone 5", "--zone-orig 5", "--zone-reply 5", "--notrack")
PLACES = {
    "the client's side": ("client-veth0",),
    "the proxy's side": ("proxy-veth0",),
    "both sides": ("client-veth0", "proxy-veth0"),
    "the uplink": ("enp4s0",),
    "every side": ("client-veth0", "proxy-veth0", "enp4s0"),
}
ZONES: dict[str, list[str]] = {"no zone": []}
ZONES |= {
    f"{option} on {place}": [f"-i {dev} -j CT {option}" for dev in devices]
    for option in OPTIONS
    for place, devices in PLACES.items()
}
ZONES["the write-up's two rules"] = ["-i client-veth0 -j CT --zone 1", "-i proxy-veth0 -d 10.10.1.0/24 -j CT --zone 1"]
ZONES |= {
    f"{option} on the proxy's side for the way {way} only": [f"-i proxy-veth0 {which} 10.10.1.0/24 -j CT {option}"]
    for option in OPTIONS for way, which in (("out", "-s"), ("home", "-d"))
}  # fmt: skip
LOOPED = "to 10.10.1.0/24 iif enp4s0 lookup 100 priority 102"


@pytest.fixture(scope="module")
def twice() -> Iterator[Bench]:
    """One lab for all zones: they are a matter of the raw table alone."""
    with Bench("twice-through-conntrack") as bench:
        yield bench


@pytest.mark.parametrize("home", ["through the proxy", "directly"])
@pytest.mark.parametrize("zones", ZONES)
def test_zones_do_what_is_predicted(zones: str, home: str, twice: Bench) -> None:
    """Outcome, every capture, the answer, rule counters and entries, for ICMP, UDP and TCP."""
    does: list[Do] = [types("host", f"iptables -t raw -A PREROUTING {rule}") for rule in ZONES[zones]]
    if home == "directly":
        does.append(types("host", f"ip rule del {LOOPED}"))
    does += [ping("client", "8.8.8.8"), udp("client", "8.8.8.8", 53), connect("client", "8.8.8.8", 443)]
    try:
        evidence, differences = run(twice, Prediction("twice-through-conntrack"), does)
    finally:
        twice.type(Command("host", "iptables -t raw -F"))
        if home == "directly":
            twice.type(Command("host", f"ip rule add {LOOPED}"))
        twice.forget()
    agree(differences, evidence.story)


# ------------------------------------------------------------------- what no simulation of packets shows


@pytest.mark.parametrize(("stage", "left"), [("private-namespace.masquerade", 0), ("private-namespace.forwarding", 1)])
@pytest.mark.parametrize("change", ["ip link set eth0 down", "ip addr del 192.168.38.116/21 dev eth0"])
def test_masquerade_forgets_its_connections_when_the_uplink_changes_and_snat_keeps_them(
    stage: str, left: int, change: str
) -> None:
    with Bench(stage) as bench:
        bench.exchange(ping("private", "114.114.114.114").record)
        assert len(bench.conntrack("host")) == 1
        bench.type(types("host", change))
        assert len(bench.conntrack("host")) == left
