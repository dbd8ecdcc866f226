"""Names of models in examples: users copy them, so a model that is shut down must not occur."""

import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# Models that were shut down by January 2027 (deprecation pages of OpenAI, Google and Anthropic).
_SHUT_DOWN = re.compile(
    r"gpt-5(-mini|-nano|-pro|-codex)?(?![\w.-])|gpt-4o|gpt-4\.1|gpt-4-turbo|gpt-3\.5"
    r"|(?<![\w-])o[134](-mini|-pro)?(?![\w-])"
    r"|gemini-(1|2\.0|2\.5-(pro|flash)(?!-lite))|claude-(3|opus-4[.-][01]|sonnet-4-0)"
)
_PAGES = sorted(
    [
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "chart").glob("*.md"),
        *(ROOT / "chart").rglob("*.yaml"),
        *ROOT.glob("docker-compose*.yml"),
        ROOT / "README.md",
        ROOT / ".env.example",
    ]
)


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_name_no_model_that_is_shut_down(page: Path) -> None:
    names = [match[0] for match in _SHUT_DOWN.finditer(page.read_text(encoding="utf-8"))]
    assert names == []


@pytest.mark.parametrize("name", ["gpt-5-mini", "openai/gpt-5", "o3", "gpt-4o-mini"])
def test_shut_down_models_are_found(name: str) -> None:
    assert _SHUT_DOWN.search(f"MODEL_MAP=haiku={name};b=c")


@pytest.mark.parametrize("name", ["gpt-5.6-sol", "gpt-6.1-terra", "gpt-oss", "claude-opus-5"])
def test_other_models_are_not(name: str) -> None:
    assert not _SHUT_DOWN.search(name)
