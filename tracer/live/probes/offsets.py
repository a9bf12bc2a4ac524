"""What the programs must know of the running kernel's types, as -D options for the compiler."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

from ....sim.errors import MissingFacility
from ..btf import FUNC, STRUCT, Btf, NotInBtf

WINDOW_SIZE = 256
CAST_FUNCTION = "bpf_rdonly_cast"  # since 6.2

OFFSETS = {  # macro: (structure, member); several where kernels differ, the first that exists counts
    "O_NFCT": [("sk_buff", "_nfct")],
    "O_HEAD": [("sk_buff", "head")],
    "O_DATA": [("sk_buff", "data")],
    "O_TAIL": [("sk_buff", "tail")],
    "O_END": [("sk_buff", "end")],
    "O_NETWORK_HEADER": [("sk_buff", "network_header")],
    "O_LEN": [("sk_buff", "len")],
    "O_MARK": [("sk_buff", "mark")],
    "O_DEV": [("sk_buff", "dev")],
    "O_SK": [("sk_buff", "sk")],
    "O_SK_STATE": [("sock", "__sk_common.skc_state")],
    "O_SK_NET": [("sock", "__sk_common.skc_net.net")],
    "O_SK_UID": [("sock", "sk_uid")],
    "O_STATE_HOOK": [("nf_hook_state", "hook")],
    "O_STATE_IN": [("nf_hook_state", "in")],
    "O_STATE_OUT": [("nf_hook_state", "out")],
    "O_STATE_PF": [("nf_hook_state", "pf")],
    "O_STATE_NET": [("nf_hook_state", "net")],
    "O_NET_INUM": [("net", "ns.inum")],
    "O_IFINDEX": [("net_device", "ifindex")],
    "O_ND_NET": [("net_device", "nd_net.net")],
    "O_GSO_SIZE": [("skb_shared_info", "gso_size")],
    "O_FL4_SADDR": [("flowi4", "saddr")],
    "O_FL4_DADDR": [("flowi4", "daddr")],
    "O_FL4_ULI": [("flowi4", "uli")],
    "O_FL6_SADDR": [("flowi6", "saddr")],
    "O_FL6_DADDR": [("flowi6", "daddr")],
    "O_FL6_ULI": [("flowi6", "uli")],
    "O_FL_PROTO": [("flowi_common", "flowic_proto")],
    "O_FL_MARK": [("flowi_common", "flowic_mark")],
    "O_FL_IIF": [("flowi_common", "flowic_iif")],
    "O_FL_UID": [("flowi_common", "flowic_uid")],
    "O_NHC_DEV": [("fib_nh_common", "nhc_dev")],
    "O_NHC_GW": [("fib_nh_common", "nhc_gw")],
    "O_F6R_NH": [("fib6_result", "nh")],
    "O_F6R_TYPE": [("fib6_result", "fib6_type")],
    "O_F6NH_DEV": [("fib6_nh", "nh_common.nhc_dev")],
    "O_F6NH_GW": [("fib6_nh", "nh_common.nhc_gw")],
    "O_FIB6_TABLE": [("fib6_table", "tb6_id")],
    "O_NSPROXY": [("task_struct", "nsproxy")],
    "O_NET_NS": [("nsproxy", "net_ns")],
    "O_NEIGH_DEV": [("neighbour", "dev")],
    "O_NEIGH_KEY": [("neighbour", "primary_key")],
    "O_NEIGH_TBL": [("neighbour", "tbl")],
    "O_NEIGH_STATE": [("neighbour", "nud_state")],
    "O_NEIGH_FAMILY": [("neigh_table", "family")],
    "O_OPS_PRIORITY": [("nf_hook_ops", "priority")],
}  # fmt: skip
CONNTRACK = {"O_CT_ZONE": "zone", "O_CT_STATUS": "status", "O_CT_MARK": "mark"}
TYPES = {
    "SK_BUFF_ID": "sk_buff",
    "HOOK_STATE_ID": "nf_hook_state",
    "SOCK_ID": "sock",
    "NET_ID": "net",
    "TASK_ID": "task_struct",
    "FLOWI4_ID": "flowi4",
    "FLOWI6_ID": "flowi6",
    "FIB_NHC_ID": "fib_nh_common",
    "FIB6_RESULT_ID": "fib6_result",
    "FIB6_TABLE_ID": "fib6_table",
    "NEIGHBOUR_ID": "neighbour",
}


MODULES = ("nf_conntrack", "nf_tables", "x_tables", "ip_tables")  # that describe types where they are modules


def digest() -> str:
    """Of what is asked here: kept answers to other questions do not serve."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def macros(kernel: Btf, cpus: int, links: bool, fetch: bool) -> dict[str, int | str]:
    """All -D options for this kernel. ``links``, ``fetch``: whether it has netfilter links and atomic fetch-and-add.

    Raises NotInBtf where a member that every supported kernel has is absent.
    """
    found: dict[str, int | str] = {"CPUS": 1 << max(cpus - 1, 0).bit_length(), "BLOOM_BITS": 1 << 16}
    found |= {"LINKS": int(links), "FETCH": int(fetch)}
    for macro, places in OFFSETS.items():
        found[macro] = _first(kernel, places)
    fast = _has(kernel, CAST_FUNCTION)
    found["FAST"] = int(fast)
    found["WINDOW_ID"] = kernel.window(WINDOW_SIZE) if fast else 0
    for macro, structure in TYPES.items():
        found[macro] = kernel.id(structure, STRUCT) if fast else 0
    found |= conntrack(kernel)
    found |= arguments(kernel)
    if not links:
        found |= functions(kernel)
    return found


