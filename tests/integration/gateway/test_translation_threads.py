"""Large messages are translated in separate threads."""

import asyncio
import gc
import threading

import pytest

from anthropic_proxy.gateway.translation_threads import LARGE_RESPONSE_BYTES, TranslationThreads
from tests.support.scripted_upstream import DEADLINE


def _where() -> tuple[str, bool]:
    """Return the name of the thread, and whether garbage is collected."""
    return threading.current_thread().name, gc.isenabled()


@pytest.mark.parametrize(
    ("size", "where"),
    [
        (LARGE_RESPONSE_BYTES - 1, ("MainThread", True)),
        (LARGE_RESPONSE_BYTES, ("translator_0", False)),
    ],
)
def test_a_large_response_is_translated_in_a_thread(size: int, where: tuple[str, bool]) -> None:
    threads = TranslationThreads()
    assert asyncio.run(threads.run_if_large(b"a" * size, _where)) == where
    assert gc.isenabled()
    threads.close()


def test_two_run_at_a_time_and_host_names_are_resolved_meanwhile() -> None:
    both = threading.Barrier(3)
    go_on, third = threading.Event(), threading.Event()

    def wait() -> bool:
        both.wait(DEADLINE)
        return go_on.wait(DEADLINE)

    def run_third() -> bool:
        third.set()
        return True

    async def main() -> None:
        threads = TranslationThreads()
        waiting = [asyncio.create_task(threads.run(wait)) for _ in range(2)]
        waiting.append(asyncio.create_task(threads.run(run_third)))
        # In the event loop's own threads, as host names are.
        await asyncio.to_thread(both.wait, DEADLINE)
        await asyncio.get_running_loop().getaddrinfo("localhost", 1)
        assert not third.is_set()
        go_on.set()
        assert await asyncio.gather(*waiting) == [True] * 3
        threads.close()

    asyncio.run(main())


def test_nothing_starts_after_the_end() -> None:
    threads = TranslationThreads()
    threads.close()
    with pytest.raises(RuntimeError, match="shutdown"):
        asyncio.run(threads.run(_where))
