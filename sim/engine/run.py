"""One run of the engine through one possible world, and the exploration of all of them.

The engine is written as if everything were decided. Where the kernel draws, or the snapshot does not say, it asks
:meth:`Run.choose`; the run takes one branch and remembers the others, and :func:`explore` plays the packet again
for each of them, from the same starting state. So no code below has to know about branching.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..model.conntrack import Conn
from ..model.drawn import Domain, Drawn, Number
from ..model.result import Hop, Leaf, Reason, Response, Step
from ..model.rule import HOOK_NAME, Rule
from ..model.state import HostState, WorldState
from ..model.where import Where
from ..model.world import Host, World
from ..record import NamedTuple

if TYPE_CHECKING:
    from ..model.packet import Skb

DUPLICATED = "nf_skb_duplicated"  # misc key: a TEE copy is being sent, so that what happens now is not copied
MAX_DEPTH = 8  # an error about an error about …; the kernel stops at one
MAX_PASSES = 400  # through hosts, of all that one packet causes: a rule set that copies its own copies breeds for ever
MAX_WORK = 1000  # passes through hosts in all worlds of a packet together; beyond that, likewise
MAX_LEAVES = 64  # worlds per packet; beyond that the answer is "unknown" and says so


class Option(NamedTuple):
    """One branch of a choice. ``probability`` None: nobody can know it."""

    probability: float | None
    label: str
    value: Any


class Assumption(NamedTuple):
    """A default that stands in for what the snapshot lacks. ``others``: values worth trying instead."""

    text: str
    default: str
    others: tuple[str, ...]
    file: str


class Choice(NamedTuple):
    """A decision that a run took: which of how many."""

    what: str
    taken: int
    options: tuple[Option, ...]


class Way:
    """A packet under way: the hops it made, how often it came by each place, and what is to be done at its end."""

    __slots__ = ("done", "hops", "looped", "passes", "seen")

    def __init__(self, hops: list[Hop], done: Callable[[Any, list[Hop]], None]) -> None:
        self.hops, self.done = hops, done
        self.seen: dict[Any, int] = {}
        self.passes, self.looped = 0, False


class Run:
    """One world being played: the prescribed choices, the ones taken, the recording."""

    def __init__(self, state: WorldState, prefix: Sequence[int] = (), flips: dict[str, str] | None = None,
                 verbose: bool = False) -> None:  # fmt: skip
        self.ws = state
        self.world: World = state.world
        self.prefix = tuple(prefix)
        self.flips = flips or {}
        self.choices: list[Choice] = []
        self.assumed: dict[str, Assumption] = {}
        self.notes: list[str] = []
        self.unknowns: list[Reason] = []
        self._told: set[Reason] = set()  # the same, to look into
        self.hops: list[Hop] = []
        self.hop: Hop | None = None
        self.verbose = verbose  # record near misses too
        self.responses: dict[int, Response] = {}  # by the order in which they were sent
        self.emitted = 0
        self.copies: list[dict[str, Any]] = []
        self.launch: Callable[[Run, Any, Way], None] | None = None  # sets a packet off (engine.walk)
        self.drain: Callable[[Run], None] | None = None  # passes on all that is on a wire (engine.walk)
        self.softirq = True  # not within a system call of the sender, at whose pauses the queue is worked off
        self.main: Way | None = None  # of the packet that was put in
        self.wire: deque[tuple[Way, Any]] = deque()  # on their way to the next host (the CPU's backlog queue)
        self.timers: deque[Callable[[], None]] = deque()  # what happens when everything is quiet
        self.depth = 0  # how many packets caused each other within one pass through a host
        self.passes = 0  # through hosts, of all packets but the one that was put in
        self.work = 0  # through hosts, of all packets
        self.cut = False  # some were not followed: the answer is not whole
        self.unbound_sender: Any = None  # the flow whose first datagram is being sent by a socket without an address

    def choose(self, what: str, options: Sequence[Option]) -> Any:
        """Take a branch. ``options`` non-empty; impossible ones (probability 0) are left out by the caller."""
        if len(options) == 1:
            return options[0].value
        position = len(self.choices)
        taken = self.prefix[position] if position < len(self.prefix) else 0
        self.choices.append(Choice(what, taken, tuple(options)))
        return options[taken].value

    def unknown(self, code: str, text: str, where: Where | None = None) -> bool:
        """A question that the model cannot decide: both branches are played, and the result says so."""
        answer = self.choose(text, (Option(None, "no", False), Option(None, "yes", True)))
        reason = Reason(code, text, where)
        if reason not in self._told:
            self._told.add(reason)
            self.unknowns.append(reason)
        return bool(answer)

    def assume(self, key: str, text: str, default: str, others: tuple[str, ...] = (), file: str = "") -> str:
        """A default for something missing; ``explore`` tries the ``others`` one at a time."""
        known = self.assumed.get(key)
        if known is None or (others and not known.others):
            self.assumed[key] = Assumption(text, default, others, file)
        return self.flips.get(key, default)

    def aside(self, start: Any, done: Callable[[Any, list[Hop]], None] | None = None) -> None:
        """Set another packet (a copy, an error) off. What its own host does to it is done now, the rest in its turn:
        devices only queue what they pass on (netif_rx()). ``done``: told the packet's fate and its hops.
        """
        self.passes += 1
        if self.depth >= MAX_DEPTH or self.passes > MAX_PASSES or self.launch is None:
            self.cut_short()
            return
        hop, hops = self.hop, self.hops
        self.hop, self.hops = None, []
        self.depth += 1
        try:
            self.launch(self, start, Way(self.hops, done or self._copied))
        finally:
            self.depth -= 1
            self.hop, self.hops = hop, hops

    def settle(self) -> None:
        """local_bh_enable(): within a system call all that was queued is worked off before the call goes on; packets
        that are themselves taken from the queue have to wait for their turn.
        """
        if self.softirq or self.depth or self.drain is None:
            return
        hop, hops = self.hop, self.hops
        self.depth, self.softirq = self.depth + 1, True
        try:
            self.drain(self)
        finally:
            self.depth, self.softirq = self.depth - 1, False
            self.hop, self.hops = hop, hops

    def _copied(self, fate: Any, hops: list[Hop]) -> None:
        at = {"host": fate.host, "interface": fate.interface, "hook": fate.hook}
        self.copies.append({"outcome": fate.outcome, "at": at, "packet": fate.skb.header()})

    def cut_short(self) -> None:
        """Something that the packet causes is not followed."""
        self.note("copies and answers of copies and answers of this packet go on and on: not all are followed")
        self.cut = True

    @property
    def alone(self) -> bool:
        """Whether no other packet is under way."""
        return not (self.depth or self.wire or self.timers)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def step(self, step: Step) -> None:
        if self.hop is not None:
            self.hop.steps.append(step)

    @property
    def probability(self) -> float | None:
        total: float | None = 1.0
        for choice in self.choices:
            p = choice.options[choice.taken].probability
            total = None if p is None or total is None else total * p
        return total


# IN_DEV_ORCONF, IN_DEV_ANDCONF, IN_DEV_MAXCONF
_COMBINED: dict[str, Callable[[int, int], int]] = {
    "or": lambda mine, shared: int(bool(mine or shared)),
    "and": lambda mine, shared: int(bool(mine and shared)),
    "max": max,
}


class Ctx:
    """Where a packet is: host, its state, hook and devices. Given to every match, target and engine function.

    ``indev``/``outdev``: what ``-i``/``-o`` compare with at this hook (frozen for the traversal of a hook list).
    ``slot``: key of the state of the match or target being evaluated: (RuleId, position from 0; target = -1).
    """

    __slots__ = ("hook", "host", "hs", "indev", "outdev", "rule", "run", "slot", "table", "ws")

    def __init__(self, run: Run, host: Host, hs: HostState, hook: int = 0, indev: str | None = None,
                 outdev: str | None = None) -> None:  # fmt: skip
        self.run = run
        self.ws = run.ws
        self.host, self.hs = host, hs
        self.hook, self.indev, self.outdev = hook, indev, outdev
        self.rule: Rule | None = None
        self.slot: Any = None
        self.table: str | None = None

    def at(self, hook: int, indev: str | None, outdev: str | None) -> Ctx:
        return Ctx(self.run, self.host, self.hs, hook, indev, outdev)

    @property
    def now(self) -> float:
        """Seconds since the first packet."""
        return self.ws.now

    @property
    def hook_name(self) -> str:
        return HOOK_NAME[self.hook]

    def ct(self, skb: Skb) -> Conn | None:
        """The conntrack entry the packet carries."""
        return self.hs.ct.entries.get(skb.ct) if skb.ct is not None else None

    def sysctl(self, name: str, default: str, others: tuple[str, ...] = ()) -> str:
        """A sysctl by dotted name. Missing: the kernel's default, listed as an assumption."""
        setting = self.host.sysctl.get(name)
        if setting is not None:
            return setting.value
        file = self.host.file_of.get("sysctl", "sysctl.txt")
        text = f"{self.host.name}: {name} = {default} (the kernel's default; not in {file})"
        return self.run.assume(f"{self.host.name}:{name}", text, default, others, file)

    def sysctl_int(self, name: str, default: int, others: tuple[int, ...] = ()) -> int:
        text = self.sysctl(name, str(default), tuple(map(str, others)))
        try:
            return int(text.split()[0])
        except (ValueError, IndexError):
            raise InputError(f"{name}: expected a number, got {text!r}", self.where_sysctl(name)) from None

    def conf(self, dev: str, key: str, default: int = 0, how: str = "or", others: tuple[int, ...] | None = None,
             family: str = "ipv4") -> int:  # fmt: skip
        """net.ipv4.conf: ``how`` combines all and dev as the kernel's IN_DEV_* macros do: or, and, max, dev, all.

        ``others``: values worth trying where the snapshot has none; by default the flipped boolean.
        """
        if others is None:
            others = (1 - default,) if default in (0, 1) else ()
        base = f"net.{family}.conf."
        every = base + f"all.{key}"
        if how == "all":
            return self.sysctl_int(every, default, others)
        name = base + f"{dev.replace('.', '/')}.{key}"
        if how == "dev":
            return self.sysctl_int(name, default, others)
        # a value that comes to the same as the default is not worth trying; where both are missing the other value of
        # either comes to the same: one of them is tried
        combined, known = _COMBINED[how], self.host.sysctl
        shared = self.sysctl_int(every, default) if every in known else default
        telling = tuple(o for o in others if combined(o, shared) != combined(default, shared))
        mine = self.sysctl_int(name, default, telling)
        if every not in known:
            telling = tuple(o for o in others if combined(mine, o) != combined(mine, default))
            shared = self.sysctl_int(every, default, telling if name in known else ())
        return combined(mine, shared)

    def where_sysctl(self, name: str) -> Where | None:
        setting = self.host.sysctl.get(name)
        return setting.where if setting else None

    def unknown(self, text: str, code: str = "unmodelled_match", where: Where | None = None) -> bool:
        """Both branches: for a match or a fact that the model or the snapshot does not decide."""
        if where is None and self.rule is not None:
            where = self.rule.where
        return self.run.unknown(code, text, where)

    def in_range(self, value: Number, low: int, high: int) -> bool:
        """Whether a port or id lies in [low, high]; a drawn one splits the world by its candidates."""
        if not isinstance(value, Drawn):
            return low <= value <= high
        domain = self.ws.domains[value.draw_id]
        inside = domain.clip(low, high)
        if not inside.size or inside.size == domain.size:
            return bool(inside.size)
        outside = domain.without(low, high)
        p = inside.mass / domain.mass if domain.uniform else None
        chosen: Domain = self.run.choose(
            f"{value!r} in {low}-{high}",
            (
                Option(None if p is None else 1 - p, f"{value.what} outside {low}-{high}", outside),
                Option(p, f"{value.what} in {low}-{high}", inside),
            ),
        )
        self.ws.domains[value.draw_id] = chosen
        return chosen is inside

    def same(self, a: Number, b: Number) -> bool:
        """Whether two ports or ids are equal; splits the world where a drawn one could be."""
        a, b = self.ws.known(a), self.ws.known(b)
        if a == b:
            return True
        if isinstance(a, Drawn) and isinstance(b, Drawn):
            return False
        if isinstance(a, Drawn):
            a, b = b, a
        return self.in_range(b, int(a), int(a)) if isinstance(b, Drawn) else False  # type: ignore[arg-type]

    def step(self, stage: str, **fields: Any) -> None:
        """Record a step at this hook."""
        hook = fields.pop("hook", HOOK_NAME[self.hook])
        self.run.step(Step(hook, stage, **fields))


