"""NAT at function level; expected values are those of a real kernel (6.18) or of the formula verified on it."""

from __future__ import annotations

from typing import Any

import pytest
from conntrack_lab import (
    OUT,
    POST,
    PRE,
    Lab,
    Passed,
    accept,
    address,
    dnat,
    ip,
    masquerade,
    packet,
    redirect,
    snat,
)
from nattrace.sim.engine import conntrack, nat
from nattrace.sim.engine.ports import search_domain
from nattrace.sim.engine.run import Run, explore
from nattrace.sim.model.drawn import Domain, Drawn
from nattrace.sim.model.result import Leaf, Reason
from nattrace.sim.model.route import Link
from nattrace.sim.model.rule import ACCEPT, DROP, Verdict


def udp(lab: Lab, src: str, dst: str = "9.9.9.9:53", **how: Any) -> Passed:
    return lab.send(packet("udp", src, dst), **how)


def domain_of(lab: Lab, value: Any) -> Domain:
    assert isinstance(value, Drawn), value
    return lab.ws.domains[value.draw_id]


# -------------------------------------------------------------------------------------- source ports


@pytest.mark.parametrize(
    ("sport", "low", "high"),
    [(100, 1, 511), (511, 1, 511), (512, 600, 1023), (599, 600, 1023), (600, 600, 1023), (1023, 600, 1023),
     (1024, 1024, 65535), (40000, 1024, 65535)],
)  # fmt: skip
def test_the_first_client_keeps_its_port_and_the_second_draws_from_its_class(sport: int, low: int, high: int) -> None:
    lab = Lab()
    first = udp(lab, f"192.168.1.10:{sport}", src_rule=masquerade())
    second = udp(lab, f"192.168.1.11:{sport}", src_rule=masquerade())
    assert first.source == f"10.0.0.1:{sport}"
    domain = domain_of(lab, second.skb.sport)
    assert domain.ranges == Domain.of(low, high, {sport} if low <= sport <= high else set()).ranges
    assert second.ok and second.state == "NEW"
    assert lab.conns()[1].status_names() == ["CONFIRMED", "SRC_NAT", "SRC_NAT_DONE", "DST_NAT_DONE"]


def test_a_source_keeps_its_drawn_port_towards_another_server() -> None:
    lab = Lab()
    udp(lab, "192.168.1.10:5000", src_rule=masquerade())
    drawn = udp(lab, "192.168.1.11:5000", src_rule=masquerade()).skb.sport
    again = udp(lab, "192.168.1.11:5000", "9.9.9.8:53", src_rule=masquerade())
    assert isinstance(drawn, Drawn) and again.skb.sport == drawn


def test_a_local_flow_is_moved_off_a_port_that_a_masqueraded_client_holds() -> None:
    lab = Lab()
    udp(lab, "192.168.1.10:6000", src_rule=masquerade())
    local = udp(lab, "10.0.0.1:6000", way="out")
    assert domain_of(lab, local.skb.sport).ranges == ((1024, 5999), (6001, 65535))
    assert "SRC_NAT" in lab.conns()[1].status_names()
    assert "no rule translates this connection" in local.notes
    # In range but used: no reuse of the mapping; towards another server the port is free again.
    assert udp(lab, "10.0.0.1:6000", "9.9.9.8:53", way="out").source == "10.0.0.1:6000"


def test_an_icmp_id_in_use_is_drawn_anew() -> None:
    lab = Lab()
    lab.send(packet("icmp", "192.168.1.10", "9.9.9.9", icmp_id=77), src_rule=masquerade())
    second = lab.send(packet("icmp", "192.168.1.11", "9.9.9.9", icmp_id=77), src_rule=masquerade())
    assert domain_of(lab, second.skb.icmp_id).ranges == ((0, 76), (78, 65535))


def test_a_range_of_four_ports_serves_four_clients() -> None:
    lab = Lab()
    rule = masquerade("2000-2003")
    first = udp(lab, "192.168.1.10:2002", src_rule=rule)
    assert first.skb.sport == 2002
    others = [udp(lab, f"192.168.1.{n}:5000", src_rule=rule) for n in range(11, 16)]
    assert [o.ok for o in others] == [True, True, True, False, False]
    assert domain_of(lab, others[0].skb.sport).ranges == ((2000, 2001), (2003, 2003))
    assert others[3].verdict.reason == "nat_ports_exhausted"
    assert len(lab.conns()) == 4


