"""A bundle: the evidence of one ``confirm`` in a file, judged again on any machine.

    save(path, flow, snapshot_dir, recording, now_dir, report)
    replay("case.bundle").to_json()        # no root, no Linux, no bcc; numpy

A tar.gz with ``meta.json``, ``events`` (a recording), ``rules.json`` (with --rules), ``snapshot/…``, ``now/…`` (the hosts
as they were afterwards, where that was read) and ``report.json``. Names and sizes are checked before anything is
written; nothing in it is executed.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...sim.errors import InputError
from ...sim.snapshot.load import load_world
from .. import scratch as scratches
from .report import Report, assess
from .rule_hits import Evidence

SCHEMA = "nattrace/bundle/1"
MAX_FILES, MAX_FILE, MAX_ALL = 4000, 128 << 20, 512 << 20
_NAME = re.compile(
    r"((?:meta|report|rules)\.json|events|(snapshot|now)(/[A-Za-z0-9_@:%+=,-][A-Za-z0-9._@:%+=,-]{0,120}){1,3})"
)


def save(path: str | Path, flow: str, snapshot: Path, recording: Path, now: Path | None, report: Report,
         hosts: tuple[str, ...] = (), rules: Evidence | None = None) -> None:  # fmt: skip
    """Write it, for its owner alone."""
    meta = {"schema": SCHEMA, "flow": flow, "saved": time.time(), "path_hosts": list(hosts)}
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.fdopen(os.open(path, flags, 0o600), "wb")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    with file, tarfile.open(fileobj=file, mode="w:gz") as tar:
        _add(tar, "meta.json", json.dumps(meta).encode())
        _add(tar, "report.json", json.dumps(report.to_json()).encode())
        _add(tar, "events", recording.read_bytes())
        if rules is not None:
            _add(tar, "rules.json", json.dumps(rules.to_json()).encode())
        for top, folder in (("snapshot", snapshot), ("now", now)):
            if folder is not None:
                for each in _files(folder):
                    _add(tar, f"{top}/{each.relative_to(folder)}", each.read_bytes())


def _files(folder: Path) -> Iterator[Path]:
    return (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o600
    tar.addfile(info, io.BytesIO(data))


def replay(path: str | Path) -> Report:
    """Judge a bundle again. Raises InputError for what is none."""
    from .recording import read
    from .trace import Replay
    from .worlds import understood

    with tempfile.TemporaryDirectory(prefix=scratches.prefix()) as scratch:
        home = Path(scratch)
        _unpack(Path(path), home)
        meta = _meta(home / "meta.json", path)
        told = Replay(read(home / "events"), f"{path}: events")
        world = load_world(home / "snapshot", strict=True)
        now = load_world(home / "now", strict=True) if (home / "now").is_dir() else None
        flow = str(meta["flow"])
        question = understood(flow, world)
        hosts = [str(h) for h in meta.get("path_hosts", []) if isinstance(h, str)]
        rules = _rules(home / "rules.json", path)
        stories, events = told.stories(), told.recording.events
        return assess(flow, world, question, stories, told.scene, told.totals(), lambda: now, hosts, rules, events)


def _meta(path: Path, name: str | Path) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        raise InputError(
            f"{name} is no bundle of nattrace", remedy="nattrace confirm FLOW --save FILE writes one"
        ) from None
    if not isinstance(meta, dict) or meta.get("schema") != SCHEMA or not isinstance(meta.get("flow"), str):
        raise InputError(f"{name}: a bundle of another version of nattrace", remedy=f"this one reads {SCHEMA}")
    return meta


def _rules(path: Path, name: str | Path) -> Evidence | None:
    if not path.exists():
        return None
    try:
        return Evidence.from_json(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{name}: rules.json is not what nattrace writes") from None


def _unpack(path: Path, home: Path) -> None:
    """Plain files of known names only, and not more than fits."""
    total = count = 0
    try:
        with tarfile.open(path, "r:gz") as tar:
            for member in tar:
                count, total = count + 1, total + max(member.size, 0)
                if not member.isreg() or not _NAME.fullmatch(member.name):
                    raise InputError(f"{path}: holds {member.name[:80]!r}, which does not belong into a bundle")
                if count > MAX_FILES or member.size > MAX_FILE or total > MAX_ALL:
                    raise InputError(f"{path}: larger than any bundle that nattrace writes")
                source = tar.extractfile(member)
                target = home / member.name
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                target.write_bytes(source.read() if source is not None else b"")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(
            f"cannot read {path}: {error}", remedy="nattrace confirm FLOW --save FILE writes one"
        ) from None
