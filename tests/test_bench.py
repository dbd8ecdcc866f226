"""The benchmark, in little: that each case gives its figures. How large they are is no matter of tests."""

import json
import math
import subprocess
import sys
from pathlib import Path

from bench.bodies import large
from bench.cases import CASES

# The others open thousands of streams, or take their time.
QUICK = ("paced", "flooded", "requests", "inputs")


def test_it_measures(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    command = [sys.executable, "-m", "bench", "--seconds", "0.2", "--only", ",".join(QUICK), "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())["rows"]
    assert {row["case"] for row in rows} == set(QUICK) < set(CASES)
    assert all(row["value"] > 0 and math.isfinite(row["value"]) for row in rows)
    assert "ours / pass-through, aiohttp" in done.stdout


def test_large_bodies_are_as_large_as_they_should_be() -> None:
    for size in (100_000, 1_000_000, 10_000_000):
        body = large(size)
        assert abs(len(body) / size - 1) < 0.2
        assert len(json.loads(body)["tools"]) == 60
