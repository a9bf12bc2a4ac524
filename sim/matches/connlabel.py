"""``-m connlabel``: a bit of the entry's labels. net/netfilter/xt_connlabel.c connlabel_mt()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import by_name, entry, number, opt, quoted, said

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

HIGHEST = 127  # XT_CONNLABEL_MAXBIT


@match("connlabel", doc='-m connlabel ! --label "41" --set')
@dataclass(frozen=True, slots=True)
class Connlabel(Match):
    """``bit`` None: a name, whose number stands in the host's connlabel.conf, which no snapshot has."""

    tracks = True
    options = (Opt("--label", 1, True), Opt("--set", 0))
    label: str
    bit: int | None
    negated: bool = False
    sets: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Connlabel:
        got = by_name(found)
        if "--label" not in got:
            raise at.error("-m connlabel needs --label")
        label = got["--label"].args[0]
        bit = number(at, "--label", label, HIGHEST) if label[:1].isdigit() else None
        return cls(label if bit is None else str(bit), bit, got["--label"].negated, "--set" in got)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        conn = entry(skb, ctx)
        if conn is None or conn.conn_id == 0:
            return self.negated
        if self.bit is None:
            return ctx.unknown(
                f"--label {self.label}: which bit this name means is not in the snapshot", "missing_input"
            )
        if conn.labels >> self.bit & 1:
            return not self.negated
        if self.sets:
            ctx.hs.ct.update(conn, labels=conn.labels | 1 << self.bit)
            return not self.negated
        return self.negated

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        conn = entry(skb, ctx)
        actual = "the packet has no conntrack entry" if conn is None else f"the entry's labels are 0x{conn.labels:x}"
        return Miss(" ".join(words), said(self.negated) + quoted(self.label), actual)

    def words(self) -> list[str]:
        out = opt("--label", self.negated, quoted(self.label))
        return [*out, "--set"] if self.sets else out
