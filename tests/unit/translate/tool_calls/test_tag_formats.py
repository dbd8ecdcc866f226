"""Calls in `invoke` tags: DeepSeek's DSML, MiniMax, and imitations of Claude."""

from typing import Any

import pytest

from tests.support.text_calls import NOW, PARIS, ROME, cut_in_all_ways, split

TOOLS: dict[str, Any] = {
    "get_weather": {
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    },
    "now": {},
    "Todo": {
        "properties": {
            "todos": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "content": {"type": "string"},
                        "rank": {"type": "number"},
                        "done": {"type": "boolean"},
                    },
                },
            },
            "options": {"type": "object", "properties": {"depth": {"type": "integer"}}},
            "tags": {"type": "array", "items": {"type": "string"}},
        }
    },
}

DSML_BARS = ("｜", "｜｜", "|", "||", "‖", " | ")
NS = "]<]minimax[>["


def invoke(name: str = "get_weather", tag: str = "", attribute: str = "", **values: str) -> str:
    parameters = "".join(
        f'<{tag}parameter name="{key}"{attribute}>{value}</{tag}parameter>\n'
        for key, value in values.items()
    )
    return f'<{tag}invoke name="{name}">\n{parameters}</{tag}invoke>\n'


def wrap(calls: str, wrapper: str, tag: str = "") -> str:
    return f"<{tag}{wrapper}>\n{calls}</{tag}{wrapper}>"


def dsml(*calls: str, tag: str = "｜DSML｜") -> str:
    return wrap("".join(calls), "tool_calls", tag)


TRUE, FALSE = ' string="true"', ' string="false"'
D = "｜DSML｜"
DSML_PARIS = invoke(tag=D, attribute=TRUE, city="Paris")
DSML_ROME = invoke(tag=D, attribute=TRUE, city="Rome")


def m3(name: str, inner: str) -> str:
    return f'{NS}<invoke name="{name}">\n{inner}{NS}</invoke>\n'


def m3_wrap(*calls: str) -> str:
    return f"{NS}<tool_call>\n{''.join(calls)}{NS}</tool_call>"


M3_PARIS = m3("get_weather", f"{NS}<city>Paris{NS}</city>\n")
TODOS = (
    f"{NS}<todos>{NS}<item>{NS}<content>a < b, <b>{NS}</content>{NS}<rank>1.5{NS}</rank>"
    f"{NS}<done>true{NS}</done>{NS}</item>\n{NS}<item>{NS}<content>\n{NS}</content>{NS}</item>"
    f"{NS}</todos>"
)

