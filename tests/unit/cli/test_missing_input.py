"""What the snapshot lacks: the kernel's default stands in and is said; what it could change is answered both ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nattrace.tracer import cli
from property.mutate import NETWORK

OUTWARD = "tcp 10.0.0.7:40001 -> 8.8.8.8:443 in eth0"
Why = Callable[..., dict[str, Any]]


@pytest.fixture
def why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Why:
    """The answer to a flow in a network of one router, some of its files left out or replaced."""

    def ask(flow: str, *options: str, without: tuple[str, ...] = (), **files: bytes) -> dict[str, Any]:
        home = tmp_path / "h"
        home.mkdir()
        held = {n: t for n, t in NETWORK.items() if n.partition(".")[0] not in without}
        held |= {name.replace("__", ".").replace("_", "-"): text for name, text in files.items()}
        for name, text in held.items():
            (home / name).write_bytes(text)
        status = cli.run(["why", flow, "-S", str(home), "--json", "--no-fixes", *options])
        out, err = capsys.readouterr()
        assert (status, err) == (0, "")
        return dict(json.loads(out))

    return ask


def said(answer: dict[str, Any], *words: str) -> bool:
    return any(all(word in text for word in words) for text in answer["assumptions"])


def test_with_everything_there_the_answer_is_exact(why: Why) -> None:
    answer = why(OUTWARD)
    assert (answer["outcome"], answer["certainty"], answer["packet"]["src"]) == ("left", "exact", "192.0.2.1")


@pytest.mark.parametrize("sysctl", [None, b"net.ipv4.conf.all.rp_filter = 0\nnet.ipv4.conf.eth0.rp_filter = 0\n"])
def test_a_missing_sysctl_that_decides_is_answered_both_ways(why: Why, sysctl: bytes | None) -> None:
    answer = why(OUTWARD, **({"sysctl__txt": sysctl} if sysctl else {}), without=("sysctl",))
    assert (answer["outcome"], answer["certainty"]) == (None, "unknown")
    assert {o["outcome"] for o in answer["outcomes"]} == {"dropped", "left"}
    assert all(o["probability"] is None for o in answer["outcomes"])
    assert answer["reason"]["code"] == "missing_input"
    assert "ip_forward" in answer["reason"]["text"] and "sysctl.txt" in answer["reason"]["where"]
    assert said(answer, "ip_forward = 0", "kernel's default")


def test_a_missing_sysctl_that_does_not_decide_is_only_listed(why: Why) -> None:
    answer = why("tcp 10.0.0.7:1 -> 10.0.0.1:22 in eth0", without=("sysctl",))
    assert (answer["outcome"], answer["certainty"]) == ("delivered", "exact")
    assert said(answer, "rp_filter = 0", "kernel's default")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("iptables-save", "no iptables-save.txt"), ("conntrack", "no conntrack.txt"), ("rule", "no rule.json"),
        ("addr", "no addr.json"), ("route", "no route.json"),
    ],
)  # fmt: skip
def test_a_missing_dump_is_an_assumption(why: Why, kind: str, words: str) -> None:
    answer = why(OUTWARD, without=(kind,))
    assert answer["outcome"] == "left" and said(answer, words)


def test_links_are_read_from_addr_json_where_link_json_is_missing(why: Why) -> None:
    assert why(OUTWARD, without=("link",))["outcome"] == "left"


def test_without_sockets_somebody_listens(why: Why) -> None:
    answer = why("tcp 10.0.0.7:1 -> 10.0.0.1:99 in eth0", without=("sockets",))
    assert answer["outcome"] == "delivered" and answer["reason"]["code"] == "delivered_local"
    assert said(answer, "no sockets.txt")


def test_with_sockets_nobody_listens(why: Why) -> None:
    assert why("tcp 10.0.0.7:1 -> 10.0.0.1:99 in eth0")["reason"]["code"] == "no_listener"


SET = b"*filter\n:INPUT ACCEPT [0:0]\n:FORWARD %s [0:0]\n:OUTPUT ACCEPT [0:0]\n-A FORWARD -m set --match-set n src -j ACCEPT\nCOMMIT\n"


def test_a_missing_set_that_decides_is_answered_both_ways(why: Why) -> None:
    answer = why(OUTWARD, without=("ipset",), iptables_save__txt=SET % b"DROP")
    assert answer["certainty"] == "unknown" and {o["outcome"] for o in answer["outcomes"]} == {"dropped", "left"}
    assert "ipset.txt" in answer["reason"]["text"]


def test_a_missing_set_that_does_not_decide_is_listed(why: Why) -> None:
    answer = why(OUTWARD, without=("ipset",), iptables_save__txt=SET % b"ACCEPT")
    assert answer["certainty"] == "exact" and said(answer, "ipset.txt", "makes no difference")


def nft(policy: str) -> bytes:
    chain = {"family": "ip", "table": "filter", "name": "FORWARD", "handle": 1, "type": "filter", "hook": "forward", "prio": 0,
             "policy": policy}  # fmt: skip
    rule = {"family": "ip", "table": "filter", "chain": "FORWARD", "handle": 3,
            "expr": [{"xt": {"type": "match", "name": "conntrack"}}, {"accept": None}]}  # fmt: skip
    return json.dumps(
        {"nftables": [{"table": {"family": "ip", "name": "filter", "handle": 1}}, {"chain": chain}, {"rule": rule}]}
    ).encode()


def test_rules_that_only_nft_shows_are_unknown_and_the_missing_file_is_named(why: Why) -> None:
    answer = why(OUTWARD, without=("iptables-save",), nft__json=nft("drop"))
    assert answer["certainty"] == "unknown" and "iptables-save.txt" in answer["reason"]["text"]
    assert {o["outcome"] for o in answer["outcomes"]} == {"dropped", "left"}


def test_rules_of_iptables_seen_by_nft_too_are_evaluated_once(why: Why) -> None:
    answer = why(OUTWARD, nft__json=nft("drop"))
    assert (answer["outcome"], answer["certainty"]) == ("left", "exact")


# ── rules alone ──────────────────────────────────────────────────────────────────────────────────────────

RULES = NETWORK["iptables-save.txt"]


@pytest.fixture
def save(tmp_path: Path) -> str:
    file = tmp_path / "save"
    file.write_bytes(RULES)
    return str(file)


def test_rules_alone_are_enough_for_why(save: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["why", "tcp 8.8.8.8:5 -> 192.0.2.1:80 in eth1", "--iptables-save", save, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["outcome"], answer["packet"]["dst"], answer["packet"]["dport"]) == ("left", "10.0.0.7", 8080)
    for words in ("no link.json", "no addr.json", "no route.json", "forwarding is taken to be on"):
        assert said(answer, words)


def test_rules_and_addresses_are_enough(save: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").write_bytes(NETWORK["addr.json"])
    assert cli.run(["why", OUTWARD, "--iptables-save", save, "--addr", str(tmp_path / "a"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["outcome"], answer["packet"]["src"], answer["at"]["interface"]) == ("left", "192.0.2.1", "eth1")
    assert said(answer, "no route.json")


def test_rules_alone_are_enough_for_simulate(save: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packets = [
        {"in": "eth0", "proto": "tcp", "src": "10.0.0.7", "dst": "8.8.8.8", "sport": 40001, "dport": 443},
        {
            "in": "eth1",
            "proto": "tcp",
            "src": "8.8.8.8",
            "dst": "192.0.2.1",
            "sport": 443,
            "dport": 40001,
            "flags": "SA",
        },
        {"in": "eth9", "src": "1.2.3.4", "dst": "8.8.8.8"},
    ]
    (tmp_path / "p").write_text("\n".join(map(json.dumps, packets)))
    assert cli.run(["simulate", str(tmp_path / "p"), "--iptables-save", save]) == 0
    first, second, third = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["outcome"], first["at"]["interface"], first["packet"]["src"]) == ("left", "eth1", "192.0.2.1")
    assert (second["outcome"], second["at"]["interface"], second["packet"]["dst"]) == ("left", "eth0", "10.0.0.7")
    assert said(first, "no link.json") and said(third, "eth9")


# ── rules that nobody reads ──────────────────────────────────────────────────────────────────────────────

FAR = b"""*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:far - [0:0]
-A FORWARD -d 1.2.3.4/32 -j far
-A far -p tcp -m tcp --dport 80:70:60 -j ACCEPT
-A INPUT -j Missing
-A OUTPUT -g far
COMMIT
"""


def test_why_says_how_many_rules_it_did_not_read(why: Why) -> None:
    assert why(OUTWARD, iptables_save__txt=FAR)["unread_rules"] == 3


def test_strict_reads_all_and_reports_every_bad_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "f").write_bytes(FAR)
    assert cli.run(["why", OUTWARD, "--iptables-save", str(tmp_path / "f"), "--strict"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "f:7: " in err and "f:8: " in err and "Missing" in err


@pytest.mark.parametrize(
    ("flow", "line"), [("tcp 10.0.0.7:1 -> 1.2.3.4:80 in eth0", 7), ("tcp 10.0.0.7:1 -> 192.0.2.77:80 in eth0", None)]
)
def test_a_bad_rule_is_an_error_where_the_packet_meets_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flow: str, line: int | None
) -> None:
    (tmp_path / "f").write_bytes(FAR)
    assert cli.run(["why", flow, "--iptables-save", str(tmp_path / "f"), "-q"]) == (2 if line else 0)
    err = capsys.readouterr().err
    assert not line or f"f:{line}: " in err


CIRCLE = b"*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]\n-A FORWARD -j A\n-A A -%s B\n-A B -j A\nCOMMIT\n"


@pytest.mark.parametrize("how", [b"j", b"g"])
@pytest.mark.parametrize("command", [["why", OUTWARD], ["why", OUTWARD, "--strict"]])
def test_chains_in_a_circle_are_an_error_of_the_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: bytes, command: list[str]
) -> None:
    (tmp_path / "f").write_bytes(CIRCLE % how)
    assert cli.run([*command, "--iptables-save", str(tmp_path / "f")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "f:" in err and "circle: A → B → A" in err
