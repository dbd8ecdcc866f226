"""Values, schema and description of the chart match each other and the server settings."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from anthropic_proxy import __version__
from tests.chart import readme
from tests.chart.helm import CHART, CI_VALUES, HelmError, lint, objects, package, read_values
from tests.chart.settings import MANAGED, SETTINGS

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = read_values(CHART / "values.yaml")
DESCRIPTION = yaml.safe_load((CHART / "Chart.yaml").read_text())


def test_settings_in_the_schema_match_the_server() -> None:
    names = set(SCHEMA["properties"]["settings"]["properties"])
    assert names == {name for name, is_secret in SETTINGS.items() if not is_secret} - MANAGED


def _key_differences(values: dict[str, Any], schema: dict[str, Any], path: str = "") -> list[str]:
    """Return the different keys of values and schema, except in maps with arbitrary keys."""
    properties = schema.get("properties")
    if properties is None or not values:
        return []
    differences = [f"{path}.{key}" for key in set(values) ^ set(properties)]
    return differences + [
        each
        for key in set(values) & set(properties)
        if isinstance(values[key], dict)
        for each in _key_differences(values[key], properties[key], f"{path}.{key}")
    ]


def test_schema_and_values_have_the_same_keys() -> None:
    assert _key_differences(VALUES, SCHEMA) == []
    assert SCHEMA["additionalProperties"] is False


def _open_maps(schema: dict[str, Any], path: str = "") -> list[str]:
    """Return the maps with known keys that also allow other keys."""
    paths = (
        [path] if "properties" in schema and schema.get("additionalProperties") is not False else []
    )
    return paths + [
        each
        for key, child in schema.get("properties", {}).items()
        for each in _open_maps(child, f"{path}.{key}")
    ]


def test_the_schema_rejects_unknown_keys() -> None:
    """A chart shares `global` with its dependencies; see `anthropic-proxy.checkGlobal`."""
    assert _open_maps(SCHEMA) == [".global"]


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"replicas": 3}, "replicas"),
        ({"image": {"tagg": "1"}}, "tagg"),
        ({"replicaCount": -1}, "replicaCount"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"settings": {"MODEL_MAPP": "a=b"}}, "MODEL_MAPP"),
        ({"settings": {"UPSTREAM_API_KEY": "sk-1"}}, "UPSTREAM_API_KEY"),
        ({"settings": {"PORT": 80}}, "PORT"),
        (
            {"settings": {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=a"}},
            "OTEL_EXPORTER_OTLP_HEADERS",
        ),
        ({"secrets": {"values": {"a-b": "c"}}}, "a-b"),
        ({"secrets": {"fromKeys": {"A": {"name": "b"}}}}, "key"),
        ({"upstream": {"url": "ollama:11434"}}, "url"),
        ({"metrics": {"port": 3000}}, "port"),
        ({"drain": {"marginSeconds": 1}}, "marginSeconds"),
        ({"service": {"type": "ExternalName"}}, "type"),
        ({"podDisruptionBudget": {"maxUnavailable": "a"}}, "maxUnavailable"),
        ({"persistence": {"size": "big"}}, "size"),
    ],
)
def test_invalid_values_are_rejected(values: dict[str, Any], hint: str) -> None:
    with pytest.raises(HelmError, match=hint):
        objects(values)


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"autoscaling": {"enabled": True}, "keda": {"enabled": True}}, "exclude one another"),
        (
            {"autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": None}},
            "needs a metric",
        ),
        ({"keda": {"enabled": True}}, "needs a trigger"),
        ({"podDisruptionBudget": {"minAvailable": 1}}, "set maxUnavailable to null"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs"),
        (
            {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
            "exclude one another",
        ),
        ({"tls": {"clientCA": {"existingSecret": {"name": "a"}}}}, "needs tls.existingSecret"),
        ({"persistence": {"enabled": True}}, "set replicaCount to 1"),
        (
            {"replicaCount": 1, "persistence": {"enabled": True}, "autoscaling": {"enabled": True}},
            "can't be shared",
        ),
    ],
)
def test_conflicting_values_are_reported(values: dict[str, Any], hint: str) -> None:
    with pytest.raises(HelmError, match=hint):
        objects(values)


@pytest.mark.parametrize("path", CI_VALUES, ids=lambda path: path.stem)
def test_the_chart_passes_helm_lint(path: Path) -> None:
    assert lint(read_values(path)) == []


def test_the_chart_description_matches_the_project() -> None:
    assert DESCRIPTION["appVersion"] == __version__
    annotations = DESCRIPTION["annotations"]
    images = {
        each["name"]: each["image"] for each in yaml.safe_load(annotations["artifacthub.io/images"])
    }
    ollama = VALUES["ollama"]["image"]
    # The proxy has no public image.
    assert images == {"ollama": f"{ollama['registry']}/{ollama['repository']}:{ollama['tag']}"}
    assert {each["kind"] for each in yaml.safe_load(annotations["artifacthub.io/changes"])} <= {
        "added",
        "changed",
        "fixed",
    }


def test_the_readme_matches_the_values() -> None:
    """`make chart` updates the README."""
    assert (CHART / "README.md").read_text() == readme.page((CHART / "values.yaml").read_text())


def test_every_value_needs_a_comment() -> None:
    with pytest.raises(ValueError, match=r"a\.c has no comment"):
        readme.values("a:\n  # -- B.\n  b: 1\n  # c\n  c: 2\n")
    (first,) = readme.values("# -- One\n# two | three\na: {b: '|'}\n")
    assert first.row == '| `a` | `{"b": "\\|"}` | One two | three |'


def test_the_package_contains_rules_and_dashboard(tmp_path: Path) -> None:
    """The files are symbolic links in the repository. The package contains no example values."""
    with tarfile.open(package(tmp_path)) as archive:
        files = {
            Path(each.name).relative_to("anthropic-proxy").as_posix(): each
            for each in archive.getmembers()
        }
        rules = archive.extractfile(files["files/rules.yml"])
        assert rules is not None
        assert rules.read() == (CHART.parent / "deploy/prometheus/rules.yml").read_bytes()
    assert files["files/anthropic-proxy.json"].isfile()
    assert not [name for name in files if name.startswith("ci/")]
