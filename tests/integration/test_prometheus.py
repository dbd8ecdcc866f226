"""Rules and dashboard in a real Prometheus, which scrapes a real server with two processes.

NOT_YET names the queries of a dashboard that a fresh server can't have yet, with the reason.
Their metrics must exist all the same.
"""

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.paths import ROOT
from tests.support.running_command import REQUEST, Command, until
from tests.support.scripted_upstream import (
    DEADLINE,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

RULES = ROOT / "deploy/prometheus/rules.yml"
DASHBOARD = json.loads((ROOT / "deploy/grafana/anthropic-proxy.json").read_text())
KEY = "key-of-alice"
# Seconds; it looks for its targets every five seconds, and on a busy machine it takes its time.
PATIENCE = 60

NOT_YET = {
    "anthropic_proxy_upstream_failovers_total": "there is one upstream",
    "anthropic_proxy_upstream_queue_duration_seconds_bucket": "nobody has waited",
    "anthropic_proxy_request_changes_total": "the upstream refused no form of a request",
    "anthropic_proxy_config_reloads_total": "the configuration was not changed",
}

PROMETHEUS, PROMTOOL = (shutil.which(name) or "" for name in ("prometheus", "promtool"))

pytestmark = pytest.mark.skipif(
    not (PROMETHEUS and PROMTOOL),
    reason="Prometheus is not installed (apt-get install prometheus)",
)


def _promtool(*arguments: str | Path, stdin: str | None = None) -> None:
    done = subprocess.run(
        [PROMTOOL, *map(str, arguments)], input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_do_what_they_say() -> None:
    _promtool("check", "rules", RULES)
    _promtool("test", "rules", RULES.with_name("rules.test.yml"))


def test_each_alert_is_tested() -> None:
    tested = {
        case["name"]
        for case in yaml.safe_load(RULES.with_name("rules.test.yml").read_text())["tests"]
    }
    for alert in _rules("alert"):
        assert {f"{alert} fires", f"{alert} is quiet"} <= tested


def test_the_example_configuration() -> None:
    _promtool("check", "config", RULES.with_name("prometheus.yml"))


def _rules(kind: str) -> list[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule[kind] for group in groups for rule in group["rules"] if kind in rule]


def _queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def _filled(query: str) -> str:
    """With the dashboard's variables as they are at first."""
    query = query.replace("$__rate_interval", "1m")
    return re.sub(r"\$(job|instance|model)\b", ".*", query)


@dataclass(frozen=True)
class Served:
    """A Prometheus that has scraped a server, and the server."""

    prometheus: str
    proxy: str

    def api(self, path: str, **query: str) -> Any:
        told = httpx.get(
            f"{self.prometheus}/api/v1/{path}", params=query, trust_env=False, timeout=DEADLINE
        ).json()
        assert told["status"] == "success", told
        return told["data"]

    def query(self, query: str) -> list[Any]:
        result: list[Any] = self.api("query", query=query)["result"]
        return result


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    command = Command(tmp_path_factory.mktemp("proxy"))
    variables = {
        "WORKERS": "2",
        "PROXY_API_KEYS": f"alice={KEY}",
        "UPSTREAM_RETRIES": "1",
        "KEY_REQUESTS_PER_MINUTE": "1000",
    }
    with (
        ScriptedUpstream() as upstream,
        command.serving(UPSTREAM_BASE_URL=upstream.url, **variables) as server,
    ):
        _traffic(server.address, upstream)
        with Prometheus(tmp_path_factory.mktemp("prometheus"), server.address) as prometheus:
            served = Served(prometheus, server.address)
            _scraped(served, 1)
            _traffic(server.address, upstream)
            _scraped(served, 4)
            yield served


def _scraped(served: Served, times: int) -> None:
    query = f"min(count_over_time(anthropic_proxy_build_info[1m])) >= {times}"
    until(lambda: served.query(query), f"the server is scraped {times} times", PATIENCE)


def _traffic(address: str, upstream: ScriptedUpstream) -> None:
    """A bit of everything that a healthy server has had after a while."""
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 60},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    tools = {"tools": [{"name": "look", "input_schema": {"type": "object"}}]}
    upstream.then(
        answers(completion() | {"usage": usage}),
        answers(
            completion(
                None,
                message={"role": "assistant", "tool_calls": [call]},
                finish_reason="tool_calls",
            )
        ),
        streams([*text_chunks("Hel", "lo", " you"), {"choices": [], "usage": usage}]),
        answers({"error": {"message": "busy"}}, 503, {"retry-after": "0"}),
        answers(completion()),
        answers({"error": {"message": "broken"}}, 400),
    )
    for more, status in (({}, 200), (tools, 200), ({"stream": True}, 200), ({}, 200), ({}, 400)):
        answer = httpx.post(
            f"{address}/v1/messages",
            json=REQUEST | more,
            headers={"x-api-key": KEY},
            trust_env=False,
            timeout=DEADLINE,
        )
        assert answer.status_code == status, answer.text
    assert httpx.get(f"{address}/v1/models", trust_env=False, timeout=DEADLINE).status_code == 401


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Prometheus:
    """A Prometheus of the test's own, with the project's rules: `with` gives its address."""

    def __init__(self, directory: Path, target: str) -> None:
        config = yaml.safe_load(RULES.with_name("prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(RULES)]
        config["scrape_configs"][0]["static_configs"] = [{"targets": [target.rpartition("/")[2]]}]
        self._directory = directory
        self._address = f"127.0.0.1:{_port()}"
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))

    def __enter__(self) -> str:
        arguments = [
            f"--config.file={self._directory}/prometheus.yml",
            f"--storage.tsdb.path={self._directory}/data",
            f"--web.listen-address={self._address}",
        ]
        self._log = (self._directory / "log.txt").open("wb")
        self._process = subprocess.Popen(
            [PROMETHEUS, *arguments], stdout=self._log, stderr=self._log
        )
        address = f"http://{self._address}"
        until(lambda: _is_ready(address), "Prometheus is ready", PATIENCE)
        return address

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(DEADLINE)
        self._log.close()


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/-/ready", trust_env=False, timeout=DEADLINE).status_code == 200
    except httpx.TransportError:
        return False


def test_the_metrics_are_well_formed(served: Served) -> None:
    _promtool(
        "check",
        "metrics",
        stdin=httpx.get(f"{served.proxy}/metrics", trust_env=False, timeout=DEADLINE).text,
    )


def test_the_server_is_up(served: Served) -> None:
    assert [result["value"][1] for result in served.query("up")] == ["1"]
    assert [each["health"] for each in served.api("targets")["activeTargets"]] == ["up"]


def test_all_rules_are_well(served: Served) -> None:
    def rules() -> list[Any]:
        return [rule for group in served.api("rules")["groups"] for rule in group["rules"]]

    until(lambda: all(rule["health"] != "unknown" for rule in rules()), "all rules were evaluated")
    assert [(rule["name"], rule["lastError"]) for rule in rules() if rule["health"] != "ok"] == []
    assert len(rules()) == len(_rules("expr"))
    assert [rule["name"] for rule in rules() if rule.get("state") == "firing"] == []


@pytest.mark.parametrize("name", _rules("record"))
def test_recorded(served: Served, name: str) -> None:
    until(lambda: served.query(name), f"{name} is recorded", PATIENCE)


@pytest.mark.parametrize("query", _queries())
def test_the_dashboard(served: Served, query: str) -> None:
    found = served.query(_filled(query))
    reasons = [reason for name, reason in NOT_YET.items() if name in query]
    assert bool(found) is not bool(reasons), reasons or "no data"


def test_colours_of_the_dashboard_mean_something() -> None:
    """Without its own thresholds a panel of Grafana is red from 80 on, whatever it shows."""
    panels = {each["title"]: each for each in DASHBOARD["panels"] if each["type"] == "stat"}
    coloured = {
        title: each for title, each in panels.items() if each["options"]["colorMode"] != "none"
    }
    assert set(coloured) == {"Failed"}
    steps = coloured["Failed"]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [(each["color"], each["value"]) for each in steps] == [
        ("green", None),
        ("yellow", 0.01),
        ("red", 0.05),
    ]


def test_the_variables_of_the_dashboard(served: Served) -> None:
    """Grafana asks for the values of a label of a metric's series."""
    asked = [each["definition"] for each in DASHBOARD["templating"]["list"] if "definition" in each]
    assert len(asked) == 3
    for each in asked:
        query = re.fullmatch(r"label_values\((.+), (\w+)\)", each)
        assert query is not None
        selector, label = query.groups()
        assert served.api(f"label/{label}/values", **{"match[]": _filled(selector)})


def test_what_is_asked_for_is_documented() -> None:
    documented = (ROOT / "docs/metrics.md").read_text()
    used = {
        name
        for query in (*_queries(), *_rules("expr"))
        for name in re.findall(r"(?<![\w:])(?:anthropic_proxy|gen_ai)_\w+", query)
    }
    labels = {"gen_ai_token_type", "gen_ai_provider_name"}
    metrics = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used - labels}
    assert len(metrics) > 20
    assert {name for name in metrics if f"| `{name}` |" not in documented} == set()


def test_the_alerts_are_documented() -> None:
    documented = (ROOT / "docs/metrics.md").read_text()
    assert [name for name in _rules("alert") if f"| `{name}` |" not in documented] == []
