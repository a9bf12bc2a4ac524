"""``-m owner``: who opened the socket behind the packet. net/netfilter/xt_owner.c owner_mt().

Only locally sent packets have a socket. Without one every positive criterion fails and every negated one holds.
Packets of the kernel's own sockets (echo replies, ICMP errors, resets) have a socket but no file, hence no user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING, Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import U32, by_name, number, opt, said, show_span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..engine.run import Ctx
    from ..model.packet import Skb

HIGHEST_ID = U32 - 1  # (uid_t)-1 is no user


def parse_ids(at: At, option: str, text: str, names: Mapping[str, int]) -> tuple[int, int]:
    """A name, a number or a range ``a-b``."""
    if text in names:
        return names[text], names[text]
    if not text[:1].isdigit():
        if text == "root":
            return 0, 0
        raise at.error(f"{option}: no such name in the snapshot: {text!r}", "write the number")
    first, dash, last = text.partition("-")
    low = number(at, option, first, HIGHEST_ID)
    high = number(at, option, last, HIGHEST_ID) if dash else low
    if high < low:
        raise at.error(f"{option}: the range {text} ends before it begins")
    return low, high


@match("owner", hooks=(NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING), doc="-m owner ! --uid-owner 1000-1999 --gid-owner 0")
@dataclass(frozen=True, slots=True)
class Owner(Match):
    """``uid``/``gid``: inclusive ranges or None; ``exists``: --socket-exists."""

    options = (
        Opt("--uid-owner", 1, True),
        Opt("--gid-owner", 1, True),
        Opt("--socket-exists", 0, True),
        Opt("--suppl-groups", 0),
    )
    uid: tuple[int, int] | None = None
    not_uid: bool = False
    gid: tuple[int, int] | None = None
    not_gid: bool = False
    exists: bool = False
    not_exists: bool = False
    suppl: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Owner:
        got = by_name(found)
        fields: dict[str, object] = {}
        if (one := got.get("--uid-owner")) is not None:
            fields |= {"uid": parse_ids(at, one.name, one.args[0], at.users), "not_uid": one.negated}
        if (one := got.get("--gid-owner")) is not None:
            fields |= {"gid": parse_ids(at, one.name, one.args[0], at.groups), "not_gid": one.negated}
        if (one := got.get("--socket-exists")) is not None:
            fields |= {"exists": True, "not_exists": one.negated}
        if not fields:
            raise at.error("-m owner needs --uid-owner, --gid-owner or --socket-exists")
        return cls(**fields, suppl="--suppl-groups" in got)  # type: ignore[arg-type]

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return self._failed(skb, ctx) is None

    def _failed(self, skb: Skb, ctx: Ctx) -> str | None:
        sk = skb.sk
        if self.exists and (sk is not None) == self.not_exists:
            return "socket"
        if sk is None or not sk.has_file:
            if self.uid and not self.not_uid:
                return "uid"
            # XT_OWNER_SUPPL_GROUPS is a flag like the others and can never be inverted
            if (self.gid and not self.not_gid) or (sk is None and self.suppl):
                return "gid"
            return None
        if self.uid and (self.uid[0] <= sk.uid <= self.uid[1]) == self.not_uid:
            return "uid"
        if self.gid:
            hit = self.gid[0] <= sk.gid <= self.gid[1]
            if not hit and self.suppl:
                text = f"--suppl-groups: the snapshot does not tell the supplementary groups of uid {sk.uid}"
                hit = ctx.unknown(text, "missing_input")
            if hit == self.not_gid:
                return "gid"
        return None

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        failed = self._failed(skb, ctx)
        if failed == "socket":
            actual = "the packet has no socket" if skb.sk is None else "the packet has a socket"
            return Miss(f"{said(self.not_exists)}--socket-exists", "a socket", actual)
        span, negated = (self.gid, self.not_gid) if failed == "gid" else (self.uid, self.not_uid)
        kind = "gid" if failed == "gid" else "uid"
        text = show_span(*(span or (0, 0)), "-")
        if skb.sk is None:
            actual = "the packet has no socket here (it was not sent by a local process)"
        elif not skb.sk.has_file:
            actual = "the packet was made by the kernel itself and has no owner"
        else:
            actual = f"the socket's {kind} is {skb.sk.gid if kind == 'gid' else skb.sk.uid}"
        return Miss(f"{said(negated)}--{kind}-owner {text}", said(negated) + text, actual)

    def words(self) -> list[str]:
        out: list[str] = []
        if self.exists:
            out += opt("--socket-exists", self.not_exists)
        if self.uid:
            out += opt("--uid-owner", self.not_uid, show_span(*self.uid, "-"))
        if self.gid:
            out += opt("--gid-owner", self.not_gid, show_span(*self.gid, "-"))
        if self.suppl:
            out += opt("--suppl-groups")
        return out
