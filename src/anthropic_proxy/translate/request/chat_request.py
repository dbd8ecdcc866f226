"""Messages request -> Chat Completions request.

Each top-level field has its function; the order of the resulting body is fixed, so that the same conversation gives the
same bytes and upstream prefix caches hold.
"""

from dataclasses import dataclass

from anthropic_proxy.providers.profiles import Dialect
from anthropic_proxy.routing.router import Route
from anthropic_proxy.translate.compaction_blocks import expand_compaction_blocks
from anthropic_proxy.translate.context_edits import describe_ignored_edits
from anthropic_proxy.translate.notes import TranslationNotes
from anthropic_proxy.translate.reasoning.signatures import UNSIGNED, Signer
from anthropic_proxy.translate.request.context import PdfPages, Target
from anthropic_proxy.translate.request.field_table import ignored_fields
from anthropic_proxy.translate.request.identity import to_identity
from anthropic_proxy.translate.request.messages import to_messages
from anthropic_proxy.translate.request.parameters import to_parameters
from anthropic_proxy.translate.request.pdf import read_pages
from anthropic_proxy.translate.request.response_format import ANSWER_FORMATS
from anthropic_proxy.translate.request.thinking import to_reasoning
from anthropic_proxy.translate.request.tool_choice import TOOL_CHOICES
from anthropic_proxy.translate.request.tools import to_tools
from anthropic_proxy.wire.json_codec import JsonObject


@dataclass(frozen=True)
class Translated:
    """body: the Chat Completions request, without `stream`. notes: what could not be carried over. prefill: the beginning
    of the answer, where the client has written it.
    """

    body: JsonObject
    notes: TranslationNotes
    prefill: str = ""


def to_openai(
    request: JsonObject, route: Route, signer: Signer = UNSIGNED, pdf_pages: PdfPages = read_pages
) -> Translated:
    """Translate a checked request, as it is: its context edits are made before. `signer` reads the signatures of its
    thinking blocks; `pdf_pages` reads PDFs, which may take seconds, for upstreams that take none.

    Raises ApiError where the request can't be served as it is.
    """
    notes = TranslationNotes({*ignored_fields(request), *describe_ignored_edits(request)})
    request = expand_compaction_blocks(request)
    tools = to_tools(request, notes)
    written = to_messages(request, Target(route.dialect, notes, signer, pdf_pages))
    body = {
        "model": route.model,
        "messages": written.messages,
        **written.fields,
        **tools,
        **to_parameters(request, route.dialect),
        **to_reasoning(request, route.dialect),
        **to_identity(request, route.dialect),
    }
    return Translated(_as_taken(body, route.dialect), notes, written.prefill)


def _as_taken(body: JsonObject, dialect: Dialect) -> JsonObject:
    """The request without demands that this kind of server does not know."""
    return ANSWER_FORMATS[dialect.answer_format](TOOL_CHOICES[dialect.tool_choices](body))