CALLS: dict[str, tuple[str, list[Any]]] = {
    **{
        f"DSML {bar}": (
            dsml(
                invoke(tag=f"{bar}DSML{bar}", attribute=TRUE, city="Paris"), tag=f"{bar}DSML{bar}"
            ),
            [PARIS],
        )
        for bar in DSML_BARS
    },
    **{
        f"DSML {wrapper}": (wrap(DSML_PARIS, wrapper, D), [PARIS])
        for wrapper in ("function_calls", "calls", " calls", "tool_use")
    },
    **{
        f"DSML {bar}, a blank after each": (
            dsml(
                invoke(tag=f"{bar}DSML{bar} ", attribute=TRUE, city="Paris"),
                tag=f"{bar}DSML{bar} ",
            ),
            [PARIS],
        )
        for bar in DSML_BARS
    },
    "DSML, blanks after some": (
        (
            f'<{D}tool_calls><{D} invoke name="get_weather"><{D}parameter name="city">Paris'
            f"</{D} parameter></{D}invoke><{D}invoke name='now'></{D} invoke></{D} tool_calls>"
        ),
        [PARIS, NOW],
    ),
    "DSML, blanks, no wrapper": (DSML_PARIS.replace(D, f"{D} "), [PARIS]),
    "DSML, blanks, JSON": (
        f'<{D} invoke name="get_weather">{{"city": "Paris"}}</{D} invoke>',
        [PARIS],
    ),
    "DSML, double bars and a space": (
        wrap(invoke(tag="｜｜DSML｜｜", city="Paris"), " calls", "｜｜DSML｜｜"),
        [PARIS],
    ),
    "DSML, parallel, text around": (
        f"I look.\n\n{dsml(DSML_PARIS, DSML_ROME)}<｜end▁of▁sentence｜>Done.",
        ["I look.", PARIS, ROME, "Done."],
    ),
    "DSML, several": (f"{dsml(DSML_PARIS)}\n\n{dsml(DSML_ROME)}", [PARIS, ROME]),
    "DSML, no wrapper": (DSML_PARIS, [PARIS]),
    "DSML, wrapper not closed": (f"<{D}tool_calls>{DSML_PARIS}", [PARIS]),
    "DSML, nothing closed": (dsml(DSML_PARIS).partition(f"</{D}invoke>")[0], [PARIS]),
    "DSML, strings stay": (
        dsml(invoke(tag=D, attribute=TRUE, city="\n12 <b>\n", other="3")),
        [("get_weather", {"city": "\n12 <b>\n", "other": "3"})],
    ),
    "DSML, values": (
        dsml(invoke(tag=D, attribute=FALSE, city='"Paris"', days="3", more='[{"a": null}]')),
        [("get_weather", {"city": "Paris", "days": 3, "more": [{"a": None}]})],
    ),
    "DSML, a value that is no JSON": (dsml(invoke(tag=D, attribute=FALSE, city="Paris")), [PARIS]),
    "DSML, types of the schema": (
        dsml(invoke(tag=D, city="1", days="1")),
        [("get_weather", {"city": "1", "days": 1})],
    ),
    "DSML, no parameters": (dsml(invoke("now", D)), [NOW]),
    "DSML, JSON": (
        dsml(f'<{D}invoke name="get_weather">{{"city": "Paris"}}</{D}invoke>'),
        [PARIS],
    ),
    "DSML, a namespace": (dsml(DSML_PARIS.replace("get_", "functions.get_")), [PARIS]),
    "MiniMax": (wrap(invoke(city="Paris"), "minimax:tool_call"), [PARIS]),
    "MiniMax, parallel": (
        f"Look: {wrap(invoke(city='Paris') + invoke(city='Rome'), 'minimax:tool_call')} Done.",
        ["Look:", PARIS, ROME, "Done."],
    ),
    "MiniMax, the wrapper in a value": (
        wrap(invoke(city="</minimax:tool_call>"), "minimax:tool_call"),
        [("get_weather", {"city": "</minimax:tool_call>"})],
    ),
    "MiniMax, lines": (
        wrap(invoke(city="\n Paris\n", days="\n3\n"), "minimax:tool_call"),
        [("get_weather", {"city": " Paris", "days": 3})],
    ),
    "MiniMax, text that ends with a line": (
        wrap(invoke(city="Paris\n"), "minimax:tool_call"),
        [("get_weather", {"city": "Paris\n"})],
    ),
    "MiniMax, a JSON list": (
        wrap(invoke("Todo", tags='["a", "b"]'), "minimax:tool_call"),
        [("Todo", {"tags": ["a", "b"]})],
    ),
    "MiniMax, wrapper of M3": (
        wrap(invoke(city="Paris") + invoke(city="Rome"), "tool_call"),
        [PARIS, ROME],
    ),
    "function calls": (wrap(invoke(city="Paris") + invoke("now"), "function_calls"), [PARIS, NOW]),
    "invoke alone": (f"Now:\n{invoke(city='Paris')}\nok", ["Now:", PARIS, "ok"]),
    "invoke, in one line": (
        f"  {invoke(city='Paris')}{invoke(city='Rome')}".replace("\n", ""),
        [PARIS, ROME],
    ),
    "invoke, not closed": (invoke(city="Paris").replace("</invoke>\n", ""), [PARIS]),
    "invoke, single quotes": (invoke(city="Paris").replace('"', "'"), [PARIS]),
    "invoke, no quotes": (invoke(city="Paris").replace('"', ""), [PARIS]),
    "invoke, end in a JSON string": (
        '<invoke name="get_weather">{"city": "</invoke>"}</invoke>',
        [("get_weather", {"city": "</invoke>"})],
    ),
    "M3": (m3_wrap(M3_PARIS), [PARIS]),
    "M3, parallel, text around": (
        f"I look.{m3_wrap(M3_PARIS, m3('now', ''))} Done.",
        ["I look.", PARIS, NOW, "Done."],
    ),
    "M3, types": (
        m3_wrap(m3("get_weather", f"{NS}<city>1{NS}</city>\n{NS}<days>1{NS}</days>\n")),
        [("get_weather", {"city": "1", "days": 1})],
    ),
    "M3, nested": (
        m3_wrap(m3("Todo", TODOS)),
        [
            (
                "Todo",
                {
                    "todos": [
                        {"content": "a < b, <b>", "rank": 1.5, "done": True},
                        {"content": "\n"},
                    ]
                },
            )
        ],
    ),
    "M3, objects and empty values": (
        m3_wrap(
            m3(
                "Todo",
                f"{NS}<options>{NS}<depth>2{NS}</depth>{NS}</options>{NS}<tags>{NS}</tags>"
                f"{NS}<other>{NS}<item>1{NS}</item>{NS}</other>",
            )
        ),
        [("Todo", {"options": {"depth": 2}, "tags": [], "other": ["1"]})],
    ),
    "M3, end tags without markers": (
        m3_wrap(m3("get_weather", f"{NS}<city>Paris</city>\n{NS}<days>3</days>")),
        [("get_weather", {"city": "Paris", "days": 3})],
    ),
    "M3, parameters of M2": (
        m3_wrap(m3("get_weather", f'{NS}<parameter name="city">Paris{NS}</parameter>')),
        [PARIS],
    ),
    "M3, no wrapper": (M3_PARIS, [PARIS]),
    "M3, no marker before the first tag": (m3_wrap(M3_PARIS).removeprefix(NS), [PARIS]),
    "M3, no marker before the call": (m3_wrap(M3_PARIS.removeprefix(NS)), [PARIS]),
    "M3, call not closed": (m3_wrap(M3_PARIS).partition(f"{NS}</invoke>")[0], [PARIS]),
    "M3, only the wrapper closed": (m3_wrap(M3_PARIS.replace(f"{NS}</invoke>\n", "")), [PARIS]),
}


