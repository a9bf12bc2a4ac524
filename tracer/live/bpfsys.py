"""bpf(2) itself: maps, programs, links, tracepoints and their listing, without a library between.

Numbers are those of include/uapi/linux/bpf.h. Everything made here is a file descriptor of this process and nothing is
pinned, so the kernel takes all of it back when the process ends, however it ends.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import resource
import struct
from collections.abc import Iterator

from ...sim.errors import MissingFacility

_libc = ctypes.CDLL(None, use_errno=True)
NR_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351, "armv7l": 386, "i686": 357}

MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT, PROG_LOAD = 0, 1, 2, 3, 4, 5
PROG_NEXT_ID, MAP_NEXT_ID, PROG_FD_BY_ID, MAP_FD_BY_ID, INFO_BY_FD = 11, 12, 13, 14, 15
PROG_TEST_RUN = 10
RAW_TRACEPOINT_OPEN, MAP_FREEZE, LINK_CREATE, LINK_FD_BY_ID, LINK_NEXT_ID = 17, 22, 28, 30, 31
HASH, ARRAY, PERCPU_HASH, PERCPU_ARRAY, LRU_HASH, RINGBUF = 1, 2, 5, 6, 9, 27
KPROBE, RAW_TRACEPOINT, NETFILTER = 2, 17, 32
ATTACH_NETFILTER = 45
F_RDONLY_PROG, F_MMAPABLE = 1 << 7, 1 << 10
PSEUDO_MAP_FD, PSEUDO_MAP_VALUE, PSEUDO_KFUNC_CALL = 1, 2, 2
LOG_SIZE = 1 << 20


class BpfError(OSError):
    """The kernel refused; ``log`` holds the verifier's words, if it had any."""

    log: str = ""


def _ask(command: int, attr: bytes, what: str) -> tuple[int, bytes]:
    """One bpf(2): (its result, the attribute as the kernel left it). Raises BpfError."""
    number = NR_BPF.get(platform.machine())
    if number is None:
        raise MissingFacility(f"nattrace does not know bpf(2) on {platform.machine()}")
    buffer = ctypes.create_string_buffer(attr.ljust(144, b"\0"), 144)
    done: int = _libc.syscall(number, command, buffer, 144)
    if done < 0:
        code = ctypes.get_errno()
        raise BpfError(code, os.strerror(code), what)
    return done, bytes(buffer)


def call(command: int, attr: bytes, what: str) -> int:
    """One bpf(2) that gives a descriptor or nothing. Raises BpfError."""
    return _ask(command, attr, what)[0]


def lift_memlock() -> None:
    """Kernels before 5.11 count maps and programs against RLIMIT_MEMLOCK; later ones ignore it."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (ValueError, OSError):
        soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))


def map_create(kind: int, key: int, value: int, entries: int, name: str, flags: int = 0) -> int:
    """A map; ``name`` at most 15 characters."""
    attr = struct.pack("<IIIIIII16s", kind, key, value, entries, flags, 0, 0, name.encode()[:15])
    return call(MAP_CREATE, attr, f"map {name}")


def _pointer(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


def map_update(fd: int, key: bytes, value: bytes) -> None:
    """Set one element."""
    k, v = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
    call(MAP_UPDATE, struct.pack("<IIQQQ", fd, 0, _pointer(k), _pointer(v), 0), "map update")


def map_lookup(fd: int, key: bytes, size: int) -> bytes | None:
    """One element (``size``: of all CPUs together in a per-CPU map), None if there is none."""
    k, v = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(size)
    try:
        call(MAP_LOOKUP, struct.pack("<IIQQQ", fd, 0, _pointer(k), _pointer(v), 0), "map lookup")
    except BpfError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return v.raw


def map_delete(fd: int, key: bytes) -> None:
    """Remove one element; nothing happens if it is gone already."""
    k = ctypes.create_string_buffer(key, len(key))
    try:
        call(MAP_DELETE, struct.pack("<IIQ", fd, 0, _pointer(k)), "map delete")
    except BpfError as error:
        if error.errno != errno.ENOENT:
            raise


def map_keys(fd: int, size: int) -> Iterator[bytes]:
    """The keys of a map, as far as it holds still meanwhile."""
    key: bytes | None = None
    while True:
        k = ctypes.create_string_buffer(key, size) if key is not None else None
        following = ctypes.create_string_buffer(size)
        attr = struct.pack("<IIQQ", fd, 0, _pointer(k) if k is not None else 0, _pointer(following))
        try:
            call(MAP_NEXT, attr, "map next key")
        except BpfError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        key = following.raw
        yield key


def map_freeze(fd: int) -> None:
    """No writes from user space any more: the verifier may take what stands in it as constants."""
    call(MAP_FREEZE, struct.pack("<I", fd), "map freeze")


def prog_load(kind: int, code: bytes, name: str, expected_attach: int = 0, version: int = 0) -> int:
    """Load a program. Raises BpfError with the verifier's log, which is asked for only after a refusal."""
    insns, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"Dual MIT/GPL")

    def attr(log: ctypes.Array[ctypes.c_char] | None) -> bytes:
        level, size, where = (1, len(log), _pointer(log)) if log is not None else (0, 0, 0)
        return struct.pack(
            "<IIQQIIQII16sII", kind, len(code) // 8, _pointer(insns), _pointer(licence), level, size, where,
            version, 0, name.encode()[:15], 0, expected_attach,
        )  # fmt: skip

    try:
        return call(PROG_LOAD, attr(None), f"program {name}")
    except BpfError as error:
        log = ctypes.create_string_buffer(LOG_SIZE)
        try:
            return call(PROG_LOAD, attr(log), f"program {name}")
        except BpfError:
            error.log = log.value.decode(errors="replace")
        raise


