"""Registries: one match or target = one module in ``sim/matches`` or ``sim/targets`` + one test.

A module is imported when a rule set first names it, never at start. It registers its class with ``@match`` or
``@target`` and says which options it takes; the parser lexes them, hands the found ones to ``parse``.

    @match("owner", doc="-m owner --uid-owner 1000", hooks=(NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING))
    @dataclass(frozen=True, slots=True)
    class Owner(Match):
        options = (Opt("--uid-owner", negatable=True), Opt("--gid-owner", negatable=True), …)
        uid: tuple[int, int] | None = None
        …
        @classmethod
        def parse(cls, found: Found, at: At) -> Owner: …
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ..errors import RuleError
from ..model.addr import AF_INET
from ..model.rule import Match, Target
from ..model.where import Where
from ..record import NamedTuple, dataclass, field


class Opt(NamedTuple):
    """One option. ``args``: how many words follow (0 = flag; -1 = one word that may be missing).

    ``negatable``: ``!`` may stand before it. ``aliases``: other spellings, read but never printed.
    """

    name: str
    args: int = 1
    negatable: bool = False
    aliases: tuple[str, ...] = ()


class Got(NamedTuple):
    """An option as found: canonical name, whether ``!`` stood before it, its words."""

    name: str
    negated: bool
    args: tuple[str, ...]


Found = tuple[Got, ...]


@dataclass(frozen=True, slots=True)
class At:
    """What a ``parse`` may look at: where the rule stands. ``proto``: of -p (number; 0 = any), ``proto_negated``."""

    family: int = AF_INET
    table: str = "filter"
    chain: str = ""
    proto: int = 0
    proto_negated: bool = False
    where: Where | None = None
    users: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)

    def error(self, message: str, remedy: str | None = None) -> RuleError:
        return RuleError(message, self.where, remedy)


class Info(NamedTuple):
    """A registered class. ``hooks``/``tables``: where the kernel accepts it (None: anywhere). ``doc``: an example."""

    cls: Any
    name: str
    families: tuple[int, ...]
    hooks: tuple[int, ...] | None
    tables: tuple[str, ...] | None
    doc: str
    options: Mapping[str, Opt]


_matches: dict[str, Info] = {}
_targets: dict[str, Info] = {}

# Which module defines a name where that is not simply the name in lower case.
MATCH_MODULE: dict[str, str] = {
    "icmp6": "icmp", "icmpv6": "icmp", "ipv6-icmp": "icmp", "hl": "ttl", "2": "", "set": "set_",
    **dict.fromkeys(("ipv6header", "frag", "hbh", "dst", "rt", "mh", "srh", "eui64"), "ipv6ext"),
}  # fmt: skip
TARGET_MODULE: dict[str, str] = {
    "ACCEPT": "standard", "DROP": "standard", "RETURN": "standard", "QUEUE": "nfqueue", "NOTRACK": "ct", "HL": "ttl",
    "SET": "set_", "DNPT": "npt", "SNPT": "npt",
}  # fmt: skip

T = TypeVar("T")


def _info(cls: Any, name: str, kind: Any) -> Info:
    families, hooks, tables, doc = kind
    options: dict[str, Opt] = {}
    for opt in getattr(cls, "options", ()):
        for spelling in (opt.name, *opt.aliases):
            options[spelling] = opt
    return Info(cls, name, families, hooks, tables, doc, options)


def match(name: str, *, families: tuple[int, ...] = (2, 10), hooks: tuple[int, ...] | None = None,
          tables: tuple[str, ...] | None = None, doc: str = "") -> Callable[[type[T]], type[T]]:  # fmt: skip
    """Register a match class under the name that ``-m`` uses. A second registration is an error at import."""

    def register(cls: type[T]) -> type[T]:
        if name in _matches:
            raise RuntimeError(f"match {name!r} is registered twice")
        if not cls.__dict__.get("name"):
            cls.name = name  # type: ignore[attr-defined]
        _matches[name] = _info(cls, name, (families, hooks, tables, doc))
        return cls

    return register


def target(name: str, *, families: tuple[int, ...] = (2, 10), hooks: tuple[int, ...] | None = None,
           tables: tuple[str, ...] | None = None, doc: str = "") -> Callable[[type[T]], type[T]]:  # fmt: skip
    """Register a target class under the name that ``-j`` uses."""

    def register(cls: type[T]) -> type[T]:
        if name in _targets:
            raise RuntimeError(f"target {name!r} is registered twice")
        if not cls.__dict__.get("name"):
            cls.name = name  # type: ignore[attr-defined]
        _targets[name] = _info(cls, name, (families, hooks, tables, doc))
        return cls

    return register


def _load(package: str, module: str, name: str, registry: dict[str, Info]) -> Info | None:
    if not module.isidentifier():
        return None
    full = f"nattrace.sim.{package}.{module}"
    try:
        importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name != full:
            raise
    return registry.get(name)


def find_match(name: str) -> Info | None:
    """The match called ``name`` in ``-m name``, or None when nattrace does not know it."""
    return _matches.get(name) or _load("matches", MATCH_MODULE.get(name, name), name, _matches)


def find_target(name: str) -> Info | None:
    """The target called ``name`` in ``-j NAME``, or None when nattrace does not know it."""
    return _targets.get(name) or _load("targets", TARGET_MODULE.get(name, name.lower()), name, _targets)


def match_names() -> list[str]:
    """Every match nattrace knows (imports them all: for docs and conformance tests only)."""
    return _all("matches", _matches)


def target_names() -> list[str]:
    """Every target nattrace knows."""
    return _all("targets", _targets)


def _all(package: str, registry: dict[str, Info]) -> list[str]:
    import pkgutil

    found = importlib.import_module(f"nattrace.sim.{package}")
    for module in pkgutil.iter_modules(found.__path__):
        importlib.import_module(f"{found.__name__}.{module.name}")
    return sorted(registry)


__all__ = [
    "At", "Found", "Got", "Info", "Match", "Opt", "Target", "find_match", "find_target", "match", "match_names",
    "target", "target_names",
]  # fmt: skip
