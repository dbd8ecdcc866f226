"""The table of provider profiles: one row for each kind of upstream.

A comment above each row cites the documents or recordings that prove its values. Servers without a
row use `GENERIC`, the subset that every recorded server accepts. To support a new kind of upstream,
add a row here and a case to tests/cases/requests.
"""

from dataclasses import replace

from anthropic_proxy.providers.provider_profile import (
    SAMPLING_FIELDS,
    ProviderProfile,
    override_profile,
)

__all__ = [
    "GENERIC",
    "PROFILES",
    "PROFILE_NAMES",
    "ProviderProfile",
    "find_profile_by_host",
    "find_profile_by_name",
    "override_profile",
    "to_responses_profile",
]

# llama.cpp, vLLM and SGLang have these too, and Ollama and LM Studio ignore unknown fields.
_LOCAL_FIELDS = (*SAMPLING_FIELDS, "min_p", "repetition_penalty", "chat_template_kwargs")

# Recorded: Ollama 0.5 and transformers ignore max_completion_tokens and generate without a limit,
# but every server accepts max_tokens. llama.cpp, vLLM, Ollama, LM Studio and SGLang accept top_k
# but not `file` parts. llama.cpp and Ollama do not fetch images. Any of them may serve Kimi K2.
GENERIC = ProviderProfile(
    "generic",
    max_tokens_field="max_tokens",
    sampling_top_k=True,
    system_anywhere=False,
    replays_reasoning=True,
    reasoning="template",
    tool_call_ids="native",
    cache_breakpoints="",
    user_field="user",
    prompt_cache_key=False,
    extra_fields=_LOCAL_FIELDS,
    counts_tokens=True,
    counts_responses=False,
    takes_files=False,
    responses_files=False,
    fetches_image_urls=False,
    prefill="continued",
    service_tiers=False,
)

# A hosted service: it fetches images, and has no endpoint that counts tokens. The proxy learns
# other differences from refusals.
_SERVICE = replace(
    GENERIC,
    sampling_top_k=False,
    reasoning="effort",
    extra_fields=SAMPLING_FIELDS,
    counts_tokens=False,
    fetches_image_urls=True,
    prefill="refused",
)

# platform.openai.com/docs/guides/your-data: regions have their own hosts, such as
# eu.api.openai.com.
_OPENAI = ProviderProfile("openai", hosts=("api.openai.com", ".api.openai.com"))

