"""What deserves a word beside the verdict, whether or not the flow works: owners that nobody can match, a second
translation, a payload that names addresses, rules that the packet never gets to. None of it decides the outcome."""

from __future__ import annotations

from itertools import groupby, pairwise

from ..model.result import Hop, Step
from ..model.where import Where
from .parts import Diagnosis
from .trial import REPLY, Trial

# Helpers of the kernel (net/netfilter/nf_conntrack_*.c) by protocol and port of the server; "": there is none for it
HELPERS = {
    ("tcp", 21): "ftp", ("udp", 69): "tftp", ("udp", 5060): "sip", ("tcp", 5060): "sip", ("tcp", 6667): "irc",
    ("tcp", 1723): "pptp", ("tcp", 1720): "Q.931", ("udp", 1719): "RAS", ("tcp", 6566): "sane", ("udp", 10080): "amanda",
}  # fmt: skip
UNHELPED = {
    ("tcp", 1521): "oracle's redirect", ("tcp", 135): "DCE RPC's endpoint mapper", ("tcp", 111): "the portmapper",
    ("udp", 111): "the portmapper", ("tcp", 554): "RTSP", ("tcp", 990): "FTP over TLS",
}  # fmt: skip
NO_NAT_MODULE = {"sane"}  # conntrack helpers whose payload NAT does not rewrite
MODULE = {"Q.931": "h323", "RAS": "h323"}


def remarks(trial: Trial, said: set[str]) -> list[Diagnosis]:
    """Everything worth saying; ``said``: codes that the diagnosis names already."""
    found = []
    for make in (_unreached, _owners, _twice, _helper):
        found += [d for d in make(trial) if d.code not in said]
    return found


# ------------------------------------------------------------------------------------------------- owner


def _owners(trial: Trial) -> list[Diagnosis]:
    """Rules with -m owner that were held against packets without a socket, or the kernel's own."""
    found = []
    ways = [trial.leaf]
    if trial.back is not None and trial.obstacle is not None and trial.obstacle.phase == REPLY:
        ways.append(trial.back)
    for leaf in ways:
        for hop in leaf.hops:
            missed = [s for s in hop.steps if s.matched is False and _ownerless(s)]
            for (table, chain), steps in groupby(missed, key=lambda s: (s.table, s.chain)):
                found.append(_owner(hop, str(table), str(chain), list(steps)))
    return found[:2]


def _ownerless(step: Step) -> bool:
    note = step.note or ""
    return "-owner" in note and ("no socket" in note or "has no owner" in note)


def _owner(hop: Hop, table: str, chain: str, steps: list[Step]) -> Diagnosis:
    first, last = steps[0], steps[-1]
    several = len(steps) > 1
    numbers = f"{first.rule}–{last.rule}" if several else str(first.rule)
    place = (
        f" ({first.where}{f'–{last.where.line}' if several and last.where and last.where.line else ''})"
        if first.where
        else ""
    )
    if hop.in_dev is not None:
        why = "only forwards this packet: it has no socket here, so no owner. Select by -s instead"
    else:
        why = "sends this packet from the kernel itself: no user owns it"
    rules = "never match: they ask" if several else "never matches: it asks"
    text = f"{table} {chain} {numbers}{place} {rules} for -m owner, but {hop.host} {why}"
    return Diagnosis("owner_never_matches", text, tuple(dict.fromkeys(s.where for s in steps if s.where)))


# ------------------------------------------------------------------------------------------- double NAT


def _twice(trial: Trial) -> list[Diagnosis]:
    """A later host translates the source again that an earlier host had chosen."""
    chosen: tuple[Hop, Step] | None = None
    for hop in trial.leaf.hops:
        for step in hop.steps:
            if "src" not in step.changes:
                continue
            if chosen is not None and chosen[0].host != hop.host and not _one_to_one(step):
                return [_again(chosen, hop, step)]
            chosen = (hop, step)
    return []


def _one_to_one(step: Step) -> bool:
    """A mapping of one address onto one other keeps apart what was apart: nothing is undone."""
    words = (step.text or "").split()
    old = str(step.changes["src"][0])
    single = any(a == "-s" and b in (old, f"{old}/32", f"{old}/128") for a, b in pairwise(words))
    return step.target == "NETMAP" or (single and step.target == "SNAT")


def _again(chosen: tuple[Hop, Step], hop: Hop, step: Step) -> Diagnosis:
    before, old = chosen
    where = f" ({old.where})" if old.where else ""
    what = (
        f"what {before.host}'s {old.table} {old.chain} {old.rule}{where} chose"
        if old.rule
        else f"what {before.host} chose"
    )
    at = f"{hop.host}'s {step.table} {step.chain} {step.rule or ''}".rstrip()
    place = f" ({step.where})" if step.where else ""
    text = f"{at}{place} rewrites {step.changes['src'][0]} to {step.changes['src'][1]}: {what} is not seen beyond {hop.host}"
    return Diagnosis("double_nat", text, tuple(w for w in (old.where, step.where) if w is not None))


