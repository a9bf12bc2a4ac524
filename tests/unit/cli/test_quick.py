"""quick.py reads what click would read, or leaves it to click."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nattrace.tracer.cli.quick import understood
from nattrace.tracer.cli.table import FLAG, SNAPSHOT, WHY
from nattrace.tracer.cli.why import why

NAMES = [name for option in (*SNAPSHOT, *WHY) for name in option.names]
WORDS = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(
        [
            "icmp",
            "8.8.8.8",
            "→",
            "",
            "-",
            "--",
            "-h",
            "--help",
            "--jso",
            "--json=1",
            "-Sx",
            "-vq",
            "7",
            "10001",
            "٣",
            "-1",
        ]
    ),
    st.text(max_size=5),
)


def by_click(arguments: list[str]) -> tuple[tuple[str, ...], dict[str, object]]:
    with click.Context(why) as top:
        found = dict(why.make_context("why", list(arguments), parent=top).params)
    return found.pop("flow"), found


@given(st.lists(WORDS, max_size=8))
def test_what_is_understood_is_what_click_reads(arguments):
    found = understood(arguments)
    if found is not None:
        assert found == by_click(arguments)


@pytest.mark.parametrize("option", [*SNAPSHOT, *WHY], ids=lambda option: option.key)
def test_every_option_is_understood(option):
    for name in option.names:
        arguments = ["icmp", name, *([] if option.kind == FLAG else ["7"]), "8.8.8.8"]
        assert understood(arguments) == by_click(arguments)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h", "x"], ["x", "--strict=1"], ["x", "-Sy"], ["x", "--sample", "x"],
                                       ["x", "--sample", "10001"], ["x", "--add"], ["x", "--add", "-A INPUT"], ["--", "x"]])  # fmt: skip
def test_the_rest_is_left_to_click(arguments):
    assert understood(arguments) is None


def test_a_plain_question_is_answered_without_click():
    program = (
        "import sys\nfrom nattrace.tracer.cli import run\n"
        "assert run(['why', 'icmp 10.10.1.1 -> 8.8.8.8 at client', '-S', 'twice-through-conntrack', '-q']) == 0\n"
        "assert 'click' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
