"""Netlink framing and attributes, whole and cut short."""

from __future__ import annotations

import errno
import struct

from hypothesis import given
from hypothesis import strategies as st
from nattrace.tracer.live.nfnl.wire import (
    NLMSG_ERROR,
    attribute,
    attribute_list,
    attributes,
    be32,
    error_of,
    message,
    messages,
    number,
    text,
)


def test_attributes_are_padded_and_found_again() -> None:
    data = attribute(1, b"eth0\0") + attribute(0x8003, be32(7)) + attribute(0x4004, b"")
    assert len(data) % 4 == 0
    assert attributes(data) == {1: b"eth0\0", 3: be32(7), 4: b""}
    assert (text(attributes(data)[1]), number(attributes(data)[3])) == ("eth0", 7)
    assert list(attribute_list(data + attribute(1, b"x")))[-1] == (1, b"x")


def test_what_is_cut_short_ends_the_level() -> None:
    data = attribute(1, b"abcd") + struct.pack("=HH", 100, 2) + b"abc"
    assert attributes(data) == {1: b"abcd"}
    assert attributes(struct.pack("=HH", 3, 1)) == {}
    assert list(messages(b"\x10\0\0")) == []


def test_messages_of_a_datagram_and_an_error_among_them() -> None:
    first = message(0xA11, 0, 5, 2, 0, attribute(1, b"nat\0"))
    failure = struct.pack("=IHHIIi", 20, NLMSG_ERROR, 0, 6, 0, -errno.ENOENT)
    found = list(messages(first + failure + first))
    assert [m.type for m in found] == [0xA11, NLMSG_ERROR, 0xA11]
    assert (found[0].family, found[0].sequence, attributes(found[0].body)) == (2, 5, {1: b"nat\0"})
    assert error_of(found[1].body) == errno.ENOENT


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise_or_hang(data: bytes) -> None:
    for found in messages(data):
        attributes(found.body)
        list(attribute_list(found.body))
