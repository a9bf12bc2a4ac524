"""What the kernel draws: the simulator names exactly the kernel's candidates, with the kernel's probabilities.

Every kind is repeated some hundred times with flows that do not know of each other; a χ² test compares the counts
with the simulator's shares. The kernel cannot be seeded: a suspicious sample (p < 1e-4) is taken once more, and both
together are wrong in 1e-7 of the cases, so that a right simulator fails this file less than once in 10⁵ runs.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from lab_support import kernel
from nattrace.tracer.lab.netns import inside, path_of

from .draws_bench import Desk, Record, ask, desk, fits, free

pytestmark = kernel

REPEATS = 300
TOPOLOGY = """
[hosts.r]
interfaces.eth0 = "192.0.2.1/24"
interfaces.eth1 = ["203.0.113.1/24", "203.0.113.7/24", "203.0.113.8/24"]
routes = ["10.0.0.0/8 via 192.0.2.254", "default via 203.0.113.254", "local 12.0.0.0/8 dev lo"]
sysctl."net.ipv4.ip_forward" = 1
sysctl."net.ipv4.conf.all.rp_filter" = 0
iptables = [
  "-t mangle -A PREROUTING -s 10.0.0.0/8 -p udp --dport 1031 -j HMARK --hmark-tuple src,dst --hmark-mod 4 --hmark-rnd 7 --hmark-offset 1",
  "-t nat -A PREROUTING -p udp --dport 1008 -j DNAT --to-destination 198.51.100.9:8000-8010 --random",
  "-t nat -A PREROUTING -p udp --dport 1018 -j DNAT --to-destination 198.51.100.18:8000-8010 --random",
  "-t nat -A PREROUTING -p udp --dport 1009 -j REDIRECT --to-ports 9000-9004 --random",
  "-t nat -A PREROUTING -p udp --dport 1010 -j REDIRECT --to-ports 9000-9004",
  "-t nat -A PREROUTING -d 11.0.0.0/8 -p udp --dport 1011 -j DNAT --to-destination 198.51.100.11:53",
  "-t nat -A PREROUTING -p udp --dport 1030 -j DNAT --to-destination 198.51.100.20-198.51.100.29",
  "-t nat -A INPUT -p udp --dport 1012 -j SNAT --to-source 10.99.0.1",
  "-t nat -A INPUT -p udp --dport 1017 -j SNAT --to-source 10.99.0.1:4000-4004 --random",
  "-t nat -A POSTROUTING -s 10.0.0.0/8 -p udp --dport 1001 -j MASQUERADE",
  "-t nat -A POSTROUTING -p udp --dport 1002 -j MASQUERADE --to-ports 5000-5010",
  "-t nat -A POSTROUTING -p udp --dport 1003 -j SNAT --to-source 203.0.113.7:6000-6003",
  "-t nat -A POSTROUTING -p udp --dport 1004 -j MASQUERADE --random",
  "-t nat -A POSTROUTING -p udp --dport 1005 -j SNAT --to-source 203.0.113.8:7000-7006 --random-fully",
  "-t nat -A POSTROUTING -p tcp --dport 1006 -j SNAT --to-source 203.0.113.7",
  "-t nat -A POSTROUTING -p tcp --dport 1007 -j SNAT --to-source 203.0.113.7:6000-6049 --random",
  "-t nat -A POSTROUTING -p tcp --dport 1016 -j SNAT --to-source 203.0.113.7:6000-6039",
  "-t nat -A POSTROUTING -p udp --dport 1014 -j SNAT --to-source 203.0.113.7:20000-20299",
  "-t nat -A POSTROUTING -d 9.0.0.0/8 -p icmp -j MASQUERADE",
  "-t nat -A POSTROUTING -m mark --mark 1 -j SNAT --to-source 203.0.113.7",
  "-t nat -A POSTROUTING -m mark --mark 2 -j SNAT --to-source 203.0.113.8",
  "-t nat -A POSTROUTING -p udp --dport 1032 -j SNAT --to-source 203.0.113.40-203.0.113.49",
  "-A FORWARD -d 198.51.100.18 -p udp --dport 8004:8005 -j DROP",
  "-A FORWARD -p udp --dport 1020 -m statistic --mode random --probability 0.3 -j DROP",
  "-A FORWARD -p udp --dport 1021 -m statistic --mode random ! --probability 0.3 -j DROP",
]
"""


ROUTES = """
interfaces.eth0 = "192.0.2.1/24"
interfaces.up1 = "203.0.113.1/24"
interfaces.up2 = "198.51.100.1/24"
nexthops = ["id 1 via 203.0.113.254 dev up1", "id 2 via 198.51.100.254 dev up2", "id 10 group 1,5/2,2"]
routes = [
  "10.0.0.0/8 via 192.0.2.254",
  "9.0.0.0/8 nexthop via 203.0.113.254 dev up1 weight 1 nexthop via 198.51.100.254 dev up2 weight 3",
  "21.0.0.0/8 nhid 10",
  "8.0.0.0/8 via 203.0.113.254",
]
sysctl."net.ipv4.ip_forward" = 1
sysctl."net.ipv4.conf.all.rp_filter" = 0
"""
LEGS = f"""
[hosts.p0]
{ROUTES}
sysctl."net.ipv4.fib_multipath_hash_policy" = 0
iptables = [
  "-A FORWARD -p udp --dport 1022 -j NFQUEUE --queue-balance 1:3 --queue-bypass",
  "-A FORWARD -p udp --dport 1023 -j NFQUEUE --queue-balance 1:2 --queue-bypass",
]
[hosts.p1]
{ROUTES}
sysctl."net.ipv4.fib_multipath_hash_policy" = 1
"""


def address(base: str, number: int) -> str:
    """The ``number``-th address of a net written as its first octets."""
    octets = base.count(".") + 1
    return base + "".join(f".{number >> 8 * i & 255}" for i in reversed(range(4 - octets)))


def client(number: int, role: int = 0) -> str:
    """A repeat's clients; role 0 sends the packet that draws."""
    return address(f"10.{role}", number)


