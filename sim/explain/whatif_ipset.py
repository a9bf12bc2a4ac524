"""``ipset add`` as a what-if edit."""

from __future__ import annotations

from ..errors import InputError
from ..model.world import World
from ..record import dataclass
from ..snapshot.ipset import with_element


@dataclass(frozen=True, slots=True)
class IpsetAdd:
    """``ipset add NAME ELEMENT``."""

    host: str
    name: str
    element: str
    kind = "ipset"

    def apply(self, world: World) -> World:
        host = world.hosts[self.host]
        known = host.sets.get(self.name)
        if known is None:
            raise InputError(f"{self.host} has no set {self.name!r}", remedy=f"sets: {', '.join(host.sets) or 'none'}")
        try:
            changed = with_element(known, self.element)
        except ValueError as error:
            raise InputError(f"ipset add {self.name} {self.element}: {error}") from None
        return world.with_host(host.with_(sets={**host.sets, self.name: changed}))

    def commands(self) -> list[str]:
        return [f"ipset add {self.name} {self.element}"]
