"""The soak test itself, for two seconds: that it runs, and sees what it should."""

import subprocess
import sys

from bench.soak import KINDS, Sample, _find_growth, _find_leaks
from tests.support.paths import ROOT


def test_two_seconds() -> None:
    command = [sys.executable, "-m", "bench.soak", "--seconds", "2"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [name for name in KINDS if not any(line.startswith(name) for line in lines)] == []
    assert any(line.startswith("after") for line in lines)


def test_what_is_held_is_seen() -> None:
    before = Sample(memory=80 * 2**20, files=17, threads=5, tasks=9, in_flight=1)
    assert _find_leaks(before, before) == []
    after = Sample(memory=80 * 2**20, files=100, threads=5, tasks=90, in_flight=2)
    assert [text.partition(" ")[2] for text in _find_leaks(before, after)] == [
        "requests are still in flight",
        "files are open, 17 were",
        "tasks run, 9 did",
    ]


def test_growth_is_seen() -> None:
    def samples(growth: int) -> list[Sample]:
        return [Sample(2**27 + number * growth, 17, 5, 9, 1) for number in range(90)]

    assert _find_growth(samples(0)) == []
    assert _find_growth(samples(2**20)) == [
        "memory grows: 172.5 MiB in the middle third, 202.5 MiB in the last"
    ]
    assert _find_growth(samples(2**20)[:30]) == []
