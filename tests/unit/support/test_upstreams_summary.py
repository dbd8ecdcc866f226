"""The summary of the tests with real servers holds where a module can't be collected."""

import pytest

pytest_plugins = ["pytester"]


def test_a_module_that_cannot_be_collected_is_reported(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.upstreams.conftest import pytest_terminal_summary")
    pytester.makepyfile(test_broken="import no_such_module")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.no_fnmatch_line("*AttributeError*")
