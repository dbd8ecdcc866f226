"""Configuration file models match the profiles, the routing and the documentation."""

import re
from dataclasses import fields
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from anthropic_proxy.config.file_models import FileEntry, RouteEntry, TargetEntry, Tier
from anthropic_proxy.config.upstream_config import ProviderSettings, UpstreamConfig
from anthropic_proxy.providers.profiles import ProviderProfile
from anthropic_proxy.routing.router import TIERS
from anthropic_proxy.routing.upstream import ConcurrencyLimits, Timeouts
from tests.support.paths import ROOT

DOCUMENT = (ROOT / "docs" / "configuration.md").read_text()

SECTIONS: dict[str, type[BaseModel]] = {
    "Top level": FileEntry,
    "upstreams": UpstreamConfig,
    "timeouts": Timeouts,
    "limits": ConcurrencyLimits,
    "routes": RouteEntry,
    "targets": TargetEntry,
}


def table_row(name: str, field: FieldInfo) -> str:
    return f"| `{name}` | {field.description} | {default(field)} |"


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    plain: Any = field.default
    if plain is None or plain in ((), {}) or isinstance(plain, BaseModel):
        return ""
    return f"`{str(plain).lower()}`"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_field_is_documented(section: str) -> None:
    (text,) = re.findall(rf"^##+ {section}\n(.*?)(?=^##|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    documented = [line for line in text.splitlines() if line.startswith("| `")]
    assert documented == [
        table_row(name, field) for name, field in SECTIONS[section].model_fields.items()
    ]


def test_provider_settings_match_the_profile_fields() -> None:
    names = {field.name for field in fields(ProviderProfile)} - {"name", "hosts"}
    assert set(ProviderSettings.model_fields) == names


def test_tiers_match_the_router() -> None:
    assert get_args(Tier) == TIERS
