"""The table of the APIs that upstreams implement.

The translation builds Chat Completions requests and reads Chat Completions responses. The row of
another API converts the request before it is sent, and the response before it is read. The row of
Chat Completions changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from anthropic_proxy.providers.profiles import ProviderProfile, to_responses_profile
from anthropic_proxy.translate.adaptation.changes import RESPONSES_VARIANTS, RequestChange
from anthropic_proxy.translate.responses_api.refusals import (
    find_reasoning_change,
    find_responses_change,
    to_chat_failure,
)
from anthropic_proxy.translate.responses_api.request import to_responses_request
from anthropic_proxy.translate.responses_api.stream import ResponsesReader, to_completion
from anthropic_proxy.translate.upstream_failure import UpstreamFailure
from anthropic_proxy.wire.json_codec import JsonObject

_FindChange = Callable[[UpstreamFailure, JsonObject], RequestChange | None]


class ChunkReader(Protocol):
    """A converter from the events of one stream to Chat Completions chunks."""

    @property
    def is_complete(self) -> bool:
        """True after the last event of the response, if the API has such an event."""

    def feed(self, event: JsonObject) -> Sequence[JsonObject]:
        """Return the chunks for one event of the stream."""


@dataclass(frozen=True)
class Api:
    """One API of an upstream."""

    # path below the base URL
    path: str
    # converts a Chat Completions request to a request of this API
    to_body: Callable[[JsonObject], JsonObject]
    # creates the reader of one stream
    new_reader: Callable[[], ChunkReader]
    # converts a response that is not streamed to a Chat Completions response
    to_completion: Callable[[JsonObject], JsonObject]
    # whether `[DONE]` ends a response without a finish reason
    done_ends_stream: bool
    # replaces the names of refused fields by their names in Chat Completions
    to_chat_failure: Callable[[UpstreamFailure], UpstreamFailure]
    # returns the change of the Chat Completions request for refusals that are specific to this API
    find_change: _FindChange
    # returns the change for refusals that match no rule of this API or of Chat Completions
    find_last_change: _FindChange
    # adapts the profile of an upstream to this API
    to_profile: Callable[[ProviderProfile], ProviderProfile]


class _ChunkPassthrough:
    """The reader of Chat Completions streams. It has no state; all streams share one instance."""

    is_complete = False

    def feed(self, event: JsonObject) -> Sequence[JsonObject]:
        return (event,)


_CHUNK_PASSTHROUGH = _ChunkPassthrough()


def _identity(value: JsonObject) -> JsonObject:
    return value


def _drop_responses_variants(body: JsonObject) -> JsonObject:
    """Return the request without the changes that the model needs in the Responses API."""
    if RESPONSES_VARIANTS not in body:
        return body
    return {name: value for name, value in body.items() if name != RESPONSES_VARIANTS}


APIS: Mapping[str, Api] = MappingProxyType(
    {
        "chat_completions": Api(
            path="/chat/completions",
            to_body=_drop_responses_variants,
            new_reader=lambda: _CHUNK_PASSTHROUGH,
            to_completion=_identity,
            done_ends_stream=True,
            to_chat_failure=lambda failure: failure,
            find_change=lambda _failure, _body: None,
            find_last_change=lambda _failure, _body: None,
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
            find_last_change=find_reasoning_change,
            to_profile=to_responses_profile,
        ),
    }
)
