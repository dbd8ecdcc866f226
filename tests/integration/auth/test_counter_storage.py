"""Storages for rate limit counters: all types behave in the same way."""

import asyncio
import sqlite3
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest
from limits.aio.storage import Storage

from anthropic_proxy.auth import counter_storage
from anthropic_proxy.auth.counter_storage import open_storage
from anthropic_proxy.errors import ConfigError
from tests.support.redis_server import running_redis
from tests.support.scripted_upstream import DEADLINE

SECONDS = 60


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URL of a running Redis server."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(params=["memory", "sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        return str(request.getfixturevalue("redis"))
    return {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/limits.db"}[request.param]


def _run_with_storage(url: str, work: Callable[[Storage], Awaitable[None]]) -> None:
    async def main() -> None:
        opened = open_storage(url)
        await work(opened.storage)
        await opened.aclose()

    asyncio.run(main())


def test_counters_are_incremented_and_cleared(url: str) -> None:
    async def work(counters: Storage) -> None:
        await counters.reset()
        assert await counters.check()
        assert await counters.get("a") == 0
        assert [await counters.incr("a", SECONDS), await counters.incr("a", SECONDS, 5)] == [1, 6]
        assert sorted(
            await asyncio.gather(*(counters.incr("b", SECONDS) for _ in range(20)))
        ) == list(range(1, 21))
        assert [await counters.get("a"), await counters.get("b")] == [6, 20]
        expiry = await counters.get_expiry("a")
        assert await counters.get_expiry("b") >= expiry
        await counters.clear("a")
        assert [await counters.get("a"), await counters.get("b")] == [0, 20]

    _run_with_storage(url, work)


def test_counters_in_a_file_are_kept_until_their_window_ends(tmp_path: Path) -> None:
    path = f"sqlite:///{tmp_path}/limits.db"
    now = time.time()

    async def count(counters: Storage) -> None:
        assert await counters.incr("month", 100) == 1
        assert await counters.incr("minute", 10) == 1

    async def count_later(counters: Storage) -> None:
        assert await counters.get("minute") == 0
        assert await counters.incr("minute", 10, 3) == 3
        assert await counters.incr("month", 100) == 2
        assert (await counters.get_expiry("minute"), await counters.get_expiry("month")) == (
            now + 30,
            now + 100,
        )

    for elapsed, work in ((0, count), (20, count_later)):
        with mock.patch.object(time, "time", return_value=now + elapsed):
            _run_with_storage(path, work)


def test_two_storages_share_a_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/limits.db"

    async def count_in_both(first: Storage) -> None:
        opened = open_storage(url)
        counts = await asyncio.gather(
            *(storage.incr("a", SECONDS) for _ in range(50) for storage in (first, opened.storage))
        )
        assert sorted(counts) == list(range(1, 101))
        await opened.aclose()

    _run_with_storage(url, count_in_both)


def test_the_setup_of_a_file_waits_for_other_processes(tmp_path: Path) -> None:
    """SQLite does not wait for other writers when it changes the journal mode."""
    path = tmp_path / "limits.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE other (a)")
    other.execute("BEGIN IMMEDIATE")
    # The storage works in a separate thread.
    released = threading.Event()
    with mock.patch.object(time, "sleep", side_effect=lambda _: released.set()) as sleep:
        with ThreadPoolExecutor(1) as thread:
            opened = thread.submit(open_storage, f"sqlite:///{path}")
            assert released.wait(DEADLINE)
            other.execute("COMMIT")
            storage = opened.result(DEADLINE)
        assert sleep.called
    other.close()
    asyncio.run(storage.aclose())


def test_a_locked_file_is_reported(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "limits.db", isolation_level=None)
    other.execute("CREATE TABLE other (a)")
    other.execute("BEGIN IMMEDIATE")
    with (
        mock.patch.object(counter_storage, "_BUSY_SECONDS", 0),
        pytest.raises(ConfigError, match="database is locked"),
    ):
        open_storage(f"sqlite:///{tmp_path}/limits.db")
    other.close()


def test_unavailable_storages_are_reported(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"RATE_LIMIT_STORAGE_URL: .*unable to open database file"
    ):
        open_storage(f"sqlite:///{tmp_path}/none/limits.db")
    with pytest.raises(
        ConfigError, match="RATE_LIMIT_STORAGE_URL: can't be parsed as a URL: percent-encode"
    ) as error:
        open_storage("redis://localhost:canary")
    assert "canary" not in str(error.value)
    with (
        mock.patch.dict(sys.modules, {"redis.asyncio": None}),
        pytest.raises(ConfigError, match=r"pip install '\.\[redis\]' in the checkout"),
    ):
        open_storage("redis://localhost")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://h?protocol=9", "protocol must be either 2 or 3"),
        ("rediss://h?ssl_cert_reqs=sometimes", "sometimes"),
    ],
)
def test_invalid_redis_option_values_are_rejected(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"RATE_LIMIT_STORAGE_URL: .*{message}"):
        open_storage(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://:p@h/3",
        "redis://[::1]:1?client_name=a&protocol=2",
        "rediss://h",
        "redis+unix:///a?db=1",
    ],
)
def test_redis_urls_are_accepted(url: str) -> None:
    """The storage does not connect before the first count."""

    async def work(_: Storage) -> None: ...

    _run_with_storage(url, work)


def test_sqlite_paths_are_parsed() -> None:
    assert counter_storage.parse_sqlite_path("sqlite:////a/b%20c.db") == Path("/a/b c.db")
    assert counter_storage.parse_sqlite_path("sqlite:///b.db") == Path("b.db")
