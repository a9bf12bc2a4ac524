"""A fix in the forms in which it is pasted: kept over a reboot, and as a script that takes itself back unless confirmed.

The script is plain POSIX sh and needs what the commands themselves need (iptables-save, sysctl, ip) and mktemp. It saves
what it is going to change, starts a watchdog that survives the session, and only then applies the change.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from .whatif import Edit, PolicyRuleEdit, RouteEdit, RuleEdit, SetSysctl
from .whatif_addr import AddressEdit
from .whatif_ipset import IpsetAdd
from .whatif_link import HairpinEdit
from .whatif_move import RuleMove

WAIT = 60  # seconds until a change that nobody confirms is taken back
DROP_IN = "/etc/sysctl.d/90-nattrace.conf"
NETWORK = "# lost at reboot; keep it in the network's configuration: [Route] or [RoutingPolicyRule] of systemd-networkd, " \
    "nmcli connection modify … +ipv4.routes, or an 'up' line of ifupdown:"  # fmt: skip


def program(edit: RuleEdit | RuleMove) -> str:
    """``iptables``, ``ip6tables`` or their -legacy form."""
    return edit.commands()[0].split()[0]


def persistent(edits: Iterable[Edit]) -> list[str]:
    """Lines that make the change outlast a reboot, once the commands themselves have been run."""
    lines: list[str] = []
    files: dict[str, str] = {}
    for edit in edits:
        if isinstance(edit, SetSysctl):
            lines.append(f"echo {shlex.quote(f'{edit.name} = {edit.value}')} >> {DROP_IN}")
        elif isinstance(edit, (RuleEdit, RuleMove)):
            name = program(edit)
            files[name] = f"{name}-save > /etc/iptables/rules.v{6 if name.startswith('ip6') else 4}"
        elif isinstance(edit, IpsetAdd):
            files["ipset"] = "ipset save > /etc/iptables/ipsets"
        elif isinstance(edit, (RouteEdit, PolicyRuleEdit, AddressEdit, HairpinEdit)):
            lines += [NETWORK] if NETWORK not in lines else []
            lines += [f"#   {command}" for command in edit.commands()]
    if files:
        lines.append(
            "# /etc/iptables is what Debian's iptables-persistent loads; others: /etc/sysconfig/iptables, or your own script"
        )
        lines += [files[name] for name in sorted(files, key=lambda n: n != "ipset")]
    if not lines:
        lines.append("# nothing to keep: deleting an entry is done once")
    return lines


def rollback(edits: Iterable[Edit], wait: int = WAIT) -> str:
    """A script for one host that applies the edits and takes them back after ``wait`` seconds unless confirmed."""
    edits = list(edits)
    save, undo = [], []
    for name, table in dict.fromkeys((program(e), _table(e)) for e in edits if isinstance(e, (RuleEdit, RuleMove))):
        file = f'"$dir/{name}.{table}"'
        save.append(f"{name}-save -c -t {table} > {file}")
        undo.append(f"{name}-restore -w 5 -c < {file}")  # -w: another program may hold the lock
    for number, edit in enumerate(edits):
        before, after = _undone(edit, number)
        save += before
        undo[:0] = after
    apply = [command for edit in edits for command in edit.commands()]
    lost = "# A deleted connection entry does not come back; it is made anew by the next packet.\n" if any(
        e.kind == "conntrack" for e in edits) else ""  # fmt: skip
    return _SCRIPT.format(
        wait=wait, lost=lost, save="\n".join(f"{line} || give_up 'could not save the state'" for line in save),
        undo="\n".join(f"    {line}" for line in undo) or "    :",
        apply="\n".join(f"run {shlex.quote(line)}" for line in apply),
    )  # fmt: skip


def _table(edit: RuleEdit | RuleMove) -> str:
    if isinstance(edit, RuleMove):
        return edit.table
    words = edit.text.split()
    place = next((i for i, w in enumerate(words) if w in ("-t", "--table")), None)
    return words[place + 1] if place is not None else "filter"


def _undone(edit: Edit, number: int) -> tuple[list[str], list[str]]:
    """(what to save before, what to run to take it back) of one edit; rule sets are saved as whole tables."""
    file = f'"$dir/{number}"'
    if isinstance(edit, SetSysctl):
        return _sysctl(edit, file)
    if isinstance(edit, RouteEdit):
        return _route(edit, file)
    if isinstance(edit, PolicyRuleEdit):
        if edit.verb != "del":
            return [], [f"ip rule del {edit.spec}"]
        selector = edit.spec.split()
        which = f"priority {selector[selector.index('priority') + 1]}" if "priority" in selector else edit.spec
        strip = f"sed 's/ \\[detached\\]//' < {file}"
        again = f'{strip} | while IFS=: read -r prio rest; do ip rule add $rest priority "$prio"; done'
        return [f"ip rule show {which} > {file}"], [again]
    if isinstance(edit, AddressEdit):
        return [], [f"ip addr del {edit.spec} dev {edit.dev}"]
    if isinstance(edit, HairpinEdit):
        return [], [f"ip link set {edit.port} type bridge_slave hairpin off"]
    if isinstance(edit, IpsetAdd):
        return [], [f"ipset del {shlex.quote(edit.name)} {edit.element}"]
    return [], []


def _sysctl(edit: SetSysctl, file: str) -> tuple[list[str], list[str]]:
    """ip_forward and conf.all.forwarding are copied to every interface (inet_forward_change()): those are saved too."""
    names = [edit.name]
    save = [f"sysctl {names[0]} > {file}"]
    if edit.name in ("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding", "net.ipv6.conf.all.forwarding"):
        family = "ipv6" if "ipv6" in edit.name else "ipv4"
        save.append(f"sysctl -a 2>/dev/null | grep '^net\\.{family}\\.conf\\..*\\.forwarding' >> {file}")
    return save, [f"sysctl -q -p {file}"]


def _route(edit: RouteEdit, file: str) -> tuple[list[str], list[str]]:
    words = edit.spec.split()
    table = words[words.index("table") + 1] if "table" in words else "main"
    kinds = ("unreachable", "prohibit", "blackhole", "throw", "local", "unicast")
    prefix = words[1] if words[0] in kinds else words[0]
    if edit.verb == "add":
        return [], [f"ip route del {edit.spec}"]
    strip = "sed 's/ linkdown//; s/ dead//; s/ onlink_dead//'"
    save = f"ip route show exact {prefix} table {table} > {file}"
    again = f"{strip} < {file} | while read -r route; do ip route replace $route table {table}; done"
    gone = [f"ip route del {edit.spec}"] if edit.verb in ("replace", "change") else []
    return [save], [*gone, again]


_SCRIPT = """\
#!/bin/sh
# Applies a change and takes it back after {wait} seconds (or as many as the first argument says) unless it is confirmed.
# For hosts that are reached over the very network that is being changed: it goes on when the session is lost.
{lost}set -u
umask 077
wait=${{1:-{wait}}}
dir=$(mktemp -d) || exit 1

