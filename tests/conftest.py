"""What holds for the whole suite: on CI nothing may be skipped, and a run leaves no namespace behind."""

from __future__ import annotations

import os

import pytest

for _name in (
    "COLUMNS",
    "LINES",
):  # answers are as wide as where nobody says; readline may have set these behind os.environ
    os.environ.pop(_name, None)
    os.unsetenv(_name)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With NATTRACE_CI set, a skipped test is a failure: the machine lacks something that it should have."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("NATTRACE_CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
