"""Causes that are told apart from their symptom by a fix that worked: each is put before what it explains.

A packet that a policy drops was dropped "by policy", but if putting right one criterion of one rule lets it pass, that
criterion is the cause. Everything here follows that pattern; nothing is named on looks alone where a change could be tried.
"""

from __future__ import annotations

from ..model.result import Hop, Leaf, Step
from ..model.where import Where
from .astray import late_mark
from .cause import rule_label
from .fixes import Fix
from .parts import SHOWN, WORKS, WRONG, Diagnosis
from .remedies import failed_option, near_accepts
from .trial import FORWARD, REPLY, Trial
from .whatif import ConntrackDelete, Edit, RuleEdit
from .whatif_ipset import IpsetAdd

FTP_CONTROL = 21


def specialists(trial: Trial, fixes: list[Fix]) -> list[Diagnosis]:
    """Causes to be named first, the most decisive before the others."""
    found = []
    for make in (
        _stale_entry, _late_mark, _one_criterion, _other_backend, _shadowed_nat, _wrong_chain, _unowned_source, _valid_mark,
        _error_blocked, _helper,
    ):  # fmt: skip
        item = make(trial, fixes)
        if item is not None:
            found.append(item)
    return found


def _working(fixes: list[Fix], kind: type, test: object = None) -> list[Edit]:
    """Edits of a kind in fixes that work and change nothing else."""
    return [
        e for f in fixes if f.result == WORKS and len(f.edits) == 1 for e in f.edits
        if isinstance(e, kind) and (test is None or test(e))  # type: ignore[operator]
    ]  # fmt: skip


def _where(*places: Where | None) -> tuple[Where, ...]:
    return tuple(dict.fromkeys(p for p in places if p is not None))


def _leaf(trial: Trial) -> Leaf:
    obstacle = trial.obstacle
    back = obstacle is not None and obstacle.phase == REPLY and trial.back is not None
    return trial.back if back and trial.back is not None else trial.leaf


# ------------------------------------------------------------------------------------------------ entries


def _stale_entry(trial: Trial, fixes: list[Fix]) -> Diagnosis | None:
    """Without the entry of the snapshot the flow works."""
    edits = _working(fixes, ConntrackDelete)
    if not edits or not isinstance(edits[0], ConntrackDelete):
        return None
    edit = edits[0]
    for index, hop in enumerate(trial.leaf.hops):
        conn = trial.leaf.state.host(hop.host).ct.get((hop.conntrack or {}).get("id")) if trial.leaf.state else None
        if conn is None or conn.where is None or hop.host != edit.host:
            continue
        step = next((i for i, s in enumerate(hop.steps) if s.stage == "conntrack"), None)
        text = (
            f"{hop.host} finds the flow in an entry made before the rules were as they are ({conn.where}): it keeps its old "
            "translation, and only the first packet of a connection consults the nat table"
        )
        places = (((FORWARD, index, step), WRONG),) if step is not None else ()
        return Diagnosis("stale_entry", text, _where(conn.where), places)
    return None


# ------------------------------------------------------------------------------------------------- marks


def _late_mark(trial: Trial, fixes: list[Fix]) -> Diagnosis | None:
    found = late_mark(trial)
    if found is None:
        return None
    index, i, step, rule = found
    marks = [f for f in fixes if f.result == WORKS and any("-t mangle -A" in c and "MARK" in c for _, c in f.steps())]
    if not marks and (trial.obstacle is None or trial.obstacle.code != "mark_too_late"):
        return None
    right = "mangle OUTPUT" if trial.leaf.hops[index].in_dev is None else "mangle PREROUTING"
    text = f"{rule_label(step)} sets the mark after routing: {rule} never sees it; set it in {right}"
    return Diagnosis("mark_too_late", text, _where(step.where), (((FORWARD, index, i), WRONG),))


