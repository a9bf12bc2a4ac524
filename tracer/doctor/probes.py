"""Trials of bpf(2) and perf events: the smallest program of each kind is loaded, attached, and let go."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import re
import struct
from collections.abc import Callable
from pathlib import Path

from ...sim.errors import MissingFacility
from ..live import bpfsys
from ..live.btf import FUNC, Btf, NotInBtf
from .finding import NO, UNKNOWN, YES
from .privileges import holds, nested
from .trial import Outcome

RETURN_0 = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)  # r0 = 0; exit
RETURN_1 = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)
TRACING, TRACE_FENTRY = 26, 24
PRIORITY = -1234  # of a link in a namespace where nobody else is
HOOKED = "nf_hook_slow"
PERF_EVENT_IOC_SET_BPF = 0x40042408
NR_PERF_EVENT_OPEN = {
    "x86_64": 298,
    "aarch64": 241,
    "riscv64": 241,
    "ppc64le": 319,
    "s390x": 331,
    "armv7l": 364,
    "i686": 336,
}
CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_ADMIN = 39, 38, 12, 21


def btf() -> Outcome:
    kernel = Btf.kernel()
    return YES, f"sk_buff.mark is at octet {kernel.offset('sk_buff', 'mark')}"


def btf_modules() -> Outcome:
    folder = Path("/sys/kernel/btf")
    modules = sorted(path.name for path in folder.iterdir() if path.name != "vmlinux")
    if modules:
        return YES, f"{len(modules)} of them"
    try:
        Btf.kernel().offset("nf_conn", "status")
    except (NotInBtf, MissingFacility):
        return NO, "none, and netfilter's structures are not in the kernel's own"
    return YES, "none needed: netfilter is in the kernel's own"


def ring_buffer() -> Outcome:
    return _tried(lambda: bpfsys.map_create(27, 0, 0, 4096, "nt_doctor"), "made")


def netfilter_link() -> Outcome:
    def attach() -> int:
        program = bpfsys.prog_load(bpfsys.NETFILTER, RETURN_1, "nt_doctor", bpfsys.ATTACH_NETFILTER)
        for family in (2, 10):
            os.close(bpfsys.netfilter_link(program, family, 0, PRIORITY))
        return program

    return _tried(attach, "attached for IPv4 and IPv6")


def raw_tracepoint() -> Outcome:
    def attach() -> int:
        program = bpfsys.prog_load(bpfsys.RAW_TRACEPOINT, RETURN_0, "nt_doctor")
        os.close(bpfsys.raw_tracepoint(program, "kfree_skb"))
        return program

    return _tried(attach, "attached to kfree_skb")


def fentry() -> Outcome:
    def attach() -> int:
        function = Btf.kernel().id(HOOKED, FUNC)
        code, licence = ctypes.create_string_buffer(RETURN_0, 16), ctypes.create_string_buffer(b"Dual MIT/GPL")
        attr = struct.pack(
            "<IIQQIIQII16sIIIIQIIQII", TRACING, 2, ctypes.addressof(code), ctypes.addressof(licence), 0, 0, 0, 0, 0,
            b"nt_doctor", 0, TRACE_FENTRY, 0, 0, 0, 0, 0, 0, 0, function,
        )  # fmt: skip
        program = bpfsys.call(bpfsys.PROG_LOAD, attr, "fentry program")
        os.close(bpfsys.call(bpfsys.RAW_TRACEPOINT_OPEN, struct.pack("<QI", 0, program), f"fentry of {HOOKED}"))
        return program

    return _tried(attach, f"attached to {HOOKED}")


def kprobe() -> Outcome:
    def attach() -> int:
        program = bpfsys.prog_load(bpfsys.KPROBE, RETURN_0, "nt_doctor", version=_kernel_version())
        event = _perf_kprobe(HOOKED)
        try:
            fcntl.ioctl(event, PERF_EVENT_IOC_SET_BPF, program)
        finally:
            os.close(event)
        return program

    return _tried(attach, f"attached to {HOOKED}")


def _perf_kprobe(symbol: str) -> int:
    """perf_event_open(2) of the kprobe PMU: nothing is written to tracefs, so nothing can stay behind."""
    try:
        kind = int(Path("/sys/bus/event_source/devices/kprobe/type").read_text())
    except OSError:
        raise MissingFacility("this kernel has no kprobe events") from None
    name = ctypes.create_string_buffer(symbol.encode())
    attr = struct.pack("<IIQQQQQIIQQ", kind, 120, 0, 1, 0, 0, 0, 1, 0, ctypes.addressof(name), 0).ljust(120, b"\0")
    number = NR_PERF_EVENT_OPEN.get(platform.machine())
    if number is None:
        raise MissingFacility(f"nattrace does not know perf_event_open(2) on {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.syscall(number, ctypes.create_string_buffer(attr, 120), -1, 0, -1, 8)
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), f"kprobe on {symbol}")
    return fd


def _kernel_version() -> int:
    """LINUX_VERSION_CODE, which kernels before 5.0 want of a kprobe program."""
    numbers = [int(word) for word in re.findall(r"\d+", os.uname().release)[:3]]
    major, minor, patch = [*numbers, 0, 0, 0][:3]
    return major << 16 | minor << 8 | min(patch, 255)


def _tried(attach: Callable[[], int], done: str) -> Outcome:
    """Attach and close. EPERM tells missing privileges from a kernel that refuses although they are there."""
    bpfsys.lift_memlock()
    try:
        os.close(attach())
    except NotInBtf as error:
        return UNKNOWN, f"the kernel's BTF has no {error}"
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES):
            return NO, f"refused: {error.strerror}"
        lacking = [name for name, bits in _NEEDED if not any(holds(bit) for bit in bits)]
        if lacking:
            return UNKNOWN, f"could not be tested: it needs {' and '.join(lacking)}"
        if nested():
            return UNKNOWN, "could not be tested: capabilities of a nested user namespace do not count"
        return NO, "refused (EPERM) although the capabilities are there"
    return YES, done


_NEEDED = (
    ("CAP_BPF", (CAP_BPF, CAP_SYS_ADMIN)),
    ("CAP_PERFMON", (CAP_PERFMON, CAP_SYS_ADMIN)),
    ("CAP_NET_ADMIN", (CAP_NET_ADMIN, CAP_SYS_ADMIN)),
)
