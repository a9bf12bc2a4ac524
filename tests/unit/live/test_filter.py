"""The filter as the programs in the kernel get it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nattrace.sim.errors import InputError
from nattrace.tracer.live import filter as module
from nattrace.tracer.live.filter import HEAD, MAX_NAMESPACES, MAX_TERMS, SIZE, TERM, Filter, Term

HEADER = (Path(module.__file__).parents[2] / "bpf" / "include" / "filter.h").read_text()


def test_sizes_are_those_of_the_header() -> None:
    assert f"#define TERMS {MAX_TERMS}" in HEADER
    assert f"#define NAMESPACES {MAX_NAMESPACES}" in HEADER
    assert (HEAD.size, TERM.size, SIZE) == (96, 80, 96 + MAX_TERMS * 80)


def test_flags_are_those_of_the_header() -> None:
    stated = dict(re.findall(r"F_(\w+) = (\d+)", HEADER))
    assert {name: int(value) for name, value in stated.items()} == {
        name: getattr(module, name) for name in ("LEARN", "ANY", "FIB", "PCAP", "UID", "IFACE", "MARK", "FRESH")
    }


def test_a_term_lies_where_the_program_looks() -> None:
    code = Filter.of(proto="udp", src="10.0.0.2", dst="192.0.2.0/24", sport=(1000, 2000), dport=53).encode(
        [4026531840], True, True
    )
    term = code[HEAD.size : HEAD.size + TERM.size]
    assert term[0:4] == bytes([10, 0, 0, 2])
    assert term[16:20] == b"\xff" * 4
    assert term[32:36] == bytes([192, 0, 2, 0])
    assert term[48:52] == b"\xff\xff\xff\0"
    assert [int.from_bytes(term[i : i + 2], "little") for i in (64, 66, 68, 70, 72)] == [1000, 2000, 53, 53, 2]
    assert term[74] == 17
    flags, terms, namespaces = HEAD.unpack(code[: HEAD.size])[:3]
    assert (flags, terms, namespaces) == (module.FIB | module.LEARN, 1, 1)


def test_no_term_means_every_packet() -> None:
    flags = HEAD.unpack(Filter.everything().encode([1], False, True)[: HEAD.size])[0]
    assert flags == module.ANY


def test_other_conditions_are_learned_from() -> None:
    wanted = replace(Filter.everything(), mark=(0x17, 0xFF), uid=0, ifindex=3, pcap="udp")
    head = HEAD.unpack(wanted.encode([1], False, False)[: HEAD.size])
    assert head[0] == module.ANY | module.LEARN | module.MARK | module.UID | module.IFACE | module.PCAP
    assert head[3:7] == (3, 0x17, 0xFF, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"proto": "tpc"},
        {"src": "10.0.0.300"},
        {"src": "10.0.0.1", "dst": "2001:db8::1"},
        {"dport": 70000},
        {"sport": (9, 3)},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Filter.of(**wrong)


def test_too_much_is_refused() -> None:
    with pytest.raises(InputError):
        Filter((Term(), Term(), Term())).encode([1], False, False)


def test_many_namespaces_are_left_to_a_map() -> None:
    head = HEAD.unpack(Filter.everything().encode(list(range(17)), False, False)[: HEAD.size])
    assert head[2] == module.MANY
    assert set(head[8:]) == {0}
