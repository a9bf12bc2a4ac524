"""Completion in the shells themselves: the script is sourced, the line typed so far given, the offers read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SNAP = ["nattrace", "why", "-S", "twice-through-conntrack"]
LINES = [
    (["nattrace", "wh"], {"why", "what"}),
    (["nattrace", "why", "--mer"], {"--mermaid"}),
    (["nattrace", "why", "-S", "twice-through-conntrack.zone-"], {f"twice-through-conntrack.zone-{n}" for n in ("on-proxy-only", "orig", "reply")}),
    ([*SNAP, "10.10.1.1", "to", "8.8.8.8", "at", "cl"], {"client"}),
    ([*SNAP, "10.10.1.1", "to", "8.8.8.8", "in", "prox"], {"proxy-veth0"}),
    (["nattrace", "explain", "rp_"], {"rp_filter"}),
    (["nattrace", "lab", "u"], {"up"}),
    (["nattrace", "tour", "--scenario", "two"], {"two-uplinks"}),
    (["nattrace", "what", "-S", "two-uplinks", "--at", "ec2"], {"ec2a", "ec2b"}),
]  # fmt: skip


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A path on which ``nattrace`` is this interpreter's."""
    program = tmp_path / "nattrace"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from nattrace.tracer.cli import main; main()' \"$@\"\n")
    program.chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "TERM": "dumb", "LC_ALL": "C.UTF-8"}


def offers(shell: list[str], script: str, env: dict[str, str], *words: str) -> set[str]:
    done = subprocess.run(
        [*shell, "-c", script, "x", *words], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return {line.split("\t")[0] for line in done.stdout.split("\n") if line}


BASH = """source <(nattrace completion bash); compopt() { :; }; shift 0
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _nattrace_completion nattrace; printf '%s\\n' "${COMPREPLY[@]}" """


@pytest.mark.parametrize(("words", "expected"), LINES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_bash(words: list[str], expected: set[str], env: dict[str, str]) -> None:
    assert offers(["bash", "--norc"], BASH, env, *words) == expected


def test_bash_within_a_quoted_flow(env: dict[str, str]) -> None:
    found = offers(["bash", "--norc"], BASH, env, *SNAP, "'icmp 10.10.1.1 -> 8.8.8.8 at cl")
    assert found == {"icmp 10.10.1.1 -> 8.8.8.8 at client"}


def test_bash_really_registers_it(env: dict[str, str]) -> None:
    assert any(
        "_nattrace_completion" in line
        for line in offers(["bash", "--norc"], "source <(nattrace completion bash); complete -p nattrace", env)
    )


@pytest.mark.parametrize(("words", "expected"), LINES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_fish(words: list[str], expected: set[str], env: dict[str, str]) -> None:
    line = " ".join(words)
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"nattrace completion fish | source; complete -C '{line}'"],
        env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {offer.split("\t")[0] for offer in done.stdout.splitlines()} == expected


# what zsh's completion system would be handed: its helpers need a terminal, so they are replaced by ones that print
ZSH = """autoload() { :; }; compdef() { :; }
_describe() { eval "print -rl -- \\"\\${${3}[@]}\\"" }
compadd() { local a; for a in "$@"; do [[ $a == -* ]] || eval "print -rl -- \\"\\${${a}[@]}\\""; done }
_path_files() { :; }
eval "$(nattrace completion zsh)"; words=("$@"); CURRENT=$#; _nattrace_completion"""


@pytest.mark.parametrize(("words", "expected"), LINES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_zsh(words: list[str], expected: set[str], env: dict[str, str]) -> None:
    found = offers(["zsh", "-f"], ZSH, env, *words)
    assert {offer.split(":")[0] for offer in found} == expected
