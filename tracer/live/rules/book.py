"""Every rule of a namespace as the kernel has it now: its handle, its number, its text, and its line in the snapshot.

iptables-nft writes one nft rule for each of its own, in the same order, so the n-th rule of a chain in the kernel's
list is the n-th ``-A`` line of that chain in ``iptables-save``. Native tables are listed by ``nft -a``.

    book = RuleBook.read(netns, host=world.hosts["router"])
    book.by_handle("ip", "nat", "POSTROUTING", 7)
    KnownRule(backend='iptables', family='ip', table='nat', chain='POSTROUTING', number=1, handle=7,
              text='-s 10.0.0.0/8 -j MASQUERADE', target='MASQUERADE', where=Where('iptables-save.txt', 17))
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ....sim.errors import RuleError
from ....sim.model.addr import FAMILY_NAME
from ....sim.model.result import Step
from ....sim.model.rule import HOOK_NAME
from ....sim.model.where import Where
from ....sim.snapshot.nft import OBSERVER
from ...capture.dump import legacy_tables, legacy_tables6, nft_save
from ..nfnl.listing import NftChain, NftRule, base_chains, generation, rules
from ..nfnl.sock import InNetns, Nfnl, entered

if TYPE_CHECKING:
    from ....sim.model.world import Host

TRIES = 5
LEGACY_NEEDS = "reading them needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_DAC_READ_SEARCH"
IPTABLES_TABLES = frozenset(("filter", "nat", "mangle", "raw", "security"))
_LINE = re.compile(r"(?:\[(\d+):(\d+)\] )?-A (\S+) ?(.*)")
_POLICY = re.compile(r":(\S+) (\S+) \[(\d+):(\d+)\]")
_TABLE = re.compile(r"^\*(\S+)", re.M)
_TARGET = re.compile(r"(?:^| )-[jg] (\S+)")
_NFT_TABLE = re.compile(r"table (\S+) (\S+) \{")
_NFT_CHAIN = re.compile(r"\tchain (\S+) \{")
_NFT_RULE = re.compile(r"\t\t(.*) # handle (\d+)$")
_NFT_COUNTER = re.compile(r"\bcounter packets (\d+) bytes (\d+)")


class Place(NamedTuple):
    """A rule as iptables users name it. ``number`` 0: the policy of the chain. ``backend``: iptables, legacy, nft."""

    backend: str
    family: str
    table: str
    chain: str
    number: int


class KnownRule(NamedTuple):
    """``where``: file and line of the snapshot, None without one or where it does not have this very rule."""

    backend: str
    family: str
    table: str
    chain: str
    number: int
    handle: int | None
    text: str
    target: str | None = None
    where: Where | None = None
    packets: int | None = None  # counters as they were when the book was read
    bytes: int | None = None
    jumps: bool = False  # the target is a chain
    changed: bool = False  # the snapshot has another rule at this place
    named: str | None = None  # the backend as the snapshot has it: a single dump of legacy rules says "iptables"

    @property
    def place(self) -> Place:
        return Place(self.backend, self.family, self.table, self.chain, self.number)

    def step(self, hook: int | None, verdict: str | None, note: str | None = None) -> Step:
        """This rule as a step of the packet, in the simulator's own form."""
        hook_name = None if hook is None else HOOK_NAME[hook]
        if self.changed:
            changed = "the snapshot has another rule at this place"
            note = f"{note}; {changed}" if note else changed
        stage = self.table if self.backend != "nft" else "nft"
        return Step(
            hook_name, stage, table=self.table, family=self.family, chain=self.chain, rule=self.number or None,
            handle=self.handle, text=self.text, where=self.where, matched=True, verdict=verdict, note=note,
            backend=self.named or self.backend, target=self.target,
        )  # fmt: skip


