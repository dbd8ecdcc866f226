"""Services and settings of docker-compose.yml, read by Docker Compose.

The tests need no container engine.

`make judges` installs Docker Compose.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from anthropic_proxy.config.settings import Settings
from tests.support.paths import ROOT

COMPOSE = shutil.which(
    "docker-compose", path=f"{ROOT}/.venv-lint/bin{os.pathsep}{os.environ['PATH']}"
)
HEADER = (ROOT / "docker-compose.yml").read_text().partition("\nname:")[0]
KEY = "UPSTREAM_API_KEY=sk-1"
HOSTED = f"UPSTREAM_BASE_URL=https://openrouter.ai/api\n{KEY}\n"

pytestmark = pytest.mark.skipif(
    COMPOSE is None, reason="Docker Compose is not installed: make judges"
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Copy the Compose files to a separate folder."""
    for path in ROOT.glob("docker-compose*.yml"):
        shutil.copy(path, tmp_path)
    return tmp_path


def _compose(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(COMPOSE), *arguments, "config"]
    return subprocess.run(
        command,
        cwd=project,
        env={"HOME": str(project), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def _services(project: Path, *arguments: str, **variables: str) -> dict[str, Any]:
    result = _compose(project, *arguments, **variables)
    assert result.returncode == 0, result.stderr
    services: dict[str, Any] = yaml.safe_load(result.stdout)["services"]
    return services


def _settings(project: Path, **variables: str) -> dict[str, str]:
    settings: dict[str, str] = _services(project, **variables)["proxy"]["environment"]
    return settings


def test_a_hosted_upstream_does_not_start_ollama(project: Path) -> None:
    (project / ".env").write_text(HOSTED)
    services = _services(project)
    assert set(services) == {"proxy"}
    assert not [
        name for name, each in services["proxy"]["depends_on"].items() if each.get("required", True)
    ]
    settings = services["proxy"]["environment"]
    assert (settings["UPSTREAM_BASE_URL"], settings["UPSTREAM_API_KEY"]) == (
        "https://openrouter.ai/api",
        "sk-1",
    )


@pytest.mark.parametrize("source", ["environment", ".env"])
def test_the_profile_starts_ollama_and_waits_for_the_model(project: Path, source: str) -> None:
    if source == ".env":
        (project / ".env").write_text("COMPOSE_PROFILES=ollama")
    services = _services(
        project, **({"COMPOSE_PROFILES": "ollama"} if source == "environment" else {})
    )
    assert set(services) == {"proxy", "ollama", "model"}
    conditions = {name: each["condition"] for name, each in services["proxy"]["depends_on"].items()}
    assert conditions == {"ollama": "service_healthy", "model": "service_completed_successfully"}
    assert _run_entry_point(project, services["proxy"])[0] == "http://ollama:11434"


def test_compose_and_chart_use_the_same_ollama_version(project: Path) -> None:
    tag = yaml.safe_load((ROOT / "chart/values.yaml").read_text())["ollama"]["image"]["tag"]
    services = _services(project, COMPOSE_PROFILES="ollama")
    assert {services[name]["image"] for name in ("ollama", "model")} == {f"ollama/ollama:{tag}"}


def _run_entry_point(project: Path, proxy: dict[str, Any], **variables: str) -> tuple[str, str]:
    """Return the UPSTREAM_BASE_URL of the proxy that the entry point starts, and its output."""
    program = project / "anthropic-proxy"
    program.write_text('#!/bin/sh\nprintf "%s" "$UPSTREAM_BASE_URL"')
    program.chmod(0o755)
    result = subprocess.run(
        [part.replace("$$", "$") for part in proxy["entrypoint"]],
        env={**proxy["environment"], "PATH": f"{project}:/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout, result.stderr


_HINT = "set UPSTREAM_BASE_URL in .env, or COMPOSE_PROFILES=ollama\n"


@pytest.mark.parametrize(
    ("profiles", "env", "upstream", "hint"),
    [
        ("", "", "", _HINT),
        ("observability", "", "", _HINT),
        ("observability", "UPSTREAM_BASE_URL=http://a", "http://a", ""),
        ("ollama", "UPSTREAM_BASE_URL=http://a", "http://a", ""),
        ("ollama,observability", "", "http://ollama:11434", ""),
        ("observability,ollama", "", "http://ollama:11434", ""),
        ("*", "", "http://ollama:11434", ""),
        ("ollama", "CONFIG_FILE=/a.yaml", "", ""),
        ("", "CONFIG_FILE=/a.yaml", "", ""),
    ],
)
def test_the_entry_point_selects_the_upstream(
    project: Path, profiles: str, env: str, upstream: str, hint: str
) -> None:
    """Compose requires no variables, so `docker compose down` works without those of `up`."""
    (project / ".env").write_text(env)
    services = _services(project, **({"COMPOSE_PROFILES": profiles} if profiles else {}))
    assert _run_entry_point(project, services["proxy"]) == (upstream, hint)


def test_the_observability_profile_works_with_a_hosted_upstream(project: Path) -> None:
    (project / ".env").write_text(HOSTED)
    assert set(_services(project, COMPOSE_PROFILES="observability")) == {
        "proxy",
        "prometheus",
        "grafana",
    }


def test_the_former_upstream_variable_is_accepted(project: Path) -> None:
    (project / ".env").write_text("ANTHROPIC_PROXY_BASE_URL=https://a.example.com")
    assert _settings(project)["UPSTREAM_BASE_URL"] == "https://a.example.com"


def test_the_gpu_file_reserves_devices(project: Path) -> None:
    files = ("-f", "docker-compose.yml", "-f", "docker-compose.gpu.yml")
    services = _services(project, *files, COMPOSE_PROFILES="ollama")
    assert services["ollama"]["deploy"]["resources"]["reservations"]["devices"]


def test_unsuitable_settings_are_overridden(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus scrapes PORT, and the container has no sockets or files of the host."""
    not_set = ("METRICS_PORT", "UNIX_SOCKET", "TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE")
    host = "0.0.0.0"  # noqa: S104 - inside a container
    overridden = {"PORT": "3000", "HOST": host, **dict.fromkeys(not_set, "")}
    (project / ".env").write_text(HOSTED + "".join(f"{name}=/a/1\n" for name in overridden))
    environment = _settings(project)
    assert {name: environment[name] for name in overridden} == overridden
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)
    assert (settings.metrics_port, settings.unix_socket, settings.tls_cert_file) == (
        None,
        None,
        None,
    )
    target = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())["scrape_configs"][
        0
    ]["static_configs"]
    assert target == [{"targets": [f"proxy:{overridden['PORT']}"]}]


@pytest.mark.parametrize("value", ["sk-a$bc$1d#x", "pa$$word", '{"X-A": "b c$d"}', "plain"])
def test_compose_and_proxy_read_quoted_values_equally(project: Path, value: str) -> None:
    (project / ".env").write_text(f"UPSTREAM_BASE_URL=http://a\nUPSTREAM_API_KEY='{value}'\n")
    key = Settings(_env_file=project / ".env").upstream_api_key
    assert key is not None
    # The output is a Compose file, which escapes $ as $$.
    assert (
        _settings(project)["UPSTREAM_API_KEY"].replace("$$", "$") == key.get_secret_value() == value
    )


def test_the_env_example_is_valid(project: Path) -> None:
    shutil.copy(ROOT / ".env.example", project / ".env")
    assert set(_services(project)) == {"proxy"}


@pytest.mark.parametrize(
    "text", [HEADER, (ROOT / "docs/containers.md").read_text()], ids=["header", "docs"]
)
def test_the_getting_started_commands_are_documented(text: str) -> None:
    """With ANTHROPIC_API_KEY, Claude Code asks the user and recommends not to use the key."""
    assert "COMPOSE_PROFILES=ollama docker compose up" in text
    assert (
        "ANTHROPIC_BASE_URL=http://localhost:3000 ANTHROPIC_AUTH_TOKEN=none claude --model qwen3:4b"
        in text
    )
    assert "cp .env.example .env" in text
    assert "ANTHROPIC_API_KEY=" not in text
