"""Executes the notebooks and stores what they print: ``python notebooks/run.py [--check] [NOTEBOOK …]``.

``--check`` writes nothing and ends with status 1 when a stored output is not what comes out now.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook with fresh outputs; raises nbclient.exceptions.CellExecutionError where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", record_timing=False, resources={"metadata": {"path": str(HERE)}}
    )
    client.execute()
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    return notebook


def main(arguments: list[str]) -> int:
    names = [a for a in arguments if not a.startswith("-")]
    stale = 0
    for path in [Path(n).resolve() for n in names] or sorted(HERE.glob("*.ipynb")):
        text = nbformat.writes(executed(path)) + "\n"
        if text == path.read_text():
            continue
        stale += 1
        print(f"{'out of date' if '--check' in arguments else 'renewed'}: {path.name}")
        if "--check" not in arguments:
            path.write_text(text)
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
