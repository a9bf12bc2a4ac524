"""What is seen and named in the answer, but not modelled: tc filters, IPsec policies, VLAN filtering, XDP."""

from __future__ import annotations

from typing import Any

from ..model.route import Link
from ..model.where import Where
from .problems import Problems

Seen = tuple[str, Where | None]


def read_tc(text: str, file: str, problems: Problems) -> list[Seen]:
    """``tc filter show`` for each device, with or without a line that names the device before each."""
    first: int | None = None
    count = 0
    devices: list[str] = []
    heading = ""
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if not words:
            continue
        if words[0] in ("#", "dev") or line.endswith(":"):
            heading = words[-1].rstrip(":")
        elif words[0] == "filter":
            first, count = first or number, count + 1
            if heading and heading not in devices:
                devices.append(heading)
    if first is None:
        return []
    on = f" on {', '.join(devices[:8])}" if devices else ""
    return [(f"{count} tc filter{'s' if count > 1 else ''}{on}", Where(file, first))]


def read_xfrm(text: str, file: str, problems: Problems) -> list[Seen]:
    """``ip xfrm policy``: IPsec policies; the per-socket ones of a key daemon don't count."""
    lines = text.split("\n")
    policies = []
    for index, line in enumerate(lines):
        if line.startswith("src "):
            following = lines[index + 1].strip() if index + 1 < len(lines) else ""
            if not following.startswith("socket "):
                policies.append(index + 1)
    if not policies:
        return []
    plural = "policies" if len(policies) > 1 else "policy"
    return [(f"{len(policies)} IPsec (xfrm) {plural}", Where(file, policies[0]))]


def read_xdp(links: dict[str, Link]) -> list[Seen]:
    """XDP programs, which see packets before everything that is modelled."""
    return [(f"an XDP program on {link.name}", link.where) for link in links.values() if link.xdp]


def read_vlan_filtering(items: list[tuple[int | None, dict[str, Any]]], file: str) -> list[Seen]:
    """Bridges that filter VLANs: which port may talk to which then depends on ``bridge vlan``."""
    seen: list[Seen] = []
    for line, entry in items:
        info = entry.get("linkinfo")
        data = info.get("info_data") if isinstance(info, dict) else None
        if isinstance(data, dict) and data.get("vlan_filtering") == 1:
            seen.append((f"VLAN filtering of bridge {str(entry.get('ifname'))[:15]}", Where(file, line)))
    return seen