def test_a_single_snat_port_is_not_checked_and_clashes_at_confirmation() -> None:
    for proto in ("udp", "tcp"):
        lab = Lab()
        assert lab.send(packet(proto, "192.168.1.11:5000", "9.9.9.9:53", "S"), src_rule=snat("10.0.0.1:2000")).ok
        second = lab.send(packet(proto, "192.168.1.12:5000", "9.9.9.9:53", "S"), src_rule=snat("10.0.0.1:2000"))
        assert (second.verdict.code, second.verdict.reason) == (DROP, "conntrack_clash")


@pytest.mark.parametrize("flag", [nat.NF_NAT_RANGE_PROTO_RANDOM, nat.NF_NAT_RANGE_PROTO_RANDOM_FULLY])
def test_random_draws_a_port_although_the_own_one_is_free(flag: int) -> None:
    lab = Lab()
    got = udp(lab, "192.168.1.10:5000", src_rule=masquerade(flags=flag))
    assert domain_of(lab, got.skb.sport).ranges == ((1024, 65535),)


def test_protocols_without_ports_clash() -> None:
    lab = Lab()
    for proto, ends in (("esp", "conntrack_clash"), ("99", "conntrack_clash")):
        assert lab.send(packet(proto, "192.168.1.10", "9.9.9.9"), src_rule=masquerade()).ok
        assert lab.send(packet(proto, "192.168.1.11", "9.9.9.9"), src_rule=masquerade()).verdict.reason == ends


# ---------------------------------------------------------------------------------- destination ports


def test_a_dnat_range_is_searched_from_its_begin() -> None:
    lab = Lab()
    rule = dnat("10.0.0.2:8000-8010")
    assert udp(lab, "192.168.1.10:3001", "10.0.0.1:99", dst_rule=rule).target == "10.0.0.2:8000"
    assert udp(lab, "192.168.1.10:3001", "10.0.0.1:98", dst_rule=rule).target == "10.0.0.2:8001"
    assert udp(lab, "192.168.1.10:3001", "10.0.0.1:97", dst_rule=rule).target == "10.0.0.2:8002"
    assert udp(lab, "192.168.1.11:3001", "10.0.0.1:99", dst_rule=rule).target == "10.0.0.2:8000"


def test_a_destination_port_in_the_dnat_range_is_kept_unless_random() -> None:
    lab = Lab()
    assert udp(lab, "192.168.1.10:3009", "10.0.0.1:8005", dst_rule=dnat("10.0.0.2:8000-8010")).target == "10.0.0.2:8005"
    rule = dnat("10.0.0.2:8000-8010", nat.NF_NAT_RANGE_PROTO_RANDOM)
    got = udp(lab, "192.168.1.10:3011", "10.0.0.1:8005", dst_rule=rule)
    assert domain_of(lab, got.skb.dport).ranges == ((8000, 8010),)


@pytest.mark.parametrize(("asked", "given"), [(5000, 8000), (5003, 8003), (5010, 8010)])
def test_a_port_offset_counts_from_the_base(asked: int, given: int) -> None:
    lab = Lab()
    rule = dnat("10.0.0.2:8000-8010", nat.NF_NAT_RANGE_PROTO_OFFSET, base=5000)
    assert (
        udp(lab, f"192.168.1.10:{3020 + asked % 10}", f"10.0.0.1:{asked}", dst_rule=rule).target == f"10.0.0.2:{given}"
    )


def test_before_6_12_a_dnat_range_was_searched_from_a_random_start() -> None:
    lab = Lab(kernel=(6, 1))
    got = udp(lab, "192.168.1.10:3001", "10.0.0.1:99", dst_rule=dnat("10.0.0.2:8000-8010"))
    assert domain_of(lab, got.skb.dport).ranges == ((8000, 8010),)


def test_one_client_port_to_two_destinations_of_one_server_gets_a_new_source_port() -> None:
    lab = Lab()
    rule = dnat("10.0.0.2")
    assert udp(lab, "192.168.1.10:4000", "8.8.8.8:53", dst_rule=rule).source == "192.168.1.10:4000"
    second = udp(lab, "192.168.1.10:4000", "8.8.4.4:53", dst_rule=rule)
    assert domain_of(lab, second.skb.sport).ranges == ((1024, 3999), (4001, 65535))
    ids = [
        lab.send(packet("icmp", "192.168.1.10", to, icmp_id=7), dst_rule=rule).skb.icmp_id
        for to in ("8.8.8.8", "8.8.4.4", "8.8.0.0")
    ]
    assert ids == [7, 0, 1]
    assert lab.send(packet("99", "192.168.1.10", "8.8.8.8"), dst_rule=rule).ok
    assert lab.send(packet("99", "192.168.1.10", "8.8.4.4"), dst_rule=rule).verdict.reason == "conntrack_clash"


