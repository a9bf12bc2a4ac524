"""Matches that remember: limit, hashlimit, recent, quota, statistic (expected values computed from the kernel's maths)."""

from __future__ import annotations

import pytest
from vocabulary import Bench, criterion, packet


def answers(bench, text, times, skb=None, **at):
    one = criterion(text)
    out = []
    for time in times:
        bench.state.now = time
        out.append(bench.test(one, skb or packet("udp", sport=1, dport=2), **at))
    return out


@pytest.mark.parametrize("backend", ["legacy", "iptables"])
def test_limit_gives_the_burst_then_the_rate(backend):
    bench = Bench(backend=backend)
    given = answers(bench, "-m limit --limit 1/sec --limit-burst 2", [0, 0.1, 0.2, 0.9, 1.05, 1.2, 5, 5.1, 5.2])
    assert given == [True, True, False, False, True, False, True, True, False]


def test_xt_limit_counts_whole_jiffies_and_nft_limit_nanoseconds():
    times = [0, 0.0995, 0.1005]  # 10/sec: one token each 25 jiffies of 4 ms
    assert answers(Bench(), "-m limit --limit 10/sec --limit-burst 1", times) == [True, False, True]
    times = [0.0035, 0.1005]  # 97 ms, but 25 jiffies later
    assert answers(Bench(), "-m limit --limit 10/sec --limit-burst 1", times) == [True, True]
    assert answers(Bench(backend="iptables"), "-m limit --limit 10/sec --limit-burst 1", times) == [True, False]


def test_each_rule_has_its_own_bucket():
    bench = Bench()
    assert answers(bench, "-m limit --limit 1/hour --limit-burst 1", [0, 1]) == [True, False]
    assert answers(bench, "-m limit --limit 1/hour --limit-burst 1", [2], index=2) == [True]


def test_state_that_no_dump_shows_is_named_as_an_assumption():
    bench = Bench(meta={})
    assert answers(bench, "-m limit --limit 1/hour", [0]) == [True]
    assert "bucket is full" in bench.notes[0]


def test_hashlimit_keeps_a_bucket_per_masked_source():
    bench = Bench()
    text = "-m hashlimit --hashlimit-upto 1/min --hashlimit-burst 1 --hashlimit-mode srcip --hashlimit-name a"
    text += " --hashlimit-srcmask 24"
    near, same_net, far = packet("udp", "10.0.0.1"), packet("udp", "10.0.0.9"), packet("udp", "10.0.1.1")
    one = criterion(text)
    assert [bench.test(one, skb) for skb in (near, same_net, far, near)] == [True, False, True, False]


def test_hashlimit_above_is_the_opposite():
    text = "-m hashlimit --hashlimit-above 2/sec --hashlimit-burst 2 --hashlimit-name a"
    assert answers(Bench(), text, [0, 0, 0, 0.5, 0.51]) == [False, False, True, False, True]


def test_hashlimit_rules_of_one_name_share_buckets():
    bench = Bench()
    text = "-m hashlimit --hashlimit-upto 1/min --hashlimit-burst 1 --hashlimit-name a"
    assert answers(bench, text, [0]) == [True]
    assert answers(bench, text, [1], index=7) == [False]


def test_hashlimit_of_bytes_refills_its_second_as_often_as_the_burst_says():
    """Without a burst the bucket holds one second's worth: 33 steps of 16 bytes for 512 bytes, of 65 in all."""
    text = "-m hashlimit --hashlimit-upto 1kb/s --hashlimit-name a"
    skb = packet("udp", length=512)
    given = answers(Bench(), text, [0, 0, 0, 1.0, 1.0], skb)
    assert given == [True, False, False, True, False]


def test_hashlimit_rate_match_compares_windows():
    text = "-m hashlimit --hashlimit-upto 2/sec --hashlimit-burst 1 --hashlimit-rate-match --hashlimit-name a"
    given = answers(Bench(), text, [0, 0.1, 0.2, 0.3, 1.1, 2.2])
    assert given == [True, True, True, False, False, True]


def test_expired_bucket_may_or_may_not_have_been_collected():
    bench = Bench()
    one = criterion("-m hashlimit --hashlimit-upto 1/sec --hashlimit-burst 3 --hashlimit-name a")
    for _ in range(3):
        assert bench.test(one, packet("udp")) is True
    bench.state.now = 1.5  # expired at 1 s, the collector comes within the next
    assert len(bench.outcomes(one, packet("udp"))) == 2
    bench.state.now = 60.0
    assert bench.test(one, packet("udp")) is True


def recent(bench, text, time, source="10.0.0.2", **fields):
    bench.state.now = time
    return bench.test(f"-m recent {text}", packet("udp", source, **fields))


def test_recent_remembers_what_set_put_in():
    bench = Bench("INPUT", "eth0", None)
    assert recent(bench, "--rcheck --name n", 0) is False
    assert recent(bench, "! --rcheck --name n", 0) is True
    assert recent(bench, "--set --name n", 0) is True
    assert recent(bench, "--rcheck --name n", 1) is True
    assert recent(bench, "! --rcheck --name n", 1) is False
    assert recent(bench, "--rcheck --name n", 1, "10.0.0.3") is False
    assert recent(bench, "--rcheck --name other", 1) is False
    assert recent(bench, "--rcheck --name n --rdest", 1) is False
    assert recent(bench, "--remove --name n", 2) is True
    assert recent(bench, "--rcheck --name n", 2) is False