def _valid_mark(trial: Trial, fixes: list[Fix]) -> Diagnosis | None:
    """The reverse-path filter would find the way back if it looked with the packet's mark."""
    if trial.obstacle is None or trial.obstacle.code != "rp_filter":
        return None
    if not any(f.result == WORKS and any("src_valid_mark" in c for _, c in f.steps()) for f in fixes):
        return None
    leaf = _leaf(trial)
    hop = leaf.hops[-1]
    mark = hop.after.get("mark") or 0
    text = (
        f"the reverse-path filter of {hop.in_dev} looks up the way back without the packet's mark {mark:#x}, because "
        f"src_valid_mark is 0: {trial.obstacle.text}"
    )
    place = ((trial.obstacle.phase, len(leaf.hops) - 1, len(hop.steps) - 1), WRONG)
    return Diagnosis("src_valid_mark_off", text, _where(trial.obstacle.where), (place,))


# ------------------------------------------------------------------------------------------------- rules


def _stop(hop: Hop) -> Step | None:
    return next((s for s in reversed(hop.steps) if s.verdict in ("DROP", "REJECT") and s.matched is not False), None)


def _one_criterion(trial: Trial, fixes: list[Fix]) -> Diagnosis | None:
    """Dropped by a policy, where one rule accepts the packet as soon as one criterion of it is put right."""
    obstacle = trial.obstacle
    if obstacle is None or obstacle.code != "dropped_by_policy":
        return None
    leaf = _leaf(trial)
    index, hop = len(leaf.hops) - 1, leaf.hops[-1]
    for step in near_accepts(hop, _stop(hop)):
        place = f"-R {step.chain} {step.rule} "
        mended = _working(fixes, RuleEdit, lambda e, place=place: place in f"{e.text} ")
        if not mended and failed_option(step) == "--match-set":
            mended = _working(fixes, IpsetAdd, lambda e, step=step: f"--match-set {e.name} " in (step.text or ""))
        if not mended:
            continue
        code = "set_mismatch" if failed_option(step) == "--match-set" else "criterion_failed"
        text = f"{rule_label(step)} would accept the packet but for one criterion: {step.note}{_before(hop, step)}"
        at = next(i for i, s in enumerate(hop.steps) if s is step)
        return Diagnosis(code, text, _where(step.where, obstacle.where), (((obstacle.phase, index, at), WRONG),))
    return None


def _before(hop: Hop, step: Step) -> str:
    """That the criterion fits the packet as it was before it was translated."""
    key = {"--dport": "dport", "--sport": "sport", "-d": "dst", "-s": "src"}.get(failed_option(step))
    wanted = (step.note or "").partition(", but ")[0].split()[-1].removesuffix("/32")
    change = (
        next((s for s in hop.steps if key in s.changes and str(s.changes[key][0]) == wanted), None) if key else None
    )
    if change is None:
        return ""
    return (
        f". {wanted} is what it was before {change.table} {change.chain} {change.rule or ''}".rstrip()
        + " translated it"
    )


def _other_backend(trial: Trial, fixes: list[Fix]) -> Diagnosis | None:
    """The refusing rule stands in the iptables backend that the usual tool does not show."""
    leaf = _leaf(trial)
    if trial.obstacle is None or trial.obstacle.code not in ("dropped_by_rule", "rejected_by_rule"):
        return None
    hop = leaf.hops[-1]
    step = _stop(hop)
    family = trial.question.family
    backends = {t.backend for t in trial.world.hosts[hop.host].tables if t.family == family}
    if step is None or step.backend != "legacy" or len(backends) < 2:
        return None
    text = (
        f"{rule_label(step)} refuses the packet, and it stands in the tables of iptables-legacy: iptables-save does not show "
        f"it, iptables-legacy-save does. {hop.host} runs both backends, and a packet passes both"
    )
    place = (trial.obstacle.phase, len(leaf.hops) - 1, hop.steps.index(step))
    return Diagnosis("other_backend", text, _where(step.where), ((place, WRONG),))


def _shadowed_nat(trial: Trial, fixes: list[Fix]) -> Diagnosis | None:
    """A rule of the nat table ended the chain before the one that would have translated."""
    for index, hop in enumerate(trial.leaf.hops):
        for i, step in enumerate(hop.steps):
            ends = step.table == "nat" and step.matched and step.target in ("ACCEPT", "RETURN") and step.rule
            gone = f"-D {step.chain} {step.rule}"
            if not ends or not _working(fixes, RuleEdit, lambda e, gone=gone: e.text.endswith(gone)):
                continue
            text = (
                f"{rule_label(step)} ends the chain without a translation, and the connection keeps that: a later rule "
                "would translate it"
            )
            return Diagnosis("rule_shadowed", text, _where(step.where), (((FORWARD, index, i), WRONG),))
    return None


