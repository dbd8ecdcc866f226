"""The table of provider profiles: one row for each kind of upstream, with the document or recording
that proves it.

`GENERIC`, the subset that every recorded server accepts, is for servers that no row names. A new
kind of upstream is a row here and a recorded case in the tests.
"""

from dataclasses import replace

from anthropic_proxy.providers.provider_profile import ProviderProfile, override_profile

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

# Ollama 0.5 and transformers ignore max_completion_tokens and run on for ever (recorded), while every server takes
# max_tokens. top_k: llama.cpp, vLLM, Ollama, LM Studio and SGLang take it. Of those none takes `file` parts, and llama.cpp
# and Ollama fetch no images.
GENERIC = ProviderProfile(
    "generic",
    max_tokens_field="max_tokens",
    sampling_top_k=True,
    system_anywhere=False,
    replays_reasoning=True,
    reasoning="template",
    user_field="user",
    prompt_cache_key=False,
    counts_tokens=True,
    takes_files=False,
    responses_files=False,
    fetches_image_urls=False,
    prefill="continued",
    service_tiers=False,
)

# A service: it fetches images, has no way to count, and what it refuses of the rest is learned.
_SERVICE = replace(
    GENERIC,
    sampling_top_k=False,
    reasoning="effort",
    counts_tokens=False,
    fetches_image_urls=True,
    prefill="refused",
)

# platform.openai.com/docs/guides/your-data: regions have hosts of their own, such as eu.api.openai.com.
_OPENAI = ProviderProfile("openai", hosts=("api.openai.com", ".api.openai.com"))

