"""Fixtures of core's tests that these share."""

from tests.core.conftest import pictures as pictures
