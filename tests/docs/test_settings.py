"""docs/settings.md is current, and its example messages are those of the proxy."""

from pathlib import Path

import pytest

from anthropic_proxy.config.env_notices import notices
from anthropic_proxy.config.setting_fields import section_of
from anthropic_proxy.config.settings import Settings, load_settings
from anthropic_proxy.errors import ConfigError
from docs.generators import settings as settings_page
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "settings.md"
# Links and code may contain dots.
SENTENCE_END = ". "


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == settings_page.render_page(), "run: make docs"


def test_the_notice_on_the_page_is_current() -> None:
    text = "UPSTREAM_BASE_URL=http://localhost:11434\nUPSTREAM_APIKEY=secret\n"
    (notice,) = notices(Path(".env"), text)
    assert str(notice) == settings_page.NOTICE


def test_the_error_on_the_page_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM_BASE_URL", "http://localhost:11434")
    monkeypatch.setenv("PORT", "abc")
    with pytest.raises(ConfigError) as error:
        load_settings(None)
    assert str(error.value) == settings_page.ERROR


@pytest.mark.parametrize("name", Settings.model_fields)
def test_descriptions_are_short_sentences(name: str) -> None:
    field = Settings.model_fields[name]
    text = field.description or ""
    assert section_of(field)
    assert text.endswith(".")
    assert len(text.rstrip(".").split(SENTENCE_END)) <= 2
