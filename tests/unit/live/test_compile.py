"""Linking of byte code, and the cache that must not become a way into the kernel."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
from nattrace.tracer.live import compile


def insn(op: int, regs: int = 0, off: int = 0, imm: int = 0) -> bytes:
    return struct.pack("<BBhI", op, regs, off, imm & 0xFFFFFFFF)


def wide(regs: int, low: int, high: int) -> bytes:
    return insn(0x18, regs, 0, low) + insn(0, 0, 0, high)


def test_maps_become_descriptors() -> None:
    code = compile.link(wide(1, 0, compile.MAP_BY_FD + 5) + wide(2, 0, compile.MAP_VALUE + 2), {5: 77, 2: 78})
    assert code == wide(1 | 1 << 4, 77, 0) + wide(2 | 2 << 4, 78, 0)


def test_configuration_becomes_constants_of_its_width() -> None:
    config = bytes([1, 2, 3, 4, 0xFF, 0xFE, 0, 0])
    code = b"".join(wide(1, size << 16 | at, compile.CONFIG) for size, at in ((4, 0), (2, 4), (1, 5)))
    done = compile.link(code, {}, config)
    assert done == wide(1, 0x04030201, 0) + wide(1, 0xFEFF, 0) + wide(1, 0xFE, 0)


def test_a_priority_a_cast_and_a_counter() -> None:
    code = insn(0xB7, 1, 0, compile.PRIORITY) + insn(0x85, 0, 0, compile.CAST)
    counters = insn(0xDB, 0x12, compile.SEQUENCE, 0) + insn(0xDB, 0x12, 0, 0)
    done = compile.link(code + counters, {}, b"", 4711, {compile.PRIORITY: -199})
    assert done[:16] == insn(0xB7, 1, 0, -199) + insn(0x85, 2 << 4, 0, 4711)
    assert done[16:] == insn(0xDB, 0x12, 0, 1) + insn(0xDB, 0x12, 0, 0), "only the counter of events fetches"


def test_an_expression_is_called_behind_the_program() -> None:
    code = insn(0x85, 0, 0, compile.PCAP) + insn(0x95)
    judge = insn(0xB7, 0, 0, 1) + insn(0x95)
    assert compile.link(code, {}, pcap=judge) == insn(0x85, 1 << 4, 0, 1) + insn(0x95) + judge
    assert compile.link(code, {}) == insn(0xB7) + insn(0x95)


def test_a_constant_that_looks_like_the_second_half_is_left_alone() -> None:
    code = insn(0x18, 1, 0, compile.PRIORITY) + insn(0, 0, 0, 1)
    assert compile.link(code, {}, constants={compile.PRIORITY: 3}) == code


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compile._to_cache("key", {"f": b"12345678"})
    return compile.cache_folder() / "key.json"


def test_kept_code_comes_back(cache: Path) -> None:
    assert compile._from_cache("key", ["f"]) == {"f": b"12345678"}
    assert compile._from_cache("key", ["g"]) is None
    assert compile._from_cache("other", ["f"]) is None
    assert cache.parent.stat().st_mode & 0o077 == 0


def test_code_that_others_can_write_is_not_taken(cache: Path, tmp_path: Path) -> None:
    os.chmod(cache, 0o602)
    assert compile._from_cache("key", ["f"]) is None
    os.chmod(cache, 0o600)
    os.chmod(cache.parent, 0o777)
    assert compile._from_cache("key", ["f"]) is None
    os.chmod(cache.parent, 0o700)
    elsewhere = tmp_path / "elsewhere.json"
    cache.rename(elsewhere)
    cache.symlink_to(elsewhere)
    assert compile._from_cache("key", ["f"]) is None


def test_damaged_code_is_not_taken(cache: Path) -> None:
    kept = json.loads(cache.read_text())
    kept["code"]["f"] = "MTIzNDU2Nzk="
    cache.write_text(json.dumps(kept))
    assert compile._from_cache("key", ["f"]) is None
    for text in ("", "[]", "{", "{}", '{"code": 3, "sum": ""}'):
        cache.write_text(text)
        assert compile._from_cache("key", ["f"]) is None


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nonexistent")
    compile._to_cache("key", {"f": b""})
    assert compile._from_cache("key", ["f"]) is None