def peer(number: int) -> str:
    return address("9", number)


def packet(src: str, dst: str, sport: int, dport: int, proto: str = "udp") -> Record:
    """A packet that arrives from the inside."""
    record: Record = {"host": "r", "in": "eth0", "src": src, "dst": dst, "proto": proto, "ttl": 64}
    if proto == "icmp":
        return record | {"type": 8, "code": 0, "icmp_id": sport, "seq": 1, "len": 28}
    record |= {"sport": sport, "dport": dport, "len": 40 if proto == "tcp" else 28}
    return record | ({"flags": "S", "tcp_seq": 1000, "window": 1000} if proto == "tcp" else {})


@dataclass(frozen=True)
class Kind:
    """One kind of source port draw: other clients hold the ports ``held`` towards the same peer."""

    dport: int
    sport: int
    held: tuple[int, ...]
    low: int
    high: int
    proto: str = "udp"
    net: str = "9"

    def __call__(self, number: int) -> list[Record]:
        target = address(self.net, number)
        holders = [packet(client(number, 1 + i), target, p, self.dport, self.proto) for i, p in enumerate(self.held)]
        return [*holders, packet(client(number), target, self.sport, self.dport, self.proto)]

    @property
    def key(self) -> str:
        return "icmp_id" if self.proto == "icmp" else "sport"


KINDS = {
    "port below 512": Kind(1001, 99, (99,), 1, 511),
    "port 511": Kind(1001, 511, (511,), 1, 511),
    "port 512": Kind(1001, 512, (512,), 600, 1023),
    "port 600 to 1023": Kind(1001, 777, (777,), 600, 1023),
    "port from 1024": Kind(1001, 5353, (5353,), 1024, 65535),
    "masquerade to a range, port outside": Kind(1002, 40000, (), 5000, 5010),
    "masquerade to a range, clash among neighbours": Kind(1002, 5003, (5002, 5003, 5004, 5007), 5000, 5010),
    "masquerade to a range, taken ports at both ends": Kind(1002, 5000, (5000, 5001, 5009, 5010), 5000, 5010),
    "source range, two left": Kind(1003, 6001, (6001, 6002), 6000, 6003),
    "masquerade --random, no clash": Kind(1004, 4321, (), 1024, 65535),
    "masquerade --random, low port": Kind(1004, 321, (), 1, 511),
    "source range --random-fully, port inside": Kind(1005, 7003, (), 7000, 7006),
    "tcp clash": Kind(1006, 1023, (1023,), 600, 1023, "tcp"),
    "tcp range --random": Kind(1007, 6001, (), 6000, 6049, "tcp"),
    "icmp id": Kind(0, 77, (77,), 0, 65535, "icmp"),
    "source NAT in INPUT, clash": Kind(1012, 700, (700,), 600, 1023, "udp", "12"),
    "source NAT in INPUT, range --random": Kind(1017, 700, (), 4000, 4004, "udp", "12"),
}


