"""Render the chart with the Helm engine. No other module imports the engine."""

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT

CHART = ROOT / "chart"
CI_VALUES = sorted((CHART / "ci").glob("*.yaml"))
VERSIONS = ("1.29", "1.33", "1.37")
# Values that have no default.
REQUIRED = yaml.safe_load((CHART / "ci/defaults-values.yaml").read_text())
# API versions of a cluster with all operators that the chart supports.
APIS = ("monitoring.coreos.com/v1", "gateway.networking.k8s.io/v1", "keda.sh/v1alpha1")

_ERROR = 3
# Separator between rendered objects, as in the Helm source code.
_SEPARATOR = re.compile(r"(?:^|\s*\n)---\s*")

Values = dict[str, Any]
Object = dict[str, Any]


class HelmError(Exception):
    """The chart can't be rendered with these values; the message contains the reason."""


def _engine() -> Any:
    return pytest.importorskip(
        "helm_python", reason="Helm's engine can't be installed on this machine"
    )


def read_values(path: Path) -> Values:
    """Return the values of a file."""
    values: Values = yaml.safe_load(path.read_text()) or {}
    return values


def lint(values: Values | None = None) -> list[str]:
    """Return the errors and warnings of `helm lint`."""
    result = _engine().lint(str(CHART), values, strict=True)
    return [message["error"] for message in result["messages"] if message["severity"] >= _ERROR - 1]


def package(folder: Path) -> Path:
    """Write the chart package to the folder and return its path."""
    return Path(_engine().package(str(CHART), destination=str(folder)))


def render_templates(
    values: Values | None = None,
    kubernetes: str = "1.33",
    name: str = "demo",
    apis: tuple[str, ...] = APIS,
    chart: Path = CHART,
) -> dict[str, str]:
    """Return the rendered text of each template, with defaults for required values.

    `apis` are the API versions of the cluster in addition to those of Kubernetes.
    Raises HelmError, also for values that the schema rejects.
    """
    return dict(_render(json.dumps(_merge(REQUIRED, values or {})), kubernetes, name, apis, chart))


def _merge(defaults: Values, overrides: Values) -> Values:
    """Merge both; `above` takes precedence."""
    merged = {**defaults, **overrides}
    for key in defaults.keys() & overrides.keys():
        if isinstance(defaults[key], dict) and isinstance(overrides[key], dict):
            merged[key] = _merge(defaults[key], overrides[key])
    return merged


@lru_cache(maxsize=64)
def _render(
    values: str, kubernetes: str, name: str, apis: tuple[str, ...], path: Path
) -> dict[str, str]:
    engine = _engine()
    options = {
        "name": name,
        "namespace": "llm",
        "kube_version": f"v{kubernetes}.0",
        "api_versions": apis,
    }
    with engine.Chart.load(str(path)) as chart:
        try:
            chart.validate_schema(json.loads(values))
            # `render` of the package does not support a Kubernetes version.
            rendered = engine._native.call_string(
                "helm_render", chart._raw(), values, json.dumps(options)
            )
        except engine.HelmError as error:
            raise HelmError(str(error)) from None
    templates: dict[str, str] = json.loads(rendered)
    return {
        path.removeprefix("anthropic-proxy/templates/"): text for path, text in templates.items()
    }


def objects(values: Values | None = None, **options: Any) -> list[Object]:
    """Return the objects of `helm install`, and the pods of `helm test`.

    `options` are arguments of `render_templates`. Raises HelmError.
    """
    rendered = render_templates(values, **options)
    parts = [
        part
        for path in sorted(rendered)
        if path != "NOTES.txt"
        for part in _SEPARATOR.split(rendered[path])
    ]
    return [each for part in parts if (each := yaml.safe_load(part))]


def objects_by_kind(values: Values | None = None, **options: Any) -> dict[str, list[Object]]:
    """Return the objects by kind."""
    by_kind: dict[str, list[Object]] = {}
    for each in objects(values, **options):
        by_kind.setdefault(each["kind"], []).append(each)
    return by_kind


def get_object(kind: str, values: Values | None = None, **options: Any) -> Object:
    """Return the only object of a kind."""
    (result,) = objects_by_kind(values, **options)[kind]
    return result


def pod_specs(objects: list[Object]) -> list[Object]:
    """Return the pod specifications of the objects that own pods."""
    owners = ("Deployment", "StatefulSet", "Job")
    return [
        each["spec"] if each["kind"] == "Pod" else each["spec"]["template"]["spec"]
        for each in objects
        if each["kind"] in (*owners, "Pod")
    ]


def proxy_container(values: Values | None = None, **options: Any) -> Object:
    """Return the container of the proxy in the Deployment."""
    return next(
        each
        for each in get_object("Deployment", values, **options)["spec"]["template"]["spec"][
            "containers"
        ]
        if each["name"] == "proxy"
    )
