"""Commands run as a user without privileges, also from a checkout that only root can reach (a clone under /root)."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
PLAIN = [
    "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    "--inh-caps=-all",
    "--bounding-set=-all",
]
# In a mount namespace of its own the checkout stands at its path below directories that everybody may pass
OPENED = """set -e
root=$1; shift
mount --bind "$root" /mnt
mount -t tmpfs -o mode=755 none "/$(echo "$root" | cut -d/ -f2)"
mkdir -p "$root"
mount --bind /mnt "$root"
cd "$root"
exec "$@"
"""


def reachable(*words: str) -> list[str]:
    """``words`` as a command line in which another user can read the checkout at its own path."""
    if all(parent.stat().st_mode & 0o001 for parent in (ROOT, *ROOT.parents)):
        return list(words)
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", OPENED, "sh", str(ROOT), *words]


def as_nobody(*words: str) -> list[str]:
    """``words`` run as nobody, without any capability."""
    return reachable(*PLAIN, *words)
