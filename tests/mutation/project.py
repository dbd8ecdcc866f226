"""The mutated modules, their tests, and the known equivalent mutants."""

import json
import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.mutation.mutants import Mutant, Mutants

# Packages without input and output, whose tests are fast enough to run for each mutant.
PURE_PACKAGES = ("wire", "translate", "routing", "providers", "errors")

EQUIVALENTS = Path(__file__).with_name("equivalents.json")


@dataclass(frozen=True)
class Project:
    """A package in `src`, with tests in `tests/unit` in folders of the same names."""

    root: Path
    package: str
    # Folders of the package.
    areas: tuple[str, ...]
    # A JSON list of objects: the members of `Mutant.identity`, and the reason why no test can fail.
    equivalents: Path
    # Whether only the tests of a module and its folder may find a fault in it.
    own_tests: bool = False

    @cached_property
    def modules(self) -> dict[str, Mutants]:
        """Return the mutants of each module, by path."""
        found = {}
        for area in self.areas:
            for path in sorted((self.root / "src" / self.package / area).rglob("*.py")):
                file = path.relative_to(self.root).as_posix()
                found[file] = Mutants(file, path.read_text("utf-8"))
        return found

    @cached_property
    def equivalent(self) -> set[tuple[str, str, str, str]]:
        """Return the identities of the mutants that change nothing that a test could observe."""
        known = json.loads(self.equivalents.read_text("utf-8"))
        assert all(entry["reason"] for entry in known)
        return {
            (entry["file"], entry["function"], entry["before"], entry["after"]) for entry in known
        }

    def sample(self, size: int, seed: int) -> list[Mutant]:
        """Return mutants of random lines, at most one per line, without known equivalents."""
        choose = random.Random(seed)  # noqa: S311 (no secret)
        lines = [(file, line) for file, module in self.modules.items() for line in module.lines]
        choose.shuffle(lines)
        sampled: list[Mutant] = []
        for file, line in lines:
            if len(sampled) == size:
                break
            candidates = [
                mutant
                for mutant in self.modules[file].at(line)
                if mutant.identity not in self.equivalent
            ]
            if candidates:
                sampled.append(choose.choice(candidates))
        return sampled

    def outdated_equivalents(self) -> list[tuple[str, str, str, str]]:
        """Return the listed equivalents that no longer exist in the modules."""
        outdated = set(self.equivalent)
        for file in {identity[0] for identity in self.equivalent} & set(self.modules):
            module = self.modules[file]
            for line in module.lines:
                outdated -= {mutant.identity for mutant in module.at(line)}
        return sorted(outdated)

    def stages(self, file: str) -> list[list[str]]:
        """Return arguments of pytest: tests of the module, of its folder, and all others.

        The first stage always has tests.
        """
        module = Path(file).relative_to("src", self.package)
        folder = Path("tests/unit", module.parent)
        own = folder / f"test_{module.stem}.py"
        stages = []
        ignored: list[str] = []
        if (self.root / own).is_file():
            stages.append([str(own)])
            ignored = [f"--ignore={own}"]
        if any((self.root / folder).rglob("test_*.py")):
            stages.append([*ignored, str(folder)])
            ignored = [f"--ignore={folder}"]
        if stages and self.own_tests:
            return stages
        return [*stages, [*ignored, *self.all_tests]]

    @property
    def all_tests(self) -> list[str]:
        """Return the folders of tests of all areas."""
        return [f"tests/unit/{area}" for area in self.areas]
