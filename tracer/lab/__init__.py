"""Topologies in network namespaces: read (``topology``, ``from_snapshot``), build (``build``), use (``io``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .topology import Topology


def load_topology(path: str | Path) -> Topology:
    """A topology from a snapshot directory or a TOML file. Raises InputError."""
    from .from_snapshot import from_snapshot, is_snapshot
    from .topology import from_toml

    return from_snapshot(path) if is_snapshot(path) else from_toml(path)
