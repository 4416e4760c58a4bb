"""Fixtures of these tests."""

from tests.support.streaming import run  # noqa: F401 - tests find it here
