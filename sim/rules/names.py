"""Names of protocols as the tools print and read them, and the nearest known word to a mistyped one."""

from __future__ import annotations

from collections.abc import Iterable

# /etc/protocols of Debian (netbase); the name iptables-save prints for a number.
PROTOCOLS: dict[str, int] = {
    "icmp": 1, "igmp": 2, "ggp": 3, "ipencap": 4, "st": 5, "tcp": 6, "egp": 8, "igp": 9, "pup": 12, "udp": 17, "hmp": 20,
    "xns-idp": 22, "rdp": 27, "iso-tp4": 29, "dccp": 33, "xtp": 36, "ddp": 37, "idpr-cmtp": 38, "ipv6": 41,
    "ipv6-route": 43, "ipv6-frag": 44, "idrp": 45, "rsvp": 46, "gre": 47, "esp": 50, "ah": 51, "skip": 57,
    "ipv6-icmp": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "rspf": 73, "vmtp": 81, "eigrp": 88, "ospf": 89, "ax.25": 93,
    "ipip": 94, "etherip": 97, "encap": 98, "pim": 103, "ipcomp": 108, "vrrp": 112, "l2tp": 115, "isis": 124, "sctp": 132,
    "fc": 133, "mobility-header": 135, "udplite": 136, "mpls-in-ip": 137, "manet": 138, "hip": 139, "shim6": 140,
    "wesp": 141, "rohc": 142, "ethernet": 143,
}  # fmt: skip
_ALIASES = {"icmpv6": 58, "icmp6": 58, "mh": 135, "ipv6-mh": 135, "all": 0, "ip": 0, "hopopt": 0, "ospfigp": 89}
_NAME_OF = {number: name for name, number in PROTOCOLS.items()}
# What ``-p NAME`` loads by itself, where the extension is not called as the protocol is (xtables_find_match()).
EXTENSION_OF_PROTOCOL = {"ipv6-icmp": "icmp6", "mobility-header": "mh"}


def protocol_number(text: str) -> int | None:
    """A protocol by name (any case) or number 0-255; None where there is no such protocol."""
    number = small_int(text)
    if number is not None:
        return number if number <= 255 else None
    text = text.lower()
    found = PROTOCOLS.get(text)
    return _ALIASES.get(text) if found is None else found


def protocol_name(number: int) -> str:
    """As iptables-save prints it: a name where /etc/protocols has one."""
    return _NAME_OF.get(number) or ("all" if number == 0 else str(number))


def small_int(text: str) -> int | None:
    """A non-negative number as xtables_strtoui() reads it (decimal, 0x hexadecimal, 0 octal), at most 10 digits."""
    if not text or len(text) > 12 or not text.isascii() or not text[0].isdigit():
        return None
    try:
        if text[:2] in ("0x", "0X"):
            return int(text[2:], 16) if text[2:].isalnum() else None
        if not text.isdigit():
            return None
        return int(text, 8) if text[0] == "0" else int(text)
    except ValueError:
        return None


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, or None."""
    if len(word) > 64:
        return None
    import difflib  # only where an error is about to be shown

    found = difflib.get_close_matches(word, list(known), 1, 0.6)
    return found[0] if found else None