def _wrong_chain(trial: Trial, fixes: list[Fix]) -> Diagnosis | None:
    """A translation that stands in a chain which this packet does not come by."""
    for fix in fixes:
        texts = [e.text for e in fix.edits if isinstance(e, RuleEdit)]
        if fix.result != WORKS or len(texts) != len(fix.edits):
            continue
        if len(texts) == 1 and texts[0].startswith("-t nat -A OUTPUT ") and trial.asked.in_dev is None:
            text = (
                "nat PREROUTING has a rule for this flow, but what the host sends itself does not come by there: it starts "
                "in OUTPUT"
            )
            return Diagnosis("wrong_chain_for_local", text)
        if (
            len(texts) == 2
            and texts[0].startswith("-t nat -D INPUT ")
            and texts[1].startswith("-t nat -A POSTROUTING ")
        ):
            number = texts[0].split()[-1]
            text = (
                f"nat INPUT {number} would translate the source, but a forwarded packet does not come by INPUT: it passes "
                "FORWARD and POSTROUTING"
            )
            return Diagnosis("chain_not_consulted", text)
    return None


# ------------------------------------------------------------------------------------- answers and errors


def _unowned_source(trial: Trial, fixes: list[Fix]) -> Diagnosis | None:
    """The answer's next hop is the translated source itself, which nobody answers ARP for."""
    obstacle, asked = trial.obstacle, trial.reply_asked
    if obstacle is None or asked is None or (obstacle.phase, obstacle.code) != (REPLY, "neighbour_failed"):
        return None
    from ..model.addr import format_addr

    source = format_addr(asked.skb.family, asked.skb.dst)
    for index, hop in enumerate(trial.leaf.hops):
        for i, step in enumerate(hop.steps):
            if str(step.changes.get("src", ("", ""))[1]) == source and step.rule:
                text = (
                    f"{rule_label(step)} gives the packet the source {source}, which {hop.host} does not have: nobody answers "
                    "the neighbour request for the reply"
                )
                return Diagnosis("source_not_owned", text, _where(step.where), (((FORWARD, index, i), WRONG),))
    return None


def _error_blocked(trial: Trial, fixes: list[Fix]) -> Diagnosis | None:
    """The error that would make the sender send smaller packets does not get to him."""
    if trial.obstacle is None or trial.obstacle.code != "fragmentation_needed":
        return None
    for response in trial.leaf.responses:
        if response.kind != "icmp" or response.outcome in ("delivered", "left"):
            continue
        step = next((s for h in response.hops for s in h.steps if s.verdict in ("DROP", "REJECT")), None)
        who = f" by {rule_label(step)}" if step is not None and step.rule else ""
        text = (
            f"{response.sender} has to tell the sender to send smaller packets, and this ICMP message is "
            f"{response.outcome}{who}: the sender never learns it. {trial.obstacle.text}"
        )
        return Diagnosis("icmp_error_blocked", text, _where(step.where if step else None, trial.obstacle.where))
    return None


def _helper(trial: Trial, fixes: list[Fix]) -> Diagnosis | None:
    """A connection that an FTP server opens to somebody whose control connection has no helper."""
    obstacle = trial.obstacle
    if obstacle is None or obstacle.phase != FORWARD or trial.question.packet.get("proto") != "tcp":
        return None
    for index, hop in enumerate(trial.leaf.hops):
        server = str(hop.before.get("src"))
        for conn in trial.world.hosts[hop.host].conns:
            from ..model.addr import format_addr

            there = conn.tuples[0]
            if (
                there.proto != 6
                or there.dport != FTP_CONTROL
                or conn.helper
                or format_addr(there.family, there.dst) != server
            ):
                continue
            text = (
                f"{server} has an FTP control connection through {hop.host} ({conn.where}), and this looks like its data "
                "connection. Without the ftp helper it is neither expected nor translated: for new connections, "
                "iptables -t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp; modprobe nf_nat_ftp"
            )
            step = next((i for i, s in enumerate(hop.steps) if s.stage == "conntrack"), 0)
            return Diagnosis("helper_missing", text, _where(conn.where), (((FORWARD, index, step), SHOWN),))
    return None
