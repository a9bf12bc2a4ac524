"""The least privileges of each way to look at the kernel; the tests run each with exactly these, as an ordinary user."""

from __future__ import annotations

from typing import NamedTuple

from .finding import NO, UNKNOWN, YES, Finding
from .privileges import BITS, effective, nested


class Mode(NamedTuple):
    """``bpf``: its capabilities count in the machine's first user namespace only."""

    name: str
    capabilities: tuple[str, ...]
    use: str
    bpf: bool = False


MODES = (
    Mode("probes", ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"), "trace, confirm, watch", bpf=True),
    Mode("rules of nft", ("CAP_NET_ADMIN",), "which rule of nft or iptables-nft matched, by trace or by counters"),
    Mode(
        "rules of legacy",
        ("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_DAC_READ_SEARCH"),
        "which rule of iptables-legacy matched",
    ),
    Mode("queue taps", ("CAP_NET_ADMIN",), "trace --tap queue, --step"),
    Mode("entries", ("CAP_NET_ADMIN",), "conntrack events of watch and confirm"),
    Mode("other namespaces", ("CAP_SYS_ADMIN",), "--netns, besides what is needed there"),
)


def modes() -> list[Finding]:
    """Which of them this process has the privileges for."""
    return [_finding(mode) for mode in MODES]


def _finding(mode: Mode) -> Finding:
    held = effective()
    wanted = " ".join(mode.capabilities)
    words = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in mode.capabilities)
    get = f"sudo, or setpriv --inh-caps={words} --ambient-caps={words}"
    if held is None:
        return Finding(mode.name, "may do", UNKNOWN, f"needs {wanted}", mode.use, get)
    lacking = [name for name in mode.capabilities if not held >> BITS[name] & 1]
    if lacking:
        return Finding(mode.name, "may do", NO, f"lacks {' '.join(lacking)}", mode.use, get)
    if mode.bpf and nested():
        return Finding(mode.name, "may do", NO, "capabilities of a nested user namespace do not count", mode.use, get)
    return Finding(mode.name, "may do", YES, wanted, mode.use, get)
