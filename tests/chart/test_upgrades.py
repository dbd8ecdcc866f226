"""`helm upgrade`: immutable objects keep their specification or change their names.

Pods restart only where they must.
"""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.chart.helm import (
    CHART,
    Object,
    Values,
    get_object,
    objects,
    objects_by_kind,
    render_templates,
)

OLLAMA: Values = {"ollama": {"enabled": True}}


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """Copy the chart with a different chart version and application version."""
    chart = tmp_path / "anthropic-proxy"
    shutil.copytree(CHART, chart)
    description = yaml.safe_load((chart / "Chart.yaml").read_text())
    changed = {**description, "version": "99.0.0", "appVersion": "98.0.0"}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(changed))
    return chart


def _is_upgrade_possible(before: Object, after: Object) -> bool:
    return bool(
        before["metadata"]["name"] != after["metadata"]["name"] or before["spec"] == after["spec"]
    )


def test_a_new_version_does_not_change_the_job(next_version: Path) -> None:
    before, after = get_object("Job", OLLAMA), get_object("Job", OLLAMA, chart=next_version)
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
def test_changed_values_create_a_new_job_if_necessary(values: Values) -> None:
    enabled = {**values, "ollama": {"enabled": True, **values.get("ollama", {})}}
    assert _is_upgrade_possible(get_object("Job", OLLAMA), get_object("Job", enabled))


def test_a_new_version_does_not_restart_ollama(next_version: Path) -> None:
    assert (
        get_object("StatefulSet", OLLAMA)["spec"]
        == get_object("StatefulSet", OLLAMA, chart=next_version)["spec"]
    )


def test_a_new_version_restarts_the_proxy(next_version: Path) -> None:
    before, after = get_object("Deployment"), get_object("Deployment", chart=next_version)
    assert before["spec"]["template"] != after["spec"]["template"]
    assert before["spec"]["selector"] == after["spec"]["selector"]


LONG = "llm-gateway-production-europe-west1-blue"


@pytest.mark.parametrize("values", [{}, {"fullnameOverride": f"{LONG}1-canary"}])
def test_releases_with_similar_names_have_different_objects(values: Values) -> None:
    other = {"fullnameOverride": f"{LONG}1-canary-b"} if values else {}
    first = {(each["kind"], each["metadata"]["name"]) for each in objects(values, name=f"{LONG}1")}
    second = {
        (each["kind"], each["metadata"]["name"])
        for each in objects(other, name=f"{LONG}1-canary-b")
    }
    assert first & second == set()


@pytest.mark.parametrize("length", [39, 40, 41, 53])
def test_only_truncated_names_have_a_hash(length: int) -> None:
    name = "a" * length
    object_name = get_object("Deployment", {"fullnameOverride": name})["metadata"]["name"]
    assert len(object_name) <= 40
    assert (object_name == name) == (length <= 40)


def test_global_values_of_a_parent_chart_are_used(tmp_path: Path) -> None:
    """The parent chart may have global values for other dependencies."""
    parent = tmp_path / "above"
    shutil.copytree(CHART, parent / "charts/anthropic-proxy")
    (parent / "Chart.yaml").write_text("{apiVersion: v2, name: above, version: 1.0.0}")
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
    rendered = render_templates(values, chart=parent)
    deployment = yaml.safe_load(rendered["above/charts/anthropic-proxy/templates/deployment.yaml"])
    pod = deployment["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "mirror.example.com/a/b:1"
    assert pod["imagePullSecrets"] == [{"name": "a"}]


def test_global_values_are_used() -> None:
    values = {
        "global": {"imageRegistry": "mirror.example.com", "imagePullSecrets": ["a", {"name": "b"}]},
        "image": {"registry": "registry.example.com", "repository": "a/b", "tag": "1"},
        "imagePullSecrets": [{"name": "b"}, {"name": "c"}],
        **OLLAMA,
    }
    rendered = objects_by_kind(values)
    pods = [
        rendered[kind][0]["spec"]["template"]["spec"]
        for kind in ("Deployment", "StatefulSet", "Job")
    ]
    pods.append(rendered["Pod"][0]["spec"])
    for pod in pods:
        assert pod["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}, {"name": "c"}]
        assert {each["image"].split("/")[0] for each in pod["containers"]} == {"mirror.example.com"}