# ----------------------------------------------------------------------------------------------- helpers


def _helper(trial: Trial) -> list[Diagnosis]:
    """A protocol that names addresses in its payload crosses a NAT without a conntrack helper."""
    if trial.leaf.outcome not in ("delivered", "left"):
        return []
    for hop in trial.leaf.hops:
        if not any({"src", "dst"} & s.changes.keys() for s in hop.steps) or (hop.conntrack or {}).get("helper"):
            continue
        proto = str(hop.before.get("proto"))
        for port in (hop.before.get("dport"), hop.after.get("dport")):
            if not isinstance(port, int):
                continue
            if (proto, port) in HELPERS:
                return [_without_helper(hop, proto, port, HELPERS[proto, port])]
            if (proto, port) in UNHELPED:
                return [_unhelped(hop, proto, port, UNHELPED[proto, port])]
    return []


def _without_helper(hop: Hop, proto: str, port: int, helper: str) -> Diagnosis:
    chain = f"PREROUTING -i {hop.in_dev}" if hop.in_dev else "OUTPUT"
    module = "" if helper in NO_NAT_MODULE else f"; modprobe nf_nat_{MODULE.get(helper, helper)}"
    text = (
        f"{helper} ({proto} {port}) announces further connections inside its payload. This one works; those are "
        f"neither RELATED nor translated on {hop.host} without a helper: "
        f"iptables -t raw -A {chain} -p {proto} --dport {port} -j CT --helper {helper}{module}"
    )
    return Diagnosis("helper_missing", text)


def _unhelped(hop: Hop, proto: str, port: int, name: str) -> Diagnosis:
    text = (
        f"{name} ({proto} {port}) sends the client to an address inside its payload, and no helper exists for it in "
        f"the kernel: {hop.host} translates this connection, but never that address. Make the server name an address "
        "that the client can reach, or switch the redirection off"
    )
    return Diagnosis("helper_missing", text)


# ----------------------------------------------------------------------------------- rules not reached


def _unreached(trial: Trial) -> list[Diagnosis]:
    """Translating rules that the packet would match, but does not get to: it ends before."""
    leaf = trial.leaf
    if trial.obstacle is None or leaf.outcome in ("delivered", "left", "queued", "stolen") or not leaf.hops:
        return []
    hop = leaf.hops[-1]
    chains = ("PREROUTING", "POSTROUTING") if hop.in_dev is not None else ("OUTPUT", "POSTROUTING")
    for chain in chains:
        if any(s.hook == chain and s.stage in ("nat", "neighbour") for s in hop.steps) or not _stands_after(hop, chain):
            continue
        rules = _would_match(trial, hop, chain)
        if rules:
            label, wheres = rules
            text = f"{label}, but is not reached: the packet ends {_end(hop)}; the rule's counter stays 0"
            return [Diagnosis("chain_not_consulted", text, wheres)]
    return []


_ORDER = {("PREROUTING", "raw"): 0, ("PREROUTING", "mangle"): 1, ("PREROUTING", "nat"): 2, ("OUTPUT", "raw"): 0,
          ("OUTPUT", "mangle"): 1, ("OUTPUT", "nat"): 2}  # fmt: skip


def _stands_after(hop: Hop, chain: str) -> bool:
    """Whether a nat chain comes after the step at which the packet's way ended."""
    if not hop.steps:
        return False
    last = hop.steps[-1]
    if chain == "POSTROUTING":
        return last.hook != "POSTROUTING" and last.hook != "INPUT" and last.stage != "neighbour"
    return _ORDER.get((last.hook or "", last.table or ""), 9) < 2


def _would_match(trial: Trial, hop: Hop, chain: str) -> tuple[str, tuple[Where, ...]] | None:
    from .passes import tried_rules

    leaf = trial.leaf
    if leaf.state is None:
        return None
    out = hop.out_dev
    if out is None and leaf.arrival is not None:
        rt = getattr(leaf.arrival[1], "rt", None)
        out = getattr(rt, "dev", None) or getattr(getattr(rt, "leg", None), "dev", None)
    ahead = Hop(hop.host, hop.in_dev, out, hop.before, hop.after, hop.conntrack, hop.steps)
    first = next((rule for rule, miss in tried_rules(trial.world, leaf, ahead, chain) if miss is None), None)
    if first is None:
        return None
    target = first.target.name if first.target else ""
    place = f"{target}{f', {first.where}' if first.where else ''}"
    return f"nat {chain} {first.rule_id.index} ({place}) would match", (first.where,) if first.where else ()


def _end(hop: Hop) -> str:
    last = next((s for s in reversed(hop.steps) if s.matched is not False), hop.steps[-1])
    if last.stage in ("routing", "rerouting"):
        return "in the routing decision before it"
    if last.table:
        return f"in {last.table} {last.chain}{f' {last.rule}' if last.rule else ''} before it"
    return f"at {last.stage} before it"


__all__ = ["HELPERS", "remarks"]
