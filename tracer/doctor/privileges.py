"""What this process may do: capabilities (capabilities(7)), memlock, lockdown, and who may use bpf(2)."""

from __future__ import annotations

import os
import re
import resource
from functools import cache
from pathlib import Path

from .finding import NO, UNKNOWN, YES, Finding

CAPABILITIES = (  # name, bit (include/uapi/linux/capability.h), what for, what replaces it
    ("CAP_NET_ADMIN", 12, "tables, queues, conntrack events, netfilter links", "why from a snapshot needs none"),
    ("CAP_NET_RAW", 13, "--probe; reading rules of iptables-legacy", "an ordinary socket; the nft backend"),
    ("CAP_DAC_READ_SEARCH", 2, "reading rules of iptables-legacy as an ordinary user", "the nft backend"),
    ("CAP_SYS_ADMIN", 21, "entering other namespaces (--netns); the lab", "run it inside the namespace"),
    ("CAP_BPF", 39, "loading probes", "CAP_SYS_ADMIN; trace --tap queue"),
    ("CAP_PERFMON", 38, "probes that read packets; tracepoints, kprobes", "CAP_SYS_ADMIN; trace --tap queue"),
    ("CAP_SYSLOG", 34, "naming the kernel function that dropped a packet", "the drop's reason alone"),
)

BITS = {name: bit for name, bit, _, _ in CAPABILITIES}
ENOUGH = 64 << 20  # octets that the maps and the ring of a trace may take


def privileges() -> list[Finding]:
    """One finding for each capability and limit."""
    held = effective()
    found = [_capability(*row, held) for row in CAPABILITIES]
    return [*found, _user_namespace(), _bpf_disabled(), _lockdown(), _memlock()]


@cache
def effective() -> int | None:
    """The effective capabilities as a bit mask, None where they can't be read.

    Asked once, before any trial: a child that is alone in a user namespace has all of them, and they count for little.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("CapEff:")).split()[1], 16)
    except (OSError, StopIteration, ValueError):
        return None


def holds(bit: int) -> bool:
    """Whether this process has a capability."""
    return bool((effective() or 0) >> bit & 1)


def _capability(name: str, bit: int, use: str, instead: str, held: int | None) -> Finding:
    if held is None:
        return Finding(name, "privilege", UNKNOWN, "/proc/self/status can't be read", use, "", instead)
    state = YES if held >> bit & 1 else NO
    word = name.removeprefix("CAP_").lower()
    get = f"sudo, or: setpriv --inh-caps=+{word} --ambient-caps=+{word} …"
    return Finding(name, "privilege", state, "effective" if state == YES else "not held", use, get, instead)


@cache
def nested() -> bool | None:
    """Whether this process is in another user namespace than the machine's first; None where that can't be read."""
    try:
        return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]
    except OSError:
        return None


def _user_namespace() -> Finding:
    use = "bpf(2), which counts capabilities of the first user namespace only"
    if nested() is None:
        return Finding("user namespace", "privilege", UNKNOWN, "/proc/self/uid_map can't be read", use)
    detail = "a nested one: its root is not the machine's" if nested() else "the first one"
    state = NO if nested() else YES
    return Finding(
        "user namespace", "privilege", state, detail, use, "run it outside the container", "trace --tap queue"
    )


def _bpf_disabled() -> Finding:
    use = "whether bpf(2) needs CAP_BPF"
    try:
        value = Path("/proc/sys/kernel/unprivileged_bpf_disabled").read_text().strip()
    except OSError:
        return Finding("unprivileged bpf", "privilege", UNKNOWN, "kernel.unprivileged_bpf_disabled can't be read", use)
    words = {
        "0": "anybody may load socket filters",
        "1": "CAP_BPF is needed, until the next boot",
        "2": "CAP_BPF is needed",
    }
    return Finding(
        "unprivileged bpf",
        "privilege",
        YES,
        f"{value}: {words.get(value, 'not known')}; probes need CAP_BPF anyway",
        use,
    )


def _lockdown() -> Finding:
    use = "probes: lockdown refuses kprobes and reading kernel memory"
    path = Path("/sys/kernel/security/lockdown")
    try:
        text = path.read_text()
    except FileNotFoundError:
        there = "lockdown" in _lsms()
        if there:
            return Finding("lockdown", "privilege", UNKNOWN, f"{path} is not there (securityfs is not mounted)", use)
        return Finding("lockdown", "privilege", YES, "not active", use)
    except OSError as error:
        return Finding("lockdown", "privilege", UNKNOWN, f"{path}: {error.strerror}", use)
    level = text.partition("[")[2].partition("]")[0]
    state = NO if level == "confidentiality" else YES
    return Finding(
        "lockdown",
        "privilege",
        state,
        level or "none",
        use,
        "boot with lockdown=none or integrity",
        "trace --tap queue",
    )


def _lsms() -> str:
    try:
        return Path("/sys/kernel/security/lsm").read_text()
    except OSError:
        return ""


def _memlock() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    words = ["unlimited" if value == resource.RLIM_INFINITY else f"{value >> 10} KiB" for value in (soft, hard)]
    major, minor = [int(word) for word in re.findall(r"\d+", os.uname().release)[:2]]
    counts = (major, minor) < (5, 11)
    enough = not counts or hard == resource.RLIM_INFINITY or hard >= ENOUGH
    detail = f"{words[0]} (at most {words[1]})" + ("" if counts else "; this kernel does not count maps against it")
    use = "maps of the probes, before kernel 5.11"
    return Finding("memlock", "privilege", YES if enough else NO, detail, use, "ulimit -l unlimited")
