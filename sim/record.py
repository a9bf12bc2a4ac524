"""``dataclass`` without its price at import: the same classes, whose functions are made when they are first needed.

The standard decorator compiles six functions for each class, ~0.4 ms a class: more than everything else that a short
run does. Here a class gets its slots, equality and hash at once, ``__init__`` when the first instance is made, and
what ``dataclasses.fields()``, ``replace()`` or ``asdict()`` ask for when they do. Type checkers see the standard ones.

What is not offered (order, InitVar, __post_init__, keyword-only fields …) is refused. ``NamedTuple`` likewise.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any


class Default:
    """What a field is when nobody says: a value, or what a function makes for each instance."""

    __slots__ = ("factory", "value")

    def __init__(self, value: Any = None, factory: Any = None) -> None:
        self.value, self.factory = value, factory


_REQUIRED: Any = object()  # what stands for the default of a field that has none

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import replace as replace
    from typing import NamedTuple as NamedTuple
else:
    from _collections import _tuplegetter  # what the fields of collections.namedtuple() are

    def field(*, default: Any = None, default_factory: Any = None) -> Default:
        """``default_factory``: called for each instance that does not say."""
        return Default(default, default_factory)

    def dataclass(*, frozen: bool = False, slots: bool, eq: bool = True, weakref_slot: bool = False) -> Any:
        """Like dataclasses.dataclass(), always with slots."""
        if not slots:
            raise TypeError("every class made here has slots")

        def decorate(cls: type) -> type:
            return _made(cls, frozen, eq, weakref_slot)

        return decorate

    def replace(instance: Any, /, **changes: Any) -> Any:
        """A copy with other values in some fields."""
        cls = instance.__class__
        for name in cls.__match_args__:
            if name not in changes:
                changes[name] = getattr(instance, name)
        return cls(**changes)

    class _NamedTupleType(type):
        """Makes a plain subclass of tuple out of a class whose base is :class:`NamedTuple`."""

        def __new__(meta, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> type:
            fields = tuple(space.get("__annotations__", ()))
            defaults = {field: space.pop(field) for field in fields if field in space}
            if fields[len(fields) - len(defaults) :] != tuple(defaults):
                raise TypeError(f"{name}: a field without a default follows one that has it")
            space |= {field: _tuplegetter(place, "") for place, field in enumerate(fields)}
            space |= {"__slots__": (), "_fields": fields, "_field_defaults": defaults, "__match_args__": fields}
            made = type.__new__(type, name, (_Named,), space)
            made.__new__ = _first_new(made)
            return made

    class _Named(tuple):
        """What all of them can do."""

        __slots__ = ()

        @classmethod
        def _make(cls, values: Any) -> Any:
            return cls(*values)

        def _replace(self, /, **changes: Any) -> Any:
            made = tuple.__new__(self.__class__, map(changes.pop, self._fields, self))
            if changes:
                raise ValueError(f"no such fields: {', '.join(changes)}")
            return made

        def _asdict(self) -> dict[str, Any]:
            return dict(zip(self._fields, self, strict=True))

        def __getnewargs__(self) -> tuple[Any, ...]:
            return tuple(self)

        def __repr__(self) -> str:
            shown = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
            return f"{self.__class__.__name__}({shown})"

    NamedTuple = type.__new__(_NamedTupleType, "NamedTuple", (), {})

    def _first_new(cls: Any) -> Any:
        """A ``__new__`` that makes way for the compiled one."""

        def __new__(_cls: type, /, *args: Any, **kwargs: Any) -> Any:
            space = {"_new": tuple.__new__, **{f"_default_{name}": v for name, v in cls._field_defaults.items()}}
            said = ", ".join(f"{n}=_default_{n}" if n in cls._field_defaults else n for n in cls._fields)
            values = "".join(f"{name}, " for name in cls._fields)
            made = eval(f"lambda _cls, {said}: _new(_cls, ({values}))", space)
            made.__name__, made.__qualname__ = "__new__", f"{cls.__qualname__}.__new__"
            cls.__new__ = made
            return made(_cls, *args, **kwargs)

        return __new__


def _made(cls: type, frozen: bool, eq: bool, weakref_slot: bool) -> type:
    """The class again, with slots for its fields and without their defaults in the way."""
    inherited: dict[str, Any] = {}
    for base in reversed(cls.__mro__[1:]):
        inherited.update(base.__dict__.get("__record__", {}))
    space = dict(cls.__dict__)
    if "__post_init__" in space:
        raise TypeError(f"{cls.__name__}: __post_init__ is never called")
    own = {n: kind for n, kind in space.get("__annotations__", {}).items() if not kind.startswith("ClassVar")}
    fields = inherited | {name: _default(space.pop(name, _REQUIRED)) for name in own}
    names = tuple(fields)
    space.pop("__dict__", None)
    space.pop("__weakref__", None)
    taken = {slot for base in cls.__mro__[1:] for slot in base.__dict__.get("__slots__", ())}
    space["__slots__"] = (*(n for n in own if n not in taken), *(("__weakref__",) if weakref_slot else ()))
    space["__record__"] = fields
    space["__match_args__"] = names
    space["__dataclass_fields__"] = _Fields()
    space.setdefault("__repr__", _repr)
    if eq and "__eq__" not in space:
        key = attrgetter(*names) if names else _nothing
        space["__eq__"] = _eq(key)
        if space.get("__hash__") is None:
            space["__hash__"] = _hash(key) if frozen else None
    if frozen:
        space |= {"__setattr__": _refuse_set, "__delattr__": _refuse_delete}
        space |= {"__getstate__": _state, "__setstate__": _restore}
    made = type(cls)(cls.__name__, cls.__bases__, space)
    if "__init__" not in space:
        made.__init__ = _first_init(made, fields, frozen)  # type: ignore[misc]
    return made


def _default(given: Any) -> Any:
    return given if given is _REQUIRED or isinstance(given, Default) else Default(given)


def _first_init(cls: Any, fields: dict[str, Any], frozen: bool) -> Any:
    """An ``__init__`` that makes way for the compiled one."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        cls.__init__ = _compiled_init(cls, fields, frozen)
        cls.__init__(self, *args, **kwargs)

    return __init__


