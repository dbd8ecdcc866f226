"""The objects of the chart are valid for Kubernetes, operators and Prometheus."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.helm import CI_VALUES, VERSIONS, get_object, objects, read_values
from tests.support.paths import ROOT

CRDS = Path(__file__).parent / "crds"
CHECKED_GROUPS = ("monitoring.coreos.com", "gateway.networking.k8s.io")
# KEDA publishes no schema.
EXTERNAL_GROUPS = (*CHECKED_GROUPS, "keda.sh")
NODE = shutil.which("node")
PROMTOOL = shutil.which("promtool")
RULES_TEST = ROOT / "deploy/prometheus/rules.test.yml"


def _is_in_groups(groups: tuple[str, ...], item: dict[str, Any]) -> bool:
    return str(item["apiVersion"]).split("/")[0] in groups


@pytest.mark.parametrize("kubernetes", VERSIONS)
@pytest.mark.parametrize("path", CI_VALUES, ids=lambda path: path.stem)
def test_objects_match_the_kubernetes_schema(path: Path, kubernetes: str) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    rendered = [
        each
        for each in objects(read_values(path), kubernetes=kubernetes)
        if not _is_in_groups(EXTERNAL_GROUPS, each)
    ]
    assert {"Deployment", "Service", "ConfigMap"} <= {each["kind"] for each in rendered}
    for each in rendered:
        validate.validate(each, kubernetes, strict=True)


def test_an_unknown_field_is_found() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    invalid = get_object("Deployment")
    invalid["spec"]["strategy"]["rollingUpdat"] = {}
    with pytest.raises(validate.ValidationError, match="rollingUpdat"):
        validate.validate(invalid, "1.33", strict=True)


def _operator_objects() -> Iterator[dict[str, Any]]:
    for path in CI_VALUES:
        yield from (
            each for each in objects(read_values(path)) if _is_in_groups(CHECKED_GROUPS, each)
        )


def _check_objects(rendered: list[dict[str, Any]]) -> dict[str, str | None]:
    """Return the error of each kind, or None for valid objects."""
    assert NODE is not None
    result = subprocess.run(
        [NODE, "check.mjs"],
        cwd=CRDS,
        input=json.dumps(rendered),
        capture_output=True,
        text=True,
        check=True,
    )
    errors: dict[str, str | None] = json.loads(result.stdout)
    return errors


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.skipif(
    not (CRDS / "node_modules").is_dir(), reason="`npm ci` was not run in tests/chart/crds"
)
def test_objects_match_the_schemas_of_operators() -> None:
    rendered = list(_operator_objects())
    kinds = ("ServiceMonitor", "PodMonitor", "PrometheusRule", "HTTPRoute", "BackendTLSPolicy")
    assert _check_objects(rendered) == dict.fromkeys(kinds)
    invalid = next(each for each in rendered if each["kind"] == "HTTPRoute")
    invalid["spec"]["rules"][0]["backendRefs"][0]["port"] = "http"
    assert "port" in str(_check_objects([invalid])["HTTPRoute"])


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """Write the rules of the PrometheusRule to a Prometheus rule file."""
    values = {"metrics": {"prometheusRule": {"enabled": True}}}
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump(get_object("PrometheusRule", values)["spec"]))
    return path


@pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus"
)
def test_the_rules_pass_the_prometheus_tests(rules: Path) -> None:
    """The rules also pass the tests of deploy/prometheus."""
    shutil.copy(RULES_TEST, rules.parent)
    for command in (["check", "rules", rules.name], ["test", "rules", RULES_TEST.name]):
        result = subprocess.run(
            [str(PROMTOOL), *command], cwd=rules.parent, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr


def test_alerts_can_be_disabled() -> None:
    values = {
        "enabled": True,
        "disabled": ["AnthropicProxyDown"],
        "groups": [{"name": "own", "rules": []}],
    }
    groups = get_object("PrometheusRule", {"metrics": {"prometheusRule": values}})["spec"]["groups"]
    names = [rule.get("alert") for group in groups for rule in group["rules"]]
    assert "AnthropicProxyErrors" in names
    assert "AnthropicProxyDown" not in names
    assert groups[-1]["name"] == "own"


def test_the_dashboard_equals_the_file_in_deploy() -> None:
    values = {"metrics": {"dashboard": {"enabled": True}}}
    (dashboard,) = [
        each for each in objects(values) if each["metadata"]["name"].endswith("-dashboard")
    ]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["anthropic-proxy.json"]) == json.loads(
        (ROOT / "deploy/grafana/anthropic-proxy.json").read_text()
    )