@pytest.mark.parametrize(("text", "expected"), CALLS.values(), ids=CALLS)
def test_calls(text: str, expected: list[Any]) -> None:
    for pieces in cut_in_all_ways(text):
        assert split(pieces, tools=TOOLS) == expected


OTHER = invoke("other", city="Paris")
TEXTS = {
    "another name": wrap(OTHER, "minimax:tool_call"),
    "another name, DSML": dsml(invoke("other", D, TRUE, city="Paris")),
    "another name, M3": m3_wrap(M3_PARIS.replace("get_weather", "other")),
    "another name, wrapper of M3": wrap(invoke(city="Paris") + OTHER, "tool_call"),
    "half of a name": wrap(invoke("get_"), "function_calls"),
    "in a block": f"Like so:\n```xml\n{invoke(city='Paris')}```\n",
    "DSML in a block": f"Like so:\n```\n{dsml(DSML_PARIS)}\n```\n",
    "M3 in a block": f"Like so:\n~ \n```\n{m3_wrap(M3_PARIS)}\n```\n",
    "inline code": f"Write `{invoke(city='Paris')}`, or `{dsml(DSML_PARIS)}`.",
    "invoke, in prose": f"It writes {invoke(city='Paris')}",
    "function calls, in prose": f"A <function_calls>{invoke(city='Paris')}</function_calls> is it.",
    "the tags alone": f"It writes <invoke name=...>, <{D}tool_calls> or {NS}<tool_call>.",
    "a description": 'Use <invoke name="tool"> and then <parameter name="city"> for get_weather.',
    "half of a value": '<invoke name="get_weather"><parameter name="city">Par',
    "half of a tag": '<invoke name="get_weather"><parameter name="city">Paris</parameter',
    "half of DSML with blanks": dsml(DSML_PARIS).replace(D, f"{D} ").partition("</")[0],
    "DSML with two blanks": dsml(DSML_PARIS).replace(D, f"{D}  "),
    "half of DSML": dsml(DSML_PARIS).partition("</")[0],
    "half of M3": m3_wrap(M3_PARIS).partition(f"{NS}</city>")[0],
    "half of a nested value": m3_wrap(m3("Todo", TODOS)).partition(f"{NS}</todos>")[0],
    "text between parameters": invoke(city="Paris").replace("<parameter", "and <parameter"),
    "a parameter twice": invoke(city="Paris").replace("</invoke>", "", 1).rstrip()
    + invoke(city="Rome").partition(">")[2],
    "M3, tags that do not match": m3_wrap(m3("get_weather", f"{NS}<city>Paris{NS}</days>")),
    "M3, a parameter twice": m3_wrap(
        m3("get_weather", f"{NS}<city>a{NS}</city>{NS}<city>b{NS}</city>")
    ),
    "M3, a member twice": m3_wrap(
        m3("Todo", f"{NS}<options>{NS}<a>1{NS}</a>{NS}<a>1{NS}</a>{NS}</options>")
    ),
    "M3, text beside children": m3_wrap(
        m3("Todo", f"{NS}<options>x{NS}<a>1{NS}</a>{NS}</options>")
    ),
    "M3, text after a tag": m3_wrap(m3("get_weather", f"{NS}<city>a{NS}</city>b")),
    "M3, no tag": m3_wrap(m3("get_weather", f"{NS}city")),
    "M3, one end tag too many": m3_wrap(m3("get_weather", f"{NS}</city>")),
    "M3, text before the tags": m3_wrap(m3("get_weather", f"x{NS}<city>a{NS}</city>")),
    "M3, too deep": m3_wrap(m3("Todo", f"{NS}<a>" * 99 + f"{NS}</a>" * 99)),
    "JSON that is no object": '<invoke name="now">[1]</invoke>',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_texts(text: str) -> None:
    for pieces in cut_in_all_ways(text):
        assert split(pieces, tools=TOOLS) == [text]


@pytest.mark.parametrize("text", [invoke(city="Paris"), dsml(DSML_PARIS), m3_wrap(M3_PARIS)])
def test_a_truncated_call_is_text(text: str) -> None:
    for end in range(len(text)):
        parts = split([text[:end]], tools=TOOLS, truncated=True)
        is_complete = "invoke>" in text[:end]
        assert parts[:1] == [PARIS] if is_complete else "".join(parts) == text[:end]
