"""The garbage collector is held back for a moment, and never for good."""

import gc

import pytest

from anthropic_proxy.wire import collector


def test_nothing_is_collected_within() -> None:
    with collector.held_back():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_is_enabled_after_a_failure() -> None:
    with pytest.raises(ValueError, match="x"), collector.held_back():
        raise ValueError("x")
    assert gc.isenabled()


def test_it_is_enabled_after_two_threads_in_any_order() -> None:
    """Another thread may have disabled it at the beginning, and have enabled it again before the end."""
    first, second = collector.held_back(), collector.held_back()
    first.__enter__()
    second.__enter__()
    gc.disable()
    first.__exit__(None, None, None)
    gc.disable()
    second.__exit__(None, None, None)
    assert gc.isenabled()
