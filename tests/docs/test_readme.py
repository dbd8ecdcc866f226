"""The README is short, and its commands are also on the pages in docs."""

from tests.support.paths import ROOT
from tests.support.readme import quick_start

MAX_WORDS = 700


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= MAX_WORDS


def test_the_tutorial_has_the_same_commands() -> None:
    tutorial = (ROOT / "docs" / "getting-started.md").read_text()
    blocks = quick_start()
    assert [block.name for block in blocks] == ["install", "OpenRouter"]
    for block in blocks:
        assert "\n".join(block.commands) in tutorial
