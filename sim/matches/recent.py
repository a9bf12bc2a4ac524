"""``-m recent``: a named list of addresses and when they were last seen. net/netfilter/xt_recent.c recent_mt().

Lists are shared by every rule that names them; none is in a snapshot, so each starts empty. Kept: time stamps of all
sightings. The kernel keeps as many as the largest --hitcount of the list needs, so older ones never decide anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.addr import AF_INET, BITS, format_addr
from ..model.rule import Match, Miss
from ..record import NamedTuple, dataclass
from ..rules.registry import At, Found, Opt, match
from .common import HZ, U32, address, assume_fresh, by_name, jiffies, number, opt, said

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

LIST_TOTAL = 100  # module parameter ip_list_tot
MAX_STAMPS = 65535  # XT_RECENT_MAX_NSTAMPS - 1
ACTIONS = ("--set", "--rcheck", "--update", "--remove")


class Seen(NamedTuple):
    """struct recent_entry. ``stamps`` in jiffies, newest last."""

    family: int
    addr: int
    ttl: int
    stamps: tuple[int, ...]


@match("recent", doc="-m recent ! --rcheck --seconds 60 --hitcount 4 --name SSH --mask 255.255.255.255 --rsource")
@dataclass(frozen=True, slots=True)
class Recent(Match):
    """``action``: --set, --rcheck, --update or --remove."""

    options = (
        *(Opt(name, 0, True) for name in ACTIONS),
        Opt("--seconds", 1),
        Opt("--reap", 0),
        Opt("--hitcount", 1),
        Opt("--rttl", 0),
        Opt("--name", 1),
        Opt("--rsource", 0),
        Opt("--rdest", 0),
        Opt("--mask", 1),
    )
    action: str
    negated: bool = False
    seconds: int = 0
    reap: bool = False
    hitcount: int = 0
    rttl: bool = False
    list_name: str = "DEFAULT"
    mask: int = U32
    dest: bool = False
    family: int = AF_INET

    @classmethod
    def parse(cls, found: Found, at: At) -> Recent:
        got = by_name(found)
        actions = [got[name] for name in ACTIONS if name in got]
        if len(actions) != 1:
            raise at.error("-m recent needs exactly one of --set, --rcheck, --update, --remove")
        one = actions[0]
        extras = [name for name in ("--seconds", "--hitcount", "--rttl", "--reap") if name in got]
        if extras and one.name in ("--set", "--remove"):
            raise at.error(f"{extras[0]} goes with --rcheck and --update only")
        if "--reap" in got and "--seconds" not in got:
            raise at.error("--reap needs --seconds")
        full = (1 << BITS[at.family]) - 1
        return cls(
            one.name,
            one.negated,
            number(at, "--seconds", got["--seconds"].args[0], U32, 1) if "--seconds" in got else 0,
            "--reap" in got,
            number(at, "--hitcount", got["--hitcount"].args[0], MAX_STAMPS, 1) if "--hitcount" in got else 0,
            "--rttl" in got,
            got["--name"].args[0] if "--name" in got else "DEFAULT",
            address(at, "--mask", got["--mask"].args[0]) if "--mask" in got else full,
            "--rdest" in got,
            at.family,
        )

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        where = ("recent", self.list_name)
        table = ctx.hs.match_state.get(where)
        if table is None:
            assume_fresh(ctx, f"the list {self.list_name} of -m recent is taken to be empty")
            table = (self.mask, ())  # the mask of a list is that of the rule which made it
        mask, entries = table
        ttl = skb.ttl
        if ctx.outdev is not None and skb.sk is None:
            ttl = ttl + 1 & 0xFF  # as it was before forwarding
        addr = (skb.dst if self.dest else skb.src) & mask
        hit, entries = self._apply(entries, skb.family, addr, ttl, jiffies(ctx))
        ctx.hs.match_state[where] = (mask, entries)
        return hit

    def _apply(self, entries: tuple[Seen, ...], family: int, addr: int, ttl: int,
               now: int) -> tuple[bool, tuple[Seen, ...]]:  # fmt: skip
        """The answer and the list afterwards, which is kept in the order of last update (oldest first)."""
        wanted_ttl = ttl if self.rttl else 0
        known = next((e for e in entries if e[:2] == (family, addr) and (wanted_ttl in (0, e.ttl) or not e.ttl)), None)
        hit = self.negated
        if known is None:
            if self.action != "--set":
                return hit, entries
            if len(entries) >= LIST_TOTAL:
                entries = entries[1:]
            return not hit, (*entries, Seen(family, addr, ttl, (now,)))
        if self.action == "--remove":
            return not hit, tuple(e for e in entries if e is not known)
        if self.action == "--set":
            hit = not hit
        else:
            oldest = now - self.seconds * HZ
            hits = sum(1 for stamp in known.stamps if not self.seconds or stamp >= oldest)
            if hits >= max(1, self.hitcount):
                hit = not hit
            if self.reap and not (entries[0] is known and self.action == "--update" and hit):
                if entries[0].stamps[-1] < oldest:
                    entries = entries[1:]
        if self.action == "--set" or (self.action == "--update" and hit):
            stamps = (*known.stamps, now)[-MAX_STAMPS:]
            entries = (*(e for e in entries if e is not known), Seen(family, addr, ttl, stamps))
        return hit, entries

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        mask, entries = ctx.hs.match_state.get(("recent", self.list_name), (self.mask, ()))
        addr = (skb.dst if self.dest else skb.src) & mask
        text = f"{said(self.negated)}{self.action}"
        for name, value in (("--seconds", self.seconds), ("--hitcount", self.hitcount)):
            text += f" {name} {value}" if value else ""
        seen = next((len(e.stamps) for e in entries if e.addr == addr), 0)
        actual = f"{format_addr(skb.family, addr)} was seen {seen} times" if seen else "the address is not in the list"
        return Miss(f"{text} --name {self.list_name}", self.list_name, actual)

    def words(self) -> list[str]:
        out = opt(self.action, self.negated)
        if self.seconds:
            out += opt("--seconds", False, self.seconds)
        if self.reap:
            out += ["--reap"]
        if self.hitcount:
            out += opt("--hitcount", False, self.hitcount)
        if self.rttl:
            out += ["--rttl"]
        out += ["--name", self.list_name, "--mask", format_addr(self.family, self.mask)]
        return [*out, "--rdest" if self.dest else "--rsource"]
