"""The top-level fields of a request and their translation: one table for logs and documents.

A field outside the table is dropped and noted.
"""

from collections.abc import Mapping

REQUEST_FIELDS: Mapping[str, str] = {
    "model": "the upstream's model, unless the settings name another one",
    "max_tokens": "`max_completion_tokens` or `max_tokens`; with 0 the upstream is not asked",
    "messages": "`messages`",
    "system": "the first message",
    "stream": "`stream`",
    "stop_sequences": "found by the proxy, which stops the upstream there",
    "temperature": "`temperature`; refused with version 2026-10-21, as the API does",
    "top_p": "`top_p`; refused with version 2026-10-21, as the API does",
    "top_k": (
        "`top_k` where the upstream knows it; refused with version 2026-10-21, as the API does"
    ),
    "tools": "`tools`",
    "tool_choice": (
        "`tool_choice` and `parallel_tool_calls`, or words to the model where the upstream "
        "doesn't take them"
    ),
    "thinking": "chooses the model, and says how much to think in the upstream's own fields",
    "output_config": (
        "`format` is `response_format`, or words to the model; `effort` says how much to think"
    ),
    "output_format": "as `output_config.format`, from clients of before that",
    "metadata": "`user_id` is hashed for the upstream's fields for users and prompt caches",
    "context_management": (
        "edits made by the proxy, reported as `applied_edits`; compaction by a request of its own"
    ),
    "compaction": "the upstream is asked for a summary, and the answer is a compaction block",
    "service_tier": (
        "`service_tier` (`auto` or `default`) for OpenAI and Azure, ignored elsewhere; "
        "`usage` tells it"
    ),
    "speed": (
        "`fast` is `service_tier: priority` for OpenAI and Azure, ignored elsewhere; `usage` "
        "tells what was served"
    ),
    "diagnostics": "answered with `cache_miss_reason` `unavailable`",
    "thread": "refused with the error on which the SDKs send the whole conversation",
    "cache_control": "ignored: upstreams cache prefixes by themselves",
    "container": "ignored: code runs at Anthropic alone; skills are refused",
    "inference_geo": "ignored: the upstream stands where it stands",
    "user_profile": "ignored: it belongs to an Anthropic account",
    "user_profile_id": "ignored: it belongs to an Anthropic account",
    "workspace_id": "ignored: it belongs to an Anthropic account",
    "billing_policy": "ignored: nothing is billed here",
    "safeguards": "ignored: the upstream has its own",
    "fallbacks": "ignored: the upstream's refusals are told as they are",
    "fallback_credit_token": "not redeemed, as `usage.fallback_credit` tells",
    "betas": "ignored: what the proxy can do needs no beta",
    "mcp_servers": "not called: their tools are not available, and required ones are refused",
}
