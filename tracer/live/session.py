"""One observation of some namespaces: opens probes, reads their events, counts what is lost, leaves nothing behind.

    with Session([netns.by_name("router")], Filter.of(proto="udp", src="10.0.0.2")) as session:
        for slot in session.slots:                 # every tap that is owed, and whether it could be placed
            print(slot, slot.state)
        events = session.read(timeout=1.0)         # numpy array of event.EVENT, or None when nothing came in time
        print(session.loss())                      # {"tap": 0, "drop": 0, ...}: exact, counted in the kernel

Everything it opens is a descriptor of this process: when the process ends, however it ends, the kernel takes all back.
"""

from __future__ import annotations

import mmap
import os
import platform
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from ...sim.errors import MissingFacility
from . import bpfsys, btf, compile, pcap, plan, prologue
from .event import AF_INET, AF_INET6, EVENT, KIND, TUPLE, join
from .filter import Filter
from .netns import Namespace
from .nfnl.queues import wait_until_empty
from .probes import kprobes, netfilter_link, tracepoints
from .ring import Ring

Events = npt.NDArray[Any]

LOSS = np.dtype(
    [
        ("ts", "<u8"),
        ("skb", "<u8"),
        ("prio", "<i4"),
        ("seq", "<u4"),
        ("netns", "<u4"),
        ("cpu", "<u2"),
        ("kind", "u1"),
        ("hook", "u1"),
    ]
)
CPU = np.dtype(
    [
        ("seq", "<u8"),
        ("learned", "<u8"),
        ("skb", "<u8"),
        ("work", "<u4", 4),
        ("lost", "<u8", 16),
        ("unlogged", "<u8"),
        ("pad", "<u8", 8),
    ]
)
TOTAL_KEY = np.dtype(
    [
        ("t", TUPLE),
        ("netns", "<u4"),
        ("prio", "<i4"),
        ("reason", "<u4"),
        ("zone", "<u2"),
        ("kind", "u1"),
        ("hook", "u1"),
    ]
)
TOTAL = np.dtype([("key", TOTAL_KEY), ("packets", "<u8"), ("octets", "<u8"), ("first", "<u8"), ("last", "<u8")])
STREAMS = ("tap", "rx", "tx", "drop", "icmp_send", "fib", "neigh", "tcp_reset")  # without asking
ALL_STREAMS = (*STREAMS, "consume", "xmit")
POLL = 0.002  # seconds between two looks at a ring that holds fewer than FEW events
FEW = 4096
MAX_LOSSES = 1_000_000  # records of losses that are kept
WATCHED_MAP = 10
KPROBE_MAPS = (
    (bpfsys.HASH, kprobes.PLACE.size, kprobes.OWED.size, kprobes.MAX_PLACES, "nt_places", 0),
    (bpfsys.HASH, 8, 24, 4096, "nt_frames", 0),
)


