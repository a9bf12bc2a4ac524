"""How commands end: status, what stands on which stream, and that trouble with files and pipes has words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lab_support.nobody import as_nobody
from nattrace.tracer import cli
from property.mutate import NETWORK

FLOW = "tcp 10.0.0.7:40001 -> 8.8.8.8:443 in eth0"
PACKET = json.dumps({"in": "eth0", "proto": "icmp", "src": "10.0.0.7", "dst": "10.0.0.1"})
PROGRAM = [sys.executable, "-c", "from nattrace.tracer.cli import main; main()"]
ENV = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "NATTRACE_DEBUG")}


@pytest.fixture
def snap(tmp_path: Path) -> str:
    for name, text in NETWORK.items():
        (tmp_path / "snap").mkdir(exist_ok=True)
        (tmp_path / "snap" / name).write_bytes(text)
    return str(tmp_path / "snap")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.run(list(arguments))
    out, err = capsys.readouterr()
    return status, out, err


def process(*arguments: str | bytes, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, env=ENV, check=False, timeout=60, **options)  # type: ignore[call-overload,no-any-return]


# ── --expect ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("expectation", "status"), [("out eth1", 0), ("dropped", 1), ("snat 192.0.2.1", 0), ("reply", 0)]
)
def test_expect(snap: str, capsys: pytest.CaptureFixture[str], expectation: str, status: int) -> None:
    assert run(capsys, "why", FLOW, "-S", snap, "--expect", expectation)[0] == status


def test_expect_of_an_unknown_outcome_is_4(snap: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(snap, "sysctl.txt").unlink()
    assert run(capsys, "why", FLOW, "-S", snap, "--expect", "out eth1", "--no-fixes")[0] == 4


def test_an_unknown_outcome_alone_is_an_answer(snap: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(snap, "sysctl.txt").unlink()
    status, out, _ = run(capsys, "why", FLOW, "-S", snap, "--no-fixes")
    assert status == 0 and out.startswith("UNKNOWN")


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────


def test_files_that_cannot_be_read(snap: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        ("why", FLOW, "-S", str(tmp_path / "none")): "none",
        ("why", FLOW, "-S", str(Path(snap, "sysctl.txt"))): "not a snapshot",
        ("why", FLOW, "--iptables-save", str(tmp_path)): "directory",
        ("why", FLOW, "--iptables-save", str(tmp_path / "none")): "No such file",
        ("simulate", str(tmp_path), "-S", snap): "directory",
        ("simulate", str(tmp_path / "none"), "-S", snap): "No such file",
        ("why", FLOW, "-S", snap, "--sysctl", "/dev/zero"): "larger than",
        ("lab", "up", str(tmp_path / "none")): "none",
    }
    for arguments, words in cases.items():
        status, out, err = run(capsys, *arguments)
        assert (status, out) == (2, "") and words in err, (arguments, err)


def test_a_huge_file_is_refused_soon(snap: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Path(snap, "ipset.txt").open("wb") as huge:
        huge.truncate(1 << 40)
    status, out, err = run(capsys, "why", FLOW, "-S", snap)
    assert (status, out) == (2, "") and "ipset.txt" in err and "larger than" in err


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the user of a process")
def test_a_file_that_may_not_be_read(snap: str, tmp_path: Path) -> None:
    Path(snap, "ipset.txt").chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    code = f"from nattrace.tracer import cli; raise SystemExit(cli.run(['why', {FLOW!r}, '-S', {snap!r}]))"
    done = subprocess.run(as_nobody(sys.executable, "-c", code), capture_output=True, text=True, env=ENV, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "ipset.txt: may not be read" in done.stderr


@pytest.mark.parametrize("argument", [b"\xff\xfe", b"why\xff", b"-\xff"])
def test_arguments_that_are_not_utf8(snap: str, argument: bytes) -> None:
    for line in ([argument], [b"why", argument, b"-S", snap.encode()], [b"why", FLOW.encode(), b"-S", argument]):
        done = process(*line)
        assert (done.returncode, done.stdout) == (2, b"") and done.stderr, line
        assert b"Traceback" not in done.stderr and b"fault of nattrace" not in done.stderr


# ── pipes and signals ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("arguments", [["why", FLOW, "-v"], ["why", FLOW, "--json"], ["simulate"]])
def test_a_reader_that_goes_away(snap: str, arguments: list[str]) -> None:
    run = subprocess.Popen(
        [*PROGRAM, *arguments, "-S", snap],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENV,
    )
    assert run.stdin and run.stdout and run.stderr
    run.stdout.close()
    try:
        run.stdin.write(f"{PACKET}\n".encode() * 2000)
        run.stdin.close()
    except BrokenPipeError:
        pass
    assert run.stderr.read() == b""
    assert run.wait() == 141


@pytest.mark.parametrize("arguments", [["why", FLOW], ["why", FLOW, "--json"], ["--help"], ["explain"], ["schema"]])
def test_no_standard_output_at_all(snap: str, arguments: list[str]) -> None:
    more = ["-S", snap] if arguments[0] == "why" else []
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *PROGRAM, *arguments, *more], stderr=subprocess.PIPE, env=ENV, check=False
    )
    assert b"Traceback" not in done.stderr and b"fault of nattrace" not in done.stderr
    assert done.returncode in (0, 2)


def test_a_full_disk_is_said() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*PROGRAM, "schema"], stdout=full, stderr=subprocess.PIPE, env=ENV, check=False)
    assert done.returncode == 2
    assert b"No space left" in done.stderr and b"Traceback" not in done.stderr


def test_interrupted_is_130(snap: str) -> None:
    run = subprocess.Popen(
        [*PROGRAM, "simulate", "-S", snap, "-o", "/dev/stdout"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENV,
    )
    assert run.stdin and run.stdout and run.stderr
    run.stdin.write(f"{PACKET}\n".encode() * 200)
    run.stdin.flush()
    assert run.stdout.read(1)  # it is at work
    run.send_signal(signal.SIGINT)
    assert run.wait(timeout=20) == 130
    assert b"Traceback" not in run.stderr.read()


# ── simulate ─────────────────────────────────────────────────────────────────────────────────────────────


def test_bad_lines_are_numbered_and_the_run_goes_on(
    snap: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [PACKET, "{", "", "[1]", '{"dst": 5}', "\x00", '{"id": NaN, "dst": "8.8.8.8"}', "1" * 5000, "[" * 100_000, PACKET,
             '{"observed": [], "dst": "8.8.8.8"}', PACKET]  # fmt: skip
    (tmp_path / "p").write_text("\n".join(lines))
    status, out, err = run(capsys, "simulate", str(tmp_path / "p"), "-S", snap)
    assert status == 2 and len(out.splitlines()) == 3
    numbers = [
        int(line.split("line ")[1].split(":")[0]) for line in err.splitlines() if line.startswith("nattrace: line ")
    ]
    assert numbers == [2, 4, 5, 6, 7, 8, 9, 11]


def test_a_line_without_end_is_one_error(snap: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p").write_text(PACKET + "\n" + '{"dst": "' + "x" * (3 << 20) + "\n" + PACKET)
    status, out, err = run(capsys, "simulate", str(tmp_path / "p"), "-S", snap)
    assert status == 2 and len(out.splitlines()) == 2
    assert err.startswith("nattrace: line 2: longer than")


def test_all_lines_good_is_0_and_the_tables_are_written(
    snap: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p").write_text(PACKET + "\n")
    table = tmp_path / "table"
    assert run(capsys, "simulate", str(tmp_path / "p"), "-S", snap, "--conntrack-out", str(table))[0] == 0
    assert table.read_text().splitlines()[0] == "# host snap"
    assert "src=10.0.0.7 dst=10.0.0.1 type=8 code=0" in table.read_text()


def test_a_table_that_cannot_be_written_is_2(snap: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p").write_text(PACKET + "\n")
    status, _, err = run(
        capsys, "simulate", str(tmp_path / "p"), "-S", snap, "--conntrack-out", str(tmp_path / "no" / "x")
    )
    assert status == 2 and "No such file" in err


def test_rules_are_read_first_unless_lazy(snap: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(snap, "iptables-save.txt").write_text(
        "*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -p udp -j Gone\n-A OUTPUT -d 10.0.0.3/32 -j ACCEPT\nCOMMIT\n"
    )
    (tmp_path / "p").write_text(PACKET + "\n" + json.dumps({"dst": "10.0.0.3"}) + "\n")
    status, out, err = run(capsys, "simulate", str(tmp_path / "p"), "-S", snap)
    assert (status, out) == (2, "") and "iptables-save.txt:4: " in err
    status, out, err = run(capsys, "simulate", str(tmp_path / "p"), "-S", snap, "--lazy")
    assert status == 2 and len(out.splitlines()) == 1
    assert err.startswith("nattrace: line 1: iptables-save.txt:4: ")
