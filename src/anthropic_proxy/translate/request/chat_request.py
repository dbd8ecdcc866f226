"""Messages request -> Chat Completions request.

Each top-level field has its function; the order of the resulting body is fixed, so that the same conversation gives the
same bytes and upstream prefix caches hold.
"""

from dataclasses import dataclass

from anthropic_proxy.providers.profiles import ProviderProfile
from anthropic_proxy.routing.router import Route
from anthropic_proxy.translate.compaction_blocks import expand_compaction_blocks
from anthropic_proxy.translate.context_edits import describe_ignored_edits
from anthropic_proxy.translate.notes import TranslationNotes
from anthropic_proxy.translate.reasoning.signatures import UNSIGNED, Signer
from anthropic_proxy.translate.request.context import PdfPageReader, TranslationContext
from anthropic_proxy.translate.request.field_table import list_ignored_fields
from anthropic_proxy.translate.request.identity import to_identity_fields
from anthropic_proxy.translate.request.messages import to_chat_messages
from anthropic_proxy.translate.request.parameters import to_parameters
from anthropic_proxy.translate.request.pdf import read_pages
from anthropic_proxy.translate.request.response_format import RESPONSE_FORMAT_CONVERTERS
from anthropic_proxy.translate.request.thinking import to_reasoning_fields
from anthropic_proxy.translate.request.tool_choice import TOOL_CHOICE_CONVERTERS
from anthropic_proxy.translate.request.tools import to_tool_fields
from anthropic_proxy.wire.json_codec import JsonObject


@dataclass(frozen=True)
class TranslatedRequest:
    """body: the Chat Completions request, without `stream`. notes: what could not be carried over. prefill: the beginning
    of the answer, where the client has written it.
    """

    body: JsonObject
    notes: TranslationNotes
    prefill: str = ""


def to_chat_request(
    request: JsonObject,
    route: Route,
    signer: Signer = UNSIGNED,
    pdf_pages: PdfPageReader = read_pages,
) -> TranslatedRequest:
    """Translate a checked request, as it is: its context edits are made before. `signer` reads the signatures of its
    thinking blocks; `pdf_pages` reads PDFs, which may take seconds, for upstreams that take none.

    Raises ApiError where the request can't be served as it is.
    """
    notes = TranslationNotes({*list_ignored_fields(request), *describe_ignored_edits(request)})
    request = expand_compaction_blocks(request)
    tools = to_tool_fields(request, notes)
    chat_messages = to_chat_messages(
        request, TranslationContext(route.profile, notes, signer, pdf_pages)
    )
    body = {
        "model": route.model,
        "messages": chat_messages.messages,
        **chat_messages.fields,
        **tools,
        **to_parameters(request, route.profile),
        **to_reasoning_fields(request, route.profile),
        **to_identity_fields(request, route.profile),
    }
    return TranslatedRequest(_apply_profile(body, route.profile), notes, chat_messages.prefill)


def _apply_profile(body: JsonObject, profile: ProviderProfile) -> JsonObject:
    """The request without demands that this kind of server does not know."""
    return RESPONSE_FORMAT_CONVERTERS[profile.answer_format](
        TOOL_CHOICE_CONVERTERS[profile.tool_choices](body)
    )
