"""The record is one thing in two languages."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from nattrace.tracer.live import event
from nattrace.tracer.live.session import LOSS

HEADER = (Path(event.__file__).parents[2] / "bpf" / "include" / "event.h").read_text()
WIDTH = {"u64": 8, "s64": 8, "u32": 4, "s32": 4, "u16": 2, "u8": 1}


def fields_of(struct: str) -> list[tuple[str, int]]:
    """(name, size) of each member of a struct of the header, in order."""
    body = re.search(rf"struct {struct} \{{(.*?)\n\}};", HEADER, re.S)
    assert body
    found = []
    for kind, names in re.findall(r"(?:struct )?(\w+) ([\w, \[\]]+);", body[1]):
        for name in names.split(","):
            base, _, count = name.strip().partition("[")
            size = event.TUPLE.itemsize if kind == "tuple" else WIDTH[kind]
            found.append((base, size * int(count.rstrip("]") or 1)))
    return found


def test_version_and_size_are_those_of_the_header() -> None:
    assert event.header_layout() == (event.VERSION, event.EVENT.itemsize)


def test_fields_come_in_the_order_and_width_of_the_header() -> None:
    names = [(name, event.EVENT[name].itemsize) for name in event.EVENT.names or ()]
    assert fields_of("event") == names
    assert sum(size for _, size in names) == event.EVENT.itemsize, "no hole in between"


def test_tuple_and_loss_are_those_of_the_header() -> None:
    assert fields_of("tuple") == [(name, event.TUPLE[name].itemsize) for name in event.TUPLE.names or ()]
    assert fields_of("loss") == [(name, LOSS[name].itemsize) for name in LOSS.names or ()]


def test_kinds_are_numbered_as_in_the_header() -> None:
    body = re.search(r"enum event_kind \{(.*?)\}", HEADER)
    assert body
    names = [name.strip().lower() for name in body[1].split(",")]
    assert names[-1] == "kinds"
    assert {name: number for number, name in enumerate(names[:-1])} == {kind.name: kind.value for kind in event.KIND}


def test_tuples_read_as_people_write_them() -> None:
    row = np.zeros(1, event.TUPLE)
    row["l3num"], row["proto"], row["sport"], row["dport"] = 2, 17, 40001, 53
    row["s"][0, :4], row["d"][0, :4] = (10, 0, 0, 2), (10, 0, 0, 1)
    assert event.tuple_text(row[0]) == "udp 10.0.0.2:40001 > 10.0.0.1:53"
    row["proto"], row["dport"], row["sport"] = 1, 8 << 8, 77
    assert event.tuple_text(row[0]) == "icmp 10.0.0.2 > 10.0.0.1 type 8 code 0 id 77"
    row["l3num"], row["proto"], row["dport"] = 10, 6, 443
    assert event.tuple_text(row[0]) == "tcp [a00:2::]:77 > [a00:1::]:443"
    row["proto"] = 47
    assert event.tuple_text(row[0]) == "protocol 47 a00:2:: > a00:1::"