class RuleBook:
    """All rules of a namespace at one generation of its rule set, without those of a nattrace that is tracing.

    ``unread``: what there may be besides, and why it could not be read.
    """

    def __init__(
        self, known: Iterable[KnownRule], chains: Iterable[NftChain], generation_id: int, unread: Sequence[str] = ()
    ) -> None:
        self.unread = tuple(unread)
        self.rules = {rule.place: rule for rule in known}
        self.chains = {(c.family, c.table, c.name): c for c in chains}
        self.generation = generation_id
        self._handles = {
            (r.family, r.table, r.chain, r.handle): r for r in self.rules.values() if r.handle is not None
        }  # fmt: skip

    @classmethod
    def read(cls, netns: InNetns | None = None, host: Host | None = None) -> RuleBook:
        """List everything, again when it changed meanwhile. ``host``: whose snapshot the lines are looked up in."""
        with Nfnl(netns) as sock:
            for _ in range(TRIES):
                before = generation(sock)
                chains = [chain for chain in base_chains(sock=sock) if not OBSERVER.fullmatch(chain.table)]
                listed = [rule for rule in rules(sock=sock) if not OBSERVER.fullmatch(rule.table)]
                unread: list[str] = []
                with entered(netns):
                    texts = _texts(listed, unread)
                if generation(sock) == before:
                    break
        known = [*_from_nft(listed, texts), *_from_legacy(texts)]
        return cls(_with_lines(known, host), chains, before, unread)

    def by_handle(self, family: str, table: str, chain: str, handle: int) -> KnownRule | None:
        """The rule of an nf_tables message."""
        return self._handles.get((family, table, chain, handle))

    def by_number(self, backend: str, family: str, table: str, chain: str, number: int) -> KnownRule | None:
        """The rule of an iptables message; number 0: the policy."""
        return self.rules.get(Place(backend, family, table, chain, number))

    def chain(self, family: str, table: str, name: str) -> NftChain | None:
        """A base chain of nf_tables."""
        return self.chains.get((family, table, name))


def _texts(listed: list[NftRule], unread: list[str]) -> dict[str, str]:
    """What the tools print, asked only where it can be without loading or registering anything.

    nft is asked for the tables that iptables-save does not print: it takes seconds for a large one of iptables.
    """
    tables = dict.fromkeys((rule.family, rule.table) for rule in listed)
    words = {}
    for family, tool in (("ip", "iptables"), ("ip6", "ip6tables")):
        if any((family, table) in tables for table in IPTABLES_TABLES):
            words[f"{tool}-nft"] = [nft_save(tool), "-c"]
    for tool, there, names in (("iptables", legacy_tables, "ip"), ("ip6tables", legacy_tables6, "ip6")):
        path = f"/proc/thread-self/net/{names}_tables_names"
        if there():
            words[f"{tool}-legacy"] = [f"{tool}-legacy-save", "-c"]
        elif os.path.exists(path) and not os.access(path, os.R_OK, effective_ids=True):
            unread.append(f"rules of {tool}-legacy: {LEGACY_NEEDS}")
    texts = {name: _printed(command, unread) for name, command in words.items()}
    saved = {
        (family, name)
        for family, tool in (("ip", "iptables-nft"), ("ip6", "ip6tables-nft"))
        for name in _TABLE.findall(texts.get(tool, ""))
    }
    native = [table for table in tables if table not in saved]
    texts["nft"] = "".join(_printed(["nft", "-a", "list", "table", *table], unread) for table in native)
    return texts


def _printed(command: list[str], unread: list[str]) -> str:
    if shutil.which(command[0]) is None:
        unread.append(f"{command[0]} is not installed")
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        words = done.stderr.strip().splitlines()
        why = words[-1] if words else f"status {done.returncode}"
        unread.append(f"{command[0]}: {LEGACY_NEEDS if 'must be root' in why else why}")
    return done.stdout


