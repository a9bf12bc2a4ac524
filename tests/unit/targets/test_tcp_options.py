"""TCPMSS and TCPOPTSTRIP on the option bytes, as tcpmss_mangle_packet() and tcpoptstrip_mangle_packet() walk them."""

from __future__ import annotations

import pytest
from nattrace.sim.engine import routing
from nattrace.sim.engine.rt import Rt
from nattrace.sim.model.rule import V_CONTINUE, V_DROP
from unit.targets.vocabulary import context, packet, read

SYN = "-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS"


@pytest.mark.parametrize(
    ("limit", "before", "after"),
    [(1400, 1460, 1400), (1400, 1400, 1400), (1400, 1300, 1300)],
    ids=["lowered", "equal", "never raised"],
)
def test_set_mss_only_lowers(limit: int, before: int, after: int) -> None:
    skb = packet(mss=before, length=44)
    assert read(f"{SYN} --set-mss {limit}").apply(skb, context("FORWARD")) == V_CONTINUE
    assert (skb.mss, skb.length) == (after, 44)


@pytest.mark.parametrize(("limit", "added"), [(1400, 536), (500, 500)])
def test_a_missing_option_is_added_with_at_most_the_default(limit: int, added: int) -> None:
    skb = packet()
    read(f"{SYN} --set-mss {limit}").apply(skb, context("FORWARD"))
    assert (skb.mss, skb.length) == (added, 44)


def test_nothing_is_added_before_data() -> None:
    skb = packet(length=50, payload=b"0123456789")
    read(f"{SYN} --set-mss 1400").apply(skb, context("FORWARD"))
    assert (skb.mss, skb.length) == (None, 50)


def test_the_option_is_found_among_raw_options() -> None:
    skb = packet(tcp_options=bytes.fromhex("01010402020405b4"), mss=1460, length=48)
    read(f"{SYN} --set-mss 1000").apply(skb, context("FORWARD"))
    assert (skb.tcp_options, skb.mss) == (bytes.fromhex("01010402020403e8"), 1000)


def test_a_fragment_is_left_alone() -> None:
    skb = packet(frag=8)
    read(f"{SYN} --set-mss 1400").apply(skb, context("FORWARD"))
    assert skb.mss is None


@pytest.mark.parametrize(
    ("forward", "back", "mss"),
    [(1500, 1400, 1360), (1300, 1500, 1260), (1500, None, 1460)],
    ids=["way back is narrower", "way out is narrower", "no way back"],
)
def test_clamping_takes_the_narrower_direction(
    forward: int, back: int | None, mss: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = []

    def output(ctx: object, **flow: object) -> Rt:
        looked_up.append(flow)
        return Rt("unicast", "eth0", mtu=back) if back else Rt("none", errno=101)

    monkeypatch.setattr(routing, "output", output)
    skb = packet(mss=9000, length=44, rt=Rt("unicast", "eth1", mtu=forward))
    assert read(f"{SYN} --clamp-mss-to-pmtu", "mangle", "FORWARD").apply(skb, context("FORWARD")) == V_CONTINUE
    assert skb.mss == mss
    assert looked_up == [{"family": 2, "dst": skb.src}]  # nothing but the address: not the mark, not the device


def test_a_path_too_narrow_for_headers_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "output", lambda ctx, **flow: Rt("none", errno=101))
    skb = packet(mss=1460, rt=Rt("unicast", "eth1", mtu=40))
    assert read(f"{SYN} --clamp-mss-to-pmtu", "mangle", "FORWARD").apply(skb, context("FORWARD")) == V_DROP


@pytest.mark.parametrize(
    ("kinds", "before", "after"),
    [
        ("mss", "020405b4", "01010101"),
        ("timestamp", "020405b40402080a000000010000000001030307", "020405b404020101010101010101010101030307"),
        ("wscale", "03030700", "01010100"),
        ("4", "0402", "01010000"),  # on the wire padded to four bytes
        ("wscale", "02040500030307", "0204050001010100"),
        ("8", "0303070108", "0303070101000000"),  # a length of zero: one byte at a time, and 8 is one of them
    ],
)
def test_strip_overwrites_with_nops(kinds: str, before: str, after: str) -> None:
    options = bytes.fromhex(before)
    skb = packet(tcp_options=options, length=40 + (len(options) + 3) // 4 * 4)
    read(f"-p tcp -j TCPOPTSTRIP --strip-options {kinds}", "mangle").apply(skb, context("FORWARD"))
    assert skb.tcp_options == bytes.fromhex(after)


def test_stripping_the_mss_of_a_plain_syn_forgets_it() -> None:
    skb = packet(mss=1460, length=44)
    read("-p tcp -j TCPOPTSTRIP --strip-options mss", "mangle").apply(skb, context("FORWARD"))
    assert (skb.mss, skb.tcp_options, skb.length) == (None, b"\x01\x01\x01\x01", 44)
