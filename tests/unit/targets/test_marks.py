"""MARK, CONNMARK, TOS, DSCP, ECN, TTL, CLASSIFY, TRACE: what they change, by the kernel's own formulas."""

from __future__ import annotations

import pytest
from nattrace.sim.model.packet import TH_CWR, TH_ECE, flags_from_text
from nattrace.sim.model.rule import V_CONTINUE
from unit.targets.vocabulary import context, mark_of, packet, read, tracked


@pytest.mark.parametrize(
    ("options", "before", "after"),
    [
        ("--set-mark 0x13/0xf0", 0xFFFF, 0xFF1F),
        ("--set-xmark 0x13/0xf0", 0xFFFF, 0xFF1C),  # (mark & ~mask) ^ value
        ("--and-mark 0xf", 0xABCD, 0xD),
        ("--or-mark 0xf", 0xAB00, 0xAB0F),
        ("--xor-mark 0xff", 0xABCD, 0xAB32),
        ("--set-mark 0xffffffff", 0, 0xFFFFFFFF),
    ],
)
def test_mark_is_masked_and_then_xored(options: str, before: int, after: int) -> None:
    skb, ctx = packet(mark=before), context()
    assert read(f"-j MARK {options}", "mangle").apply(skb, ctx) == V_CONTINUE
    assert skb.mark == after


@pytest.mark.parametrize(
    ("options", "packet_mark", "entry_mark", "packet_after", "entry_after"),
    [
        ("--save-mark", 7, 0, 7, 7),
        ("--restore-mark", 7, 9, 9, 9),
        ("--save-mark --nfmask 0xff --ctmask 0xff00 --left-shift-mark 8", 0x1234, 0xAAAAAA, 0x1234, 0xAA34AA),
        ("--restore-mark --nfmask 0xff --ctmask 0xff00 --right-shift-mark 8", 0x1234, 0x5678, 0x1256, 0x5678),
        ("--set-mark 0x13/0xf0", 1, 0xFFFF, 1, 0xFF1F),
        ("--set-xmark 1/0 --left-shift-mark 31", 0, 2, 0, 0x80000000),  # cut to 32 bits
        ("--and-mark 0xf", 0, 0xABCD, 0, 0xD),
    ],
)
def test_connmark_copies_between_packet_and_entry(
    options: str, packet_mark: int, entry_mark: int, packet_after: int, entry_after: int
) -> None:
    skb, ctx = packet(mark=packet_mark), context()
    tracked(skb, ctx, entry_mark)
    assert read(f"-j CONNMARK {options}", "mangle").apply(skb, ctx) == V_CONTINUE
    assert (skb.mark, mark_of(skb, ctx)) == (packet_after, entry_after)


def test_connmark_leaves_a_packet_without_an_entry_alone() -> None:
    skb, ctx = packet(mark=5), context()
    read("-j CONNMARK --restore-mark").apply(skb, ctx)
    assert skb.mark == 5


def test_in_raw_connmark_meets_the_template_of_ct_which_has_a_mark_of_its_own() -> None:
    ctx, marks = context("OUTPUT"), []  # seen on Linux 6.18.44: 0 for the first packet, 9 for the second
    for _ in range(2):
        skb = packet(mark=5)
        for rule in ("-j CT --zone 1", "-j CONNMARK --restore-mark", "-j CONNMARK --set-mark 9"):
            read(rule, "raw", "OUTPUT").apply(skb, ctx)
        marks.append(skb.mark)
    assert marks == [0, 9]


@pytest.mark.parametrize(
    ("rule", "before", "after"),
    [
        ("-j TOS --set-tos 0x10/0x3f", 0xC3, 0xD0),
        ("-j TOS --and-tos 0x0f", 0xFA, 0x0A),
        ("-j TOS --xor-tos 0x0f", 0xFA, 0xF5),
        ("-j DSCP --set-dscp-class ef", 0x03, 0xBB),  # ECN bits stay
        ("-p tcp -j ECN --ecn-ip-ect 2", 0x29, 0x2A),
    ],
)
def test_tos_byte(rule: str, before: int, after: int) -> None:
    skb = packet(tos=before)
    read(rule, "mangle").apply(skb, context("FORWARD"))
    assert skb.tos == after


def test_ecn_remove_clears_both_flags_of_tcp_and_no_other() -> None:
    skb = packet(tcp_flags=flags_from_text("S") | TH_ECE | TH_CWR)
    read("-p tcp -j ECN --ecn-tcp-remove", "mangle").apply(skb, context("FORWARD"))
    assert skb.tcp_flags == flags_from_text("S")


def test_ecn_does_not_touch_a_later_fragment() -> None:
    skb = packet(tcp_flags=0, frag=1480)
    read("-p tcp -j ECN --ecn-tcp-cwr 1", "mangle").apply(skb, context("FORWARD"))
    assert skb.tcp_flags == 0


@pytest.mark.parametrize(
    ("options", "before", "after"),
    [("--ttl-set 64", 1, 64), ("--ttl-inc 10", 250, 255), ("--ttl-dec 10", 3, 0), ("--ttl-dec 1", 64, 63)],
)
def test_ttl_stays_within_a_byte(options: str, before: int, after: int) -> None:
    skb = packet(ttl=before)
    read(f"-j TTL {options}", "mangle").apply(skb, context())
    assert skb.ttl == after


def test_classify_sets_the_priority_as_major_and_minor() -> None:
    skb = packet()
    read("-j CLASSIFY --set-class 1:ff", "mangle", "POSTROUTING").apply(skb, context("POSTROUTING"))
    assert skb.priority == 0x100FF


def test_trace_marks_the_packet_for_tracing() -> None:
    skb = packet()
    assert read("-j TRACE", "raw").apply(skb, context()) == V_CONTINUE
    assert skb.nf_trace


@pytest.mark.parametrize(
    "rule",
    [
        "-j LOG", "-j NFLOG", "-j AUDIT --type drop", "-j CONNSECMARK --save", "-j SECMARK --selctx x",
        "-p udp -j CHECKSUM --checksum-fill", "-j IDLETIMER --timeout 1 --label a", "-j LED --led-trigger-id a", "-j ULOG",
        "-j RATEEST --rateest-name a --rateest-interval 1s --rateest-ewmalog 4s",
    ],
)  # fmt: skip
def test_onlookers_let_the_packet_go_on_unchanged(rule: str) -> None:
    skb, ctx = packet(), context()
    before = skb.header()
    assert read(rule, "mangle").apply(skb, ctx) == V_CONTINUE
    assert skb.header() == before
