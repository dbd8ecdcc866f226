"""The three ways in which tests split a stream."""

import random
from collections.abc import Iterator


def whole(raw: bytes) -> Iterator[bytes]:
    yield raw


def byte_by_byte(raw: bytes) -> Iterator[bytes]:
    return (raw[at : at + 1] for at in range(len(raw)))


def random_splits(raw: bytes) -> Iterator[bytes]:
    generator = random.Random(len(raw))  # noqa: S311 - any splits will do
    cuts = sorted(generator.randrange(len(raw) + 1) for _ in range(9))
    return (raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True))


def random_pieces(text: str, seed: int) -> list[str]:
    generator = random.Random(seed)  # noqa: S311 - any cuts will do
    cuts = sorted(generator.randrange(len(text) + 1) for _ in range(generator.randrange(6)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
