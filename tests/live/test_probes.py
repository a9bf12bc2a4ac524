"""Probes against the running kernel: what a packet meets is seen, in order, and nothing else is claimed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from lab_support import kernel
from nattrace.tracer.live import compile, netns, residue
from nattrace.tracer.live.event import KIND, STATUS, tuple_text
from nattrace.tracer.live.filter import Filter
from nattrace.tracer.live.scene import Scene
from nattrace.tracer.live.session import ALL_STREAMS, Session
from nattrace.tracer.live.story import stories

from .probe_lab import Lab, Seen, lab

pytestmark = kernel

FLOW = Filter.of(proto="udp", src="10.7.1.2")
ROUTER_WAY = ["PREROUTING -199", "PREROUTING -149", "PREROUTING -99", "FORWARD -1", "FORWARD 1", "POSTROUTING 101"]


@pytest.fixture(scope="module")
def bench() -> Iterator[Lab]:
    with lab() as made:
        yield made


def test_a_translated_packet_tells_every_stage(bench: Lab) -> None:
    seen = bench.watch(FLOW, lambda: bench.send("10.7.1.1", 8080, source=41001))
    assert all(slot.state == "attached" for slot in seen.slots)
    assert seen.places(0) == ["rx", *ROUTER_WAY, "tx"]
    assert seen.packets.complete[0]
    taps = {int(e["prio"]): e for e in seen.events[seen.packets.rows(0)] if e["kind"] == KIND.tap}
    assert tuple_text(taps[-149]["t"]) == "udp 10.7.1.2:41001 > 10.7.1.1:8080"
    assert (taps[-199]["mark"], taps[-149]["mark"]) == (0, 7)
    assert tuple_text(taps[-99]["t"]) == "udp 10.7.1.2:41001 > 10.7.2.2:80"
    assert STATUS(int(taps[-99]["status"])) & STATUS.DST_NAT
    assert tuple_text(taps[101]["t"]) == "udp 10.7.2.1:41001 > 10.7.2.2:80"
    assert tuple_text(taps[101]["r"]) == "udp 10.7.2.2:80 > 10.7.2.1:41001"
    assert taps[1]["ttl"] == taps[-99]["ttl"] - 1
    sent = seen.of(KIND.tx)[0]
    assert STATUS(int(sent["status"])) & STATUS.CONFIRMED
    lookup = seen.of(KIND.fib)
    assert lookup["table"][0] == 254
    assert lookup["skb"][0] == sent["skb"]


def test_a_drop_tells_its_reason_and_its_place(bench: Lab) -> None:
    seen = bench.watch(FLOW, lambda: bench.send("10.7.2.2", 9999, source=41002))
    assert seen.places(0)[-2:] == ["FORWARD -1", "drop"]
    drop = seen.of(KIND.drop)[0]
    assert seen.reasons[int(drop["reason"])] == "SKB_DROP_REASON_NETFILTER_DROP"
    assert drop["aux"] > 1 << 63, "the address of the code that dropped it"


@pytest.mark.parametrize(
    "wanted",
    [
        Filter.of(proto="udp", dst="10.7.1.1", dport=8080),
        Filter.of(proto="udp", dst="10.7.2.2", dport=80),
        Filter.of(src="10.7.2.1", dst="10.7.2.2"),
        Filter.of(src="10.7.2.2/31", dst="10.7.2.1"),
        Filter.of(proto=17, sport=(41003, 41009)),
    ],
    ids=lambda f: str(f.terms[0].encode().hex())[:12],
)
def test_translation_never_loses_a_packet_to_a_filter(bench: Lab, wanted: Filter) -> None:
    bench.send("10.7.1.1", 8080, source=41003)  # what it becomes is known from here on
    seen = bench.watch(wanted, lambda: bench.send("10.7.1.1", 8080, source=41003))
    udp = [i for i in range(seen.packets.count) if (seen.events["t"]["proto"][seen.packets.rows(i)] == 17).any()]
    places = [seen.places(i) for i in udp]
    assert [place for place in places[0] if place != "rx"] == [*ROUTER_WAY, "tx"]


def test_a_packet_that_nobody_asked_for_is_not_told(bench: Lab) -> None:
    seen = bench.watch(
        Filter.of(proto="udp", src="10.7.1.3"),
        lambda: bench.send("10.7.1.1", 8080, 5),
        streams=("tap", "rx", "tx", "drop", "fib"),
    )
    assert len(seen.events) == 0


def test_the_error_that_a_packet_causes_is_seen_from_its_first_step(bench: Lab) -> None:
    seen = bench.watch(FLOW, lambda: bench.send("10.7.1.1", 8080, source=41004), bench.router, bench.server)
    made = seen.of(KIND.icmp_send)
    assert made["reason"].tolist() == [3 << 8 | 3]
    assert seen.names[int(made["netns"][0])] == bench.server
    errors = [i for i in range(seen.packets.count) if seen.events["t"]["proto"][seen.packets.rows(i)[0]] == 1]
    assert len(errors) == 1
    way = seen.places(errors[0])
    assert way[0] == "OUTPUT -199"
    assert way[-1] == "tx"
    assert {"PREROUTING -99", "POSTROUTING 101"} < set(way)


def test_one_packet_over_two_namespaces_is_one(bench: Lab) -> None:
    seen = bench.watch(FLOW, lambda: bench.send("10.7.1.1", 8080, 20, source=41005), bench.router, bench.server)
    whole = [i for i in range(seen.packets.count) if seen.events["t"]["proto"][seen.packets.rows(i)[0]] == 17]
    assert len(whole) == 20
    for i in whole:
        rows = seen.events[seen.packets.rows(i)]
        payload = rows["pay"].view("<u8").reshape(-1)[np.isin(rows["kind"], (KIND.tap, KIND.rx, KIND.tx))]
        assert len(set(payload.tolist())) == 1
        assert seen.places(i)[-1] == "drop", "nobody listens"


def test_a_translated_ping_is_followed_to_its_end_and_back(bench: Lab) -> None:
    def ping() -> None:
        bench.execute(bench.client, "ping", "-c1", "-W2", "10.7.2.2")

    seen = bench.watch(Filter.of(proto="icmp", src="10.7.1.2"), ping, bench.client, bench.router, bench.server)
    told = [story.end for story in stories(seen.events, seen.packets, Scene.of(seen.session))]
    assert [(end.outcome, end.at["host"]) for end in told] == [("delivered", bench.server), ("delivered", bench.client)]


def test_ipv6_is_told_alike(bench: Lab) -> None:
    seen = bench.watch(Filter.of(proto="udp", dst="fd07:2::2"), lambda: bench.send("fd07:2::2", 5353))
    assert seen.places(0) == ["rx", "PREROUTING -199", "POSTROUTING 2147483646", "tx"]
    lookups = [e for e in seen.events if e["kind"] == KIND.fib and e["pf"] == 10]
    assert lookups
    assert all(int(e["outdev"]) for e in lookups)


def test_local_packets_tell_whose_they_are(bench: Lab) -> None:
    other = 65534
    code = f"import os, socket; os.setuid({other}); s = socket.socket(2, 2); s.sendto(b'12345678', ('10.7.2.2', 777))"
    send = lambda: bench.execute(bench.client, sys.executable, "-c", code)  # noqa: E731
    seen = bench.watch(replace(Filter.everything(), uid=other), send, bench.client)
    out = seen.of(KIND.tap)
    assert set(out["uid"].tolist()) >= {other}
    assert seen.places(0)[0] == "OUTPUT -199"
    nobody = bench.watch(replace(Filter.everything(), uid=1234), send, bench.client)
    assert len(nobody.events[np.isin(nobody.events["kind"], (KIND.tap, KIND.tx))]) == 0


@pytest.mark.parametrize("condition", [{"mark": (7, 0xFF)}, {"pcap": "udp dst port 8080"}], ids=str)
def test_a_flow_is_followed_from_where_a_condition_held(bench: Lab, condition: dict[str, object]) -> None:
    def send() -> None:
        bench.send("10.7.1.1", 8080, source=41010)
        bench.send("10.7.2.2", 53, source=41011)

    seen = bench.watch(replace(Filter.of(proto="udp", src="10.7.1.2"), **condition), send)
    ways = [seen.places(i) for i in range(seen.packets.count)]
    assert [w for w in ways if w[-2:] == ["POSTROUTING 101", "tx"]]
    ports = {int(e["o"]["dport"]) for e in seen.of(KIND.tap) if e["o"]["proto"] == 17}
    assert ports == ({8080, 53} if "mark" in condition else {8080})


def test_a_pcap_expression_with_taps_alone(bench: Lab) -> None:
    def send() -> None:
        bench.send("10.7.1.1", 8080, source=41014)
        bench.send("10.7.2.2", 53, source=41015)

    seen = bench.watch(replace(Filter.everything(), pcap="udp src port 41014"), send, streams=("tap",))
    assert {int(e["o"]["sport"]) for e in seen.events if e["o"]["proto"] == 17} == {41014}
    assert seen.places(0) == ROUTER_WAY


def test_the_interface_condition(bench: Lab) -> None:
    def index(device: str) -> int:
        with bench.spaces[bench.router].inside():
            return socket.if_nametoindex(device)

    seen = bench.watch(
        replace(Filter.of(proto="udp"), ifindex=index("rs")), lambda: bench.send("10.7.2.2", 53, source=41012)
    )
    assert "POSTROUTING 101" in seen.places(0)
    none = bench.watch(
        replace(Filter.of(proto="udp"), ifindex=index("lo")), lambda: bench.send("10.7.2.2", 53, source=41013)
    )
    assert len(none.events) == 0 or not len(none.of(KIND.tap))


def test_two_sessions_share_a_namespace_and_a_full_place_is_said(bench: Lab) -> None:
    with Session([bench.spaces[bench.router]], FLOW, ("tap",)):
        seen = bench.watch(FLOW, lambda: bench.send("10.7.1.1", 8080, source=41006), streams=("tap",))
        assert all(slot.state == "attached" for slot in seen.slots)
        assert any(slot.prio != slot.wanted for slot in seen.slots), "a neighbour of the taken priority"
        assert len(seen.places(0)) == len(ROUTER_WAY)
    with lab(
        "nft table ip t { chain a { type filter hook forward priority 5; }; chain b { type filter hook forward priority 6; }; }"
    ) as tight:
        found = tight.watch(FLOW, lambda: tight.send("10.7.2.2", 53), streams=("tap",))
        taken = [slot for slot in found.slots if slot.state == "taken"]
        assert [(slot.hook, slot.after[0].name, slot.before[0].name) for slot in taken] == [(2, "a", "b")]


def test_what_no_tap_can_see_is_said_and_chains_that_come_later_too() -> None:
    rules = "nft table bridge b { chain c { type filter hook forward priority 0; }; }\nnft table netdev n { chain i { type filter hook ingress device rc priority 0; }; }"
    with lab(rules) as made:
        space = made.spaces[made.router]
        with Session([space], FLOW, ("tap",)) as session:
            assert sorted(session.chains[space.name].unobservable) == ["chain bridge b c", "chain netdev n i"]
            assert session.changed() == []
            made.execute(made.router, "nft", "table ip late { chain x { type filter hook forward priority 3; }; }")
            assert session.changed() == [f"{space.name}: chain late x came"]


def test_an_icmp_id_is_told_apart_in_both_directions(bench: Lab) -> None:
    def ping() -> None:
        bench.execute(bench.client, "ping", "-c1", "-W2", "-e", "4321", "10.7.2.2")
        bench.execute(bench.client, "ping", "-c1", "-W2", "-e", "1234", "10.7.2.2")

    seen = bench.watch(Filter.of(proto="icmp", src="10.7.1.2", sport=4321), ping, streams=("tap", "rx", "tx"))
    assert seen.packets.count == 2
    assert {int(e["t"]["sport"]) for e in seen.events} == {4321}
    assert [seen.places(i)[0] for i in range(2)] == ["rx", "rx"], "also the reply before conntrack knows it"


def test_more_namespaces_than_a_program_holds(bench: Lab) -> None:
    names = [f"{bench.router}-{n}" for n in range(17)]
    spaces = []
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
            spaces.append(netns.by_name(name))
        with Session([*spaces, bench.spaces[bench.router]], FLOW, ("tap", "rx", "tx")) as session:
            bench.send("10.7.1.1", 8080, source=41020)
            time.sleep(0.1)
            events = session.read(1.0)
        assert events is not None
        assert {int(e["netns"]) for e in events} == {bench.spaces[bench.router].inum}
        assert {KIND.tap, KIND.rx, KIND.tx} <= set(events["kind"].tolist())
    finally:
        for space in spaces:
            space.close()
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


def test_losses_are_counted_exactly_and_touched_packets_marked(bench: Lab) -> None:
    with Session([bench.spaces[bench.router]], FLOW, ("tap", "rx", "tx", "drop"), ring=1 << 16) as session:
        parts = []
        for _ in range(4):
            bench.send("10.7.1.1", 8080, 300, source=41007)
            while (events := session.read(0)) is not None:
                parts.append(events)
        events = np.concatenate(parts)
        lost = sum(session.loss().values())
        assert lost > len(events) // 10
        assert lost == session.emitted() - len(events)
        assert session.loss()["tap"] > session.loss()["rx"] > 0
        seen = Seen(session, events, {})
    owed = [*ROUTER_WAY]
    for i in range(seen.packets.count):
        short = [p for p in seen.places(i) if p not in ("rx", "tx", "drop")] != owed
        kinds = set(seen.events["t"]["proto"][seen.packets.rows(i)].tolist())
        if kinds == {17} and short:
            assert seen.packets.lost_near[i]


def test_totals_instead_of_events(bench: Lab) -> None:
    with Session([bench.spaces[bench.router]], FLOW, ("tap", "tx"), aggregate=True) as session:
        bench.send("10.7.1.1", 8080, 50, source=41008, size=100)
        assert session.read(0.1) is None
        totals = session.totals()
    last = totals[(totals["key"]["prio"] == 101) & (totals["key"]["t"]["proto"] == 17)]
    assert last["packets"].tolist() == [50]
    assert last["octets"].tolist() == [50 * 128]
    assert tuple_text(last["key"]["t"][0]) == "udp 10.7.2.1:41008 > 10.7.2.2:80"


def test_too_high_a_rate_falls_back_to_totals_and_says_so(bench: Lab) -> None:
    with Session([bench.spaces[bench.router]], FLOW, ("tap", "tx"), max_rate=200) as session:
        until = time.monotonic() + 10
        while not session.notes and time.monotonic() < until:
            bench.send("10.7.1.1", 8080, 100, source=41009)
            session.read(0.05)
        assert "totals" in session.notes[0]
        bench.send("10.7.1.1", 8080, 10, source=41009)
        assert session.totals()["packets"].sum() > 0


KILLED = """
import sys, time
from nattrace.tracer.live import netns
from nattrace.tracer.live.filter import Filter
from nattrace.tracer.live.session import Session
with Session([netns.by_name(sys.argv[1])], Filter.everything()):
    print("ready", flush=True)
    time.sleep(60)
