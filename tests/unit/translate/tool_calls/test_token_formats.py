"""Calls between special tokens: gpt-oss (Harmony) and Gemma."""

from typing import Any

import pytest

from tests.support.text_calls import NOW, PARIS, ROME, cut_in_all_ways, split

CITY = '{"city": "Paris"}'
START = "<|start|>assistant"


def harmony(arguments: str = CITY, name: str = "get_weather", content_type: str = "json") -> str:
    constraint = f" <|constrain|>{content_type}" if content_type else ""
    return f"<|channel|>commentary to=functions.{name}{constraint}<|message|>{arguments}"


def gemma(inner: str, name: str = "get_weather") -> str:
    return f"<|tool_call>call:{name}{{{inner}}}<tool_call|>"


def quote(text: str) -> str:
    return f'<|"|>{text}<|"|>'


GEMMA_PARIS = gemma(f"city:{quote('Paris')}")
GEMMA_ROME = GEMMA_PARIS.replace("Paris", "Rome")
GEMMA_VALUES = f"days:3,raw:{{a:[true,null,-1.5],b:{quote('x')}}},list:[{quote('a')},{quote('b')}]"
UNESCAPED = 'a "b" {c\\n\n}'

CALLS: dict[str, tuple[str, list[Any]]] = {
    "harmony": (f"{harmony()}<|call|>", [PARIS]),
    "harmony, no end": (harmony(), [PARIS]),
    "harmony, another end": (f"{harmony()}<|end|>", [PARIS]),
    "harmony, lines": (f"{harmony().replace(' <', chr(10) + '<')}\n<|call|>", [PARIS]),
    "harmony, no content type": (harmony(content_type=""), [PARIS]),
    "harmony, content types without a token": (
        f"{harmony()}<|call|>{harmony(content_type='code')}<|call|>".replace("<|constrain|>", ""),
        [PARIS, PARIS],
    ),
    "harmony, role": (f"{START}{harmony()}<|call|>", [PARIS]),
    "harmony, recipient in the role": (
        f"{START} to=functions.get_weather<|channel|>commentary json<|message|>{CITY}<|call|>",
        [PARIS],
    ),
    "harmony, recipient in the role, constrained": (
        f"{START} to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>{CITY}",
        [PARIS],
    ),
    "harmony, analysis": (
        f"{START}<|channel|>analysis to=functions.get_weather code<|message|>\n{CITY}<|call|>",
        [PARIS],
    ),
    "harmony, several, text around": (
        f"I look.\n{harmony()}<|call|>{START}{harmony('{}', 'now')}<|call|>Done.",
        ["I look.", PARIS, NOW, "Done."],
    ),
    "harmony, several without ends": (f"{harmony()}{START}{harmony('{}', 'now')}", [PARIS, NOW]),
    "harmony, the end in a string": (
        f"{harmony(CITY.replace('Paris', '<|call|>'))}<|call|>",
        [("get_weather", {"city": "<|call|>"})],
    ),
    "harmony, stripped": (f"commentary to=functions.get_weather json{CITY}", [PARIS]),
    "harmony, stripped, no content type": (
        f"commentary to=functions.get_weather {CITY}\n",
        [PARIS],
    ),
    "harmony, stripped, several": (
        f"\ncommentary to=functions.get_weather code{CITY}\nassistantcommentary to=now {{}}",
        [PARIS, NOW],
    ),
    "gemma": (GEMMA_PARIS, [PARIS]),
    "gemma, not closed": (GEMMA_PARIS.removesuffix("<tool_call|>"), [PARIS]),
    "gemma, no arguments": (gemma("", "now"), [NOW]),
    "gemma, several, text around": (
        f"I look. {GEMMA_PARIS}{GEMMA_ROME}<|tool_response> Done.",
        ["I look.", PARIS, ROME, "Done."],
    ),
    "gemma, values": (
        gemma(GEMMA_VALUES),
        [
            (
                "get_weather",
                {"days": 3, "raw": {"a": [True, None, -1.5], "b": "x"}, "list": ["a", "b"]},
            )
        ],
    ),
    "gemma, text without escapes": (
        gemma(f"city:{quote(UNESCAPED)}"),
        [("get_weather", {"city": UNESCAPED})],
    ),
    "gemma, quoted keys": (gemma(f"{quote('city')}:{quote('Paris')}"), [PARIS]),
    "gemma, JSON strings": (gemma('city: "Paris"'), [PARIS]),
    "gemma, braces in JSON strings": (
        gemma('city: "{\\"", days: 1'),
        [("get_weather", {"city": '{"', "days": 1})],
    ),
    "gemma, the name twice": (gemma('city: "Paris"', "get_weather:get_weather"), [PARIS]),
    "gemma, a namespace": (gemma('city: "Paris"', "default_api:get_weather"), [PARIS]),
    "function gemma": (
        "<start_function_call>call:get_weather{city:<escape>Paris<escape>}<end_function_call>",
        [PARIS],
    ),
}