PROFILES: tuple[ProviderProfile, ...] = (
    # platform.openai.com/docs/api-reference/chat: max_tokens is deprecated; o-series models and
    # GPT-5 refuse it.
    _OPENAI,
    # learn.microsoft.com/azure/ai-foundry/openai/latest (the v1 address) and .../reference
    # (deployments with api-version);
    # learn.microsoft.com/azure/azure-government/compare-azure-government-global-azure.
    # Deployments of reasoning models refuse versions before 2024-12-01-preview. Chat Completions
    # refuses files ("This model does not support file content types", also for models that accept
    # them at OpenAI); Responses accepts them (.../how-to/responses). It also hosts Kimi K2.
    replace(
        _OPENAI,
        name="azure",
        hosts=(
            ".openai.azure.com",
            ".cognitiveservices.azure.com",
            ".services.ai.azure.com",
            ".openai.azure.us",
        ),
        api_path="/openai/v1",
        auth="api-key",
        api_version="2025-04-01-preview",
        tool_call_ids="native",
        user_field="user",
        takes_files=False,
    ),
    # openrouter.ai/docs/api-reference/parameters: it routes to models with all kinds of chat
    # templates. .../docs/guides/best-practices/prompt-caching: it forwards cache marks to the
    # providers that support them.
    ProviderProfile(
        "openrouter",
        hosts=("openrouter.ai",),
        api_path="/api/v1",
        # openrouter.ai/docs/app-attribution
        headers=(("X-Title", "anthropic-proxy"),),
        max_tokens_field="max_tokens",
        sampling_top_k=True,
        system_anywhere=False,
        replays_reasoning=True,
        # openrouter.ai/docs/use-cases/reasoning-tokens
        reasoning="openrouter",
        tool_call_ids="native",
        cache_control=True,
        cache_breakpoints="",
        counts_responses=False,
        user_field="user",
        prompt_cache_key=False,
        extra_fields=(
            *SAMPLING_FIELDS,
            "min_p",
            "top_a",
            "repetition_penalty",
            "verbosity",
            "provider",
            "transforms",
        ),
        prefill="continued",
        service_tiers=False,
    ),
    # Self-hosted servers. A probe detects them (see upstream/detection.py), or the configuration
    # selects them by name.
    replace(GENERIC, name="ollama"),
    # github.com/ggml-org/llama.cpp, tools/server: the field that its Messages API sets.
    replace(
        GENERIC,
        name="llamacpp",
        thinking_budget_field="thinking_budget_tokens",
        extra_fields=(
            *_LOCAL_FIELDS,
            "typical_p",
            "repeat_penalty",
            "repeat_last_n",
            "dry_multiplier",
            "xtc_probability",
            "grammar",
            "cache_prompt",
        ),
    ),
    # docs.vllm.ai and docs.sglang.ai, references of the chat API: they fetch images. Recorded: if
    # the last message is an assistant message, they begin a new response, unless a field requests
    # the continuation of that message. docs.vllm.ai/en/latest/features/reasoning_outputs: servers
    # without a reasoning configuration refuse a thinking budget.
    replace(
        GENERIC,
        name="vllm",
        thinking_budget_field="thinking_token_budget",
        extra_fields=(
            *_LOCAL_FIELDS,
            "min_tokens",
            "bad_words",
            "stop_token_ids",
            "allowed_token_ids",
            "skip_special_tokens",
            "structured_outputs",
            "mm_processor_kwargs",
            "cache_salt",
            "vllm_xargs",
        ),
        fetches_image_urls=True,
        prefill="continue_final_message",
    ),
    replace(
        GENERIC,
        name="sglang",
        extra_fields=(
            *_LOCAL_FIELDS,
            "min_tokens",
            "stop_token_ids",
            "skip_special_tokens",
            "regex",
            "ebnf",
            "custom_params",
        ),
        fetches_image_urls=True,
        prefill="continue_final_message",
    ),
    # Recorded: "Invalid tool_choice type: 'object'. Supported string values: none, auto, required".
    replace(GENERIC, name="lmstudio", tool_choices="words"),
    # docs.litellm.ai: it translates requests for its own upstreams.
    replace(
        _SERVICE,
        name="litellm",
        takes_files=True,
        responses_files=True,
        sampling_top_k=True,
        extra_fields=_LOCAL_FIELDS,
    ),
    # api-docs.deepseek.com; .../guides/thinking_mode: `thinking: {type}` and `reasoning_effort`;
    # within a tool loop, requests must return the reasoning; prefix completion is in beta.
    # .../guides/json_mode: JSON without schemas.
    replace(
        _SERVICE,
        name="deepseek",
        hosts=("api.deepseek.com",),
        reasoning="thinking",
        answer_format="json_object",
        user_field="",
    ),
    # docs.mistral.ai/api: it refuses unknown fields (422), ids have 9 characters, and thinking is a
    # part of the content.
    replace(
        _SERVICE,
        name="mistral",
        hosts=("api.mistral.ai", "codestral.mistral.ai"),
        stream_options=False,
        tool_call_ids="nine",
        user_field="",
        extra_fields=("frequency_penalty", "presence_penalty", "random_seed", "safe_prompt"),
        prefill="prefix",
    ),
    # console.groq.com/docs/api-reference, .../docs/reasoning and .../docs/prefilling. Its service
    # tiers have other names.
    replace(
        _SERVICE,
        name="groq",
        hosts=("api.groq.com",),
        api_path="/openai/v1",
        max_tokens_field="max_completion_tokens",
        prefill="continued",
    ),
    # docs.together.ai/reference/chat-completions and .../docs/inference/chat/reasoning
    replace(
        _SERVICE,
        name="together",
        hosts=("api.together.xyz", "api.together.ai"),
        reasoning="toggle",
        sampling_top_k=True,
        extra_fields=(*SAMPLING_FIELDS, "min_p", "repetition_penalty"),
    ),
    # docs.fireworks.ai/api-reference/post-chatcompletions
    replace(
        _SERVICE,
        name="fireworks",
        hosts=("api.fireworks.ai",),
        api_path="/inference/v1",
        sampling_top_k=True,
        extra_fields=(*SAMPLING_FIELDS, "min_p", "repetition_penalty"),
    ),
    # inference-docs.cerebras.ai/api-reference/chat-completions: images only as data.
    replace(
        _SERVICE,
        name="cerebras",
        hosts=("api.cerebras.ai",),
        max_tokens_field="max_completion_tokens",
        fetches_image_urls=False,
    ),
    # docs.x.ai/docs/api-reference: max_tokens is deprecated. Recorded: errors are
    # {"code", "error"}, a bad key is a 400.
    replace(
        _SERVICE,
        name="xai",
        hosts=("api.x.ai",),
        max_tokens_field="max_completion_tokens",
        system_anywhere=True,
        replays_reasoning=False,
    ),
    # ai.google.dev/gemini-api/docs/openai and .../thought-signatures. Recorded: tool calls have a
    # signature. In Google's examples, tool results contain the name of the tool; some models refuse
    # results without it.
    replace(
        _SERVICE,
        name="gemini",
        hosts=("generativelanguage.googleapis.com",),
        api_path="/v1beta/openai",
        tool_signatures=True,
        tool_result_names=True,
        user_field="",
        fetches_image_urls=False,
    ),
    # platform.moonshot.ai/docs/api/chat: images only as data; requests must return the reasoning of
    # a tool loop. K2 models have a switch for thinking, and K3 models have the effort; each model
    # ignores the other field. .../docs/api/partial: prefill.
    replace(
        _SERVICE,
        name="moonshot",
        hosts=("api.moonshot.ai", "api.moonshot.cn", "api.kimi.com"),
        reasoning="thinking",
        user_field="",
        prompt_cache_key=True,
        fetches_image_urls=False,
        prefill="partial",
    ),
    # docs.z.ai/api-reference/llm/chat-completion: `auto` is the only tool choice; JSON without
    # schemas; models before GLM-5.2 ignore the effort.
    replace(
        _SERVICE,
        name="glm",
        hosts=("api.z.ai", "open.bigmodel.cn"),
        api_path="/api/paas/v4",
        reasoning="thinking",
        tool_choices="auto",
        answer_format="json_object",
        user_field="",
    ),
    # platform.minimax.io/docs/api-reference/text-openai-api: the text contains the reasoning,
    # unless the request separates it. M3 has a switch for thinking, which M2 ignores.
    # .../text-chat-openai: no response formats, no forced tool calls.
    replace(
        _SERVICE,
        name="minimax",
        hosts=("api.minimax.io", "api.minimaxi.com"),
        reasoning="split",
        tool_choices="auto",
        answer_format="words",
        user_field="",
    ),
    # alibabacloud.com/help/en/model-studio/qwen-api-reference, .../deep-thinking,
    # .../partial-mode and .../base-url
    replace(
        _SERVICE,
        name="qwen",
        hosts=(
            "dashscope.aliyuncs.com",
            "dashscope-intl.aliyuncs.com",
            "dashscope-us.aliyuncs.com",
            ".dashscope.aliyuncs.com",
            ".maas.aliyuncs.com",
        ),
        api_path="/compatible-mode/v1",
        reasoning="enable_thinking",
        sampling_top_k=True,
        user_field="",
        extra_fields=("presence_penalty", "seed", "repetition_penalty"),
        prefill="partial",
    ),
    # docs.api.nvidia.com/nim/reference: vLLM and other servers. Recorded: servers accept the tool
    # choice "auto" only if an option of the server enables it.
    replace(
        _SERVICE,
        name="nvidia",
        hosts=("integrate.api.nvidia.com",),
        user_field="",
        fetches_image_urls=False,
    ),
    # docs.github.com/rest/models/inference
    replace(
        _SERVICE,
        name="github",
        hosts=("models.github.ai",),
        api_path="/inference",
        replays_reasoning=False,
    ),
    # huggingface.co/docs/inference-providers
    replace(_SERVICE, name="huggingface", hosts=("router.huggingface.co",)),
    # docs.perplexity.ai/api-reference: no tools; recorded: no [DONE], usage in every chunk.
    replace(
        _SERVICE,
        name="perplexity",
        hosts=("api.perplexity.ai",),
        api_path="",
        replays_reasoning=False,
        user_field="",
        extra_fields=(
            "frequency_penalty",
            "presence_penalty",
            "search_mode",
            "search_domain_filter",
            "search_recency_filter",
            "web_search_options",
        ),
    ),
)

