"""docs/token-estimates.md contains the current errors of the samples."""

from docs.generators.token_estimates import render_page
from tests.support.paths import ROOT


def test_the_page_is_current() -> None:
    page = (ROOT / "docs" / "token-estimates.md").read_text()
    assert page == render_page(), "run: make docs"
