"""Who reaches whom: every host to every other host's addresses, for some services."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .model.addr import AF_INET, format_addr, is_loopback
from .model.packet import PROTO_NUMBER

if TYPE_CHECKING:
    from .notebook import Snapshot

COLUMNS = ("from", "to", "address", "interface", "service", "outcome", "code", "works")


def reach(snapshot: Snapshot, services: Iterable[str]) -> Iterator[dict[str, Any]]:
    """One row for each (host, address of another host, service). Raises InputError for a service that is none."""
    world = snapshot._world
    wanted = [(s, *_service(s)) for s in services]
    for source in world.hosts.values():
        for target in world.hosts.values():
            if target.name == source.name:
                continue
            for address in target.addresses:
                if address.family != AF_INET or is_loopback(address.family, address.local):
                    continue
                to = format_addr(address.family, address.local)
                for name, proto, port in wanted:
                    flow = f"{proto} {to}{'' if port is None else f':{port}'} at {source.name}"
                    result = snapshot.why(flow, fixes=False)
                    yield {
                        "from": source.name, "to": target.name, "address": to, "interface": address.dev, "service": name,
                        "outcome": result.outcome, "code": result.code, "works": result.works,
                    }  # fmt: skip


def _service(text: str) -> tuple[str, int | None]:
    """``icmp``, ``tcp/22``, ``udp/53`` to protocol and port."""
    proto, slash, port = text.partition("/")
    ok = proto in PROTO_NUMBER and (not slash or (port.isascii() and port.isdigit() and int(port) < 65536))
    if not ok or (proto in ("tcp", "udp") and not slash):
        raise InputError(f"no service {text!r}", remedy="write icmp, tcp/22, udp/53")
    return proto, int(port) if slash else None