# ---------------------------------------------------------------------------------------- pool addresses


# Source, destination, then the address from 10.0.0.50-10.0.0.69 plain and --persistent, and from 10.0.0.50-10.0.0.56 in
# zone 5: by the reference script that predicted 120 of 120 entries of a real kernel.
POOL = [
    ("192.168.1.10", "9.9.9.1", "10.0.0.52", "10.0.0.68", "10.0.0.56"),
    ("192.168.1.11", "9.9.9.2", "10.0.0.64", "10.0.0.69", "10.0.0.50"),
    ("192.168.1.12", "9.9.9.77", "10.0.0.62", "10.0.0.53", "10.0.0.53"),
    ("192.168.1.200", "8.1.2.3", "10.0.0.67", "10.0.0.59", "10.0.0.54"),
    ("192.168.1.10", "200.100.50.25", "10.0.0.57", "10.0.0.68", "10.0.0.55"),
]


@pytest.mark.parametrize(("src", "dst", "plain", "persistent", "zoned"), POOL)
def test_the_address_of_a_pool_follows_from_source_destination_and_zone(
    src: str, dst: str, plain: str, persistent: str, zoned: str
) -> None:
    pool = "10.0.0.50-10.0.0.69"
    to = f"{dst}:53"
    for make, seen in ((snat, "source"), (dnat, "target")):
        rule = "src_rule" if make is snat else "dst_rule"
        for flags, expected in ((0, plain), (nat.NF_NAT_RANGE_PERSISTENT, persistent)):
            got = udp(Lab(), f"{src}:3000", to, **{rule: make(pool, flags)})
            assert getattr(got, seen).startswith(expected + ":")
    got = udp(Lab(), f"{src}:3000", to, dst_rule=dnat("10.0.0.50-10.0.0.56"), zone=(5, 5))
    assert got.target == f"{zoned}:53"


def test_snat_from_a_pool_hashes_the_translated_destination() -> None:
    rules = {"dst_rule": dnat("10.0.0.2"), "src_rule": snat("10.0.0.50-10.0.0.69")}
    both = udp(Lab(), "192.168.1.10:3000", "9.9.9.1:53", **rules).skb.src
    alone = udp(Lab(), "192.168.1.10:3000", "10.0.0.2:53", src_rule=snat("10.0.0.50-10.0.0.69")).skb.src
    assert both == alone


def test_a_live_mapping_of_the_same_source_pins_the_pool_address() -> None:
    lab = Lab()
    rule = snat("10.0.0.50-10.0.0.69")
    first = udp(lab, "192.168.1.10:3000", "9.9.9.1:53", src_rule=rule)
    second = udp(lab, "192.168.1.10:3000", "9.9.9.2:53", src_rule=rule)
    assert first.skb.src == second.skb.src == ip("10.0.0.52")


# --------------------------------------------------------------------------------- the nat dispatcher


def test_a_reply_is_translated_back_and_no_chain_is_asked() -> None:
    lab = Lab()
    asked: list[str] = []

    def rule(ctx: Any, skb: Any) -> Verdict:
        asked.append("asked")
        return masquerade()(ctx, skb)

    udp(lab, "192.168.1.10:4000", src_rule=rule)
    back = lab.send(packet("udp", "9.9.9.9:53", "10.0.0.1:4000"), indev="up0", outdev="lan", src_rule=rule)
    assert (back.state, back.source, back.target) == ("ESTABLISHED", "9.9.9.9:53", "192.168.1.10:4000")
    again = udp(lab, "192.168.1.10:4000", src_rule=rule)
    assert (again.state, again.source) == ("ESTABLISHED", "10.0.0.1:4000")
    assert asked == ["asked"]
    assert "rules not consulted: source NAT of this connection was decided when entry #1" in again.notes


def test_the_second_packet_is_still_new_but_asks_no_chain() -> None:
    lab = Lab()
    udp(lab, "192.168.1.10:4000", src_rule=accept)
    again = udp(lab, "192.168.1.10:4000", src_rule=masquerade())
    assert (again.state, again.source) == ("NEW", "192.168.1.10:4000")
    assert "not consulted: source NAT of this connection was decided when entry #1" in again.notes