def explore(start: WorldState, play: Callable[[Run], Leaf], verbose: bool = False,
            max_leaves: int = MAX_LEAVES) -> tuple[list[Leaf], bool]:  # fmt: skip
    """Play one packet in every possible world. Returns the leaves and whether
    all worlds were played. ``start`` is not changed; each leaf has a state of its own.
    """
    budget = [MAX_WORK]
    leaves, assumed, complete = _branches(start, play, {}, verbose, max_leaves, budget)
    if not complete and len(leaves) < max_leaves:
        return leaves, False  # cut short: it would be again, whatever else is assumed
    base = {leaf.signature() for leaf in leaves}
    if 2 * budget[0] < MAX_WORK:  # it goes round and round: once more for each assumption would not end
        return leaves, complete and not any(assumption.others for assumption in assumed.values())
    for key, assumption in list(assumed.items()):
        for other in assumption.others:
            flipped, _, whole = _branches(start, play, {key: other}, False, max_leaves, budget)
            complete = complete and whole
            if {leaf.signature() for leaf in flipped} == base:
                continue
            reason = Reason(
                "missing_input", f"{assumption.text}; with {other} the outcome differs", Where(assumption.file)
            )
            for leaf in leaves:
                if reason not in leaf.unknowns:
                    leaf.unknowns.append(reason)
            for leaf in flipped:
                leaf.probability = None
                leaf.unknowns.append(reason)
                leaf.choices = (*leaf.choices, f"{key} = {other}")
                leaves.append(leaf)
    return leaves, complete


