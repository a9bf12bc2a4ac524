"""The notebooks run from top to bottom, and the outputs stored in them are today's."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.mark.parametrize("notebook", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_prints_what_is_stored_in_it(notebook: Path) -> None:
    spec = importlib.util.spec_from_file_location("notebooks_run", NOTEBOOKS / "run.py")
    assert spec and spec.loader
    runner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runner)
    fresh = runner.executed(notebook)
    stored = json.loads(notebook.read_text())
    for now, then in zip(fresh.cells, stored["cells"], strict=True):
        if now.cell_type == "code":
            assert [text_of(o) for o in now.outputs] == [text_of(o) for o in then["outputs"]], (
                "run: python notebooks/run.py"
            )


def text_of(output: dict) -> str:
    """The plain text of an output; images and HTML are made from the same data."""
    text = output.get("text") or output.get("data", {}).get("text/plain", "")
    return "".join(text)
