"""Who answers on a link; tests/differential/test_neigh_kernel.py asks the kernel the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nattrace.sim.engine import neigh
from nattrace.sim.model.addr import AF_INET
from nattrace.sim.model.route import Neighbour
from nattrace.sim.model.world import Host, Port

from .net_world import context, host, ip4, route

A = host("a", {"eth0": ["10.0.0.1/24"]})
LAN = ("a:eth0", "b:eth0", "c:eth0")


def router(**sysctl: str) -> Host:
    settings = {f"net.ipv4.conf.{key.replace('__', '.')}": value for key, value in sysctl.items()}
    return host("b", {"eth0": ["10.0.0.2/24"], "eth1": ["10.9.0.2/24"]}, sysctl=settings)


def ask(target: str, *others: Host, asker: Host = A, src: str = "0.0.0.0") -> neigh.Resolution:
    return neigh.resolve(context(asker, *others, lan=LAN), "eth0", ip4(target), AF_INET, ip4(src))


def test_the_owner_answers() -> None:
    assert ask("10.0.0.2", router()).port == Port("b", "eth0")


def test_nobody_has_it() -> None:
    found = ask("10.0.0.77", router())
    assert (found.kind, found.silent) == ("failed", False)


def test_an_interface_in_no_segment_is_the_edge() -> None:
    assert neigh.resolve(context(A), "eth0", ip4("10.0.0.77"), AF_INET).kind == "edge"


def test_at_the_edge_a_failed_neighbour_fails() -> None:
    known = Neighbour(AF_INET, "eth0", ip4("10.0.0.77"), state="FAILED")
    assert neigh.resolve(context(A.with_(neighbours=(known,))), "eth0", ip4("10.0.0.77"), AF_INET).kind == "failed"


@pytest.mark.parametrize(("value", "answers"), [("0", True), ("1", False), ("2", False), ("3", True), ("8", False)])
def test_arp_ignore_decides_about_the_address_of_another_interface(value: str, answers: bool) -> None:
    asker = host("a", {"eth0": ["10.0.0.1/24"]}, route("10.9.0.0/24", "dev eth0"))
    found = ask("10.9.0.2", router(eth0__arp_ignore=value), asker=asker)
    assert (found.kind == "port") is answers


def test_arp_filter_answers_only_where_the_way_back_is() -> None:
    far = host("b", {"eth0": ["10.0.0.2/24"], "eth1": ["10.0.0.3/24"]}, sysctl={"net.ipv4.conf.eth1.arp_filter": "1"})
    ctx = context(A, far, lan=("a:eth0", "b:eth0", "b:eth1"))
    assert neigh.resolve(ctx, "eth0", ip4("10.0.0.3"), AF_INET).port == Port("b", "eth0")
    assert not ctx.run.choices


def test_two_interfaces_on_one_link_both_answer_and_nobody_knows_who_is_first() -> None:
    far = host("b", {"eth0": ["10.0.0.2/24"], "eth1": ["10.0.0.3/24"]})
    ctx = context(A, far, lan=("a:eth0", "b:eth0", "b:eth1"), prefix=(1,))
    assert neigh.resolve(ctx, "eth0", ip4("10.0.0.3"), AF_INET).port == Port("b", "eth1")
    assert [option.probability for option in ctx.run.choices[0].options] == [None, None]
    assert neigh.resolve(ctx, "eth0", ip4("10.0.0.3"), AF_INET).port == Port("b", "eth1")
    assert len(ctx.run.choices) == 1


@pytest.mark.parametrize(
    ("sysctl", "answers"),
    [
        ({"eth0__proxy_arp": "1", "eth0__forwarding": "1"}, True),
        ({"eth0__proxy_arp": "1", "eth0__forwarding": "0"}, False),
        ({"eth0__proxy_arp": "0", "eth0__forwarding": "1"}, False),
        ({"all__proxy_arp": "1", "eth0__forwarding": "1"}, True),
    ],
)
def test_proxy_arp_answers_for_what_it_would_forward(sysctl: dict[str, str], answers: bool) -> None:
    asker = host("a", {"eth0": ["10.0.0.1/8"]})
    assert (ask("10.9.0.77", router(**sysctl), asker=asker).kind == "port") is answers


def test_a_proxy_entry_answers_for_one_address() -> None:
    entry = Neighbour(AF_INET, "eth0", ip4("10.9.0.77"), proxy=True)
    far = router(eth0__forwarding="1").with_(neighbours=(entry,))
    asker = host("a", {"eth0": ["10.0.0.1/8"]})
    assert ask("10.9.0.77", far, asker=asker).port == Port("b", "eth0")
    assert ask("10.9.0.78", far, asker=asker).kind == "failed"


def test_a_strict_reverse_path_filter_silences_the_answer() -> None:
    asker = host("a", {"eth0": ["10.9.0.1/24"]})  # an address that b has behind its eth1
    ctx = context(asker, router(eth0__rp_filter="1"), lan=LAN)
    found = neigh.resolve(ctx, "eth0", ip4("10.0.0.2"), AF_INET)
    assert found.kind == "failed" and "does not answer" in str(found.reason)


def test_a_static_entry_needs_no_answer() -> None:
    c = host("c", {"eth0": []})
    entry = Neighbour(AF_INET, "eth0", ip4("10.0.0.77"), c.links["eth0"].mac, "PERMANENT")
    assert ask("10.0.0.77", router(), c, asker=A.with_(neighbours=(entry,))).port == Port("c", "eth0")


def test_a_static_entry_with_a_foreign_mac_loses_the_packet_in_silence() -> None:
    entry = Neighbour(AF_INET, "eth0", ip4("10.0.0.2"), 0x020000000099, "PERMANENT")
    found = ask("10.0.0.2", router(), asker=A.with_(neighbours=(entry,)))
    assert (found.kind, found.silent) == ("failed", True)


def test_a_member_without_carrier_does_not_answer() -> None:
    b = router()
    off = b.with_(links={**b.links, "eth0": replace(b.links["eth0"], carrier=False)})
    assert ask("10.0.0.2", off).kind == "failed"


def test_a_broadcast_goes_to_everybody_else() -> None:
    c = host("c", {"eth0": ["10.0.0.3/24"]})
    found = ask("10.0.0.255", router(), c)
    assert (found.kind, found.ports) == ("broadcast", (Port("b", "eth0"), Port("c", "eth0")))


def test_multicast_needs_no_resolution() -> None:
    assert ask("224.0.0.251", router()).kind == "broadcast"
