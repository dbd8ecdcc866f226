"""Configuration file: parsed content and error messages."""

import re
from collections.abc import Callable
from pathlib import PurePath
from textwrap import dedent

import pytest

from anthropic_proxy.config.file import ConfigFile, parse_config
from anthropic_proxy.config.file_models import TargetEntry
from anthropic_proxy.errors import ConfigError
from tests.support.paths import ROOT

DOCUMENT = (ROOT / "docs" / "configuration.md").read_text()
BLOCKS = re.findall(r"```(yaml|toml)\n(.*?)```", DOCUMENT, re.DOTALL)
# The first block of each kind is the complete example.
EXAMPLES = dict(reversed(BLOCKS))
ENVIRONMENT = {
    "OPENAI_API_KEY": "sk-1",
    "ANTHROPIC_API_KEY": "sk-2",
    "ROUTER_KEY_1": "r1",
    "ROUTER_KEY_2": "r2",
    "EMPTY": "",
    "WORD": "word",
}
FILES = {
    "/etc/secrets/azure": "azure-key\n",
    "/etc/many": "# ours\nm1\n\n m2 \n",
    "~/key": "k",
    "/run/key": "k2",
}
FILES |= {"/etc/empty": " \n", "/etc/comment": "# none", "/etc/spaces": "a b"}


def read(path: PurePath) -> str:
    if path.name == "binary":
        return b"\xff".decode()
    if str(path) not in FILES:
        raise FileNotFoundError(2, "No such file or directory", str(path))
    return FILES[str(path)]


def parse(text: str, name: str = "/etc/x.yaml") -> ConfigFile:
    return parse_config(dedent(text), name, ENVIRONMENT, read)


def error_message(text: str, name: str = "x.yaml") -> str:
    with pytest.raises(ConfigError) as error:
        parse_config(dedent(text), name, ENVIRONMENT, read)
    return str(error.value)


@pytest.mark.parametrize(("kind", "text"), BLOCKS)
def test_documented_examples_are_valid(kind: str, text: str) -> None:
    assert parse(text, f"/etc/x.{kind}").routes


def test_the_complete_documented_example_is_parsed() -> None:
    file = parse(EXAMPLES["yaml"])
    upstreams = file.upstreams
    assert list(upstreams) == ["openai", "azure", "router", "local", "claude"]
    assert [each.all_keys for each in upstreams.values()] == [
        ("sk-1",),
        ("azure-key",),
        ("r1", "r2"),
        (),
        (),
    ]
    assert [each.passthrough for each in upstreams.values()] == [
        False,
        False,
        False,
        False,
        True,
    ]
    assert upstreams["openai"].timeouts.model_dump() == {
        "connect": 5,
        "first_byte": 600,
        "first_token": None,
        "idle": 600,
        "total": 3600,
    }
    assert upstreams["azure"].query == {"api-version": "2024-10-21"}
    assert upstreams["router"].extra_body == {"provider": {"order": ["deepinfra"]}}
    assert upstreams["local"].provider_settings == {"max_tokens_field": "max_tokens"}
    first, second, third = file.routes
    assert first.targets == (
        (
            TargetEntry.model_construct(upstream="openai", model="gpt-6.1-terra"),
            TargetEntry.model_construct(upstream="azure", model="gpt-6.1-terra", weight=3),
        ),
        (TargetEntry.model_construct(upstream="local", model="qwen3"),),
    )
    assert [(each.upstream, each.model) for (each,) in second.targets] == [
        ("router", "google/gemini-3.8-flash")
    ]
    assert (third.tier, third.thinking, third.targets[0][0].model) == (
        ("opus", "fable"),
        True,
        None,
    )
    assert file.aliases["claude-local"].model == "qwen3"


def test_the_toml_and_yaml_examples_are_equal() -> None:
    assert parse(EXAMPLES["toml"], "/etc/x.toml") == parse(EXAMPLES["yaml"])


