"""Chat Completions requests as the Responses bridge receives them."""

import functools
from typing import Any

from anthropic_proxy.providers.profiles import GENERIC, PROFILES, ProviderProfile
from anthropic_proxy.routing.router import Route
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.translate.apis import APIS
from anthropic_proxy.translate.reasoning.signatures import UNSIGNED
from anthropic_proxy.translate.request.chat_request import to_chat_request
from anthropic_proxy.translate.request.media_sources import (
    RemoteSource,
    count_remote_sources,
    inline_sources,
)
from anthropic_proxy.translate.request.pdf import read_pages
from anthropic_proxy.wire.anthropic.request import parse_messages_request
from anthropic_proxy.wire.json_codec import dumps
from tests.support.strategies import document_data

Json = dict[str, Any]

# The profile of each provider when it is spoken to by the Responses API.
RESPONSES_PROFILES = {
    each.name: APIS["responses"].to_profile(each) for each in (*PROFILES, GENERIC)
}
_PDF_PAGES = functools.cache(read_pages)


def chat_body(request: Json, dialect: str = "openai") -> Json:
    """The Chat Completions request that the bridge gets."""
    checked = fetched(parse_messages_request(dumps(request)), RESPONSES_PROFILES[dialect])
    route = Route(
        Upstream("up", "http://up/v1", RESPONSES_PROFILES[dialect], "responses"), request["model"]
    )
    return to_chat_request(checked, route, UNSIGNED, _PDF_PAGES).body


def fetched(request: Json, dialect: ProviderProfile) -> Json:
    """With the files in place that the proxy fetches."""
    data = {
        "image": ("image/png", "iVBORw0KGgo="),
        "document": ("application/pdf", document_data()[0]),
    }

    def source(remote: RemoteSource) -> Json:
        media_type, content = data[remote.kind]
        return {"type": "base64", "media_type": media_type, "data": content}

    return inline_sources(
        request, {remote: source(remote) for remote in count_remote_sources(request, dialect)}
    )
