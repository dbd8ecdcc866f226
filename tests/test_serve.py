"""Listening, and the loop. What is served is tested in tests/server, as a process in tests/test_cli.py."""

import httpx
import pytest

from anthropic_proxy.listening import ListenError, address_of, listen
from anthropic_proxy.serve import loop_factory
from tests.running_proxy import running_proxy
from tests.scripted_upstream import ScriptedUpstream


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("localhost", None), ("::1", "[::1]")])
def test_listen(host: str, shown: str | None) -> None:
    with listen(host, 0) as listener:
        address = address_of(listener)
    assert address.startswith(f"http://{shown}:" if shown else "http://")


def test_a_port_in_use() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ListenError, match=rf"^can't listen on 127\.0\.0\.1:{port}: Address already in use$"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "é" * 80, "a..b"])
def test_no_such_host(host: str) -> None:
    with pytest.raises(ListenError, match=r"^can't listen on .*:0: \S.*"):
        listen(host, 0)


def test_the_loop_is_uvloop() -> None:
    factory = loop_factory()
    assert factory is not None
    loop = factory()
    assert type(loop).__module__ == "uvloop"
    loop.close()


def test_an_idle_connection_does_not_hold_up_the_end(upstream: ScriptedUpstream) -> None:
    with httpx.Client(trust_env=False) as client:
        with running_proxy(upstream.url) as proxy:
            assert client.get(f"{proxy}/health").text == "OK"
        with pytest.raises(httpx.ConnectError):
            client.get(f"{proxy}/health")
