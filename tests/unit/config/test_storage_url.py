"""Invalid storage URLs are rejected at startup, with messages that do not contain the URL."""

from pathlib import Path

import pytest

from anthropic_proxy.config import storage_url
from tests.support.running_command import Command


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "sqlite:///limits.db",
        "sqlite:////a/path/with%20blank%3F.db",
        "redis://localhost",
        "redis://localhost/",
        "redis://localhost:/3",
        "redis://user:p%40ss%25@localhost:6379/0",
        "redis://[::1]:6379/15",
        (
            "redis://:password@h?db=3&client_name=a%20b&socket_timeout=0.5&protocol=2"
            "&socket_keepalive=no"
        ),
        "rediss://h/0?ssl_cert_reqs=none&ssl_ca_certs=/a/b.pem",
        "redis+unix:///path/to/socket?db=2&password=p",
        "redis+unix://user:p@/path/to/socket",
    ],
)
def test_valid_urls_are_accepted(url: str) -> None:
    storage_url.check_storage_url(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://:canary@host/0?x=canary", "unknown option x"),
        ("redis://:canary@host/0?ssl_cert_reqs=none", "unknown option ssl_cert_reqs"),
        ("redis://:canary@host/0?retry=1", "unknown option retry"),
        ("redis+unix:///canary?x=1", "unknown option x"),
        ("redis+unix:///canary?socket_keepalive=1", "unknown option socket_keepalive"),
        ("redis://:canary@host/0?CANARY-canary=1", "unknown option .not shown"),
        ("redis://:canary@host?db=1&db=2", "duplicate option db"),
        ("redis://:canary@host?db=", "option db has no value"),
        ("redis://:canary@host?client_name", "option client_name has no value"),
        ("redis://:canary@host?db=-1", "option db is not a number"),
        ("redis://:canary@host?db=canary", "option db is not a number"),
        (
            "redis://:canary@host?socket_timeout=canary",
            "option socket_timeout is not a number of seconds",
        ),
        (
            "redis://:canary@host?socket_timeout=nan",
            "option socket_timeout is not a number of seconds",
        ),
        ("redis://:canary@host/canary", "database is not a number"),
        ("redis://:canary@host/-1", "database is not a number"),
        ("redis://:canary@host/0/1", "database is not a number"),
        ("redis://:canary@host/1?db=2", "database is set twice"),
        ("redis://:canary@host:canary/0", "host or port is malformed"),
        ("redis://:canary@host:99999/0", "host or port is malformed"),
        ("redis://:canary@host:0/0", "a port is a number from 1 to 65535"),
        ("redis://:canary@[::1/0", "host or port is malformed"),
        ("redis://user:canary#1@host/0", "host or port is malformed"),
        ("redis://user:canary?1@host/0", "host or port is malformed"),
        ("redis://user:canary/1@host/0", "host or port is malformed"),
        ("redis://user:123?canary=1@host/0", "write %3F for a . in a password"),
        ("redis://user:123#canary@host/0", "write %23"),
        ("redis://:canary@host/0#", "write %23"),
        ("redis://:canary%@host/0", "write %25"),
        ("redis://:canary%zz@host/0", "write %25"),
        ("redis://:canary%FF@host/0", "not UTF-8"),
        ("redis+unix://canary/socket", "absolute: redis.unix:///path"),
        ("redis+unix:///", "path of the socket is missing"),
        ("sqlite:///canary.db?mode=ro", "write %3F"),
        ("sqlite:///canary.db#1", "write %23"),
        ("sqlite:///canary%.db", "write %25"),
        ("sqlite:///canary%FF.db", "not UTF-8"),
    ],
)
def test_invalid_urls_are_rejected(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        storage_url.check_storage_url(url)
    assert "canary" not in str(error.value).casefold()


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_command_rejects_an_invalid_url_at_startup(command: Command, workers: str) -> None:
    url = "redis://:canary-password@127.0.0.1:1/0?x=canary-value"
    result = command.run(
        "-p",
        "0",
        UPSTREAM_BASE_URL="http://127.0.0.1:1",
        WORKERS=workers,
        RATE_LIMIT_STORAGE_URL=url,
    )
    assert result.returncode == 1
    assert "RATE_LIMIT_STORAGE_URL" in result.stderr
    assert "unknown option x" in result.stderr
    assert "canary" not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
