"""Runs the commands of the README, the tutorials and the pages marked ``RERUN``, and puts what they print below them.

``python docs/tutorials/run.py`` rewrites every ```` ```console ```` block; ``--check`` only tells which are out of date
(status 1). A block holds lines ``$ nattrace …``, each followed by its output; paths are relative to the checkout.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path

from nattrace.tracer.cli import run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RERUN = "<!-- commands are rerun by docs/tutorials/run.py -->"
BLOCK = re.compile(r"(?m)^```console\n(.*?)^```$", re.DOTALL)


def output_of(command: str) -> str:
    """What a ``nattrace …`` line prints, trailing blanks removed."""
    words = shlex.split(command)
    if words[:1] != ["nattrace"]:
        raise ValueError(f"not a nattrace command: {command}")
    out = io.StringIO()
    with redirect_stdout(out):
        run(words[1:])
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def renewed(text: str) -> str:
    """The page with every block as the program prints it now."""

    def block(found: re.Match[str]) -> str:
        commands = [line[2:] for line in found[1].splitlines() if line.startswith("$ ")]
        return "```console\n" + "\n".join(f"$ {c}\n{output_of(c)}" for c in commands) + "```"

    return BLOCK.sub(block, text)


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print("usage: run.py [--check]", file=sys.stderr)
        return 2
    stale = 0
    os.chdir(ROOT)
    os.environ.pop("COLUMNS", None)  # pages are as wide as where nobody says; some readline has set it for its children
    marked = [page for page in sorted((ROOT / "docs").glob("**/*.md")) if RERUN in page.read_text()]
    for page in [ROOT / "README.md", *sorted(HERE.glob("*.md")), *marked]:
        old = page.read_text()
        new = renewed(old)
        if new == old:
            continue
        stale += 1
        print(f"{'out of date' if '--check' in arguments else 'renewed'}: {page.name}")
        if "--check" not in arguments:
            page.write_text(new)
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
