"""Trying things where they do no harm: a child process with a network namespace of its own that ends with it.

>>> def lucky() -> tuple[str, str]:
...     return YES, "there is luck"
>>> run({"luck": lucky})
{'luck': ('yes', 'there is luck')}
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import warnings
from collections.abc import Callable, Mapping

from ...sim.errors import MissingFacility
from .finding import NO, UNKNOWN, YES

Outcome = tuple[str, str]
Trial = Callable[[], Outcome]
SECONDS = 30.0  # of one trial; the first imports what it needs, which takes its time on a slow machine
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def run(trials: Mapping[str, Trial], namespace: bool = True) -> dict[str, Outcome]:
    """What came of each; all in one child, one after the other, with a time limit for each."""
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        _child(writer, trials, namespace)
    os.close(writer)
    found: dict[str, Outcome] = {}
    try:
        for line in _lines(reader):
            name, state, detail = json.loads(line)
            found[name] = (state, detail)
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return {name: found.get(name, (UNKNOWN, "its trial did not end")) for name in trials}


def _lines(fd: int) -> list[bytes]:
    """What the child says until it ends, or says nothing for too long."""
    data = b""
    while select.select([fd], [], [], SECONDS)[0]:
        part = os.read(fd, 65536)
        if not part:
            break
        data += part
    return data.splitlines()


def _child(writer: int, trials: Mapping[str, Trial], namespace: bool) -> None:
    """Never returns."""
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(quiet, fd)
        warnings.simplefilter("ignore")
        refused, note = _own_namespace() if namespace else ("", "")
        for name, trial in trials.items():
            state, detail = (UNKNOWN, refused) if refused else attempt(trial)
            outcome = (state, detail + note if state == YES else detail)
            os.write(writer, json.dumps([name, *outcome]).encode() + b"\n")
    finally:
        os._exit(0)


def attempt(trial: Trial) -> Outcome:
    """One trial. What is missing says so itself; a refusal by the kernel is a no, by privileges an unknown."""
    try:
        return trial()
    except MissingFacility as error:
        if "CAP_" in f"{error.message} {error.remedy}":
            return UNKNOWN, f"could not be tested: {error.message}"
        return NO, error.message
    except PermissionError as error:
        return UNKNOWN, f"could not be tested: {error.strerror} ({error.filename or 'refused'})"
    except OSError as error:
        return NO, f"{error.strerror or error}"
    except ImportError as error:
        return NO, f"{error}"
    except Exception as error:  # what a facility did that nobody expected is a finding too
        return UNKNOWN, f"its trial failed: {type(error).__name__}: {error}"


def _own_namespace() -> tuple[str, str]:
    """Enter a new network namespace, if need be with a user namespace: (why it can't be, what to say of a success)."""
    libc = ctypes.CDLL(None, use_errno=True)
    note = ""
    if libc.unshare(CLONE_NEWNET):
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET):
            return "could not be tested: a network namespace to try it in needs CAP_SYS_ADMIN or user namespaces", ""
        note = " (tried in a user namespace; for this host it needs CAP_NET_ADMIN)"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        name = b"lo".ljust(16, b"\0")
        flags = struct.unpack_from("H", fcntl.ioctl(sock, SIOCGIFFLAGS, name + b"\0" * 24), 16)[0]
        fcntl.ioctl(sock, SIOCSIFFLAGS, name + struct.pack("H", flags | IFF_UP) + b"\0" * 22)
    return "", note


def send_datagram(port: int = 9) -> None:
    """One packet over the loopback of the namespace; that nobody listens is no matter."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.sendto(b"nattrace", ("127.0.0.1", port))
