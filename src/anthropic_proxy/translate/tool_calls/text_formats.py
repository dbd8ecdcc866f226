"""Formats in which models write tool calls as text.

A table has one row for each format, with its markers and its reader. The rows cite the chat
template by its repository on Hugging Face, or the vendor's documentation. Servers with a parser for
their model convert such calls; other servers forward them as text. A text is a call only if it has
the name of an offered tool. If one of several calls within a pair of markers is invalid, all of
them are text.

All patterns match or fail in linear time: adjacent repetitions have no characters in common.
"""

from anthropic_proxy.translate.tool_calls.call_format import NAME, TextCallFormat
from anthropic_proxy.translate.tool_calls.tag_formats import (
    M3_MARKER,
    read_function,
    read_m3_invoke,
    read_tagged_invoke,
    read_tool_call,
)
from anthropic_proxy.translate.tool_calls.text_calls import read_bare_documents, read_documents
from anthropic_proxy.translate.tool_calls.token_formats import (
    HARMONY_MESSAGE,
    read_deepseek,
    read_gemma,
    read_harmony,
    read_kimi,
    read_mistral,
    read_stripped_harmony,
)

_ARGUMENT_MEMBERS = (
    '"arguments":{',
    '"arguments":"',
    '"arguments":null',
    '"parameters":{',
    '"parameters":"',
    '"parameters":null',
)
# With a name, the opening extends to the arguments: many JSON documents start with a name.
_CALL_MEMBERS = (
    *_ARGUMENT_MEMBERS,
    *(f'"name":"{NAME}",{member}' for member in _ARGUMENT_MEMBERS),
)
_JSON_OPENINGS = (
    *(f"{{{member}" for member in _CALL_MEMBERS),
    *(f"[{{{member}" for member in _CALL_MEMBERS),
)

# Llama 3.1 and 3.2 without the python tag, and models without a specific format that imitate the
# API's. meta-llama/Llama-3.2-3B-Instruct
BARE_FORMAT = TextCallFormat("", None, _JSON_OPENINGS, read_bare_documents)

# Models without a specific format that write calls as code blocks.
FENCE_FORMAT = TextCallFormat(
    "```json", "```", _JSON_OPENINGS, read_bare_documents, must_be_last=True
)

# gpt-oss on servers that remove special tokens. Accepted as the complete response.
# github.com/raullenchai/Rapid-MLX/issues/480
STRIPPED_HARMONY_FORMAT = TextCallFormat(
    "",
    None,
    tuple(f"commentaryto=functions.{NAME}{word}{{" for word in ("", "json", "code")),
    read_stripped_harmony,
)

_INVOKE_OPENINGS = (f'name="{NAME}">', f"name='{NAME}'>", f"name={NAME}>")
_WRAPPED_INVOKE_OPENINGS = tuple(f"<invoke{opening}" for opening in _INVOKE_OPENINGS)
_M3_INVOKE_OPENINGS = tuple(f"{M3_MARKER}{opening}" for opening in _WRAPPED_INVOKE_OPENINGS)

# The bars around DSML. DeepSeek's encoding has full-width bars; the other forms are seen in
# responses. deepseek-ai/DeepSeek-V3.2, github.com/lsdefine/GenericAgent/issues/804,
# github.com/AgentFlocks/flocks/pull/687, github.com/cline/cline/issues/13348
_DSML_TAGS = tuple(f"{bar}DSML{bar}" for bar in ("｜", "｜｜", "|", "||", "‖", " | "))
# The tags around the calls: V3.2, V4, and names that models write in their place.
_DSML_WRAPPERS = ("function_calls", "tool_calls", "calls", "tool_use")


def _build_dsml_format(tag: str) -> TextCallFormat:
    dense_tag = tag.replace(" ", "")
    wrappers = ("", *(f"{wrapper}><{dense_tag}" for wrapper in _DSML_WRAPPERS))
    openings = tuple(
        f"{wrapper}invoke{opening}" for wrapper in wrappers for opening in _INVOKE_OPENINGS
    )
    return TextCallFormat(
        f"<{tag}",
        f"</{tag}invoke>",
        openings,
        read_tagged_invoke(tag),
        other_ends=(f"</{tag} invoke>",),
    )


_HARMONY_CALLS = tuple(
    f"to=functions.{NAME}{channel}{content_type}{HARMONY_MESSAGE}{{"
    for channel in ("", "<|channel|>commentary", "<|channel|>analysis")
    for content_type in ("", "<|constrain|>json", "json", "code")
)
_HARMONY_OPENINGS = tuple(
    f"{channel}{call}" for channel in ("commentary", "analysis") for call in _HARMONY_CALLS
)

