"""What differs between upstreams that all call themselves OpenAI-compatible: one record of facts, one row for each.

The defaults of `Dialect` are OpenAI's own API. A server that no row names is spoken to in `generic`: the subset that
every recorded server takes. A new upstream is a row here and a recorded case in the tests.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Dialect:
    """Facts about one kind of upstream.

    hosts: host names it is known by; one that starts with a dot stands for every host below it.
    max_tokens_field: the request field that bounds the answer, in tokens.
    sampling_top_k: whether the request may hold `top_k`.
    system_anywhere: whether a system message may stand between or after the others. Many chat templates of local
        models refuse one, so elsewhere its text goes into a user message.
    replays_reasoning: whether an assistant message may hold the reasoning field that it came with. OpenAI's API has none.
    reasoning: the form in which a request says how much to think; see translate/request/thinking.py.
    user_field: the field for the end user.
    prompt_cache_key: whether the request may name the prompt cache that it shares.
    counts_tokens: whether it is worth asking for a way to count a request's tokens; see counting.py. Services have none.
    takes_files: whether a user message may hold `file` parts; the text of a PDF goes to those who don't.
    fetches_image_urls: whether it fetches an image by its address; the proxy does it for those who don't.
    prefill: what becomes of an assistant message at the end of the conversation; see translate/prefill.py.
    service_tiers: whether the request may hold `service_tier`.
    """

    name: str
    hosts: tuple[str, ...] = ()
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    sampling_top_k: bool = False
    system_anywhere: bool = True
    replays_reasoning: bool = False
    reasoning: Literal["openai", "openrouter", "template"] = "openai"
    user_field: Literal["safety_identifier", "user"] = "safety_identifier"
    prompt_cache_key: bool = True
    counts_tokens: bool = False
    takes_files: bool = True
    fetches_image_urls: bool = True
    prefill: Literal["continued", "refused", "continue_final_message", "prefix"] = "refused"
    service_tiers: bool = True


DIALECTS: tuple[Dialect, ...] = (
    # platform.openai.com/docs/api-reference/chat: max_tokens is deprecated, and refused by o-series and GPT-5.
    Dialect("openai", hosts=("api.openai.com", ".openai.azure.com")),
    # openrouter.ai/docs/api-reference/parameters; it routes to models of every kind of template.
    Dialect(
        "openrouter",
        hosts=("openrouter.ai",),
        max_tokens_field="max_tokens",
        sampling_top_k=True,
        system_anywhere=False,
        replays_reasoning=True,
        # openrouter.ai/docs/use-cases/reasoning-tokens
        reasoning="openrouter",
        user_field="user",
        prompt_cache_key=False,
        prefill="continued",
        service_tiers=False,
    ),
)

# Ollama 0.5 and transformers ignore max_completion_tokens and run on for ever (recorded), while every server takes
# max_tokens. top_k: llama.cpp, vLLM, Ollama, LM Studio and SGLang take it. Of those none takes `file` parts, and llama.cpp
# and Ollama fetch no images.
GENERIC = Dialect(
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
    fetches_image_urls=False,
    prefill="continued",
    service_tiers=False,
)


def dialect_of(host: str) -> Dialect:
    """The row that names `host`, else `GENERIC`."""
    for dialect in DIALECTS:
        if any(host == known or (known.startswith(".") and host.endswith(known)) for known in dialect.hosts):
            return dialect
    return GENERIC


def named(name: str) -> Dialect:
    """The row of that name. Raises ValueError with the names that there are."""
    for dialect in (*DIALECTS, GENERIC):
        if dialect.name == name.lower():
            return dialect
    raise ValueError(f"must be one of {', '.join(sorted(each.name for each in (*DIALECTS, GENERIC)))}")


def with_facts(dialect: Dialect, facts: Mapping[str, Any]) -> Dialect:
    """The dialect with other facts."""
    return replace(dialect, **facts)