def test_the_representation_contains_no_secrets() -> None:
    shown = repr(parse(EXAMPLES["yaml"]))
    assert not re.search(r"sk-1|azure-key|'r1'|blue", shown)


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        ("key: plain", ["plain"]),
        ("key: ' ${OPENAI_API_KEY}\n '", ["sk-1"]),
        ("key: '\"${OPENAI_API_KEY}\"'", ["sk-1"]),
        ("key: 'Bearer ${OPENAI_API_KEY}'", ["sk-1"]),
        ("keys: '\"a b\"'", ["a", "b"]),
        ("keys: 'Bearer a, bearer b'", ["a", "b"]),
        ("keys: 'Authorization: Bearer a'", ["a"]),
        ("keys: ['\"a\"', Bearer b]", ["a", "b"]),
        ("key: '${NONE:-}'", []),
        ("key:", []),
        ("keys: 'a b,c;d'", ["a", "b", "c", "d"]),
        ("keys: '${NONE:-}'", []),
        ("keys: [a, '${WORD}']", ["a", "word"]),
        ("key_file: /run/key", ["k2"]),
        ("key_file: ~/key", ["k"]),
        ("key_file: secrets/azure", ["azure-key"]),
        ("keys_file: many", ["m1", "m2"]),
    ],
)
def test_upstream_keys_are_read_from_every_source(source: str, keys: list[str]) -> None:
    file = parse(f"upstreams: {{a: {{url: http://a, {source}}}}}")
    assert list(file.upstreams["a"].all_keys) == keys


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${WORD}", "word"),
        ("a-${WORD}-${WORD}", "a-word-word"),
        ("${NONE:-default}", "default"),
        ("${EMPTY:-default}", "default"),
        ("${WORD:-default}", "word"),
        ("${NONE:-}", ""),
        ("$${WORD}", "${WORD}"),
        ("$WORD $$ {x}", "$WORD $$ {x}"),
    ],
)
def test_variables_are_expanded(text: str, value: str) -> None:
    file = parse(f"upstreams: {{a: {{url: http://a, extra_body: {{x: ['{text}']}}}}}}")
    assert file.upstreams["a"].extra_body == {"x": [value]}


@pytest.mark.parametrize("text", ["'\"http://a\"'", "\"'http://a'\"", "' \" http://a \" '"])
def test_quotes_in_the_url_are_removed(text: str) -> None:
    assert parse(f"upstreams: {{a: {{url: {text}}}}}").upstreams["a"].url == "http://a"


def test_expanded_values_are_converted_to_the_field_type() -> None:
    text = "upstreams: {a: {url: http://a, retries: '${NONE:-3}', passthrough: '${NONE:-yes}'}}"
    upstream = parse(text).upstreams["a"]
    assert (upstream.retries, upstream.passthrough) == (3, True)


def test_upstream_and_provider_names_are_case_insensitive() -> None:
    file = parse("upstreams: {Big.One: {url: http://a, provider: OpenAI}}\naliases: {x: big.one/m}")
    assert (file.aliases["x"].upstream, file.upstreams["Big.One"].provider) == ("Big.One", "openai")


@pytest.mark.parametrize(
    ("settings", "former_names"),
    [
        ("provider: vllm, provider_settings: {prefill: refused}", ()),
        ("dialect: vllm, provider_settings: {prefill: refused}", ("dialect",)),
        ("dialect: VLLM, facts: {prefill: refused}", ("dialect", "facts")),
        ("dialect: vllm, provider: vllm, facts: {prefill: refused}", ("dialect", "facts")),
    ],
)
def test_former_names(settings: str, former_names: tuple[str, ...]) -> None:
    file = parse(f"upstreams: {{a: {{url: 'http://a', {settings}}}}}")
    upstream = file.upstreams["a"]
    assert (upstream.provider, upstream.provider_settings) == ("vllm", {"prefill": "refused"})
    assert file.former_names == former_names


