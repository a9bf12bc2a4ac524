"""``ip addr add`` as a what-if edit: the address and the local route that comes with it."""

from __future__ import annotations

from ..model.addr import BITS, Prefix, parse_addr
from ..model.route import RT_SCOPE_HOST, RT_TABLE_LOCAL, Address, Nexthop, Route
from ..model.where import Where
from ..model.world import World
from ..record import dataclass
from .whatif_ip import add_route

WHERE = Where("what-if")


@dataclass(frozen=True, slots=True)
class AddressEdit:
    """``ip addr add SPEC dev DEV``."""

    host: str
    spec: str
    dev: str
    kind = "address"

    def apply(self, world: World) -> World:
        host = world.hosts[self.host]
        text, _, plen = self.spec.partition("/")
        family, addr = parse_addr(text)
        length = int(plen or BITS[family])
        second = any(
            a.dev == self.dev and a.family == family and addr in a.network and a.plen == length for a in host.addresses
        )
        address = Address(family, self.dev, addr, length, secondary=second, where=WHERE)
        host = host.with_(addresses=(*host.addresses, address))
        local = Route(Prefix(family, addr, BITS[family]), RT_TABLE_LOCAL, "local", (Nexthop(self.dev),), scope=RT_SCOPE_HOST,
                      prefsrc=addr, protocol="kernel", text=f"local {text} dev {self.dev}", where=WHERE)  # fmt: skip
        return world.with_host(add_route(host, local))

    def commands(self) -> list[str]:
        return [f"ip addr add {self.spec} dev {self.dev}"]
