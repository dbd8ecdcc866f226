"""Load what the settings name: the upstreams, with the providers that are detected, and the API keys."""

import asyncio

from anthropic_proxy.auth.api_keys import ApiKeyRegistry
from anthropic_proxy.config.keys_file import load_client_keys
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
    """Read the files that the settings name, and ask the upstreams what else must be known of them. Raises ConfigError.

    Files are parsed in a thread, as a large one takes seconds. Open streams go on meanwhile.
    """
    keys = await asyncio.to_thread(load_client_keys, settings, files.read)
    routing = await asyncio.to_thread(load_routing, settings, read=files.read)
    profiles = await _detect_profiles(routing)
    if profiles:
        routing = await asyncio.to_thread(load_routing, settings, profiles, files.read)
    return routing, keys


async def _detect_profiles(routing: Routing) -> dict[str, ProviderProfile]:
    candidates = [upstream for upstream in routing.upstreams if should_detect(upstream)]
    http_client = UpstreamHTTPClient()
    try:
        profiles = await asyncio.gather(
            *(
                detect_provider(create_upstream_client(candidate, http_client).probe)
                for candidate in candidates
            )
        )
    finally:
        await http_client.aclose()
    return {
        upstream.name: profile
        for upstream, profile in zip(candidates, profiles, strict=True)
        if profile
    }
