"""Convert top-level fields to top-level fields: limits, sampling, output format and user.

Of `metadata.user_id` only hashes are sent: OpenAI accepts 64 characters, and Claude Code's user_id
is 170 characters of JSON with account ids. It also holds the session, which changes while the user
stays the same; requests of one session share a prompt cache.
"""

import hashlib
import re

from anthropic_proxy.providers.provider_profile import ProviderProfile
from anthropic_proxy.translate.request.schemas import is_strict_compatible
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.json_codec import JsonObject, loads_object

_SERVICE_TIERS = {"auto": "auto", "standard_only": "default"}

# Characters, the Messages API's own limit. Claude Code's JSON has about 170. Longer ids are hashed
# without being parsed.
_MAX_PARSED_LENGTH = 256

# Claude Code before 2.1: user_HASH_account_UUID_session_UUID.
_USER = "user_"
_SESSION = "_session_"
_SESSION_ID = re.compile(r"[\w-]+")


def get_output_format(request: JsonObject) -> JsonObject | None:
    """Return the required format: `output_config.format`, or `output_format` of older clients."""
    output_config = request.get("output_config") or {}
    return output_config.get("format") or request.get("output_format")


def to_parameters(
    request: JsonObject, output_format: JsonObject | None, profile: ProviderProfile
) -> JsonObject:
    """Return limits, sampling and format.

    Without `stop_sequences`, which the proxy applies itself.
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
    """Return the service tier.

    OpenAI's fast processing is a tier; it costs more, as Anthropic's does.
    """
    if request.get("speed") == "fast":
        return "priority"
    return _SERVICE_TIERS.get(request.get("service_tier") or "")


def to_user_fields(request: JsonObject, profile: ProviderProfile) -> JsonObject:
    """Return the upstream's fields for the user and the prompt cache; none without a user_id."""
    user_id = (request.get("metadata") or {}).get("user_id")
    if not user_id:
        return {}
    user, session = _split_user_id(user_id)
    fields: JsonObject = {}
    if profile.user_field:
        fields[profile.user_field] = _hash(user)
    if profile.prompt_cache_key:
        fields["prompt_cache_key"] = _hash(session)
    return fields


def _split_user_id(user_id: str) -> tuple[str, str]:
    """Return the parts that identify the user and the session.

    An id without such parts is both.
    """
    parts = None
    if len(user_id) <= _MAX_PARSED_LENGTH:
        parts = _parse_json_id(user_id) or _parse_legacy_id(user_id)
    return parts or (user_id, user_id)


def _parse_json_id(user_id: str) -> tuple[str, str] | None:
    if not user_id.startswith("{"):
        return None
    payload = loads_object(user_id.encode("utf-8", "replace"))
    if not payload or not isinstance(payload.get("session_id"), str):
        return None
    user = "/".join(str(payload.get(name) or "") for name in ("device_id", "account_uuid"))
    return user, payload["session_id"]


def _parse_legacy_id(user_id: str) -> tuple[str, str] | None:
    # At least one character follows, so the search ends before the last one.
    position = user_id.rfind(_SESSION, 0, len(user_id) - 1)
    user, session = user_id[: max(position, 0)], user_id[position + len(_SESSION) :]
    is_user = user.startswith(_USER) and len(user) > len(_USER) and "\n" not in user
    if not is_user or not _SESSION_ID.fullmatch(session):
        return None
    return user, session


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
