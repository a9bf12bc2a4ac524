"""sim.record makes what dataclasses makes; only later."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import typing

import pytest
from nattrace.sim import record
from nattrace.sim.record import NamedTuple


@record.dataclass(frozen=True, slots=True)
class Point:
    """A point."""

    x: int
    y: int = 2
    tags: dict[str, int] = record.field(default_factory=dict)


@record.dataclass(frozen=True, slots=True)
class Named(Point):
    name: str = "p"


@record.dataclass(slots=True)
class Open:
    items: list[int] = record.field(default_factory=list)


def test_arguments_defaults_and_inheritance():
    assert (Point(1).x, Point(1).y, Point(1, y=5).y, Named(1, 3, name="q").name) == (1, 2, 5, "q")
    assert Open().items is not Open().items
    with pytest.raises(TypeError):
        Point()
    with pytest.raises(TypeError):
        Point(1, z=3)


def test_equality_hash_and_words():
    assert Point(1) == Point(1) != Point(2) and Named(1) != Point(1)
    one = Named(1, 2, (), "n")
    assert hash(one) == hash(Named(1, 2, (), "n")) and repr(one) == "Named(x=1, y=2, tags=(), name='n')"
    with pytest.raises(TypeError):
        hash(Open())


def test_frozen_and_slotted():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Point(1).x = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        del Point(1).x
    assert not hasattr(Point(1), "__dict__") and not hasattr(Named(1), "__dict__")
    with pytest.raises(AttributeError):
        Open().other = 1


def test_copies():
    one = Named(1, 2, {"a": 1}, "n")
    assert record.replace(one, y=9) == dataclasses.replace(one, y=9) == Named(1, 9, {"a": 1}, "n")
    assert copy.copy(one) == copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one


def test_the_standard_module_knows_them():
    assert dataclasses.is_dataclass(Named) and [f.name for f in dataclasses.fields(Named)] == ["x", "y", "tags", "name"]
    assert dataclasses.asdict(Open([1])) == {"items": [1]} and Point.__match_args__ == ("x", "y", "tags")


def test_what_is_not_offered_is_refused():
    with pytest.raises(TypeError, match="__post_init__"):

        @record.dataclass(slots=True)
        class _Late:
            def __post_init__(self) -> None: ...


class Pair(NamedTuple):
    """Two of them."""

    left: int
    right: str = "r"
    more: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.left}|{self.right}"


class StandardPair(typing.NamedTuple):
    left: int
    right: str = "r"
    more: tuple[int, ...] = ()


def test_named_tuples_do_what_the_standard_ones_do():
    for made, standard in ((Pair(1), StandardPair(1)), (Pair(more=(3,), left=2), StandardPair(more=(3,), left=2))):
        assert tuple(made) == tuple(standard) and made == standard
        assert made._asdict() == standard._asdict()
        assert repr(made) == repr(standard).removeprefix("Standard")
        assert tuple(made._replace(right="x")) == tuple(standard._replace(right="x"))
        assert Pair._make(made) == made and hash(made) == hash(standard)
        assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made
    assert Pair._fields == StandardPair._fields and Pair.__match_args__ == StandardPair.__match_args__
    assert str(Pair(1)) == "1|r" and Pair(1).left == 1 and isinstance(Pair(1), tuple)


@pytest.mark.parametrize("wrong", [Pair, lambda: Pair(1, no=2), lambda: Pair(1, "a", (), 4)])
def test_named_tuples_refuse_what_the_standard_ones_refuse(wrong):
    with pytest.raises(TypeError):
        wrong()
    with pytest.raises(ValueError):
        Pair(1)._replace(no=2)
    with pytest.raises(AttributeError):
        Pair(1).left = 2


def test_a_named_tuple_has_its_defaults_last():
    with pytest.raises(TypeError, match="without a default"):

        class Wrong(NamedTuple):
            left: int = 1
            right: int
