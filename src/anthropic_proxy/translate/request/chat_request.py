"""Convert a Messages request to a Chat Completions request.

The order of the fields in the result is fixed: the same conversation gives the same bytes, which
keeps upstream prefix caches valid.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from anthropic_proxy.providers.provider_profile import ProviderProfile
from anthropic_proxy.routing.router import Route
from anthropic_proxy.translate.context_edits import describe_ignored_edits
from anthropic_proxy.translate.notes import TranslationNotes
from anthropic_proxy.translate.reasoning.signatures import UNSIGNED, Signer
from anthropic_proxy.translate.request.cache_marks import (
    build_cache_options,
    count_cache_marks,
)
from anthropic_proxy.translate.request.context import PdfPageReader, TranslationContext
from anthropic_proxy.translate.request.field_table import REQUEST_FIELDS
from anthropic_proxy.translate.request.messages import to_chat_messages
from anthropic_proxy.translate.request.pdf import read_pages
from anthropic_proxy.translate.request.response_format import RESPONSE_FORMAT_CONVERTERS
from anthropic_proxy.translate.request.schemas import is_strict_compatible
from anthropic_proxy.translate.request.thinking import to_reasoning_fields
from anthropic_proxy.translate.request.tool_choice import TOOL_CHOICE_CONVERTERS
from anthropic_proxy.translate.request.tools import resolve_tools
from anthropic_proxy.translate.tool_names import ToolName
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.anthropic.claude_code import split_user_id
from anthropic_proxy.wire.json_codec import JsonObject, dumps
from anthropic_proxy.wire.openai import get_content_text

_SERVICE_TIERS = {"auto": "auto", "standard_only": "default"}


@dataclass(frozen=True)
class TranslatedRequest:
    """A Chat Completions request, and the data for the translation of its response."""

    # the request without `stream`
    body: JsonObject
    # the parts that were not translated
    notes: TranslationNotes
    # the client's names of the tools that have other names upstream
    tool_names: Mapping[str, ToolName] = field(default_factory=dict)
    # whether the client accepts at most one tool call
    single_call: bool = False
    # whether the response text must be one JSON document
    is_structured: bool = False
    # beginning of the response that the client provided
    prefill: str = ""


def to_chat_request(
    request: JsonObject,
    route: Route,
    signer: Signer = UNSIGNED,
    pdf_pages: PdfPageReader = read_pages,
) -> TranslatedRequest:
    """Translate a validated request, after its context edits and without compaction blocks.

    `signer` reads the signatures of thinking blocks. `pdf_pages` extracts text from PDFs for
    upstreams that do not accept PDFs, which may take seconds. Raises ApiError for a request that
    cannot be translated.
    """
    profile = route.profile
    notes = TranslationNotes(ignored=_describe_ignored_fields(request, profile))
    tools = resolve_tools(request, notes)
    output_format = get_output_format(request)
    signer = signer.for_upstream(route.upstream.name)
    keeps_parts = profile.cache_control
    if profile.cache_breakpoints:
        keeps_parts = count_cache_marks(request) > 0
    context = TranslationContext(profile, notes, signer, pdf_pages, keeps_parts)
    chat_messages = to_chat_messages(request, context)
    body = {
        "model": route.model,
        "messages": chat_messages.messages,
        **chat_messages.fields,
        **tools.fields,
        **_to_parameters(request, output_format, profile),
        **to_reasoning_fields(request, profile),
        **to_user_fields(request, profile),
    }
    body |= _to_cache_fields(request, body, profile)
    body = _add_extra_fields(body, request, profile)
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


def _describe_ignored_fields(request: JsonObject, profile: ProviderProfile) -> set[str]:
    """Return notes for the fields and context edits that the proxy does not support."""
    known_fields = (*REQUEST_FIELDS, *profile.extra_fields)
    fields = {f"field {name}" for name in request if name not in known_fields}
    return fields | describe_ignored_edits(request)


def _add_extra_fields(
    body: JsonObject, request: JsonObject, profile: ProviderProfile
) -> JsonObject:
    """Add the fields that the client has for its server.

    Fields of the translation have precedence, also within an object such as
    `chat_template_kwargs`.
    """
    extended = dict(body)
    for name in profile.extra_fields:
        value = request.get(name)
        if value is None or name in REQUEST_FIELDS:
            continue
        if isinstance(value, dict) and isinstance(body.get(name), dict):
            extended[name] = {**value, **body[name]}
        else:
            extended.setdefault(name, value)
    return extended


def get_output_format(request: JsonObject) -> JsonObject | None:
    """Return `output_config.format`, or `output_format` of older clients."""
    output_config = request.get("output_config") or {}
    return output_config.get("format") or request.get("output_format")


def _to_parameters(
    request: JsonObject, output_format: JsonObject | None, profile: ProviderProfile
) -> JsonObject:
    """Return the fields for limits, sampling, output format and service tier.

    `stop_sequences` is not sent, because the proxy applies it.
    """
    parameters = {
        profile.max_tokens_field: request.get("max_tokens"),
        "temperature": request.get("temperature"),
        "top_p": request.get("top_p"),
    }
    if profile.sampling_top_k:
        parameters["top_k"] = request.get("top_k")
    if output_format is not None:
        schema = output_format["schema"]
        is_strict = is_strict_compatible(schema)
        parameters["response_format"] = openai.json_schema_format(schema, strict=is_strict)
    if profile.service_tiers:
        parameters["service_tier"] = _choose_service_tier(request)
    return {name: value for name, value in parameters.items() if value is not None}


def _choose_service_tier(request: JsonObject) -> str | None:
    """Return the service tier. OpenAI's equivalent of Anthropic's fast mode is a tier."""
    if request.get("speed") == "fast":
        return "priority"
    return _SERVICE_TIERS.get(request.get("service_tier") or "")


def to_user_fields(request: JsonObject, profile: ProviderProfile) -> JsonObject:
    """Return the upstream's fields for the user and the user's prompt cache.

    There are none without a user_id.

    The proxy sends only hashes: OpenAI accepts 64 characters, and Claude Code's user_id has 170
    characters of JSON with account ids. It also contains the session id. Requests of one session
    share a prompt cache.
    """
    user_id = (request.get("metadata") or {}).get("user_id")
    if not user_id:
        return {}
    # Longer ids and ids of other clients are hashed as a unit.
    user, session = split_user_id(user_id) or (user_id, user_id)
    fields: JsonObject = {}
    if profile.user_field:
        fields[profile.user_field] = _hash(user)
    if profile.prompt_cache_key:
        fields["prompt_cache_key"] = _hash(session)
    return fields


def _to_cache_fields(request: JsonObject, body: JsonObject, profile: ProviderProfile) -> JsonObject:
    """Return the upstream's fields for the prompt cache that depend on the translated `body`.

    Without a user, requests with the same tools and system prompt share a prompt cache, because
    these are the beginning of the prompt.
    """
    fields: JsonObject = {}
    if profile.cache_breakpoints:
        fields = build_cache_options(request, body["messages"])
    if not profile.prompt_cache_key or "prompt_cache_key" in body:
        return fields
    first = body["messages"][0]
    system = get_content_text(first["content"]) if first["role"] == "system" else ""
    tools = body.get("tools")
    if system or tools:
        fields["prompt_cache_key"] = _hash(f"{system}\n{dumps(tools).decode()}")
    return fields


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
