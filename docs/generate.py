"""Writes docs/reference/ and docs/man/ from the program itself: commands, reason codes, matches, targets, schemas.

python docs/generate.py            # write
python docs/generate.py --check    # status 1 where a page is out of date
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent / "reference"
sys.path.insert(0, str(HERE.parent))
HEAD = "<!-- written by docs/generate.py; do not edit -->\n\n"


def pages() -> Iterator[tuple[str, str]]:
    """(file name, text) of every page."""
    yield "commands.md", "".join(_commands())
    yield "reasons.md", "".join(_reasons())
    yield "matches.md", "".join(_registry("match", "-m"))
    yield "targets.md", "".join(_registry("target", "-j"))
    yield "schemas.md", "".join(_schemas())


def _commands() -> Iterator[str]:
    import click
    from nattrace.tracer.cli import COMMANDS, cli

    yield "# Commands\n\n"
    with click.Context(cli, info_name="nattrace") as top:
        yield f"```\n{_help(cli, top)}\n```\n"
        for name in COMMANDS:
            command = cli.get_command(top, name)
            assert command is not None
            with click.Context(command, info_name=name, parent=top) as ctx:
                yield f"\n## nattrace {name}\n\n```\n{_help(command, ctx)}\n```\n"
                for sub in command.list_commands(ctx) if isinstance(command, click.Group) else ():
                    inner = command.get_command(ctx, sub)
                    assert inner is not None
                    with click.Context(inner, info_name=sub, parent=ctx) as below:
                        yield f"\n### nattrace {name} {sub}\n\n```\n{_help(inner, below)}\n```\n"


def _help(command: object, ctx: object) -> str:
    ctx.terminal_width = 96  # type: ignore[attr-defined]
    return str(command.get_help(ctx)).rstrip()  # type: ignore[attr-defined]


def _reasons() -> Iterator[str]:
    from nattrace.sim.explain.reasons import codes

    yield "# Reason and diagnosis codes\n\nA reason explains the outcome; a diagnosis why it is not what was wanted.\n"
    for c in codes():
        yield f"\n## `{c.code}`\n\n*{c.kind}*: {c.title}\n\n{c.meaning}\n\nShows: {c.shows}\n"
        if c.cure:
            yield "\n```\n" + "\n".join(c.cure) + "\n```\n"
        if c.kernel:
            yield f"\nKernel: `{c.kernel}`\n"
        if c.see:
            yield "\nSee " + ", ".join(f"[`{s}`](#{s})" for s in c.see) + "\n"


def _registry(kind: str, flag: str) -> Iterator[str]:
    from nattrace.sim.rules import registry

    names = registry.match_names() if kind == "match" else registry.target_names()
    find = registry.find_match if kind == "match" else registry.find_target
    yield f"# {'Matches' if kind == 'match' else 'Targets'}\n\n| name | what | example |\n|---|---|---|\n"
    for name in names:
        info = find(name)
        if info is None:
            continue
        about = sys.modules[info.cls.__module__].__doc__ or info.cls.__doc__ or ""
        summary = about.strip().split("\n")[0].replace("|", "\\|")
        example = info.doc.replace("|", "\\|")
        yield f"| `{flag} {name}` | {summary} | `{example}` |\n"


def _schemas() -> Iterator[str]:
    from nattrace.sim.render.schema import SCHEMAS

    yield "# JSON Schemas\n\n`nattrace schema NAME` prints the same.\n"
    for name, make in SCHEMAS.items():
        yield f"\n## {name}\n\n{(make.__doc__ or '').strip()}\n\n```json\n{json.dumps(make(), indent=1)}\n```\n"


def documents() -> Iterator[tuple[Path, str]]:
    """Every file and what it holds."""
    import manpage

    for name, text in pages():
        yield HERE / name, HEAD + text
    yield manpage.PATH, '.\\" written by docs/generate.py; do not edit\n' + manpage.manual()


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them with what is there."""
    stale = []
    for path, text in documents():
        path.parent.mkdir(exist_ok=True)
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.name)
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"{'out of date' if '--check' in arguments else 'written'}: {', '.join(stale)}")
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
