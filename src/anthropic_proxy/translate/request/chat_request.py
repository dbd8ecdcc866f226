"""Convert a Messages request to a Chat Completions request.

Each top-level field has its function. The order of the resulting body is fixed: the same
conversation gives the same bytes, so upstream prefix caches hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from anthropic_proxy.routing.router import Route
from anthropic_proxy.translate.context_edits import describe_ignored_edits
from anthropic_proxy.translate.notes import TranslationNotes
from anthropic_proxy.translate.reasoning.signatures import UNSIGNED, Signer
from anthropic_proxy.translate.request.context import PdfPageReader, TranslationContext
from anthropic_proxy.translate.request.field_table import REQUEST_FIELDS
from anthropic_proxy.translate.request.messages import to_chat_messages
from anthropic_proxy.translate.request.parameters import (
    get_output_format,
    to_parameters,
    to_user_fields,
)
from anthropic_proxy.translate.request.pdf import read_pages
from anthropic_proxy.translate.request.response_format import RESPONSE_FORMAT_CONVERTERS
from anthropic_proxy.translate.request.thinking import to_reasoning_fields
from anthropic_proxy.translate.request.tool_choice import TOOL_CHOICE_CONVERTERS
from anthropic_proxy.translate.request.tools import resolve_tools
from anthropic_proxy.translate.tool_names import ToolName
from anthropic_proxy.wire.json_codec import JsonObject


@dataclass(frozen=True)
class TranslatedRequest:
    """A Chat Completions request, and what the response path needs."""

    # the request, without `stream`
    body: JsonObject
    # what could not be translated
    notes: TranslationNotes
    # the client's names of the tools that have other names upstream
    tool_names: Mapping[str, ToolName] = field(default_factory=dict)
    # whether the client accepts at most one tool call
    single_call: bool = False
    # whether the request has an output format: the response text must be one JSON document
    is_structured: bool = False
    # the beginning of the response, where the client wrote it
    prefill: str = ""


def to_chat_request(
    request: JsonObject,
    route: Route,
    signer: Signer = UNSIGNED,
    pdf_pages: PdfPageReader = read_pages,
) -> TranslatedRequest:
    """Translate a validated request without compaction blocks, after its context edits.

    `signer` reads the signatures of thinking blocks. `pdf_pages` extracts text from PDFs for
    upstreams that accept none, which may take seconds. Raises ApiError for a request that can't be
    served.
    """
    profile = route.profile
    notes = TranslationNotes(ignored=_describe_ignored_fields(request))
    tools = resolve_tools(request, notes)
    output_format = get_output_format(request)
    context = TranslationContext(profile, notes, signer, pdf_pages)
    chat_messages = to_chat_messages(request, context)
    body = {
        "model": route.model,
        "messages": chat_messages.messages,
        **chat_messages.fields,
        **tools.fields,
        **to_parameters(request, output_format, profile),
        **to_reasoning_fields(request, profile),
        **to_user_fields(request, profile),
    }
    body = TOOL_CHOICE_CONVERTERS[profile.tool_choices](body)
    body = RESPONSE_FORMAT_CONVERTERS[profile.answer_format](body)
    return TranslatedRequest(
        body,
        notes,
        tools.names,
        single_call=tools.single_call,
        is_structured=output_format is not None,
        prefill=chat_messages.prefill,
    )


def _describe_ignored_fields(request: JsonObject) -> set[str]:
    """Return notes for the top-level fields and context edits that the proxy does not support."""
    fields = {f"field {name}" for name in request if name not in REQUEST_FIELDS}
    return fields | describe_ignored_edits(request)