def _compiled_init(cls: Any, fields: dict[str, Any], frozen: bool) -> Any:
    space: dict[str, Any] = {}
    parameters, body = ["self"], []
    for name, default in fields.items():
        value = name
        if default is _REQUIRED:
            parameters.append(name)
        elif default.factory is not None:
            space |= {f"_make_{name}": default.factory, "_unsaid": _REQUIRED}
            parameters.append(f"{name}=_unsaid")
            value = f"_make_{name}() if {name} is _unsaid else {name}"
        else:
            space[f"_default_{name}"] = default.value
            parameters.append(f"{name}=_default_{name}")
        space[f"_set_{name}"] = getattr(cls, name).__set__
        body.append(f" _set_{name}(self, {value})" if frozen else f" self.{name} = {value}")
    exec(f"def __init__({', '.join(parameters)}):\n" + "\n".join(body or [" pass"]), space)
    init = space["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


class _Fields:
    """``__dataclass_fields__``, as the standard module has it, for those who ask it about such a class."""

    def __get__(self, instance: Any, cls: Any) -> Any:
        import dataclasses

        described: list[Any] = []
        for name, default in cls.__record__.items():
            if default is _REQUIRED:
                described.append((name, Any))
            else:
                factory = default.factory or (lambda value=default.value: value)
                described.append((name, Any, dataclasses.field(default_factory=factory)))
        found = dataclasses.make_dataclass(cls.__name__, described)
        cls.__dataclass_fields__ = fields = found.__dict__["__dataclass_fields__"]
        return fields


def _nothing(instance: Any) -> tuple[()]:
    return ()


def _eq(key: Any) -> Any:
    def __eq__(self: Any, other: Any) -> Any:
        return key(self) == key(other) if other.__class__ is self.__class__ else NotImplemented

    return __eq__


def _hash(key: Any) -> Any:
    def __hash__(self: Any) -> int:
        return hash(key(self))

    return __hash__


def _repr(self: Any) -> str:
    return f"{self.__class__.__qualname__}({', '.join(f'{n}={getattr(self, n)!r}' for n in self.__match_args__)})"


def _refuse_set(self: Any, name: str, value: Any) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(self: Any, name: str) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, name) for name in self.__match_args__]


def _restore(self: Any, values: list[Any]) -> None:
    for name, value in zip(self.__match_args__, values, strict=True):
        object.__setattr__(self, name, value)
