"""FTP: net/netfilter/nf_conntrack_ftp.c, nf_nat_ftp.c. PORT, EPRT, 227 and 229 announce a data connection."""

from __future__ import annotations

import re

from ...model.addr import AF_INET, AF_INET6, format_addr, parse_addr
from ...model.conntrack import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IPS_NAT_MASK,
    ORIGINAL,
    Conn,
    Expectation,
    ctinfo2dir,
)
from ...model.packet import IPPROTO_TCP, Skb
from ...model.rule import DROP, V_ACCEPT, Verdict
from ...record import NamedTuple
from ..conntrack import expect_related, zone_id
from ..run import Ctx
from ..trackers.tcp import after, before
from . import seqadj

TIMEOUT_S, MAX_EXPECTED = 300, 1
PORT, EPRT, PASV, EPSV = "PORT", "EPRT", "PASV", "EPSV"
PARTIAL = "partial"  # the pattern begins and does not end in this packet: dropped, to be seen whole
_M = 0xFFFFFFFF


class Found(NamedTuple):
    """An announcement: its kind, where its numbers stand in the payload, the address and port they say."""

    kind: str
    offset: int
    length: int
    addr: int
    port: int


def help_(ctx: Ctx, skb: Skb, conn: Conn) -> Verdict:
    """help()"""
    if skb.ctinfo not in (IP_CT_ESTABLISHED, IP_CT_ESTABLISHED_REPLY):
        return V_ACCEPT
    if skb.payload is None:
        ctx.run.note(f"{ctx.host.name}: the payload is not known; the ftp helper takes it for no announcement")
        return V_ACCEPT
    if not skb.payload:
        return V_ACCEPT
    direction = ctinfo2dir(skb.ctinfo)
    payload, next_seq = skb.payload, (skb.tcp_seq + len(skb.payload)) & _M
    verdict = V_ACCEPT
    if _begins_line(ctx, conn, direction, skb.tcp_seq):
        found = search(payload, direction, skb.family, conn.tuples[direction].src)
        if found == PARTIAL:
            return Verdict(DROP, reason="helper_partial", text="the ftp helper drops half of an announcement")
        if isinstance(found, Found):
            verdict = _expect(ctx, skb, conn, direction, found)
            next_seq = (skb.tcp_seq + len(payload)) & _M
    if payload.endswith(b"\n"):
        _remember(ctx, conn, direction, next_seq)
    return verdict


def _lines(ctx: Ctx, conn: Conn, direction: int) -> tuple[int, ...]:
    found: tuple[int, ...] = ctx.hs.match_state.get(("ftp", conn.conn_id, direction), ())
    return found


def _begins_line(ctx: Ctx, conn: Conn, direction: int, seq: int) -> bool:
    """find_nl_seq(): only what follows a line end is read; an entry of a dump is picked up anywhere."""
    known = _lines(ctx, conn, direction)
    return seq in known or (conn.where is not None and not known)


def _remember(ctx: Ctx, conn: Conn, direction: int, seq: int) -> None:
    """update_nl_seq(): the last two places behind a line end."""
    known = list(_lines(ctx, conn, direction))
    if seq in known:
        return
    if len(known) < 2:
        known.append(seq)
    else:
        oldest = 0 if before(known[0], known[1]) else 1
        if after(seq, known[oldest]):
            known[oldest] = seq
    ctx.hs.match_state["ftp", conn.conn_id, direction] = tuple(known)


def search(payload: bytes, direction: int, family: int, default: int) -> Found | str | None:
    """find_pattern() for the two patterns of a direction; None: nothing, PARTIAL: cut off."""
    kinds = ((b"PORT", PORT), (b"EPRT", EPRT)) if direction == ORIGINAL else ((b"227 ", PASV), (b"229 ", EPSV))
    for pattern, kind in kinds:
        if len(payload) <= len(pattern):
            if pattern.upper().startswith(payload.upper()):
                return PARTIAL
            continue
        if payload[: len(pattern)].upper() != pattern:
            continue
        return _numbers(payload, len(pattern), kind, family, default) or PARTIAL
    return None


def _number(digits: str) -> int:
    """As get_port() and try_number() count: modulo a power of two, so the last digits are all that matters."""
    return int(digits[-32:] or 0)