HEAD = "upstreams:\n  openai: {url: http://a}\n  local: {url: http://b}\n"
KNOWN_UPSTREAM = (
    "(known: url, key, keys, key_file, keys_file, passthrough, api, provider, provider_settings, "
    "headers, query, extra_body, timeouts, limits, retries)"
)
PROBLEMS: dict[str, tuple[str, str]] = {
    "nothing": ("", "x.yaml:1: expected a mapping with `upstreams`"),
    "a list": ("[1]", "x.yaml:1: expected a mapping with `upstreams`"),
    "no upstreams": ("routes: []", "x.yaml:1:1: upstreams: is required"),
    "empty upstreams": ("upstreams: {}", "x.yaml:1:1: upstreams: a mapping should not be empty"),
    "upstreams as a list": ("upstreams: [a]", "x.yaml:1:1: upstreams: a list should be a mapping"),
    "upstream without content": (
        "upstreams:\n  a:",
        "x.yaml:2:3: upstreams.a: nothing should be a mapping",
    ),
    "upstream without url": ("upstreams:\n  a: {}", "x.yaml:2:3: upstreams.a.url: is required"),
    "unknown section": (
        HEAD + "route: []",
        "x.yaml:4:1: route: is not known; did you mean routes? (known: upstreams, routes, aliases)",
    ),
    "unknown name": (
        "upstreams:\n  a:\n    url: http://a\n    timeout: 5",
        f"x.yaml:4:5: upstreams.a.timeout: is not known; did you mean timeouts? {KNOWN_UPSTREAM}",
    ),
    "unknown timeout": (
        "upstreams: {a: {url: http://a, timeouts: {read: 5}}}",
        (
            "x.yaml:1:43: upstreams.a.timeouts.read: is not known (known: connect, first_byte, "
            "first_token, idle, total)"
        ),
    ),
    "unknown limit": (
        "upstreams: {a: {url: http://a, limits: {queue_second: 5}}}",
        (
            "x.yaml:1:41: upstreams.a.limits.queue_second: is not known; did you mean "
            "queue_seconds? (known: concurrency, queue, queue_seconds)"
        ),
    ),
    "unknown condition": (
        HEAD + "routes:\n  - model: x\n    targets: local",
        (
            "x.yaml:5:5: routes[0].model: is not known; did you mean models? "
            "(known: models, tier, thinking, min_input_tokens, images, targets)"
        ),
    ),
    "unknown name in a target": (
        HEAD + "routes:\n  - targets: [{upstream: local, wieght: 1}]",
        (
            "x.yaml:5:33: routes[0].targets[0].wieght: is not known; did you mean weight? (known: "
            "upstream, model, weight)"
        ),
    ),
    "unknown name in an alias": (
        HEAD + "aliases: {x: {upstream: local, name: m}}",
        "x.yaml:4:32: aliases.x.name: is not known (known: upstream, model, weight)",
    ),
    "name of an upstream": (
        "upstreams:\n  a b: {url: http://a}",
        (
            "x.yaml:2:3: upstreams.a b: must consist of letters, digits, '.', '_' and '-', and "
            "begin with a letter or digit"
        ),
    ),
    "the same name": (
        "upstreams:\n  a: {url: http://a}\n  A: {url: http://b}",
        (
            "x.yaml:2:3: upstreams.a: is a duplicate: names are case-insensitive\n"
            "x.yaml:3:3: upstreams.A: is a duplicate: names are case-insensitive"
        ),
    ),
    "url": (
        "upstreams:\n  a:\n    url: ftp://a?key=secret",
        'x.yaml:3:5: upstreams.a.url: "ftp://a?***" must start with http:// or https://',
    ),
    "url with a password": (
        "upstreams: {a: {url: 'http://u:p@a'}}",
        (
            'x.yaml:1:17: upstreams.a.url: "http://***@a" must not contain a user or password: '
            "set the key in `key`"
        ),
    ),
    "a key for a url": (
        "upstreams: {a: {url: sk-secret}}",
        "x.yaml:1:17: upstreams.a.url: the given value must start with http:// or https://",
    ),
    "a broken url": (
        "upstreams: {a: {url: 'http://[a'}}",
        'x.yaml:1:17: upstreams.a.url: "http://[a" Invalid IPv6 URL',
    ),
    "key": (
        "upstreams: {a: {url: http://a, key: 'sk ü'}}",
        (
            "x.yaml:1:32: upstreams.a.key: the given value must contain only printable ASCII "
            "characters, without spaces"
        ),
    ),
    "key as a number": (
        "upstreams: {a: {url: http://a, key: 123}}",
        "x.yaml:1:32: upstreams.a.key: the given value should be a string: put it in quotes",
    ),
    "two sources of keys": (
        "upstreams:\n  a: {url: http://a, key: k, passthrough: true}",
        "x.yaml:2:3: upstreams.a: only one of key and passthrough may be set",
    ),
    "no such file": (
        "upstreams: {a: {url: http://a, key_file: nowhere}}",
        (
            "x.yaml:1:32: upstreams.a.key_file: the given value can't be read: No such file or "
            "directory"
        ),
    ),
    "binary file": (
        "upstreams: {a: {url: http://a, keys_file: binary}}",
        "x.yaml:1:32: upstreams.a.keys_file: the given value can't be read: it is not UTF-8",
    ),
    "empty file": (
        "upstreams: {a: {url: http://a, keys_file: /etc/empty}}",
        "x.yaml:1:32: upstreams.a.keys_file: the given value contains no key",
    ),
    "file with only comments": (
        "upstreams: {a: {url: http://a, keys_file: /etc/comment}}",
        "x.yaml:1:32: upstreams.a.keys_file: the given value contains no key",
    ),
    "file with an invalid key": (
        "upstreams: {a: {url: http://a, key_file: /etc/spaces}}",
        (
            "x.yaml:1:32: upstreams.a.key_file: the given value must contain only printable ASCII "
            "characters, without spaces"
        ),
    ),
    "a list of files": (
        "upstreams: {a: {url: http://a, keys_file: [b]}}",
        "x.yaml:1:32: upstreams.a.keys_file: the given value should be the path of a file",
    ),
    "api": (
        "upstreams: {a: {url: http://a, api: response}}",
        (
            "x.yaml:1:32: upstreams.a.api: \"response\" should be 'chat_completions', "
            "'responses' or 'messages'"
        ),
    ),
    "provider": (
        "upstreams: {a: {url: http://a, provider: openroute}}",
        (
            'x.yaml:1:32: upstreams.a.provider: "openroute" must be a known provider; did you mean '
            "openrouter? (known: "
        ),
    ),
    "provider by its former name": (
        "upstreams: {a: {url: http://a, dialect: openroute}}",
        (
            'x.yaml:1:32: upstreams.a.dialect: "openroute" must be a known provider; did you mean '
            "openrouter? (known: "
        ),
    ),
    "key as a provider": (
        "upstreams: {a: {url: http://a, provider: sk-secret}}",
        "x.yaml:1:32: upstreams.a.provider: the given value must be a known provider (known: ",
    ),
    "both names of the provider": (
        "upstreams: {a: {url: http://a, provider: vllm, dialect: openai}}",
        (
            "x.yaml:1:48: upstreams.a.dialect: is the former name of provider, which has a "
            "different value"
        ),
    ),
    "provider setting": (
        "upstreams: {a: {url: http://a, provider_settings: {max_token_field: x}}}",
        (
            "x.yaml:1:52: upstreams.a.provider_settings.max_token_field: is not known; did you "
            "mean max_tokens_field? (known: "
        ),
    ),
    "provider setting by its former name": (
        "upstreams: {a: {url: http://a, facts: {max_token_field: x}}}",
        (
            "x.yaml:1:40: upstreams.a.facts.max_token_field: is not known; did you mean "
            "max_tokens_field? (known: "
        ),
    ),
    "provider settings as a list": (
        "upstreams: {a: {url: http://a, facts: [x]}}",
        "x.yaml:1:32: upstreams.a.facts: a list should be a mapping",
    ),
    "value of a provider setting": (
        "upstreams: {a: {url: http://a, facts: {max_tokens_field: x}}}",
        (
            'x.yaml:1:40: upstreams.a.facts.max_tokens_field: "x" should be '
            "'max_completion_tokens' or 'max_tokens'"
        ),
    ),
    "header": (
        (
            "upstreams: {a: {url: http://a, headers: {'a b': c, X-A: 5, X-B: \"\\n\", Connection: "
            "close}}}"
        ),
        (
            "x.yaml:1:42: upstreams.a.headers.a b: is not a valid header name\n"
            "x.yaml:1:52: upstreams.a.headers.X-A: the given value should be a string: put it in "
            "quotes\n"
            "x.yaml:1:60: upstreams.a.headers.X-B: the given value must contain only printable "
            "ASCII characters\n"
            "x.yaml:1:71: upstreams.a.headers.Connection: is a header that the proxy sets itself"
        ),
    ),
    "version as a number": (
        "upstreams: {a: {url: http://a, query: {v: 1.10}}}",
        "x.yaml:1:40: upstreams.a.query.v: the given value should be a string: put it in quotes",
    ),
    "infinite number in the body": (
        "upstreams: {a: {url: http://a, extra_body: {x: [.inf]}}}",
        "x.yaml:1:49: upstreams.a.extra_body.x[0]: the given value should be a finite number",
    ),
    "numbers": (
        """\
        upstreams:
          a:
            url: http://a
            retries: -1
            timeouts:
              connect: 0
              idle: soon
              total: true
              first_byte: .inf
            limits:
              concurrency: 1.5
              queue:
              queue_seconds: [1]
        """,
        (
            "x.yaml:4:5: upstreams.a.retries: -1 should be greater than or equal to 0\n"
            "x.yaml:6:7: upstreams.a.timeouts.connect: 0 should be greater than 0\n"
            'x.yaml:7:7: upstreams.a.timeouts.idle: "soon" should be a valid number, unable to '
            "parse string as a number\n"
            "x.yaml:8:7: upstreams.a.timeouts.total: true should be a number\n"
            "x.yaml:9:7: upstreams.a.timeouts.first_byte: inf should be a finite number\n"
            "x.yaml:11:7: upstreams.a.limits.concurrency: 1.5 should be a valid integer, got a "
            "number with a fractional part\n"
            "x.yaml:12:7: upstreams.a.limits.queue: nothing should be a valid integer\n"
            "x.yaml:13:7: upstreams.a.limits.queue_seconds: a list should be a valid number"
        ),
    ),
    "routes": (
        HEAD
        + (
            "routes:\n"
            "  - targets: []\n"
            "  - thinking: maybe\n"
            "    targets: [[]]\n"
            "  - tier: [opus, mini]\n"
            "    models: []\n"
            "    min_input_tokens: 0\n"
            "    targets: opnai/gpt-5\n"
            "  - targets: [LOCAL/, [openai/m, {upstream: opn, model: m}], {model: x}, {upstream: "
            "local, weight: 0}, 5]\n"
            "  - {}\n"
            "aliases:\n"
            "  x: nowhere/y\n"
        ),
        (
            "x.yaml:5:5: routes[0].targets: a list should not be empty\n"
            'x.yaml:6:5: routes[1].thinking: "maybe" should be true or false\n'
            "x.yaml:7:15: routes[1].targets[0]: a list should not be empty\n"
            "x.yaml:8:18: routes[2].tier[1]: \"mini\" should be 'haiku', 'sonnet', 'opus' or "
            "'fable'\n"
            "x.yaml:9:5: routes[2].models: a list should not be empty\n"
            "x.yaml:10:5: routes[2].min_input_tokens: 0 should be greater than or equal to 1\n"
            'x.yaml:11:5: routes[2].targets: "opnai/gpt-5" does not name an upstream; did you mean '
            "openai? (known: openai, local)\n"
            'x.yaml:12:15: routes[3].targets[0]: "LOCAL/" should not be empty\n'
            'x.yaml:12:35: routes[3].targets[1][1].upstream: "opn" does not name an upstream; did '
            "you mean openai? (known: openai, local)\n"
            "x.yaml:12:62: routes[3].targets[2].upstream: is required\n"
            "x.yaml:12:92: routes[3].targets[3].weight: 0 should be greater than 0\n"
            "x.yaml:12:104: routes[3].targets[4]: 5 should be a mapping\n"
            "x.yaml:13:5: routes[4].targets: is required\n"
            'x.yaml:15:3: aliases.x: "nowhere/y" does not name an upstream (known: openai, local)'
        ),
    ),
    "variables": (
        """\
        upstreams:
          a:
            url: ${URL}
            key: ${EMPTY}
            retries: ${WORD}
            extra_body: {a: ["${1}", "${x"]}
            headers: ${MORE}
            api: ${WORD}
        routes: [{targets: "${WORD}/m"}]
        """,
        (
            "x.yaml:3:5: upstreams.a.url: variable URL is not set: set it, or write "
            "${URL:-default}\n"
            "x.yaml:4:5: upstreams.a.key: variable EMPTY is not set: set it, or write "
            "${EMPTY:-default}\n"
            'x.yaml:5:5: upstreams.a.retries: "${WORD}" should be a valid integer, unable to '
            "parse string as an integer\n"
            "x.yaml:6:22: upstreams.a.extra_body.a[0]: expected ${NAME} or "
            "${NAME:-default}; write $${ for a literal ${\n"
            "x.yaml:6:30: upstreams.a.extra_body.a[1]: expected ${NAME} or "
            "${NAME:-default}; write $${ for a literal ${\n"
            "x.yaml:7:5: upstreams.a.headers: variable MORE is not set: set it, or write "
            "${MORE:-default}\n"
            "x.yaml:8:5: upstreams.a.api: \"${WORD}\" should be 'chat_completions', "
            "'responses' or 'messages'\n"
            'x.yaml:9:11: routes[0].targets: "${WORD}/m" does not name an upstream (known: a)'
        ),
    ),
}


