"""The APIs that an upstream may speak, beside the translation to and from Chat Completions: one row for each.

The translation makes Chat Completions requests and reads Chat Completions answers. A row says what is done to a request
before it is sent, and to an answer before it is read; for Chat Completions itself that is nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from anthropic_proxy.providers.profiles import Dialect, for_responses
from anthropic_proxy.translate.adaptation.changes import Adjustment
from anthropic_proxy.translate.responses_api.refusals import as_chat_failure, responses_adjustment
from anthropic_proxy.translate.responses_api.request import to_responses
from anthropic_proxy.translate.responses_api.response import to_completion
from anthropic_proxy.translate.responses_api.stream import ResponsesReader
from anthropic_proxy.translate.upstream_errors import UpstreamFailure
from anthropic_proxy.wire.json_codec import JsonObject


class ChunkReader(Protocol):
    """Reads one stream."""

    def feed(self, event: JsonObject) -> Sequence[JsonObject]:
        """Chunks of Chat Completions for one event of the stream."""


@dataclass(frozen=True)
class Api:
    """One API.

    path: added to the base address. to_body: a Chat Completions request -> a request of this API. new_reader: a reader for
    one stream. to_completion: a whole answer -> a whole answer of Chat Completions. done_ends: whether `[DONE]` ends an
    answer that says nothing of its end. as_chat_failure: a refusal -> the same with the field under the name that it has in
    Chat Completions. adjustment: the change of the Chat Completions request for a refusal that only this API has.
    to_dialect: the facts about an upstream where it is spoken to by this API.
    """

    path: str
    to_body: Callable[[JsonObject], JsonObject]
    new_reader: Callable[[], ChunkReader]
    to_completion: Callable[[JsonObject], JsonObject]
    done_ends_stream: bool
    to_chat_failure: Callable[[UpstreamFailure], UpstreamFailure]
    find_change: Callable[[UpstreamFailure, JsonObject], Adjustment | None]
    to_profile: Callable[[Dialect], Dialect]


class _ChunkPassthrough:
    """The reader of streams that are chunks already. It holds nothing, so one is enough for all streams."""

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
            to_profile=lambda dialect: dialect,
        ),
        "responses": Api(
            path="/responses",
            to_body=to_responses,
            new_reader=ResponsesReader,
            to_completion=to_completion,
            done_ends_stream=False,
            to_chat_failure=as_chat_failure,
            find_change=responses_adjustment,
            to_profile=for_responses,
        ),
    }
)
