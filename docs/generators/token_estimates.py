"""Generate docs/token-estimates.md: the method of the token estimates, and their errors.

The errors come from the samples in tests/cases/tokens. A test compares the page with them.
`make docs` writes the page.
"""

from collections.abc import Iterable

from anthropic_proxy.translate.tokens.text_estimate import estimate_text
from tests.support.reference_tokens import read_sample, read_samples

_HEADER = """# Token estimates

The proxy estimates the input tokens of a request where no upstream counts them.
This page describes the estimate of a text, what is added for a message, and how the proxy corrects
its estimates.

## Texts

The proxy counts the letters, digits, punctuation, line ends and characters of other scripts in a
text, and weighs them (`translate/tokens/text_estimate.py`).
Punctuation weighs more after a space, and runs of digits, of line ends and of symbols weigh less,
because vocabularies merge them.
Spaces between words have no weight: they are part of the tokens of the words.
The time is proportional to the length: about 5 ms for 1 MB of ASCII text.

The weights are a least-squares fit to the token counts of two vocabularies: o200k of OpenAI, and
that of Qwen2 to Qwen3.
The texts of the fit are documentation, source code of ten languages, JSON, logs, diffs, and
translated manuals and messages in more than 20 languages: 4,300 excerpts of up to 4,000 characters.
The fit minimizes the relative error to the geometric mean of both counts, because a model with
either vocabulary may receive the request.

## Errors

The samples of this table are written for the project, and the weights are not fitted to them.
They are in `tests/cases/tokens`, with their counts by real tokenizers;
`tests/support/reference_tokens.py` counts them again.
The tests fail if an error exceeds the limit in the last column.
"""

_FOOTER = """The two vocabularies differ, too.
Qwen3 has a token for each digit, and o200k one for three digits: no estimate is near both for
texts of many numbers.
In scripts other than Latin, o200k needs up to 50 % fewer tokens.

## Messages, tools and calls

Chat templates add tokens that no text contains:

| For | Tokens |
| --- | --- |
| each request | 3 |
| each message | 4 |
| each tool call in a message, besides its name and arguments | 12 |
| a list of tools, besides the tools as JSON | 40 |

Images count by their size, and PDF files by their pages (`translate/tokens/media.py`).

## Corrections

Each response that reports its input tokens corrects the next estimates for the same model, also
for short requests.
The proxy learns a ratio for text, tools and media, and a fixed cost of up to 1,000 tokens, such as
a default system prompt (`translate/tokens/calibration.py`).
A prediction is never below what the chat template adds.
[Decision 0011](decisions/0011-token-estimates-and-calibration.md) gives the reasons.
"""


def render_page() -> str:
    """Return the page."""
    return "\n".join([_HEADER, *_render_errors(), "", _FOOTER])


def _render_errors() -> Iterable[str]:
    """Yield a table row for each sample."""
    yield "| Sample | o200k | Qwen3 | Estimate | Error to o200k | Error to Qwen3 | Limit |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for name, sample in read_samples().items():
        estimate = estimate_text(read_sample(name))
        errors = [estimate / sample[vocabulary] - 1 for vocabulary in ("o200k", "qwen3")]
        columns = [
            name.replace("_", " "),
            str(sample["o200k"]),
            str(sample["qwen3"]),
            str(estimate),
            *(f"{100 * error:+.0f} %" for error in errors),
            f"{100 * sample['max_error']:.0f} %",
        ]
        yield f"| {' | '.join(columns)} |"


if __name__ == "__main__":
    print(render_page(), end="")  # noqa: T201 - the page is this module's output
