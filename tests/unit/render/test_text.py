"""Text output: nothing raw from outside, nothing wider than asked, ordinary answers short."""

from __future__ import annotations

import io
import json
from pathlib import Path

import nattrace as nt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nattrace.sim.render.style import clean, fit, wants_colour, width_of, wrap


@given(st.text())
def test_clean_text_is_printable(text: str) -> None:
    assert clean(text).isprintable()


@given(st.text(alphabet="ab \u2192x", max_size=200), st.integers(10, 60))
def test_wrapping_keeps_every_word_and_no_line_is_wider(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == "".join(text.split())


def test_fit_cuts_with_an_ellipsis() -> None:
    assert (fit("abcdef", 6), fit("abcdef", 4)) == ("abcdef", "abc…")


def test_colour_needs_a_terminal_and_honours_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_colour(Terminal()) and not wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())


def test_the_width_is_100_where_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert width_of(io.StringIO()) == 100
    monkeypatch.setenv("COLUMNS", "80")
    assert width_of(io.StringIO()) == 80


ORDINARY = [
    ("private-namespace.no-route", "114.114.114.114 at private"),
    ("private-namespace.route", "114.114.114.114 at private"),
    ("private-namespace", "114.114.114.114 at private"),
    ("private-namespace.forwarding", "114.114.114.114 at private"),
    ("per-user-source", "8.8.8.8 uid userB at host"),
    ("two-uplinks", "203.0.113.9 at ec2b"),
    ("two-uplinks.nothing-set", "203.0.113.9 at ec2a"),
    ("nonexistent-address.nothing", "192.168.100.1 -> 192.168.100.3 at vm01"),
]


@pytest.mark.parametrize(("snapshot", "flow"), ORDINARY)
def test_an_ordinary_answer_fits_on_25_lines(snapshot: str, flow: str) -> None:
    assert len(nt.load(snapshot).why(flow).text().splitlines()) <= 25


def test_what_is_to_be_pasted_is_never_cut() -> None:
    """On a narrow terminal, the capture to type was cut in the middle of an address."""
    from nattrace.sim.render.text import render

    home = Path(__file__).resolve().parents[3] / "docs" / "causes" / "conntrack-full" / "snapshot"
    text = render(nt.load(home).why("tcp 10.0.0.2:40000 -> 198.51.100.7:443 at client")._explanation, width=60)
    assert "tcpdump -ni eth0 'tcp and host 198.51.100.7'" in text and "…" not in text


def test_names_of_chains_cannot_steer_the_terminal(tmp_path: Path) -> None:
    ruleset = {
        "nftables": [
            {"table": {"family": "ip", "name": "t\u202e"}},
            {"chain": {"family": "ip", "table": "t\u202e", "name": "c\x9b", "type": "filter", "hook": "prerouting",
                       "prio": -300, "policy": "accept"}},
            {"rule": {"family": "ip", "table": "t\u202e", "chain": "c\x9b", "handle": 3, "expr": [{"drop": None}]}},
        ]
    }  # fmt: skip
    (tmp_path / "nft.json").write_text(json.dumps(ruleset))
    text = nt.load(tmp_path).why("192.0.2.9 -> 198.51.100.7 in eth0").text()
    assert "t\\u202e" in text and all(line.isprintable() for line in text.splitlines())
