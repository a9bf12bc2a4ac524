"""Names, comments and prefixes from outside: escaped for people, unchanged but valid in JSON, never wider than the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nattrace.tracer import cli
from property.mutate import NETWORK

EVIL = {
    "colour": "\x1b[31mred", "title": "\x1b]0;owned\x07", "c1": "\x9b31m", "bidi": "\u202egnp.exe", "isolate": "\u2066x\u2069",
    "separator": "a\u2028b", "tab": "a\tb", "return": "a\rb", "zero width": "a\u200bb", "byte": "a\udcffb", "tag": "\U000e0041",
}  # fmt: skip
FLOW = "tcp 10.0.0.7:40001 -> 8.8.8.8:443 in eth0"


def rules(comment: str, prefix: str) -> bytes:
    text = (
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"
        f'-A FORWARD -m comment --comment "{comment}" -j LOG --log-prefix "{prefix}"\n'
        f'-A FORWARD -p udp -m comment --comment "{comment}" -j ACCEPT\n'
        f'-A FORWARD -m comment --comment "{comment}" -j DROP\nCOMMIT\n'
    )
    return text.encode("utf-8", "surrogateescape")


def snapshot(home: Path, host: str = "h", **files: bytes) -> str:
    held = NETWORK | {name.replace("__", ".").replace("_", "-"): text for name, text in files.items()}
    (home / host).mkdir(parents=True)
    for name, text in held.items():
        (home / host / name).write_bytes(text)
    return str(home)


def safe(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)
@pytest.mark.parametrize("options", [[], ["-v"], ["-q"]])
def test_comments_and_log_prefixes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], evil: str, options: list[str]
) -> None:
    top = snapshot(tmp_path, iptables_save__txt=rules(evil, evil[:20]))
    status = cli.run(["why", FLOW, "-S", top, *options])
    out, err = capsys.readouterr()
    assert status == 0 and out.startswith("DROPPED")
    assert safe(out) and safe(err)


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)
def test_json_stays_json_and_keeps_the_words(tmp_path: Path, capsys: pytest.CaptureFixture[str], evil: str) -> None:
    top = snapshot(tmp_path, iptables_save__txt=rules(evil, "p"))
    assert cli.run(["why", FLOW, "-S", top, "--json", "--no-fixes"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and out.isascii() and safe(out)
    texts = [s["text"] for hop in json.loads(out)["hops"] for s in hop["steps"] if s["text"]]
    wanted = evil.replace("\udcff", "\ufffd").replace("\t", "\t")
    assert any(wanted in text for text in texts)


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)
def test_errors_repeat_nothing_raw(tmp_path: Path, capsys: pytest.CaptureFixture[str], evil: str) -> None:
    bad = f"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT --{evil}\n-A INPUT -j {evil}\n{evil}\nCOMMIT\n"
    top = snapshot(tmp_path, iptables_save__txt=bad.encode("utf-8", "surrogateescape"),
                   sysctl__txt=f"{evil}\nnet.ipv4.ip_forward = {evil}\n".encode("utf-8", "surrogateescape"))  # fmt: skip
    for arguments in (["why", FLOW, "-S", top, "--strict"], ["why", FLOW + " " + evil, "-S", top], ["why", evil, "-S", evil], [evil],
                      ["explain", evil], ["why", FLOW, "-S", top, "--add", evil], ["why", FLOW, "--" + evil]):  # fmt: skip
        status = cli.run(arguments)
        out, err = capsys.readouterr()
        assert (status, out) == (2, "") and safe(err), arguments


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)
def test_a_bad_line_of_simulate_is_not_repeated_raw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], evil: str
) -> None:
    top = snapshot(tmp_path / "s")
    lines = [json.dumps({"in": "eth0", "src": "10.0.0.7", "dst": evil}), json.dumps({"host": evil}), json.dumps({evil: 1}),
             json.dumps({"in": evil, "src": "10.0.0.7", "dst": "8.8.8.8"}), json.dumps({"proto": evil, "dst": "8.8.8.8"}), evil]  # fmt: skip
    (tmp_path / "p").write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
    assert cli.run(["simulate", str(tmp_path / "p"), "-S", top]) == 2
    out, err = capsys.readouterr()
    assert out == "" and safe(err) and "line 1" in err


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("options", [[], ["-v"]])
def test_very_long_names_do_not_break_the_layout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, options: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    host = "very-long-host-name-" * 10
    chain = "A-CHAIN-WITH-A-LONG-NAME-28X"
    text = (
        f"*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:{chain} - [0:0]\n-A FORWARD -j {chain}\n"
        f'-A {chain} -p tcp -m comment --comment "{"word " * 50}" -m multiport --dports 443,1,2,3,4,5,6,7,8,9,10,11,12,13,14 -j DROP\nCOMMIT\n'
    )
    top = snapshot(tmp_path, host, iptables_save__txt=text.encode())
    assert cli.run(["why", FLOW, "-S", top, *options]) == 0
    commands = ("iptables", "FIX", "OR ", "NOT")  # commands are there to be pasted: they are never cut
    wide = [
        line
        for line in capsys.readouterr().out.splitlines()
        if len(line) > width and not line.strip().startswith(commands)
    ]
    assert wide == []