@pytest.mark.parametrize(("text", "message"), PROBLEMS.values(), ids=PROBLEMS)
def test_invalid_files_are_rejected(text: str, message: str) -> None:
    actual, expected = error_message(text), dedent(message)
    assert actual.startswith(expected) if expected.endswith("(known: ") else actual == expected


def test_toml_errors_contain_the_line_of_the_statement() -> None:
    text = """\
    [upstreams.a]
    url = "http://a"
    timeouts = {conect = 5}

    [[routes]]
    targets = [
      "a/m",
      "b/m",
    ]
    [[routes]]
    """
    assert error_message(text, "dir/x.toml") == dedent(
        "dir/x.toml:3: upstreams.a.timeouts.conect: is not known; did you mean connect? "
        "(known: connect, first_byte, first_token, idle, total)\n"
        'dir/x.toml:6: routes[0].targets[1]: "b/m" does not name an upstream (known: a)\n'
        "dir/x.toml:10: routes[1].targets: is required"
    )


def test_a_toml_date_is_rejected_in_the_request_body() -> None:
    text = "[upstreams.a]\nurl = 'http://a'\nextra_body = {day = 2024-10-21}"
    assert error_message(text, "x.toml") == (
        "x.toml:3: upstreams.a.extra_body.day: the given value should be a JSON value"
    )


def test_entries_are_immutable() -> None:
    file = parse(HEAD)
    changes: list[Callable[[], object]] = [
        lambda: setattr(file.upstreams["local"], "retries", 1),
        lambda: setattr(file, "routes", ()),
        lambda: file.upstreams.__setitem__("c", None),  # type: ignore[index]  # must fail
    ]
    for change in changes:
        with pytest.raises((AttributeError, ValueError)):
            change()
