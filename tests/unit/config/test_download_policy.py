"""Hosts that the proxy may download from."""

import pytest

from anthropic_proxy.config.download_policy import DownloadPolicy, parse_hosts


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("", ()),
        (" , ", ()),
        ("Example.com, .Example.org.\n10.0.0.1", ("example.com", ".example.org", "10.0.0.1")),
        ("b\u00fccher.example", ("xn--bcher-kva.example",)),
        ("a_b;localhost", ("a_b", "localhost")),
        ("[::1], FD00::1", ("::1", "fd00::1")),
    ],
)
def test_host_lists_are_parsed(text: str, hosts: tuple[str, ...]) -> None:
    assert parse_hosts(text) == hosts


@pytest.mark.parametrize(
    "text",
    [
        "https://a.example",
        "a.example/b",
        "a.example:80",
        "a@b",
        "*.a.example",
        ".",
        "a..b",
        "x" * 64,
    ],
)
def test_invalid_hosts_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="is not a host name"):
        parse_hosts(text)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("a.example", True),
        ("a.example.", True),
        ("b.a.example", False),
        ("xa.example", False),
        ("c.b.example", True),
        ("d.c.b.example.", True),
        ("b.example", False),
        ("xb.example", False),
        ("", False),
    ],
)
def test_only_listed_hosts_are_allowed(host: str, allowed: bool) -> None:
    assert DownloadPolicy(allowed_hosts=("a.example", ".b.example")).allows(host) is allowed


def test_hosts_and_proxy_follow_the_download_mode() -> None:
    assert DownloadPolicy().public_only
    assert DownloadPolicy().allows("a.example")
    assert not DownloadPolicy(allowed_hosts=("a.example",)).public_only
    assert not DownloadPolicy("all").public_only
    assert [DownloadPolicy(mode).uses_proxy for mode in ("public", "off", "all")] == [
        False,
        False,
        True,
    ]
