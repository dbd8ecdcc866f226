"""Measure the cost of the proxy (`make bench`), compared with pass-through servers.

    python -m bench [--only paced,flooded] [--seconds 10] [--json FILE] [--peer NAME=URL ...]

A pass-through server uses the same libraries and only forwards bytes. It is measured in the same
run. CPU is the CPU time of the server's processes, so that other work on the machine matters less.
A peer is another proxy, started by hand in front of the upstream whose address is printed. Its
process is found by its port.
"""

import argparse
import contextlib
import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from bench.cases import CASES
from bench.processes import MeasuredProcess, allow_files, run_load, run_program, run_proxy
from bench.targets import Bench, Row, Target

_CHAT = "/v1/chat/completions"
# CPU share above which the load generator or the upstream may limit the measurement.
_BUSY = 0.8
# Open files per process. Upstream and clients have one file for each stream, and the proxy has two.
_FILES = 10_500


@contextlib.contextmanager
def _bench(seconds: float, peers: list[str]) -> Iterator[Bench]:
    allow_files(_FILES)
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(run_program("bench.upstream"))
        ours = Target(
            "ours", stack.enter_context(run_proxy(upstream.url)), "/v1/messages", anthropic=True
        )
        baselines = {
            transport: Target(
                f"pass-through, {transport}",
                stack.enter_context(run_program("bench.passthrough", upstream.url, transport)),
                _CHAT,
                anthropic=False,
            )
            for transport in ("aiohttp", "httpx")
        }
        if peers:
            print(f"start the peers with the upstream {upstream.url}/v1, then press return")
            sys.stdin.readline()
        for peer in peers:
            name, _, url = peer.partition("=")
            baselines[name] = Target(
                name,
                MeasuredProcess(_find_listening_pid(url), url, 0),
                "/v1/messages",
                anthropic=True,
            )
        for target in (ours, *baselines.values()):
            run_load(target.task("requests", "whole", 1, stream=False, requests=20))
        yield Bench(upstream, ours, baselines, seconds)


def _find_listening_pid(url: str) -> int:
    """Return the PID of the process that listens on the port of a URL."""
    command = ["ss", "-ltnp", f"sport = :{urlsplit(url).port}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    match = re.search(r"pid=(\d+)", output)
    assert match, f"no process listens on {url}"
    return int(match[1])


def _print_row(row: Row) -> None:
    target = (
        ""
        if row.target is None
        else f"{'>=' if row.at_least else '<='} {row.target:g}{'' if row.is_met else '  NOT MET'}"
    )
    value = (
        "skipped"
        if row.value is None
        else f"{row.value:,.0f}"
        if row.value >= 1000
        else f"{row.value:.3g}"
    )
    print(f"{row.case:12} {row.what:55} {value:>10} {row.unit:4} {target}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default=",".join(CASES), help="cases, separated by commas")
    parser.add_argument(
        "--seconds", type=float, default=10, help="approximate duration of each measurement"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(
        "--peer", action="append", default=[], help="measure another proxy: NAME=URL"
    )
    options = parser.parse_args()
    rows = []
    with _bench(options.seconds, options.peer) as bench:
        for name in options.only.split(","):
            for row in CASES[name](bench):
                _print_row(row)
                rows.append(row)
    for what, share in sorted(bench.peak_loads.items()):
        remark = "may have limited the measurement" if share > _BUSY else ""
        print(f"{'busy':12} {what:55} {share:10.2f} CPU  {remark}")
    if options.json:
        about = {"python": platform.python_version(), "machine": platform.platform()}
        options.json.write_text(
            json.dumps(
                {**about, "rows": [asdict(row) for row in rows], "busy": bench.peak_loads}, indent=2
            )
        )


if __name__ == "__main__":
    main()
