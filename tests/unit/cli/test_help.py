"""Every help has examples, every example works, and the manual is what a manual reader takes without a complaint."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from nattrace.sim.snapshot.load import BUNDLED
from nattrace.tracer.cli import COMMANDS, cli
from nattrace.tracer.cli.table import spelled

ROOT = Path(__file__).resolve().parents[3]
# what serves, watches the kernel or builds namespaces is tried elsewhere (tests/pages, tests/live, below): here its words
SPOKEN = ("view", "trace", "confirm", "watch", "lab", "mcp")


def commands() -> Iterator[tuple[str, click.Command]]:
    with click.Context(cli, info_name="nattrace") as top:
        for name in COMMANDS:
            command = cli.get_command(top, name)
            assert command is not None
            yield name, command
            for below, inner in command.commands.items() if isinstance(command, click.Group) else ():
                yield f"{name} {below}", inner


def help_of(name: str, command: click.Command) -> str:
    with click.Context(command, info_name=name) as ctx:
        return command.get_help(ctx)


def examples(text: str) -> list[str]:
    _, _, after = text.partition("Examples:")
    lines = [line.strip() for line in after.split("\n")]
    return [line for line in lines if line.startswith(("nattrace ", "echo "))]


ALL = [(name, line) for name, command in commands() for line in examples(help_of(name, command))]


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda v: v if isinstance(v, str) else "")
def test_every_help_has_examples(name: str, command: click.Command) -> None:
    assert examples(help_of(name, command)), f"tracer/cli/examples.py: {name}"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    for place in (".local/share/bash-completion/completions", ".zfunc", ".config/fish/completions"):
        (folder / place).mkdir(parents=True)
    program = folder / "nattrace"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from nattrace.tracer.cli import main; main()' \"$@\"\n")
    program.chmod(0o755)
    for name in ("eth1.pcap", "lan.pcap", "wan.pcap"):  # one echo request of the bundled host, as a capture of it
        (folder / name).write_bytes(_capture())
    return folder


def _capture() -> bytes:
    import struct

    packet = bytes.fromhex("4500001c000000004001 0000 0a000002 08080808 0800 0000 0001 0001".replace(" ", ""))
    frame = bytes(12) + b"\x08\x00" + packet
    return (
        struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
        + struct.pack("<IIII", 1, 0, len(frame), len(frame))
        + frame
    )


@pytest.mark.parametrize(("name", "line"), [e for e in ALL if e[0].split()[0] not in SPOKEN], ids=lambda v: v[:60])
def test_every_example_works(name: str, line: str, desk: Path) -> None:
    import tarfile

    if "router.tar.gz" in line and name != "snapshot":
        with tarfile.open(desk / "router.tar.gz", "w:gz") as archive:
            archive.add(_router(desk), "router")
    env = os.environ | {"PATH": f"{desk}:{os.environ['PATH']}", "HOME": str(desk)}
    (desk / "report.tar.gz").unlink(missing_ok=True)
    if name == "snapshot":
        (desk / "router.tar.gz").unlink(missing_ok=True)
    done = subprocess.run(
        ["bash", "-c", line], cwd=desk, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert "Traceback" not in done.stderr


def _router(desk: Path) -> Path:
    """A host with eth0 and eth1."""
    import json
    import shutil

    folder = desk / "router"
    if not folder.exists():
        shutil.copytree(BUNDLED / "two-uplinks" / "nat", folder)
        assert {link["ifname"] for link in json.loads((folder / "link.json").read_text())} >= {"eth0", "eth1"}
    return folder


@pytest.mark.parametrize(("name", "line"), [e for e in ALL if e[0].split()[0] in SPOKEN], ids=lambda v: v[:60])
def test_the_words_of_the_others_are_understood(name: str, line: str) -> None:
    words = shlex.split(line.replace("->", "to"), comments=True)
    words = spelled(words[words.index("nattrace") + 1 :])
    with click.Context(cli, info_name="nattrace") as ctx:
        command = cli.get_command(ctx, words.pop(0))
        while isinstance(command, click.Group):
            command = command.get_command(ctx, words.pop(0))
        assert command is not None
        command.make_context("x", words, parent=ctx)


@pytest.mark.kernel
def test_the_examples_of_lab_work(desk: Path) -> None:
    env = os.environ | {"PATH": f"{desk}:{os.environ['PATH']}"}
    for line in [line.replace("demo", f"hx{os.getpid()}") for name, line in ALL if name == "lab"]:
        done = subprocess.run(
            ["bash", "-c", line], cwd=desk, env=env, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, line + done.stdout + done.stderr


# ------------------------------------------------------------------------------------------------ the manual


def test_the_manual_is_clean() -> None:
    page = ROOT / "docs" / "man" / "nattrace.1"
    lint = subprocess.run(["mandoc", "-Tlint", "-W", "all", page], capture_output=True, text=True, check=False)
    assert (lint.stdout, lint.returncode) == ("", 0)
    env = os.environ | {"MANWIDTH": "80", "LC_ALL": "C.UTF-8"}
    shown = subprocess.run(["man", "--warnings", "-l", page], capture_output=True, text=True, env=env, check=False)
    assert shown.stderr == ""
    for name, _ in commands():
        assert f"nattrace {name}" in " ".join(shown.stdout.split())
