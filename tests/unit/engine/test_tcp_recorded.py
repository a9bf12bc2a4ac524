"""The TCP tracker against a real kernel: every segment of the recorded sessions gets the same state and timeout."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conntrack_lab import Lab, packet
from nattrace.sim.engine.conntrack import proto_state_name

RECORDED = Path(__file__).parents[2] / "data" / "conntrack" / "tcp-6.18.txt"
LINE = re.compile(r"^(?P<side>[cs]) (?P<fields>[^:]+): (?P<state>\w+)=1 \| *(?P<left>.*)$")
HANDSHAKE = ("c flags=S seq=1000", "s flags=SA seq=5000 ack=1001", "c flags=A seq=1001 ack=5001")
STEP_S = 0.02


def sections() -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for line in RECORDED.read_text().splitlines():
        if line.startswith("## "):
            found.append((line[3:], []))
        elif line and not line.startswith("#"):
            found[-1][1].append(line)
    return found


def segment(side: str, fields: str):  # type: ignore[no-untyped-def]
    values = dict(word.split("=", 1) for word in fields.split())
    ends = ("192.168.1.10:4000", "10.0.0.2:80")
    src, dst = ends if side == "c" else ends[::-1]
    return packet(
        "tcp",
        src,
        dst,
        values["flags"],
        tcp_seq=int(values.get("seq", 1000)),
        tcp_ack=int(values.get("ack", 0)),
        window=65000,
        data=values.get("data", "").encode(),
    )


def shown(lab: Lab) -> str:
    """As ``conntrack -L`` prints the one entry: seconds left, state, flags."""
    for conn in lab.conns():
        left = int((conn.timeout_at or 0) - lab.ws.now - 0.001)
        flags = "" if "SEEN_REPLY" in conn.status_names() else " [UNREPLIED]"
        flags += " [ASSURED]" if "ASSURED" in conn.status_names() else ""
        return f"{left} {proto_state_name(conn)}{flags}"
    return ""


@pytest.mark.parametrize(("name", "lines"), sections(), ids=[name for name, _ in sections()])
def test_every_segment_is_judged_as_the_kernel_judged_it(name: str, lines: list[str]) -> None:
    lab = Lab()
    if name.endswith("HS"):
        for line in HANDSHAKE:
            lab.send(segment(*line.split(" ", 1)), nat_on=False)
    for line in lines:
        match = LINE.match(line)
        assert match, line
        lab.ws.now += 2 if "retransmit" in name else STEP_S
        got = lab.send(segment(match["side"], match["fields"]), nat_on=False)
        expected = re.sub(r" *mark=\d+ use=\d+", "", match["left"]).strip()
        assert (got.state, shown(lab)) == (match["state"], expected), line


FIRST = {
    1: {"S": "NEW", "SA": "INVALID", "A": "NEW", "PA": "NEW", "FA": "INVALID", "F": "INVALID", "R": "INVALID",
        "RA": "INVALID", "SF": "INVALID", "SP": "NEW", "SE": "NEW", "AU": "NEW", "-": "INVALID"},
    0: {"S": "NEW", "SA": "INVALID", "A": "INVALID", "PA": "INVALID", "FA": "INVALID", "F": "INVALID", "R": "INVALID",
        "RA": "INVALID", "SF": "INVALID", "SP": "NEW", "SE": "NEW", "AU": "INVALID", "-": "INVALID"},
}  # fmt: skip


@pytest.mark.parametrize("loose", [0, 1])
@pytest.mark.parametrize("flags", list(FIRST[1]))
def test_which_first_segments_begin_a_connection(flags: str, loose: int) -> None:
    lab = Lab(sysctl={"tcp_loose": loose})
    got = lab.send(packet("tcp", "192.168.1.10:4000", "10.0.0.2:80", flags, tcp_ack=1), nat_on=False)
    assert got.state == FIRST[loose][flags]
    if got.state == "NEW":
        assert shown(lab) == ("119 SYN_SENT [UNREPLIED]" if "S" in flags else "299 ESTABLISHED [UNREPLIED]")
    else:
        assert not lab.conns()
