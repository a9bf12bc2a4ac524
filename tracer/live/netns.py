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
import socket
import struct
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
        if os.fstat(home).st_ino == self.inum:  # already there: setns(2) would want CAP_SYS_ADMIN for nothing
            os.close(home)
            yield
            return
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


def veth_peers(namespaces: list[Namespace]) -> dict[tuple[int, int], tuple[int, int]]:
    """Where each veth device of these namespaces leads, among them: (inum, ifindex) -> (inum, ifindex)."""
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for here in namespaces:
        with here.inside():
            links = list(_links())
            numbers = {_nsid(other.fd): other.inum for other in namespaces}
        for index, peer, nsid in links:
            there = here.inum if nsid is None else numbers.get(nsid)
            if there is not None:
                found[here.inum, index] = (there, peer)
    return found


RTM_GETLINK, RTM_GETNSID, NLM_DUMP = 18, 90, 0x301
IFLA_LINK, IFLA_LINKINFO, IFLA_LINK_NETNSID, IFLA_INFO_KIND = 5, 18, 37, 1


def _attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("<HH", data, at)
        if size < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + size]
        at += size + 3 & ~3
    return found


def _links() -> Iterator[tuple[int, int, int | None]]:
    """(ifindex, peer's ifindex, number of the peer's namespace or None for the same) of each veth here."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.send(struct.pack("<IHHIIBxHiII", 32, RTM_GETLINK, NLM_DUMP, 1, 0, 0, 0, 0, 0, 0))
        while True:
            data, at = sock.recv(1 << 18), 0
            while at + 16 <= len(data):
                size, kind = struct.unpack_from("<IH", data, at)
                if kind in (2, 3):  # error, done
                    return
                (index,) = struct.unpack_from("<i", data, at + 20)
                attrs = _attributes(data[at + 32 : at + size])
                info = _attributes(attrs.get(IFLA_LINKINFO, b""))
                if info.get(IFLA_INFO_KIND, b"").rstrip(b"\0") == b"veth" and IFLA_LINK in attrs:
                    nsid = attrs.get(IFLA_LINK_NETNSID)
                    yield (
                        index,
                        struct.unpack("<i", attrs[IFLA_LINK])[0],
                        struct.unpack("<i", nsid)[0] if nsid else None,
                    )
                at += size + 3 & ~3


def _nsid(fd: int) -> int | None:
    """The number this namespace knows another one by, None if it has given none."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.send(struct.pack("<IHHIIBxxxHHI", 28, RTM_GETNSID, 1, 1, 0, 0, 8, 3, fd))  # NETNSA_FD
        data = sock.recv(4096)
    if struct.unpack_from("<H", data, 4)[0] != 88:  # RTM_NEWNSID
        return None
    nsid = _attributes(data[20:]).get(1)
    number = struct.unpack("<i", nsid)[0] if nsid else -1
    return number if number >= 0 else None
