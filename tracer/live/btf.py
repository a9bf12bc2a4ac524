"""The kernel's own description of its types (BTF, Documentation/bpf/btf.rst): offsets, enums, arguments of tracepoints.

bcc's idea of a structure comes from whatever header package is installed; only the running kernel knows its layout.

    >>> kernel = Btf.kernel()
    >>> kernel.offset("sk_buff", "mark") > 0
    True
    >>> kernel.enum("skb_drop_reason")[6]       # differs from kernel to kernel
    'SKB_DROP_REASON_...'
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from ...sim.errors import MissingFacility

FOLDER = Path("/sys/kernel/btf")
INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO = range(1, 14)
VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(14, 20)
# octets behind the common 12 of each type: a fixed part by kind, and a part for each of its vlen elements
FIXED = {INT: 4, ARRAY: 12, VAR: 4, DECL_TAG: 4}
EACH = {STRUCT: 12, UNION: 12, ENUM: 8, FUNC_PROTO: 8, DATASEC: 12, ENUM64: 12}
QUALIFIERS = (TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG)
NAMED = (STRUCT, UNION, ENUM, ENUM64, TYPEDEF, FUNC)


class NotInBtf(KeyError):
    """A type or member this kernel does not have."""


class Btf:
    """One BTF blob; ``base`` for that of a module, whose numbers and strings continue those of the kernel."""

    def __init__(self, data: bytes, base: Btf | None = None) -> None:
        self.base = base
        self.data = data
        self.places: list[int] = []  # of each type of this blob, by number
        self.first: int = base.first + len(base.places) if base else 0
        magic, header, types, types_size, strings, strings_size = struct.unpack_from("<H2xIIIII", data, 0)
        if magic != 0xEB9F:
            raise ValueError("this is no BTF")
        self.strings = data[header + strings : header + strings + strings_size]
        self.string_start: int = base.string_start + len(base.strings) if base else 0
        self._named: dict[tuple[int, int], int] = {}  # (offset of the name, kind) -> number of the first such type
        self._walk(header + types, header + types + types_size)

    @classmethod
    def kernel(cls) -> Btf:
        """That of the running kernel. Raises MissingFacility."""
        return cls(kernel_blob())

    def module(self, name: str) -> Btf | None:
        """That of a module of this kernel, None if it is not loaded or has none."""
        try:
            return Btf((FOLDER / name).read_bytes(), self)
        except OSError:
            return None

    def _walk(self, at: int, end: int) -> None:
        data, places, named = self.data, self.places, self._named
        head, fixed, each = struct.Struct("<II").unpack_from, FIXED, EACH
        if self.base is None:
            places.append(-1)  # number 0 is void
        number = self.first + len(places)
        while at < end:
            name, info = head(data, at)
            kind = info >> 24 & 31
            places.append(at)
            if name and kind in NAMED:
                named.setdefault((name, kind), number)
            number += 1
            at += 12 + fixed.get(kind, 0) + each.get(kind, 0) * (info & 0xFFFF)

    def _text(self, offset: int) -> str:
        if self.base is not None and offset < self.string_start:
            return self.base._text(offset)
        offset -= self.string_start
        return self.strings[offset : self.strings.index(b"\0", offset)].decode(errors="replace")

    def _where(self, number: int) -> tuple[Btf, int]:
        """The blob and place of a type."""
        if self.base is not None and number < self.first:
            return self.base._where(number)
        return self, self.places[number - self.first]

    def id(self, name: str, *kinds: int) -> int:
        """The number of a named type. Raises NotInBtf."""
        blob: Btf | None = self
        while blob is not None:
            at = blob.strings.find(b"\0" + name.encode() + b"\0")
            offset = at + 1 + blob.string_start
            for kind in kinds:
                if at >= 0 and (offset, kind) in self._named:
                    return self._named[offset, kind]
                if at >= 0 and self.base is not None and (offset, kind) in self.base._named:
                    return self.base._named[offset, kind]
            blob = blob.base
        raise NotInBtf(name)

    def _head(self, number: int) -> tuple[Btf, int, int, int, int]:
        """(blob, place, kind, vlen with the kind flag in bit 31, size or type)."""
        blob, at = self._where(number)
        info, size = struct.unpack_from("<4xII", blob.data, at)
        return blob, at, info >> 24 & 31, info & 0x8000FFFF, size

    def resolve(self, number: int) -> int:
        """Behind typedefs and qualifiers."""
        while number:
            _, _, kind, _, target = self._head(number)
            if kind not in QUALIFIERS:
                break
            number = target
        return number

    def members(self, number: int, base: int = 0) -> Iterator[tuple[str, int, int]]:
        """(name, offset in bits, type) of a structure; those of anonymous members are its own."""
        blob, at, kind, vlen, _ = self._head(number)
        if kind not in (STRUCT, UNION):
            return
        for i in range(vlen & 0xFFFF):
            name, target, offset = struct.unpack_from("<III", blob.data, at + 12 + 12 * i)
            bits = base + (offset & 0xFFFFFF if vlen >> 31 else offset)
            text = self._text(name)
            if text:
                yield text, bits, target
            else:
                yield from self.members(self.resolve(target), bits)

    def offset(self, structure: str, path: str) -> int:
        """Octets from the start, e.g. ``offset("net", "ns.inum")``. Raises NotInBtf."""
        number, bits = self.id(structure, STRUCT, UNION), 0
        for part in path.split("."):
            for name, at, target in self.members(number):
                if name == part:
                    bits += at
                    number = self.resolve(target)
                    break
            else:
                raise NotInBtf(f"{structure}.{path}")
        return bits // 8

    def size(self, structure: str) -> int:
        """sizeof."""
        return self._head(self.id(structure, STRUCT, UNION))[4]

    def enum(self, name: str) -> dict[int, str]:
        """The names of an enum by value. Raises NotInBtf."""
        return self._enum(self.id(name, ENUM, ENUM64))

    def _enum(self, number: int) -> dict[int, str]:
        blob, at, kind, vlen, _ = self._head(number)
        step = 8 if kind == ENUM else 12
        found: dict[int, str] = {}
        for place in range(at + 12, at + 12 + step * (vlen & 0xFFFF), step):
            name, value = struct.unpack_from("<II", blob.data, place)
            found.setdefault(value, self._text(name))
        return found

    def enums(self, ending: str) -> dict[str, dict[int, str]]:
        """All enums of this blob whose name ends so."""
        found = {}
        for (name, kind), number in self._named.items():
            if kind in (ENUM, ENUM64) and (text := self._text(name)).endswith(ending):
                found[text] = self._enum(number)
        return found

    def tracepoint(self, name: str) -> list[str]:
        """Types of a tracepoint's arguments in their order ("sk_buff *", "int"): they have no names. Raises NotInBtf."""
        target = self.resolve(self.id(f"btf_trace_{name}", TYPEDEF))
        _, _, kind, _, proto = self._head(target)
        if kind != PTR:
            raise NotInBtf(f"btf_trace_{name}")
        blob, at, _, vlen, _ = self._head(proto)
        places = range(at + 16, at + 12 + 8 * (vlen & 0xFFFF), 8)
        return [self.type_text(struct.unpack_from("<I", blob.data, place)[0]) for place in places][
            1:
        ]  # the probe's own data first

    def type_text(self, number: int) -> str:
        """A type as C writes it, without qualifiers."""
        number = self.resolve(number)
        if not number:
            return "void"
        blob, at, kind, _, target = self._head(number)
        if kind == PTR:
            return f"{self.type_text(target)} *"
        return self._text(struct.unpack_from("<I", blob.data, at)[0])

    def function(self, name: str) -> list[str]:
        """The names of a function's parameters. Raises NotInBtf."""
        return self._parameters(self._head(self.id(name, FUNC))[4])

    def _parameters(self, proto: int) -> list[str]:
        blob, at, _, vlen, _ = self._head(proto)
        return [self._text(struct.unpack_from("<I", blob.data, at + 12 + 8 * i)[0]) for i in range(vlen & 0xFFFF)]

    def window(self, least: int) -> int:
        """The number of a structure that starts with an array of integers of at least ``least`` octets.

        A program that may read memory only through a typed pointer reads any memory through this one.
        """
        best, size = 0, 1 << 30
        for (_, kind), number in self._named.items():
            if kind != STRUCT:
                continue
            blob, at, _, vlen, whole = self._head(number)
            if not least <= whole < size or not vlen & 0xFFFF:
                continue
            _, target, offset = struct.unpack_from("<III", blob.data, at + 12)
            if offset == 0 and self._plain_array(self.resolve(target)) >= least:
                best, size = number, whole
        if not best:
            raise NotInBtf(f"a structure that starts with {least} octets of integers")
        return best

    def _plain_array(self, number: int) -> int:
        blob, at, kind, _, _ = self._head(number)
        if kind != ARRAY:
            return 0
        element, _, count = struct.unpack_from("<III", blob.data, at + 12)
        _, _, kind, _, size = self._head(self.resolve(element))
        return count * size if kind == INT else 0


def kernel_blob() -> bytes:
    """The BTF of the running kernel. Raises MissingFacility."""
    try:
        return (FOLDER / "vmlinux").read_bytes()
    except OSError as error:
        raise MissingFacility(
            f"this kernel does not describe its types ({FOLDER / 'vmlinux'}: {error.strerror})",
            remedy="a kernel with CONFIG_DEBUG_INFO_BTF is needed, as all distributions ship since about 2021",
        ) from None


def drop_reasons(kernel: Btf) -> dict[int, str]:
    """Names of the reasons that kfree_skb gives, subsystems' own reasons included (subsystem number << 16 | reason)."""
    found: dict[int, str] = {}
    try:
        found.update(kernel.enum("skb_drop_reason"))
    except NotInBtf:
        return found  # before 5.17 the kernel gave none
    blobs = [kernel, *(module for name in ("openvswitch", "mac80211") if (module := kernel.module(name)))]
    for blob in blobs:
        for name, values in blob.enums("_drop_reason").items():
            if name != "skb_drop_reason":
                found.update({value: text for value, text in values.items() if value >= 1 << 16})
    return found