"""


def test_nothing_is_left_after_sigkill(bench: Lab) -> None:
    with residue.watch([bench.spaces[bench.router]]) as left:
        child = subprocess.Popen([sys.executable, "-c", KILLED, bench.router], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        assert {item.kind for item in left()} == {"program", "map", "link"}
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        until = time.monotonic() + 5
        while left() and time.monotonic() < until:
            time.sleep(0.05)
        assert left() == []


def test_a_deleted_namespace_is_noticed_and_let_go() -> None:
    with lab("") as made:
        space = made.spaces[made.client]
        with Session([space], Filter.everything(), ("tap",)) as session:
            assert session.vanished() == []
            made.execute(made.client, "true")
            subprocess.run(["ip", "netns", "del", made.client], check=True)
            assert session.vanished() == [space]


def test_compiled_code_is_kept_and_never_taken_from_what_others_can_write(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, bench: Lab
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    spaces = [bench.spaces[bench.router]]
    with Session(spaces, FLOW, ("tap",)) as first:
        assert "compile" in first.times
    with Session(spaces, FLOW, ("tap",)) as second:
        assert "cached" in second.times
    for kept in compile.cache_folder().glob("*.json"):
        os.chmod(kept, 0o666)
    with Session(spaces, FLOW, ("tap",)) as third:
        assert "compile" in third.times


def test_all_streams_this_kernel_gives_are_there(bench: Lab) -> None:
    with Session([bench.spaces[bench.router]], FLOW, ALL_STREAMS) as session:
        assert session.missing == {}
        assert session.backend == "netfilter links"


def test_devices_lead_to_their_peers(bench: Lab) -> None:
    spaces = [bench.spaces[name] for name in (bench.client, bench.router, bench.server)]
    peers = netns.veth_peers(spaces)
    assert len(peers) == 4
    assert all(peers[peers[end]] == end for end in peers)
    assert len(netns.veth_peers(spaces[:1])) == 0, "the peer lies outside"
