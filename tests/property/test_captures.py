"""Damaged capture files give packets or a message, never a traceback, and end soon."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from nattrace.sim.errors import InputError
from nattrace.sim.snapshot.load import load_world
from nattrace.sim.what.story import stories, story_json
from nattrace.tracer.lab.packets import build
from nattrace.tracer.pcap import Place, read_capture, sightings

ETHERNET = bytes.fromhex("020000000001020000000002") + b"\x08\x00"
RECORDS = [
    {"proto": "tcp", "src": "1.1.1.2", "dst": "9.9.9.9", "sport": 4000, "dport": 80, "flags": "S", "mss": 1460},
    {"proto": "udp", "src": "1.1.1.2", "dst": "9.9.9.9", "sport": 4000, "dport": 53, "payload": "00ff"},
    {"proto": "icmp", "src": "9.9.9.9", "dst": "192.168.38.116", "type": 3, "code": 1,
     "inner": {"proto": "udp", "src": "192.168.38.116", "dst": "9.9.9.9", "sport": 4000, "dport": 53}},
    {"proto": "47", "src": "1.1.1.2", "dst": "9.9.9.9"},
]  # fmt: skip


def pcap(frames: list[bytes]) -> bytes:
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    return head + b"".join(struct.pack("<IIII", n, 0, len(f), len(f)) + f for n, f in enumerate(frames))


def pcapng(frames: list[bytes]) -> bytes:
    def block(kind: int, body: bytes) -> bytes:
        body += b"\0" * (-len(body) % 4)
        size = len(body) + 12
        return struct.pack("<II", kind, size) + body + struct.pack("<I", size)

    name = struct.pack("<HH", 2, 5) + b"veth0\0\0\0" + struct.pack("<HH", 0, 0)
    out = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)) + block(
        1, struct.pack("<HHI", 1, 0, 65535) + name
    )
    for n, f in enumerate(frames):
        body = struct.pack("<IIIII", 0, 0, n, len(f), len(f)) + f + b"\0" * (-len(f) % 4)
        out += block(6, body + struct.pack("<HHIHH", 2, 4, 1, 0, 0))
    return out


FRAMES = [ETHERNET + build(r) for r in RECORDS]
FORMS = {"pcap": pcap(FRAMES), "pcapng": pcapng(FRAMES)}


def mutated(data: bytes, rnd: random.Random) -> bytes:
    body = bytearray(data)
    for _ in range(rnd.choice((1, 1, 2, 8))):
        kind = rnd.randrange(4)
        at = rnd.randrange(len(body)) if body else 0
        if kind == 0 and body:
            body[at] = rnd.randrange(256)
        elif kind == 1:
            del body[at : at + rnd.randrange(40)]
        elif kind == 2:
            body[at:at] = rnd.randbytes(rnd.randrange(1, 20))
        elif len(body) >= 4:
            at = rnd.randrange(len(body) - 3)
            body[at : at + 4] = struct.pack("<I", rnd.choice((0, 1, 0xFFFFFFFF, 0x7FFFFFFF)))
    return bytes(body)


@pytest.mark.parametrize("form", FORMS)
def test_the_form_itself_is_read(form: str, tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_bytes(FORMS[form])
    capture = read_capture(path)
    assert len(capture.frames) == 4
    assert (capture.frames[0].interface, capture.frames[0].way) == (
        ("veth0", "in") if form == "pcapng" else (None, None)
    )


@pytest.mark.parametrize("form", FORMS)
def test_damaged_captures_are_read_or_refused(form: str, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 30)
    print("seed", seed)
    rnd = random.Random(seed)
    world = load_world("private-namespace")
    path = tmp_path / "c"
    for _ in range(400):
        path.write_bytes(mutated(FORMS[form], rnd))
        try:
            capture = read_capture(path)
            seen = list(sightings(world, capture, Place("host", "veth0"), 0.0))
        except InputError as error:
            assert str(path) in str(error) or "packet" in str(error)
            continue
        for story in stories(world, seen):
            story_json(story)
