"""``-m set``: membership in an ipset. net/netfilter/xt_set.c set_match_v4()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine import ipset
from ..model.addr import format_addr
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U64, by_name, number, opt, said, show_number

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

MAX_DIRECTIONS = 6  # IPSET_DIM_MAX
COMPARISONS = ("eq", "lt", "gt")

Counter = tuple[str, int]  # eq, ne, lt or gt; value


def parse_directions(at: At, option: str, text: str) -> tuple[str, ...]:
    """``src,dst,…`` (also of --add-set and the like)."""
    words = tuple(text.split(","))
    if len(words) > MAX_DIRECTIONS or any(word not in ("src", "dst") for word in words):
        raise at.error(f"{option}: directions are src and dst, at most {MAX_DIRECTIONS}: {text!r}")
    return words


@match("set", doc="-m set ! --match-set blocked src,dst --return-nomatch ! --update-counters --packets-gt 5")
@dataclass(frozen=True, slots=True)
class Set(Match):
    """One flag per dimension; ``packets``/``octets``: what the element's counters must be."""

    options = (
        Opt("--match-set", 2, True, ("--set",)),
        Opt("--return-nomatch", 0),
        Opt("--update-counters", 0, True),
        Opt("--update-subcounters", 0, True),
        *(Opt(f"--{kind}-{how}", 1, how == "eq") for kind in ("packets", "bytes") for how in COMPARISONS),
    )
    set_name: str
    directions: tuple[str, ...]
    negated: bool = False
    return_nomatch: bool = False
    update_counters: bool = True
    update_subcounters: bool = True
    packets: Counter | None = None
    octets: Counter | None = None

    @classmethod
    def parse(cls, found: Found, at: At) -> Set:
        got = by_name(found)
        if "--match-set" not in got:
            raise at.error("-m set needs --match-set")
        name, directions = got["--match-set"].args
        return cls(
            name,
            parse_directions(at, "--match-set", directions),
            got["--match-set"].negated,
            "--return-nomatch" in got,
            not ("--update-counters" in got and got["--update-counters"].negated),
            not ("--update-subcounters" in got and got["--update-subcounters"].negated),
            _counter(found, at, "packets"),
            _counter(found, at, "bytes"),
        )

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        hit = ipset.test_set(
            ctx,
            self.set_name,
            skb,
            self.directions,
            return_nomatch=self.return_nomatch,
            update_counters=self.update_counters,
            update_subcounters=self.update_subcounters,
            packets=self.packets,
            octets=self.octets,
        )
        return hit != self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        wanted = f"{self.set_name} {','.join(self.directions)}"
        have = []
        found = ctx.host.sets.get(self.set_name)
        names = ipset.dimensions(found) if found is not None else []
        for name, direction in zip(names, self.directions, strict=False):
            if name in ("ip", "net"):
                have.append(format_addr(skb.family, skb.src if direction == "src" else skb.dst))
            elif name == "port":
                have.append(show_number(skb.sport if direction == "src" else skb.dport, ctx))
            elif name == "iface":
                have.append(str(ctx.indev if direction == "src" else ctx.outdev))
        who = ",".join(have) or "the packet"
        if len(names) > len(self.directions):
            actual = f"a {found.type if found else 'set'} needs {len(names)} directions"
        else:
            actual = f"{who} is {'in' if self.negated else 'not in'} {self.set_name}"
        return Miss(f"{said(self.negated)}--match-set {wanted}", wanted, actual)

    def words(self) -> list[str]:
        out = opt("--match-set", self.negated, self.set_name, ",".join(self.directions))
        if self.return_nomatch:
            out += opt("--return-nomatch")
        if not self.update_counters:
            out += opt("--update-counters", True)
        if not self.update_subcounters:
            out += opt("--update-subcounters", True)
        for kind, counter in (("packets", self.packets), ("bytes", self.octets)):
            if counter is not None:
                how, value = counter
                out += opt(f"--{kind}-{'eq' if how == 'ne' else how}", how == "ne", value)
        return out


def _counter(found: Found, at: At, kind: str) -> Counter | None:
    given = [got for got in found if got.name in {f"--{kind}-{how}" for how in COMPARISONS}]
    if len(given) > 1:
        raise at.error(f"only one of --{kind}-eq, --{kind}-lt, --{kind}-gt")
    if not given:
        return None
    how = given[0].name.rpartition("-")[2]
    return "ne" if given[0].negated else how, number(at, given[0].name, given[0].args[0], U64)
