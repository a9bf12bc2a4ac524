"""What is installed is what is in the tree, and the layers import in one direction only."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PLACES = {"nattrace.sim": ROOT / "sim", "nattrace.tracer": ROOT / "tracer", "nattrace.bpf": ROOT / "bpf"}
HEAVY = ("bcc", "netfilterqueue", "scapy", "pyroute2", "numpy", "pandas", "rich")


def modules_of(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*.py") if "__pycache__" not in p.parts]


def test_every_package_of_the_tree_is_listed_and_every_listed_one_exists() -> None:
    found = {"nattrace"}
    for name, place in PLACES.items():
        for init in place.rglob("__init__.py"):
            if "_root" not in init.parts:
                found.add(".".join([name, *init.parent.relative_to(place).parts]))
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == found


def test_every_file_of_the_bundled_snapshots_matches_a_package_data_pattern() -> None:
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["nattrace.sim"]
    shipped = {path for pattern in patterns for path in (ROOT / "sim").glob(pattern)}
    present = {path for path in (ROOT / "sim" / "snapshots").rglob("*") if path.is_file()}
    assert present
    assert present <= shipped


def imports_of(path: Path) -> list[str]:
    """Absolute names of everything a module imports, wherever in it."""
    place = next(name for name, folder in PLACES.items() if path.is_relative_to(folder))
    package = [*place.split("."), *path.relative_to(PLACES[place]).parts[:-1]]
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            names.append(".".join([*base, *(node.module.split(".") if node.module else [])]))
    return names


FORBIDDEN = {  # who must never import whom
    "model": ("snapshot", "rules", "matches", "targets", "engine", "explain", "render"),
    "snapshot": ("engine", "explain", "render"),
    "engine": ("snapshot", "explain", "render"),
    "explain": ("render",),
}
TYPE_ONLY = {("model", "engine")}  # the rule model names the engine's Ctx in annotations


def test_the_offline_half_never_imports_the_live_half() -> None:
    for path in modules_of(ROOT / "sim"):
        if "_root" in path.parts:
            continue
        assert not [n for n in imports_of(path) if n.startswith(("nattrace.tracer", "nattrace.bpf"))], path


def test_layers_import_downwards_only() -> None:
    wrong = []
    for layer, above in FORBIDDEN.items():
        for path in modules_of(ROOT / "sim" / layer):
            for name in imports_of(path):
                for other in above:
                    if name.startswith(f"nattrace.sim.{other}") and (layer, other) not in TYPE_ONLY:
                        wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_answering_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "import nattrace.sim.engine.play, nattrace.sim.snapshot.load, nattrace.sim.flow, nattrace.sim.explain.answer\n"
        "import nattrace.sim.render.text\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_tree_is_importable_under_one_name_only() -> None:
    import nattrace.sim.model.addr  # noqa: F401

    assert not [name for name in ("sim", "tracer") if name in sys.modules]
