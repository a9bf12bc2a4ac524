"""``-m cluster``: this node's share of the sources. net/netfilter/xt_cluster.c xt_cluster_mt()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine.jhash import jhash2, reciprocal_scale
from ..model.addr import AF_INET, format_addr, is_multicast
from ..model.packet import PACKET_HOST, PACKET_MULTICAST
from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U32, by_name, entry, number, opt, said

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.conntrack import Conn
    from ..model.packet import Skb

MAX_NODES = 32


def jhash_source(family: int, addr: int, seed: int) -> int:
    """Hash of an address over its words as a little-endian CPU reads them."""
    raw = addr.to_bytes(4 if family == AF_INET else 16, "big")
    return jhash2([int.from_bytes(raw[i : i + 4], "little") for i in range(0, len(raw), 4)], seed)


@match(
    "cluster",
    doc="-m cluster ! --cluster-local-nodemask 0x00000002 --cluster-total-nodes 2 --cluster-hash-seed 0xdeadbeef",
)
@dataclass(frozen=True, slots=True)
class Cluster(Match):
    """``nodemask``: bit n-1 for node n."""

    tracks = True
    options = (
        Opt("--cluster-total-nodes", 1),
        Opt("--cluster-local-node", 1, True),
        Opt("--cluster-local-nodemask", 1, True),
        Opt("--cluster-hash-seed", 1),
    )
    total: int
    nodemask: int
    seed: int
    negated: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Cluster:
        got = by_name(found)
        for name in ("--cluster-total-nodes", "--cluster-hash-seed"):
            if name not in got:
                raise at.error(f"-m cluster needs {name}")
        total = number(at, "--cluster-total-nodes", got["--cluster-total-nodes"].args[0], MAX_NODES, 1)
        if (one := got.get("--cluster-local-node")) is not None:
            nodemask = 1 << number(at, one.name, one.args[0], MAX_NODES, 1) - 1
        elif (one := got.get("--cluster-local-nodemask")) is not None:
            nodemask = number(at, one.name, one.args[0], U32, 1)
        else:
            raise at.error("-m cluster needs --cluster-local-node or --cluster-local-nodemask")
        if nodemask >= 1 << total:
            raise at.error(f"{one.name}: beyond the {total} nodes of the cluster")
        return cls(total, nodemask, number(at, "seed", got["--cluster-hash-seed"].args[0]), one.negated)

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        if skb.pkttype == PACKET_MULTICAST and not is_multicast(skb.family, skb.dst):
            skb.pkttype = PACKET_HOST  # the kernel's match does change the packet here
        conn = self._conn(skb, ctx)
        return conn is not None and bool(1 << self._node(conn) & self.nodemask) != self.negated

    def _conn(self, skb: Skb, ctx: Ctx) -> Conn | None:
        conn = entry(skb, ctx)
        if conn is None or conn.conn_id == 0:
            return None
        return ctx.hs.ct.get(conn.master) or conn

    def _node(self, conn: Conn) -> int:
        first = conn.tuples[0]
        return reciprocal_scale(jhash_source(first.family, first.src, self.seed), self.total)

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        conn = self._conn(skb, ctx)
        text = f"{said(self.negated)}--cluster-local-nodemask 0x{self.nodemask:08x}"
        if conn is None:
            return Miss(text, words[-5], "the packet has no conntrack entry")
        source = format_addr(conn.tuples[0].family, conn.tuples[0].src)
        return Miss(text, f"0x{self.nodemask:08x}", f"{source} belongs to node {self._node(conn) + 1}")

    def words(self) -> list[str]:
        out = opt("--cluster-local-nodemask", self.negated, f"0x{self.nodemask:08x}")
        return [*out, "--cluster-total-nodes", str(self.total), "--cluster-hash-seed", f"0x{self.seed:08x}"]
