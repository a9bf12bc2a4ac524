"""What a drawing is made of: boxes, texts, lines, and groups of them that stand for steps. Coordinates are pixels."""

from __future__ import annotations

from ..record import NamedTuple, dataclass, field

Point = tuple[float, float]


class Box(NamedTuple):
    x: float
    y: float
    w: float
    h: float
    role: str
    radius: float = 4


class Text(NamedTuple):
    x: float
    y: float
    text: str
    role: str
    anchor: str = "start"


class Path(NamedTuple):
    """A line through points; ``arrow``: it points at its last one."""

    points: tuple[Point, ...]
    role: str
    arrow: bool = True


class Group(NamedTuple):
    """Shapes that belong to steps and can be chosen together. ``label``: what a screen reader says."""

    steps: tuple[int, ...]
    label: str
    shapes: tuple[Box | Text | Path, ...]


@dataclass(slots=True)
class Drawing:
    """What to draw, first things first. ``about``: the picture in one sentence."""

    width: float
    height: float = 0
    about: str = ""
    shapes: list[Box | Text | Path | Group] = field(default_factory=list)

    def add(self, *shapes: Box | Text | Path | Group) -> None:
        self.shapes += shapes
