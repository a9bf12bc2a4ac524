"""What an observation could leave behind, looked for: links, programs, maps, tables, queues, sysctls.

Nothing should ever be found: all of it hangs on descriptors and sockets of one process. So this is a check, and it takes
nothing away.

    found = residue.find()                 # of processes that are gone; [] is how it should be
    with residue.watch([ns]) as left: ...  # left(): what is there after and was not before
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from . import bpfsys, plan
from .netns import Namespace

PROGRAM_PREFIX, MAP_PREFIX, TABLE_PREFIX = "nattrace_", "nt_", plan.OURS
SYSCTLS = ("net/netfilter/nf_log/2", "net/netfilter/nf_log/10")


@dataclass(frozen=True)
class Leftover:
    """One thing of ours: ``kind`` (program, map, link, table, queue, sysctl), ``what``, and where."""

    kind: str
    what: str
    netns: str = ""

    def __str__(self) -> str:
        where = f" in {self.netns}" if self.netns else ""
        return f"{self.kind} {self.what}{where}"


def find(namespaces: Sequence[Namespace] = (), own: bool = False) -> list[Leftover]:
    """Everything of ours there is. Programs and maps of living nattrace processes are left out, unless ``own`` asks for all.

    The kernel frees a program a moment after its last descriptor (an RCU grace period): ask again before complaining.
    """
    held = set() if own else set(_held_by_processes())
    found = [
        *(Leftover("program", f"{name} (id {number})") for number, name in _programs() if ("prog", number) not in held),
        *(Leftover("map", f"{name} (id {number})") for number, name in _maps() if ("map", number) not in held),
        *(
            Leftover("link", f"of program {prog} (id {number})")
            for number, prog in _links()
            if ("link", number) not in held
        ),
    ]
    for ns in namespaces:
        found += _in_namespace(ns, sysctls=own)
    return found


@contextmanager
def watch(namespaces: Sequence[Namespace] = ()) -> Iterator[Callable[[], list[Leftover]]]:
    """A function that says what is there and was not when the block began."""
    before = set(find(namespaces, own=True))
    yield lambda: [item for item in find(namespaces, own=True) if item not in before]


def _name(info: bytes, at: int) -> str:
    return info[at : at + 16].split(b"\0")[0].decode(errors="replace")


def _objects(following: int, opening: int, at: int) -> Iterator[tuple[int, str]]:
    for number in bpfsys.ids(following):
        fd = bpfsys.open_id(opening, number)
        if fd is not None:
            try:
                yield number, _name(bpfsys.info(fd), at)
            finally:
                os.close(fd)


def _programs() -> list[tuple[int, str]]:
    """struct bpf_prog_info: the name lies at 64."""
    return [x for x in _objects(bpfsys.PROG_NEXT_ID, bpfsys.PROG_FD_BY_ID, 64) if x[1].startswith(PROGRAM_PREFIX)]


def _maps() -> list[tuple[int, str]]:
    """struct bpf_map_info: the name lies at 24."""
    return [x for x in _objects(bpfsys.MAP_NEXT_ID, bpfsys.MAP_FD_BY_ID, 24) if x[1].startswith(MAP_PREFIX)]


def _links() -> list[tuple[int, int]]:
    """Links of our programs: (id, program). Kernels before 5.8 cannot list links."""
    ours = {number for number, _ in _programs()}
    found = []
    with suppress(bpfsys.BpfError):
        for number in bpfsys.ids(bpfsys.LINK_NEXT_ID):
            fd = bpfsys.open_id(bpfsys.LINK_FD_BY_ID, number)
            if fd is None:
                continue
            try:
                _, _, prog = struct.unpack_from("<III", bpfsys.info(fd))
            finally:
                os.close(fd)
            if prog in ours:
                found.append((number, prog))
    return found


def _held_by_processes() -> Iterator[tuple[str, int]]:
    """(kind, id) of every BPF object that a process holds a descriptor of."""
    for info in Path("/proc").glob("[0-9]*/fdinfo"):
        try:
            files = list(info.iterdir())
        except OSError:
            continue
        for file in files:
            with suppress(OSError, ValueError):
                for line in file.read_text().splitlines():
                    key, _, value = line.partition(":")
                    if key in ("prog_id", "map_id", "link_id"):
                        yield key[:-3], int(value)


def _in_namespace(ns: Namespace, sysctls: bool) -> list[Leftover]:
    found = []
    with ns.inside():
        with suppress(OSError):
            tables = {chain.table for chain in plan.chains_of_here() if chain.table.startswith(TABLE_PREFIX)}
            found += [Leftover("table", table, ns.name) for table in sorted(tables)]
        with suppress(OSError), open("/proc/thread-self/net/netfilter/nfnetlink_queue") as file:
            for line in file:
                queue, portid = line.split()[:2]
                if not _alive(int(portid)):
                    found.append(Leftover("queue", queue, ns.name))
        for sysctl in SYSCTLS if sysctls else ():  # others set these too: only a change tells
            with suppress(OSError):
                value = Path("/proc/sys", sysctl).read_text().strip()
                if value != "NONE":
                    found.append(Leftover("sysctl", f"{sysctl.replace('/', '.')} = {value}", ns.name))
    return found


def _alive(portid: int) -> bool:
    """A netlink port is named after its process, unless that had one already (then the number is negative)."""
    return portid > 1 << 31 or Path(f"/proc/{portid}").exists()
