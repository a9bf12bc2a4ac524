"""What the live commands use of the kernel, each tried: probes, tables, queues, events, and the compiler for probes."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..capture.dump import module_present
from . import netfilter, probes
from .finding import UNKNOWN, YES, Finding
from .trial import Outcome, Trial, run


class Facility(NamedTuple):
    """``module``: what trying would load if it isn't there; such a facility is not tried. ``alone``: needs a namespace."""

    name: str
    trial: Trial
    use: str
    get: str
    instead: str
    module: str = ""
    alone: bool = True


TAPS = "taps of trace, confirm, watch: the packet before and after each table"
BPF = "a kernel with CONFIG_BPF_SYSCALL, and CAP_BPF + CAP_PERFMON"
FACILITIES = (
    Facility("BTF of the kernel", probes.btf, "where the fields of the kernel's structures are",
             "a kernel with CONFIG_DEBUG_INFO_BTF", "trace --tap queue", alone=False),
    Facility("BTF of modules", probes.btf_modules, "structures of netfilter where it is a module",
             "a kernel with CONFIG_DEBUG_INFO_BTF_MODULES", "a kernel with netfilter built in", alone=False),
    Facility("ring buffer", probes.ring_buffer, "events of the probes", "a kernel from 5.8 on", "trace --tap queue", alone=False),
    Facility("netfilter links", probes.netfilter_link, TAPS, "a kernel from 6.4 on with CONFIG_NETFILTER_BPF_LINK",
             "kprobes; trace --tap queue"),
    Facility("raw tracepoints", probes.raw_tracepoint, "drops with their reason, receive, send, routing, ICMP errors", BPF,
             "what the taps show", alone=False),
    Facility("kprobes", probes.kprobe, "taps on kernels without netfilter links", "a kernel with CONFIG_KPROBE_EVENTS",
             "netfilter links", alone=False),
    Facility("fentry", probes.fentry, "the same at less cost",
             "a kernel that allows it (CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS)", "kprobes; nothing needs it", alone=False),
    Facility("owner tables", netfilter.owner_table, "which rule matched, trace --tap queue: rules that go with the process",
             "a kernel from 5.12 on with CONFIG_NF_TABLES", "counters before and after", "nf_tables"),
    Facility("nftrace", netfilter.nftrace, "which rule of nft or iptables-nft matched",
             "a kernel from 5.12 on with CONFIG_NF_TABLES", "counters before and after", "nf_tables"),
    Facility("NFLOG", netfilter.nflog, "which rule of iptables-legacy matched", "a kernel with CONFIG_NETFILTER_NETLINK_LOG",
             "counters before and after", "nfnetlink_log"),
    Facility("nft queue", netfilter.nft_queue, "trace --tap queue", "a kernel with CONFIG_NFT_QUEUE", "xt NFQUEUE", "nf_tables"),
    Facility("xt NFQUEUE", netfilter.xt_nfqueue, "trace --tap queue, where nft's queue is missing",
             "a kernel with CONFIG_NETFILTER_XT_TARGET_NFQUEUE and CONFIG_NFT_COMPAT", "nft queue", "nf_tables"),
    Facility("queue", netfilter.queue, "trace --tap queue, --step: holding and changing packets",
             "a kernel with CONFIG_NETFILTER_NETLINK_QUEUE; pip install 'nattrace[live]'", "the probes, to look only",
             "nfnetlink_queue"),
    Facility("conntrack in queues", netfilter.queue_conntrack, "trace --tap queue: the entry beside the packet",
             "a kernel with CONFIG_NETFILTER_NETLINK_GLUE_CT", "conntrack events", "nfnetlink_queue"),
    Facility("conntrack events", netfilter.conntrack_events, "watch, confirm: entries as they come and go",
             "a kernel with CONFIG_NF_CT_NETLINK and CONFIG_NF_CONNTRACK_EVENTS", "what the taps show", "nf_conntrack_netlink"),
)  # fmt: skip
MODULES = (
    ("bcc", "compiling the probes", "apt-get install python3-bpfcc", "trace --tap queue"),
    ("netfilterqueue", "trace --tap queue", "pip install 'nattrace[live]' (gcc, libnetfilter-queue-dev)",
     "the probes, to look only"),
)  # fmt: skip


def facilities() -> list[Finding]:
    """Everything of the live half, tried."""
    outcomes = _absent() | run({f.name: f.trial for f in FACILITIES if not f.alone}, namespace=False)
    outcomes |= run({f.name: f.trial for f in FACILITIES if f.alone and f.name not in outcomes})
    found = [Finding(f.name, "live", *outcomes[f.name], f.use, f.get, f.instead) for f in FACILITIES]
    return [*found, *(_import(*module) for module in MODULES), _headers()]


def _absent() -> dict[str, Outcome]:
    """Facilities whose module trying would load."""
    found = {}
    for facility in FACILITIES:
        if facility.module and not module_present(facility.module):
            found[facility.name] = (
                UNKNOWN,
                f"not tried: module {facility.module} is not loaded (modprobe {facility.module})",
            )
    return found


def _import(name: str, use: str, get: str, instead: str) -> Finding:
    return Finding(f"{name} (import)", "live", *_in_child(lambda: _imported(name)), use, get, instead)


def _in_child(trial: Callable[[], Outcome]) -> Outcome:
    return run({"it": trial}, namespace=False)["it"]


def _imported(name: str) -> Outcome:
    module = importlib.import_module(name)
    return YES, str(getattr(module, "__version__", "") or "can be imported")


def _headers() -> Finding:
    path = Path(f"/lib/modules/{os.uname().release}/build")
    there = "there" if path.exists() else "not there"
    return Finding(
        "kernel headers", "live", YES, f"not needed ({path} is {there})", "nothing: bcc gets the few it asks for"
    )
