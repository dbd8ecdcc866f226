"""Calls in text: every format, however it is cut, and texts that are not calls."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.tool_calls.call_format import TextCallFormat
from anthropic_proxy.translate.tool_calls.text_formats import (
    BARE_FORMAT,
    FORMATS,
    STRIPPED_HARMONY_FORMAT,
)
from anthropic_proxy.translate.tool_calls.text_parser import MAX_CALLS, TextCallParser
from tests.support.splits import random_pieces
from tests.support.text_calls import NOW, PARIS, ROME, TOOLS, cut_in_all_ways, split

JSON = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
ROME_JSON = '{"name": "get_weather", "parameters": {"city": "Rome"}}'
CODER = "<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>"
DEEPSEEK = (
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{}\n```<｜tool▁call▁end｜>"
)
DEEPSEEK_31 = '<｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city":"Paris"}<｜tool▁call▁end｜>'
KIMI = (
    "<|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
    '{"city":"Paris"}<|tool_call_end|>'
)


def deepseek(*arguments: str) -> str:
    calls = "\n".join(DEEPSEEK.replace("{}", each) for each in arguments)
    return f"<｜tool▁calls▁begin｜>{calls}<｜tool▁calls▁end｜>"


CALLS = {
    "hermes": (f"<tool_call>\n{JSON}\n</tool_call>", [PARIS]),
    "hermes, two": (
        f"<tool_call>{JSON}</tool_call>\n<tool_call>{ROME_JSON}</tool_call>",
        [PARIS, ROME],
    ),
    "hermes, text around": (
        f"Let me see.\n\n<tool_call>\n{JSON}\n</tool_call>\nDone. ",
        ["Let me see.", PARIS, "Done. "],
    ),
    "hermes, not closed": (f"<tool_call>\n{JSON}\n", [PARIS]),
    "hermes, single quotes": ("<tool_call>{'name': 'now', 'arguments': {}}</tool_call>", [NOW]),
    "hermes, arguments in a string": (
        '<tool_call>{"name": "now", "arguments": "{}"}</tool_call>',
        [NOW],
    ),
    "hermes, a bracket missing": (
        '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}</tool_call>',
        [PARIS],
    ),
    "hermes, no arguments": ('<tool_call>{"name": "now"}</tool_call>', [NOW]),
    "hermes, a list": (f"<tool_call>[{JSON}, {ROME_JSON}]</tool_call>", [PARIS, ROME]),
    "hermes, OpenAI's shape": (
        f'<tool_call>{{"type": "function", "function": {JSON}}}</tool_call>',
        [PARIS],
    ),
    "hermes, the tag in a string": (
        '<tool_call>{"name": "get_weather", "arguments": {"city": "</tool_call> x"}}</tool_call>',
        [("get_weather", {"city": "</tool_call> x"})],
    ),
    "coder": (f"<tool_call>\n{CODER}\n</tool_call>", [PARIS]),
    "coder, without the tag": (CODER, [PARIS]),
    "coder, without the opening tag": (f"Now:\n{CODER}\n</tool_call> ok", ["Now:", PARIS, "ok"]),
    "coder, two": (f"{CODER}\n{CODER}", [PARIS, PARIS]),
    "coder, types": (
        (
            "<function=get_weather><parameter=city>\n 5\nlines \n</parameter>"
            "<parameter=days>3</parameter>"
            "<parameter=raw>{'a': True}</parameter><parameter=other>1</parameter></function>"
        ),
        [("get_weather", {"city": " 5\nlines ", "days": 3, "raw": {"a": True}, "other": "1"})],
    ),
    "coder, the wrong type": (
        "<function=get_weather><parameter=days>soon</parameter></function>",
        [("get_weather", {"days": "soon"})],
    ),
    "coder, nothing": ("<function=now></function>", [NOW]),
    "hermes, two with members around the function": (
        (
            f'<tool_call>{{"type": "function", "function": {JSON}}}; '
            f'{{"function": {ROME_JSON}}}</tool_call>'
        ),
        [PARIS, ROME],
    ),
    "hermes, repaired, with members around the function": (
        f'<tool_call>{{"type": "function", "function": {JSON}</tool_call>',
        [PARIS],
    ),
    "llama": ('<function=get_weather>{"city": "Paris"}</function>', [PARIS]),
    "llama, python tag": (f"<|python_tag|>{ROME_JSON}", [ROME]),
    "llama, two": (f"<|python_tag|>{ROME_JSON}; {JSON}<|eom_id|>", [ROME, PARIS]),
    "bare": (ROME_JSON, [ROME]),
    "bare, two": (f"\n{ROME_JSON}\n{JSON}", [ROME, PARIS]),
    "bare, arguments first": ('{"arguments": {"city": "Paris"}, "name": "get_weather"}', [PARIS]),
    "bare, a list": (f"[{JSON}]", [PARIS]),
    "mistral": (f"[TOOL_CALLS][{JSON}, {ROME_JSON}]", [PARIS, ROME]),
    "mistral, spaces": (f"[TOOL_CALLS] [ {JSON} ]</s>", [PARIS]),
    "mistral, name": ('Now. [TOOL_CALLS]get_weather{"city": "Paris"}', ["Now.", PARIS]),
    "mistral, args": (
        '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}[TOOL_CALLS]now[ARGS]{}',
        [PARIS, NOW],
    ),
    "mistral, id": ('[TOOL_CALLS]get_weather[CALL_ID]a1b2c3d4e[ARGS]{"city": "Paris"}', [PARIS]),
    "deepseek": (deepseek('{"city": "Paris"}', '{"city": "Rome"}'), [PARIS, ROME]),
    "deepseek 3.1": (f"<｜tool▁calls▁begin｜>{DEEPSEEK_31}<｜tool▁calls▁end｜>", [PARIS]),
    "deepseek, not closed": (f"<｜tool▁calls▁begin｜>{DEEPSEEK_31}", [PARIS]),
    "glm": (
        (
            "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n"
            "<arg_key>days</arg_key><arg_value>3</arg_value>\n</tool_call>"
        ),
        [("get_weather", {"city": "Paris", "days": 3})],
    ),
    "glm, nothing": ("<tool_call>now\n</tool_call>", [NOW]),
    "kimi, without a namespace": (
        (
            "<|tool_calls_section_begin|>"
            '<|tool_call_begin|>get_weather:0<|tool_call_argument_begin|>{"city":"Paris"}'
            "<|tool_call_end|><|tool_calls_section_end|>"
        ),
        [PARIS],
    ),
    "kimi": (f"<|tool_calls_section_begin|>{KIMI}{KIMI}<|tool_calls_section_end|>", [PARIS, PARIS]),
    "block": (f"I will look:\n\n```json\n{JSON}\n```\n", ["I will look:", PARIS]),
    "marker at the end of a block": (
        f"```sh\nls\n```<tool_call>{JSON}</tool_call>",
        ["```sh\nls\n```", PARIS],
    ),
    "special tokens behind a call": (
        f"<tool_call>{JSON}</tool_call></tool_call><|im_end|> ok",
        [PARIS, "ok"],
    ),
    "marker behind an example in tags": (
        (
            f"Like:\n<pre>\n```\n<tool_call>{ROME_JSON}</tool_call>\n</pre>\n"
            f"<tool_call>{JSON}</tool_call>"
        ),
        [f"Like:\n<pre>\n```\n<tool_call>{ROME_JSON}</tool_call>\n</pre>", PARIS],
    ),
    "marker behind an example in tags, in a line": (
        f"Like <code><tool_call>{ROME_JSON}</tool_call></code>: <tool_call>{JSON}</tool_call>",
        [f"Like <code><tool_call>{ROME_JSON}</tool_call></code>:", PARIS],
    ),
    "marker in the paragraph behind a tag in a line": (
        f"Write it in <example> tags.\n\n<tool_call>{JSON}</tool_call>",
        ["Write it in <example> tags.", PARIS],
    ),
    "marker behind a tag in a code block": (
        f"```html\n<pre>\n```\n<tool_call>{JSON}</tool_call>",
        ["```html\n<pre>\n```", PARIS],
    ),
    "marker behind a tag in inline code": (
        f"Use `<pre>`. <tool_call>{JSON}</tool_call>",
        ["Use `<pre>`.", PARIS],
    ),
    "marker behind another tag": (
        f"<b>\n<tool_call>{JSON}</tool_call>",
        ["<b>", PARIS],
    ),
    "marker behind a longer tag": (
        f"<preface>\n<tool_call>{JSON}</tool_call>",
        ["<preface>", PARIS],
    ),
    "marker behind a block of tildes": (
        f"~~~sh\nls\n~~~\n<tool_call>{JSON}</tool_call>",
        ["~~~sh\nls\n~~~", PARIS],
    ),
    "marker behind tildes": (f"~~ 5 ~~~\n<tool_call>{JSON}</tool_call>", ["~~ 5 ~~~", PARIS]),
    "marker behind an indented example": (
        f"So:\n    <tool_call>{ROME_JSON}</tool_call>\n<tool_call>{JSON}</tool_call>",
        [f"So:\n    <tool_call>{ROME_JSON}</tool_call>", PARIS],
    ),
    "marker behind indented text": (
        f"So:\n    x = 1\n<tool_call>{JSON}</tool_call>",
        ["So:\n    x = 1", PARIS],
    ),
    "marker in a slightly indented line": (
        f"So:\n   <tool_call>{JSON}</tool_call>",
        ["So:", PARIS],
    ),
    "indented lines in a marker": (
        (
            "<tool_call>\n    <function=get_weather>\n"
            "        <parameter=city>Paris</parameter>\n    </function>\n</tool_call>"
        ),
        [PARIS],
    ),
    "a second, indented call": (
        f"<tool_call>{JSON}</tool_call>\n    <tool_call>{ROME_JSON}</tool_call>",
        [PARIS, ROME],
    ),
    "a name with a namespace": (
        f"<tool_call>{JSON.replace('get_', 'functions.get_')}</tool_call>",
        [PARIS],
    ),
    "marker behind a block": (
        f"```sh\nls\n```\n<tool_call>{JSON}</tool_call>",
        ["```sh\nls\n```", PARIS],
    ),
    "block, in a list": (f"1. So:\n   ```json\n{JSON}\n   ```", ["1. So:", PARIS]),
    "block, a list": (f"```json\n[{JSON}, {ROME_JSON}]\n```", [PARIS, ROME]),
    "space before": (f"Now{' ' * 150}\n<tool_call>{JSON}</tool_call>", [f"Now{' ' * 51}", PARIS]),
    "block, a fence in a string": (
        '```json\n{"name": "get_weather", "arguments": {"city": "```"}}\n```',
        [("get_weather", {"city": "```"})],
    ),
}


@pytest.mark.parametrize(("text", "expected"), CALLS.values(), ids=CALLS)
def test_calls(text: str, expected: list[Any]) -> None:
    assert split([text]) == split(list(text)) == expected
    for seed in range(20):
        assert split(random_pieces(text, seed)) == expected


UNKNOWN = JSON.replace("get_weather", "other")
TEXTS = {
    "endless space": f"a{' ' * 333}",
    "deepseek, endless space": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{"
        f"{' ' * 9999}<｜tool▁calls▁end｜>"
    ),
    "glm, a key without a value": (
        "<tool_call>now<arg_key>a</arg_key> or <arg_key>b</arg_key><arg_value>c</arg_value>"
        "</tool_call>"
    ),
    "nothing": "",
    "prose": "1 < 2, `a[0]` and [x] \n",
    "space": " \n",
    "another name": f"<tool_call>\n{UNKNOWN}\n</tool_call> and so on",
    "one of two is another": f"<tool_call>{JSON}\n{UNKNOWN}</tool_call>",
    "another name, coder": CODER.replace("get_weather", "other"),
    "another name, mistral": f"[TOOL_CALLS][{UNKNOWN}]",
    "another name, deepseek": deepseek("{}").replace("get_weather", "other"),
    "another name, kimi": f"<|tool_calls_section_begin|>{KIMI}<|tool_calls_section_end|>".replace(
        "get_weather", "other"
    ),
    "another name, glm": "<tool_call>other\n</tool_call>",
    "another name, bare": UNKNOWN,
    "half of a call": f"See <tool_call>\n{JSON[:-3]}",
    "half of a function": '<function=get_weather>{"city": "Par',
    "half of a section": f"<|tool_calls_section_begin|>{KIMI[:-10]}",
    "half of a name": "<tool_call>get_weather",
    "half of a marker": "a <tool_ca",
    "a broken call": f"<tool_call>{JSON[:-1]} nonsense</tool_call> and on",
    "a broken call, the tag in a string": (
        '<tool_call>{"name": "now", "arguments": {"a": "\n</tool_call>"}}'
    ),
    "the tag alone": "The model writes <tool_call> and </tool_call> around it.",
    "bare, in prose": f"Like so: {JSON}",
    "bare, and prose": f"{JSON} is a call",
    "bare, more keys": JSON[:-1] + ', "more": 1}',
    "bare, other JSON": '{"name": "Paris", "arguments": [1]}',
    "bare, a name alone": '{"name": "get_weather"}',
    "block, then prose": f"Like so:\n```json\n{JSON}\n```\nThat was it.",
    "marker in a block": f"Like so:\n\n  ```xml\n  <tool_call>\n{JSON}\n</tool_call>\n  ```\n",
    "marker in a block, at the start": f"```\n<tool_call>{JSON}</tool_call>\n```",
    "marker in inline code": f"Like so: `<tool_call>{JSON}</tool_call>`, or ``<function=now>``.",
    **{
        f"marker after the tag {tag}": f"Like so:\n<{tag}>\n<tool_call>{JSON}</tool_call>\n{rest}"
        for tag, rest in {
            "pre": "</pre>\nDone.",
            "PRE": "</PRE>\nDone.",
            'pre lang="xml"': "</pre>",
            "pre><code": "</code></pre>",
            "code": "</code>",
            "samp": "</samp>",
            "xmp": "</xmp>",
            "example": "</example>",
            "examples": f"\n\n<tool_call>{JSON}</tool_call></examples>",
            "sample": "\nand no end tag",
        }.items()
    },
    "marker after a tag, at the start": f"<example><tool_call>{JSON}</tool_call></example>",
    "marker after a tag in a line": f"Write <code><tool_call>{JSON}</tool_call></code>, or\nnot.",
    "block after a tag": f"<example>\n```json\n{JSON}\n```\n</example>",
    "marker in a block of tildes": f"So:\n~~~xml\n<tool_call>{JSON}</tool_call>\n~~~\n",
    "marker in a block of tildes, with backticks": (
        f"~~~\n```\n<tool_call>{JSON}</tool_call>\n```\n~~~"
    ),
    "marker in a block of backticks, with tildes": (
        f"```\n~~~\n~~~\n~~~\n<tool_call>{JSON}</tool_call>\n```"
    ),
    "marker in a long block": f"````\n```xml\n```\n<tool_call>{JSON}</tool_call>\n````",
    "block in a block of tildes": f"~~~\n```json\n{JSON}\n```",
    "marker in an indented line": f"So:\n\n    <tool_call>{JSON}</tool_call>\nDone.",
    "marker in an indented line, at the start": f"    <tool_call>{JSON}</tool_call>",
    "marker in a line indented by a tab": f"So:\n\t<tool_call>{JSON}</tool_call>\n",
    "marker in a much indented line": f"So:\n{' ' * 150}<tool_call>{JSON}</tool_call>",
    "markers in an indented line": "So:\n    <tool_call><function=now></function></tool_call>",
    "markers in indented lines": (
        "So:\n    <tool_call>\n    <function=get_weather>\n    </function>"
    ),
    "block, indented": f"So:\n\n    ```json\n{JSON}\n    ```",
    "block, within a line": f"Like so: ```json\n{JSON}\n```",
    "block, other JSON": '```json\n{"a": 1}\n```',
    "block, not closed": f"```json\n{JSON}\n",
    "block, of another language": f"```python\n{JSON}\n```",
    "python": "<|python_tag|>print(1)",
    "arguments of no use": '<tool_call>{"name": "now", "arguments": [1]}</tool_call>',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_texts(text: str) -> None:
    for pieces in ([text], list(text), *(random_pieces(text, seed) for seed in range(20))):
        assert "".join(split(pieces)) == text


@pytest.mark.parametrize("body", [JSON, CODER, ROME_JSON.replace("Rome", "Paris")])
def test_half_a_surrogate_pair_in_a_call_is_replaced(body: str) -> None:
    text = f"<tool_call>{body}</tool_call>".replace("Paris", "\ud83d Paris \ud83d\ude00")
    expected = [("get_weather", {"city": "\ufffd Paris \U0001f600"})]
    assert split([text]) == split(list(text)) == expected


@pytest.mark.parametrize("gap", ["`, so:\n", "` ", "``, `", "\n\n"])
def test_inline_code_with_a_call_behind_it(gap: str) -> None:
    example = f"Like `<tool_call>{ROME_JSON}</tool_call>"
    text = f"{example}{gap}I call <tool_call>{JSON}</tool_call>"
    for pieces in cut_in_all_ways(text):
        assert split(pieces) == [f"{example}{gap}I call", PARIS]


def test_a_block_with_a_call_behind_it() -> None:
    example = f"Like so:\n```json\n{ROME_JSON}\n```"
    assert split([f"{example}\n<tool_call>{JSON}</tool_call>"]) == [example, PARIS]


@pytest.mark.parametrize(
    "pieces",
    [lambda text: [text], list, lambda text: random_pieces(text, 3)],
    ids=["whole", "bytes", "cut"],
)
def test_calls_beyond_the_limit_are_text(pieces: Callable[[str], list[str]]) -> None:
    call = "<function=now></function>"
    assert split(pieces(call * MAX_CALLS + call)) == [NOW] * MAX_CALLS + [call]
    assert split(pieces(f"[TOOL_CALLS]{'now{}' * MAX_CALLS}")) == [NOW] * MAX_CALLS
    together = f"[TOOL_CALLS]{'now{}' * (MAX_CALLS + 1)}"
    assert split(pieces(together)) == [together]


def test_a_truncated_response_has_no_unfinished_call() -> None:
    text = f"<tool_call>{CODER}"
    assert split([text], truncated=True) == [text]


def test_without_tools_and_after_a_structured_call_text_passes() -> None:
    text = f"<tool_call>{JSON}</tool_call>"
    assert TextCallParser({}).feed(text) == [text]
    calls = TextCallParser(TOOLS)
    assert calls.feed("a <tool") == ["a"]
    assert calls.stop() == [" <tool"]
    assert calls.feed(text) == [text]
    inside = TextCallParser(TOOLS)
    assert inside.feed(text[:30]) == []
    assert inside.stop() == [text[:30]]


@pytest.mark.parametrize(
    "text",
    [
        f'{{"name": "get_weather", "version": "1.0", "more": "{" and on" * 99}"}}',
        f'```json\n{{"name": "get_weather", "description": "{" and on" * 99}"}}\n```',
        f"The models write <function=get_weather> and then {' and on' * 99}",
        f"endless space{' ' * 999}",
        f"endless lines{chr(10) * 999}",
        f"endless code{'`' * 999}",
    ],
)
def test_no_more_is_held_back_than_could_be_a_call(text: str) -> None:
    calls = TextCallParser(TOOLS)
    out = 0
    for number, character in enumerate(text, 1):
        out += sum(len(part) for part in calls.feed(character) if isinstance(part, str))
        assert number - out < 110, text[out:number]


def test_plain_text_is_not_held_back() -> None:
    calls = TextCallParser(TOOLS)
    assert [calls.feed(piece) for piece in ("Hello", ",", " world", " <")] == [
        ["Hello"],
        [","],
        [" world"],
        [],
    ]


markers = (
    "<tool_call> </tool_call> ```json\n ``` <function= </function> <arg_key> [TOOL_CALLS]"
    " <|python_tag|>"
    ' <｜tool▁calls▁begin｜> now other > { } "name" : , " [ ] \n < a `'
    " <｜DSML｜ tool_calls> <invoke </invoke> ]<]minimax[>[ <|channel|> <|start|>assistant"
    " commentary to=functions. <|message|> <|tool_call> call: <tool_call|>"
)
pieces_of_markers = st.sampled_from([*markers.split(" "), " "])


@given(
    st.lists(pieces_of_markers | st.text(max_size=3), max_size=14), st.integers(0, 9), st.booleans()
)
def test_text_without_offered_names_is_unchanged(
    words: list[str], seed: int, truncated: bool
) -> None:
    text = "".join(words).replace("now", "then").replace("get_weather", "")
    assert "".join(split(random_pieces(text, seed), truncated=truncated)) == text


OPENERS = [form.opener for form in FORMATS]


def test_no_opener_begins_within_another_one() -> None:
    """The parser finds openers in one pass, and holds what may be the beginning of one."""
    ends = {opener[at:] for opener in OPENERS for at in range(1, len(opener))}
    beginnings = {opener[:size] for opener in OPENERS for size in range(1, len(opener) + 1)}
    held_together = {"`", "``"}
    # The marker of MiniMax M3 and the one of Mistral never follow each other.
    assert ends & beginnings <= held_together | {"[", "]"}


@pytest.mark.parametrize(
    "form", [*FORMATS, BARE_FORMAT, STRIPPED_HARMONY_FORMAT], ids=lambda form: form.opener or "bare"
)
def test_an_opening_goes_on_behind_the_name(form: TextCallFormat) -> None:
    for before, after in form.split_openings:
        assert before or after
        assert not re.fullmatch(r"[\w-]+", after)
