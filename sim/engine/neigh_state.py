"""What a host's neighbour table says about an address, from the snapshot and from what was learned since."""

from __future__ import annotations

from ..model.route import Neighbour
from ..model.world import Host
from .fib_table import IdentityCache
from .run import Ctx

# NUD_VALID, include/net/neighbour.h
VALID = frozenset(("PERMANENT", "NOARP", "REACHABLE", "PROBE", "STALE", "DELAY"))

_cache = IdentityCache()


def entry(host: Host, family: int, dev: str, addr: int) -> Neighbour | None:
    """The neighbour entry of the snapshot, proxy entries aside."""
    table: dict[tuple[int, str, int], Neighbour] = _cache.get(
        (host.neighbours,),
        lambda: {(n.family, n.dev, n.addr): n for n in host.neighbours if not n.proxy},
    )
    return table.get((family, dev, addr))


def neighbour_state(ctx: Ctx, family: int, dev: str, addr: int) -> str | None:
    """NUD state by name; None: no entry."""
    learned = ctx.hs.neigh.get((dev, addr))
    if learned is not None:
        return "REACHABLE" if learned == "ok" else "FAILED"
    found = entry(ctx.host, family, dev, addr)
    return found.state if found is not None else None


def state_is_valid(state: str) -> bool:
    return any(part in VALID for part in state.upper().replace(",", " ").split())
