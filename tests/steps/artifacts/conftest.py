"""The fixtures of core's tests."""

from tests.core.conftest import one_thread, pictures, weights_of

__all__ = ["one_thread", "pictures", "weights_of"]