give_up() {{
    echo "$1; nothing was changed" >&2
    rm -rf "$dir"
    exit 1
}}

{save}

undo() {{
{undo}
    :
}}

# Whoever makes this directory first decides: the one who confirms, or the watchdog.
decide() {{ mkdir "$dir/decided" 2>/dev/null; }}

(
    trap '' HUP INT TERM
    sleep "$wait"
    if decide; then touch "$dir/late"; undo; touch "$dir/undone"; fi
    sleep 5
    rm -rf "$dir"
) </dev/null >"$dir/log" 2>&1 &

run() {{
    if ! sh -c "$1"; then
        echo "failed: $1" >&2
        if decide; then undo; echo "everything was taken back" >&2; fi
        exit 1
    fi
}}

{apply}

echo "Applied. It is taken back in $wait seconds unless confirmed. See that a NEW connection to this host works, then"
echo "type yes and Enter here, or in another session: mkdir $dir/decided"
trap '' INT
while read -r answer; do
    case $answer in
    y | yes)
        if decide; then echo "Kept."; exit 0; fi
        break ;;
    n | no)
        if decide; then undo; echo "Taken back."; exit 1; fi
        break ;;
    esac
done
while [ ! -e "$dir/decided" ]; do sleep 1; done
sleep 1
if [ -e "$dir/late" ]; then
    while [ -e "$dir" ] && [ ! -e "$dir/undone" ]; do sleep 1; done
    echo "Nobody confirmed in time: it was taken back."
    exit 1
fi
echo "Kept."
"""

__all__ = ["WAIT", "persistent", "rollback"]
