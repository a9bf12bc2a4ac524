"""One browser for all tests of pages: starting it takes as long as the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nattrace as nt
import pytest
from nattrace.sim.render.html import page
from pages.browser import QUESTIONS, Browser, chromium


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page for each kind of answer."""
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for name, (snapshot, flow, changes) in QUESTIONS.items():
        found[name] = folder / f"{name}.html"
        found[name].write_text(page(nt.load(snapshot).why(flow, **changes)._explanation), encoding="utf-8")
    return found
