"""Whatever the bytes: a World or an InputError, soon, and nothing else.

``NATTRACE_FUZZ=N`` multiplies the number of examples (100: about 100,000 inputs). A failure prints the blob that repeats it.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
import time
import zipfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nattrace.sim.errors import InputError
from nattrace.sim.model.conntrack import Conn
from nattrace.sim.model.state import WorldState
from nattrace.sim.snapshot.conntrack import format_conntrack
from nattrace.sim.snapshot.infer import FlowFacts, infer_network
from nattrace.sim.snapshot.load import load_world

DATA = Path(__file__).parents[1] / "unit" / "snapshot" / "data"
SCALE = int(os.environ.get("NATTRACE_FUZZ", "1"))
SLOWEST = 1.0  # seconds for one input of some kilobytes, on a machine that has other work too

PROFILE = settings(
    max_examples=25 * SCALE,
    deadline=None,
    print_blob=True,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@cache
def seeds() -> dict[str, bytes]:
    """File name in a snapshot → a recorded dump."""
    found = {f.name: f.read_bytes() for form in ("json", "plain") for f in (DATA / form).iterdir()}
    found |= {f.name: f.read_bytes() for f in (DATA / "other").iterdir() if f.stem in OTHERS}
    found["conntrack.txt"] = b"".join(
        (DATA / "other" / f"conntrack-{form}.txt").read_bytes() for form in ("id", "proc")
    )
    found["snapshot.json"] = b'{"format": 1, "hosts": ["a"], "segments": [{"name": "x", "members": ["a:e0"]}]}'
    return found


OTHERS = frozenset((
    "expect", "fdb", "group", "hosts", "ipset", "iptables-save", "meta", "nft", "passwd", "sockets", "sysctl", "tc", "vlan",
    "xfrm",
))  # fmt: skip
NAMES = sorted(
    [f.name for form in ("json", "plain") for f in (DATA / form).iterdir()]
    + [f.name for f in (DATA / "other").iterdir() if f.stem in OTHERS]
    + ["conntrack.txt", "snapshot.json"]
)

# Pieces that readers trip over: empty and huge numbers, brackets, signs, foreign bytes
TOKENS = (
    b"", b"\n", b" ", b"\t", b"=", b":", b"/", b"-", b"-1", b"0x", b"0xzz", b"9" * 30, b"99999999999", b"\xff", b"\0", b'"',
    b"[", b"]", b"{", b"}", b"[]", b"{}", b"null", b"true", b"1e999", b"NaN", b",", b"10.0.0.0/8", b"::/0", b"fe80::1",
    b"0.0.0.0/0", b"0.0.0.0-255.255.255.255", b"::-ffff::", b"*", b"!", b"default", b"src=", b"dst=1.1.1.1", b"id=", 
    b"\xe2\x80\xa8",     "²".encode(), "٣".encode(), b"\\u0000", b"[" * 2000,
)  # fmt: skip
EDIT = st.tuples(
    st.sampled_from(("replace", "delete", "double", "swap")),
    st.floats(0, 1),
    st.integers(0, 40),
    st.sampled_from(TOKENS) | st.binary(max_size=6),
)
EDITS = st.lists(EDIT, min_size=1, max_size=6)


def edited(text: bytes, edits: list[tuple[str, float, int, bytes]]) -> bytes:
    for kind, place, length, token in edits:
        at = int(place * len(text))
        piece = text[at : at + length]
        if kind == "replace":
            text = text[:at] + token + text[at + length :]
        elif kind == "delete":
            text = text[:at] + text[at + length :]
        elif kind == "double":
            text = text[:at] + piece * 3 + text[at + length :]
        else:
            text = text[:at] + piece[::-1] + text[at + length :]
    return text


def outcome(path: Path | None, **options: object) -> None:
    """Load and use what was loaded; only an InputError may come out, and in time."""
    started = time.process_time()
    try:
        world = load_world(path, **options)
        state = WorldState(world)
        for host in world.hosts.values():
            for conn in host.conns:
                assert isinstance(conn, Conn) and format_conntrack(conn)
            state.host(host.name)
            infer_network(host, FlowFacts())
    except InputError as error:
        assert str(error)
    assert time.process_time() - started < SLOWEST


@pytest.mark.parametrize("name", NAMES)
@PROFILE
@given(edits=EDITS, strict=st.booleans())
def test_a_damaged_dump_is_a_world_or_an_input_error(name, edits, strict):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(edited(seeds()[name], edits))
        outcome(Path(folder), strict=strict)


@pytest.mark.parametrize("name", NAMES)
@settings(PROFILE, max_examples=5 * SCALE)
@given(
    text=st.text(max_size=200) | st.binary(max_size=200) | st.lists(st.sampled_from(TOKENS), max_size=20).map(b"".join)
)
def test_foreign_bytes_are_a_world_or_an_input_error(name, text):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(text.encode("utf-8", "replace") if isinstance(text, str) else text)
        outcome(Path(folder))


@settings(PROFILE, max_examples=20 * SCALE)
@given(kind=st.sampled_from(sorted({n.rpartition(".")[0] for n in NAMES} - {"snapshot"})), data=st.data())
def test_a_dump_under_the_wrong_name_is_a_world_or_an_input_error(kind, data):
    other = data.draw(st.sampled_from(NAMES))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        file.write_bytes(seeds()[other])
        outcome(None, single_files={kind: file})


# ── documents that are JSON, but not what a tool prints ──────────────────────────────────────────────────

SCALAR = (
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=8)
    | st.sampled_from(("10.0.0.1", "10.0.0.0/8", "::1", "default", "all", "unicast", "e0", "main", "0x10", "inet", "local"))
)  # fmt: skip
KEYS = st.sampled_from((
    "dst", "dev", "gateway", "via", "table", "type", "metric", "flags", "nexthops", "nhid", "metrics", "flow", "ifname",
    "ifindex", "addr_info", "local", "prefixlen", "family", "scope", "linkinfo", "info_data", "vlan_filtering", "state",
    "lladdr", "priority", "src", "srclen", "fwmark", "sport", "ipproto", "id", "group", "goto", "tos", "mtu", "host",
    "nftables", "chain", "rule", "expr", "hook", "prio", "hosts", "segments", "members", "name", "kernel", "captured_at",
))  # fmt: skip
DOCUMENT = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=20
)


@pytest.mark.parametrize("name", sorted(n for n in NAMES if n.endswith(".json")))
@PROFILE
@given(document=DOCUMENT | st.lists(st.dictionaries(KEYS, DOCUMENT, max_size=8), max_size=4))
def test_json_of_any_shape_is_a_world_or_an_input_error(name, document):
    import json

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_text(json.dumps(document))
        outcome(Path(folder))


# ── archives ─────────────────────────────────────────────────────────────────────────────────────────────


@cache
def archives() -> dict[str, bytes]:
    files = {
        "a/sysctl.txt": seeds()["sysctl.txt"],
        "a/route.json": seeds()["route.json"],
        "snapshot.json": seeds()["snapshot.json"],
    }
    packed: dict[str, bytes] = {}
    for suffix, mode in (("tar", "w"), ("tgz", "w:gz")):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=mode) as archive:
            for name, text in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text))
        packed[suffix] = out.getvalue()
    for suffix, method in (
        ("zip", zipfile.ZIP_DEFLATED),
        ("stored.zip", zipfile.ZIP_STORED),
        ("bz2.zip", zipfile.ZIP_BZIP2),
    ):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        packed[suffix] = out.getvalue()
    return packed


@pytest.mark.parametrize("suffix", ("tar", "tgz", "zip", "stored.zip", "bz2.zip"))
@settings(PROFILE, max_examples=60 * SCALE)
@given(edits=EDITS, head=st.booleans())
def test_a_damaged_archive_is_a_world_or_an_input_error(suffix, edits, head):
    if head:  # headers are where damage does most
        edits = [(kind, place / 50, length, token) for kind, place, length, token in edits]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"s.{suffix}"
        file.write_bytes(edited(archives()[suffix], edits))
        outcome(file)


@settings(PROFILE, max_examples=40 * SCALE)
@given(edits=EDITS)
def test_a_damaged_tar_in_a_sound_gzip_is_a_world_or_an_input_error(edits):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "s.tgz"
        file.write_bytes(gzip.compress(edited(archives()["tar"], edits), 1))
        outcome(file)
