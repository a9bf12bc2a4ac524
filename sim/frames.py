"""Tables of rows as DataFrames: one Arrow table, from which pandas and polars take theirs.

    frame(rows, COLUMNS)              # pandas; polars where only that is installed
    frame(rows, COLUMNS, "polars")    # or "pandas", "arrow"

Values that are no column's type (a dict of changes, a set of ports) become JSON text for Arrow and polars; pandas keeps
the objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .errors import InputError, MissingFacility

KINDS = ("pandas", "polars", "arrow")


def frame(rows: list[dict[str, Any]], columns: Iterable[str], kind: str | None = None) -> Any:
    """``rows`` as a table with ``columns``; raises MissingFacility where the library is not installed."""
    names = list(columns)
    if kind is None:
        kind = "pandas" if _there("pandas") or not _there("polars") else "polars"
    if kind not in KINDS:
        raise InputError(f"no kind of table {kind!r}", remedy=f"one of: {', '.join(KINDS)}")
    if kind == "pandas":
        return _need("pandas").DataFrame(rows, columns=names)
    table = _arrow(rows, names)
    return _need("polars").from_arrow(table) if kind == "polars" else table


def _arrow(rows: list[dict[str, Any]], names: list[str]) -> Any:
    pyarrow = _need("pyarrow")
    columns = {name: _column(pyarrow, [row.get(name) for row in rows]) for name in names}
    return pyarrow.table(columns)


def _column(pyarrow: Any, values: list[Any]) -> Any:
    """An Arrow array of one type: numbers and texts as they are, what differs or nests as JSON text."""
    kinds = {type(v) for v in values if v is not None}
    if not kinds:
        return pyarrow.nulls(len(values), pyarrow.string())
    if len(kinds) == 1 and kinds <= {int, float, str, bool}:
        return pyarrow.array(values)
    if kinds == {int, float}:
        return pyarrow.array(values, pyarrow.float64())
    import json

    texts = [v if v is None or isinstance(v, str) else json.dumps(v, default=str) for v in values]
    return pyarrow.array(texts, pyarrow.string())


def _there(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def _need(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        remedy = "pip install polars" if name == "polars" else "pip install 'nattrace[notebook]'"
        raise MissingFacility(f"{name} is not installed", remedy=remedy) from None
