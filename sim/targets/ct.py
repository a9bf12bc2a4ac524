"""CT and NOTRACK: net/netfilter/xt_CT.c xt_ct_target(), notrack_tg().

Attaches a template that conntrack looks at afterwards, or marks the packet as untracked; in the raw table only, and
only where the packet carries nothing yet (on lo it comes with its entry).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.conntrack import IP_CT_UNTRACKED
from ..model.rule import V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options, c_int

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

# Printed in the order of their bits: enum ip_conntrack_events, enum ip_conntrack_expect_events
CT_EVENTS = (
    "new", "related", "destroy", "reply", "assured", "protoinfo", "helper", "mark", "natseqinfo", "secmark",
)  # fmt: skip
EXP_EVENTS = ("new",)
ZONE_OPTIONS = {"--zone": "both", "--zone-orig": "orig", "--zone-reply": "reply"}


def _untrack(skb: Skb) -> None:
    skb.ct, skb.ctinfo, skb.template = None, IP_CT_UNTRACKED, None


def _carries_nothing(skb: Skb) -> bool:
    """skb->_nfct == 0: no entry, no template, not untracked."""
    return skb.ct is None and skb.template is None and skb.ctinfo != IP_CT_UNTRACKED


@dataclass(frozen=True, slots=True)
class _Ct(Target):
    """``zone`` None: the packet's mark is the zone. ``zone_dir``: both, orig or reply."""

    options = (
        Opt("--notrack", 0),
        Opt("--helper"),
        Opt("--timeout"),
        Opt("--ctevents"),
        Opt("--expevents"),
        *(Opt(name) for name in ZONE_OPTIONS),
    )

    helper: str = ""
    timeout: str = ""
    events: tuple[str, ...] = ()
    exp_events: tuple[str, ...] = ()
    zone: int | None = 0
    zone_dir: str = "both"
    notrack: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Target:
        options = Options("CT", found, at)
        notrack = "--notrack" in options
        zone, zone_dir = _zone(options)
        fields = (
            options.text("--helper") or "",
            options.text("--timeout") or "",
            _events(options, "--ctevents", CT_EVENTS),
            _events(options, "--expevents", EXP_EVENTS),
            zone,
            zone_dir,
            notrack,
        )
        if not notrack and (fields[0] or fields[1]) and (not at.proto or at.proto_negated):
            raise at.error("CT: --helper and --timeout need -p PROTOCOL without !", "add -p tcp or -p udp to the rule")
        return (_CtNotrack if notrack else Ct)(*fields)

    def words(self) -> list[str]:
        out = ["--notrack"] if self.notrack else []
        for name, value in (("--helper", self.helper), ("--timeout", self.timeout)):
            if value:
                out += [name, value]
        for name, events in (("--ctevents", self.events), ("--expevents", self.exp_events)):
            if events:
                out += [name, ",".join(events)]
        if self.zone is None or self.zone:
            name = next(n for n, direction in ZONE_OPTIONS.items() if direction == self.zone_dir)
            out += [name, "mark" if self.zone is None else str(self.zone)]
        return out


def _zone(options: Options) -> tuple[int | None, str]:
    """The zone of the last of the three options (None: the mark); orig and reply together mean both."""
    zone: int | None = 0
    given = [name for name in options.names() if name in ZONE_OPTIONS]
    by_mark = False
    for name in given:
        text = options.text(name) or ""
        if text == "mark":
            by_mark = True
            continue
        try:
            zone = c_int(text)
        except ValueError:
            zone = None
        if zone is None or zone > 0xFFFF:
            raise options.bad(name, "a zone from 0 to 65535, or mark")
    directions = {ZONE_OPTIONS[name] for name in given} - {"both"}
    return None if by_mark else zone, directions.pop() if len(directions) == 1 else "both"


def _events(options: Options, name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    text = options.text(name)
    if text is None:
        return ()
    given = text.split(",")
    for event in given:
        if event not in known:
            raise options.bad(name, f"{event!r} is not one of {', '.join(known)}")
    return tuple(event for event in known if event in given)


@target(
    "CT",
    tables=("raw",),
    doc="-p tcp -j CT --helper ftp --ctevents new,destroy --expevents new --zone-orig 3",
)
@dataclass(frozen=True, slots=True)
class Ct(_Ct):
    """A template: zone, helper, timeout policy, events."""

    tracks = True

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        if _carries_nothing(skb):
            from ..engine.conntrack import Template

            keyed = (self.zone_dir != "reply", self.zone_dir != "orig")
            zone = self.zone or 0
            skb.template = Template(
                (zone * keyed[0], zone * keyed[1]),
                self.helper or None,
                self.timeout or None,
                by_mark=keyed if self.zone is None else (False, False),
            )
        return V_CONTINUE


@dataclass(frozen=True, slots=True)
class _CtNotrack(_Ct):
    """``CT --notrack``: needs no connection tracking, so it does not switch it on."""

    name = "CT"

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        if _carries_nothing(skb):
            _untrack(skb)
        return V_CONTINUE


@target("NOTRACK", tables=("raw",), doc="-j NOTRACK")
@dataclass(frozen=True, slots=True)
class Notrack(Target):
    """The same as ``CT --notrack``, under its old name."""

    @classmethod
    def parse(cls, found: Found, at: At) -> Notrack:
        return cls()

    def words(self) -> list[str]:
        return []

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        if _carries_nothing(skb):
            _untrack(skb)
        return V_CONTINUE
