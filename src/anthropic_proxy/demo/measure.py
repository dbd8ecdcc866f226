"""Measure the time that the proxy adds to a request.

The same request is sent in pairs, directly and through the proxy. It requests one token, so that
the time of the model and its noise are small. Both use the same HTTP client with an open
connection, and each of them is first in half of the pairs. The first pair, which opens connections
and fills caches, does not count.
"""

import time

import httpx

from anthropic_proxy.demo.embedded import MODEL

PAIRS = 15
_REQUEST = {
    "model": MODEL,
    "max_tokens": 1,
    "temperature": 0,
    "messages": [{"role": "user", "content": "Say yes."}],
}


def measure_pairs(direct: str, proxied: str, count: int = PAIRS) -> list[tuple[float, float]]:
    """Return pairs of durations in seconds: (directly to the upstream, through the proxy).

    direct, proxied: base URLs of the upstream and the proxy. Raises httpx.HTTPError if a request
    fails.
    """
    urls = (f"{direct}/v1/chat/completions", f"{proxied}/v1/messages")
    with httpx.Client(trust_env=False, timeout=60) as client:
        durations = []
        for number in range(count + 1):
            durations.append(_measure_pair(client, urls, swapped=bool(number % 2)))
    return durations[1:]


def _measure_pair(
    client: httpx.Client, urls: tuple[str, str], *, swapped: bool
) -> tuple[float, float]:
    direct, proxied = urls
    if swapped:
        second = _time_request(client, proxied)
        return _time_request(client, direct), second
    return _time_request(client, direct), _time_request(client, proxied)


def _time_request(client: httpx.Client, url: str) -> float:
    started_at = time.perf_counter()
    client.post(url, json=_REQUEST, headers={"anthropic-version": "2023-06-01"}).raise_for_status()
    return time.perf_counter() - started_at
