"""Ways to damage an input: bytes, lines, words, JSON nodes. All are pure functions of a ``random.Random``."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

LARGEST = 64 << 10  # bytes of one damaged input: growth by doubling ends here

# Pieces that readers trip over: empty and huge numbers, brackets, signs, foreign bytes, escape sequences
TOKENS: tuple[bytes, ...] = (
    b"", b"\n", b" ", b"\t", b"=", b":", b"/", b"-", b"-1", b"0x", b"0xzz", b"0", b"65536", b"4294967296", b"9" * 30, b"1e999",
    b"NaN", b"null", b"true", b"[]", b"{}", b'"', b"'", b"[", b"]", b"{", b"}", b",", b"\\", b"!", b"*", b"#", b"%", b"\0",
    b"\xff", b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\x1b[31m", b"\x1b]0;x\x07", b"\r", "²".encode(), "٣".encode(), b"\\u0000",
    b"[" * 2000, b"A" * 300, b"10.0.0.0/8", b"0.0.0.0/0", b"255.255.255.255", b"127.0.0.1", b"224.0.0.1", b"::/0", b"fe80::1",
    b"::ffff:1.2.3.4", b"0.0.0.0-255.255.255.255", b"default", b"src=", b"dst=1.1.1.1", b"id=", b"lo", b"all",
    b"-j ACCEPT", b"-j DROP", b"-j NOWHERE", b"-g INPUT", b"-A", b"-m", b"-p tcp", b"COMMIT", b"*nat", b":X - [0:0]",
)  # fmt: skip


def mutate_bytes(data: bytes, rng: Random) -> bytes:
    """One to four edits of a few bytes anywhere."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, length = rng.randint(0, len(data)), int(rng.expovariate(0.15))
        piece = data[at : at + length]
        kind = rng.randrange(6)
        if kind == 0:
            piece = rng.choice(TOKENS)
        elif kind == 1:
            piece = b""
        elif kind == 2:
            piece = piece * rng.randint(2, 5)
        elif kind == 3:
            piece = piece[::-1]
        elif kind == 4:
            piece = rng.randbytes(rng.randint(1, 6))
        else:  # flip a bit
            piece = bytes(b ^ 1 << rng.randrange(8) for b in piece[:1]) + piece[1:]
        data = (data[:at] + piece + data[at + length :])[:LARGEST]
    return data


def mutate_lines(data: bytes, rng: Random) -> bytes:
    """Lines taken out, doubled, moved, cut off or joined; sometimes nothing left but a part."""
    lines = data.split(b"\n")
    for _ in range(rng.randint(1, 4)):
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        kind = rng.randrange(7)
        if kind == 0 and len(lines) > 1:
            del lines[at]
        elif kind == 1:
            lines.insert(other, lines[at])
        elif kind == 2:
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 3:
            lines[at] = lines[at][: rng.randint(0, len(lines[at]))]
        elif kind == 4:
            lines[at] += lines[other]
        elif kind == 5:
            lines[at] *= 2
        elif len(lines) > 4:
            lines = lines[: rng.randint(1, len(lines))]
    return b"\n".join(lines)[:LARGEST]


def mutate_words(data: bytes, rng: Random) -> bytes:
    """Words replaced by other words of the same file, by awkward ones, taken out or swapped."""
    lines = data.split(b"\n")
    full = [i for i, line in enumerate(lines) if line.strip()]
    if not full:
        return mutate_bytes(data, rng)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.choice(full)
        words = lines[at].split(b" ")
        place = rng.randrange(len(words))
        kind = rng.randrange(5)
        if kind == 0:
            words[place] = rng.choice(TOKENS)
        elif kind == 1:
            words[place] = rng.choice(lines[rng.choice(full)].split(b" "))
        elif kind == 2:
            del words[place]
        elif kind == 3:
            words.insert(place, rng.choice(TOKENS))
        else:
            other = rng.randrange(len(words))
            words[place], words[other] = words[other], words[place]
        lines[at] = b" ".join(words)
    return b"\n".join(lines)[:LARGEST]


SCALARS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 255, 65536, 1 << 32, 1 << 70, 0.5, float("inf"), "", "lo", "eth0", "10.0.0.1", "10.0.0.0/8",
    "0.0.0.0", "::1", "default", "all", "main", "local", "unicast", "blackhole", "0x10", "\x1b[2J", "x" * 300, "a\nb", [], {},
    [[]], [{}], {"": None}, ["x"], "²", "-1", "1e9", "inet", "inet6", "host", 254, 255, 253,
)  # fmt: skip


def mutate_json(data: bytes, rng: Random) -> bytes:
    """Values, keys and elements of a JSON document changed; what is no JSON gets bytes changed."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_bytes(data, rng)
    holder = [document]
    for _ in range(rng.choice((1, 1, 2, 4))):
        nodes = _nodes(holder)
        parent, key = rng.choice(nodes)
        _edit(parent, key, nodes, rng)
    return json.dumps(holder[0] if holder else None).encode()[: LARGEST * 4]


def _nodes(root: Any) -> list[tuple[Any, Any]]:
    """(parent, key) of every node below the root."""
    found: list[tuple[Any, Any]] = []
    pending = [root]
    while pending and len(found) < 4000:
        parent = pending.pop()
        for key in list(parent) if isinstance(parent, dict) else range(len(parent)):
            found.append((parent, key))
            if isinstance(parent[key], (dict, list)):
                pending.append(parent[key])
    return found or [(root, None)]


def _edit(parent: Any, key: Any, nodes: list[tuple[Any, Any]], rng: Random) -> None:
    kind, scalar = rng.randrange(6), deepcopy(rng.choice(SCALARS))
    if (
        key is None
        or (isinstance(parent, list) and key >= len(parent))
        or (isinstance(parent, dict) and key not in parent)
    ):
        return
    other_parent, other = rng.choice(nodes)
    if kind == 0:
        parent[key] = scalar
    elif kind == 1:
        del parent[key]
    elif kind == 2 and isinstance(parent, list):
        parent.insert(rng.randint(0, len(parent)), json.loads(json.dumps(parent[key])))
    elif kind == 3 and isinstance(parent, dict):
        parent[str(scalar)[:40]] = parent.pop(key)
    elif kind == 4 and isinstance(parent, dict) and isinstance(other_parent, dict) and isinstance(other, str):
        parent[other] = json.loads(json.dumps(other_parent.get(other)))
    elif isinstance(parent[key], int) and not isinstance(parent[key], bool):
        parent[key] = rng.choice((parent[key] + 1, -parent[key], parent[key] * 2, str(parent[key])))
    else:
        parent[key] = scalar


MUTATORS: tuple[Callable[[bytes, Random], bytes], ...] = (mutate_bytes, mutate_lines, mutate_words)


def damaged(name: str, data: bytes, rng: Random) -> bytes:
    """A file damaged in a way that suits it: JSON mostly by its structure, text mostly by its words and lines."""
    if name.endswith((".json", ".jsonl")) and rng.random() < 0.7:
        return mutate_json(data, rng)
    return rng.choice(MUTATORS)(data, rng)
