"""Network namespaces to watch: by name, process or container; opened once, so that a name reused later is not mistaken.

A namespace is known by the inode number of its file, as the kernel's own events know it.

    >>> here = current()
    >>> here.inum == os.stat("/proc/self/ns/net").st_ino
    True
    >>> here.close()
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...sim.errors import InputError, MissingFacility

CLONE_NEWNET = 0x40000000
RUN_NETNS = Path("/run/netns")
CONTAINER_TOOLS = ("docker", "podman", "nerdctl", "crictl")

_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """One network namespace, held open: ``name`` as a snapshot names the host, ``inum``, ``fd``."""

    def __init__(self, name: str, path: str | os.PathLike[str]) -> None:
        self.name = name
        self.path = str(path)
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.inum = os.fstat(self.fd).st_ino

    def __repr__(self) -> str:
        return f"Namespace({self.name!r}, inum={self.inum})"

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it; a namespace without a name or process ends then."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread, and no other, is in the namespace for the duration of the block."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(self.fd)
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(home)

    def deleted(self) -> bool:
        """Whether what led to it is gone: from then on only our own links and this descriptor keep it alive."""
        try:
            return os.stat(self.path).st_ino != self.inum
        except OSError:
            return True


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET):
        code = ctypes.get_errno()
        if code == 1:
            raise MissingFacility(
                "entering a network namespace is not permitted",
                remedy="it needs CAP_SYS_ADMIN: run it with sudo",
            )
        raise OSError(code, os.strerror(code), "setns")


def current() -> Namespace:
    """The namespace of this process; named as ``ip netns`` names it, else by the host name."""
    inum = os.stat("/proc/self/ns/net").st_ino
    for name in names():
        try:
            if (RUN_NETNS / name).stat().st_ino == inum:
                return Namespace(name, RUN_NETNS / name)
        except OSError:
            continue
    return Namespace(os.uname().nodename or "host", "/proc/self/ns/net")


def names() -> list[str]:
    """The names that ``ip netns`` knows."""
    try:
        return sorted(entry.name for entry in RUN_NETNS.iterdir())
    except OSError:
        return []


def by_name(name: str) -> Namespace:
    """A namespace of ``ip netns add NAME``."""
    if "/" in name or name in ("", ".", ".."):
        raise InputError(f"{name!r} is no name of a network namespace")
    try:
        return Namespace(name, RUN_NETNS / name)
    except FileNotFoundError:
        known = ", ".join(names()[:12]) or "none"
        raise InputError(f"no network namespace {name!r}", remedy=f"there are: {known}") from None
    except PermissionError:
        raise MissingFacility(
            f"opening the network namespace {name!r} is not permitted", remedy="run it with sudo"
        ) from None


def by_pid(pid: int, name: str | None = None) -> Namespace:
    """The namespace a process lives in; named as ``ip netns`` names it, else ``net-INODE``."""
    path = f"/proc/{pid}/ns/net"
    try:
        inum = os.stat(path).st_ino
    except FileNotFoundError:
        raise InputError(f"no process {pid}") from None
    except PermissionError:
        raise MissingFacility(
            f"reading the namespace of process {pid} is not permitted", remedy="run it with sudo"
        ) from None
    for known in names():
        try:
            if (RUN_NETNS / known).stat().st_ino == inum:
                return Namespace(name or known, RUN_NETNS / known)
        except OSError:
            continue
    return Namespace(name or f"net-{inum}", path)


def by_container(name: str) -> Namespace:
    """The namespace of a running container, as whichever container tool is installed says."""
    if not re.fullmatch(r"[\w.-]+", name):
        raise InputError(f"{name!r} is no name of a container")
    asked = []
    for tool in CONTAINER_TOOLS:
        try:
            done = subprocess.run([tool, "inspect", name], capture_output=True, text=True, timeout=10)
        except (FileNotFoundError, subprocess.TimeoutExpired):
            continue
        asked.append(tool)
        pid = _pid_of(done.stdout) if done.returncode == 0 else 0
        if pid:
            return by_pid(pid, name)
    tools = " and ".join(asked) or f"none of {', '.join(CONTAINER_TOOLS)}"
    raise InputError(f"no running container {name!r} ({tools} answered)")


def _pid_of(text: str) -> int:
    try:
        found: Any = json.loads(text)
    except ValueError:
        return 0
    first = found[0] if isinstance(found, list) and found else found
    for path in (("State", "Pid"), ("info", "pid")):
        value: Any = first
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, int) and value > 0:
            return value
    return 0


def resolve(text: str) -> Namespace:
    """``--netns``: a name of ``ip netns``, a process number, or a container; in this order."""
    if text in names():
        return by_name(text)
    if text.isdigit():
        return by_pid(int(text))
    try:
        return by_container(text)
    except InputError:
        known = ", ".join(names()[:12]) or "none"
        raise InputError(
            f"{text!r} is neither a network namespace nor a process nor a running container",
            remedy=f"network namespaces: {known}",
        ) from None