def _numbers(payload: bytes, at: int, kind: str, family: int, default: int) -> Found | None:
    """The getnum functions: try_rfc959, try_eprt, try_rfc1123, try_epsv_response."""
    text = payload.decode("latin-1")
    if kind in (PORT, PASV):
        begin = text.find(" ", at) + 1 if kind == PORT else at + len(re.match(r"\D*", text[at:]).group())  # type: ignore[union-attr]
        end = r"\r" if kind == PORT else r"[^0-9,]"
        match = re.compile(r"(\d*),(\d*),(\d*),(\d*),(\d*),(\d*)(?=" + end + ")").match(text, begin)
        if not begin or match is None:
            return None
        n = [_number(g) for g in match.groups()]
        addr = (n[0] << 24 | n[1] << 16 | n[2] << 8 | n[3]) & _M
        return Found(kind, begin, match.end() - begin, addr, (n[4] << 8 | n[5]) & 0xFFFF)
    begin = text.find(" " if kind == EPRT else "(", at) + 1
    if not begin:
        return None
    if kind == EPSV:
        match = re.compile(r"([!-/:-~])\1\1(\d+)\1").match(text, begin)
        if match is None or not _number(match[2]) & 0xFFFF:
            return None
        return Found(kind, begin, match.end() - begin, default, _number(match[2]) & 0xFFFF)
    match = re.compile(r"([!-/:-~])([12])\1(.+?)\1(\d+)\1").match(text, begin)
    if match is None or match[2] != ("1" if family == AF_INET else "2") or not _number(match[4]) & 0xFFFF:
        return None
    try:
        said, addr = parse_addr(match[3])
    except (ValueError, OSError):
        return None
    if said != family:
        return None
    return Found(kind, begin, match.end() - begin, addr, _number(match[4]) & 0xFFFF)


def _expect(ctx: Ctx, skb: Skb, conn: Conn, direction: int, found: Found) -> Verdict:
    """The second half of help(): an expectation in the other direction; NAT rewrites the announcement."""
    if found.addr != conn.tuples[direction].src:
        return V_ACCEPT  # names a third host: the module's "loose" is off
    other = conn.tuples[1 - direction]
    natted = bool(conn.status & IPS_NAT_MASK)
    expectation = Expectation(
        other.family,
        IPPROTO_TCP,
        other.src,
        other.dst,
        found.port,
        master=conn.conn_id,
        zone=zone_id(conn.zones),
        helper="ftp",
        timeout_at=ctx.now + TIMEOUT_S,
        direction=1 - direction if natted else ORIGINAL,
        saved_port=found.port if natted else None,
        follow_master=natted,
    )
    if not expect_related(ctx, expectation, MAX_EXPECTED):
        if natted:
            ctx.run.note(f"{ctx.host.name}: port {found.port} is expected already; the ftp helper would draw another")
        return Verdict(
            DROP, reason="helper_expectation_failed", text="the ftp helper could not register its expectation"
        )
    if natted:
        _mangle(ctx, skb, conn, found, other.dst)
    return V_ACCEPT


def _mangle(ctx: Ctx, skb: Skb, conn: Conn, found: Found, addr: int) -> None:
    """nf_nat_ftp(): write the address that the other side sees into the payload."""
    assert skb.payload is not None
    text = _command(found.kind, skb.family, addr, found.port).encode()
    change = len(text) - found.length
    skb.payload = skb.payload[: found.offset] + text + skb.payload[found.offset + found.length :]
    skb.length += change
    seqadj.grow(ctx, skb, conn, change)
    ctx.step("helper", note=f"ftp: announcement rewritten to {text.decode()}", conntrack=f"#{conn.conn_id}")


def _command(kind: str, family: int, addr: int, port: int) -> str:
    """nf_nat_ftp_fmt_cmd()"""
    if kind == EPSV:
        return f"|||{port}|"
    shown = format_addr(family, addr)
    if kind == EPRT:
        return f"|{2 if family == AF_INET6 else 1}|{shown}|{port}|"
    return f"{shown.replace('.', ',')},{port >> 8},{port & 0xFF}"
