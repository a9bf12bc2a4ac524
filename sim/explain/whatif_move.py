"""A rule moved to another place of its chain, as a what-if edit: inserted there first, then taken from where it stood."""

from __future__ import annotations

from ..model.addr import AF_INET
from ..model.world import World
from ..record import dataclass
from .whatif import RuleEdit


@dataclass(frozen=True, slots=True)
class RuleMove:
    """``number`` of ``chain`` goes before number ``to``; ``text``: what it says there."""

    host: str
    table: str
    chain: str
    number: int
    to: int
    text: str
    family: int = AF_INET
    backend: str | None = None
    kind = "rule"

    def _edits(self) -> list[RuleEdit]:
        table = "" if self.table == "filter" else f"-t {self.table} "
        old = self.number + (self.to <= self.number)
        texts = (f"{table}-I {self.chain} {self.to} {self.text}", f"{table}-D {self.chain} {old}")
        return [RuleEdit(self.host, text, self.family, self.backend) for text in texts]

    def apply(self, world: World) -> World:
        for edit in self._edits():
            world = edit.apply(world)
        return world

    def commands(self) -> list[str]:
        return [command for edit in self._edits() for command in edit.commands()]
