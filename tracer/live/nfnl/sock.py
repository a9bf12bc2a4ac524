"""A netfilter netlink socket of a namespace: requests, dumps, events, and exactly how many messages were lost.

with Nfnl(netns, groups=(GROUP_NFTRACE,), buffer=8 << 20) as events:
    for message in events.receive():      # what is there now; never waits
        ...
    events.lost()                         # messages the kernel threw away since the socket was opened
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from ....sim.errors import MissingFacility
from ...lab.netns import inside
from .wire import (
    BATCH_BEGIN,
    BATCH_END,
    NFTABLES,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    Message,
    error_of,
    message,
    messages,
)

NETLINK_NETFILTER = 12
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
SO_RCVBUFFORCE, SO_MEMINFO, SK_MEMINFO_DROPS = 33, 55, 8
ANSWER_TIMEOUT = 10.0  # seconds; the kernel answers at once, or the machine is in trouble
LARGEST = 1 << 18  # of one datagram


class InNetns(Protocol):
    """Whatever says by an open file which network namespace it is."""

    @property
    def fd(self) -> int: ...


class Refused(OSError):
    """The kernel's answer to a request: its errno, and what was asked."""


def entered(netns: InNetns | None) -> AbstractContextManager[None]:
    """Be in a namespace (None: where we are); this thread only."""
    return nullcontext() if netns is None else inside(f"/proc/self/fd/{netns.fd}")


class Nfnl:
    """One socket. It keeps its namespace alive, so close it when the namespace is deleted."""

    def __init__(self, netns: InNetns | None = None, groups: Sequence[int] = (), buffer: int = 0) -> None:
        with entered(netns):
            self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        try:
            self.socket.bind((0, 0))
            if buffer:
                _enlarge(self.socket, buffer)
            for group in groups:
                self.socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
        except OSError as error:
            self.socket.close()
            raise no_privilege(error, "listening to netfilter events") from None
        self.overruns = 0
        self._sequence = int(time.time()) & 0x7FFFFFFF

    def __enter__(self) -> Nfnl:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def fileno(self) -> int:
        return self.socket.fileno()

    def lost(self) -> int:
        """Messages that the kernel had for this socket and threw away: sk_drops, netlink_overrun()."""
        counts = self.socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 64)
        return int(struct.unpack_from("=I", counts, 4 * SK_MEMINFO_DROPS)[0]) if len(counts) >= 36 else self.overruns

    def receive(self, limit: int = 4096) -> list[Message]:
        """Everything that is there now, at most ``limit`` datagrams."""
        found: list[Message] = []
        for _ in range(limit):
            try:
                data = self.socket.recv(LARGEST, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1  # how many were lost says lost(); what is still queued is read on
                continue
            found += messages(data)
        return found

    def wait(self, timeout: float) -> bool:
        """Whether something can be read within so many seconds."""
        return bool(select.select([self.socket], [], [], timeout)[0])

    def request(self, kind: int, family: int, body: bytes, resource: int = 0, flags: int = 0) -> None:
        """One request that is acknowledged. Raises Refused."""
        sequence = self._next()
        self.socket.send(message(kind, NLM_F_REQUEST | NLM_F_ACK | flags, sequence, family, resource, body))
        for answer in self._answers():
            if answer.type == NLMSG_ERROR and answer.sequence == sequence:
                _raise(answer, f"request {kind:#x}")
                return

    def get(self, kind: int, family: int, body: bytes = b"") -> Message:
        """One request that is answered by one message. Raises Refused."""
        sequence = self._next()
        self.socket.send(message(kind, NLM_F_REQUEST, sequence, family, 0, body))
        for answer in self._answers():
            if answer.sequence == sequence:
                if answer.type == NLMSG_ERROR:
                    _raise(answer, f"request {kind:#x}")
                return answer
        raise AssertionError("unreachable: _answers() ends by raising")

    def dump(self, kind: int, family: int = 0, body: bytes = b"") -> Iterator[Message]:
        """Everything of a kind. Raises Refused; EINTR when it changed meanwhile (ask again)."""
        sequence = self._next()
        self.socket.send(message(kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, family, 0, body))
        for answer in self._answers():
            if answer.sequence != sequence:
                continue
            if answer.type in (NLMSG_ERROR, NLMSG_DONE):
                _raise(answer, f"dump {kind:#x}")
                return
            if answer.flags & 0x10:  # NLM_F_DUMP_INTR
                raise Refused(errno.EINTR, "the tables changed while they were being read")
            yield answer

    def batch(self, parts: Sequence[tuple[int, int, int, bytes]]) -> None:
        """An nf_tables transaction, all or nothing: (type, flags, family, attributes) each. Raises Refused."""
        begin = self._next()
        data = message(BATCH_BEGIN, NLM_F_REQUEST, begin, 0, NFTABLES, b"")
        waiting = {}
        for kind, flags, family, body in parts:
            sequence = self._next()
            waiting[sequence] = f"nf_tables message {kind}"
            data += message(NFTABLES << 8 | kind, NLM_F_REQUEST | NLM_F_ACK | flags, sequence, family, 0, body)
        end = self._next()
        self.socket.send(data + message(BATCH_END, NLM_F_REQUEST, end, 0, NFTABLES, b""))
        ours = {begin, end, *waiting}
        for answer in self._answers():
            if answer.type != NLMSG_ERROR or answer.sequence not in ours:
                continue
            _raise(answer, waiting.get(answer.sequence, "nf_tables transaction"))
            waiting.pop(answer.sequence, None)
            if not waiting:
                return

    def _next(self) -> int:
        self._sequence = self._sequence + 1 & 0x7FFFFFFF or 1
        return self._sequence

    def _answers(self) -> Iterator[Message]:
        """Messages as they come; the caller stops. Raises Refused when none comes any more."""
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while (left := deadline - time.monotonic()) > 0:
            if not self.wait(left):
                break
            try:
                data = self.socket.recv(LARGEST, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise Refused(errno.ENOBUFS, "the kernel's answers did not fit the socket") from None
                raise
            yield from messages(data)
        raise Refused(errno.ETIMEDOUT, f"the kernel did not answer within {ANSWER_TIMEOUT:.0f} s")


def _raise(answer: Message, asked: str) -> None:
    code = error_of(answer.body)
    if code:
        raise Refused(code, f"{os.strerror(code)} ({asked})")


def _enlarge(sock: socket.socket, size: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except PermissionError:  # without CAP_NET_ADMIN up to net.core.rmem_max
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def no_privilege(error: OSError, what: str) -> Exception:
    """The error to raise: one that names the capability where that is what is missing."""
    if error.errno in (errno.EPERM, errno.EACCES):
        return MissingFacility(f"{what} needs CAP_NET_ADMIN", remedy="run it with sudo, or: nattrace doctor")
    if error.errno in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
        return MissingFacility(
            f"{what}: this kernel has no netfilter netlink", remedy="a kernel with CONFIG_NETFILTER_NETLINK"
        )
    return error
