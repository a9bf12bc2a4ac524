"""``sysctl.txt``: the output of ``sysctl -a``."""

from __future__ import annotations

import re

from ..model.where import Where
from ..model.world import Setting
from .problems import Problems, excerpt

# Settings that the kernel holds as numbers; anything else there is a damaged file.
_NUMERIC = re.compile(
    r"net\.(?:ipv[46]\.(?:conf\.[^.]+\.(?!stable_secret|dad_transmits_)|icmp_|fib_|route\.|ip_(?!local_reserved))"
    r"|ipv4\.(?:ping_group|fwmark_reflect|tcp_)|netfilter\.nf_conntrack_|nf_conntrack_max|bridge\.)"
)
# What ``tcp_`` also covers: names of algorithms, and keys
_WORDS = re.compile(r"net\.ipv4\.tcp_(?:\w*congestion_control|fastopen_key|\w*ulp|available_)")


def read_sysctl(text: str, file: str, problems: Problems) -> dict[str, Setting]:
    """Settings by dotted name; dots of a device's own name are slashes (``net.ipv4.conf.eth0/1.rp_filter``)."""
    settings: dict[str, Setting] = {}
    for number, line in enumerate(text.split("\n"), 1):
        key, equals, value = line.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not key or key[0] in "#;" or key.startswith("sysctl: "):
            if line.strip() and not line.lstrip().startswith(("#", ";", "sysctl: ")):
                problems.error(
                    f"expected NAME = VALUE, got {excerpt(line)}",
                    file,
                    number,
                    "it is the output of: sysctl -a",
                )
            continue
        name = dotted(key.lstrip("-"))
        if is_wrong(name, value):
            problems.error(f"{name}: expected a number, got {excerpt(value)}", file, number)
            continue
        settings[name] = Setting(value, Where(file, number))
    return settings


_NUMBERS = re.compile(r"-?[0-9]{1,20}(?:[ \t]+-?[0-9]{1,20})*")


def is_wrong(name: str, value: str) -> bool:
    """Whether a setting that the kernel holds as one or several numbers is anything else."""
    return _NUMBERS.fullmatch(value) is None and _NUMERIC.match(name) is not None and _WORDS.match(name) is None


def dotted(key: str) -> str:
    """sysctl's two notations: whichever of ``.`` and ``/`` comes first separates, the other belongs to names."""
    slash, dot = key.find("/"), key.find(".")
    if slash >= 0 and (dot < 0 or slash < dot):
        return key.removeprefix("/proc/sys/").lstrip("/").translate(_SWAP)
    return key


_SWAP = str.maketrans("./", "/.")
