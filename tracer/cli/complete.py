"""What the shell offers behind an option or in a FLOW: snapshots, hosts, interfaces, codes. Cheap things only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    import click
    from nattrace.sim.model.world import World

Items = list[CompletionItem]
NEXT_WORDS = ("in", "at", "uid", "mark")


def _beginning(names: Iterable[str], incomplete: str) -> Items:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Whatever the shell finds."""
    return [CompletionItem(incomplete, type="file")]


def snapshots(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Bundled names; where none fits, files."""
    from nattrace.sim.snapshot.load import bundled_names

    return [CompletionItem(incomplete, type="file"), *_beginning(bundled_names(), incomplete)]


def codes(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Reason and diagnosis codes with their titles."""
    from nattrace.sim.explain.reasons import codes as known

    return [CompletionItem(c.code, help=c.title) for c in known() if c.code.startswith(incomplete)]


def schemas(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Names of outputs."""
    from nattrace.sim.render.schema import SCHEMAS

    return _beginning(SCHEMAS, incomplete)


def tours(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Names of the five situations."""
    from nattrace.sim.tour import TOURS

    return _beginning((t.name for t in TOURS), incomplete)


def labs(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Labs of this machine."""
    from ..lab.build import labs as known

    return _beginning((str(lab["prefix"]) for lab in known()), incomplete)


def hosts(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Hosts of the snapshot that was named."""
    world = _world(ctx)
    return _beginning(world.hosts if world else (), incomplete)


def interfaces(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Interfaces of the named snapshot, or of this machine."""
    return _beginning(_interfaces(_world(ctx)), incomplete)


def flow(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """The word behind ``at``, ``in`` or ``uid``, whether the flow is one quoted word or several."""
    head, blank, last = incomplete.rpartition(" ")
    before = f"{' '.join(ctx.params.get('flow') or ())} {head}".split()
    if not before:
        return []
    world = _world(ctx)
    if before[-1] == "at":
        names: Iterable[str] = world.hosts if world else ()
    elif before[-1] == "in":
        names = _interfaces(world)
    elif before[-1] == "uid":
        names = dict.fromkeys(name for host in (world.hosts.values() if world else ()) for name in host.users or ())
    else:
        names = NEXT_WORDS if last else ()
    return [CompletionItem(f"{head}{blank}{name}") for name in names if name.startswith(last)]


def _world(ctx: click.Context) -> World | None:
    """The snapshot that the line names so far; None where there is none, or it cannot be read."""
    from nattrace.sim.errors import NattraceError
    from nattrace.sim.snapshot.load import load_world

    name: Any = ctx.params.get("snapshot") or ctx.params.get("name")
    if not name:
        return None
    try:
        return load_world(name)
    except (NattraceError, OSError):
        return None


def _interfaces(world: World | None) -> list[str]:
    if world is None:
        here = Path("/sys/class/net")
        return sorted(p.name for p in here.iterdir()) if here.is_dir() else []
    return list(dict.fromkeys(dev for host in world.hosts.values() for dev in host.links))
