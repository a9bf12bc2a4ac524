"""What anonymizing keeps: equality, prefixes, the class of an address."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from nattrace.sim.model.addr import is_multicast, is_private
from nattrace.tracer.capture.anonymize import Scrambler

ADDRESSES = st.integers(0, 2**32 - 1)


def shared(a: int, b: int) -> int:
    """How many leading bits two addresses share."""
    return 32 - (a ^ b).bit_length()


@given(ADDRESSES, ADDRESSES)
def test_addresses_share_as_many_leading_bits_as_before(a: int, b: int) -> None:
    scrambler = Scrambler(b"x" * 32)
    assert shared(scrambler.v4(a), scrambler.v4(b)) == shared(a, b)


@given(ADDRESSES)
def test_a_private_or_multicast_address_stays_one(a: int) -> None:
    mapped = Scrambler(b"x" * 32).v4(a)
    assert is_private(2, mapped) == is_private(2, a)
    assert is_multicast(2, mapped) == is_multicast(2, a)
    assert (mapped >> 24 == 127) == (a >> 24 == 127)


@given(ADDRESSES, st.integers(0, 32))
def test_a_network_keeps_its_zero_bits_and_its_members(a: int, plen: int) -> None:
    host = (1 << (32 - plen)) - 1
    scrambler = Scrambler(b"y" * 32)
    mapped = scrambler.network(a & ~host, plen)
    assert mapped & host == 0
    assert scrambler.v4(a) & ~host == mapped


def test_texts_are_rewritten_where_an_address_stands_and_nowhere_else() -> None:
    scrambler = Scrambler(b"z" * 32)
    text = scrambler.addresses(
        "-s 10.1.2.3/32 -d 198.51.100.0/255.255.255.0 v1.8.9 1.2.3 02:00:00:00:00:09 ff:ff:ff:ff:ff:ff 0.0.0.0"
    )
    assert "10.1.2.3" not in text and "198.51.100" not in text and "02:00:00:00:00:09" not in text
    assert "/255.255.255.0 v1.8.9 1.2.3" in text and text.endswith("ff:ff:ff:ff:ff:ff 0.0.0.0")


def test_a_wildcard_still_covers_the_devices_it_covered() -> None:
    scrambler = Scrambler(b"z" * 32)
    scrambler.anchors = ["et", "eth"]
    short, long = scrambler.interface("et+"), scrambler.interface("eth+")
    assert long.startswith(short[:-1]) and scrambler.interface("eth0").startswith(long[:-1])
    assert not scrambler.interface("wlan0").startswith(short[:-1])


def test_a_range_inside_one_network_stays_a_range() -> None:
    scrambler = Scrambler(b"z" * 32)
    low, _, high = scrambler.addresses("10.1.2.5-10.1.2.9").partition("-")
    assert low.endswith(".5") and high.endswith(".9") and low.rpartition(".")[0] == high.rpartition(".")[0]