def test_the_step_of_a_nat_rule_can_show_the_change_because_the_target_rewrites() -> None:
    lab = Lab()
    skb = packet("udp", "192.168.1.10:4000", "9.9.9.9:53")
    lab.send(skb, until=PRE)
    seen: list[int] = []

    def rule(ctx: Any, inner: Any) -> Verdict:
        verdict = snat("10.0.0.7")(ctx, inner)
        seen.append(inner.src)
        return verdict

    nat.nat_hook(lab.ctx(POST, None, "up0"), skb, [rule], lambda r: r(lab.ctx(POST, None, "up0"), skb))  # type: ignore[list-item]
    assert seen == [ip("10.0.0.7")]


def test_a_chain_that_accepts_leaves_the_decision_to_the_next_chain() -> None:
    lab = Lab()
    skb = packet("udp", "192.168.1.10:4000", "9.9.9.9:53")
    lab.send(skb, until=PRE)
    ctx = lab.ctx(POST, None, "up0")
    chains: list[Any] = [accept, snat("10.0.0.7"), snat("10.0.0.8")]
    assert nat.nat_hook(ctx, skb, chains, lambda r: r(ctx, skb)).code == ACCEPT  # type: ignore[operator]
    assert skb.src == ip("10.0.0.7")


def test_an_untracked_packet_passes_nat_untouched() -> None:
    lab = Lab()
    got = lab.send(packet("udp", "192.168.1.10:4000", "9.9.9.9:53", ctinfo=7), src_rule=masquerade())
    assert (got.state, got.source) == ("UNTRACKED", "192.168.1.10:4000")


# ------------------------------------------------------------------------------------------- targets


def test_masquerade_kills_a_connection_that_leaves_by_another_device() -> None:
    lab = Lab()
    udp(lab, "192.168.1.10:4000", src_rule=masquerade())
    moved = udp(lab, "192.168.1.10:4000", outdev="up1", src_rule=masquerade())
    assert moved.verdict.reason == "masquerade_interface_changed" and not lab.conns()
    assert udp(lab, "192.168.1.10:4000", outdev="up1", src_rule=masquerade()).source == "203.0.113.2:4000"


def test_plain_snat_keeps_the_stale_source_on_another_device() -> None:
    lab = Lab()
    udp(lab, "192.168.1.10:4000", src_rule=snat("10.0.0.1"))
    assert udp(lab, "192.168.1.10:4000", outdev="up1", src_rule=snat("203.0.113.2")).source == "10.0.0.1:4000"


def test_masquerade_without_any_address_drops() -> None:
    links = {"lo": Link("lo", 1, loopback=True), "lan": Link("lan", 2), "up0": Link("up0", 3)}
    lab = Lab(links=links, addresses=(address("lo", "127.0.0.1/8", scope=254),))
    assert udp(lab, "192.168.1.10:4000", src_rule=masquerade()).verdict.reason == "masquerade_no_address"


def test_redirect_goes_to_the_receiving_device_or_to_loopback() -> None:
    lab = Lab()
    got = udp(lab, "192.168.1.10:4000", "8.8.8.8:53", dst_rule=redirect("5353"), way="in")
    assert got.target == "192.168.1.1:5353"
    assert udp(lab, "10.0.0.1:4001", "8.8.8.8:53", dst_rule=redirect("5353"), way="out").target == "127.0.0.1:5353"


def test_redirect_on_a_device_without_an_address_drops() -> None:
    lab = Lab(addresses=(address("up0", "10.0.0.1/24"),))
    assert not udp(lab, "192.168.1.10:4000", "8.8.8.8:53", dst_rule=redirect("5353"), way="in").ok


# ------------------------------------------------------------------------------------------ ICMP errors


def icmp_error(src: str, dst: str, about: Any, icmp_type: int = 3, code: int = 3) -> Any:
    return packet("icmp", src, dst, icmp_type=icmp_type, icmp_code=code, inner=about)


def test_an_error_from_the_server_side_is_translated_inside_and_outside() -> None:
    lab = Lab()
    udp(lab, "192.168.1.10:4000", "8.8.8.8:53", dst_rule=dnat("10.0.0.2:5353"), src_rule=masquerade())
    sent = packet("udp", "10.0.0.1:4000", "10.0.0.2:5353")
    got = lab.send(icmp_error("10.0.0.2", "10.0.0.1", sent), indev="up0", outdev="lan")
    assert got.state == "RELATED"
    inner = got.skb.inner
    assert (got.skb.src, got.skb.dst) == (ip("8.8.8.8"), ip("192.168.1.10"))
    assert (inner.src, inner.sport, inner.dst, inner.dport) == (ip("192.168.1.10"), 4000, ip("8.8.8.8"), 53)


