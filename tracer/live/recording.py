"""A recording (``trace -o FILE``): raw events and all that is needed to tell their story elsewhere.

    with Writer(path, session_header(session)) as out:
        for events in session.batches(10): out.events(events)
        out.finish(losses, unlogged, session.loss())
    recording = read(path)          # also from strangers: sizes are bounded, nothing in it is executed

The file: 16 octets of magic, then blocks, each ``<4sI``: what it is and how long, and its content: HEAD (JSON), EVNT and
LOSS (arrays of event.EVENT and session.LOSS), TAIL (JSON). A file that was cut off is read as far as whole blocks go.
"""

from __future__ import annotations

import json
import os
import platform
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...sim.errors import InputError
from .event import EVENT, VERSION, join
from .session import LOSS, Session

if TYPE_CHECKING:
    from .queue_session import QueueSession

Events = npt.NDArray[Any]

MAGIC = b"nattrace-events\n"
SCHEMA = "nattrace/recording/1"
BLOCK = struct.Struct("<4sI")
MAX_JSON, MAX_BLOCK, MAX_EVENTS = 4 << 20, 64 << 20, 8_000_000


def session_header(session: Session | QueueSession, **more: Any) -> dict[str, Any]:
    """What a reader must know: names for numbers, and which taps there were."""
    return {
        "schema": SCHEMA,
        "event_version": VERSION,
        "event_size": EVENT.itemsize,
        "kernel": platform.release(),
        "hostname": os.uname().nodename,
        "started": time.time(),
        "monotonic": time.clock_gettime(time.CLOCK_MONOTONIC),
        "namespaces": [{"name": ns.name, "inum": ns.inum} for ns in session.namespaces],
        "streams": list(session.streams),
        "missing": session.missing,
        "reasons": {str(number): name for number, name in session.reasons().items()},
        "slots": [
            {
                "netns": slot.netns.inum,
                "pf": slot.pf,
                "hook": slot.hook,
                "wanted": slot.wanted,
                "prio": slot.prio,
                "state": slot.state,
                "note": slot.note,
                "after": [f"{c.kind} {c.table} {c.name}".strip() for c in slot.after],
                "before": [f"{c.kind} {c.table} {c.name}".strip() for c in slot.before],
            }
            for slot in session.slots
        ],
    } | more


class Writer:
    """Writes a recording; the file is the user's alone (mode 0600) and must not exist yet, or be a plain file of his."""

    def __init__(self, path: str | os.PathLike[str], header: dict[str, Any]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._file: IO[bytes] = os.fdopen(os.open(path, flags, 0o600), "wb")
        except OSError as error:
            raise InputError(f"cannot write {os.fspath(path)}: {error.strerror}") from None
        self._file.write(MAGIC)
        self._block(b"HEAD", json.dumps(header).encode())

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _block(self, kind: bytes, data: bytes) -> None:
        self._file.write(BLOCK.pack(kind, len(data)))
        self._file.write(data)

    def _array(self, kind: bytes, array: Events) -> None:
        step = MAX_BLOCK // array.dtype.itemsize
        for at in range(0, len(array), step):
            self._block(kind, array[at : at + step].astype(EVENT if kind == b"EVNT" else LOSS).tobytes())

    def events(self, events: Events) -> None:
        """Append a batch."""
        self._array(b"EVNT", events)

    def finish(self, losses: Events, unlogged: int, loss: dict[str, int], **more: Any) -> None:
        """What was lost; without this the reader says that the recording was cut off."""
        self._array(b"LOSS", losses)
        tail = {"unlogged": unlogged, "loss": loss, "ended": time.time()} | more
        self._block(b"TAIL", json.dumps(tail).encode())


@dataclass
class Recording:
    """What was read. ``whole``: False when the end is missing (the recorder was killed, the disk was full)."""

    header: dict[str, Any]
    events: Events
    losses: Events
    tail: dict[str, Any] = field(default_factory=dict)
    whole: bool = False

    @property
    def reasons(self) -> dict[int, str]:
        """Drop reasons of the kernel that was recorded."""
        found = self.header.get("reasons")
        return {int(k): str(v) for k, v in found.items() if str(k).isdigit()} if isinstance(found, dict) else {}

    @property
    def namespaces(self) -> dict[int, str]:
        """Names by inode number."""
        found = self.header.get("namespaces")
        rows = found if isinstance(found, list) else []
        return {
            row["inum"]: str(row["name"]) for row in rows if isinstance(row, dict) and isinstance(row.get("inum"), int)
        }


def read(path: str | os.PathLike[str]) -> Recording:
    """Read a recording. Raises InputError for what is none, or of another version."""
    name = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            return _read(file, name)
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from None


def _read(file: IO[bytes], name: str) -> Recording:
    if file.read(len(MAGIC)) != MAGIC:
        raise InputError(f"{name} is no recording of nattrace")
    header: dict[str, Any] | None = None
    events: list[Events] = []
    losses: list[Events] = []
    tail: dict[str, Any] = {}
    count = 0
    for kind, data in _blocks(file, name):
        if kind == b"HEAD":
            header = _header(data, name)
        elif header is None:
            raise InputError(f"{name}: the recording does not begin with its header")
        elif kind in (b"EVNT", b"LOSS"):
            dtype = EVENT if kind == b"EVNT" else LOSS
            if len(data) % dtype.itemsize:
                raise InputError(
                    f"{name}: a block of {len(data)} octets does not hold whole records of {dtype.itemsize}"
                )
            array = np.frombuffer(data, dtype)
            count += len(array)
            if count > MAX_EVENTS:
                raise InputError(
                    f"{name}: more than {MAX_EVENTS:,} events", remedy="record less: -c N, -t, or a narrower FLOW"
                )
            (events if kind == b"EVNT" else losses).append(array)
        elif kind == b"TAIL":
            tail = _json(data, name)
    if header is None:
        raise InputError(f"{name}: the recording has no header")
    return Recording(
        header,
        join(events),
        join(losses, LOSS),
        tail,
        bool(tail),
    )


def _blocks(file: IO[bytes], name: str) -> Iterator[tuple[bytes, bytes]]:
    while len(head := file.read(BLOCK.size)) == BLOCK.size:
        kind, size = BLOCK.unpack(head)
        if size > (MAX_JSON if kind in (b"HEAD", b"TAIL") else MAX_BLOCK):
            raise InputError(f"{name}: a block of {size:,} octets is larger than any that nattrace writes")
        data = file.read(size)
        if len(data) < size:
            return  # cut off: what came before counts
        yield kind, data


def _json(data: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise InputError(f"{name}: a part of the recording is no JSON") from None
    if not isinstance(found, dict):
        raise InputError(f"{name}: a part of the recording is no JSON object")
    return found


def _header(data: bytes, name: str) -> dict[str, Any]:
    header = _json(data, name)
    if (
        header.get("schema") != SCHEMA
        or header.get("event_version") != VERSION
        or header.get("event_size") != EVENT.itemsize
    ):
        raise InputError(
            f"{name} was recorded by another version of nattrace ({header.get('schema')}, events {header.get('event_version')})",
            remedy=f"this one reads {SCHEMA}, events {VERSION}",
        )
    return header