PROFILES: tuple[ProviderProfile, ...] = (
    # platform.openai.com/docs/api-reference/chat: max_tokens is deprecated, and refused by o-series and GPT-5.
    _OPENAI,
    # learn.microsoft.com/azure/ai-foundry/openai/latest (the v1 address) and .../reference (deployments with api-version);
    # learn.microsoft.com/azure/azure-government/compare-azure-government-global-azure. Deployments of reasoning models
    # refuse versions before 2024-12-01-preview. Files are refused by Chat Completions ("This model does not support file
    # content types", for models that take them at OpenAI) and taken by Responses (.../how-to/responses).
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
        user_field="user",
        takes_files=False,
    ),
    # openrouter.ai/docs/api-reference/parameters; it routes to models of every kind of template. Marks of caching
    # (docs/guides/best-practices/prompt-caching) are passed to the providers that know them, and are nothing to the others.
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
        cache_control=True,
        user_field="user",
        prompt_cache_key=False,
        prefill="continued",
        service_tiers=False,
    ),
    # Self-hosted servers, detected by a probe (see upstream/detection.py) or selected by name.
    replace(GENERIC, name="ollama"),
    replace(GENERIC, name="llamacpp"),
    # docs.vllm.ai and docs.sglang.ai, references of the chat API: images are fetched; after a last assistant message
    # they begin a new response unless a field asks for its continuation (recorded).
    replace(GENERIC, name="vllm", fetches_image_urls=True, prefill="continue_final_message"),
    replace(GENERIC, name="sglang", fetches_image_urls=True, prefill="continue_final_message"),
    # Recorded: "Invalid tool_choice type: 'object'. Supported string values: none, auto, required".
    replace(GENERIC, name="lmstudio", tool_choices="words"),
    # docs.litellm.ai: it translates requests for the provider behind it.
    replace(_SERVICE, name="litellm", takes_files=True, responses_files=True, sampling_top_k=True),
    # api-docs.deepseek.com, and .../guides/thinking_mode: `thinking: {type}` and `reasoning_effort`; within a tool loop the
    # reasoning must come back; prefix completion is beta; .../guides/json_mode: no schemas.
    replace(
        _SERVICE,
        name="deepseek",
        hosts=("api.deepseek.com",),
        reasoning="thinking",
        answer_format="json_object",
        user_field="",
    ),
    # docs.mistral.ai/api: unknown fields are refused (422), ids have 9 characters, thinking is a part of the content.
    replace(
        _SERVICE,
        name="mistral",
        hosts=("api.mistral.ai", "codestral.mistral.ai"),
        stream_options=False,
        tool_call_ids="nine",
        user_field="",
        prefill="prefix",
    ),
    # console.groq.com/docs/api-reference, .../docs/reasoning and .../docs/prefilling. Its service tiers have other names.
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
    ),
    # docs.fireworks.ai/api-reference/post-chatcompletions
    replace(
        _SERVICE,
        name="fireworks",
        hosts=("api.fireworks.ai",),
        api_path="/inference/v1",
        sampling_top_k=True,
    ),
    # inference-docs.cerebras.ai/api-reference/chat-completions: images as data alone.
    replace(
        _SERVICE,
        name="cerebras",
        hosts=("api.cerebras.ai",),
        max_tokens_field="max_completion_tokens",
        fetches_image_urls=False,
    ),
    # docs.x.ai/docs/api-reference: max_tokens is deprecated. Recorded: errors {"code", "error"}, a bad key is a 400.
    replace(
        _SERVICE,
        name="xai",
        hosts=("api.x.ai",),
        max_tokens_field="max_completion_tokens",
        system_anywhere=True,
        replays_reasoning=False,
    ),
    # ai.google.dev/gemini-api/docs/openai and .../thought-signatures: calls come with a signature (recorded),
    # and results, in its examples, with the name of the tool: some of its models refuse them without.
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
    # platform.moonshot.ai/docs/api/chat: images as data alone; the reasoning of a tool loop must come back. K2 models have
    # the switch, K3 the effort; what a model doesn't know is ignored. .../docs/api/partial.
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
    # docs.z.ai/api-reference/llm/chat-completion: `auto` is the only choice of tools, and JSON has no schema; the effort is
    # known from GLM-5.2 on, and ignored before.
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
    # platform.minimax.io/docs/api-reference/text-openai-api: the text holds the reasoning unless the request splits it
    # off. M3 has a switch for it, which M2 ignores. .../text-chat-openai: no response formats, and no forced calls.
    replace(
        _SERVICE,
        name="minimax",
        hosts=("api.minimax.io", "api.minimaxi.com"),
        reasoning="split",
        tool_choices="auto",
        answer_format="words",
        user_field="",
    ),
    # alibabacloud.com/help/en/model-studio/qwen-api-reference, .../deep-thinking, .../partial-mode and .../base-url
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
        prefill="partial",
    ),
    # docs.api.nvidia.com/nim/reference: vLLM and others behind it. Recorded: "auto" needs a server's switch.
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
    ),
)

PROFILE_NAMES: tuple[str, ...] = tuple(sorted(each.name for each in (*PROFILES, GENERIC)))


def find_profile_by_host(host: str) -> ProviderProfile:
    """Return the row that lists `host`, else `GENERIC`."""
    for profile in PROFILES:
        if any(
            host == pattern or (pattern.startswith(".") and host.endswith(pattern))
            for pattern in profile.hosts
        ):
            return profile
    return GENERIC


def find_profile_by_name(name: str) -> ProviderProfile:
    """Return the row of that name. Raises ValueError with all names."""
    for profile in (*PROFILES, GENERIC):
        if profile.name == name.lower():
            return profile
    raise ValueError(f"must be one of {', '.join(PROFILE_NAMES)}")


def to_responses_profile(profile: ProviderProfile) -> ProviderProfile:
    """Return the profile of the same upstream in OpenAI's Responses API.

    Reasoning has its own form there and can be sent back. The API has no prefill, no `top_k` and no
    cache marks. Where files are accepted, tool results hold them too; local servers know tool
    results as text.
    """
    return replace(
        profile,
        reasoning="responses",
        replays_reasoning=True,
        takes_files=profile.responses_files,
        tool_parts=profile.responses_files,
        prefill="refused",
        sampling_top_k=False,
        cache_control=False,
    )