@pytest.fixture(scope="module")
def r(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(TOPOLOGY, tmp_path_factory.mktemp("draws")) as built:
        yield built


def counted(there: Desk, make: Any, key: str) -> Any:
    """Draws of a kind as counts; every packet must get through."""

    def draw(count: int) -> Counter[int]:
        ends = there.sample(make, count)
        assert None not in ends, f"{ends.count(None)} of {count} packets were lost"
        return Counter(end[key] for end in ends if end is not None)

    return draw


@pytest.mark.parametrize("name", KINDS)
def test_source_port_candidates_and_shares(r: Desk, name: str) -> None:
    kind = KINDS[name]
    told = ask(r, kind(next(iter(r.repeats(1)))), kind.key)
    assert told.result["certainty"] == "one_of"
    assert [o["probability"] for o in told.result["outcomes"]] == [pytest.approx(1)]
    assert told.domain is not None
    assert told.domain.ranges == free(kind.low, kind.high, *kind.held)
    assert not fits(counted(r, kind, kind.key), told.shares(), REPEATS)


def test_a_wrong_set_of_shares_would_be_noticed(r: Desk) -> None:
    """The port behind a run of taken ones is likelier; believing in equal shares is refuted by the same sample size."""
    kind = KINDS["masquerade to a range, clash among neighbours"]
    equal = dict.fromkeys(ask(r, kind(0), kind.key).shares(), 1.0)
    assert fits(counted(r, kind, kind.key), {n: 1 / len(equal) for n in equal}, REPEATS)


def through(number: int, dport: int, *held: tuple[str, int]) -> list[Record]:
    """A client that talks to the servers ``held`` directly, and then to an address that is translated to one of them."""
    mine = [packet(client(number), target, 40000, port) for target, port in held]
    return [*mine, packet(client(number), peer(number), 40000, dport)]


DESTINATIONS = {
    "DNAT to a port range --random": (1008, ("198.51.100.9", 8003), ("198.51.100.9", 8004), 8000, 8010),
    "REDIRECT to a port range --random": (1009, ("192.0.2.1", 9000), ("192.0.2.1", 9002), 9000, 9004),
}


@pytest.mark.parametrize("name", DESTINATIONS)
def test_destination_port_candidates_and_shares(r: Desk, name: str) -> None:
    dport, one, other, low, high = DESTINATIONS[name]

    def make(number: int) -> list[Record]:
        return through(number, dport, one, other)

    told = ask(r, make(0), "dport")
    assert told.result["certainty"] == "one_of" and told.domain is not None
    assert told.domain.ranges == free(low, high, one[1], other[1])
    assert not fits(counted(r, make, "dport"), told.shares(), REPEATS)


def test_without_random_a_redirect_takes_the_first_free_port(r: Desk) -> None:
    def make(number: int) -> list[Record]:
        return through(number, 1010, ("192.0.2.1", 9000), ("192.0.2.1", 9002))

    told = ask(r, make(0), "dport")
    assert (told.result["certainty"], told.result["packet"]["dport"]) == ("exact", 9001)
    assert counted(r, make, "dport")(20) == Counter({9001: 20})


@pytest.mark.parametrize(("sport", "low", "high"), [(700, 600, 1023), (40000, 1024, 65535)])
def test_a_flow_that_no_source_rule_translates_may_have_to_move(r: Desk, sport: int, low: int, high: int) -> None:
    """One client port, two original destinations, one server: the second flow's replies would be the first's."""

    def make(number: int) -> list[Record]:
        targets = (address("11", 2 * number), address("11", 2 * number + 1))
        return [packet(client(number), target, sport, 1011) for target in targets]

    told = ask(r, make(0), "sport")
    assert told.result["certainty"] == "one_of" and told.domain is not None
    assert told.domain.ranges == free(low, high, sport)
    assert not fits(counted(r, make, "sport"), told.shares(), REPEATS)


def test_a_local_flow_moves_away_from_a_masqueraded_one(r: Desk) -> None:
    def make(number: int) -> list[Record]:
        inside = packet(client(number, 1), peer(number), 6100, 1001)
        return [
            inside,
            {
                "host": "r",
                "in": None,
                "src": "203.0.113.1",
                "dst": peer(number),
                "proto": "udp",
                "sport": 6100,
                "dport": 1001,
            },
        ]

    told = ask(r, make(0), "sport")
    assert told.result["certainty"] == "one_of" and told.domain is not None
    assert told.domain.ranges == free(1024, 65535, 6100)
    assert not fits(counted(r, make, "sport"), told.shares(), 200)


def test_one_port_left_is_no_draw_and_none_left_is_a_drop(r: Desk) -> None:
    def make(number: int) -> list[Record]:
        return [packet(client(number, i), peer(number), 40000, 1003) for i in range(5)][::-1]

    for held, ending in ((3, 6002), (4, None)):
        numbers = list(r.repeats(8))
        batches = [[packet(client(n, 1 + i), peer(n), p, 1003) for i, p in enumerate((6000, 6001, 6003, 6002)[:held])]
                   + [packet(client(n), peer(n), 6000, 1003)] for n in numbers]  # fmt: skip
        told = ask(r, batches[0], "sport")
        ends = [r.send(batch)[-1] for batch in batches]
        if ending:
            assert (told.result["certainty"], told.result["packet"]["sport"]) == ("exact", ending)
            assert [end["sport"] for end in ends if end] == [ending] * len(numbers)
        else:
            assert (told.result["certainty"], told.result["outcome"]) == ("exact", "dropped")
            assert ends == [None] * len(numbers)


def drawn_again(there: Desk, target: str, sport: int, dport: int, count: int) -> Counter[int]:
    """Draws (0: dropped) of clients that come after each other, so that all find the same ports taken."""
    seen: Counter[int] = Counter()
    for number in there.repeats(count):
        (end,) = there.send([packet(client(number, 2), target, sport, dport)])
        seen[end["sport"] if end else 0] += 1
        if end:
            there.bench.run("r", f"conntrack -D -s {client(number, 2)}")
    return seen


@pytest.mark.parametrize(
    ("sport", "low", "high", "left"),
    [(100, 1, 511, 1), (100, 1, 511, 511), (700, 600, 1023, 600), (700, 600, 1023, 1023)],
)
def test_the_ends_of_a_range_are_candidates_and_what_is_beyond_is_not(
    r: Desk, sport: int, low: int, high: int, left: int
) -> None:
    """All but one end taken: that end comes out, or nothing where the search gives up; either is seen in 40 draws."""
    (number,) = r.repeats(1)
    target = peer(number)
    holders = [packet(client(number, 1), target, port, 1001) for port in range(low, high + 1) if port != left]
    told = ask(r, [*holders, packet(client(number), target, sport, 1001)], "sport")
    assert [o["packet"]["sport"] for o in told.result["outcomes"] if o["outcome"] == "left"] == [left]
    assert 0.4 < told.gone < 0.65
    assert all(end is not None for end in r.send(holders))
    assert set(drawn_again(r, target, sport, 1001, 40)) == {0, left}


def test_a_search_gives_up_behind_a_long_run_of_taken_ports(r: Desk) -> None:
    """Rounds of 128, 64, 32, 16 and 8 tries: of 300 ports 290 in a row are taken, and the free ones are often missed."""
    (number,) = r.repeats(1)
    target = peer(number)
    holders = [packet(client(number, 1), target, port, 1014) for port in range(20005, 20295)]
    told = ask(r, [*holders, packet(client(number), target, 30000, 1014)], "sport")
    assert told.domain is not None and told.domain.ranges == ((20000, 20004), (20295, 20299))
    shares: dict[int, float] = {port: p * (1 - told.gone) for port, p in told.shares().items()} | {0: told.gone}
    assert all(end is not None for end in r.send(holders))

    def draw(count: int) -> Counter[int]:
        return drawn_again(r, target, 30000, 1014, count)

    assert not fits(draw, shares, 200)


def test_a_new_syn_may_take_a_finished_connections_port_in_its_last_tries(r: Desk) -> None:
    """Of 40 ports one is free, one belongs to a reset connection: only the last 32 of a search's 40 tries may take it."""
    reset, open_ = 6020, 6003

    def make(number: int) -> list[Record]:
        def segment(flags: str, port: int, seq: int, ack: int, back: bool = False) -> Record:
            mine = packet(client(number, 1), peer(number), port, 1016, "tcp") | {
                "flags": flags,
                "tcp_seq": seq,
                "tcp_ack": ack,
            }
            theirs = {"src": peer(number), "dst": "203.0.113.7", "sport": 1016, "dport": port, "in": "eth1"}
            return mine | theirs if back else mine

        held = [segment("S", port, 1000, 0) for port in range(6000, 6040) if port != open_]
        closing = [segment("SA", reset, 5000, 1001, True), segment("R", reset, 1001, 0)]
        return [*held, *closing, packet(client(number), peer(number), 40000, 1016, "tcp") | {"tcp_seq": 90000}]

    told = ask(r, make(0), "sport")
    shares = {o["packet"]["sport"]: o["probability"] for o in told.result["outcomes"]}
    assert told.result["certainty"] == "one_of"
    # From 6004 to 6012 it is 8 steps or more to 6020; from 6013 to 6020 it is met too early, and 6003 comes first.
    assert shares == {reset: pytest.approx(9 / 40, abs=1e-3), open_: pytest.approx(31 / 40, abs=1e-3)}
    assert not fits(counted(r, make, "sport"), shares, 200)


# ------------------------------------------------------------------------------ not drawn, though it may look so


@pytest.mark.parametrize(
    ("dport", "key"), [(1030, "dst"), (1032, "src"), (1031, "src")], ids=["DNAT pool", "SNAT pool", "HMARK"]
)
def test_choices_by_hash_without_a_random_key_are_exact(r: Desk, dport: int, key: str) -> None:
    records = [packet(client(n), peer(n), r.random.randrange(1024, 65536), dport) for n in r.repeats(60)]
    results = [r.simulator().feed(record) for record in records]
    assert {x["certainty"] for x in results} == {"exact"}
    ends = r.send(records)
    assert [x["packet"][key] for x in results] == [end and end[key] for end in ends]
    assert len({x["packet"][key] for x in results}) >= 2


# ------------------------------------------------------------------------------------- draws that are no port


def passing(there: Desk, make: Any) -> Any:
    """Draws as counts of what got through."""

    def draw(count: int) -> Counter[bool]:
        return Counter(end is not None for end in there.sample(make, count))

    return draw


def shares_of(result: Record) -> dict[bool, float]:
    out = {True: 0.0, False: 0.0}
    for outcome in result["outcomes"]:
        out[outcome["outcome"] in ("left", "delivered")] += outcome["probability"]
    return out


@pytest.mark.parametrize(("dport", "dropped"), [(1020, 0.3), (1021, 0.7)])
def test_statistic_random_drops_its_share(r: Desk, dport: int, dropped: float) -> None:
    def make(number: int) -> list[Record]:
        return [packet(client(number), peer(number), 40000, dport)]

    result = r.simulator().feed(make(0)[0])
    assert result["certainty"] == "one_of"
    assert shares_of(result) == pytest.approx({True: 1 - dropped, False: dropped}, abs=1e-9)
    assert not fits(passing(r, make), shares_of(result), 600)


def test_a_rule_about_a_drawn_port_splits_the_world_by_weight(r: Desk) -> None:
    """8003 is taken, so 8004 is twice as likely; 8004 and 8005 are dropped: 3 of 11."""

    def make(number: int) -> list[Record]:
        return through(number, 1018, ("198.51.100.18", 8003))

    told = ask(r, make(0), "dport")
    assert told.result["certainty"] == "one_of"
    shares = shares_of(told.result)
    assert shares[False] == pytest.approx(3 / 11, abs=1e-3)
    assert sum(shares.values()) == pytest.approx(1)
    left = next(o for o in told.result["outcomes"] if o["outcome"] == "left")
    assert left["packet"]["dport"] == {"ranges": [[8000, 8010]], "except": [8003, 8004, 8005]}
    assert not fits(passing(r, make), shares, REPEATS)


# --------------------------------------------------------------------------------------- before and after a look


def answer(end: Record) -> Record:
    """The peer's answer to a packet that was seen leaving."""
    record = packet(end["dst"], end["src"], end.get("dport", 0), end.get("sport", 0), end["proto"]) | {"in": "eth1"}
    return record | ({"type": 0, "icmp_id": end["icmp_id"]} if end["proto"] == "icmp" else {})


@pytest.mark.parametrize("name", ["port from 1024", "masquerade to a range, clash among neighbours", "icmp id"])
def test_an_observed_value_pins_the_draw_for_the_rest_of_the_flow(r: Desk, name: str) -> None:
    kind = KINDS[name]
    (number,) = r.repeats(1)
    records = kind(number)
    end = r.send(records)[-1]
    assert end is not None
    simulator = r.simulator()
    for record in records[:-1]:
        simulator.feed(record)
    result = simulator.feed({**records[-1], "observed": {kind.key: end[kind.key]}})
    assert (result["certainty"], result["packet"][kind.key]) == ("exact", end[kind.key])
    back = answer(end)
    for record in (back, records[-1], back):
        predicted, (real,) = simulator.feed(record), r.send([record])
        assert real is not None and predicted["certainty"] == "exact"
        shown = [key for key in ("src", "dst", "sport", "dport", "icmp_id") if key in real]
        assert {key: predicted["packet"][key] for key in shown} == {key: real[key] for key in shown}


@pytest.mark.parametrize(
    "name", ["port from 1024", "masquerade to a range, clash among neighbours", "icmp id", "tcp clash"]
)
def test_the_answer_to_a_drawn_value_finds_its_way_without_a_look(r: Desk, name: str) -> None:
    kind = KINDS[name]
    records = kind(next(iter(r.repeats(1))))
    told = ask(r, records, kind.key, replies=True)
    reply, question = told.result["reply"], records[-1]
    assert (reply["outcome"], reply["certainty"]) == ("left", "exact")
    assert (reply["at"]["interface"], reply["packet"]["dst"]) == ("eth0", question["src"])
    key = "icmp_id" if kind.key == "icmp_id" else "dport"
    assert reply["packet"][key] == question[kind.key]


def test_a_packet_to_one_candidate_port_belongs_to_the_flow_with_its_share(r: Desk) -> None:
    """Of 11 ports 5002 to 5004 and 5007 are taken: 4 of 11 start values end at 5005."""
    kind = KINDS["masquerade to a range, clash among neighbours"]
    records = kind(next(iter(r.repeats(1))))
    told = ask(r, records, kind.key)
    guess = packet(records[-1]["dst"], "203.0.113.1", 1002, 5005) | {"in": "eth1"}
    result = told.simulator.feed(guess)
    shares = {o["packet"]["dst"]: o["probability"] for o in result["outcomes"]}
    assert result["certainty"] == "one_of"
    assert shares == {
        records[-1]["src"]: pytest.approx(4 / 11, abs=1e-4),
        "203.0.113.1": pytest.approx(7 / 11, abs=1e-4),
    }


# ---------------------------------------------------------------------------------- legs and queues: hashes with a key


@pytest.fixture(scope="module")
def legs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(LEGS, tmp_path_factory.mktemp("legs"), {"queues": [1]}) as built:
        yield built


def by_device(result: Record) -> dict[str, float]:
    return {o["at"]["interface"]: o["probability"] for o in result["outcomes"]}


@pytest.mark.parametrize(("net", "up1"), [("9", 1 / 4), ("21", 5 / 7)], ids=["route", "group"])
@pytest.mark.parametrize("host", ["p0", "p1"])
def test_legs_of_a_multipath_route_by_weight(legs: Desk, host: str, net: str, up1: float) -> None:
    def make(number: int) -> list[Record]:
        ends = (client(number), address(net, number)) if host == "p0" else (client(0), address(net, 1))
        return [packet(*ends, 1024 + number, 53) | {"host": host}]

    result = legs.simulator().feed(make(0)[0])
    assert result["certainty"] == "one_of"
    assert by_device(result) == pytest.approx({"up1": up1, "up2": 1 - up1})

    def draw(count: int) -> Counter[str]:
        return Counter(end["dev"] for end in legs.sample(make, count) if end is not None)

    assert not fits(draw, by_device(result), REPEATS)


@pytest.mark.parametrize("net", ["9", "21"], ids=["route", "group"])
def test_policy_0_looks_at_addresses_only_and_once_seen_is_certain(legs: Desk, net: str) -> None:
    for number in legs.repeats(20):
        there = [packet(client(number), address(net, number), sport, 53) | {"host": "p0"} for sport in (1000, 2000)]
        real = [end["dev"] for end in legs.send(there) if end]
        simulator = legs.simulator()
        simulator.feed({**there[0], "observed": {"interface": real[0]}})
        second = simulator.feed(there[1])
        assert (second["certainty"], second["at"]["interface"]) == ("exact", real[1])


def test_policy_1_looks_at_ports_too_in_either_order(legs: Desk) -> None:
    for number in legs.repeats(20):
        there = [
            packet(client(number), peer(number), *ports) | {"host": "p1"}
            for ports in ((1000, 53), (53, 1000), (1001, 53))
        ]
        real = [end["dev"] for end in legs.send(there) if end]
        simulator = legs.simulator()
        simulator.feed({**there[0], "observed": {"interface": real[0]}})
        second, third = simulator.feed(there[1]), simulator.feed(there[2])
        assert (second["certainty"], second["at"]["interface"]) == ("exact", real[1])
        assert third["certainty"] == "one_of"


@pytest.mark.parametrize("host", ["p0", "p1"])
def test_a_local_sender_bound_to_an_uplinks_address_keeps_to_it(legs: Desk, host: str) -> None:
    sources = {"203.0.113.1": "up1", "198.51.100.1": "up2"}
    for number in legs.repeats(10):
        for source, dev in sources.items():
            record = {
                "host": host,
                "in": None,
                "src": source,
                "dst": peer(number),
                "proto": "udp",
                "sport": 4000,
                "dport": 53,
            }
            result = legs.simulator().feed(record)
            assert (result["certainty"], result["at"]["interface"]) == ("exact", dev)
            (end,) = legs.send([record])
            assert end is not None and end["dev"] == dev


def test_a_local_sender_without_an_address_is_spread_by_destination(legs: Desk) -> None:
    def make(number: int) -> list[Record]:
        return [
            {"host": "p0", "in": None, "src": None, "dst": peer(number), "proto": "udp", "sport": 4000, "dport": 53}
        ]

    result = legs.simulator().feed(make(0)[0])
    assert by_device(result) == pytest.approx({"up1": 1 / 4, "up2": 3 / 4})

    def draw(count: int) -> Counter[str]:
        return Counter(end["dev"] for end in legs.sample(make, count) if end is not None)

    assert not fits(draw, by_device(result), REPEATS)


@pytest.fixture
def queue_1(legs: Desk) -> Iterator[None]:
    """A program that takes queue 1 of p0 and never answers (NFQNL_MSG_CONFIG with NFQNL_CFG_CMD_BIND)."""
    with inside(path_of(legs.bench.lab.netns("p0"))):
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER
    with sock:
        command = struct.pack("=BBHHHBBH", 0, 0, socket.htons(1), 8, 1, 1, 0, 0)
        sock.sendto(struct.pack("=IHHII", 16 + len(command), 3 << 8 | 2, 5, 1, 0) + command, (0, 0))
        (error,) = struct.unpack_from("=i", sock.recv(4096), 16)
        assert not error, f"queue 1 cannot be bound: error {-error}"
        yield


@pytest.mark.usefixtures("queue_1")
def test_a_balanced_queue_is_chosen_by_the_flows_addresses(legs: Desk) -> None:
    """One hash serves both rules: below 1/3 it is queue 1 of 1:3, below 1/2 queue 1 of 1:2. Other queues are bypassed."""

    def make(number: int) -> list[Record]:
        return [
            packet(client(number), address("8", number), number % 60000, port) | {"host": "p0"} for port in (1022, 1023)
        ]

    def chances(result: Record) -> dict[str, float]:
        return {o["outcome"]: o["probability"] for o in result["outcomes"]}

    one, other = make(0)
    first = chances(legs.simulator().feed(one))
    assert first == pytest.approx({"queued": 1 / 3, "left": 2 / 3})
    shares: dict[tuple[str, str], float] = {}
    for outcome, p in first.items():
        simulator = legs.simulator()
        simulator.feed({**one, "observed": {"outcome": outcome}})
        shares |= {(outcome, then): p * q for then, q in chances(simulator.feed(other)).items()}
    assert shares == pytest.approx({("queued", "queued"): 1 / 3, ("left", "queued"): 1 / 6, ("left", "left"): 1 / 2})

    def draw(count: int) -> Counter[tuple[str, str]]:
        ends = legs.send([record for number in legs.repeats(count) for record in make(number)])
        words = ["left" if end else "queued" for end in ends]
        return Counter(zip(words[::2], words[1::2], strict=True))

    assert not fits(draw, shares, REPEATS)