def test_recent_seconds_and_hitcount():
    bench = Bench("INPUT", "eth0", None)
    for time in (0, 10, 20):
        recent(bench, "--set --name n", time)
    assert recent(bench, "--rcheck --seconds 15 --hitcount 2 --name n", 21) is True
    assert recent(bench, "--rcheck --seconds 15 --hitcount 3 --name n", 21) is False
    assert recent(bench, "--rcheck --seconds 5 --name n", 26) is False
    assert recent(bench, "--rcheck --hitcount 3 --name n", 26) is True


def test_recent_update_stamps_only_on_a_hit():
    bench = Bench("INPUT", "eth0", None)
    recent(bench, "--set --name n", 0)
    assert recent(bench, "--update --seconds 5 --name n", 10) is False
    assert recent(bench, "--rcheck --seconds 5 --name n", 11) is False
    assert recent(bench, "--update --seconds 60 --name n", 12) is True
    assert recent(bench, "--rcheck --seconds 5 --name n", 13) is True


def test_recent_ttl_is_the_one_before_forwarding():
    bench = Bench("INPUT", "eth0", None)
    recent(bench, "--set --name n", 0, ttl=64)
    forwarding = Bench("FORWARD", "eth0", "eth1")
    forwarding.state = bench.state
    forwarding.world = bench.world
    assert recent(forwarding, "--rcheck --rttl --name n", 1, ttl=63) is True
    assert recent(forwarding, "--rcheck --rttl --name n", 1, ttl=64) is False


def test_recent_list_of_a_hundred_drops_the_oldest():
    bench = Bench("INPUT", "eth0", None)
    for n in range(101):
        recent(bench, "--set --name n", n, f"10.0.1.{n}")
    assert recent(bench, "--rcheck --name n", 200, "10.0.1.0") is False
    assert recent(bench, "--rcheck --name n", 200, "10.0.1.1") is True


def test_recent_mask_of_the_list():
    bench = Bench("INPUT", "eth0", None)
    recent(bench, "--set --name n --mask 255.255.255.0", 0, "10.0.0.2")
    assert recent(bench, "--rcheck --name n --mask 255.255.255.0", 0, "10.0.0.77") is True


def test_quota_is_emptied_by_the_first_packet_that_does_not_fit():
    bench = Bench()
    one = criterion("-m quota --quota 100")
    sizes = [60, 40, 1]
    assert [bench.test(one, packet("udp", length=n)) for n in sizes] == [True, True, False]
    bench = Bench()
    assert [bench.test(one, packet("udp", length=n)) for n in (60, 50, 28)] == [True, False, False]
    assert Bench().test("-m quota ! --quota 0", packet("udp")) is True


def test_quota_at_the_end_of_a_rule_has_spent_the_rules_bytes():
    bench = Bench(meta={})
    bench.counters = (10, 90)
    assert bench.test("-m quota --quota 100", packet("udp", length=28)) is False
    assert bench.notes == []


@pytest.mark.parametrize(
    ("text", "hits"),
    [("--every 3 --packet 0", [0, 3, 6]), ("--every 3 --packet 2", [2, 5]), ("--every 1 --packet 0", list(range(7)))],
)
def test_nth_from_a_fresh_start(text, hits):
    given = answers(Bench(), f"-m statistic --mode nth {text}", range(7))
    assert [n for n, hit in enumerate(given) if hit] == hits


def test_negated_nth():
    assert answers(Bench(), "-m statistic --mode nth ! --every 2 --packet 0", range(4)) == [False, True, False, True]


def test_nth_of_a_running_host_is_equally_likely_at_every_position():
    bench = Bench(meta={})
    one = criterion("-m statistic --mode nth --every 3 --packet 0")
    outcomes = dict((answer, p) for p, answer in bench.outcomes(one, packet("udp")))
    assert outcomes == {False: pytest.approx(2 / 3), True: pytest.approx(1 / 3)}
    missed = next(leaf for leaf in bench.leaves if leaf.outcome == "False")
    bench.state = missed.state
    assert dict((a, p) for p, a in bench.outcomes(one, packet("udp"))) == {
        False: pytest.approx(0.5),
        True: pytest.approx(0.5),
    }
    bench.state = next(leaf for leaf in bench.leaves if leaf.outcome == "False").state
    assert [bench.test(one, packet("udp")) for _ in range(4)] == [True, False, False, True]


def test_random_share():
    outcomes = dict((a, p) for p, a in Bench().outcomes("-m statistic --mode random --probability 0.25", packet("udp")))
    assert outcomes == {True: 0.25, False: 0.75}
    outcomes = dict(
        (a, p) for p, a in Bench().outcomes("-m statistic --mode random ! --probability 0.25", packet("udp"))
    )
    assert outcomes == {True: 0.75, False: 0.25}
    assert Bench().test("-m statistic --mode random --probability 1", packet("udp")) is True
    assert Bench().test("-m statistic --mode random --probability 0", packet("udp")) is False
