"""Whether connection tracking is active in a namespace: an observer's ``ct`` key would switch it on.

The kernel hooks conntrack in for a namespace when the first rule needs it (nf_ct_netns_get()) and keeps a count that
it shows nobody. So: entries exist, or a rule that needs it does. Where neither is seen, tracking counts as off, and
no rule of ours reads a ``ct`` key.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from ....sim.rules.tracking import NAMES, suspects
from ...capture.dump import legacy_tables, legacy_tables6
from .listing import rules
from .sock import InNetns, Nfnl, entered

EXPRESSIONS = frozenset(("ct", "nat", "masq", "redir", "connlimit", "synproxy", "flow_offload"))
_NOTRACK = re.compile(r"-j CT --notrack")
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')


def tracking_reason(netns: InNetns | None = None, sock: Nfnl | None = None) -> str | None:
    """What shows that tracking is active, in words; None where nothing does."""
    with entered(netns):
        entries = _entries()
        legacy = [tool for tool, there in (("iptables", legacy_tables()), ("ip6tables", legacy_tables6())) if there]
        texts = {tool: _save(f"{tool}-legacy-save") for tool in legacy}
    if entries:
        return f"{entries} conntrack entries exist"
    for rule in rules(netns, sock):
        for name, extension in rule.expressions:
            if name in EXPRESSIONS or extension in NAMES:
                return f"rule {rule.number} of {rule.family} {rule.table} {rule.chain} uses {extension or name}"
    for tool, content in texts.items():
        plain = _NOTRACK.sub("", _QUOTED.sub('""', content))
        if next(suspects(plain, 0, len(plain)), None) is not None:
            return f"a rule of {tool}-legacy uses it"
    return None


def _entries() -> int:
    try:
        return int(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())
    except (OSError, ValueError):
        return 0


def _save(tool: str) -> str:
    if shutil.which(tool) is None:
        return ""
    return subprocess.run([tool], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL).stdout
