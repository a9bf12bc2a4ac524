"""Writing snapshots: the tools' own dumps of one or several network namespaces.

report = capture(Path("snap"), None)                        # this host, flat
report = capture(Path("snap.tar.gz"), ["router", "4711"])   # by name, PID or container
"""

from __future__ import annotations

from .script import script
from .snapshot import Report, capture

__all__ = ["Report", "capture", "script"]
