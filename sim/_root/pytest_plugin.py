"""The pytest plugin: ``--nattrace-snapshot PATH`` and the fixture ``nattrace_snapshot``.

Registered under the entry point group ``pytest11``; it imports the simulator only when the fixture is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .sim.notebook import Snapshot


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("nattrace", "flows through a rule set")
    group.addoption("--nattrace-snapshot", metavar="PATH", help="snapshot that the fixture nattrace_snapshot loads")
    parser.addini("nattrace_snapshot", "the same, relative to the file that says it", default="")


@pytest.fixture(scope="session")
def nattrace_snapshot(request: pytest.FixtureRequest) -> Snapshot:
    """The snapshot named by ``--nattrace-snapshot``, or by ``nattrace_snapshot =`` of pytest's configuration."""
    from .sim.errors import NattraceError
    from .sim.notebook import load

    config = request.config
    given = config.getoption("--nattrace-snapshot")
    named = config.getini("nattrace_snapshot")
    if not given and not named:
        pytest.fail(
            "no snapshot: run pytest with --nattrace-snapshot PATH, or set nattrace_snapshot in its configuration"
        )
    path = given
    if not path:
        here = config.inipath.parent if config.inipath else config.rootpath
        path = here / named if (here / named).exists() else named
    try:
        return load(path, strict=True)
    except NattraceError as error:
        pytest.fail(f"nattrace: {error}", pytrace=False)
