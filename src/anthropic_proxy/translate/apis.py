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
from anthropic_proxy.translate.upstream_errors import Failure
from anthropic_proxy.wire.json_codec import JsonObject


class Reader(Protocol):
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
    new_reader: Callable[[], Reader]
    to_completion: Callable[[JsonObject], JsonObject]
    done_ends: bool
    as_chat_failure: Callable[[Failure], Failure]
    adjustment: Callable[[Failure, JsonObject], Adjustment | None]
    to_dialect: Callable[[Dialect], Dialect]


class _AsItIs:
    """The reader of streams that are chunks already. It holds nothing, so one is enough for all streams."""

    def feed(self, event: JsonObject) -> Sequence[JsonObject]:
        return (event,)


_AS_IT_IS = _AsItIs()


def _same(value: JsonObject) -> JsonObject:
    return value


APIS: Mapping[str, Api] = MappingProxyType(
    {
        "chat_completions": Api(
            path="/chat/completions",
            to_body=_same,
            new_reader=lambda: _AS_IT_IS,
            to_completion=_same,
            done_ends=True,
            as_chat_failure=lambda failure: failure,
            adjustment=lambda _failure, _body: None,
            to_dialect=lambda dialect: dialect,
        ),
        "responses": Api(
            path="/responses",
            to_body=to_responses,
            new_reader=ResponsesReader,
            to_completion=to_completion,
            done_ends=False,
            as_chat_failure=as_chat_failure,
            adjustment=responses_adjustment,
            to_dialect=for_responses,
        ),
    }
)
