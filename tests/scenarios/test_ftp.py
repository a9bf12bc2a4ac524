"""FTP through the address that does not exist: what is said inside the control connection, with a helper and without.

The two ends are played by the test, so that sequence numbers are known; vm02 is the stage's own.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from lab_support import Bench, kernel, lab
from nattrace.sim.engine.simulate import Simulator, injection_of, plain
from nattrace.sim.model.world import World

from ..differential.compare import conntrack_diff, match_finals
from ..differential.kernel import Final
from .predicted import world_of
from .stages import STAGES

CLIENT, NOBODY, SERVER, ROUTER = "192.168.100.1", "192.168.100.3", "192.168.200.3", "192.168.200.2"
HELPED, PLAIN = "nonexistent-address.ftp-helper", "nonexistent-address.masquerade"
PORT = b"PORT 192,168,100,1,156,64\r\n"  # 156 * 256 + 64 = 40000
PASV = b"227 Entering Passive Mode (192,168,200,3,19,137)\r\n"  # 19 * 256 + 137 = 5001


@dataclass
class Talk:
    """Both ends of a control connection as records; each end sees what vm02 makes of it."""

    at: dict[str, int] = field(default_factory=lambda: {"client": 1000, "server": 9000})

    def says(self, who: str, flags: str, text: bytes = b"") -> dict[str, Any]:
        other = "server" if who == "client" else "client"
        here = {"client": ("eth0", CLIENT, NOBODY, 40001, 21), "server": ("eth1", SERVER, ROUTER, 21, 40001)}[who]
        dev, src, dst, sport, dport = here
        record = {"host": "vm02", "in": dev, "proto": "tcp", "src": src, "dst": dst, "sport": sport, "dport": dport, "flags": flags,
                  "tcp_seq": self.at[who], "tcp_ack": self.at[other] if "A" in flags else 0, "window": 60000, "len": 40 + len(text),
                  "payload": text.hex(), "df": True, "ttl": 64}  # fmt: skip
        self.at[who] += len(text) + ("S" in flags)
        return record

    def opens(self) -> list[dict[str, Any]]:
        """Up to the log-in: the helper reads a line only when it has seen the end of the one before."""
        return [self.says("client", "S"), self.says("server", "SA"), self.says("client", "A"),
                self.says("server", "PA", b"220 ready\r\n"), self.says("client", "PA", b"USER ftp\r\n")]  # fmt: skip


def active() -> list[dict[str, Any]]:
    """The client announces 192.168.100.1:40000; the server connects to what it was told."""
    talk = Talk()
    return [*talk.opens(), talk.says("client", "PA", PORT)]


def passive() -> list[dict[str, Any]]:
    """The server announces 192.168.200.3:5001."""
    talk = Talk()
    return [*talk.opens(), talk.says("client", "PA", b"PASV\r\n"), talk.says("server", "PA", PASV)]


def data_connection(dev: str, src: str, dst: str, dport: int) -> dict[str, Any]:
    return {"host": "vm02", "in": dev, "proto": "tcp", "src": src, "dst": dst, "sport": 20, "dport": dport, "flags": "S", "len": 40,
            "tcp_seq": 77, "window": 60000}  # fmt: skip


CASES = [  # what is said, what arrives of the last line, the data connection that follows, how it goes on
    (HELPED, "active", b"PORT 192,168,200,2,156,64\r\n", ("eth1", SERVER, ROUTER, 40000), ("eth0", f"{NOBODY}:20 → {CLIENT}:40000")),
    (PLAIN, "active", PORT, ("eth1", SERVER, ROUTER, 40000), None),
    (HELPED, "passive", b"227 Entering Passive Mode (192,168,100,3,19,137)\r\n", ("eth0", CLIENT, NOBODY, 5001),
     ("eth1", f"{ROUTER}:20 → {SERVER}:5001")),
    (PLAIN, "passive", PASV, ("eth0", CLIENT, NOBODY, 5001), ("eth1", f"{ROUTER}:20 → {SERVER}:5001")),
]  # fmt: skip
NAMES = [f"{'with' if case[0] == HELPED else 'without'} the helper, {case[1]}" for case in CASES]


def records(mode: str, follow: tuple[str, str, str, int]) -> list[dict[str, Any]]:
    return [*(active() if mode == "active" else passive()), data_connection(*follow)]


def alone(stage: str) -> World:
    """vm02 of a stage with nobody around."""
    world = world_of(stage)
    return replace(world, hosts={"vm02": world.hosts["vm02"]}, segments=())


def ends(packet: dict[str, Any]) -> str:
    return f"{packet['src']}:{packet['sport']} → {packet['dst']}:{packet['dport']}"


@pytest.mark.parametrize(("stage", "mode", "line", "follow", "goes"), CASES, ids=NAMES)
def test_predicted(
    stage: str, mode: str, line: bytes, follow: tuple[str, str, str, int], goes: tuple[str, str] | None
) -> None:
    simulator = Simulator(alone(stage))
    *talk, data = [simulator.ask(injection_of(simulator.world, r)).main for r in records(mode, follow)]
    assert talk[-1].arrival[1].payload == line
    if goes is None:
        assert (data.outcome, data.at["host"]) == ("delivered", "vm02")
        return
    assert (data.outcome, data.at["interface"], ends(plain(data.packet, data.state))) == ("left", *goes)
    state = data.hops[0].conntrack["state"]
    assert state == ("RELATED" if stage == HELPED else "NEW")


@pytest.fixture(params=[HELPED, PLAIN])
def bench(request: pytest.FixtureRequest) -> Iterator[tuple[str, Bench]]:
    data = copy.deepcopy(STAGES[request.param].data)
    with lab({"hosts": {"vm02": data["hosts"]["vm02"]}}) as built:
        yield request.param, built


class TestOnTheKernel:
    pytestmark = kernel

    @pytest.mark.parametrize("mode", ["active", "passive"])
    def test_every_segment_goes_where_it_is_predicted_to_go(self, bench: tuple[str, Bench], mode: str) -> None:
        stage, built = bench
        _, _, line, follow, goes = next(case for case in CASES if case[:2] == (stage, mode))
        simulator = Simulator(alone(stage))
        last = b""
        for number, record in enumerate(records(mode, follow)):
            result = built.send({**record, "ip_id": 100 + number})
            answer = simulator.ask(injection_of(simulator.world, record))
            leaf = answer.main
            predicted = (
                [Final("out", "vm02", leaf.at["interface"], plain(leaf.packet, leaf.state), True)]
                if leaf.outcome == "left"
                else []
            )
            predicted += [
                Final("out", "vm02", (r.at or {})["interface"], plain(r.packet, leaf.state), True)
                for r in leaf.responses
            ]
            real = [Final("out", s.host, s.dev, s.packet, True) for s in result.left()]
            assert match_finals(predicted, real) == [], (number, record)
            last = result.left()[0].data[40:] if number == len(records(mode, follow)) - 2 else last
        assert last == line
        assert goes is None or (real[0].dev, ends(real[0].packet)) == goes
        assert conntrack_diff(built.conntrack("vm02"), simulator.conntrack("vm02"), simulator.state.known, 0.5) == []
