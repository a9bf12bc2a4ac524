"""Recordings come back as they were, and from strangers too: bounded, never trusted, never a traceback."""

from __future__ import annotations

import json
import random
import stat
from pathlib import Path

import numpy as np
import pytest
from nattrace.sim.errors import InputError
from nattrace.tracer.live import recording
from nattrace.tracer.live.event import EVENT, VERSION
from nattrace.tracer.live.session import LOSS

HEADER = {
    "schema": recording.SCHEMA,
    "event_version": VERSION,
    "event_size": EVENT.itemsize,
    "namespaces": [{"name": "router", "inum": 7}, "nonsense"],
    "reasons": {"2": "SKB_DROP_REASON_NOT_SPECIFIED", "x": "y"},
}


def events(count: int) -> np.ndarray:
    found = np.zeros(count, EVENT)
    found["ts"] = np.arange(count)
    return found


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "packets"
    with recording.Writer(path, HEADER) as out:
        out.events(events(10))
        out.events(events(5))
        losses = np.zeros(2, LOSS)
        losses["skb"] = 9
        out.finish(losses, 3, {"tap": 5})
    return path


def test_what_was_written_is_read(written: Path) -> None:
    found = recording.read(written)
    assert found.events["ts"].tolist() == [*range(10), *range(5)]
    assert found.losses["skb"].tolist() == [9, 9]
    assert (found.tail["unlogged"], found.tail["loss"], found.whole) == (3, {"tap": 5}, True)
    assert found.namespaces == {7: "router"}
    assert found.reasons == {2: "SKB_DROP_REASON_NOT_SPECIFIED"}
    assert stat.S_IMODE(written.stat().st_mode) == 0o600


def test_a_recording_that_was_cut_off_is_read_as_far_as_it_goes(written: Path) -> None:
    data = written.read_bytes()
    written.write_bytes(data[:-40])
    found = recording.read(written)
    assert len(found.events) == 15
    assert not found.whole


def block(kind: bytes, data: bytes, size: int | None = None) -> bytes:
    return recording.BLOCK.pack(kind, len(data) if size is None else size) + data


HEAD = block(b"HEAD", json.dumps(HEADER).encode())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GIF89a",
        recording.MAGIC,
        recording.MAGIC + block(b"EVNT", bytes(EVENT.itemsize)),
        recording.MAGIC + block(b"HEAD", b"[1]"),
        recording.MAGIC + block(b"HEAD", b"[" * 100_000),
        recording.MAGIC + block(b"HEAD", json.dumps(HEADER | {"event_version": 99}).encode()),
        recording.MAGIC + HEAD + block(b"EVNT", b"x" * 100),
        recording.MAGIC + HEAD + block(b"EVNT", b"", 1 << 31),
        recording.MAGIC + HEAD + block(b"TAIL", b"\xff"),
    ],
    ids=range(10),
)
def test_what_is_no_recording_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(InputError, match="bad"):
        recording.read(path)


def test_mutated_recordings_are_read_or_refused(written: Path) -> None:
    rng = random.Random(5)
    data = written.read_bytes()
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(rng.randrange(1, 8)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        written.write_bytes(bytes(changed[: rng.randrange(len(changed) + 1)]))
        try:
            found = recording.read(written)
        except InputError:
            continue
        assert found.events.dtype == EVENT
        assert isinstance(found.namespaces, dict)
        assert isinstance(found.reasons, dict)


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("keep")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(InputError, match="cannot write"):
        recording.Writer(tmp_path / "link", HEADER)
    assert target.read_text() == "keep"