def _branches(start: WorldState, play: Callable[[Run], Leaf], flips: dict[str, str], verbose: bool,
              max_leaves: int, budget: list[int]) -> tuple[list[Leaf], dict[str, Assumption], bool]:  # fmt: skip
    leaves: list[Leaf] = []
    assumed: dict[str, Assumption] = {}
    pending: list[tuple[int, ...]] = [()]
    whole = True
    while pending:
        if len(leaves) >= max_leaves or (budget[0] <= 0 and (leaves or flips)):
            return leaves, assumed, False
        prefix = pending.pop()
        run = Run(start.fork(), prefix, flips, verbose)
        leaf = play(run)
        budget[0] -= run.work
        whole = whole and not run.cut
        if run.cut:
            max_leaves = 0  # what breeds in one world does in the others: enough has been seen
        taken = [choice.taken for choice in run.choices]
        for position in range(len(prefix), len(taken)):
            for other in range(len(run.choices[position].options) - 1, 0, -1):
                pending.append((*taken[:position], other))
        leaf.probability = run.probability
        leaf.unknowns = run.unknowns
        leaf.assumptions = [a.text for a in run.assumed.values()] + run.notes
        leaf.choices = tuple(f"{c.what}: {c.options[c.taken].label}" for c in run.choices)
        leaf.state = run.ws
        leaves.append(leaf)
        for key, assumption in run.assumed.items():
            assumed.setdefault(key, assumption)
    return leaves, assumed, whole
