"""Stories from events: steps between taps, what changed, ends, copies; and what was not seen is never taken for absent."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from nattrace.sim.render.schema import SCHEMAS
from nattrace.sim.render.style import Style
from nattrace.tracer.live.event import EVENT, KIND, STATUS
from nattrace.tracer.live.group import group
from nattrace.tracer.live.plan import Chain
from nattrace.tracer.live.render.jsonl import event_line, story_line
from nattrace.tracer.live.render.pcapng import PcapngWriter
from nattrace.tracer.live.render.text import event_line as text_line
from nattrace.tracer.live.render.text import story_text
from nattrace.tracer.live.scene import ATTACHED, Scene, Tap
from nattrace.tracer.live.session import LOSS
from nattrace.tracer.live.story import Story, stories, story_of

ROUTER, SERVER = 4026532001, 4026532002
PRE, IN, FWD, OUT, POST = range(5)
LAST = 2**31 - 2


def chain(hook: int, prio: int, table: str, name: str, kind: str = "nft") -> Chain:
    return Chain(2, hook, prio, table, name, kind)


CONNTRACK = chain(PRE, -200, "", "conntrack", "kernel")
MANGLE = chain(PRE, -150, "mangle", "PREROUTING")
DNAT = chain(PRE, -100, "nat", "PREROUTING")
FILTER = chain(FWD, 0, "filter", "FORWARD")
SNAT = chain(POST, 100, "nat", "POSTROUTING")


def tap(hook: int, prio: int, after: Chain | None, before: Chain | None, state: str = ATTACHED) -> Tap:
    around = [() if c is None else (c,) for c in (after, before)]
    return Tap(
        ROUTER,
        2,
        hook,
        prio,
        prio if state == ATTACHED else None,
        state,
        *around,
        "" if state == ATTACHED else "no room",
    )


def scene(**more: Any) -> Scene:
    taps = [
        tap(PRE, -199, CONNTRACK, MANGLE), tap(PRE, -149, MANGLE, DNAT), tap(PRE, -99, DNAT, None),
        tap(FWD, -1, None, FILTER), tap(FWD, 1, FILTER, None), tap(POST, 101, SNAT, None), tap(IN, LAST, None, None),
    ]  # fmt: skip
    known = {
        "names": {ROUTER: "router", SERVER: "server"}, "taps": taps, "tracking": {ROUTER: True},
        "devices": {(ROUTER, 2): "eth0", (ROUTER, 3): "eth1", (SERVER, 7): "eth0"},
        "reasons": {12: "SKB_DROP_REASON_NETFILTER_DROP", 3: "SKB_DROP_REASON_NO_SOCKET", 2: "SKB_DROP_REASON_NOT_SPECIFIED"},
        "streams": ("tap", "rx", "tx", "drop", "icmp_send", "fib"), "symbols": {77: "nft_do_chain+0x3e8", 78: "neigh_invalidate+0x1"},
    }  # fmt: skip
    return Scene(**(known | more))


class Packet:
    """A datagram on its way through the router, event by event."""

    def __init__(self, skb: int = 0x1000, ident: int = 1) -> None:
        self.rows: list[dict[str, Any]] = []
        self.state: dict[str, Any] = {
            "skb": skb,
            "head": skb + 1,
            "netns": ROUTER,
            "pf": 2,
            "ttl": 64,
            "len": 60,
            "ipid": ident,
            "uid": 2**32 - 1,
        }
        self.ends = ["10.0.0.2", 4000, "10.0.0.1", 53]
        self.now = 1_000_000

    def add(self, kind: KIND, **more: Any) -> Packet:
        self.now += 1000
        self.rows.append(
            {"kind": kind, "ts": self.now, "hook": 255, "seq": len(self.rows), "ends": tuple(self.ends)}
            | self.state
            | more
        )
        return self

    def tap(self, hook: int, prio: int, **more: Any) -> Packet:
        return self.add(KIND.tap, hook=hook, prio=prio, indev=2, outdev=3 if hook in (FWD, POST) else 0, **more)

    def tracked(self, status: int = 0, ctinfo: int = 2) -> None:
        self.state |= {"ct": 0x9000, "ctinfo": ctinfo, "status": status}

    def through_prerouting(self) -> Packet:
        self.add(KIND.rx, indev=2)
        self.tracked()
        self.tap(PRE, -199)
        self.state["mark"] = 7
        self.tap(PRE, -149)
        self.state["status"] = STATUS.DST_NAT | STATUS.DST_NAT_DONE
        self.ends[2:] = ["10.9.0.9", 5353]
        return self.tap(PRE, -99)

    def forwarded(self) -> Packet:
        self.through_prerouting()
        self.add(KIND.fib, table=254, outdev=3, aux=int.from_bytes(socket.inet_aton("10.1.0.1"), "little"))
        self.state["ttl"] = 63
        self.tap(FWD, -1).tap(FWD, 1)
        self.state["status"] |= STATUS.SRC_NAT | STATUS.SRC_NAT_DONE
        self.ends[:2] = ["10.1.0.2", 4000]
        self.tap(POST, 101)
        self.state["status"] |= STATUS.CONFIRMED
        return self.add(KIND.tx, outdev=3, len=74)

    def events(self, without: set[int] = frozenset()) -> np.ndarray:
        found = np.zeros(len(self.rows), EVENT)
        for row, values in zip(found, self.rows, strict=True):
            src, sport, dst, dport = values["ends"]
            for name, value in values.items():
                if name != "ends":
                    row[name] = value
            for side, (a, p) in (("t", ((src, sport), (dst, dport))), ("o", (("10.0.0.2", 4000), ("10.0.0.1", 53))), ("r", (("10.9.0.9", 5353), ("10.1.0.2", 4000)))):  # fmt: skip
                row[side]["s"][:4], row[side]["sport"] = list(socket.inet_aton(a[0])), a[1]
                row[side]["d"][:4], row[side]["dport"] = list(socket.inet_aton(p[0])), p[1]
                row[side]["l3num"], row[side]["proto"] = 2, 17
        return found[[i for i in range(len(found)) if i not in without]]


def steps(story: Story, hop: int = 0) -> list[tuple[Any, ...]]:
    return [(s.hook, s.stage, s.changes, s.conntrack) for s in story.hops[hop].steps]


def test_a_forwarded_packet_step_by_step() -> None:
    story = story_of(Packet().forwarded().events(), scene())
    assert steps(story) == [
        ("PREROUTING", "conntrack", {}, "NEW zone 0"),
        ("PREROUTING", "mangle", {"mark": (0, 7)}, None),
        ("PREROUTING", "nat", {"dst": ("10.0.0.1", "10.9.0.9"), "dport": (53, 5353)}, None),
        (None, "routing", {}, None),
        (None, "forward", {"ttl": (64, 63)}, None),
        ("FORWARD", "filter", {}, None),
        ("POSTROUTING", "nat", {"src": ("10.0.0.2", "10.1.0.2")}, None),
        ("POSTROUTING", "confirm", {}, None),
    ]
    hop = story.hops[0]
    assert (hop.host, hop.in_dev, hop.out_dev, story.end.outcome) == ("router", "eth0", "eth1", "left")
    assert hop.steps[3].text == "table main: via 10.1.0.1 dev eth1" and hop.steps[3].table == "main"
    assert hop.before["dst"] == "10.0.0.1" and hop.after["src"] == "10.1.0.2" and hop.after["len"] == 60
    assert hop.conntrack is not None and hop.conntrack["status"] == [
        "CONFIRMED",
        "SRC_NAT",
        "DST_NAT",
        "SRC_NAT_DONE",
        "DST_NAT_DONE",
    ]
    assert story.incomplete == [] and [c["way"] for c in story.captures] == ["in", "out"]
    assert len(story.times[0]) == len(hop.steps)


@pytest.mark.parametrize("lost", range(1, 7))
def test_a_tap_that_was_passed_unseen_is_owed(lost: int) -> None:
    """Any tap lost: the story says so, and the change is told with the chains that may have made it."""
    events = Packet().forwarded().events({lost if lost < 4 else lost + 1})
    story = story_of(events, scene())
    assert any("was passed, but not seen" in text for text in story.incomplete), story.incomplete
    assert {k for s in story.hops[0].steps for k in s.changes} == {"mark", "dst", "dport", "ttl", "src"}


def test_a_place_that_cannot_be_observed_is_named() -> None:
    taps = [t if (t.hook, t.wanted) != (PRE, -149) else tap(PRE, -149, MANGLE, DNAT, "taken") for t in scene().taps]
    story = story_of(Packet().forwarded().events({2}), scene(taps=taps))
    assert story.incomplete == ["router: PREROUTING at priority -149 can't be observed (no room)"]
    changed = [(s.stage, set(s.changes)) for s in story.hops[0].steps if s.changes]
    assert changed[:2] == [
        ("mangle", {"mark"}),
        ("nat", {"dst", "dport"}),
    ]  # both in one: shared out by what each can do


def test_a_drop_between_two_taps_names_the_chain() -> None:
    packet = Packet().through_prerouting()
    packet.state["ttl"] = 63
    story = story_of(packet.tap(FWD, -1).add(KIND.drop, indev=2, reason=12, aux=77).events(), scene())
    last = story.hops[0].steps[-1]
    assert (last.hook, last.stage, last.table, last.chain, last.verdict) == (
        "FORWARD",
        "filter",
        "filter",
        "FORWARD",
        "DROP",
    )
    assert (story.end.outcome, story.end.drop, story.end.reason.code) == (
        "dropped",
        "SKB_DROP_REASON_NETFILTER_DROP",
        "dropped_by_rule",
    )
    assert story.end.place == "nft_do_chain+0x3e8" and not story.incomplete


def test_an_answer_makes_a_drop_unreachable_or_rejected() -> None:
    for reason, outcome in ((12, "rejected"), (2, "unreachable")):
        packet = Packet().through_prerouting().add(KIND.icmp_send, indev=2, reason=3 << 8 | 1)
        story = story_of(packet.add(KIND.drop, indev=2, reason=reason, aux=78).events(), scene())
        assert (story.end.outcome, [(r.kind, r.type, r.code) for r in story.responses]) == (outcome, [("icmp", 3, 1)])


def test_the_place_tells_where_the_kernel_gives_no_reason() -> None:
    story = story_of(Packet().forwarded().add(KIND.drop, reason=2, aux=78).events(), scene())
    assert (story.end.reason.code, story.end.drop) == ("neighbour_failed", "SKB_DROP_REASON_NOT_SPECIFIED")


def test_delivered_is_said_only_where_drops_would_have_been_seen() -> None:
    packet = Packet().through_prerouting().tap(IN, LAST)
    assert story_of(packet.events(), scene()).end.outcome == "delivered"
    assert story_of(packet.events(), scene(streams=("tap",))).end.outcome is None
    assert story_of(packet.events(), scene(), lost=True).end.outcome is None


def test_a_packet_that_is_not_seen_further_is_neither_dropped_nor_sent() -> None:
    story = story_of(Packet().through_prerouting().events(), scene())
    assert story.end.outcome is None and "last seen at PREROUTING -99" in story.end.reason.text
    assert story.incomplete == ["router: the packet after PREROUTING -99"]


def test_the_next_namespace_is_the_next_hop() -> None:
    packet = Packet().forwarded()
    packet.state |= {"netns": SERVER, "ct": 0, "ctinfo": 0, "status": 0, "mark": 0}
    packet.add(KIND.rx, indev=7).add(KIND.drop, indev=7, reason=3)
    story = story_of(packet.events(), scene())
    assert [(h.host, h.in_dev) for h in story.hops] == [("router", "eth0"), ("server", "eth0")]
    assert (story.end.outcome, story.end.at["host"], story.end.reason.code) == ("delivered", "server", "no_listener")


def test_losses_touch_only_the_packets_near_them() -> None:
    near, far = Packet(0x1000, 1).forwarded(), Packet(0x2000, 2)
    far.now = near.now + 10_000_000
    events = np.concatenate([near.events({2}), far.forwarded().events()])
    losses = np.zeros(1, LOSS)
    losses["skb"], losses["ts"], losses["kind"] = 0x1000, near.rows[2]["ts"], KIND.tap
    found = stories(events, group(events, losses), scene())
    assert [any("lost" in text for text in s.incomplete) for s in found] == [True, False]
    assert [s.number for s in found] == [1, 2]


def test_every_form_tells_the_same_and_is_valid(tmp_path: Path) -> None:
    told = scene()
    story = story_of(Packet().forwarded().events(), told, 1)
    validator = Draft202012Validator(SCHEMAS["trace"]())
    validator.validate(story_line(story, None))
    for event in story.events:
        validator.validate(event_line(event, told, 1))
    text = story_text(story, None, 80, Style(), verbose=True)
    assert "dst 10.0.0.1 → 10.9.0.9" in text and all(len(line) <= 80 for line in text.splitlines())
    file = tmp_path / "t.pcapng"
    with file.open("wb") as out:
        PcapngWriter(out, told, 0).story(story, "leaves")
    words = [
        "tshark",
        "-r",
        str(file),
        "-T",
        "fields",
        "-e",
        "ip.dst",
        "-e",
        "udp.dstport",
        "-e",
        "ip.checksum.status",
        "-e",
        "frame.comment",
    ]
    lines = subprocess.run(
        [*words, "-o", "ip.check_checksum:TRUE"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    rows = [line.split("\t") for line in lines]
    assert [r[0] for r in rows] == ["10.0.0.1"] * 3 + ["10.9.0.9"] * 5 and {r[2] for r in rows} == {"1"}
    assert rows[2][3] == "#1 router: PREROUTING after mangle (-149); mark 0 → 7" and rows[-1][3].endswith("| leaves")


def test_a_scene_outlives_its_session() -> None:
    again = Scene.from_json(scene().to_json())
    assert (again.taps, again.devices, again.reasons) == (scene().taps, scene().devices, scene().reasons)
    events = Packet().forwarded().events()
    assert story_of(events, again).hops == story_of(events, scene()).hops
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        Scene.from_json({"names": []})


def test_text_from_outside_is_harmless() -> None:
    told = scene(
        names={ROUTER: "rou\x1b[31mter", SERVER: "server"}, devices={(ROUTER, 2): "e\x1b[2J", (ROUTER, 3): "e\nx"}
    )
    story = story_of(Packet().forwarded().events(), told, 1)
    text = story_text(story, None, 80, Style(), verbose=True)
    assert "\x1b" not in text and "\x1b" not in story_text(story, None, 80, Style(), quiet=True)
    for event in story.events:
        assert text_line(event, told, 0, 1).isprintable()