def test_run(prog: int) -> int:
    """BPF_PROG_TEST_RUN of a raw tracepoint program without arguments: what it returns."""
    _, attr = _ask(PROG_TEST_RUN, struct.pack("<I", prog), "test run")
    (result,) = struct.unpack_from("<4xI", attr)
    return int(result)


def netfilter_link(prog: int, pf: int, hook: int, priority: int) -> int:
    """BPF_LINK_CREATE of a BPF_PROG_TYPE_NETFILTER in the namespace of this thread."""
    attr = struct.pack("<IIIIIIiI", prog, 0, ATTACH_NETFILTER, 0, pf, hook, priority, 0)
    return call(LINK_CREATE, attr, f"netfilter link pf {pf} hook {hook} priority {priority}")


def raw_tracepoint(prog: int, name: str) -> int:
    """Attach to a tracepoint; ends when the descriptor is closed."""
    text = ctypes.create_string_buffer(name.encode())
    return call(RAW_TRACEPOINT_OPEN, struct.pack("<QI", _pointer(text), prog), f"tracepoint {name}")


def has_netfilter_links() -> bool:
    """Whether a netfilter program loads (6.4): tried with one that does nothing. The link itself may be refused still."""
    return _loads(NETFILTER, struct.pack("<BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0), ATTACH_NETFILTER)


def has_fetch() -> bool:
    """Whether the kernel has atomic fetch-and-add (5.12)."""
    store, add = (0x7A, 10, -8, 0), (0xDB, 10 | 0 << 4, -8, 1)
    code = b"".join(
        struct.pack("<BBhi", *insn) for insn in ((0xB7, 0, 0, 0), store, add, (0xB7, 0, 0, 0), (0x95, 0, 0, 0))
    )
    return _loads(RAW_TRACEPOINT, code, 0)


def _loads(kind: int, code: bytes, attach: int) -> bool:
    try:
        os.close(prog_load(kind, code, "nattrace_try", attach))
    except BpfError as error:
        if error.errno == errno.EPERM:
            raise
        return False
    return True


PERF_TYPE_FILE, RETPROBE_FILE = (
    "/sys/bus/event_source/devices/kprobe/type",
    "/sys/bus/event_source/devices/kprobe/format/retprobe",
)
NR_PERF = {"x86_64": 298, "aarch64": 241}
PERF_IOC_ENABLE, PERF_IOC_SET_BPF, PERF_CLOEXEC = 0x2400, 0x40042408, 8


def kprobe(prog: int, function: str, at_return: bool) -> int:
    """Attach to the entry or return of a function of the kernel; ends when the descriptor is closed. Raises OSError."""
    with open(PERF_TYPE_FILE) as file:
        kind = int(file.read())
    with open(RETPROBE_FILE) as file:
        bit = int(file.read().split(":")[1])
    name = ctypes.create_string_buffer(function.encode())
    attr = struct.pack("<IIQQQQQIIQQ", kind, 128, 1 << bit if at_return else 0, 1, 0, 0, 0, 1, 0, _pointer(name), 0)
    buffer = ctypes.create_string_buffer(attr.ljust(128, b"\0"), 128)
    fd: int = _libc.syscall(NR_PERF[platform.machine()], buffer, -1, 0, -1, PERF_CLOEXEC)
    if fd < 0:
        code = ctypes.get_errno()
        raise BpfError(code, os.strerror(code), f"kprobe {function}")
    try:
        fcntl.ioctl(fd, PERF_IOC_SET_BPF, prog)
        fcntl.ioctl(fd, PERF_IOC_ENABLE, 0)
    except OSError:
        os.close(fd)
        raise
    return fd


def ids(command: int) -> Iterator[int]:
    """Identifiers of all programs, maps or links of the machine (PROG_NEXT_ID, MAP_NEXT_ID, LINK_NEXT_ID)."""
    last = 0
    while True:
        try:
            _, attr = _ask(command, struct.pack("<II", last, 0), "next id")
        except BpfError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        (last,) = struct.unpack_from("<4xI", attr)
        yield last


def open_id(command: int, number: int) -> int | None:
    """A descriptor for an identifier, None if it is gone."""
    try:
        return call(command, struct.pack("<I", number), "open by id")
    except BpfError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def info(fd: int, size: int = 256) -> bytes:
    """struct bpf_prog_info, bpf_map_info or bpf_link_info of a descriptor."""
    buffer = ctypes.create_string_buffer(size)
    call(INFO_BY_FD, struct.pack("<IIQ", fd, size, _pointer(buffer)), "object info")
    return buffer.raw
