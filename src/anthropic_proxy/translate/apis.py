"""The APIs of upstreams: one row for each.

The translation makes Chat Completions requests and reads Chat Completions responses. A row converts
a request before it is sent, and a response before it is read; the row of Chat Completions itself
changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from anthropic_proxy.providers.profiles import ProviderProfile, to_responses_profile
from anthropic_proxy.translate.adaptation.changes import RequestChange
from anthropic_proxy.translate.responses_api.refusals import find_responses_change, to_chat_failure
from anthropic_proxy.translate.responses_api.request import to_responses_request
from anthropic_proxy.translate.responses_api.stream import ResponsesReader, to_completion
from anthropic_proxy.translate.upstream_errors import UpstreamFailure
from anthropic_proxy.wire.json_codec import JsonObject


class ChunkReader(Protocol):
    """Converts the events of one stream to chunks of Chat Completions."""

    def feed(self, event: JsonObject) -> Sequence[JsonObject]:
        """Return the chunks for one event of the stream."""


@dataclass(frozen=True)
class Api:
    """One API of an upstream."""

    # below the base URL
    path: str
    # converts a Chat Completions request to a request of this API
    to_body: Callable[[JsonObject], JsonObject]
    # makes the reader of one stream
    new_reader: Callable[[], ChunkReader]
    # converts a complete response to one of Chat Completions
    to_completion: Callable[[JsonObject], JsonObject]
    # whether `[DONE]` ends a response that has no finish reason
    done_ends_stream: bool
    # renames the refused field to its name in Chat Completions
    to_chat_failure: Callable[[UpstreamFailure], UpstreamFailure]
    # returns the change of the Chat Completions request for a refusal that only this API has
    find_change: Callable[[UpstreamFailure, JsonObject], RequestChange | None]
    # adapts the profile of an upstream to this API
    to_profile: Callable[[ProviderProfile], ProviderProfile]


class _ChunkPassthrough:
    """The reader of streams of chunks. It has no state, so one instance serves all streams."""

    def feed(self, event: JsonObject) -> Sequence[JsonObject]:
        return (event,)


_CHUNK_PASSTHROUGH = _ChunkPassthrough()


def _identity(value: JsonObject) -> JsonObject:
    return value


APIS: Mapping[str, Api] = MappingProxyType(
    {
        "chat_completions": Api(
            path="/chat/completions",
            to_body=_identity,
            new_reader=lambda: _CHUNK_PASSTHROUGH,
            to_completion=_identity,
            done_ends_stream=True,
            to_chat_failure=lambda failure: failure,
            find_change=lambda _failure, _body: None,
            to_profile=lambda profile: profile,
        ),
        "responses": Api(
            path="/responses",
            to_body=to_responses_request,
            new_reader=ResponsesReader,
            to_completion=to_completion,
            done_ends_stream=False,
            to_chat_failure=to_chat_failure,
            find_change=find_responses_change,
            to_profile=to_responses_profile,
        ),
    }
)
