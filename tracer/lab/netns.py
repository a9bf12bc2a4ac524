"""Network namespaces from one process: enter, leave, run a tool inside, write a sysctl inside.

``setns()`` moves the calling thread only, so one process can hold sockets of every namespace. A child started while
inside inherits the namespace, which spares ``ip netns exec`` its mount work.

    with inside("/run/netns/lab-r"):
        sock = socket.socket(...)      # a socket of that namespace, for good
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...sim.errors import MissingFacility, NattraceError

CLONE_NEWNET = 0x40000000
RUN_NETNS = Path("/run/netns")

_libc = ctypes.CDLL(None, use_errno=True)


class ToolFailed(NattraceError):
    """A tool refused what it was asked: its own words are the message."""


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "setns")


def need_root() -> None:
    """Raise MissingFacility unless namespaces can be made."""
    if os.geteuid() != 0:
        raise MissingFacility("network namespaces can be made by root only", remedy="run it with sudo")


@contextmanager
def inside(path: str | os.PathLike[str] | None) -> Iterator[None]:
    """Be in the namespace of ``path`` (None: stay) for the duration of the block; this thread only."""
    if path is None:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        there = os.open(path, os.O_RDONLY)
        try:
            moves = os.fstat(there).st_ino != os.fstat(home).st_ino  # staying needs no privilege
            if moves:
                _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            if moves:
                _setns(home)
    finally:
        os.close(home)


def path_of(name: str) -> str:
    """Where ``ip netns`` keeps a named namespace."""
    return str(RUN_NETNS / name)


def run(words: Sequence[str], text: str | None = None, netns: str | None = None, check: bool = True) -> str:
    """Run a tool (inside ``netns``, a name) and return what it prints. Raises ToolFailed with its own words."""
    with inside(path_of(netns) if netns else None):
        try:
            child = subprocess.Popen(
                words, stdin=subprocess.PIPE if text is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        except FileNotFoundError:
            raise MissingFacility(f"{words[0]} is not installed", remedy=f"install the package of {words[0]}") from None
    out, err = child.communicate(text)
    if check and child.returncode:
        where = f" in {netns}" if netns else ""
        raise ToolFailed(f"{' '.join(words)}{where}: {_explain(err, text) or f'status {child.returncode}'}")
    return out


def _explain(err: str, text: str | None) -> str:
    """A batch tool names a line number; show the line too."""
    words = err.strip()
    if text is None:
        return words
    lines = text.splitlines()
    for token in words.replace(":", " ").replace(".", " ").split():
        if token.isdigit() and 0 < int(token) <= len(lines):
            return f"{words}\n  line {token}: {lines[int(token) - 1]}"
    return words


def write_sysctl(name: str, value: str) -> None:
    """Write one dotted sysctl of the current namespace. Raises OSError."""
    with open(sysctl_path(name), "w") as file:
        file.write(value)


def sysctl_path(name: str) -> str:
    """``net.ipv4.conf.eth0/1.rp_filter`` (a dot of a device written as a slash) to its file."""
    return "/proc/sys/" + name.replace("/", "\0").replace(".", "/").replace("\0", ".")
