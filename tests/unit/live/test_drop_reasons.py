"""Drop reasons in words: complete, ours, leading to codes that exist; what stands in where the kernel gives none."""

from __future__ import annotations

import json

import pytest
from nattrace.sim.explain.reasons import find as code_of
from nattrace.sim.model.result import Hop, Step
from nattrace.sim.model.route import Link, Route, Socket
from nattrace.sim.model.where import Where
from nattrace.sim.model.world import Host, Setting
from nattrace.tracer import cli
from nattrace.tracer.live import drops
from nattrace.tracer.live.drop_reasons import PREFIX, REASONS, RENAMED

# names that came or went between 5.17 and 7.x (include/net/dropreason-core.h, dropreason-qdisc.h)
OF_OTHER_KERNELS = [
    "PTYPE_ABSENT",
    "SKB_BAD_GSO",
    "MACVLAN_BROADCAST_BACKLOG",
    "IPVLAN_MULTICAST_BACKLOG",
    "IPV6_TOO_MANY_EXTHDRS",
    "QDISC_DROP_FLOOD_PROTECTION",
    "QDISC_DROP_BAND_LIMIT",
    "QDISC_DROP_HORIZON_LIMIT",
    "TCP_MD5NOTFOUND",
    "QDISC_DROP_MAXFLOWS",
    "QDISC_DROP_FLOW_LIMIT",
    "VXLAN_NO_REMOTE",
    "NO_TX_TARGET",
    "TC_EGRESS",
    "IP_INNOROUTES",
    "PFMEMALLOC",
    "PSP_INPUT",
    "RECURSION_LIMIT",
    "DUALPI2_STEP_DROP",
    "CANXL_RX_INVALID_FRAME",
]
PACKET = {"proto": "udp", "src": "10.0.0.2", "dst": "10.0.0.9", "sport": 1, "dport": 53, "len": 1400}


def host(**more: object) -> Host:
    return Host("r", links={"eth0": Link("eth0", 2, mtu=1000)}, **more)  # type: ignore[arg-type]


def hop(*steps: Step) -> Hop:
    return Hop("r", "eth0", steps=list(steps))


def test_every_sentence_is_one_and_every_code_exists() -> None:
    for entry in REASONS.values():
        assert entry.sentence[0].isupper() and entry.sentence.endswith("."), entry
        assert code_of(entry.code) is not None, entry
    assert (
        len(REASONS) > 140
        and len({e.sentence for e in REASONS.values() if not e.sentence.startswith("Not a reason")}) > 120
    )


@pytest.mark.parametrize("name", OF_OTHER_KERNELS)
def test_names_of_other_kernels(name: str) -> None:
    assert drops.find(name) is not None and drops.find(f"{PREFIX}{name}".replace(f"{PREFIX}QDISC", "QDISC")) is not None


def test_names_in_any_form_and_unknown_ones() -> None:
    assert drops.find("ip-rpfilter") is drops.find("SKB_DROP_REASON_IP_RPFILTER") is not None
    assert drops.find("RX_DROP_U_REPLAY") is not None and "replay" in drops.sentence("RX_DROP_U_REPLAY")
    assert drops.find("NO_SUCH_THING") is None and drops.code("NO_SUCH_THING") == "kernel_drop"
    assert all(new in REASONS for new in RENAMED.values())


@pytest.mark.parametrize("function", [*drops.PLACES, *drops.TOLD_PLACES])
def test_every_place_stands_for_something(function: str) -> None:
    found = drops.by_place(f"{function}.isra.0+0x12")
    assert found is not None and code_of(found.code) is not None
    why = drops.explain("reason 0", f"{function}+0x1", PACKET, None, None)
    assert (why.code, function in why.text) == (found.code, True)


def test_the_snapshot_says_why() -> None:
    off = host(sysctl={"net.ipv4.ip_forward": Setting("0", Where("sysctl.txt", 7))})
    why = drops.explain(f"{PREFIX}IP_INADDRERRORS", "", PACKET, hop(), off)
    assert (why.code, why.evidence, why.cure) == (
        "ip_forward_disabled",
        ("net.ipv4.ip_forward = 0 (sysctl.txt:7)",),
        ("sysctl -w net.ipv4.ip_forward=1",),
    )
    listening = host(sockets=(Socket(2, 17, 0x7F000001, 53, state="UNCONN", where=Where("sockets.txt", 3)),))
    why = drops.explain(f"{PREFIX}NO_SOCKET", "", PACKET, hop(), listening)
    assert (why.code, why.evidence) == ("listener_bound_elsewhere", ("sockets.txt:3",)) and "127.0.0.1" in why.text
    assert drops.explain(f"{PREFIX}NO_SOCKET", "", PACKET, hop(), host(sockets=())).code == "no_listener"
    way = Step(None, "routing", text="table main: via 10.0.0.254 dev eth0")
    check = Step(None, "routing", text="table main: via 10.7.7.7 dev eth1", note="is the source reachable this way?")
    why = drops.explain(f"{PREFIX}NEIGH_FAILED", "", PACKET, hop(way, check), host())
    assert "on eth0 of r answers for 10.0.0.254, the next hop" in why.text
    assert "mtu 1000" in drops.explain(f"{PREFIX}PKT_TOO_BIG", "", PACKET, hop(way), host()).text


def test_without_a_snapshot_the_reason_speaks_for_itself() -> None:
    why = drops.explain(f"{PREFIX}IP_RPFILTER", "", PACKET, hop(), None)
    assert (why.code, why.text) == ("rp_filter", drops.sentence("IP_RPFILTER")) and why.cure


def test_explain_knows_the_kernels_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["explain", "SKB_DROP_REASON_IP_RPFILTER"]) == 0
    assert "Reverse path filter" in capsys.readouterr().out.replace("\n        ", " ")
    assert cli.run(["explain", "ovs_drop_meter", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reasons"][0]["code"] == "OVS_DROP_METER"
    assert cli.run(["explain", "SKB_DROP_REASON_NONSENSE"]) == 2


def test_routes_that_refuse_are_named() -> None:
    from nattrace.sim.model.addr import parse_prefix

    route = Route(parse_prefix("10.0.0.0/24"), type="prohibit", where=Where("route.json", None))
    why = drops.explain(f"{PREFIX}NOT_SPECIFIED", "ip_error+0x1", PACKET, hop(), host(routes={(2, 254): (route,)}))
    assert (why.code, why.evidence) == ("route_prohibit", ("route.json",))
