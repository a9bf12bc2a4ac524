"""The terminal: plain output, narrow ones, colours that never speak alone, the pager, the tour."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import nattrace as nt
import pytest
from jsonschema import Draft202012Validator
from nattrace.sim.render.schema import SCHEMAS
from nattrace.sim.render.style import ascii_only
from nattrace.sim.render.text import render
from nattrace.sim.tour import TOURS
from nattrace.tracer import cli

PROGRAM = [sys.executable, "-c", "from nattrace.tracer.cli import main; main()"]
WHY = ["why", "icmp 10.10.1.1 -> 8.8.8.8 at client", "-S", "twice-through-conntrack"]


def on_terminal(*arguments: str, rows: int = 24, typed: str = "", until: str = "", **env: str) -> tuple[str, int]:
    """What a terminal of 100 columns shows, and the exit status. ``typed`` is typed when ``until`` has appeared."""
    import fcntl
    import struct
    import termios

    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.pop("COLUMNS", None)
        os.environ.pop("NO_COLOR", None)
        os.environ |= {"TERM": "xterm", **env}
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 100, 0, 0))
        os.execv(PROGRAM[0], [*PROGRAM, *arguments])
    shown, end = b"", time.monotonic() + 30
    while time.monotonic() < end:
        ready = select.select([terminal], [], [], 1)[0]
        if not ready:
            continue
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
        if typed and until.encode() in shown:
            os.write(terminal, typed.encode())
            typed = ""
    os.close(terminal)
    return shown.decode(errors="replace"), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_an_answer_longer_than_the_terminal_goes_through_the_pager(tmp_path: Path) -> None:
    kept = tmp_path / "paged"
    shown, status = on_terminal(*WHY, PAGER=f"tee {kept}")
    assert status == 0
    assert "NOT TRANSLATED" in kept.read_text()
    assert "NOT TRANSLATED" in shown


@pytest.mark.parametrize(
    ("arguments", "rows", "pager"),
    [
        ([*WHY, "--no-pager"], 24, "tee PAGED"),
        (WHY, 200, "tee PAGED"),
        ([*WHY, "-q"], 24, "tee PAGED"),
        (WHY, 24, ""),
        (WHY, 24, "no-such-pager"),
    ],
)
def test_and_not_otherwise(arguments: list[str], rows: int, pager: str, tmp_path: Path) -> None:
    shown, status = on_terminal(*arguments, rows=rows, PAGER=pager.replace("PAGED", str(tmp_path / "paged")))
    assert status == 0
    assert "NOT TRANSLATED" in shown
    assert not (tmp_path / "paged").exists()


def test_explain_and_what_go_the_same_way(tmp_path: Path) -> None:
    office = Path(__file__).resolve().parents[3] / "docs" / "examples" / "office"
    kept = tmp_path / "paged"
    for arguments in (["explain"], ["what", str(office / "lan.pcap"), "-S", str(office / "router"), "--in", "eth1"]):
        _, status = on_terminal(*arguments, rows=10, PAGER=f"tee {kept}")
        assert status == 0
        assert kept.read_text().count("\n") > 10
        kept.unlink()
        shown, _ = on_terminal(*arguments, "--plain", "--no-pager", rows=10, PAGER=f"tee {kept}")
        assert not kept.exists()
        assert shown.isascii() and "\x1b" not in shown


def test_no_pager_where_there_is_no_terminal(tmp_path: Path) -> None:
    env = os.environ | {"PAGER": f"tee {tmp_path / 'paged'}"}
    subprocess.run([*PROGRAM, *WHY], env=env, check=True, capture_output=True)
    assert not (tmp_path / "paged").exists()


@pytest.mark.parametrize("snapshot", ["twice-through-conntrack", "two-uplinks", "nonexistent-address.route"])
@pytest.mark.parametrize("extra", [[], ["-v"], ["-q"]])
def test_plain_is_ascii_and_says_the_same(snapshot: str, extra: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    flow = {"twice-through-conntrack": WHY[1], "two-uplinks": "172.31.26.176 -> 203.0.113.9"}.get(
        snapshot, "192.168.100.1 -> 192.168.100.3"
    )
    assert cli.run(["why", flow, "-S", snapshot, *extra]) == 0
    usual = capsys.readouterr().out
    assert cli.run(["why", flow, "-S", snapshot, "--plain", *extra]) == 0
    plain = capsys.readouterr().out
    assert plain.isascii()
    assert re.sub(r"[\s.]+|-v", "", plain)[:400] == re.sub(r"[\s.]+|-v", "", ascii_only(usual))[:400]
    assert max(map(len, plain.splitlines()[1 if not extra or extra == ["-v"] else len(plain) :]), default=0) <= 110


def test_plain_has_no_colour_on_a_terminal() -> None:
    shown, _ = on_terminal(*WHY, "--plain", "--no-pager")
    assert "\x1b" not in shown
    assert shown.isascii()
    coloured, _ = on_terminal(*WHY, "--no-pager")
    assert "\x1b[" in coloured


@pytest.mark.parametrize("width", [60, 72, 80, 160])
@pytest.mark.parametrize("verbose", [False, True])
def test_narrow_and_wide(width: int, verbose: bool) -> None:
    text = render(nt.load("twice-through-conntrack").why(WHY[1], sample=0)._explanation, width=width, verbose=verbose)
    wide = [line for line in text.splitlines() if len(line) > width and "iptables" not in line]
    assert wide == []


def test_what_is_coloured_is_also_said(capsys: pytest.CaptureFixture[str]) -> None:
    for snapshot, flow in (("twice-through-conntrack", WHY[1]), ("private-namespace", "114.114.114.114 at private")):
        text = render(nt.load(snapshot).why(flow)._explanation, colour=True)
        for codes, said in re.findall(r"\x1b\[([\d;]+)m(.*?)\x1b\[0m", text):
            if "31" in codes.split(";"):
                assert re.search("✗|DROP|NOT|[A-Z]{4,}", said) or "answer" in said or "[" in said, said
            if "33" in codes.split(";"):
                assert re.search("←|changes", said), said


# ------------------------------------------------------------------------------------------------- the tour


def test_the_tour_goes_through_all_five_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["tour", "--plain"]) == 0
    text = capsys.readouterr().out
    assert text.isascii()
    assert [name for name in (t.name for t in TOURS) if f"{name}: " not in text] == []
    assert text.count("\nSTAGE ") == sum(len(t.stops) for t in TOURS) == text.count("\nSEE ")


def test_the_tour_waits_for_enter_and_ends_with_q() -> None:
    shown, status = on_terminal("tour", "--scenario", "two-uplinks", typed="q\n", until="q: end")
    assert status == 0
    assert "1/4" in shown
    assert "2/4" not in shown
    shown, status = on_terminal("tour", "--scenario", "two-uplinks", typed="\n\n\nq", until="q: end")
    assert status == 0
    assert "4/4" in shown


def test_the_tour_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["tour", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMAS["tour"]()).validate(document)
    assert {stop["scenario"] for stop in document["stops"]} == {t.name for t in TOURS}


@pytest.mark.parametrize("stop", [s for t in TOURS for s in t.stops], ids=lambda s: f"{s.snapshot}-{s.flow[:12]}")
def test_what_the_tour_tells_to_type_works(
    stop, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch
) -> None:
    import shlex

    monkeypatch.chdir(tmp_path)
    for command in (stop.command, *stop.next):
        assert cli.run(shlex.split(command)[1:]) in (0, 1), command
    verdict = capsys.readouterr().out.splitlines()[0]
    assert verdict


def test_an_unknown_scenario_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["tour", "--scenario", "x"]) == 2
    assert "private-namespace" in capsys.readouterr().err
