"""The reader of the kernel's types against bpftool."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from nattrace.tracer.live.btf import FUNC, STRUCT, Btf, NotInBtf, drop_reasons


@pytest.fixture(scope="module")
def kernel() -> Btf:
    return Btf.kernel()


@pytest.fixture(scope="module")
def bpftool() -> dict[int, dict[str, Any]]:
    done = subprocess.run(
        ["bpftool", "-j", "btf", "dump", "file", "/sys/kernel/btf/vmlinux"], capture_output=True, check=True
    )
    return {entry["id"]: entry for entry in json.loads(done.stdout)["types"]}


def by_name(types: dict[int, dict[str, Any]], name: str, kind: str) -> dict[str, Any]:
    return next(entry for entry in types.values() if entry["name"] == name and entry["kind"] == kind)


@pytest.mark.parametrize(
    "name", ["sk_buff", "nf_conn", "net_device", "nf_hook_state", "sock", "neighbour", "flowi4", "task_struct"]
)
def test_members_lie_where_bpftool_says(kernel: Btf, bpftool: dict[int, dict[str, Any]], name: str) -> None:
    entry = by_name(bpftool, name, "STRUCT")
    assert kernel.id(name, STRUCT) == entry["id"]
    assert kernel.size(name) == entry["size"]
    ours = {member: bits for member, bits, _ in kernel.members(entry["id"])}
    named = [member for member in entry["members"] if member["name"] != "(anon)"]
    assert named
    for member in named:
        assert ours[member["name"]] == member["bits_offset"]


def test_enums_are_those_of_bpftool(kernel: Btf, bpftool: dict[int, dict[str, Any]]) -> None:
    entry = by_name(bpftool, "skb_drop_reason", "ENUM")
    values = {value["val"] & 0xFFFFFFFF: value["name"] for value in entry["values"]}
    assert kernel.enum("skb_drop_reason") == values
    assert set(values.items()) <= set(drop_reasons(kernel).items())


def test_functions_and_tracepoints(kernel: Btf, bpftool: dict[int, dict[str, Any]]) -> None:
    assert kernel.id("bpf_rdonly_cast", FUNC) == by_name(bpftool, "bpf_rdonly_cast", "FUNC")["id"]
    assert kernel.tracepoint("netif_receive_skb") == ["sk_buff *"]
    assert kernel.tracepoint("kfree_skb")[:2] == ["sk_buff *", "void *"]
    assert kernel.function("nf_hook_slow")[:2] == ["skb", "state"]


def test_a_window_starts_with_an_array_of_plain_numbers(kernel: Btf, bpftool: dict[int, dict[str, Any]]) -> None:
    entry = bpftool[kernel.window(256)]
    assert entry["size"] >= 256
    first = bpftool[entry["members"][0]["type_id"]]
    while first["kind"] == "TYPEDEF":
        first = bpftool[first["type_id"]]
    assert (entry["members"][0]["bits_offset"], first["kind"]) == (0, "ARRAY")


def test_what_is_not_there_is_said(kernel: Btf) -> None:
    with pytest.raises(NotInBtf):
        kernel.offset("sk_buff", "no_such_member")
    with pytest.raises(NotInBtf):
        kernel.id("no_such_structure", STRUCT)
    with pytest.raises(NotInBtf):
        kernel.tracepoint("no_such_tracepoint")
    assert kernel.module("no_such_module") is None
    with pytest.raises(ValueError):
        Btf(bytes(24))
