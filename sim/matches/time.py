"""``-m time``: when the packet is seen, by the clock in UTC. net/netfilter/xt_time.c time_mt()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.rule import Match, Miss
from ..record import dataclass
from ..rules.registry import At, Found, Opt, match
from .common import by_name, number, opt

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from ..model.packet import Skb

DAY = 86400
WEEKDAYS = ("", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
ALL_WEEKDAYS, ALL_MONTHDAYS = 0xFE, 0xFFFFFFFE
LAST_DATE = 0x7FFFFFFF  # what libxt_time puts where no --datestop is given, and prints


@match("time", doc="-m time --timestart 08:00:00 --timestop 17:30:00 --weekdays Mon,Fri --datestop 2038-01-19T03:14:07")
@dataclass(frozen=True, slots=True)
class Time(Match):
    """Seconds of the day, dates in seconds since the epoch, days as bit masks (bit 1 = Monday, first of the month)."""

    options = (
        Opt("--datestart", 1),
        Opt("--datestop", 1),
        Opt("--timestart", 1),
        Opt("--timestop", 1),
        Opt("--contiguous", 0),
        Opt("--monthdays", 1, True),
        Opt("--weekdays", 1, True),
        Opt("--utc", 0),
        Opt("--kerneltz", 0, False, ("--localtz",)),
    )
    start: int = 0
    stop: int = DAY - 1
    weekdays: int = ALL_WEEKDAYS
    monthdays: int = ALL_MONTHDAYS
    date_start: int = 0
    date_stop: int = LAST_DATE
    kerneltz: bool = False
    contiguous: bool = False

    @classmethod
    def parse(cls, found: Found, at: At) -> Time:
        got = by_name(found)
        fields: dict[str, object] = {"kerneltz": "--kerneltz" in got, "contiguous": "--contiguous" in got}
        for name, field in (("--timestart", "start"), ("--timestop", "stop")):
            if name in got:
                fields[field] = _clock(at, name, got[name].args[0])
        for name, field, end in (("--datestart", "date_start", False), ("--datestop", "date_stop", True)):
            if name in got:
                fields[field] = _date(at, name, got[name].args[0], end)
        for name, whole in (("--weekdays", ALL_WEEKDAYS), ("--monthdays", ALL_MONTHDAYS)):
            if name in got:
                mask = _days(at, name, got[name].args[0])
                fields[name[2:]] = mask ^ whole if got[name].negated else mask
        made = cls(**fields)  # type: ignore[arg-type]
        if made.contiguous and made.start < made.stop:
            raise at.error("--contiguous only makes sense when --timestop is smaller than --timestart")
        return made

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        stamp = self._stamp(ctx)
        if stamp is None:
            zone = "the kernel's time zone" if self.kerneltz else "the time of capture"
            text = f"-m time: {zone} is not in the snapshot (meta.json captured_at; or the key time)"
            return ctx.unknown(text, "missing_input")
        return self._failed(stamp) is None

    def _stamp(self, ctx: Ctx) -> int | None:
        if self.kerneltz or ctx.host.captured_at is None:
            return None
        return int(ctx.host.captured_at + ctx.now)

    def _failed(self, stamp: int) -> str | None:
        if not self.date_start <= stamp <= self.date_stop:
            return "--datestart" if stamp < self.date_start else "--datestop"
        clock = stamp % DAY
        if self.start < self.stop:
            if not self.start <= clock <= self.stop:
                return "--timestart"
        else:
            if self.stop < clock < self.start:
                return "--timestart"
            if self.contiguous and clock <= self.stop:
                stamp -= DAY  # the hours after midnight belong to the day before
        days = stamp // DAY
        if not self.weekdays >> (3 + days) % 7 + 1 & 1:  # 1970-01-01 was a Thursday
            return "--weekdays"
        if self.monthdays != ALL_MONTHDAYS and not self.monthdays >> _civil(days)[2] & 1:
            return "--monthdays"
        return None

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        stamp = self._stamp(ctx)
        failed = (self._failed(stamp) if stamp is not None else None) or "-m time"
        words = self.words()
        wanted = words[words.index(failed) + 1] if failed in words else ""
        if failed == "--timestart":
            wanted = f"{_show_clock(self.start)} --timestop {_show_clock(self.stop)}"
        now = "not known" if stamp is None else f"{WEEKDAYS[(3 + stamp // DAY) % 7 + 1]} {_show_date(stamp)}"
        return Miss(f"{failed} {wanted}".strip(), wanted, f"the time is {now}")

    def words(self) -> list[str]:
        out: list[str] = []
        if self.start != 0 or self.stop != DAY - 1:
            out += ["--timestart", _show_clock(self.start), "--timestop", _show_clock(self.stop)]
        if self.monthdays != ALL_MONTHDAYS:
            out += opt("--monthdays", False, ",".join(str(n) for n in range(1, 32) if self.monthdays >> n & 1))
        if self.weekdays != ALL_WEEKDAYS:
            out += opt("--weekdays", False, ",".join(WEEKDAYS[n] for n in range(1, 8) if self.weekdays >> n & 1))
        if self.date_start:
            out += ["--datestart", _show_date(self.date_start)]
        out += ["--datestop", _show_date(self.date_stop)]
        if self.kerneltz:
            out.append("--kerneltz")
        return [*out, "--contiguous"] if self.contiguous else out


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6


def _clock(at: At, option: str, text: str) -> int:
    parts = text.split(":")
    if not 2 <= len(parts) <= 3 or not all(map(_digits, parts)):
        raise at.error(f"{option}: not a time of day: {text!r}", "hh:mm or hh:mm:ss")
    hour, minute, second = (int(part) for part in [*parts, "0"][:3])
    if hour > 23 or minute > 59 or second > 59:
        raise at.error(f"{option}: not a time of day: {text!r}", "hh:mm or hh:mm:ss")
    return hour * 3600 + minute * 60 + second


def _date(at: At, option: str, text: str, end: bool) -> int:
    """``YYYY[-MM[-DD[Thh[:mm[:ss]]]]]``; parts left out are the first of their kind."""
    day, _, clock = text.partition("T")
    parts = [*day.split("-"), *(clock.split(":") if clock else [])]
    if not 1 <= len(parts) <= 6 or not all(map(_digits, parts)):
        raise at.error(f"{option}: not a date: {text!r}", "YYYY-MM-DDThh:mm:ss")
    year, month, mday, hour, minute, second = (
        int(part) for part in parts + ["0", "1", "1", "0", "0", "0"][len(parts) :]
    )
    if not (
        1970 <= year <= 2038 and 1 <= month <= 12 and 1 <= mday <= 31 and hour < 24 and minute < 60 and second < 60
    ):
        raise at.error(f"{option}: not a date between 1970 and 2038: {text!r}")
    return _days_from_civil(year, month, mday) * DAY + hour * 3600 + minute * 60 + second


def _days(at: At, option: str, text: str) -> int:
    mask = 0
    for word in text.split(","):
        if word.isdigit():
            day = number(at, option, word, 7 if option == "--weekdays" else 31, 1)
        else:
            hits = [n for n, name in enumerate(WEEKDAYS) if n and name[:2] == word[:2]]
            if option != "--weekdays" or len(word) < 2 or not hits:
                raise at.error(f"{option}: not a day: {word!r}")
            day = hits[0]
        mask |= 1 << day
    return mask


def _show_clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _show_date(stamp: int) -> str:
    year, month, day = _civil(stamp // DAY)
    return f"{year:04}-{month:02}-{day:02}T{_show_clock(stamp % DAY)}"


def _days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 (proleptic Gregorian; years that begin in March make February the last month)."""
    year -= month <= 2
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return year // 400 * 146097 + year % 400 * 365 + year % 400 // 4 - year % 400 // 100 + day_of_year - 719468


def _civil(days: int) -> tuple[int, int, int]:
    """The date of a number of days since 1970-01-01."""
    days += 719468
    era, rest = divmod(days, 146097)
    year = (rest - rest // 1460 + rest // 36524 - rest // 146096) // 365
    day_of_year = rest - (365 * year + year // 4 - year // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + (3 if shifted < 10 else -9)
    return era * 400 + year + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1
