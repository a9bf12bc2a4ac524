"""Assertions about flows for your own tests; see :mod:`nattrace.sim.testing`."""

from __future__ import annotations

from .sim.testing import assert_delivered, assert_dropped, assert_expect, assert_unchanged

__all__ = ["assert_delivered", "assert_dropped", "assert_expect", "assert_unchanged"]