def test_an_error_of_the_router_itself_comes_from_the_original_destination() -> None:
    lab = Lab()
    sent = udp(lab, "192.168.1.10:4000", "8.8.8.8:53", dst_rule=dnat("10.0.0.99"))
    error = icmp_error("192.168.1.1", "192.168.1.10", sent.skb.copy(), code=1)
    conntrack.attach(lab.ctx(OUT, None, "lan"), error, sent.skb)
    got = lab.send(error, way="out", outdev="lan")
    assert (got.state, got.skb.src, got.skb.inner.dst) == ("RELATED", ip("8.8.8.8"), ip("8.8.8.8"))


def test_with_masquerade_alone_the_routers_error_keeps_its_source() -> None:
    lab = Lab()
    sent = udp(lab, "192.168.1.10:4000", "8.8.8.8:53", src_rule=masquerade())
    error = icmp_error("10.0.0.254", "10.0.0.1", sent.skb.copy(), 11, 0)
    got = lab.send(error, indev="up0", outdev="lan")
    assert (got.skb.src, got.skb.dst) == (ip("10.0.0.254"), ip("192.168.1.10"))
    assert (got.skb.inner.src, got.skb.inner.sport) == (ip("192.168.1.10"), 4000)


def test_an_error_whose_outer_destination_is_not_the_flows_is_invalid() -> None:
    lab = Lab()
    udp(lab, "192.168.1.10:4000", "8.8.8.8:53", src_rule=masquerade())
    sent = packet("udp", "10.0.0.1:4000", "8.8.8.8:53")
    assert lab.send(icmp_error("10.0.0.254", "192.168.1.77", sent), indev="up0", outdev="lan").state == "INVALID"


@pytest.mark.parametrize("rule", [None, snat("10.0.0.1")])
def test_a_redirect_about_an_undecided_or_translated_flow_is_dropped(rule: Any) -> None:
    lab = Lab()
    skb = packet("udp", "192.168.1.10:4000", "8.8.8.8:53")
    if rule is None:
        lab.send(skb, until=PRE)
    else:
        lab.send(skb, src_rule=rule)
    error = icmp_error("192.168.1.1", "192.168.1.10", skb.copy(), 5, 1)
    conntrack.attach(lab.ctx(OUT, None, "lan"), error, skb)
    assert not lab.send(error, way="out", outdev="lan").ok


def test_a_reset_for_a_rejected_first_packet_asks_the_source_chains() -> None:
    lab = Lab()
    syn = packet("tcp", "192.168.1.10:4000", "8.8.8.8:80", "S", tcp_seq=1000)
    lab.send(syn, until=PRE, dst_rule=dnat("10.0.0.2:81"))
    rst = packet("tcp", "10.0.0.2:81", "192.168.1.10:4000", "RA", tcp_ack=1001)
    conntrack.attach(lab.ctx(OUT, None, "lan"), rst, syn)
    asked: list[int] = []

    def rule(ctx: Any, skb: Any) -> Verdict:
        asked.append(ctx.hook)
        return masquerade()(ctx, skb)

    got = lab.send(rst, way="out", outdev="lan", src_rule=rule, dst_rule=rule)
    assert (got.state, asked) == ("RELATED", [POST])
    assert (got.source, got.target) == ("8.8.8.8:80", "192.168.1.10:4000")
    assert not lab.conns()


# -------------------------------------------------------------------------------------- draws and worlds


def leaf(lab: Lab, run: Run, got: Passed) -> Leaf:
    return Leaf(str(got.state), {}, {}, Reason(got.verdict.reason or "", ""), state=run.ws)


def test_a_guessed_reply_meets_the_drawn_port_with_the_exact_probability() -> None:
    lab = Lab()
    udp(lab, "192.168.1.10:5000", src_rule=masquerade())
    udp(lab, "192.168.1.11:5000", src_rule=masquerade())

    def play(run: Run) -> Leaf:
        guess = packet("udp", "9.9.9.9:53", "10.0.0.1:1500")
        return leaf(lab, run, lab.send(guess, indev="up0", way="in", run=run))

    leaves, complete = explore(lab.ws, play)
    assert complete
    hit = next(found for found in leaves if found.outcome == "ESTABLISHED")
    # 1500 is one of the numbers that two of the 65536 start values lead to; nobody starts at 5000 and stays there.
    assert hit.probability == pytest.approx(2 / 65536)
    assert sum(found.probability or 0 for found in leaves) == pytest.approx(1)


