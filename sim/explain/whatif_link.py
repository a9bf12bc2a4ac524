"""``ip link set`` as a what-if edit: a bridge's port that sends frames back where they came from."""

from __future__ import annotations

from ..model.world import World
from ..record import dataclass, replace
from .whatif import host_of


@dataclass(frozen=True, slots=True)
class HairpinEdit:
    """``ip link set PORT type bridge_slave hairpin on``."""

    host: str
    port: str
    kind = "link"

    def apply(self, world: World) -> World:
        host = host_of(world, self.host)
        port = replace(host.links[self.port], hairpin=True)
        return world.with_host(host.with_(links={**host.links, self.port: port}))

    def commands(self) -> list[str]:
        return [f"ip link set {self.port} type bridge_slave hairpin on"]
