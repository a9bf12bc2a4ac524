"""Connection entries that keep a translation which the rules would not choose any more, and what deleting them hits.

Only the first packet of a connection consults the nat table. An entry that a steady sender keeps alive (UDP, mostly) goes on
translating as the rules were when it was made: to a DNAT target that is gone, or with the address of an uplink that is not
used any more. Whether an entry is stale is found out by playing the same packet without it.
"""

from __future__ import annotations

from typing import Any

from ..model.addr import format_addr
from ..model.conntrack import Conn
from ..model.packet import PROTO_NAME, WITH_PORTS
from ..model.result import Leaf
from ..model.where import Where
from ..model.world import World
from ..record import NamedTuple, dataclass
from .parts import Diagnosis
from .passes import passes_of
from .spots import end_of
from .trial import Trial, attempt
from .whatif import ConntrackDelete, Edit


class Stale(NamedTuple):
    """An entry with its old and new translation, and the entries of the host that keep the same old one.

    ``hits``: other entries that the exact command would delete; ``wider``: a command for all that share the translation.
    """

    host: str
    conn: Conn
    old: str
    new: str
    edit: ConntrackDelete
    hits: int
    wider: str
    wider_hits: int
    trial: Trial  # without the entry

    def to_json(self) -> dict[str, Any]:
        return {
            "host": self.host, "entry": str(self.conn.where), "old": self.old, "new": self.new,
            "command": self.edit.commands()[0], "other_entries_hit": self.hits,
            "wider_command": self.wider, "wider_hits": self.wider_hits,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class DeleteAlike:
    """``conntrack -D`` of all entries of a service that are answered by the same end as ``model``."""

    host: str
    model: Conn
    kind = "conntrack"

    def apply(self, world: World) -> World:
        host = world.hosts[self.host]
        return world.with_host(host.with_(conns=tuple(c for c in host.conns if not _alike(c, self.model))))

    def commands(self) -> list[str]:
        return [wider_command(self.model)]


def stale_entries(trial: Trial) -> list[Stale]:
    """Entries of the snapshot that decide about the flow otherwise than the rules would now."""
    found = []
    for one in passes_of(trial.world, trial.leaf):
        if one.conn_where is None:
            continue
        conn, host = one.conn, trial.world.hosts[one.hop.host]
        edit = ConntrackDelete(host.name, conn.tuples[0], *conn.zones)
        fresh = attempt(edit.apply(trial.world), trial.question)
        now = _translation(trial.leaf, host.name)
        then = [_translation(leaf, host.name) for leaf in fresh.forward.leaves]
        if now not in then and fresh.leaf.outcome not in ("dropped", "rejected", "unreachable"):
            alike = sum(1 for c in host.conns if _alike(c, conn))
            hits = edit.hits(trial.world) - 1
            found.append(Stale(host.name, conn, now, then[0], edit, hits, wider_command(conn), alike, fresh))
    return found


def _translation(leaf: Leaf, host: str) -> str:
    """What a host makes of the packet: the ends, and the interface it leaves by. Source ports may be drawn anew: left out."""
    hop = next((h for h in leaf.hops if h.host == host), None)
    if hop is None:
        return ""
    packet = end_of(hop)
    port = f":{packet['dport']}" if isinstance(packet.get("dport"), int) else ""
    out = f" by {hop.out_dev}" if hop.out_dev else ""
    ended = hop is leaf.hops[-1] and leaf.outcome not in ("left", "delivered")
    return f"{packet.get('src')} → {packet.get('dst')}{port}{out}{f' ({leaf.outcome})' if ended else ''}"


def _alike(conn: Conn, model: Conn) -> bool:
    """Same service, same answering end: what the wider command selects."""
    (orig, reply), (other, answer) = conn.tuples, model.tuples
    same = (orig.proto, orig.dst, orig.dport, reply.src) == (other.proto, other.dst, other.dport, answer.src)
    return same and (answer.dst == other.src or reply.dst == answer.dst)


def wider_command(conn: Conn) -> str:
    """One command for all entries with this old translation."""
    orig, reply = conn.tuples
    words = f"conntrack -D -p {PROTO_NAME.get(orig.proto, orig.proto)} -d {format_addr(orig.family, orig.dst)}"
    if orig.proto in WITH_PORTS:
        words += f" --dport {orig.dport}"
    words += f" --reply-src {format_addr(reply.family, reply.src)}"
    if reply.dst != orig.src:
        words += f" --reply-dst {format_addr(reply.family, reply.dst)}"
    return words


def stale_remark(one: Stale, named: bool = False) -> Diagnosis:
    """A word about a stale entry, for flows that get through with it as well as for those that do not.

    ``named``: the diagnosis has said it already; what is left are the other entries in its case.
    """
    return Diagnosis("stale_entry", _others(one) if named else f"{_text(one)}{_others(one, '; ')}", _where(one))


def stale_fixes(one: Stale) -> list[tuple[Edit, str]]:
    """Deleting the entry, and where others are in its case, deleting all of them: each with what it does."""
    found: list[tuple[Edit, str]] = [(one.edit, f"the rules decide again: goes as {one.new}{hit_words(one.hits)}")]
    if one.wider_hits > 1:
        wide = DeleteAlike(one.host, one.conn)
        found.append((wide, f"the same for all {one.wider_hits} entries with the old translation"))
    return found


def _text(one: Stale) -> str:
    return (
        f"the connection is in the conntrack table of {one.host} already ({one.conn.where}): it goes on as {one.old}; a new "
        f"one would go as {one.new}"
    )


def hit_words(others: int) -> str:
    """What else a ``conntrack -D`` deletes."""
    if not others:
        return ", and hits no other entry"
    return f", and hits {others} other {'entry' if others == 1 else 'entries'}"


def _others(one: Stale, joint: str = "") -> str:
    more = one.wider_hits - 1
    if more < 1:
        return ""
    return f"{joint}{more} other {'entry keeps' if more == 1 else 'entries keep'} the old translation on {one.host}"


def _where(one: Stale) -> tuple[Where, ...]:
    return (one.conn.where,) if one.conn.where is not None else ()


__all__ = ["Stale", "hit_words", "stale_entries", "stale_fixes", "stale_remark", "wider_command"]
