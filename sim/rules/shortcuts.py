"""What can be validated by its shape alone, because there is so much of it.

A rule set of 50,000 rules has a handful of shapes and tens of thousands of different comments and addresses. Where an
option text matches a pattern here, and one such text was accepted in full by its match or target at the same place
under the same ``-p``, every other one is valid too, and need not be made into an object to know it. (A test holds each
pattern against the real ``parse``.)
"""

from __future__ import annotations

import re

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_PORT = r"(?:[1-5][0-9]{4}|[1-9][0-9]{0,3})"

# name → pattern of the piece after ``-m `` or ``-j ``
MATCHES = {
    "comment": re.compile(r'comment --comment (?:"[^"\\]{1,255}"|[A-Za-z0-9_-]{1,255})'),
    "tcp": re.compile(rf"tcp --dport {_PORT}"),
    "udp": re.compile(rf"udp --dport {_PORT}"),
    "statistic": re.compile(r"statistic --mode random --probability 0\.[0-9]{11}"),
}
TARGETS = {
    "DNAT": re.compile(rf"DNAT --to-destination {_IPV4}:{_PORT}"),
    "SNAT": re.compile(rf"SNAT --to-source {_IPV4}"),
}
_NETWORK = rf"(?:! )?%s {_IPV4}(?:/(?:3[0-2]|[12]?[0-9]))?"
HEADER = re.compile(rf"(?: {_NETWORK % '-s'})?(?: {_NETWORK % '-d'})?( -p (?:tcp|udp))?")

# A whole rule made of such pieces. Groups: what stands there (not with which value), then the action and its option
_COMMENT = r"""(?:( -m comment) --comment (?:"[^"\\]{1,255}"|[A-Za-z0-9_-]{1,255}))?"""
_PORTS = rf"(?:( -m (?:tcp|udp))(?:( --dport) {_PORT})?)?"
_SHARE = r"(?:( -m statistic) --mode random --probability 0\.[0-9]{11})?"
_ACTION = rf""" -j ([^\s"\\]++)(?:( --to-destination) {_IPV4}:{_PORT})?"""
RULE = re.compile(HEADER.pattern + _COMMENT + _PORTS + _SHARE + _ACTION)
