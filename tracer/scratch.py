"""Names for directories that last as long as the process; what a killed process left, the next one removes.

with tempfile.TemporaryDirectory(prefix=scratch.prefix()) as folder: ...
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path


def prefix() -> str:
    """A prefix that tells whose directory it is; sweeps first."""
    sweep()
    return f"nattrace-{os.getpid()}-"


def sweep() -> list[Path]:
    """Remove this user's directories whose process is gone (SIGKILL gives nobody the time to clean up)."""
    gone = []
    for path in Path(tempfile.gettempdir()).glob("nattrace-[0-9]*-*"):
        pid = path.name.split("-")[1]
        try:
            found = path.lstat()
        except OSError:
            continue
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
        if ours and pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)
            gone.append(path)
    return gone


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
