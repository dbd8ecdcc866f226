"""Writes the chart's package, and what it makes of each set of values in chart/ci: `make chart`."""

import sys
from pathlib import Path

import yaml

from tests.chart.helm import CI_VALUES, objects, package, read


def main(folder: Path) -> None:
    rendered = folder / "rendered"
    rendered.mkdir(parents=True, exist_ok=True)
    for path in CI_VALUES:
        (rendered / path.name).write_text(yaml.safe_dump_all(objects(read(path))))
    package(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