@pytest.mark.parametrize(("text", "expected"), CALLS.values(), ids=CALLS)
def test_calls(text: str, expected: list[Any]) -> None:
    for pieces in cut_in_all_ways(text):
        assert split(pieces) == expected


TEXTS = {
    "harmony, another name": f"{harmony(name='other')}<|call|>",
    "harmony, another recipient": f"{harmony().replace('functions', 'browser')}<|call|>",
    "harmony, two recipients": f"{harmony().replace('json', 'json to=functions.now')}<|call|>",
    "harmony, no recipient": "<|channel|>commentary<|message|>I look.<|end|>",
    "harmony, final": f"<|channel|>final<|message|>{CITY}",
    "harmony, one of two is another": f"{harmony()}{START}{harmony(name='other')}",
    "harmony, another message behind": f"{harmony()}{START}<|channel|>final<|message|>Done.",
    "harmony, half of the arguments": harmony(CITY[:-3]),
    "harmony, no object": f"{harmony('[1]')}<|call|>",
    "harmony, in a block": f"Like so:\n```\n{harmony()}<|call|>\n```",
    "harmony, inline": f"Like so: `{harmony()}<|call|>`",
    "harmony, stripped, in prose": f"It writes commentary to=functions.get_weather json{CITY}",
    "harmony, stripped, and prose": f"commentary to=functions.get_weather json{CITY} is a call",
    "harmony, stripped, another name": f"commentary to=functions.other json{CITY}",
    "harmony, stripped, half": f"commentary to=functions.get_weather json{CITY[:-1]}",
    "harmony, stripped, glued": f"commentary to=functions.get_weatherjson{CITY}",
    "a word": "commentary",
    "gemma, another name": gemma('city: "Paris"', "other"),
    "gemma, two names": gemma('city: "Paris"', "get_weather:now"),
    "gemma, half of a string": f"<|tool_call>call:get_weather{{city:{quote('Par')[:-3]}",
    "gemma, a bracket missing": f"<|tool_call>call:get_weather{{city:{quote('Paris')}",
    "gemma, a bracket missing at the end": (
        f"<|tool_call>call:get_weather{{raw:{{a:{quote('Paris')}}}"
    ),
    "gemma, the end in a string": gemma(f"city:{quote('<tool_call|>')}"),
    "gemma, bare words": gemma("city:Paris"),
    "gemma, in a block": f"Like so:\n```\n{GEMMA_PARIS}\n```",
    "gemma, inline": f"Like so: `{GEMMA_PARIS}`",
    "the tokens alone": "It writes <|tool_call> and <|channel|>commentary to=functions. before it.",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_texts(text: str) -> None:
    for pieces in cut_in_all_ways(text):
        assert split(pieces) == [text]


@pytest.mark.parametrize("text", [harmony(), GEMMA_PARIS])
def test_a_truncated_call_is_text(text: str) -> None:
    for end in range(1, len(text)):
        assert split([text[:end]], truncated=True) == [text[:end]]
