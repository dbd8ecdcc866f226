"""Recorded and written cases: one JSON file each, so that test code does not grow with them."""

import json
from typing import Any

import pytest

from tests.support.paths import ROOT

CASES = ROOT / "tests" / "cases"

# Recordings that may not be copied into this repository stand beside a developer's checkout.
SHARED = ROOT.resolve().parent / "shared" / "fixtures"


def cases(kind: str) -> list[Any]:
    """All cases of one kind, as parameters named after their files."""
    files = sorted((CASES / kind).glob("*.json"))
    assert files, kind
    return [pytest.param(json.loads(file.read_text()), id=file.stem) for file in files]


def texts(name: str) -> list[Any]:
    """Return the texts of a file in tests/cases/error_texts as parameters, in order."""
    entries = json.loads((CASES / "error_texts" / f"{name}.json").read_bytes())
    return [pytest.param(entry, id=f"{at}-{entry['source']}") for at, entry in enumerate(entries)]
