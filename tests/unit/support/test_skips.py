"""A skip fails in CI, unless it is in the table of allowed skips."""

import pytest

pytest_plugins = ["pytester"]

SKIPS = {
    "mark": """
        import pytest

        @pytest.mark.skipif(True, reason="redis is not installed")
        def test(): ...
    """,
    "fixture": """
        import pytest

        @pytest.fixture
        def redis():
            pytest.skip("redis is not installed")

        def test(redis): ...
    """,
    "import": """
        import pytest

        def test():
            pytest.importorskip("no_such_module", reason="redis is not installed")
    """,
    "module": """
        import pytest

        pytest.importorskip("no_such_module", reason="redis is not installed")
    """,
}


@pytest.fixture
def run(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest("from tests.support.skips import *")
    return pytester


def _outcomes(pytester: pytest.Pytester, *arguments: str) -> dict[str, int]:
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-ra", *arguments)
    return {name: count for name, count in result.parseoutcomes().items() if name != "warnings"}


@pytest.mark.parametrize("kind", SKIPS)
def test_a_skip_fails_in_ci_alone(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    run.makepyfile(SKIPS[kind])
    monkeypatch.delenv("CI", raising=False)
    assert _outcomes(run) == {"skipped": 1}
    monkeypatch.setenv("CI", "true")
    failed = _outcomes(run)
    assert failed in ({"failed": 1}, {"errors": 1})


def test_the_reason_is_in_the_failure(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.makepyfile(SKIPS["mark"])
    monkeypatch.setenv("CI", "true")
    result = run.runpytest_inprocess("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*skipped in CI, *: redis is not installed"])


def test_workers_of_xdist_report_the_same(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.makepyfile(SKIPS["fixture"])
    monkeypatch.setenv("CI", "true")
    assert "skipped" not in _outcomes(run, "-n", "1")


@pytest.mark.parametrize(
    ("folder", "variables", "expected"),
    [
        ("tests/fronts", {}, {"skipped": 1}),
        ("tests/fronts", {"FRONTS": "/opt/fronts"}, {"failed": 1}),
        ("tests/elsewhere", {}, {"failed": 1}),
    ],
)
def test_allowed_skips(
    run: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
    variables: dict[str, str],
    expected: dict[str, int],
) -> None:
    path = run.path / folder
    path.mkdir(parents=True)
    reason = "envoy is not installed: make test-fronts"
    (path / "test_it.py").write_text(f"import pytest\n\ndef test(): pytest.skip({reason!r})\n")
    monkeypatch.delenv("FRONTS", raising=False)
    for name, value in {"CI": "true", **variables}.items():
        monkeypatch.setenv(name, value)
    assert _outcomes(run) == expected


def test_an_expected_failure_is_no_skip(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.makepyfile(
        "import pytest\n\n@pytest.mark.xfail(reason='known')\ndef test(): raise ValueError\n"
    )
    monkeypatch.setenv("CI", "true")
    assert _outcomes(run) == {"xfailed": 1}
