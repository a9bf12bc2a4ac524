"""A connection table that is full: what fills it, and what makes room in it.

The kernel evicts an entry for a new one only where that entry is not ASSURED (early_drop()), so a table full of connections that
nobody uses any more stays full until their time is over. Who has most of the entries is what an administrator looks for first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..model.addr import AF_INET6, format_addr
from ..model.conntrack import IPS_ASSURED, Conn
from ..model.packet import PROTO_NAME, WITH_PORTS
from ..model.world import Host, World
from ..record import NamedTuple, dataclass
from .whatif import Edit, SetSysctl

if TYPE_CHECKING:
    from .candidates import Candidate, Scene

LIMIT = "net.netfilter.nf_conntrack_max"
WORTH = 0.05  # of the table: what holds less is not worth a command
OVER = frozenset(("TIME_WAIT", "CLOSE", "LAST_ACK", "CLOSE_WAIT", "FIN_WAIT"))  # TCP that has ended, or is about to
SHORTER = {"ESTABLISHED": ("tcp_timeout_established", 3600), "udp": ("udp_timeout_stream", 60)}


class Group(NamedTuple):
    """Entries that one command can name; a field that is None does not matter."""

    family: int
    proto: int | None = None
    src: int | None = None
    dst: int | None = None
    dport: Any = None
    state: str | None = None

    def has(self, conn: Conn) -> bool:
        orig = conn.tuples[0]
        return (
            orig.family == self.family
            and self.proto in (None, orig.proto)
            and self.src in (None, orig.src)
            and self.dst in (None, orig.dst)
            and self.dport in (None, orig.dport)
            and self.state in (None, _state(conn))
        )

    def options(self) -> str:
        """As ``conntrack -D`` takes it. Without an address, the tool would ask for entries of IPv4 and IPv6 alike."""
        words = []
        if self.family == AF_INET6 or (self.src is None and self.dst is None):
            words.append(f"-f {'ipv6' if self.family == AF_INET6 else 'ipv4'}")
        if self.proto is not None:
            words.append(f"-p {PROTO_NAME.get(self.proto, self.proto)}")
        words += [f"--state {self.state}"] if self.state else []
        words += [f"-s {format_addr(self.family, self.src)}"] if self.src is not None else []
        words += [f"-d {format_addr(self.family, self.dst)}"] if self.dst is not None else []
        words += [f"--dport {self.dport}"] if self.dport is not None else []
        return " ".join(words)

    def __str__(self) -> str:
        if self.state:
            return f"in state {self.state}"
        if self.src is not None:
            return f"of {format_addr(self.family, self.src)}"
        service = f":{self.dport}" if self.dport is not None else ""
        return f"to {format_addr(self.family, self.dst or 0)}{service}"


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    """``conntrack -D`` of all entries of a group."""

    host: str
    group: Group
    kind = "conntrack"

    def apply(self, world: World) -> World:
        host = world.hosts[self.host]
        kept = tuple(c for c in host.conns if not self.group.has(c))
        return world if len(kept) == len(host.conns) else world.with_host(host.with_(conns=kept))

    def commands(self) -> list[str]:
        return [f"conntrack -D {self.group.options()}"]

    def words(self, world: World) -> str:
        """What it deletes, of how many."""
        conns = world.hosts[self.host].conns
        hits = sum(1 for c in conns if self.group.has(c))
        return f"deletes {hits} of {len(conns)} entries; what is still alive among them starts anew"


def _state(conn: Conn) -> str | None:
    known = conn.proto_state
    return str(known[1]) if isinstance(known, tuple) and len(known) == 2 else None


def groups(conns: tuple[Conn, ...]) -> list[tuple[Group, int]]:
    """Groups worth a command, with their sizes: connections that have ended; the busiest source or the busiest service."""
    origs = [conn.tuples[0] for conn in conns]
    over = Counter((c.tuples[0].family, c.tuples[0].proto, _state(c)) for c in conns if c.proto_state is not None)
    sources = Counter((o.family, o.src) for o in origs)
    services = Counter((o.family, o.proto, o.dst, o.dport if o.proto in WITH_PORTS else None) for o in origs)
    ended = [(Group(f, proto, state=state), n) for (f, proto, state), n in over.most_common() if state in OVER]
    ends = [
        *((Group(f, src=src), n) for (f, src), n in sources.most_common(1)),
        *((Group(f, proto, dst=dst, dport=port), n) for (f, proto, dst, port), n in services.most_common(1)),
    ]
    found = [*ended[:1], *sorted(ends, key=lambda e: -e[1])[:1]]
    return [(group, count) for group, count in found if count >= max(2, WORTH * len(conns))]


def room(scene: Scene) -> Iterator[Candidate]:
    """More room, fewer entries, no entry for this flow; and shorter timeouts, which come too late for those that exist."""
    from .candidates import Candidate

    host = scene.host
    setting = host.sysctl.get(LIMIT)
    if setting is not None and not host.meta.get("netns"):  # elsewhere the file is read only
        yield Candidate((SetSysctl(host.name, LIMIT, str(2 * int(setting.value))),), known=True)
    found = groups(host.conns)
    for n, (group, _) in enumerate(found):
        yield Candidate((DeleteGroup(host.name, group),), unlikely=min(n, 1))
    yield Candidate(_untracked(scene), unlikely=2)
    kinds = Counter(_state(c) or PROTO_NAME.get(c.tuples[0].proto, "") for c in host.conns)
    for kind, _ in kinds.most_common(1):
        if kind in SHORTER:
            name, seconds = SHORTER[kind]
            edit = SetSysctl(host.name, f"net.netfilter.nf_conntrack_{name}", str(seconds))
            yield Candidate((edit,), known=True, guess="counts for entries made or refreshed from now on")


def _untracked(scene: Scene) -> tuple[Edit, ...]:
    """The flow and its answers without entries: enough where nothing has to be translated."""
    skb = scene.skb
    src, dst, proto = scene.addr(skb.src), scene.addr(skb.dst), PROTO_NAME.get(skb.proto, skb.proto)
    port = skb.dport if skb.proto in WITH_PORTS and isinstance(skb.dport, int) else None
    there, back = (f" --dport {port}", f" --sport {port}") if port is not None else ("", "")
    first = "OUTPUT" if scene.hop.in_dev is None else "PREROUTING"
    local = scene.skb.dst in {a.local for a in scene.host.addresses if a.family == scene.family}
    second = "OUTPUT" if local else "PREROUTING"
    return (
        scene.rule(f"-t raw -A {first} -s {src} -d {dst} -p {proto}{there} -j CT --notrack"),
        scene.rule(f"-t raw -A {second} -s {dst} -d {src} -p {proto}{back} -j CT --notrack"),
    )


def why_full(host: Host) -> str:
    """What fills the table, and what that means for new connections."""
    conns = host.conns
    setting = host.sysctl.get(LIMIT)
    place = f" ({setting.where})" if setting is not None and setting.where else ""
    value = setting.value if setting is not None else "?"
    text = f"{LIMIT}={value}{place}: a packet that opens a connection needs an entry, and {host.name} has no room for another"
    if conns:
        firm = sum(1 for c in conns if c.status & IPS_ASSURED)
        kept = "all of them" if firm == len(conns) else f"{firm} of {len(conns)}"
        text += f"; {kept} are ASSURED, which the kernel does not evict"
        text += "".join(f". {_held(group, count, conns)}" for group, count in groups(conns)[:1])
    if host.meta.get("netns"):
        text += ". The limit is set in the machine's initial namespace and holds for each namespace"
    return text


def _held(group: Group, count: int, conns: tuple[Conn, ...]) -> str:
    longest = max((c.timeout_at or 0) for c in conns if group.has(c))
    return f"{count} are {group}, for up to {_long(longest)} yet"


def _long(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{round(seconds / size)} {name}"
    return f"{round(seconds)} s"