REGISTERS = {  # of struct pt_regs, in words: arguments, stack pointer, result; what a return takes off the stack
    "x86_64": {"REG_1": 14, "REG_2": 13, "REG_3": 12, "REG_SP": 19, "REG_RESULT": 10, "RETURN_POPS": 8},
    "aarch64": {"REG_1": 0, "REG_2": 1, "REG_3": 2, "REG_SP": 31, "REG_RESULT": 0, "RETURN_POPS": 0},
}


def functions(kernel: Btf) -> dict[str, int | str]:
    """What the functions that hook in are called with, for kprobes. Raises MissingFacility."""
    registers = REGISTERS.get(platform.machine())
    if registers is None:
        raise MissingFacility(
            f"nattrace does not know the registers of {platform.machine()}", remedy="use trace --tap queue"
        )
    found: dict[str, int | str] = dict(registers)
    tables = kernel.module("x_tables") or kernel
    found["O_TABLE_PRIORITY"] = _or(tables, "xt_table", "priority", 44)
    found["O_TABLE_NAME"] = _or(tables, "xt_table", "name", 56)
    legacy = kernel.module("ip_tables") or kernel
    try:
        found["TABLE_PRIV_FIRST"] = int(legacy.function("ipt_do_table")[0] == "priv")
    except NotInBtf:
        found["TABLE_PRIV_FIRST"] = 0  # the order changed in 5.16, and kernels since 5.11 describe their modules
    nft = kernel.module("nf_tables") or kernel
    found["O_PKT_SKB"] = _or(nft, "nft_pktinfo", "skb", 0)
    # without a description of the module (5.10): nft_pktinfo.xt.state, and nft_base_chain = ops, hook list, type, …, chain
    found["O_PKT_STATE"] = _or(nft, "nft_pktinfo", "state", _or(nft, "nft_pktinfo", "xt.state", 32))
    found["O_CHAIN_IN_BASE"] = _or(nft, "nft_base_chain", "chain", kernel.size("nf_hook_ops") + 40)
    return found


def _or(blob: Btf, structure: str, member: str, otherwise: int) -> int:
    try:
        return blob.offset(structure, member)
    except NotInBtf:
        return otherwise


def conntrack(kernel: Btf) -> dict[str, int | str]:
    """struct nf_conn, which a module describes where conntrack is one."""
    blob = kernel
    try:
        kernel.offset("nf_conn", "status")
    except NotInBtf:
        blob = kernel.module("nf_conntrack") or kernel
    found: dict[str, int | str] = {
        macro: blob.offset("nf_conn", member) for macro, member in CONNTRACK.items() if member != "mark"
    }
    try:
        found["O_CT_MARK"] = blob.offset("nf_conn", "mark")
    except NotInBtf:
        found["O_CT_MARK"] = 0
    node = blob.offset("nf_conntrack_tuple_hash", "tuple")
    found["O_TUPLE"] = blob.offset("nf_conn", "tuplehash") + node
    found["REPLY"] = blob.size("nf_conntrack_tuple_hash")
    return found


def arguments(kernel: Btf) -> dict[str, int | str]:
    """Which argument of a tracepoint is what: kernels added some."""
    drop = kernel.tracepoint("kfree_skb")
    found: dict[str, int | str] = {
        "DROP_REASON": "(u32)ctx[2]" if "skb_drop_reason" in drop else "0",
        "DROP_SOCK": f"ctx[{drop.index('sock *')}]" if "sock *" in drop else "0",
    }
    try:
        reset = kernel.tracepoint("tcp_send_reset")
    except NotInBtf:
        reset = []
    places = kernel.tracepoint("consume_skb")
    found["CONSUME_PLACE"] = "ctx[1]" if len(places) > 1 else "0"
    found["RESET_REASON"] = "(u32)ctx[2]" if len(reset) > 2 else "0"
    return found


def _first(kernel: Btf, places: list[tuple[str, str]]) -> int:
    for structure, member in places[:-1]:
        try:
            return kernel.offset(structure, member)
        except NotInBtf:
            continue
    return kernel.offset(*places[-1])


def _has(kernel: Btf, function: str) -> bool:
    try:
        kernel.id(function, FUNC)
    except NotInBtf:
        return False
    return True
