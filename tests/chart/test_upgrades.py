"""`helm upgrade`: immutable objects keep their specification or change their names.

Pods restart only where they must.
"""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.chart.helm import CHART, Object, Values, kinds, objects, one, texts

OLLAMA: Values = {"ollama": {"enabled": True}}


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """The chart with other versions, of itself and of the application."""
    chart = tmp_path / "anthropic-proxy"
    shutil.copytree(CHART, chart)
    description = yaml.safe_load((chart / "Chart.yaml").read_text())
    changed = {**description, "version": "99.0.0", "appVersion": "98.0.0"}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(changed))
    return chart


def _is_possible(before: Object, after: Object) -> bool:
    return bool(
        before["metadata"]["name"] != after["metadata"]["name"] or before["spec"] == after["spec"]
    )


def test_another_version_does_not_change_the_job(next_version: Path) -> None:
    before, after = one("Job", OLLAMA), one("Job", OLLAMA, chart=next_version)
    assert before["metadata"]["labels"] != after["metadata"]["labels"]
    assert before["metadata"]["name"] == after["metadata"]["name"]
    assert before["spec"] == after["spec"]


@pytest.mark.parametrize(
    "values",
    [
        {"imagePullSecrets": [{"name": "a"}]},
        {"global": {"imagePullSecrets": ["a"]}},
        {"global": {"imageRegistry": "a"}},
        {"ollama": {"podSecurityContext": {"runAsUser": 1}}},
        {"ollama": {"image": {"pullPolicy": "Always"}}},
        {"ollama": {"image": {"tag": "0.13"}}},
        {"ollama": {"models": ["a"]}},
        {"securityContext": {"privileged": False}},
        {"commonLabels": {"a": "b"}},
        {"nameOverride": "other"},
    ],
)
def test_other_values_make_another_job(values: Values) -> None:
    enabled = {**values, "ollama": {"enabled": True, **values.get("ollama", {})}}
    assert _is_possible(one("Job", OLLAMA), one("Job", enabled))


def test_another_version_does_not_restart_ollama(next_version: Path) -> None:
    assert (
        one("StatefulSet", OLLAMA)["spec"] == one("StatefulSet", OLLAMA, chart=next_version)["spec"]
    )


def test_another_version_restarts_the_proxy(next_version: Path) -> None:
    before, after = one("Deployment"), one("Deployment", chart=next_version)
    assert before["spec"]["template"] != after["spec"]["template"]
    assert before["spec"]["selector"] == after["spec"]["selector"]


LONG = "llm-gateway-production-europe-west1-blue"


@pytest.mark.parametrize("values", [{}, {"fullnameOverride": f"{LONG}1-canary"}])
def test_releases_whose_names_begin_alike(values: Values) -> None:
    other = {"fullnameOverride": f"{LONG}1-canary-b"} if values else {}
    first = {(each["kind"], each["metadata"]["name"]) for each in objects(values, name=f"{LONG}1")}
    second = {
        (each["kind"], each["metadata"]["name"])
        for each in objects(other, name=f"{LONG}1-canary-b")
    }
    assert first & second == set()


@pytest.mark.parametrize("length", [39, 40, 41, 53])
def test_only_names_that_are_cut_have_a_hash(length: int) -> None:
    name = "a" * length
    found = one("Deployment", {"fullnameOverride": name})["metadata"]["name"]
    assert len(found) <= 40
    assert (found == name) == (length <= 40)


def test_global_values_of_a_chart_above(tmp_path: Path) -> None:
    """Its other dependencies read other ones of them."""
    above = tmp_path / "above"
    shutil.copytree(CHART, above / "charts/anthropic-proxy")
    (above / "Chart.yaml").write_text("{apiVersion: v2, name: above, version: 1.0.0}")
    values = {
        "global": {
            "imageRegistry": "mirror.example.com",
            "imagePullSecrets": ["a"],
            "storageClass": "fast",
        },
        "anthropic-proxy": {
            "image": {"repository": "a/b", "tag": "1"},
            "upstream": {"url": "http://a"},
        },
    }
    rendered = texts(values, chart=above)
    deployment = yaml.safe_load(rendered["above/charts/anthropic-proxy/templates/deployment.yaml"])
    pod = deployment["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "mirror.example.com/a/b:1"
    assert pod["imagePullSecrets"] == [{"name": "a"}]


def test_global_values() -> None:
    values = {
        "global": {"imageRegistry": "mirror.example.com", "imagePullSecrets": ["a", {"name": "b"}]},
        "image": {"registry": "registry.example.com", "repository": "a/b", "tag": "1"},
        "imagePullSecrets": [{"name": "b"}, {"name": "c"}],
        **OLLAMA,
    }
    found = kinds(values)
    pods = [
        found[kind][0]["spec"]["template"]["spec"] for kind in ("Deployment", "StatefulSet", "Job")
    ]
    pods.append(found["Pod"][0]["spec"])
    for pod in pods:
        assert pod["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}, {"name": "c"}]
        assert {each["image"].split("/")[0] for each in pod["containers"]} == {"mirror.example.com"}