def _from_nft(listed: list[NftRule], texts: Mapping[str, str]) -> Iterable[KnownRule]:
    saved: dict[tuple[str, str], list[KnownRule]] = {}
    for family, tool in (("ip", "iptables-nft"), ("ip6", "ip6tables-nft")):
        for rule in read_save(texts.get(tool, ""), "iptables", family):
            if rule.number:
                saved.setdefault((family, rule.table), []).append(rule)
            else:
                yield rule
    by_place = {rule.place: rule for rules_of in saved.values() for rule in rules_of}
    printed = read_nft(texts.get("nft", ""))
    for nft in listed:
        line = by_place.get(Place("iptables", nft.family, nft.table, nft.chain, nft.number))
        if line is not None:
            yield line._replace(handle=nft.handle)
            continue
        text, counters = printed.get((nft.family, nft.table, nft.chain, nft.handle), ("", None))
        packets, size = counters or (None, None)
        yield KnownRule(
            "nft", nft.family, nft.table, nft.chain, nft.number, nft.handle, text, None, None, packets, size
        )


def _from_legacy(texts: Mapping[str, str]) -> Iterable[KnownRule]:
    yield from read_save(texts.get("iptables-legacy", ""), "legacy", "ip")
    yield from read_save(texts.get("ip6tables-legacy", ""), "legacy", "ip6")


def read_save(text: str, backend: str, family: str) -> Iterable[KnownRule]:
    """The rules and policies of ``iptables-save -c``."""
    table, counts, chains = "", dict[str, int](), set[str]()
    for line in text.splitlines():
        if line.startswith("*"):
            table, counts, chains = line[1:].strip(), {}, set()
        elif found := _POLICY.match(line):
            name, policy, packets, size = found.groups()
            chains.add(name)
            if policy != "-":
                numbers = int(packets), int(size)
                yield KnownRule(backend, family, table, name, 0, None, f"policy {policy}", None, None, *numbers)
        elif found := _LINE.match(line):
            packets, size, chain, words = found.groups()
            counts[chain] = counts.get(chain, 0) + 1
            found = _TARGET.search(words)
            target = found[1] if found else None
            yield KnownRule(
                backend, family, table, chain, counts[chain], None, words, target, None,
                int(packets) if packets else None, int(size) if size else None, target in chains,
            )  # fmt: skip


def read_nft(text: str) -> dict[tuple[str, str, str, int], tuple[str, tuple[int, int] | None]]:
    """``nft -a list ruleset``: (family, table, chain, handle) → text without its counter, counter."""
    found: dict[tuple[str, str, str, int], tuple[str, tuple[int, int] | None]] = {}
    family = table = chain = ""
    for line in text.splitlines():
        if at := _NFT_TABLE.match(line):
            family, table, chain = at[1], at[2], ""
        elif at := _NFT_CHAIN.match(line):
            chain = at[1]
        elif chain and (at := _NFT_RULE.match(line)):
            numbers = _NFT_COUNTER.search(at[1])
            counters = (int(numbers[1]), int(numbers[2])) if numbers else None
            found[family, table, chain, int(at[2])] = (_NFT_COUNTER.sub("counter", at[1]), counters)
    return found


def _with_lines(known: Iterable[KnownRule], host: Host | None) -> Iterable[KnownRule]:
    """Each rule with the snapshot's file and line, where the snapshot has the same text at the same place."""
    if host is None:
        yield from known
        return
    tables: dict[tuple[str, str, str], Any] = {}
    for table in host.tables:
        tables[table.backend, FAMILY_NAME.get(table.family, ""), table.name] = table
    for rule in known:
        theirs = tables.get((rule.backend, rule.family, rule.table))
        if theirs is None and rule.backend == "legacy":
            theirs = tables.get(("iptables", rule.family, rule.table))
        yield rule if theirs is None else _looked_up(rule, theirs)


def _looked_up(rule: KnownRule, table: Any) -> KnownRule:
    chain = table.chains.get(rule.chain)
    rule = rule._replace(named=table.backend)
    if chain is None:
        return rule._replace(changed=True)
    if rule.number == 0:
        return rule._replace(where=chain.where)
    try:
        theirs = chain.rule(rule.number)
    except (IndexError, RuleError):
        return rule._replace(changed=True)
    if _plain(theirs.text) == _plain(rule.text):
        return rule._replace(where=theirs.where)
    return rule._replace(changed=True)


def _plain(words: str) -> str:
    return " ".join(words.split())
