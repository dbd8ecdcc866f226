"""Storages of rate limit counters: process memory, a SQLite file that processes share, or Redis."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from limits.aio.storage import MemoryStorage, RedisStorage, Storage

from anthropic_proxy.errors import ConfigError
from anthropic_proxy.providers.base_url import check_login

# Seconds to wait while another process writes to the file.
_BUSY_SECONDS = 5.0
# Seconds to wait for a connection to Redis, and for each of its responses. Less than the timeout in
# `rate_limits`, which is two seconds.
_REDIS_SECONDS = 1.5
# Seconds between attempts to open a file that another process initializes.
_RETRY_DELAY_SECONDS = 0.01
# Maximum number of connections to Redis, per process.
_MAX_CONNECTIONS = 16

_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS counters
  (key TEXT PRIMARY KEY, count INTEGER NOT NULL, expires REAL NOT NULL)
"""
_ADD = """
INSERT INTO counters (key, count, expires) VALUES (:key, :amount, :now + :seconds)
ON CONFLICT (key) DO UPDATE SET
  count = iif(expires <= :now, 0, count) + excluded.count,
  expires = iif(expires <= :now, excluded.expires, expires)
RETURNING count
"""
_READ = "SELECT count, expires FROM counters WHERE key = :key AND expires > :now"

_Result = TypeVar("_Result")


class SqliteStorage(Storage):
    """A storage of the library `limits` in a SQLite file, for fixed windows. Call `open` first.

    SQLite runs in a thread, so that a slow disk does not block streams.
    """

    STORAGE_SCHEME = ["async+sqlite"]  # noqa: RUF012 - as in the base class

    def __init__(self, path: Path) -> None:
        super().__init__(wrap_exceptions=False)
        self._path = path
        # A single thread, because the connection must not be used concurrently.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rate-limits")

    def open(self) -> None:
        """Create the file if needed, and delete expired counters. Raises ConfigError."""
        try:
            self._thread.submit(self._connect).result()
        except sqlite3.Error as error:
            raise ConfigError(f"RATE_LIMIT_STORAGE_URL: {self._path}: {error}") from None

    @property
    def base_exceptions(self) -> type[Exception]:
        return sqlite3.Error

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        row = await self._fetch_row(_ADD, key=key, amount=amount, seconds=expiry, now=time.time())
        return int(row[0])

    async def get(self, key: str) -> int:
        row = await self._fetch_row(_READ, key=key, now=time.time())
        return int(row[0]) if row else 0

    async def get_expiry(self, key: str) -> float:
        now = time.time()
        row = await self._fetch_row(_READ, key=key, now=now)
        return float(row[1]) if row else now

    async def check(self) -> bool:
        return bool(await self._fetch_row("SELECT 1"))

    async def reset(self) -> int | None:
        await self._fetch_row("DELETE FROM counters")
        return None

    async def clear(self, key: str) -> None:
        await self._fetch_row("DELETE FROM counters WHERE key = :key", key=key)

    async def aclose(self) -> None:
        """Close the file. The storage cannot be used afterwards."""
        await self._run_in_thread(self._close)
        self._thread.shutdown()

    async def _run_in_thread(self, function: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def _fetch_row(self, statement: str, **values: object) -> Any:
        """Run a statement, and return the first row of its result; None if there is none."""
        return await self._run_in_thread(
            lambda: self._connection.execute(statement, values).fetchone()
        )

    def _connect(self) -> None:
        self._connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            self._initialize()
        except sqlite3.Error:
            self._connection.close()
            raise

    def _initialize(self) -> None:
        # Writes do not wait for the disk. A crash of the machine loses only the last few counts.
        self._enable_wal()
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute(_CREATE_TABLE)
        self._connection.execute("DELETE FROM counters WHERE expires <= ?", (time.time(),))

    def _enable_wal(self) -> None:
        """Enable write-ahead logging, and retry while the file is locked.

        The busy timeout of SQLite does not apply to this statement: it fails at once if another
        process runs it at the same time.
        """
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                # The upper bits contain the extended error code.
                is_locked = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_locked or time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_DELAY_SECONDS)
            else:
                return

    def _close(self) -> None:
        self._connection.close()


@dataclass(frozen=True)
class StorageHandle:
    """A storage, and the function that closes it."""

    storage: Storage
    aclose: Callable[[], Coroutine[Any, Any, None]]


def open_storage(url: str) -> StorageHandle:
    """Open the storage of a URL. Raises ConfigError.

    url: `memory://`, `sqlite:///path`, or `redis://host:port/0` (also `rediss`, `redis+unix`).
    """
    return _OPENERS[url.partition(":")[0].lower()](url)


def _open_memory(_: str) -> StorageHandle:
    return StorageHandle(MemoryStorage(), _close_nothing)


def _open_sqlite(url: str) -> StorageHandle:
    storage = SqliteStorage(parse_sqlite_path(url))
    storage.open()
    return StorageHandle(storage, storage.aclose)


def _open_redis(url: str) -> StorageHandle:
    try:
        from redis.asyncio import BlockingConnectionPool, RedisError  # an optional dependency
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        hint = "pip install '.[redis]' in the checkout"
        raise ConfigError(
            f"RATE_LIMIT_STORAGE_URL: Redis requires a package that is not installed: {hint}"
        ) from None
    try:
        check_login(url)
        address = url.replace("redis+unix:", "unix:", 1)
        pool = BlockingConnectionPool.from_url(
            address,
            max_connections=_MAX_CONNECTIONS,
            timeout=_REDIS_SECONDS,
            socket_timeout=_REDIS_SECONDS,
            socket_connect_timeout=_REDIS_SECONDS,
            # One retry, because the server may have closed an idle connection. The default retries
            # take several seconds.
            retry=Retry(NoBackoff(), 1),
        )
        # Validates the options without connecting.
        pool.make_connection()  # type: ignore[no-untyped-call]  # the library is partly typed
        options: dict[str, Any] = {"implementation": "redispy", "connection_pool": pool}
        # The pool already has the address. `limits` would reject a host without a port.
        return StorageHandle(RedisStorage("async+redis://", **options), pool.aclose)
    except (ValueError, RedisError) as error:
        # The error describes an option and does not contain the login: `check_login` has accepted
        # the URL.
        raise ConfigError(f"RATE_LIMIT_STORAGE_URL: {error}") from None


async def _close_nothing() -> None: ...


_OPENERS: dict[str, Callable[[str], StorageHandle]] = {
    "memory": _open_memory,
    "sqlite": _open_sqlite,
    **dict.fromkeys(("redis", "rediss", "redis+unix"), _open_redis),
}


def parse_sqlite_path(url: str) -> Path:
    """Return the path in `sqlite:///relative/path` or `sqlite:////absolute/path`."""
    return Path(unquote(urlsplit(url).path.removeprefix("/"))).expanduser()
