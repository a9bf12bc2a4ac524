"""From ``bpf/*.c`` to programs in the kernel: compiled by bcc without any kernel header, kept, linked to maps, loaded.

bcc insists on a directory of kernel headers, and its own preamble includes five of them. It gets a directory with those
five, written here, so that no header package is needed and compiling takes a fraction of a second. The compiler leaves
magic constants in the byte code (``bpf/include/kernel.h``); ``link()`` replaces them: maps by their descriptors, calls
by the number of the kernel's function, a tap's priority by the one it is attached at. So one compiled text serves every
priority and every start, and is kept in the cache directory of the user.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...sim.errors import MissingFacility
from .. import scratch as scratches
from . import btf
from .probes import offsets

SOURCES = Path(__file__).parents[2] / "bpf"
FORMAT = 1
MAX_CACHED = 4 << 20
MAP_BY_FD, MAP_VALUE = 0x7EED0100, 0x7EED0200  # + number of the map
CONFIG = 0x7EED0300  # low word: size << 16 | offset in the configuration
PRIORITY, KIND, CAST, PCAP = 0x7EED1234, 0x7EED1235, 0x7EED0001, 0x7EED0003
LD_IMM64, CALL, ATOMIC64, MOV64_IMM = 0x18, 0x85, 0xDB, 0xB7
BPF_FETCH = 1
SEQUENCE = 2030  # the offset by which the counter of events is known

HEADERS = {
    "include/linux/types.h": """
typedef signed char __s8, s8; typedef unsigned char __u8, u8; typedef short __s16, s16; typedef unsigned short __u16, u16;
typedef int __s32, s32, pid_t; typedef unsigned int __u32, u32; typedef long long __s64, s64;
typedef unsigned long long __u64, u64; typedef _Bool bool; typedef unsigned long size_t, uintptr_t;
typedef __u64 __aligned_u64 __attribute__((aligned(8)));
typedef __u16 __le16, __be16, __sum16; typedef __u32 __le32, __be32, __wsum; typedef __u64 __le64, __be64;
""",
    "include/linux/kconfig.h": "#define CONFIG_BPF_SYSCALL 1\n",
    "include/linux/version.h": "#define LINUX_VERSION_CODE 0\n#define KERNEL_VERSION(a, b, c) ((a) * 65536 + (b) * 256 + (c))\n",
    "include/linux/bpf_common.h": "",
    "include/linux/log2.h": "",
    "include/uapi/linux/bpf.h": "",
    "include/uapi/linux/if_packet.h": "",
}


class Programs:
    """Compiled functions: byte code by name, not linked yet."""

    def __init__(self, code: dict[str, bytes], cached: bool) -> None:
        self.code = code
        self.cached = cached


def programs(source: str, macros: Mapping[str, int | str], identity: str, functions: list[str]) -> Programs:
    """The functions of ``bpf/SOURCE``, from the cache or compiled now. Raises MissingFacility."""
    text, includes = _sources(source)
    options = [f"-D{name}={value}" for name, value in sorted(macros.items())]
    key = hashlib.sha256(
        json.dumps([FORMAT, text, includes, options, identity, platform.release(), bcc_version(), functions]).encode()
    ).hexdigest()
    code = _from_cache(key, functions)
    if code is not None:
        return Programs(code, True)
    code = _compile(text, includes, options, functions)
    _to_cache(key, code)
    return Programs(code, False)


def _sources(source: str) -> tuple[str, dict[str, str]]:
    includes = {path.name: path.read_text() for path in sorted((SOURCES / "include").glob("*.h"))}
    return (SOURCES / source).read_text(), includes


def bcc_version() -> str:
    """Of the installed bcc, without importing it: importing takes longer than everything else."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("bcc")
    except PackageNotFoundError:
        return "none"


# --- compiling


