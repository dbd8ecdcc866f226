"""The official SDK beyond single requests: a tool loop, structured outputs, pages, counts.

Helpers that an SDK does not have are skipped with it, by name.
"""

import inspect
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest
from pydantic import BaseModel

from tests.integration.sdk.both_ways import ASK, TOOL, call_chunks, call_completion, chunks
from tests.support import openai_shapes
from tests.support.scripted_upstream import (
    DEADLINE,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

# 0.121 says so in its beta methods; it is the only way there to have the answer parsed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The 'output_format' parameter is deprecated:DeprecationWarning"
)

ENDPOINTS = ["messages", "beta.messages"]
HAS_THREADS = (
    "thread"
    in inspect.signature(anthropic.Anthropic(api_key="any").beta.messages.tool_runner).parameters
)
MODELS = [f"vendor/model-{number}:free" for number in range(7)]
LIST = {
    "object": "list",
    "data": [{"id": name, "created": 1, "context_length": 8192} for name in MODELS],
}


class Address(BaseModel):
    street: str | None = None
    city: str


class Person(BaseModel):
    """Optional fields, a list and a model within the model."""

    name: str
    age: int | None
    nicknames: list[str] = []
    address: Address | None = None


ANN = Person(name="Ann", age=None, address=Address(city="Rome"))


def endpoint(client: anthropic.Anthropic, path: str) -> Any:
    return client.beta.messages if path == "beta.messages" else client.messages


@pytest.fixture
def posted() -> list[tuple[dict[str, Any], int]]:
    """Requests of `recorded` and the statuses of their answers."""
    return []


@pytest.fixture
def recorded(proxy: str, posted: list[tuple[dict[str, Any], int]]) -> Iterator[anthropic.Anthropic]:
    """A client whose HTTP exchanges can be looked at."""

    def keep(response: httpx.Response) -> None:
        posted.append((json.loads(response.request.content), response.status_code))

    transport = anthropic.DefaultHttpxClient(event_hooks={"response": [keep]}, trust_env=False)
    with anthropic.Anthropic(
        base_url=proxy, api_key="any", max_retries=0, timeout=DEADLINE, http_client=transport
    ) as made:
        yield made


def weather(cities: list[str]) -> Any:
    @anthropic.beta_tool
    def get_weather(city: str, unit: str = "celsius") -> str:
        """Weather of a city.

        Args:
            city: its name
            unit: of the temperature
        """
        cities.append(city)
        return f"22 degrees {unit} in {city}"

    return get_weather


CALLS = [[("get_weather", json.dumps({"city": city}))] for city in ("Paris", "Rome")]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_tool_runner(
    recorded: anthropic.Anthropic,
    posted: list[tuple[dict[str, Any], int]],
    upstream: ScriptedUpstream,
    *,
    stream: bool,
) -> None:
    """Two steps and the response. Newer SDKs first request a thread, and continue without one."""
    if stream:
        upstream.then(
            *[streams(call_chunks(*each)) for each in CALLS], streams(text_chunks("Done"))
        )
    else:
        upstream.then(
            *[answers(call_completion(*each)) for each in CALLS], answers(completion("Done"))
        )
    cities: list[str] = []
    runner: Any = recorded.beta.messages.tool_runner(**ASK, tools=[weather(cities)], stream=stream)
    texts = [(turn.get_final_message() if stream else turn).content[0].text for turn in runner]
    assert (cities, texts) == (["Paris", "Rome"], ["Let me see.", "Let me see.", "Done"])
    threads = [("thread" in body, status) for body, status in posted]
    assert threads == [*([(True, 400)] if HAS_THREADS else []), *[(False, 200)] * 3]
    bodies = [upstream.request().body for _ in range(3)]
    assert [len(body["messages"]) for body in bodies] == [1, 3, 5]
    for body in bodies:
        openai_shapes.check(body)
    assert bodies[2]["messages"][:3] == bodies[1]["messages"]
    assert bodies[2]["messages"][4]["content"] == "22 degrees celsius in Rome"


@pytest.mark.skipif(not HAS_THREADS, reason=f"anthropic {anthropic.__version__} has no threads")
def test_tool_runner_without_a_thread(
    recorded: anthropic.Anthropic,
    posted: list[tuple[dict[str, Any], int]],
    upstream: ScriptedUpstream,
) -> None:
    upstream.then(answers(call_completion(*CALLS[0])), answers(completion("Done")))
    recorded.beta.messages.tool_runner(**ASK, tools=[weather([])], thread=False).until_done()
    assert [status for _, status in posted] == [200, 200]


def test_a_requested_thread_is_rejected(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.messages.create(**ASK, extra_body={"thread": {"type": "create"}})
    body: Any = caught.value.body
    assert body["error"]["details"]["error_code"] == "thread_unsupported_request"


@pytest.mark.parametrize("path", ENDPOINTS)
def test_parse(client: anthropic.Anthropic, upstream: ScriptedUpstream, path: str) -> None:
    upstream.then(answers(completion(ANN.model_dump_json())))
    parsed = endpoint(client, path).parse(**ASK, output_format=Person)
    assert parsed.parsed_output == ANN
    check_request(upstream.request().body)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_parse_a_stream(client: anthropic.Anthropic, upstream: ScriptedUpstream, path: str) -> None:
    raw = ANN.model_dump_json(exclude_unset=True)
    upstream.then(streams(chunks(*({"content": raw[at : at + 7]} for at in range(0, len(raw), 7)))))
    with endpoint(client, path).stream(**ASK, output_format=Person) as stream:
        assert stream.get_final_message().parsed_output == ANN
    check_request(upstream.request().body)


def check_request(body: dict[str, Any]) -> None:
    openai_shapes.check(body)
    schema = body["response_format"]["json_schema"]["schema"]
    assert set(schema["properties"]) == set(Person.model_fields)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_count_tokens(client: anthropic.Anthropic, path: str) -> None:
    question: Any = {"model": "m", "messages": ASK["messages"]}
    plain, with_tools = (
        endpoint(client, path).count_tokens(**question, **more).input_tokens
        for more in ({}, {"tools": [TOOL], "system": "Hi"})
    )
    assert 0 < plain < with_tools < 100


@pytest.mark.parametrize("path", ["models", "beta.models"])
def test_models(client: anthropic.Anthropic, upstream: ScriptedUpstream, path: str) -> None:
    """Several pages; ids with slashes and colons."""
    upstream.then(*[answers(LIST) for _ in range(6)])
    models: Any = client.beta.models if path == "beta.models" else client.models
    page = models.list(limit=3)
    assert ([model.id for model in page.data], page.has_more) == (MODELS[:3], True)
    assert [model.id for model in page] == MODELS
    backwards = models.list(limit=2, before_id=MODELS[3])
    assert [model.id for model in backwards.data] == MODELS[1:3]
    assert models.retrieve(MODELS[5]).id == MODELS[5]


def test_a_model_that_is_not_there(client: anthropic.Anthropic, upstream: ScriptedUpstream) -> None:
    upstream.then(answers(LIST))
    with pytest.raises(anthropic.NotFoundError, match="model: vendor/other"):
        client.models.retrieve("vendor/other")
