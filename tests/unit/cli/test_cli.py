"""The command line: exit status, standard output against standard error, JSON against its schema, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from nattrace.sim.render.schema import SCHEMAS
from nattrace.sim.snapshot.load import bundled_names
from nattrace.tracer import cli

PING = "icmp 10.10.1.1 -> 8.8.8.8 at client"
SNAP = ["-S", "twice-through-conntrack"]
ENV = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}


def process(*arguments: str, text: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """The program as a process of its own."""
    code = "from nattrace.tracer.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, input=text, env=ENV | env, check=False
    )


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.run(list(arguments))
    out, err = capsys.readouterr()
    return status, out, err


def valid(name: str, document: object) -> None:
    Draft202012Validator(SCHEMAS[name]()).validate(document)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name]())


def test_why_prints_the_verdict_first(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "why", PING, *SNAP)
    assert (status, err) == (0, "")
    assert out.startswith("NOT TRANSLATED: leaves host by enp4s0 as 10.10.1.1 → 8.8.8.8")
    assert "[nat_decided_earlier]" in out


def test_quiet_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "why", PING, *SNAP, "-q")
    assert out.count("\n") == 1


def test_a_flow_need_not_be_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "why", "icmp", "10.10.1.1", "->", "8.8.8.8", "at", "client", *SNAP, "-q")
    assert status == 0 and "nat_decided_earlier" in out


@pytest.mark.parametrize("width", ["80", "100", "132"])
@pytest.mark.parametrize("verbose", [[], ["-v"]])
def test_nothing_but_commands_is_wider_than_the_terminal(width: str, verbose: list[str]) -> None:
    lines = process("why", PING, *SNAP, *verbose, COLUMNS=width).stdout.splitlines()
    wide = [line for line in lines if len(line) > int(width) and "iptables" not in line]
    assert wide == []


def test_no_colour_without_a_terminal() -> None:
    assert "\x1b" not in process("why", PING, *SNAP).stdout


FLOWS = {
    "nonexistent-address": "tcp 192.168.100.1 -> 192.168.100.3:22 at vm01",
    "per-user-source": "8.8.8.8 uid userB at host",
    "private-namespace": "114.114.114.114 at private",
    "twice-through-conntrack": PING,
    "two-uplinks": "203.0.113.9 at ec2b",
}


@pytest.mark.parametrize("name", bundled_names())
def test_why_json_follows_its_schema_on_every_bundled_snapshot(capsys: pytest.CaptureFixture[str], name: str) -> None:
    flow = FLOWS.get(name.split(".")[0], "8.8.8.8")
    status, out, err = run(capsys, "why", flow, "-S", name, "--json", "--sample", "4")
    assert (status, err) == (0, "")
    valid("why", json.loads(out))


def test_what_if_stands_next_to_the_unchanged_answer(capsys: pytest.CaptureFixture[str]) -> None:
    rule = "iptables -t raw -A PREROUTING -i proxy-veth0 -s 10.10.1.0/24 -j CT --zone-orig 2 at host"
    status, out, _ = run(capsys, "why", PING, *SNAP, "--add", rule)
    assert status == 0
    assert out.startswith("LEAVES") and "BEFORE" in out and "NOT TRANSLATED" in out
    status, out, _ = run(capsys, "why", PING, *SNAP, "--add", rule, "--json")
    document = json.loads(out)
    valid("why", document)
    assert document["before"]["diagnosis"][0]["code"] == "nat_decided_earlier"


@pytest.mark.parametrize(("what", "status"), [("delivered", 1), ("left", 0), ("rule nat:POSTROUTING:1", 1)])
def test_expect_sets_the_status(capsys: pytest.CaptureFixture[str], what: str, status: int) -> None:
    assert run(capsys, "why", PING, *SNAP, "--expect", what)[0] == status


@pytest.mark.parametrize(
    "arguments",
    [
        ["why", "foo bar baz", *SNAP],
        ["why", "8.8.8.8", *SNAP],
        ["why", PING, "-S", "no-such-snapshot"],
        ["why", PING, *SNAP, "--nonsense"],
        ["why"],
        ["nosuch"],
        ["explain", "no_such_code"],
        ["schema", "nosuch"],
        ["why", PING, *SNAP, "--add", "iptables -A NOWHERE -j ACCEPT"],
        ["why", PING, *SNAP, "--route", "default via"],
        ["why", PING, *SNAP, "--expect", "happiness"],
        ["simulate", "/no/such/file", *SNAP],
        ["lab", "down", "no-such-lab"],
    ],
    ids=lambda a: " ".join(a)[:50],
)
def test_bad_input_is_status_2_with_words_on_standard_error(arguments: list[str]) -> None:
    done = process(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip() and "Traceback" not in done.stderr


def test_simulate_goes_on_after_a_bad_line_and_ends_with_2() -> None:
    good = {"id": 1, "host": "client", "in": None, "proto": "icmp", "src": None, "dst": "8.8.8.8"}
    lines = [json.dumps(good), "{nonsense", json.dumps(good | {"host": "mars"}), json.dumps(good | {"id": 2})]
    done = process("simulate", *SNAP, "--replies", text="\n".join(lines))
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 2
    assert [r["id"] for r in results] == [1, 2]
    assert "line 2" in done.stderr and "line 3" in done.stderr
    for result in results:
        valid("simulate", result)


def test_simulate_writes_the_conntrack_tables(tmp_path: Path) -> None:
    record = {"host": "client", "proto": "udp", "src": None, "dst": "8.8.8.8", "sport": 4000, "dport": 53}
    out = tmp_path / "conntrack.txt"
    done = process(
        "simulate", "-S", "twice-through-conntrack.zones", "--conntrack-out", str(out), text=json.dumps(record)
    )
    assert done.returncode == 0
    assert "# host proxy" in out.read_text()
    text = out.read_text().split("# host host\n")[1].split("#")[0]
    assert (
        "udp      17 30 src=10.10.1.1 dst=8.8.8.8 sport=4000 dport=53 [UNREPLIED] src=8.8.8.8 dst=172.16.202.30 sport=53 dport=4000"
        in text
    )
    assert "zone=1" in text


def test_the_conntrack_output_can_be_read_again(tmp_path: Path) -> None:
    record = {"host": "client", "proto": "tcp", "src": None, "dst": "8.8.8.8", "sport": 4000, "dport": 53}
    out = tmp_path / "conntrack.txt"
    assert (
        process(
            "simulate", "-S", "twice-through-conntrack.zones", "--conntrack-out", str(out), text=json.dumps(record)
        ).returncode
        == 0
    )
    entries = out.read_text().split("# host host\n")[1].split("#")[0]
    (tmp_path / "again.txt").write_text(entries)
    done = process(
        "why", "tcp 10.0.0.1:4000 -> 8.8.8.8:53 in eth0", "--conntrack", str(tmp_path / "again.txt"), "--json"
    )
    assert done.returncode == 0, done.stderr


def test_doctor_and_explain_and_schema_speak_json(capsys: pytest.CaptureFixture[str]) -> None:
    for name, arguments in (
        ("doctor", ["doctor", "--json"]),
        ("reasons", ["explain", "rp_filter", "--json"]),
        ("reasons", ["schema", "--reasons"]),
    ):
        status, out, err = run(capsys, *arguments)
        assert (status, err) == (0, "")
        valid(name, json.loads(out))


def test_every_diagnosis_code_can_be_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for code in (
        "nat_decided_earlier",
        "ip_forward_disabled",
        "private_source_leaves",
        "reply_bypasses_nat",
        "left_at_edge",
    ):
        status, out, _ = run(capsys, "explain", code)
        assert status == 0 and out.startswith(code)


def test_help_names_every_command_and_imports_none() -> None:
    script = "import sys\nfrom nattrace.tracer import cli\ncli.run(['--help'])\nprint([m for m in sys.modules if m.startswith('nattrace.sim')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENV, check=True)
    for name in cli.COMMANDS:
        assert f"  {name} " in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_why_imports_nothing_heavy() -> None:
    script = f"import sys\nfrom nattrace.tracer import cli\ncli.run({['why', PING, *SNAP]!r})\nprint(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENV, check=True)
    for heavy in ("rich", "numpy", "pandas", "scapy", "pyroute2", "jsonschema", "asyncio"):
        assert f"'{heavy}'" not in done.stderr, heavy


def test_text_from_outside_never_reaches_the_terminal_raw(tmp_path: Path) -> None:
    (tmp_path / "iptables-save.txt").write_text(
        '*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m comment --comment "evil \x1b[31m" -j DROP\nCOMMIT\n'
    )
    done = process("why", "tcp 10.0.0.2:1 -> 10.0.0.1:80 in eth0", "-S", str(tmp_path))
    assert done.returncode in (0, 2)
    assert "\x1b" not in done.stdout + done.stderr


def test_a_closed_pipe_is_quiet() -> None:
    code = "from nattrace.tracer.cli import main; main()"
    first = subprocess.Popen(
        [sys.executable, "-c", code, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV
    )
    assert first.stdout is not None and first.stderr is not None
    first.stdout.close()
    err = first.stderr.read()
    first.wait()
    assert b"Traceback" not in err and b"Broken" not in err


def test_the_script_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "snapshot", "--script")
    assert status == 0 and out.startswith("#!")