PROFILE_NAMES: tuple[str, ...] = tuple(sorted(each.name for each in (*PROFILES, GENERIC)))


def find_profile_by_host(host: str) -> ProviderProfile:
    """Return the profile whose hosts include `host`, otherwise `GENERIC`."""
    for profile in PROFILES:
        for pattern in profile.hosts:
            if host == pattern or (pattern.startswith(".") and host.endswith(pattern)):
                return profile
    return GENERIC


def find_profile_by_name(name: str) -> ProviderProfile:
    """Return the profile of that name. Raises ValueError, whose text contains all valid names."""
    for profile in (*PROFILES, GENERIC):
        if profile.name == name.lower():
            return profile
    raise ValueError(f"must be one of {', '.join(PROFILE_NAMES)}")


def to_responses_profile(profile: ProviderProfile) -> ProviderProfile:
    """Return the profile of the same upstream for OpenAI's Responses API.

    This API has its own form of reasoning, and requests can return the reasoning. It has no
    prefill and no `top_k`, and its cache breakpoints last longer. If an upstream accepts files, its
    tool results may contain files too. Local servers accept only text in tool results.
    """
    return replace(
        profile,
        reasoning="responses",
        thinking_budget_field="",
        replays_reasoning=True,
        takes_files=profile.responses_files,
        tool_parts=profile.responses_files,
        prefill="refused",
        sampling_top_k=False,
        extra_fields=tuple(name for name in profile.extra_fields if name not in SAMPLING_FIELDS),
        cache_control=False,
        cache_breakpoints="12h" if profile.cache_breakpoints else "",
    )
