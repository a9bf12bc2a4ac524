"""Matches that look at the packet alone answer as the kernel does (rows of ``tables``, asked of a kernel 6.18)."""

from __future__ import annotations

import pytest
from tables import NATIVE, ROWS
from vocabulary import Bench


@pytest.mark.parametrize(("text", "skb", "wanted"), ROWS, ids=[f"{r[0]}-{n}" for n, r in enumerate(ROWS)])
def test_row(text, skb, wanted):
    skb.mac_src = 0x020000000001
    assert Bench("PREROUTING", "eth0", None).test(text, skb) == wanted


@pytest.mark.parametrize(("text", "skb", "wanted"), NATIVE, ids=[f"{r[0]}-{n}" for n, r in enumerate(NATIVE)])
def test_native_row(text, skb, wanted):
    assert Bench("PREROUTING", "eth0", None, backend="iptables").test(text, skb) == wanted