def _compile(text: str, includes: dict[str, str], options: list[str], functions: list[str]) -> dict[str, bytes]:
    """In a child: bcc changes the working directory and keeps a compiler's worth of memory."""
    order = json.dumps({"text": text, "includes": includes, "options": options, "functions": functions})
    code = "from nattrace.tracer.live.compile import child; child()"
    done = subprocess.run([sys.executable, "-c", code], input=order, capture_output=True, text=True, timeout=600)
    if done.returncode == 3:
        raise MissingFacility(
            "bcc is not installed",
            remedy="apt-get install python3-bpfcc, and a virtual environment that sees the system's packages",
        )
    if done.returncode:
        raise MissingFacility(f"bcc could not compile the probes: {' '.join(done.stderr.split())[-600:]}")
    answer = json.loads(done.stdout)
    return {name: base64.b64decode(value) for name, value in answer.items()}


def child() -> None:
    """Compile what standard input says; the functions' byte code as JSON on standard output."""
    order = json.load(sys.stdin)
    try:
        with tempfile.TemporaryDirectory(prefix=scratches.prefix()) as folder:
            headers = HEADERS | {
                f"arch/{arch}/include/asm/page.h": "" for arch in ("x86", "arm64", "riscv", "powerpc", "s390")
            }
            for name, content in headers.items() | {(f"include/{k}", v) for k, v in order["includes"].items()}:
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
            os.environ["BCC_KERNEL_SOURCE"] = folder
            from bcc import BPF

            module = BPF(text=order["text"], cflags=[*order["options"], f"-I{folder}/include", "-Wno-everything"])
            code = {name: base64.b64encode(module.dump_func(name.encode())).decode() for name in order["functions"]}
    except ImportError:
        raise SystemExit(3) from None
    json.dump(code, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # bcc's own end takes longer than all the rest


# --- the cache


def cache_folder() -> Path:
    """Where byte code is kept: $XDG_CACHE_HOME/nattrace/bpf."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base, "nattrace", "bpf")


def _ours(path: Path, file: int) -> bool:
    """Byte code goes into the kernel with our rights: never take it from where another user can write."""
    there = os.fstat(file)
    if there.st_uid != os.geteuid() or there.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or not stat.S_ISREG(there.st_mode):
        return False
    for folder in (path.parent, path.parent.parent):
        state = os.stat(folder)
        if state.st_uid != os.geteuid() or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
    return True


def _kept(name: str) -> dict[str, Any] | None:
    """A file of the cache, None if there is none to be trusted."""
    path = cache_folder() / f"{name}.json"
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(file, "rb") as stream:
        if not _ours(path, stream.fileno()) or os.fstat(stream.fileno()).st_size > MAX_CACHED:
            return None
        data = stream.read()
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _keep(name: str, content: dict[str, Any]) -> None:
    """Write a file of the cache; a cache that cannot be written is no error."""
    folder = cache_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, new = tempfile.mkstemp(dir=folder, prefix=".new-")
        try:
            with os.fdopen(handle, "w") as stream:
                json.dump(content, stream)
            os.replace(new, folder / f"{name}.json")
        except OSError:
            os.unlink(new)
            return
        _forget_old(folder)
    except OSError:
        return


def _from_cache(key: str, functions: list[str]) -> dict[str, bytes] | None:
    kept = _kept(key)
    if kept is None:
        return None
    try:
        code = {name: base64.b64decode(kept["code"][name]) for name in functions}
        whole = kept["sum"] == _sum(code)
    except (ValueError, KeyError, TypeError):
        return None
    return code if whole else None


def _sum(code: dict[str, bytes]) -> str:
    return hashlib.sha256(b"".join(name.encode() + b"\0" + code[name] for name in sorted(code))).hexdigest()


def _to_cache(key: str, code: dict[str, bytes]) -> None:
    _keep(key, {"code": {k: base64.b64encode(v).decode() for k, v in code.items()}, "sum": _sum(code)})


def _forget_old(folder: Path, keep: int = 40) -> None:
    kept = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in kept[keep:]:
        path.unlink(missing_ok=True)


# --- linking


def link(
    code: bytes,
    maps: Mapping[int, int],
    config: bytes = b"",
    cast: int | None = None,
    constants: Mapping[int, int] | None = None,
    pcap: bytes | None = None,
) -> bytes:
    """Byte code as the kernel takes it.

    ``maps``: number -> descriptor; ``config``: struct config; ``cast``: number of bpf_rdonly_cast in the BTF;
    ``constants``: what to write over PRIORITY and KIND; ``pcap``: a function that judges a packet, put behind the program.
    """
    constants = constants or {}
    insns = [code[i : i + 8] for i in range(0, len(code), 8)]
    calls = []
    at = 0
    while at < len(insns):
        op, regs, off, imm = struct.unpack("<BBhi", insns[at])
        if op == LD_IMM64:
            (high,) = struct.unpack_from("<4xI", insns[at + 1])
            kind = high & 0xFFFFFF00
            if kind in (MAP_BY_FD, MAP_VALUE):
                source = 1 if kind == MAP_BY_FD else 2
                insns[at] = struct.pack("<BBhi", op, regs & 15 | source << 4, 0, maps[high & 0xFF])
                insns[at + 1] = struct.pack("<BBhi", 0, 0, 0, 0)
            elif high == CONFIG:
                value = config[imm & 0xFFFF :][: imm >> 16]
                insns[at] = struct.pack("<BBh4s", op, regs, 0, value.ljust(4, b"\0"))
                insns[at + 1] = bytes(8)
            at += 2
            continue
        if op == MOV64_IMM and imm in constants:
            insns[at] = struct.pack("<BBhi", op, regs, off, constants[imm])
        elif op == CALL and regs == 0 and imm == CAST:
            if cast is None:
                raise ValueError("this program casts, and the kernel has no such function")
            insns[at] = struct.pack("<BBhi", op, 2 << 4, 0, cast)
        elif op == CALL and regs == 0 and imm == PCAP:
            calls.append(at)
        elif op == ATOMIC64 and off == SEQUENCE:
            insns[at] = struct.pack("<BBhi", op, regs, 0, BPF_FETCH)
        at += 1
    for place in calls:
        if pcap is None:  # never reached: the flag that leads here is off
            insns[place] = struct.pack("<BBhi", MOV64_IMM, 0, 0, 0)
        else:
            insns[place] = struct.pack("<BBhi", CALL, 1 << 4, 0, len(insns) - place - 1)
    return b"".join(insns) + (pcap or b"" if calls else b"")


# --- what the programs must know of the kernel's types


def kernel_identity() -> str:
    """Of the running kernel and the modules that describe types: two kernels of one release can differ.

    The build id says it at once; a kernel without one is known by its BTF.
    """
    try:
        notes = Path("/sys/kernel/notes").read_bytes()
    except OSError:
        notes = btf.kernel_blob()
    modules = sorted(name for name in offsets.MODULES if (btf.FOLDER / name).exists())
    return hashlib.sha256(notes + json.dumps([platform.release(), platform.version(), modules]).encode()).hexdigest()


def types(identity: str, cpus: int, links: bool, fetch: bool) -> tuple[dict[str, int | str], int | None]:
    """(-D options, number of bpf_rdonly_cast or None) for this kernel, from the cache or from its BTF."""
    name = hashlib.sha256(
        json.dumps(["types", FORMAT, offsets.digest(), identity, cpus, links, fetch]).encode()
    ).hexdigest()
    kept = _kept(name)
    if kept is not None and isinstance(kept.get("macros"), dict):
        return kept["macros"], kept.get("cast")
    kernel = btf.Btf.kernel()
    macros = offsets.macros(kernel, cpus, links, fetch)
    cast = kernel.id(offsets.CAST_FUNCTION, btf.FUNC) if macros["FAST"] else None
    _keep(name, {"macros": macros, "cast": cast})
    return macros, cast
