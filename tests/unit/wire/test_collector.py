"""The garbage collector is held back for a moment, and never for good."""

import gc

import pytest

from anthropic_proxy.wire import collector


def test_nothing_is_collected_within() -> None:
    with collector.pause_garbage_collection():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_is_enabled_after_a_failure() -> None:
    with pytest.raises(ValueError, match="x"), collector.pause_garbage_collection():
        raise ValueError("x")
    assert gc.isenabled()


def test_it_is_enabled_after_two_threads_in_any_order() -> None:
    """Another thread may have disabled it at the beginning, and enabled it before the end."""
    first, second = collector.pause_garbage_collection(), collector.pause_garbage_collection()
    first.__enter__()
    second.__enter__()
    gc.disable()
    first.__exit__(None, None, None)
    gc.disable()
    second.__exit__(None, None, None)
    assert gc.isenabled()
