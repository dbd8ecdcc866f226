"""The words of errors: costs, and what they are not about. The texts are in tests/cases."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from anthropic_proxy.translate import error_wordings
from anthropic_proxy.translate.upstream_failure import (
    UpstreamFailure,
    UpstreamIdentity,
    contains_image,
    parse_failure,
)
from tests.support.scaling import assert_linear_cpu

SOURCE = UpstreamIdentity("up:1")
PREDICATES: tuple[Callable[[UpstreamFailure], bool], ...] = (
    error_wordings.is_spent_credit,
    error_wordings.is_rate_limit,
    error_wordings.exceeds_rate_alone,
    error_wordings.is_long_limit,
    error_wordings.is_rejected_key,
    error_wordings.names_key,
    error_wordings.is_about_location,
    error_wordings.has_policy_code,
    error_wordings.is_policy_violation,
    error_wordings.is_unknown_model,
    error_wordings.is_gateway_failure,
    error_wordings.is_refused_image,
    error_wordings.may_be_refused_image,
)


@pytest.mark.parametrize(
    "piece",
    [
        "upstream ",
        "upstream a ",
        "model ",
        "model 'a",
        "models/a",
        "requested model 'a' ",
        "access to model ",
        "image ",
        "content ",
        "type 'text",
        "account ",
        "specified ",
        "free tier ",
        "daily ",
        "used all ",
        "模型",
    ],
)
@pytest.mark.parametrize("predicate", PREDICATES)
def test_a_hostile_text_costs_no_more_than_its_length(
    predicate: Callable[[UpstreamFailure], bool], piece: str
) -> None:
    def prepare(size: int) -> Callable[[], object]:
        body = (piece * (size // len(piece))).encode()
        failure = replace(parse_failure(403, {}, body, SOURCE), has_image=True)
        return lambda: predicate(failure)

    assert_linear_cpu(prepare, 4000)


@pytest.mark.parametrize(
    "text",
    ["", "no", "The request is invalid", "messages: at least one message is required", "token x"],
)
def test_ordinary_texts_are_about_nothing(text: str) -> None:
    failure = parse_failure(400, {}, text.encode(), SOURCE, payload=b'{"type":"image_url"}')
    assert [predicate.__name__ for predicate in PREDICATES if predicate(failure)] == []


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"content":[{"type":"image_url","image_url":{"url":"data:"}}]}', True),
        (b'{"content":[{"type":"input_image"}]}', True),
        (b'{"content": [{"type": "image", "source": {}}]}', True),
        (b'{"content":"{\\"type\\":\\"image_url\\"}"}', False),
        (b'{"content":[{"type":"text","text":"image"}]}', False),
        (b'{"tools":[{"type":"image_generation"}]}', False),
        (b"", False),
    ],
)
def test_images_in_requests(payload: bytes, *, expected: bool) -> None:
    assert contains_image(payload) is expected
    assert parse_failure(400, {}, b"no", SOURCE, payload=payload).has_image is expected
    assert parse_failure(400, {}, b"no", SOURCE).has_image is None


@pytest.mark.parametrize("status", [400, 403, 500])
def test_the_name_of_an_upstream_is_no_reason(status: int) -> None:
    upstream = UpstreamIdentity("vision.cloudflare-images.example unknown model quota")
    failure = parse_failure(status, {}, b"", upstream, payload=b'{"type":"image_url"}')
    found = [predicate.__name__ for predicate in PREDICATES if predicate(failure)]
    assert found == (["is_rejected_key"] if status == 403 else [])
