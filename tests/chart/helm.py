"""Render the project's chart by Helm's own engine. No other module imports the engine."""

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
# What must be set.
REQUIRED = yaml.safe_load((CHART / "ci/defaults-values.yaml").read_text())
# Of a cluster with all operators that the chart knows.
APIS = ("monitoring.coreos.com/v1", "gateway.networking.k8s.io/v1", "keda.sh/v1alpha1")

_ERROR = 3
# Where Helm itself splits what it has rendered.
_SEPARATOR = re.compile(r"(?:^|\s*\n)---\s*")

Values = dict[str, Any]
Object = dict[str, Any]


class HelmError(Exception):
    """The chart can't be rendered with these values; the text says why."""


def _engine() -> Any:
    return pytest.importorskip(
        "helm_python", reason="Helm's engine can't be installed on this machine"
    )


def read(path: Path) -> Values:
    """The values of a file."""
    values: Values = yaml.safe_load(path.read_text()) or {}
    return values


def lint(values: Values | None = None) -> list[str]:
    """What Helm has to say against the chart, as an error or a warning."""
    found = _engine().lint(str(CHART), values, strict=True)
    return [message["error"] for message in found["messages"] if message["severity"] >= _ERROR - 1]


def package(folder: Path) -> Path:
    """The chart as one file in that folder, as registries have it."""
    return Path(_engine().package(str(CHART), destination=str(folder)))


def texts(
    values: Values | None = None,
    kubernetes: str = "1.33",
    name: str = "demo",
    apis: tuple[str, ...] = APIS,
    chart: Path = CHART,
) -> dict[str, str]:
    """Return the text of each template, with required values where `values` has none.

    apis: of the cluster, besides Kubernetes' own. Raises HelmError, also for values that the schema
    rejects.
    """
    return dict(_texts(json.dumps(_merged(REQUIRED, values or {})), kubernetes, name, apis, chart))


def _merged(below: Values, above: Values) -> Values:
    """Return both as one; `above` takes precedence."""
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = _merged(below[key], above[key])
    return merged


@lru_cache(maxsize=64)
def _texts(
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
            # The package's own `render` knows no version of Kubernetes.
            rendered = engine._native.call_string(
                "helm_render", chart._raw(), values, json.dumps(options)
            )
        except engine.HelmError as error:
            raise HelmError(str(error)) from None
    found: dict[str, str] = json.loads(rendered)
    return {path.removeprefix("anthropic-proxy/templates/"): text for path, text in found.items()}


def objects(values: Values | None = None, **options: Any) -> list[Object]:
    """Return the objects of `helm install`, and the pods of `helm test`.

    options: of `texts`. Raises HelmError.
    """
    rendered = texts(values, **options)
    parts = [
        part
        for path in sorted(rendered)
        if path != "NOTES.txt"
        for part in _SEPARATOR.split(rendered[path])
    ]
    return [each for part in parts if (each := yaml.safe_load(part))]


def kinds(values: Values | None = None, **options: Any) -> dict[str, list[Object]]:
    """The same by kind."""
    found: dict[str, list[Object]] = {}
    for each in objects(values, **options):
        found.setdefault(each["kind"], []).append(each)
    return found


def one(kind: str, values: Values | None = None, **options: Any) -> Object:
    """The only object of a kind."""
    (found,) = kinds(values, **options)[kind]
    return found


def pods(found: list[Object]) -> list[Object]:
    """The specifications of pods in objects, each with its own kind of owner."""
    owners = ("Deployment", "StatefulSet", "Job")
    return [
        each["spec"] if each["kind"] == "Pod" else each["spec"]["template"]["spec"]
        for each in found
        if each["kind"] in (*owners, "Pod")
    ]


def proxy(values: Values | None = None, **options: Any) -> Object:
    """The proxy's own container in the Deployment."""
    return next(
        each
        for each in one("Deployment", values, **options)["spec"]["template"]["spec"]["containers"]
        if each["name"] == "proxy"
    )