def test_an_observed_port_is_pinned() -> None:
    lab = Lab()
    udp(lab, "192.168.1.10:5000", src_rule=masquerade())
    drawn = udp(lab, "192.168.1.11:5000", src_rule=masquerade()).skb.sport
    assert not conntrack.pin(lab.ws, drawn, 5000)
    assert conntrack.pin(lab.ws, drawn, 26298)
    back = lab.send(packet("udp", "9.9.9.9:53", "10.0.0.1:26298"), indev="up0", outdev="lan")
    assert (back.state, back.target) == ("ESTABLISHED", "192.168.1.11:5000")


def test_a_reply_that_carries_the_drawn_port_finds_its_entry() -> None:
    lab = Lab()
    udp(lab, "192.168.1.10:5000", src_rule=masquerade())
    drawn = udp(lab, "192.168.1.11:5000", src_rule=masquerade()).skb.sport
    back = packet("udp", "9.9.9.9:53", "10.0.0.1:0")
    back.dport = drawn
    got = lab.send(back, indev="up0", outdev="lan")
    assert (got.state, got.target) == ("ESTABLISHED", "192.168.1.11:5000")


@pytest.mark.parametrize(
    ("size", "taken"),
    [(4, {2}), (511, {126, 127, 300}), (64512, {0, 1022, 1023, 3976}), (424, {0, 423}), (65536, {77})],
)
def test_a_numbers_weight_is_how_many_start_values_lead_to_it(size: int, taken: set[int]) -> None:
    weight = [0] * size
    reached = None
    ends: list[int] = [0] * 65536
    for start in list(range(65535, -1, -1)) * 2:
        if start % size not in taken:
            reached = start % size
        ends[start] = reached if reached is not None else -1
    for end in ends:
        weight[end] += 1
    domain = search_domain(600, size, {600 + t for t in taken})
    got = [0] * size
    for low, high, each in domain.weights or [(low, high, 65536 // domain.size) for low, high in domain.ranges]:
        got[low - 600 : high - 599] = [each] * (high - low + 1)
    assert got == weight


def test_a_new_syn_takes_the_port_of_a_finished_connection() -> None:
    lab = Lab()
    rule = snat("10.0.0.1:2000-2000", nat.NF_NAT_RANGE_PROTO_RANDOM)
    ends = ("192.168.1.10:4000", "9.9.9.9:80")
    lab.send(packet("tcp", *ends, "S", tcp_seq=1000), src_rule=rule)
    lab.send(packet("tcp", "9.9.9.9:80", "10.0.0.1:2000", "SA", tcp_seq=5, tcp_ack=1001), indev="up0", outdev="lan")
    lab.send(packet("tcp", *ends, "A", tcp_seq=1001, tcp_ack=6))

    def syn(seq: int) -> Passed:
        return lab.send(packet("tcp", "192.168.1.11:4000", "9.9.9.9:80", "S", tcp_seq=seq), src_rule=rule)

    assert syn(9000).verdict.reason == "conntrack_clash"  # the connection lives
    lab.send(packet("tcp", *ends, "R", tcp_seq=1001))
    assert syn(900).verdict.reason == "conntrack_clash"  # finished, but the old segments could be taken for new ones
    assert syn(9000).ok
    assert [c.tuples[0].src for c in lab.conns()] == [ip("192.168.1.11")]


def test_a_drawn_port_that_was_seen_is_taken_from_the_other_draws() -> None:
    lab = Lab()
    udp(lab, "192.168.1.10:5000", src_rule=masquerade())
    first, second = (udp(lab, f"192.168.1.{n}:5000", src_rule=masquerade()).skb.sport for n in (11, 12))
    elsewhere = udp(
        lab, "192.168.1.13:500", src_rule=snat("10.0.0.7:2000-2009", nat.NF_NAT_RANGE_PROTO_RANDOM)
    ).skb.sport
    assert isinstance(first, Drawn) and isinstance(second, Drawn) and isinstance(elsewhere, Drawn)
    assert conntrack.pin(lab.ws, second, 2005)
    assert not lab.ws.domains[first.draw_id].holds(2005)
    assert lab.ws.domains[elsewhere.draw_id].holds(2005)