FORMATS = (
    # Hermes 2 Pro and Qwen 2.5 (JSON), Qwen3-Coder (tags of functions and parameters), GLM 4.5
    # (name, then keys and values in tags).
    # NousResearch/Hermes-2-Pro-Llama-3-8B, Qwen/Qwen2.5-7B-Instruct,
    # Qwen/Qwen3-Coder-480B-A35B-Instruct, zai-org/GLM-4.5
    TextCallFormat(
        "<tool_call>",
        "</tool_call>",
        (
            *("{", "[{", "<function=NAME>", "NAME<arg_key>", "NAME</tool_call>"),
            *_WRAPPED_INVOKE_OPENINGS,
            *_M3_INVOKE_OPENINGS,
        ),
        read_tool_call,
    ),
    # Qwen3-Coder without the outer tag, and custom tools of Llama 3.1 with JSON in the tag.
    # Qwen/Qwen3-Coder-480B-A35B-Instruct, Meta's prompt format page for Llama 3.1
    TextCallFormat(
        "<function=",
        "</function>",
        ("NAME>{", "NAME><parameter=", "NAME></function>"),
        read_function,
    ),
    # Llama 3.1. meta-llama/Llama-3.1-8B-Instruct
    TextCallFormat("<|python_tag|>", None, ("{",), read_documents),
    # Mistral: a list of objects; newer models: `name[CALL_ID]id[ARGS]{...}` with a marker per call.
    # mistralai/Mistral-7B-Instruct-v0.3, mistralai/Mistral-Small-3.2-24B-Instruct-2506
    TextCallFormat(
        "[TOOL_CALLS]", None, ("[{", "NAME{", "NAME[ARGS]", "NAME[CALL_ID]"), read_mistral
    ),
    # DeepSeek: with a type and a code fence (V3, R1), or without both (V3.1).
    # deepseek-ai/DeepSeek-V3, deepseek-ai/DeepSeek-V3.1
    TextCallFormat(
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁calls▁end｜>",
        (
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME`",
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME{",
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME<",
            "<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>",
        ),
        read_deepseek,
    ),
    # Kimi K2. moonshotai/Kimi-K2-Instruct
    TextCallFormat(
        "<|tool_calls_section_begin|>",
        "<|tool_calls_section_end|>",
        (
            "<|tool_call_begin|>functions.NAME:",
            "<|tool_call_begin|>NAME:",
            "<|tool_call_begin|>NAME<|tool_call_argument_begin|>",
        ),
        read_kimi,
    ),
    # DeepSeek V3.2 and V4. Each call in the tags ends separately.
    # deepseek-ai/DeepSeek-V3.2, deepseek-ai/DeepSeek-V4
    *map(_build_dsml_format, _DSML_TAGS),
    # MiniMax M2 to M2.7, and models that imitate Claude. Each call in the tags ends separately.
    # MiniMaxAI/MiniMax-M2.1, github.com/MiniMax-AI/MiniMax-M2.5/issues/10
    TextCallFormat(
        "<minimax:tool_call>", "</invoke>", _WRAPPED_INVOKE_OPENINGS, read_tagged_invoke("")
    ),
    TextCallFormat(
        "<function_calls>",
        "</invoke>",
        _WRAPPED_INVOKE_OPENINGS,
        read_tagged_invoke(""),
        must_start_line=True,
    ),
    TextCallFormat(
        "<invoke", "</invoke>", _INVOKE_OPENINGS, read_tagged_invoke(""), must_start_line=True
    ),
    # MiniMax M3: a marker precedes each tag, and the tags of parameters have their names.
    # MiniMaxAI/MiniMax-M3, github.com/ikawrakow/ik_llama.cpp/pull/2008
    TextCallFormat(
        M3_MARKER,
        "</invoke>",
        (
            *_WRAPPED_INVOKE_OPENINGS,
            *(f"<tool_call>{opening}" for opening in _WRAPPED_INVOKE_OPENINGS),
            *(f"<tool_call>{opening}" for opening in _M3_INVOKE_OPENINGS),
        ),
        read_m3_invoke,
    ),
    # gpt-oss. The recipient is in the role or in the channel; servers remove the last token.
    # OpenAI's page "OpenAI harmony response format", github.com/waybarrios/vllm-mlx/pull/562
    TextCallFormat(
        "<|channel|>",
        "<|call|>",
        _HARMONY_OPENINGS,
        read_harmony,
        document_marker=HARMONY_MESSAGE,
    ),
    TextCallFormat(
        "<|start|>assistant",
        "<|call|>",
        (*(f"<|channel|>{opening}" for opening in _HARMONY_OPENINGS), *_HARMONY_CALLS),
        read_harmony,
        document_marker=HARMONY_MESSAGE,
    ),
    # Gemma 4, which sometimes repeats the name, and FunctionGemma.
    # google/gemma-4-31b-it, github.com/DenisovAV/flutter_gemma/issues/228,
    # google/functiongemma-270m-it
    TextCallFormat(
        "<|tool_call>", "<tool_call|>", (f"call:{NAME}{{", f"call:{NAME}:"), read_gemma('<|"|>')
    ),
    TextCallFormat(
        "<start_function_call>", "<end_function_call>", (f"call:{NAME}{{",), read_gemma("<escape>")
    ),
    FENCE_FORMAT,
)

# Markers after a call without the markers to which they belong: closing tags of several calls, and
# special tokens that the server does not remove.
STRAY_MARKERS = (
    # Qwen3-Coder omits the opening tag.
    "</tool_call>",
    *("</minimax:tool_call>", "</function_calls>", f"{M3_MARKER}</tool_call>"),
    *(f"</{tag}{wrapper}>" for tag in _DSML_TAGS for wrapper in _DSML_WRAPPERS),
    *(f"</{tag} {wrapper}>" for tag in _DSML_TAGS for wrapper in _DSML_WRAPPERS),
    # Gemma 4 requests the result.
    "<|tool_response>",
    *("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|return|>", "<｜end▁of▁sentence｜>"),
)
