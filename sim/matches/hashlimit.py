"""``-m hashlimit``: a token bucket per address or port. net/netfilter/xt_hashlimit.c hashlimit_mt_common(), revision 3.

Buckets belong to the named table, shared by all rules that name it. A bucket that was not touched for the expiry time
is thrown away by a collector that runs every gc interval: in between, either may be the case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..engine.run import Option
from ..model.addr import AF_INET, BITS, mask_of
from ..model.packet import IPPROTO_AH, IPPROTO_ESP, WITH_PORTS
from ..model.rule import HotDrop, Match, Miss
from ..record import NamedTuple, dataclass
from ..rules.registry import At, Found, Got, Opt, match
from .common import HZ, U32, U64, assume_fresh, by_name, jiffies, number, opt, prefix_length, transport_ports
from .limit import parse_rate, unit_of

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

SCALE = 1_000_000  # XT_HASHLIMIT_SCALE_v2
CREDITS_PER_JIFFY = 1 << 39  # POW2_BELOW64(MAX_CPJ) at HZ=250
CREDITS_PER_JIFFY_BYTES = 1 << 24  # POW2_BELOW32(0xFFFFFFFF / HZ)
BYTES_CAP = CREDITS_PER_JIFFY_BYTES * HZ
BYTE_SHIFT = 4  # lengths are counted in 16-byte steps
BYTE_EXPIRE, BYTE_EXPIRE_BURST = 15, 60  # seconds
GC_INTERVAL_MS = 1000
DEFERRABLE_SLACK_S = 1.0  # the collector is a deferrable work: it may come later on an idle machine
DEFAULT_BURST = 5
MODES = ("srcip", "srcport", "dstip", "dstport")
FACTOR = {"k": 1024, "m": 1024 * 1024}
KEYLESS = frozenset(WITH_PORTS | {IPPROTO_ESP, IPPROTO_AH})  # proto_ports_offset() knows these


def bytes_to_cost(octets: int) -> int:
    return U32 // ((octets >> BYTE_SHIFT & U32) + 1)


def cost_to_bytes(cost: int) -> int:
    return ((U32 // cost if cost else U32) - 1) << BYTE_SHIFT


class Bucket(NamedTuple):
    """struct dsthash_ent. ``credit``/``cap`` or, with --hashlimit-rate-match, ``seen`` and ``over`` (last window)."""

    expires: int
    prev: int
    credit: int = 0
    cap: int = 0
    seen: int = 0
    over: bool = False


@match(
    "hashlimit",
    doc="-m hashlimit --hashlimit-upto 40/min --hashlimit-burst 20 --hashlimit-mode srcip --hashlimit-name a",
)
@dataclass(frozen=True, slots=True)
class Hashlimit(Match):
    """``average``: seconds * 10^6 between packets, or cost of 16 bytes; ``interval`` 0: no rate match."""

    options = (
        Opt("--hashlimit-upto", 1, True, ("--hashlimit",)),
        Opt("--hashlimit-above", 1, True),
        Opt("--hashlimit-burst", 1),
        Opt("--hashlimit-mode", 1),
        Opt("--hashlimit-srcmask", 1),
        Opt("--hashlimit-dstmask", 1),
        Opt("--hashlimit-name", 1),
        Opt("--hashlimit-htable-size", 1),
        Opt("--hashlimit-htable-max", 1),
        Opt("--hashlimit-htable-gcinterval", 1),
        Opt("--hashlimit-htable-expire", 1),
        Opt("--hashlimit-rate-match", 0),
        Opt("--hashlimit-rate-interval", 1),
    )
    table: str
    average: int
    burst: int
    above: bool = False
    bytes: bool = False
    modes: tuple[str, ...] = ()
    srcmask: int = 32
    dstmask: int = 32
    size: int = 0
    maximum: int = 0
    gc_ms: int = GC_INTERVAL_MS
    expire_ms: int = 1000
    rate_match: bool = False
    interval: int = 0
    family: int = AF_INET

    @classmethod
    def parse(cls, found: Found, at: At) -> Hashlimit:
        got = by_name(found)
        rates = [got[name] for name in ("--hashlimit-upto", "--hashlimit-above") if name in got]
        if len(rates) != 1:
            raise at.error("-m hashlimit needs one of --hashlimit-upto, --hashlimit-above")
        if "--hashlimit-name" not in got:
            raise at.error("-m hashlimit needs --hashlimit-name")
        fields = _rate(at, got, rates[0].args[0], "--hashlimit-rate-match" in got)

        def integer(name: str, default: int) -> int:
            one = got.get(f"--hashlimit-{name}")
            return default if one is None else number(at, one.name, one.args[0])

        modes = got["--hashlimit-mode"].args[0].split(",") if "--hashlimit-mode" in got else []
        if bad := [mode for mode in modes if mode not in MODES]:
            raise at.error(f"--hashlimit-mode: unknown mode {bad[0]!r}", f"one of {', '.join(MODES)}")
        masks = [BITS[at.family]] * 2
        for place, name in enumerate(("--hashlimit-srcmask", "--hashlimit-dstmask")):
            if name in got:
                masks[place] = prefix_length(at, name, got[name].args[0])
        return cls(
            table=got["--hashlimit-name"].args[0],
            above=(rates[0].name == "--hashlimit-above") != rates[0].negated,
            modes=tuple(mode for mode in MODES if mode in modes),
            srcmask=masks[0],
            dstmask=masks[1],
            size=integer("htable-size", 0),
            maximum=integer("htable-max", 0),
            gc_ms=integer("htable-gcinterval", GC_INTERVAL_MS),
            expire_ms=integer("htable-expire", fields.pop("expire") * 1000),
            family=at.family,
            **fields,  # type: ignore[arg-type]
        )

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        state = ctx.hs.match_state
        where = ("hashlimit", self.family, self.table)
        table: tuple[Hashlimit, dict[Any, Bucket]] | None = state.get(where)
        if table is None:
            assume_fresh(ctx, f"the buckets of -m hashlimit {self.table} are taken to be full")
            table = (self, {})
        config, buckets = table
        key = config._key(skb, ctx)
        now = jiffies(ctx)
        bucket = config._find(buckets.get(key), now, ctx)
        bucket = bucket._replace(expires=now + -(-config.expire_ms * HZ // 1000))
        below, bucket = self._take(bucket, config, skb.length)
        state[where] = (config, {**buckets, key: bucket})
        return below != self.above

    def _key(self, skb: Skb, ctx: Ctx) -> tuple[object, ...]:
        """hashlimit_init_dst()."""
        source = skb.src & mask_of(skb.family, self.srcmask) if "srcip" in self.modes else 0
        dest = skb.dst & mask_of(skb.family, self.dstmask) if "dstip" in self.modes else 0
        if "srcport" not in self.modes and "dstport" not in self.modes:
            return source, dest, 0, 0
        words: tuple[object, object] | None = (0, 0)
        if skb.proto in (IPPROTO_ESP, IPPROTO_AH) and not skb.frag:
            words = (skb.spi >> 16, skb.spi & 0xFFFF)
        elif skb.proto in KEYLESS:
            words = transport_ports(skb, ctx)
        if words is None:
            raise HotDrop
        sport, dport = (ctx.ws.known(word) for word in words)  # type: ignore[arg-type]
        return source, dest, sport if "srcport" in self.modes else 0, dport if "dstport" in self.modes else 0

    def _fresh(self, now: int) -> Bucket:
        """rateinfo_init()."""
        if self.rate_match:
            return Bucket(0, now)
        if self.bytes:
            return Bucket(0, now, BYTES_CAP, self.burst)
        full = self._credits(self.average * self.burst & U64)
        return Bucket(0, now, full, full)

    @staticmethod
    def _credits(user: int) -> int:
        return user * (HZ * CREDITS_PER_JIFFY // SCALE) & U64

    def _find(self, bucket: Bucket | None, now: int, ctx: Ctx) -> Bucket:
        """The bucket refilled up to now, or a new one where there is none (any more)."""
        fresh = self._fresh(now)
        if bucket is None:
            return fresh
        kept = self._refill(bucket, now)
        if now < bucket.expires or kept._replace(expires=0) == fresh:
            return kept
        if now - bucket.expires > (self.gc_ms / 1000 + DEFERRABLE_SLACK_S) * HZ:
            return fresh
        options = (Option(None, "still there", kept), Option(None, "collected", fresh))
        chosen: Bucket = ctx.run.choose(f"hashlimit {self.table}: the expired bucket", options)
        return chosen

    def _refill(self, bucket: Bucket, now: int) -> Bucket:
        """rateinfo_recalc()."""
        delta = now - bucket.prev
        if delta == 0:
            return bucket
        if self.rate_match:
            window = self.interval * HZ
            if delta < window:
                return bucket
            return bucket._replace(prev=now, over=bucket.seen * window > delta * self._rate(), seen=0)
        if self.bytes:
            return bucket._replace(prev=now, credit=min(BYTES_CAP, bucket.credit + CREDITS_PER_JIFFY_BYTES * delta))
        return bucket._replace(prev=now, credit=min(bucket.cap, bucket.credit + delta * CREDITS_PER_JIFFY & U64))

    def _rate(self) -> int:
        if self.bytes:
            return cost_to_bytes(self.average)
        return SCALE // self.average if self.average else 0

    def _take(self, bucket: Bucket, config: Hashlimit, length: int) -> tuple[bool, Bucket]:
        """Whether the packet is below the limit, and the bucket without its share."""
        if self.rate_match:
            rate = config._rate()
            burst = (config.burst * rate if config.burst else rate) if config.bytes else config.burst + rate
            bucket = bucket._replace(seen=bucket.seen + (length if self.bytes else 1))
            return not bucket.over and bucket.seen <= burst, bucket
        if self.bytes:
            per_chunk = config.average * BYTES_CAP >> 32 & U32
            cost = min(((length >> BYTE_SHIFT) + 1) * per_chunk, BYTES_CAP)
            if bucket.credit < cost and bucket.cap:
                bucket = bucket._replace(cap=bucket.cap - 1, credit=BYTES_CAP)
        else:
            cost = self._credits(config.average)
        if bucket.credit >= cost:
            return True, bucket._replace(credit=bucket.credit - cost)
        return False, bucket

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        words = self.words()
        actual = "the packets are below the limit" if self.above else "packets came faster"
        return Miss(f"{words[0]} {words[1]}", words[1], actual)

    def words(self) -> list[str]:
        out = ["--hashlimit-above" if self.above else "--hashlimit-upto"]
        if self.bytes:
            rate, burst, expire = _show_bytes(self.average, self.burst)
            out += [rate, *(["--hashlimit-burst", burst] if burst else [])]
        else:
            count, unit, expire = unit_of(self.average, SCALE)
            out += [f"{count}/{unit}", "--hashlimit-burst", str(self.burst)]
        if self.modes:
            out += opt("--hashlimit-mode", False, ",".join(self.modes))
        out += opt("--hashlimit-name", False, self.table)
        bits = BITS[self.family]
        for name, value, default in (
            ("htable-size", self.size, 0),
            ("htable-max", self.maximum, 0),
            ("htable-gcinterval", self.gc_ms, GC_INTERVAL_MS),
            ("htable-expire", self.expire_ms, expire * 1000),
            ("srcmask", self.srcmask, bits),
            ("dstmask", self.dstmask, bits),
        ):
            if value != default:
                out += opt(f"--hashlimit-{name}", False, value)
        if self.rate_match:
            out += ["--hashlimit-rate-match"]
            if self.interval != 1:
                out += opt("--hashlimit-rate-interval", False, self.interval)
        return out


def _rate(at: At, got: dict[str, Got], text: str, rate_match: bool) -> dict[str, int]:
    """hashlimit_mt_check(): average, burst, interval and default expiry."""
    burst_text = got["--hashlimit-burst"].args[0] if "--hashlimit-burst" in got else None
    if text.endswith("b/s"):
        digits = text[:-3]
        factor = FACTOR.get(digits[-1:].lower(), 1)
        octets = number(at, "--hashlimit-upto", digits.rstrip("kKmM"), U64, 1) * factor
        fields = {"bytes": True, "average": bytes_to_cost(octets), "burst": 0, "expire": BYTE_EXPIRE}
        if not fields["average"]:
            raise at.error(f"--hashlimit: rate too high: {text!r}")
        if burst_text is not None:
            step = cost_to_bytes(fields["average"])
            wanted = _burst_bytes(at, burst_text)
            if wanted < step:
                raise at.error(f"--hashlimit-burst: must not be smaller than {step} bytes")
            fields |= {"burst": -(-wanted // step), "expire": BYTE_EXPIRE_BURST}
        unit = 1
    else:
        average, unit = parse_rate(at, "--hashlimit", text, SCALE)
        burst = DEFAULT_BURST if burst_text is None else number(at, "--hashlimit-burst", burst_text, 1_000_000, 1)
        fields = {"bytes": False, "average": average, "burst": burst, "expire": unit}
        if rate_match:
            fields["average"] = average // unit
    interval = got.get("--hashlimit-rate-interval")
    fields["interval"] = number(at, "rate-interval", interval.args[0]) if interval is not None else 0
    if rate_match and not fields["interval"]:
        fields["interval"] = unit
    return fields | {"rate_match": rate_match}


def _burst_bytes(at: At, text: str) -> int:
    digits = text.removesuffix("b")
    factor = FACTOR.get(digits[-1:].lower(), 1)
    return number(at, "--hashlimit-burst", digits.rstrip("kKmM"), U64, 1) * factor


def _show_bytes(average: int, burst: int) -> tuple[str, str, int]:
    """print_bytes(): rate, burst or "", default expiry in seconds."""
    rate = cost_to_bytes(average)
    units = ((1024 * 1024, "m"), (1024, "k"), (1, ""))
    size, name = next(u for u in units if u[0] == 1 or (rate >= u[0] and bytes_to_cost(rate & ~(u[0] - 1)) == average))
    text = f"{rate // size}{name}b/s"
    if not burst:
        return text, "", BYTE_EXPIRE
    total = rate * burst
    size, name = next(u for u in units if u[0] == 1 or total >= u[0])
    return text, f"{total // size}{name}b", BYTE_EXPIRE_BURST
