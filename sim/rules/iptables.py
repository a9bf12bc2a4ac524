"""The rules of iptables, as text: what other packages use.

>>> (table,) = parse_save("*filter\\n:INPUT DROP [0:0]\\n-A INPUT -i lo -j ACCEPT\\nCOMMIT\\n", file="save.txt")
>>> table.chains["INPUT"].rule(1).where  # lazy: a rule is parsed when somebody looks at it
Where(file='save.txt', line=3)
>>> print_rule(parse_rule("-A FORWARD -p tcp --dport http -j ACCEPT", table="filter"))
'-A FORWARD -p tcp -m tcp --dport 80 -j ACCEPT'

What a process doesn't use is not imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .save import LazyChain, LazyTable, parse_save

if TYPE_CHECKING:
    from .printer import print_rule, print_spec
    from .typed import parse_rule, parse_rules

__all__ = ["LazyChain", "LazyTable", "parse_rule", "parse_rules", "parse_save", "print_rule", "print_spec"]


def __getattr__(name: str) -> Any:
    if name in ("parse_rule", "parse_rules"):
        from . import typed as module
    elif name in ("print_rule", "print_spec"):
        from . import printer as module  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(module, name)
