"""The rules of iptables, as text: what other packages use.

    tables = parse_save(text, file="iptables-save.txt")     # lazy: a chain is parsed when a packet reaches it
    rule = parse_rule("-A FORWARD -p tcp --dport 80 -j ACCEPT", table="filter")
    print_rule(rule)                                        # as iptables-save prints it
"""

from __future__ import annotations

from .printer import print_rule, print_spec
from .save import LazyChain, LazyTable, parse_save
from .typed import parse_rule, parse_rules

__all__ = ["LazyChain", "LazyTable", "parse_rule", "parse_rules", "parse_save", "print_rule", "print_spec"]
