"""Shared by the reader tests: recorded dumps, and a World made of some files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from nattrace.sim.model.world import Host, World
from nattrace.sim.snapshot.load import load_world

DATA = Path(__file__).parent / "data"


@pytest.fixture
def data() -> Callable[[str], str]:
    """Text of a recorded dump."""
    return lambda name: (DATA / name).read_text()


@pytest.fixture
def world(tmp_path: Path) -> Callable[..., World]:
    """The World of files given as name → text (or bytes)."""

    def make(files: dict[str, str | bytes]) -> World:
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_world(tmp_path)

    return make


@pytest.fixture
def host(world: Callable[..., World]) -> Callable[..., Host]:
    """The only host of a flat snapshot."""

    def make(**files: str) -> Host:
        made = world({name.replace("__", ".").replace("_", "-"): text for name, text in files.items()})
        (only,) = made.hosts.values()
        return only

    return make


@pytest.fixture
def facts() -> Callable[[Any], Any]:
    """A model object as plain data, without where it was read and what only one form can tell."""

    def strip(value: Any) -> Any:
        if is_dataclass(value):
            return {f.name: strip(getattr(value, f.name)) for f in fields(value) if f.name not in HIDDEN}
        if hasattr(value, "_asdict"):
            return strip({k: v for k, v in value._asdict().items() if k not in HIDDEN})
        if isinstance(value, dict):
            return {key: strip(inner) for key, inner in value.items()}
        return [strip(inner) for inner in value] if type(value) in (list, tuple) else value

    return strip


# ip prints the number of another namespace in JSON, its name in text; `mtu lock` in text only (iproute2 6.1)
HIDDEN = frozenset(("where", "peer_netnsid", "mtu_locked"))
