"""``expect.txt``: ``conntrack -L expect``, connections that a helper waits for.

297 proto=6 src=10.0.0.1 dst=10.0.0.2 sport=0 dport=2000 mask-src=255.255.255.255 mask-dst=… sport=0 dport=65535
    master-src=… master-dst=… sport=… dport=… class=0 helper=ftp
"""

from __future__ import annotations

from ..model.addr import parse_addr
from ..model.conntrack import IPS_NAT_MASK, ORIGINAL, Conn, Expectation
from ..model.where import Where
from ..record import replace
from .problems import Problems, excerpt
from .words import unsigned

FOLLOW_MASTER = ("ftp", "tftp", "irc", "amanda")  # whose NAT half calls nf_nat_follow_master()
REMEDY = "it is the output of: conntrack -L expect"


def read_expect(text: str, file: str, problems: Problems, conns: tuple[Conn, ...] = ()) -> tuple[Expectation, ...]:
    """The expectations; ``conns``: the entries of the same host, among which their masters are looked for."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith(("#", "conntrack v")):
            continue
        try:
            found.append(_expectation(line, Where(file, number), conns))
        except (ValueError, OSError, KeyError) as error:
            problems.error(f"{error}: {excerpt(line)}", file, number, REMEDY)
    return tuple(found)


def _parts(line: str) -> dict[str, dict[str, str]]:
    """Words by the tuple they belong to: each starts with its own src= word."""
    parts: dict[str, dict[str, str]] = {"tuple": {}, "mask": {}, "master": {}}
    current = parts["tuple"]
    for word in line.split():
        key, equals, value = word.partition("=")
        if not equals:
            continue
        for prefix in ("mask", "master"):
            if key == f"{prefix}-src":
                current = parts[prefix]
            key = key.removeprefix(f"{prefix}-")
        current[key] = value
    return parts


def _expectation(line: str, where: Where, conns: tuple[Conn, ...]) -> Expectation:
    parts = _parts(line)
    own, mask, master = parts["tuple"], parts["mask"], parts["master"]
    for key in ("proto", "src", "dst"):
        if key not in own:
            raise ValueError(f"lacks {key}=")
    family, src = parse_addr(own["src"])
    other, dst = parse_addr(own["dst"])
    if family != other:
        raise ValueError("addresses of different families")
    mask_src = parse_addr(mask["src"])[1] if "src" in mask else 1
    sport_mask = unsigned(mask.get("sport", "0"), "mask sport", 0xFFFF)
    first = line.split()[0]
    number = _master(master, conns)
    expected = Expectation(
        family=family,
        proto=unsigned(own["proto"], "proto", 255),
        src=src if mask_src else None,
        dst=dst,
        dport=unsigned(own.get("dport", "0"), "dport", 0xFFFF),
        sport=unsigned(own.get("sport", "0"), "sport", 0xFFFF) if sport_mask else None,
        master=number,
        zone=unsigned(master.get("zone", "0"), "zone", 0xFFFF),
        helper=master.get("helper"),
        permanent="PERMANENT" in line,
        timeout_at=float(unsigned(first, "timeout", 1 << 40)) if first.isdigit() else None,
        where=where,
    )
    return expected if number is None else _with_nat(expected, conns[number - 1])


def _with_nat(expected: Expectation, master: Conn) -> Expectation:
    """What nf_nat_ftp() and the like note in an expectation of a translated connection; no dump shows it."""
    if not master.status & IPS_NAT_MASK or expected.helper not in FOLLOW_MASTER:
        return expected
    for direction, t in enumerate(master.tuples):
        if t.dst == expected.dst and expected.src in (None, t.src):
            # The port that the announcement named: NAT keeps it unless another expectation has it.
            port: int = master.tuples[ORIGINAL].sport if expected.helper == "tftp" else expected.dport  # type: ignore[assignment]
            return replace(expected, direction=direction, saved_port=port, follow_master=True)
    return expected


def _master(master: dict[str, str], conns: tuple[Conn, ...]) -> int | None:
    """The number that the master gets in the table (entries are numbered from 1 in the order of the dump)."""
    if "src" not in master or "dst" not in master:
        return None
    wanted = (parse_addr(master["src"])[1], parse_addr(master["dst"])[1])
    ports = (master.get("sport"), master.get("dport"))
    for position, conn in enumerate(conns, 1):
        orig = conn.tuples[0]
        if (orig.src, orig.dst) == wanted and ports in ((None, None), (str(orig.sport), str(orig.dport))):
            return position
    return None
