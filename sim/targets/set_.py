"""SET: net/netfilter/xt_set.c set_target_v3(). Adds to, deletes from, or maps by an ipset (engine.ipset)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..matches.set_ import parse_directions
from ..model.rule import HOOK_NUMBER, NF_INET_LOCAL_IN, NF_INET_PRE_ROUTING, V_CONTINUE, Target, Verdict
from ..record import dataclass
from ..rules.registry import At, Found, Opt, target
from .common import Options

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

OPERATIONS = ("--add-set", "--del-set", "--map-set")
MAPS = ("--map-mark", "--map-prio", "--map-queue")
IPSET_MAX_TIMEOUT = 0xFFFFFFFF // 1000  # UINT_MAX milliseconds

Use = tuple[str, tuple[str, ...]]  # set, directions


@target("SET", doc="-j SET --add-set seen src,dst --exist --timeout 5 --del-set known src")
@dataclass(frozen=True, slots=True)
class SetTarget(Target):
    """Each operation at most once, in this order. ``maps``: what --map-set copies from the element."""

    options = (
        *(Opt(name, 2) for name in OPERATIONS),
        Opt("--exist", 0),
        Opt("--timeout"),
        *(Opt(name, 0) for name in MAPS),
    )

    add: Use | None = None
    delete: Use | None = None
    map_: Use | None = None
    exist: bool = False
    timeout: int | None = None
    maps: tuple[str, ...] = ()

    @classmethod
    def parse(cls, found: Found, at: At) -> SetTarget:
        options = Options("SET", found, at)
        uses: dict[str, Use] = {}
        for got in found:
            if got.name in OPERATIONS:
                uses[got.name] = (got.args[0], parse_directions(at, got.name, got.args[1]))
        if not uses:
            raise at.error(f"SET: one of {', '.join(OPERATIONS)} is required")
        maps = tuple(name for name in MAPS if name in options)
        _check_map(at, "--map-set" in uses, maps)
        return cls(
            uses.get("--add-set"),
            uses.get("--del-set"),
            uses.get("--map-set"),
            "--exist" in options,
            options.number("--timeout", 0, 0xFFFFFFFE),
            maps,
        )

    def words(self) -> list[str]:
        out: list[str] = []
        if self.add is not None:
            out += _words("--add-set", self.add)
            if self.exist:
                out.append("--exist")
            if self.timeout is not None:
                out += ["--timeout", str(self.timeout)]
        if self.delete is not None:
            out += _words("--del-set", self.delete)
        if self.map_ is not None:
            out += [*_words("--map-set", self.map_), *self.maps]
        return out

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        from ..engine import ipset

        if self.add is not None:
            timeout = None if self.timeout is None else min(self.timeout, IPSET_MAX_TIMEOUT)
            ipset.add_entry(ctx, self.add[0], skb, self.add[1], timeout, self.exist)
        if self.delete is not None:
            ipset.del_entry(ctx, self.delete[0], skb, self.delete[1])
        if self.map_ is not None:
            self._map(skb, ctx, self.map_)
        return V_CONTINUE

    def _map(self, skb: Skb, ctx: Ctx, use: Use) -> None:
        """The element's skbinfo goes into the packet; a queue number changes nothing that is modelled."""
        from ..engine import ipset

        if not ipset.test_set(ctx, use[0], skb, use[1]):
            return
        element = ipset.find(ctx, use[0], skb, use[1])
        if element is None:
            return
        if "--map-mark" in self.maps:
            mark, mask = element.skbmark or (0, 0)
            skb.mark = (skb.mark & ~mask) ^ mark
        if "--map-prio" in self.maps:
            major, minor = element.skbprio or (0, 0)
            skb.priority = major << 16 | minor


def _words(name: str, use: Use) -> list[str]:
    return [name, use[0], ",".join(use[1])]


def _check_map(at: At, mapping: bool, maps: tuple[str, ...]) -> None:
    """set_target_v3_checkentry(): where a set may be mapped."""
    if mapping != bool(maps):
        raise at.error(f"SET: --map-set and one of {', '.join(MAPS)} belong together")
    if mapping and at.table != "mangle":
        raise at.error("SET: --map-set works in the mangle table only")
    if HOOK_NUMBER.get(at.chain) in (NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN) and maps not in ((), ("--map-mark",)):
        raise at.error("SET: --map-prio and --map-queue work in FORWARD, OUTPUT and POSTROUTING only")
