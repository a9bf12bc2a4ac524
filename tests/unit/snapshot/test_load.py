"""A snapshot as a whole: shapes it comes in, what it may not do, what it says."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tarfile
import zipfile

import pytest
from nattrace.sim.errors import ErrorList, InputError, SnapshotError
from nattrace.sim.model.addr import AF_INET
from nattrace.sim.snapshot import source
from nattrace.sim.snapshot.load import bundled, bundled_names, load_world

ROUTE = '[{"dst":"default","gateway":"10.0.0.1","dev":"eth0"}]'
LINK = '[{"ifindex":2,"ifname":"eth0","flags":["UP"]}]'
PLAN = {"format": 1, "hosts": ["a", "b"], "segments": [{"name": "lan", "members": ["a:eth0", "b:eth0"]}]}
SEVERAL = {"snapshot.json": json.dumps(PLAN), "a/route.json": ROUTE, "a/link.json": LINK, "b/link.json": LINK}


def tar_of(files, mode="w", prefix=""):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def zip_of(files, prefix=""):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(prefix + name, text)
    return out.getvalue()


SHAPES = {
    "s.tar": lambda: tar_of(SEVERAL),
    "s.tar.gz": lambda: tar_of(SEVERAL, "w:gz"),
    "s.tgz": lambda: tar_of(SEVERAL, "w:gz", "snap/"),
    "dotted.tar": lambda: tar_of(SEVERAL, prefix="./"),
    "s.zip": lambda: zip_of(SEVERAL),
    "inner.zip": lambda: zip_of(SEVERAL, "snap/"),
    "unnamed": lambda: zip_of(SEVERAL),
}


@pytest.mark.parametrize("name", SHAPES)
def test_an_archive_is_the_directory(tmp_path, name):
    (tmp_path / name).write_bytes(SHAPES[name]())
    made = load_world(tmp_path / name)
    assert list(made.hosts) == ["a", "b"] and made.segment_of("b", "eth0").name == "lan"
    assert made.hosts["a"].file_of == {"route": "a/route.json", "link": "a/link.json"}
    assert str(made.hosts["a"].routes[AF_INET, 254][0].where) == "a/route.json"


def test_a_flat_host_is_called_as_its_folder_or_archive(tmp_path):
    (tmp_path / "router").mkdir()
    (tmp_path / "router" / "route.json").write_text(ROUTE)
    (tmp_path / "box.tgz").write_bytes(tar_of({"route.json": ROUTE}, "w:gz"))
    assert list(load_world(tmp_path / "router").hosts) == ["router"]
    assert list(load_world(tmp_path / "box.tgz").hosts) == ["box"]
    assert load_world(tmp_path / "router").hosts["router"].file_of == {"route": "route.json"}


def test_one_host_in_its_folder_keeps_its_name(world):
    assert list(world({"router/route.json": ROUTE}).hosts) == ["router"]


def test_folders_without_a_plan_are_hosts_at_the_edge(world):
    made = world({"a/link.json": LINK, "b/link.json": LINK, "doc/README": "x"})
    assert list(made.hosts) == ["a", "b"] and made.segments == ()
    assert "ignored, not a file of a snapshot: doc/README" in made.notes
    assert "no segments" in made.notes[-1]


def test_unknown_files_are_noted_not_read(world):
    made = world({"route.json": ROUTE, "photo.jpg": b"\0\1", ".hidden": "x"})
    assert "ignored, not a file of a snapshot: photo.jpg" in made.notes


def test_json_wins_over_text_and_says_so(world):
    made = world({"route.json": ROUTE, "route.txt": "rubbish"})
    assert "route.txt is not read: route.json tells the same" in made.notes


def test_errors_of_all_files_are_reported(world):
    with pytest.raises(ErrorList) as caught:
        world({"route.json": "{}", "sysctl.txt": "x\ny\n", "sockets.txt": "foo bar\n", "meta.json": "[]"})
    places = [str(e.where) for e in caught.value.errors]
    assert places == ["meta.json:1", "sysctl.txt:1", "sysctl.txt:2", "sockets.txt:1", "route.json:1"]


def test_a_file_of_errors_is_cut_short(world):
    with pytest.raises(ErrorList) as caught:
        world({"sysctl.txt": "x\n" * 1000})
    assert len(caught.value.errors) == 26 and "975 more" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    (
        ({"format": 2}, "format '2' is not known"),
        ({"hosts": ["a", "c"]}, "host 'c' has no folder"),
        ({"hosts": ["../a"]}, "hosts: expected a list of names"),
        ({"hosts": ["a", "b", "b"]}, "a name appears twice"),
        ({"segments": [{"name": "x", "members": ["z:eth0"]}]}, "no host 'z'"),
        ({"segments": [{"name": "x", "members": ["a:eth9"]}]}, "a has no interface 'eth9'"),
        ({"segments": [{"name": "x", "members": ["a"]}]}, "expected host:interface"),
        ({"segments": [{"name": "x", "members": ["a:eth0"]}, {"name": "y", "members": ["a:eth0"]}]}, "segments x and y"),
    ),
)  # fmt: skip
def test_a_wrong_plan(world, change, message):
    with pytest.raises(InputError, match=message):
        world({**SEVERAL, "snapshot.json": json.dumps({**PLAN, **change})})


def test_powershell_and_windows_line_ends(world):
    made = world({"sysctl.txt": "net.ipv4.ip_forward = 1\r\n".encode("utf-16"), "hosts.txt": "10.0.0.1 a\r\n"})
    (only,) = made.hosts.values()
    assert only.sysctl["net.ipv4.ip_forward"].value == "1" and "a" in only.names


def test_bytes_that_are_not_text(world):
    assert "hosts.txt:2: not UTF-8" in world({"hosts.txt": b"10.0.0.1 a\n10.0.0.2 \xff\n"}).notes[0]


def test_nul_bytes_are_refused(world):
    with pytest.raises(SnapshotError, match=r"sysctl\.txt:2: holds NUL"):
        world({"sysctl.txt": b"a = 1\n\0"})


@pytest.mark.parametrize(
    "text", ("[" * 100_000, '[{"dst":"default","metric":' + "9" * 5000 + "}]", '[{"dst":NaN}]', '"x"', "null")
)
def test_json_that_no_tool_prints(world, text):
    with pytest.raises(InputError, match=r"route\.json"):
        world({"route.json": text})


# ── what an archive may not do ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ("../route.json", "/etc/route.json", "a/../../route.json", "C:\\route.json"))
def test_a_path_may_not_leave_the_archive(tmp_path, name):
    for file, data in (("x.tar", tar_of({name: ROUTE})), ("x.zip", zip_of({name: ROUTE}))):
        (tmp_path / file).write_bytes(data)
        with pytest.raises(InputError, match="its path leads out"):
            load_world(tmp_path / file)


@pytest.mark.parametrize("kind", (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE))
def test_links_and_devices_in_an_archive_are_refused(tmp_path, kind):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("passwd.txt")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    (tmp_path / "x.tar").write_bytes(out.getvalue())
    with pytest.raises(InputError, match="a link or a device"):
        load_world(tmp_path / "x.tar")


def test_a_link_out_of_the_directory_is_refused(tmp_path):
    (tmp_path / "snap").mkdir()
    (tmp_path / "secret").write_text("net.ipv4.ip_forward = 1\n")
    (tmp_path / "snap" / "sysctl.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="the link leads out"):
        load_world(tmp_path / "snap")


def test_a_link_within_the_directory_is_followed(tmp_path):
    (tmp_path / "real.txt").write_text("net.ipv4.ip_forward = 1\n")
    (tmp_path / "sysctl.txt").symlink_to(tmp_path / "real.txt")
    (only,) = load_world(tmp_path).hosts.values()
    assert "net.ipv4.ip_forward" in only.sysctl


@pytest.fixture
def small_limits(monkeypatch):
    monkeypatch.setattr(source, "MAX_FILE", 1 << 20)
    monkeypatch.setattr(source, "MAX_TOTAL", 2 << 20)
    monkeypatch.setattr(source, "MAX_MEMBERS", 50)


@pytest.mark.usefixtures("small_limits")
def test_bombs_end_at_the_limit(tmp_path):
    big = {f"{name}.txt": "#" * (1 << 20) for name in ("sysctl", "conntrack", "sockets")}
    shapes = {
        "one.zip": zip_of({"sysctl.txt": "#" * (3 << 20)}),
        "sum.zip": zip_of(big),
        "one.tgz": tar_of({"sysctl.txt": "#" * (3 << 20)}, "w:gz"),
        "sum.tgz": tar_of(big, "w:gz"),
        "unread.tgz": gzip.compress(tar_of({f"{n}.bin": "#" * (1 << 20) for n in range(8)})),
    }
    for name, data in shapes.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match="larger than"):
            load_world(tmp_path / name)


@pytest.mark.usefixtures("small_limits")
def test_too_many_members(tmp_path):
    many = {f"{n}.txt": "" for n in range(60)}
    for name, data in (("m.zip", zip_of(many)), ("m.tar", tar_of(many))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match="more than 50 files"):
            load_world(tmp_path / name)


def test_a_long_extended_header_is_refused_before_it_is_parsed(tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("sysctl.txt")
        info.pax_headers = {"comment": "1" * 100_000}
        archive.addfile(info)
    (tmp_path / "x.tar").write_bytes(out.getvalue())
    with pytest.raises(InputError, match="extended header is too long"):
        load_world(tmp_path / "x.tar")


@pytest.mark.parametrize("part", (0.01, 0.3, 0.7, 0.9, 0.99))
def test_a_cut_archive_is_an_input_error(tmp_path, part):
    for name in ("s.tar", "s.tgz", "s.zip"):
        whole = SHAPES[name]().rstrip(b"\0")
        (tmp_path / name).write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(InputError):
            load_world(tmp_path / name)


# ── names, single files, start-up ────────────────────────────────────────────────────────────────────────


def test_bundled_snapshots_are_found_by_name():
    for name in bundled_names():
        assert bundled(name).exists()
    assert bundled("../model") is None and bundled("") is None


@pytest.mark.parametrize(
    ("name", "hint"),
    [("no-such-thing", "bundled one: "), ("two-uplink", "did you mean two-uplinks"), ("", "bundled one: ")],
)
def test_an_unknown_name_is_told_the_nearest_or_all(name, hint):
    with pytest.raises(SnapshotError, match="no such snapshot") as caught:
        load_world(name)
    assert hint in caught.value.remedy


def test_what_is_no_snapshot(tmp_path):
    (tmp_path / "x").write_text("hello")
    with pytest.raises(SnapshotError, match="not a snapshot"):
        load_world(tmp_path / "x")


def test_single_files_alone_and_on_top(tmp_path):
    (tmp_path / "r").write_text("default via 10.0.0.1 dev eth0\n")
    (tmp_path / "s").write_text("net.ipv4.ip_forward = 1\n")
    made = load_world(None, single_files={"route": tmp_path / "r", "sysctl": tmp_path / "s"})
    (only,) = made.hosts.values()
    assert only.routes[AF_INET, 254][0].where.line == 1 and only.files == {"route", "sysctl"}
    (tmp_path / "snap").mkdir()
    (tmp_path / "snap" / "sysctl.txt").write_text("net.ipv4.ip_forward = 0\n")
    (top,) = load_world(tmp_path / "snap", single_files={"sysctl": tmp_path / "s"}).hosts.values()
    assert top.sysctl["net.ipv4.ip_forward"].value == "1"


def test_a_single_file_may_be_json(tmp_path):
    (tmp_path / "r").write_text(ROUTE)
    (only,) = load_world(None, single_files={"route": tmp_path / "r"}).hosts.values()
    assert (AF_INET, 254) in only.routes


def test_single_files_need_a_known_kind(tmp_path):
    with pytest.raises(SnapshotError, match="unknown kind of dump 'x'"):
        load_world(None, single_files={"x": tmp_path})


def test_a_missing_single_file(tmp_path):
    with pytest.raises(SnapshotError, match=r"cannot be read|no such"):
        load_world(None, single_files={"route": tmp_path / "nope"})


def test_conntrack_of_several_hosts_in_one_file(world):
    line = "udp 17 29 src=1.1.1.1 dst=2.2.2.2 sport=5 dport=6 src=2.2.2.2 dst=1.1.1.1 sport=6 dport=5 mark=0 use=1\n"
    made = world({**SEVERAL, "conntrack.txt": f"# host a\n{line}# host b\n{line}{line}"})
    assert [len(h.conns) for h in made.hosts.values()] == [1, 2]


def test_loading_imports_only_what_the_files_need(tmp_path):
    (tmp_path / "sysctl.txt").write_text("net.ipv4.ip_forward = 1\n")
    code = (
        "import sys, pathlib; before = set(sys.modules);"
        "from nattrace.sim.snapshot.load import load_world;"
        f"load_world({str(tmp_path)!r}); print(*(set(sys.modules) - before))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    unwanted = {"json", "tarfile", "zipfile", "gzip", "ipaddress", "rich"} | {
        f"nattrace.sim.snapshot.{name}" for name in ("iproute", "ipset", "conntrack", "nft", "sockets")
    }
    assert not unwanted & set(loaded)


def test_a_member_without_a_name_is_refused(tmp_path):
    (tmp_path / "x.zip").write_bytes(zip_of({"hidden": "x", "sysctl.txt": ""}).replace(b"hidden", b"\0idden"))
    with pytest.raises(InputError, match="its path leads out"):
        load_world(tmp_path / "x.zip")


def test_odd_names_beside_the_dumps_are_no_error(world):
    assert list(world({"a:b\n": "x", "c\\d": "y", "sysctl.txt": ""}).hosts)


def test_a_host_that_iptables_save_alone_tells_of(tmp_path):
    (tmp_path / "save").write_text("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n")
    (only,) = load_world(None, single_files={"iptables-save": tmp_path / "save"}).hosts.values()
    assert (only.name, [t.name for t in only.tables]) == ("host", ["filter"])


def test_a_file_of_endless_small_things_is_refused_before_it_fills_the_memory(world, monkeypatch):
    from nattrace.sim.snapshot import load

    monkeypatch.setattr(load, "MOST_LINES", 5)
    monkeypatch.setattr(load, "MOST_VALUES", 5)
    with pytest.raises(InputError, match=r"sysctl\.txt: more than 5 lines"):
        world({"sysctl.txt": "a.b = 1\n" * 6})
    with pytest.raises(InputError, match=r"route\.json: more than 5 values"):
        world({"sysctl.txt": "", "route.json": "[" + "{}," * 6 + "{}]"})
