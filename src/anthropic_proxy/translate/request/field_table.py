"""The top-level fields of a request and their translation: one table for logs and documents.

A field outside the table is dropped and noted.
"""

from collections.abc import Mapping

_SAMPLING = "rejected with API version 2026-10-21, as by Anthropic"
_ACCOUNT = "ignored: a setting of an Anthropic account"

REQUEST_FIELDS: Mapping[str, str] = {
    "model": "the upstream's model, unless the settings name another one",
    "max_tokens": "`max_completion_tokens` or `max_tokens`; with 0 no upstream request is sent",
    "messages": "`messages`",
    "system": "the first message",
    "stream": "`stream`",
    "stop_sequences": "found by the proxy, which stops the upstream there",
    "temperature": f"`temperature`; {_SAMPLING}",
    "top_p": f"`top_p`; {_SAMPLING}",
    "top_k": f"`top_k` if the upstream supports it; {_SAMPLING}",
    "tools": "`tools`",
    "tool_choice": (
        "`tool_choice` and `parallel_tool_calls`; the prompt states a choice that the upstream "
        "does not support"
    ),
    "thinking": "may select the model; becomes the reasoning fields of the upstream",
    "output_config": (
        "`format` becomes `response_format`, or a part of the prompt; `effort` becomes the "
        "reasoning fields of the upstream"
    ),
    "output_format": "as `output_config.format`, for older clients",
    "metadata": (
        "a hash of `user_id` for the upstream's fields for users and prompt caches; without it, a "
        "hash of the tools and the system prompt for `prompt_cache_key`"
    ),
    "context_management": (
        "applied by the proxy, and reported as `applied_edits`; a compaction needs a request of "
        "its own"
    ),
    "compaction": "the upstream writes a summary, which is returned as a compaction block",
    "service_tier": (
        "`service_tier` (`auto` or `default`) for OpenAI and Azure, otherwise ignored; `usage` "
        "reports the tier"
    ),
    "speed": (
        "`fast` becomes `service_tier: priority` for OpenAI and Azure, otherwise ignored; `usage` "
        "reports the result"
    ),
    "diagnostics": "the response contains `cache_miss_reason` `unavailable`",
    "thread": "rejected with the error after which the SDKs send the complete conversation",
    "cache_control": (
        "ignored: upstreams cache prefixes automatically; marks in blocks become `cache_control` "
        "or `prompt_cache_breakpoint` for upstreams that support them"
    ),
    "container": "ignored: code runs only at Anthropic; skills are rejected",
    "inference_geo": "ignored: the proxy cannot select the region of an upstream",
    "user_profile": _ACCOUNT,
    "user_profile_id": _ACCOUNT,
    "workspace_id": _ACCOUNT,
    "billing_policy": "ignored: the proxy bills nothing",
    "safeguards": "ignored: the upstream has its own",
    "fallbacks": "ignored: the proxy returns refusals of the upstream unchanged",
    "fallback_credit_token": "not redeemed, as `usage.fallback_credit` reports",
    "betas": "ignored: the proxy supports its features without betas",
    "mcp_servers": "not connected: their tools are not available; required tools are rejected",
}
