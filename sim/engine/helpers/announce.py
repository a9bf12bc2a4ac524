"""What helpers share: an expectation is made and registered, a payload is rewritten. nf_conntrack_expect.c, nf_nat_helper.c."""

from __future__ import annotations

from ...model.conntrack import Conn, Expectation
from ...model.packet import IPPROTO_TCP, Skb
from ...model.rule import DROP, V_ACCEPT, Verdict
from ..conntrack import expect_related, zone_id
from ..run import Ctx
from . import seqadj


def payload_unknown(ctx: Ctx, name: str) -> Verdict:
    """A packet of which only the headers are known."""
    ctx.run.note(f"{ctx.host.name}: the payload is not known; the {name} helper takes it for no announcement")
    return V_ACCEPT


def tcp(ctx: Ctx, conn: Conn, helper: str, src: int | None, dst: int, port: int, timeout_s: float,
        direction: int | None) -> Expectation:  # fmt: skip
    """A TCP connection to ``port``. ``direction``: of the master that its NAT follows; None: its own rules decide."""
    return Expectation(
        conn.tuples[0].family,
        IPPROTO_TCP,
        src,
        dst,
        port,
        master=conn.conn_id,
        zone=zone_id(conn.zones),
        helper=helper,
        timeout_at=ctx.now + timeout_s,
        direction=direction or 0,
        saved_port=port if direction is not None else None,
        follow_master=direction is not None,
    )


def register(ctx: Ctx, expectation: Expectation, most: int, natted: bool) -> Verdict:
    """nf_ct_expect_related(); the packet is dropped where another's expectation is in the way."""
    if expect_related(ctx, expectation, most):
        return V_ACCEPT
    name = expectation.helper
    if natted:
        ctx.run.note(
            f"{ctx.host.name}: port {expectation.dport} is expected already; the {name} helper would try another"
        )
    text = f"the {name} helper could not register its expectation"
    return Verdict(DROP, reason="helper_expectation_failed", text=text)


def rewrite(ctx: Ctx, skb: Skb, conn: Conn, begin: int, end: int, text: bytes) -> None:
    """nf_nat_mangle_tcp_packet(), nf_nat_mangle_udp_packet(): other words in place of those at ``begin``."""
    assert skb.payload is not None
    change = len(text) - (end - begin)
    skb.payload = skb.payload[:begin] + text + skb.payload[end:]
    skb.length += change
    if skb.proto == IPPROTO_TCP:
        seqadj.grow(ctx, skb, conn, change)
    ctx.step("helper", note=f"{conn.helper}: announcement rewritten to {text.decode()}", conntrack=f"#{conn.conn_id}")
