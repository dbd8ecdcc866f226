"""Writes the chart package and the objects of each set of values in chart/ci, for `make chart`."""

import sys
from pathlib import Path

import yaml

from tests.chart.helm import CI_VALUES, objects, package, read_values


def main(folder: Path) -> None:
    rendered = folder / "rendered"
    rendered.mkdir(parents=True, exist_ok=True)
    for path in CI_VALUES:
        (rendered / path.name).write_text(yaml.safe_dump_all(objects(read_values(path))))
    package(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
