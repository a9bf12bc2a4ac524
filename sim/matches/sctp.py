"""``-m sctp``: ports and chunk types. net/netfilter/xt_sctp.c sctp_mt(), match_packet()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine import wire
from ..model.packet import IPPROTO_SCTP
from ..model.rule import HotDrop, Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import by_name, need_header, no_ports, opt, ports, show_span
from .tcp import port_miss

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

# name -> (type, letters of its flags from bit 7 down), in the order in which iptables prints them
CHUNKS = {
    "DATA": (0, "----IUBE"), "INIT": (1, "--------"), "INIT_ACK": (2, "--------"), "SACK": (3, "--------"),
    "HEARTBEAT": (4, "--------"), "HEARTBEAT_ACK": (5, "--------"), "ABORT": (6, "-------T"),
    "SHUTDOWN": (7, "--------"), "SHUTDOWN_ACK": (8, "--------"), "ERROR": (9, "--------"),
    "COOKIE_ECHO": (10, "--------"), "COOKIE_ACK": (11, "--------"), "ECN_ECNE": (12, "--------"),
    "ECN_CWR": (13, "--------"), "SHUTDOWN_COMPLETE": (14, "-------T"), "I_DATA": (64, "----IUBE"),
    "RE_CONFIG": (130, "--------"), "PAD": (132, "--------"), "ASCONF": (193, "--------"),
    "ASCONF_ACK": (128, "--------"), "FORWARD_TSN": (192, "--------"), "I_FORWARD_TSN": (194, "--------"),
}  # fmt: skip
MODES = ("any", "all", "only")
EVERY = frozenset(range(256))


@match("sctp", doc="-p sctp -m sctp --dport 80 ! --chunk-types any DATA:Be,INIT")
@dataclass(frozen=True, slots=True)
class Sctp(Match):
    """``flags``: (chunk type, mask, value). ``mode`` None: chunks are not looked at."""

    options = (
        Opt("--sport", 1, True, ("--source-port",)),
        Opt("--dport", 1, True, ("--destination-port",)),
        Opt("--chunk-types", 2, True),
    )
    sport: tuple[int, int] | None = None
    not_sport: bool = False
    dport: tuple[int, int] | None = None
    not_dport: bool = False
    mode: str | None = None
    types: frozenset[int] = frozenset()
    flags: tuple[tuple[int, int, int], ...] = ()
    not_chunks: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Sctp:
        if at.proto != IPPROTO_SCTP or at.proto_negated:
            raise at.error("-m sctp needs -p sctp")
        got = by_name(found)
        fields: dict[str, object] = {}
        for name in ("--sport", "--dport"):
            if name in got:
                fields |= {name[2:]: ports(at, name, got[name].args[0]), f"not_{name[2:]}": got[name].negated}
        if (one := got.get("--chunk-types")) is not None:
            mode = one.args[0].lower()
            if mode not in MODES:
                raise at.error(f"--chunk-types: {one.args[0]!r} is none of all, any, only")
            types, flags = _parse_chunks(at, one.args[1])
            fields |= {"mode": mode, "types": types, "flags": flags, "not_chunks": one.negated}
        return cls(**fields)  # type: ignore[arg-type]

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        return self._failed(skb, ctx) is None

    def _failed(self, skb: Skb, ctx: Ctx) -> str | None:
        if skb.frag or not need_header(skb, 12):
            return "fragment"
        if self.sport and ctx.in_range(skb.sport, *self.sport) == self.not_sport:
            return "sport"
        if self.dport and ctx.in_range(skb.dport, *self.dport) == self.not_dport:
            return "dport"
        if self.mode and self._chunks_match(skb) == self.not_chunks:
            return "chunks"
        return None

    def _chunks_match(self, skb: Skb) -> bool:
        wanted, missing = self.types, set(self.types)
        for kind, flags in _chunks(skb):
            if kind not in wanted:
                if self.mode == "only":
                    return False
                continue
            # iptables stores flags under the place in its list, not the type: they count where both are equal (0-14)
            fits = next((flags & mask == value for one, mask, value in self.flags if one == kind < 15), True)
            if fits and self.mode == "any":
                return True
            if fits:
                missing.discard(kind)
            elif self.mode == "only":
                return False
        return not missing if self.mode == "all" else self.mode == "only"

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        failed = self._failed(skb, ctx)
        if failed == "sport" and self.sport:
            return port_miss("sport", self.sport, self.not_sport, skb, ctx)
        if failed == "dport" and self.dport:
            return port_miss("dport", self.dport, self.not_dport, skb, ctx)
        if failed == "chunks":
            have = ", ".join(_name(kind) for kind, _ in _chunks(skb))
            return Miss(" ".join(self._chunk_words()), self._show_chunks(), f"the chunks are {have}")
        return Miss("-m sctp", "a whole SCTP header", no_ports(skb) or "the header is cut off")

    def words(self) -> list[str]:
        out: list[str] = []
        if self.sport:
            out += opt("--sport", self.not_sport, show_span(*self.sport))
        if self.dport:
            out += opt("--dport", self.not_dport, show_span(*self.dport))
        return out + self._chunk_words() if self.mode else out

    def _chunk_words(self) -> list[str]:
        return opt("--chunk-types", self.not_chunks, self.mode, self._show_chunks())

    def _show_chunks(self) -> str:
        if not self.types:
            return "NONE"
        if self.types == EVERY:
            return "ALL"
        parts = []
        for name, (kind, letters) in CHUNKS.items():
            if kind in self.types:
                mask, value = next(((m, v) for one, m, v in self.flags if one == kind), (0, 0))
                shown = "".join(
                    letters[7 - bit] if value >> bit & 1 else letters[7 - bit].lower()
                    for bit in range(7, -1, -1)
                    if mask >> bit & 1
                )
                parts.append(name + (f":{shown}" if shown else ""))
        return ",".join(parts)


def _parse_chunks(at: At, text: str) -> tuple[frozenset[int], tuple[tuple[int, int, int], ...]]:
    if text.upper() in ("ALL", "NONE"):
        return (EVERY if text.upper() == "ALL" else frozenset()), ()
    types, flags = set(), []
    for part in text.split(","):
        name, _, letters = part.partition(":")
        if name.upper() not in CHUNKS:
            raise at.error(f"--chunk-types: unknown chunk {name!r}")
        kind, known = CHUNKS[name.upper()]
        types.add(kind)
        mask = value = 0
        for letter in letters:
            place = known.find(letter.upper())
            if place < 0 or letter == "-":
                raise at.error(f"--chunk-types: {name} has no flag {letter!r}")
            mask |= 1 << 7 - place
            value |= letter.isupper() << 7 - place
        if mask:
            flags.append((kind, mask, value))
    return frozenset(types), tuple(flags)


def _chunks(skb: Skb) -> list[tuple[int, int]]:
    """(type, flags) of every chunk; HotDrop where one is cut off or says length 0."""
    if skb.chunk_types:
        return list(skb.chunk_types)
    data = wire.to_bytes(skb)
    place = wire.header_length(skb) + 12
    out = []
    while True:
        head = data[place : place + 4]
        length = int.from_bytes(head[2:], "big")
        if len(head) < 4 or not length:
            raise HotDrop
        out.append((head[0], head[1]))
        place += (length + 3) // 4 * 4
        if place >= len(data):
            return out


def _name(kind: int) -> str:
    return next((name for name, (number, _) in CHUNKS.items() if number == kind), str(kind))
