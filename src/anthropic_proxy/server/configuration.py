"""Load the upstreams, with detected providers, and the API keys that the settings name."""

import asyncio

from anthropic_proxy.auth.api_keys import ApiKeyRegistry
from anthropic_proxy.config.keys_file import load_api_keys
from anthropic_proxy.config.settings import Settings
from anthropic_proxy.config.upstreams import load_routing
from anthropic_proxy.providers.provider_profile import ProviderProfile
from anthropic_proxy.routing.router import Routing
from anthropic_proxy.server.reload import WatchedFiles
from anthropic_proxy.upstream.client import create_upstream_client
from anthropic_proxy.upstream.detection import detect_provider, should_detect
from anthropic_proxy.upstream.http_client import UpstreamHTTPClient


async def load_routing_and_keys(
    settings: Settings, files: WatchedFiles
) -> tuple[Routing, ApiKeyRegistry | None]:
    """Return the routing, with detected providers, and the API keys (None if not needed).

    Files are parsed in a thread: a large file takes seconds and would block open streams. Raises
    ConfigError.
    """
    keys = await asyncio.to_thread(load_api_keys, settings, files.read)
    routing = await asyncio.to_thread(load_routing, settings, read=files.read)
    profiles = await _detect_profiles(routing)
    if profiles:
        routing = await asyncio.to_thread(load_routing, settings, profiles, files.read)
    return routing, keys


async def _detect_profiles(routing: Routing) -> dict[str, ProviderProfile]:
    """Return the detected profiles by name of the upstream."""
    candidates = [upstream for upstream in routing.upstreams if should_detect(upstream)]
    http_client = UpstreamHTTPClient()
    try:
        clients = [create_upstream_client(upstream, http_client) for upstream in candidates]
        profiles = await asyncio.gather(*(detect_provider(client.probe) for client in clients))
    finally:
        await http_client.aclose()
    detected_profiles = {}
    for upstream, profile in zip(candidates, profiles, strict=True):
        if profile is not None:
            detected_profiles[upstream.name] = profile
    return detected_profiles