class Session:
    """See the module. ``namespaces``: what to watch. ``streams``: kinds of events, of ALL_STREAMS.

    ``ring``: octets of the buffer, a power of two (16 MiB: 70 000 events). ``aggregate``: totals per flow, hook and
    place instead of events, see totals(). ``max_rate``: events a second above which it goes over to totals by itself, and
    says so in ``notes``.
    """

    def __init__(
        self,
        namespaces: Sequence[Namespace],
        filter: Filter,
        streams: Sequence[str] = STREAMS,
        ring: int = 16 << 20,
        families: tuple[int, ...] = (AF_INET, AF_INET6),
        aggregate: bool = False,
        max_rate: float | None = None,
    ) -> None:
        self.namespaces = list(namespaces)
        self.filter = filter
        self.streams = tuple(streams)
        self.families = families
        self.aggregate = aggregate
        self.max_rate = max_rate
        self.notes: list[str] = []  # what a user must be told
        self._measured = (0.0, 0)
        self.slots: list[plan.Slot] = []
        self.chains: dict[str, plan.Chains] = {}
        self.missing: dict[str, str] = {}  # stream -> why this kernel does not give it
        self.ready = False
        self.times: dict[str, float] = {}  # seconds each step of opening took
        self._ring_size = ring
        self._fds: list[int] = []
        self._maps: dict[int, int] = {}
        self._losses: list[Events] = []
        self._loaded: dict[tuple[Any, ...], int] = {}

    def __enter__(self) -> Session:
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- opening

    def open(self) -> None:
        """Compile or fetch the programs, make the maps, attach. Raises MissingFacility."""
        unknown = set(self.streams) - set(ALL_STREAMS)
        if unknown:
            raise ValueError(f"no such streams: {unknown}")
        bpfsys.lift_memlock()
        with _permissions():
            self._describe()
            self._make_maps()
            self._attach()
        self._control(on=True)
        self.ready = True

    def _describe(self) -> None:
        start = time.monotonic()
        identity = compile.kernel_identity()
        links = bpfsys.has_netfilter_links()
        self.backend = "netfilter links" if links else "kprobes"
        macros, self._cast = compile.types(identity, _possible_cpus(), links, bpfsys.has_fetch())
        self._pcap = pcap.function(self.filter.pcap) if self.filter.pcap is not None else None
        self._prologue = prologue.tap(self.filter, macros, self._cast) if links else b""
        self.times["types"] = time.monotonic() - start
        start = time.monotonic()
        self._programs = compile.programs(
            "nattrace.c", macros, identity, [*(("tap",) if links else ("on_call", "on_return")), *tracepoints.FUNCTIONS]
        )
        self.times["cached" if self._programs.cached else "compile"] = time.monotonic() - start

    def _make_maps(self) -> None:
        b, cpus = bpfsys, 1 << max(_possible_cpus() - 1, 0).bit_length()
        totals = 16384 if self.aggregate else 4096
        shapes = (
            (b.ARRAY, 4, 8, 1, "nt_control", b.F_MMAPABLE),
            (b.ARRAY, 4, CPU.itemsize * cpus, 1, "nt_cpu", b.F_MMAPABLE),
            (b.ARRAY, 4, 8192, 1, "nt_bloom", 0),
            (b.LRU_HASH, 40, 4, 8192, "nt_learned", 0),
            (b.RINGBUF, 0, 0, self._ring_size, "nt_events", 0),
            (b.RINGBUF, 0, 0, max(self._ring_size // 2, mmap.PAGESIZE), "nt_losses", 0),
            (b.PERCPU_HASH, 56, 32, totals, "nt_totals", 0),
            *(() if self.backend != "kprobes" else KPROBE_MAPS),
        )
        for number, shape in enumerate(shapes, 1):
            self._maps[number] = bpfsys.map_create(*shape)
        inums = sorted({ns.inum for ns in self.namespaces})
        self._maps[WATCHED_MAP] = bpfsys.map_create(b.HASH, 4, 4, max(len(inums), 1), "nt_watched")
        for inum in inums:
            bpfsys.map_update(self._maps[WATCHED_MAP], struct.pack("<I", inum), bytes(4))
        self._config = self.filter.encode(inums, fib="fib" in self.streams, learn=len(self.streams) > 1)
        self._control_memory = mmap.mmap(self._maps[1], mmap.PAGESIZE)
        size = -(-CPU.itemsize * cpus // mmap.PAGESIZE) * mmap.PAGESIZE
        self._cpu_memory = mmap.mmap(self._maps[2], size, prot=mmap.PROT_READ)
        self._ring = Ring(self._maps[5], self._ring_size, EVENT)
        self._loss_ring = Ring(self._maps[6], max(self._ring_size // 2, mmap.PAGESIZE), LOSS)
        self._cpus = cpus

    def _load_all(self) -> None:
        """Load programs side by side: verifying them is most of what opening takes."""
        planned: list[plan.Slot] = []
        if "tap" in self.streams:
            for ns in self.namespaces:
                self.chains[ns.name] = plan.chains_of(ns)
                planned += plan.slots(ns, self.chains[ns.name], self.families)
        self._planned = planned
        jobs: list[tuple[Callable[..., int], tuple[Any, ...]]] = [
            (self._new_tracepoint, key) for key in sorted(tracepoints.programs(self.streams))
        ]
        if self.backend == "netfilter links":
            jobs += [(self._new_tap, (prio,)) for prio in sorted({s.wanted for s in planned if s.state == "planned"})]
        with ThreadPoolExecutor(2) as pool:
            done = [(key, pool.submit(load, *key)) for load, key in jobs]
            errors = [error for _, future in done if (error := future.exception())]
            self._loaded = {key: future.result() for key, future in done if not future.exception()}
        if errors:
            raise errors[0]

    def _load_tap(self, priority: int) -> int:
        """Of those loaded already; a neighbour of a taken priority is loaded when it is needed."""
        return self._loaded.pop((priority,), None) or self._new_tap(priority)

    def _load_tracepoint(self, function: str, kind: KIND) -> int:
        return self._loaded.pop((function, kind), None) or self._new_tracepoint(function, kind)

    def _new_tap(self, priority: int) -> int:
        constants = {compile.PRIORITY: priority}
        code = compile.link(self._programs.code["tap"], self._maps, self._config, self._cast, constants, self._pcap)
        return bpfsys.prog_load(bpfsys.NETFILTER, self._prologue + code, "nattrace_tap", bpfsys.ATTACH_NETFILTER)

    def _new_tracepoint(self, function: str, kind: KIND) -> int:
        constants = {compile.KIND: kind}
        code = compile.link(self._programs.code[function], self._maps, self._config, self._cast, constants, self._pcap)
        return bpfsys.prog_load(bpfsys.RAW_TRACEPOINT, code, f"nattrace_{kind.name}")

    def _load_kprobe(self, function: str, kind: int) -> int:
        code = compile.link(
            self._programs.code[function], self._maps, self._config, None, {compile.KIND: kind}, self._pcap
        )
        return bpfsys.prog_load(bpfsys.KPROBE, code, f"nattrace_{function}", version=_kernel_version())

    def _attach(self) -> None:
        start = time.monotonic()
        self._load_all()
        wanted = [stream for stream in self.streams if stream != "tap"]
        held, self.missing = tracepoints.attach(wanted, self._load_tracepoint)
        self._fds += held
        if "tap" in self.streams:
            if self.backend == "kprobes":
                self.slots, links = kprobes.attach(self._planned, self._load_kprobe, self._maps[8])
            else:
                self.slots, links = netfilter_link.attach(self._planned, self._load_tap)
            self._fds += links
        self.times["attach"] = time.monotonic() - start

    def _control(self, on: bool) -> None:
        self._control_memory[0:8] = struct.pack("<II", int(on), int(self.aggregate))

    def pause(self) -> None:
        """No events from now on; probes stay attached."""
        self._control(on=False)

    def resume(self) -> None:
        """Events again."""
        self._control(on=True)

    # --- reading

    def read(self, timeout: float = 0.0, most: int = 1 << 18) -> Events | None:
        """The events there are, at most ``most``; waits up to ``timeout`` seconds for the first one."""
        until = time.monotonic() + timeout
        while True:
            left = until - time.monotonic()
            if left > 0 and self._ring.pending() < FEW:  # a moment's wait makes one batch of what would be many
                time.sleep(min(POLL, left))
            self._read_losses()
            self._watch_rate()
            events = self._ring.read(most)
            if events is not None and len(events):
                return events
            if left <= 0:
                return None

    def batches(self, timeout: float, idle: float | None = None) -> Iterator[Events]:
        """Batch after batch for ``timeout`` seconds, or until nothing came for ``idle`` seconds."""
        until = time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            events = self.read(min(left, idle) if idle is not None else left)
            if events is None:
                return
            yield events

    def _watch_rate(self) -> None:
        """Too many events to tell each: from here on totals, until the caller resumes events."""
        if self.max_rate is None or self.aggregate:
            return
        now, count = time.monotonic(), self.emitted()
        before, counted = self._measured
        if now - before < 0.2:
            return
        self._measured = (now, count)
        if before and (count - counted) / (now - before) > self.max_rate:
            self.set_aggregate(True)
            self.notes.append(
                f"more than {self.max_rate:,.0f} events a second: from then on totals for each flow, hook and place, no stories"
            )

    def set_aggregate(self, aggregate: bool) -> None:
        """Totals from now on (True), or events again (False)."""
        self.aggregate = aggregate
        self._control(on=True)

    def totals(self) -> Events:
        """Sums by flow, hook and place since the session began, of all CPUs, as TOTAL."""
        cpus = _possible_cpus()
        rows = []
        for key in bpfsys.map_keys(self._maps[7], TOTAL_KEY.itemsize):
            value = bpfsys.map_lookup(self._maps[7], key, 32 * cpus)
            if value is not None:
                each = np.frombuffer(value, "<u8").reshape(cpus, 4)
                used = each[each[:, 0] > 0]
                if len(used):
                    sums = (used[:, 0].sum(), used[:, 1].sum(), used[:, 2].min(), used[:, 3].max())
                    rows.append(key + struct.pack("<QQQQ", *map(int, sums)))
        return np.frombuffer(b"".join(rows), TOTAL)

    def _read_losses(self) -> None:
        lost = self._loss_ring.read()
        if lost is not None:
            self._losses.append(lost)
            while sum(map(len, self._losses)) > MAX_LOSSES and len(self._losses) > 1:
                self._losses.pop(0)  # of packets long told

    def _cpu(self) -> Events:
        return np.frombuffer(self._cpu_memory, CPU, self._cpus).copy()

    def loss(self) -> dict[str, int]:
        """Events lost so far, by stream: exact, as counted in the kernel."""
        lost = self._cpu()["lost"].sum(axis=0)
        return {kind.name: int(lost[kind]) for kind in KIND if kind.name in self.streams}

    def losses(self) -> tuple[Events, int]:
        """(records of lost events, how many more were lost without a record); for group.group().

        Of a session that loses without end the latest million are kept; loss() counts them all.
        """
        self._read_losses()
        records = join(self._losses, LOSS)
        return records, int(self._cpu()["unlogged"].sum())

    def emitted(self) -> int:
        """Events tried so far, lost ones included."""
        return int(self._cpu()["seq"].sum())

    def reasons(self) -> dict[int, str]:
        """Names of this kernel's drop reasons by number."""
        return btf.drop_reasons(btf.Btf.kernel())

    def changed(self) -> list[str]:
        """Chains that came or went since the taps were set: between those no tap lies."""
        found = []
        for ns in self.namespaces:
            if ns.name in self.chains and not ns.deleted():
                before, now = set(self.chains[ns.name].chains), set(plan.chains_of(ns).chains)
                found += [f"{ns.name}: chain {c.table} {c.name} came" for c in sorted(now - before, key=str)]
                found += [f"{ns.name}: chain {c.table} {c.name} went" for c in sorted(before - now, key=str)]
        return found

    def vanished(self) -> list[Namespace]:
        """Namespaces whose name or process is gone: only our links keep them alive, so close soon."""
        return [ns for ns in self.namespaces if ns.deleted()]

    # --- closing

    def close(self) -> None:
        """Detach and free everything; safe to repeat."""
        self.ready = False
        with suppress(AttributeError):
            self._control(on=False)
        if self._fds:  # a hook that goes costs every nfqueue of the namespace what it holds
            for ns in self.namespaces:
                wait_until_empty(ns)
        for fd in [*self._fds, *self._loaded.values()]:
            os.close(fd)
        self._fds, self._loaded = [], {}
        for name in ("_ring", "_loss_ring", "_control_memory", "_cpu_memory"):
            if hasattr(self, name):
                getattr(self, name).close()
                delattr(self, name)
        for fd in self._maps.values():
            os.close(fd)
        self._maps = {}


def _possible_cpus() -> int:
    try:
        with open("/sys/devices/system/cpu/possible") as file:
            return int(file.read().strip().replace("-", ",").split(",")[-1]) + 1
    except (OSError, ValueError):
        return os.cpu_count() or 1


def _kernel_version() -> int:
    """LINUX_VERSION_CODE, which kprobe programs had to name before 5.0."""
    major, minor, patch = (
        int("".join(c for c in part if c.isdigit()) or 0)
        for part in (platform.release().split("-")[0] + ".0.0").split(".")[:3]
    )
    return major << 16 | minor << 8 | min(patch, 255)


class _permissions:
    """EPERM while probes are opened is a missing privilege, and said so."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, bpfsys.BpfError):
            if error.errno in (1, 13) and not error.log:
                raise MissingFacility(
                    f"the kernel does not let this user load probes ({error.filename}: {error.strerror})",
                    remedy="run it with sudo, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (CAP_SYS_ADMIN too for --netns)",
                ) from error
            tail = " ".join(error.log.split()[-40:])
            raise MissingFacility(
                f"this kernel ({platform.release()}) refuses a probe: {error.filename}: {error.strerror} {tail}".strip(),
                remedy="nattrace doctor says what works here; trace --tap queue needs no probes",
            ) from error
