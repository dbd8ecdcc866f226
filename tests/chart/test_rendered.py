"""The objects of the chart are valid: for Kubernetes' versions, for operators, for Prometheus."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.helm import CI_VALUES, VERSIONS, objects, one, read
from tests.support.paths import ROOT

CRDS = Path(__file__).parent / "crds"
GROUPS = ("monitoring.coreos.com", "gateway.networking.k8s.io")
# KEDA publishes no schema that could be had.
OTHERS = (*GROUPS, "keda.sh")
NODE = shutil.which("node")
PROMTOOL = shutil.which("promtool")
RULES_TEST = ROOT / "deploy/prometheus/rules.test.yml"


def _is_of(groups: tuple[str, ...], each: dict[str, Any]) -> bool:
    return str(each["apiVersion"]).split("/")[0] in groups


@pytest.mark.parametrize("kubernetes", VERSIONS)
@pytest.mark.parametrize("path", CI_VALUES, ids=lambda path: path.stem)
def test_kubernetes_knows_it(path: Path, kubernetes: str) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    own = [each for each in objects(read(path), kubernetes=kubernetes) if not _is_of(OTHERS, each)]
    assert {"Deployment", "Service", "ConfigMap"} <= {each["kind"] for each in own}
    for each in own:
        validate.validate(each, kubernetes, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    wrong = one("Deployment")
    wrong["spec"]["strategy"]["rollingUpdat"] = {}
    with pytest.raises(validate.ValidationError, match="rollingUpdat"):
        validate.validate(wrong, "1.33", strict=True)


def _operators() -> Iterator[dict[str, Any]]:
    for path in CI_VALUES:
        yield from (each for each in objects(read(path)) if _is_of(GROUPS, each))


def _checked(found: list[dict[str, Any]]) -> dict[str, str | None]:
    """Kinds, and what is wrong with each; None where nothing is."""
    assert NODE is not None
    done = subprocess.run(
        [NODE, "check.mjs"],
        cwd=CRDS,
        input=json.dumps(found),
        capture_output=True,
        text=True,
        check=True,
    )
    checked: dict[str, str | None] = json.loads(done.stdout)
    return checked


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.skipif(
    not (CRDS / "node_modules").is_dir(), reason="`npm ci` was not run in tests/chart/crds"
)
def test_operators_know_it() -> None:
    found = list(_operators())
    kinds = ("ServiceMonitor", "PodMonitor", "PrometheusRule", "HTTPRoute", "BackendTLSPolicy")
    assert _checked(found) == dict.fromkeys(kinds)
    wrong = next(each for each in found if each["kind"] == "HTTPRoute")
    wrong["spec"]["rules"][0]["backendRefs"][0]["port"] = "http"
    assert "port" in str(_checked([wrong])["HTTPRoute"])


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """The rules of the PrometheusRule, as a file of Prometheus."""
    values = {"metrics": {"prometheusRule": {"enabled": True}}}
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump(one("PrometheusRule", values)["spec"]))
    return path


@pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus"
)
def test_prometheus_knows_the_rules(rules: Path) -> None:
    """And they alert when they should, as those do that they are made of."""
    shutil.copy(RULES_TEST, rules.parent)
    for command in (["check", "rules", rules.name], ["test", "rules", RULES_TEST.name]):
        done = subprocess.run(
            [str(PROMTOOL), *command], cwd=rules.parent, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_can_be_left_out() -> None:
    given = {
        "enabled": True,
        "disabled": ["AnthropicProxyDown"],
        "groups": [{"name": "own", "rules": []}],
    }
    groups = one("PrometheusRule", {"metrics": {"prometheusRule": given}})["spec"]["groups"]
    names = [rule.get("alert") for group in groups for rule in group["rules"]]
    assert "AnthropicProxyErrors" in names
    assert "AnthropicProxyDown" not in names
    assert groups[-1]["name"] == "own"


def test_the_dashboard_is_the_project_s() -> None:
    values = {"metrics": {"dashboard": {"enabled": True}}}
    (found,) = [each for each in objects(values) if each["metadata"]["name"].endswith("-dashboard")]
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(found["data"]["anthropic-proxy.json"]) == json.loads(
        (ROOT / "deploy/grafana/anthropic-proxy.json").read_text()
    )
