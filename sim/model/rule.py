"""One rule model for every front end: criteria → verdict and effects, with provenance.

An iptables line becomes a :class:`Rule`; an nft rule will become the same. The engine knows only this.
A criterion is a :class:`Match`, an action a :class:`Target`; both are frozen data with behaviour, one small module
each in ``sim/matches`` and ``sim/targets``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from ..record import NamedTuple, dataclass
from .where import Where

if TYPE_CHECKING:
    from ..engine.run import Ctx
    from .packet import Skb

# Hooks, include/uapi/linux/netfilter.h
NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN, NF_INET_FORWARD, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING = range(5)
HOOK_NAME = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
HOOK_NUMBER = {name: number for number, name in enumerate(HOOK_NAME)}

# Verdicts of a base chain (what a hook function returns)
ACCEPT, DROP, STOLEN, QUEUE, RETURN, CONTINUE = "ACCEPT", "DROP", "STOLEN", "QUEUE", "RETURN", "CONTINUE"


class HotDrop(Exception):
    """A match found the packet malformed: xt_action_param.hotdrop, the packet is dropped, no counter moves."""


class Miss(NamedTuple):
    """Why a criterion failed: as the user wrote it, what it wanted, what the packet had."""

    criterion: str
    wanted: str
    actual: str

    def __str__(self) -> str:
        return f"{self.criterion}, but {self.actual}"


class Match:
    """One criterion. Subclasses are frozen slotted dataclasses registered with ``@match(name)``.

    ``tracks``: a rule with it switches connection tracking on (semantics 1.6).
    """

    __slots__ = ()
    name: ClassVar[str] = ""
    tracks: ClassVar[bool] = False

    def test(self, skb: Skb, ctx: Ctx) -> bool:
        """Whether the packet meets the criterion. What cannot be decided goes through ``ctx.unknown``."""
        raise NotImplementedError

    def miss(self, skb: Skb, ctx: Ctx) -> Miss:
        """Why ``test`` has just said no (never consumes state)."""
        raise NotImplementedError

    def words(self) -> list[str]:
        """The options as iptables-save prints them, without the ``-m name`` before them."""
        raise NotImplementedError


class Verdict(NamedTuple):
    """What a target decides. ``code``: ACCEPT, DROP, RETURN, CONTINUE, STOLEN, QUEUE, "JUMP" or "GOTO"."""

    code: str
    chain: str | None = None  # of a jump or goto
    reason: str | None = None  # reason code where DROP/STOLEN/QUEUE is not simply "dropped_by_rule"
    text: str | None = None


V_ACCEPT, V_DROP, V_RETURN, V_CONTINUE = Verdict(ACCEPT), Verdict(DROP), Verdict(RETURN), Verdict(CONTINUE)


class Target:
    """An action. ``apply`` may change the packet and the state, and returns a Verdict."""

    __slots__ = ()
    name: ClassVar[str] = ""
    tracks: ClassVar[bool] = False
    terminal: ClassVar[bool] = False  # whether it can end the traversal of the chain

    def apply(self, skb: Skb, ctx: Ctx) -> Verdict:
        raise NotImplementedError

    def words(self) -> list[str]:
        """The options as iptables-save prints them, without the ``-j NAME`` before them."""
        raise NotImplementedError


class RuleId(NamedTuple):
    """Identity of a rule's state and counters within a host."""

    backend: str  # "iptables" (nft backend or unsaid), "legacy", "nft"
    family: int
    table: str
    chain: str
    index: int  # type: ignore[assignment]  # from 1; shadows tuple.index, which nobody asks a RuleId for


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """``matches`` in evaluation order; ``target`` None = no -j, the rule only counts."""

    rule_id: RuleId
    matches: tuple[Match, ...]
    target: Target | None
    text: str  # as written, from the first criterion on
    where: Where | None = None
    handle: int | None = None
    counters: tuple[int, int] | None = None
    comment: str | None = None


class Chain(Protocol):
    """A list of rules, possibly parsed only when reached and indexed by what decides."""

    @property
    def name(self) -> str: ...
    @property
    def policy(self) -> str | None:
        """ACCEPT or DROP of a base chain; None for a user chain."""
        ...

    @property
    def where(self) -> Where | None: ...
    @property
    def policy_counters(self) -> tuple[int, int] | None: ...

    def __len__(self) -> int: ...

    def rule(self, index: int) -> Rule:
        """The rule at 1-based ``index`` (parsed on demand)."""
        ...

    def candidates(self, skb: Skb, start: int) -> Iterator[Rule]:
        """Rules from 1-based ``start`` on, in order, that could match; others may be left out."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ListChain:
    """The plain chain: a tuple of parsed rules."""

    name: str
    rules: tuple[Rule, ...] = ()
    policy: str | None = None
    where: Where | None = None
    policy_counters: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.rules)

    def rule(self, index: int) -> Rule:
        return self.rules[index - 1]

    def candidates(self, skb: Skb, start: int) -> Iterator[Rule]:
        return iter(self.rules[start - 1 :])


class Table(Protocol):
    """A table of one backend and family."""

    @property
    def backend(self) -> str: ...
    @property
    def family(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def file(self) -> str: ...
    @property
    def chains(self) -> Mapping[str, Chain]: ...

    def uses_tracking(self) -> bool:
        """Whether a rule anywhere in it switches connection tracking on (semantics 1.6)."""
        ...

    def all_rules(self) -> Iterator[Rule]: ...


@dataclass(frozen=True, slots=True, eq=False)
class ListTable:
    """The plain table: parsed chains by name."""

    backend: str
    family: int
    name: str
    chains: dict[str, Chain]
    file: str = ""

    def all_rules(self) -> Iterator[Rule]:
        for chain in self.chains.values():
            for index in range(1, len(chain) + 1):
                yield chain.rule(index)

    def uses_tracking(self) -> bool:
        for rule in self.all_rules():
            if any(m.tracks for m in rule.matches) or (rule.target is not None and rule.target.tracks):
                return True
        return False


class BaseHook(NamedTuple):
    """A base chain hooked into the list of one hook; ``kind``: filter, route or nat."""

    hook: int
    priority: int
    kind: str
    table: Table
    chain: str
    order: int  # registration order; the kernel runs the later one first among equal priorities


class ForeignChain(NamedTuple):
    """A base chain that is seen but not modelled (native nft for now): it makes the outcome unknown."""

    hook: int
    priority: int
    family: str
    table: str
    chain: str
    policy: str | None
    rules: int
    where: Where | None
    why: str


Tables = Sequence[Table]
