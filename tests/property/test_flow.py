"""Whatever is typed as a FLOW is understood or refused with a FlowError: never another exception."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from nattrace.sim.errors import FlowError
from nattrace.sim.flow import parse_flow
from nattrace.sim.model.route import Address, Link
from nattrace.sim.model.world import Host, World

HOST = Host(
    "h", links={"lo": Link("lo", 1, loopback=True), "eth0": Link("eth0", 2)}, addresses=(Address(2, "eth0", 0x0A000001, 24),),
    files=frozenset({"link", "addr", "route"}), users={"bob": 7}, names={"web": (2, 0x08080808)},
)  # fmt: skip
WORLD = World({"h": HOST})

WORDS = [
    "tcp", "udp", "icmp", "->", "→", ">", "to", "10.0.0.1", "8.8.8.8:443", "[2001:db8::1]:53", "fe80::1%eth0", "web:https", "1.2.3.4/tcp",
    "in", "eth0", "at", "h", "uid", "bob", "mark", "0x5", "type", "8", "flags", "SA", "df", "len", "99999", "proto", "47", "time", "2026-01-01",
    "IP", "10.0.0.1.5", "Flags", "[S],", "src=10.0.0.1", "dst=8.8.8.8", "sport=1", "dport=2", "6", "IN=eth0", "OUT=", "SRC=10.0.0.9", "DST=10.0.0.1",
    "PROTO=TCP", "SPT=1", "DPT=2", "ESTAB", "0", "0.0.0.0:*", "[::ffff:10.0.0.1]:22", ":", "/", "[", "]", "%", "١٢", "-1", "1e9", "id", "seq",
]  # fmt: skip


def understood_or_refused(text: str) -> None:
    try:
        question = parse_flow(text, WORLD)
    except FlowError as error:
        assert error.message
        if error.column is not None:
            assert 0 <= error.column <= len(error.text)
        return
    question.start(question.prepare(WORLD))
    assert parse_flow(question.flow(), WORLD).packet["dst"] == question.packet["dst"]


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=120))
def test_any_text_is_understood_or_refused(text: str) -> None:
    understood_or_refused(text)


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_any_order_of_known_words_is_understood_or_refused(text: str) -> None:
    understood_or_refused(text)
