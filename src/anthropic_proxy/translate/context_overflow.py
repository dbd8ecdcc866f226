"""Context overflows: refusals of requests whose input is too long for the model.

Servers use many wordings, and new ones appear, so the recognition does not compare with known
sentences. It looks for what the texts have in common: a size of the input that exceeds a limit. One
of these is sufficient:

- a code or a class name that some server defines for it;
- two numbers, of which the size of the input is larger than the limit;
- a sentence in which the input, its tokens or the context exceed something.

Texts about other limits are no overflows: rate limits and quotas, the length of the response,
images, schemas, stop sequences, and the size of the request body.
"""

import re
from dataclasses import dataclass

from anthropic_proxy.translate.upstream_failure import (
    UpstreamFailure,
    drop_thousands_separators,
)
from anthropic_proxy.wire.json_codec import JsonObject

_STATUSES = frozenset({400, 413, 422, 500})


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


# Codes of OpenAI, llama.cpp, Perplexity, Copilot, GitHub Models, Google and LiteLLM, in this order.
_CODES = _pattern(
    r"context_length_exceeded|exceed_context_size|too_many_prompt_tokens"
    r"|max_prompt_tokens_exceeded|tokens_limit_reached|context_?window_?exceeded"
    # OpenAI's limit on one text of the conversation, with the code `string_above_max_length`.
    r"|(?:messages|input)\[\d+\](?:\.content(?:\[\d+\]\.text)?|\.output)'?: string too long"
)

# Limits on something other than one request.
_OTHER_LIMITS = _pattern(
    r"\b(?:hour|dai|week|month)ly\b|\b[rt]p[smhd]\b"
    r"|\bper[ _-]?(?:second|sec|minute|min|hour|day|week|month)"
    r"|rate[ _-]?limit|too[ _]many[ _]requests|throttl|quota|usage limit|concurren"
    r"|try again (?:later|in \d)|please wait|retry (?:in|after) \d|\bcredits?\b|billing|balance"
    r"|每分钟|频率|限流|余额|额度"
)

# Parts of the request whose limits are not about its length.
_OTHER_PARTS = _pattern(
    r"\bstop[ _]?(?:sequences?|strings?|words?)\b|\bgrammar\b"
    r"|\bschema(?: (?:is|has|too|exceeds)\b|:)"
    r"|\b(?:invalid|json|input|output|response)[ _]schema"
    # Short fields, credentials, and refusals of the content.
    r"|\bmetadata\b|\buser_id\b|\bprompt_cache_key\b|\btools?[.\[]\w|\bfunction\.name\b"
    r"|\btoken is (?:in)?valid|\bsafety\b|\bblocked\b"
)

# Names of the length of the response, whose limits are not about the input.
_OUTPUT = _pattern(
    r"\bmax_?(?:completion_?|output_?|new_?|gen_?)?tokens?\b|\bmax_gen_len|\bn_predict"
    r"|\b(?:thinking_)?budget(?:_tokens)?\b|\btokens to (?:generate|sample)"
    r"|\b(?:max(?:imum)?[ _])?(?:output|completion|response|generation|reasoning|thinking|draft)"
    r"[ _](?:tokens?|length)(?: limit)?"
)
_OUTPUT_MARK = "\0"

_WINDOW = _pattern(
    r"context[ _-]?(?:length|window|size|limit)|max(?:imum)? context|max_?seq_?len"
    r"|max_?model_?len|model length|\bn_ctx\b|session_len|sequence length"
    r"|exceeds? the (?:available )?context\b(?! deadline)|上下文"
)
# Not the paths of fields (`messages[0].role`), other names (`prompt_cache_key`), or the members of
# a validation error that repeats the input.
_INPUT = _pattern(
    r"(?<![\w/])(?:(?:prompt|input)(?:s|_tokens|_length)?|messages|message size|conversation)"
    r"(?![\w\[]|\.\w|\\?[\"']\s*:)|输入|提示词"
)
_TOKENS = _pattern(
    r"\btokens\b|\btoken (?:count|limit|length)|\btokens?(?= ?[数超长])|\btext bytes\b"
)
_REQUEST = _pattern(r"\brequest(?:ed)?\b|\btotal\b|\bsum\b|\+")
_OTHER_UNITS = _pattern(
    r"image|audio|video|\bfiles?\b|\bpdf|document|pixel|attachment|base64|图片|图像"
    r"|\bbytes\b|\d ?[kmg]i?b\b|\bpayload\b|\bbody size\b"
)

# Sizes that exceed a limit. The second pattern also occurs in texts about values.
_EXCEEDS = _pattern(
    r"exceed|overflow|too[ _-]?(?:long|large|big|many|much)\b|longer than|over the limit"
    r"|max(?:imum)? context|\brange of\b|only supports|n't fit|not fit\b"
    r"|reduce (?:the|your|its|input|prompt)|shorter|shorten|超|过长|上限"
)
_COMPARES = _pattern(
    r"(?:greater|larger|bigger|more|higher) than|(?:less|fewer|smaller) than|at most|<=|>="
)
_SIZE = _pattern(r"tokens?|length|\blong|\blarge|size|window|limit|characters|长")
# A lower limit, such as "must be longer than 0".
_LOWER_LIMIT = _pattern(
    r"(?:must|should|has to) be (?:at least|(?:greater|longer|larger|more) than)"
)

_SENTENCE_END = re.compile(r"(?<=[.;!?])\s|\n|\u3002")


@dataclass(frozen=True)
class ContextSizes:
    """Sizes in the text of a context overflow, in tokens; 0 if unknown."""

    prompt: int = 0
    # the upper limit: of prompt and response together, or of the prompt alone
    limit: int = 0
    # the requested completion
    completion: int = 0
    # whether the limit concerns the prompt alone
    limits_prompt_only: bool = False
    # whether the prompt has at least this size (vLLM stops counting after the limit)
    is_lower_bound: bool = False

    @property
    def window(self) -> int:
        """The limit of prompt and response together; 0 if unknown."""
        return 0 if self.limits_prompt_only else self.limit


_UNKNOWN_SIZES = ContextSizes()


def is_context_overflow(failure: UpstreamFailure) -> bool:
    """Return whether an upstream refused a request because its input is too long."""
    if failure.status not in _STATUSES:
        return False
    text = _get_text(failure)
    codes = failure.codes
    if _CODES.search(text) or _CODES.search(codes):
        return True
    if _OTHER_LIMITS.search(text) or _OTHER_LIMITS.search(codes):
        return False
    if _OTHER_PARTS.search(text) and not _WINDOW.search(text):
        return False
    if _exceeds_limit(_read_sizes(failure, text, 0)):
        return True
    has_tokens = _TOKENS.search(_OUTPUT.sub(_OUTPUT_MARK, text)) is not None
    sentences = _SENTENCE_END.split(text)
    return any(_is_about_long_input(sentence, has_tokens=has_tokens) for sentence in sentences)


def parse_context_sizes(failure: UpstreamFailure, max_tokens: int = 0) -> ContextSizes:
    """Parse the sizes in a context overflow; all are 0 for other failures.

    max_tokens: the requested completion, which some servers add to the prompt without naming it.
    """
    if not is_context_overflow(failure):
        return _UNKNOWN_SIZES
    return _read_sizes(failure, _get_text(failure), max_tokens)


def _get_text(failure: UpstreamFailure) -> str:
    """Return the text without the parts of the conversation that validation errors repeat."""
    detail = failure.error.get("detail")
    if not isinstance(detail, list):
        return drop_thousands_separators(failure.text)
    messages = [str(each.get("msg")) for each in detail if isinstance(each, dict)]
    return drop_thousands_separators("\n".join(messages))


def _exceeds_limit(sizes: ContextSizes) -> bool:
    if not sizes.prompt or not sizes.limit:
        return False
    return sizes.prompt > sizes.limit or sizes.prompt + sizes.completion > sizes.window > 0


def _is_about_long_input(sentence: str, *, has_tokens: bool) -> bool:
    """Return whether a sentence states that the input is too long.

    has_tokens: whether the whole text names tokens, the unit of a request that is too large.
    """
    sentence = _OUTPUT.sub(_OUTPUT_MARK, _LOWER_LIMIT.sub("", sentence))
    exceeds = _EXCEEDS.search(sentence) is not None
    if not exceeds and not _COMPARES.search(sentence):
        return False
    names_input = _INPUT.search(sentence) is not None
    names_request = _REQUEST.search(sentence) is not None
    is_about_output = _OUTPUT_MARK in sentence
    if is_about_output and not names_input and not names_request:
        return False
    if _WINDOW.search(sentence) or _TOKENS.search(sentence):
        return True
    if _OTHER_UNITS.search(sentence):
        return False
    if not names_input:
        return exceeds and has_tokens and names_request and not is_about_output
    # With the response, the sentence has to be about the sum of both.
    return names_request if is_about_output else _SIZE.search(sentence) is not None


# The sizes in a text.

_NUMBER = re.compile(r"(?<![\w.#/-])\d{1,15}(?![\w%]|\.\d|-\w)")
_UNITS_OF_SIZES = _pattern(r"token|context|seq_?len|n_ctx")
_OTHER_UNIT_AFTER = _pattern(r"^ ?(?:characters|chars|bytes|items|messages\b)")
# For example, "170636 + 34048 > 200000" of Anthropic.
_SUM = re.compile(r"(?<!\d)(\d{1,15}) \+ (\d{1,15}) > (\d{1,15})(?!\d)")
# MiniMax appends the code of the error.
_LAST_CODE = re.compile(r"\(\d+\)\s*$")

# Text before a number (`_BEFORE`) or after it (`_AFTER`).
_IGNORED_BEFORE = _pattern(r"\bby\s*$|available_tokens\W*$")
_RANGE_START_AFTER = re.compile(r"^, ?\d+\]")
_OUTPUT_AFTER = _pattern(
    r"^\W{0,3}(?:tokens?\W{1,3})?(?:(?:in|for|of) (?:the )?)?"
    r"(?:output|completion|generat|draft|max_new_tokens)"
)
_INPUT_AFTER = _pattern(
    r"^\W{0,3}(?:tokens?\W{1,3})?(?:(?:in|of|from) )?(?:the |your )?(?:(?:text|tool) )?"
    r"(?:input|prompt|messages|functions)"
)
_EXCEEDS_AFTER = _pattern(
    r"^\W{0,3}(?:tokens?\W{0,3})?(?:which )?"
    r"(?:exceed|(?:is|are) (?:longer|greater|larger|more)|>|cannot|should not|must|too l)"
)
_LIMIT_AFTER = _pattern(r"^ ?(?:tokens? )?(?:max|limit|context)")
_LIMIT_BEFORE = _pattern(
    r"limit|max|allow|at most|up to|support|\bonly\b|\bjust\b|than\b|<|>|exceed"
    r"|context[ _](?:length|window|size)|n_ctx|configured|should be \["
)
_TOTAL_BEFORE = _pattern(
    r".*(?:requested|total|requires|will take|received|(?:input|prompt)s? (?:and|\+).*)"
)
_INPUT_BEFORE = _pattern(
    r".*(?:prompt|input|messages|contains|passed|resulted in|request (?:has|is|\()|\bgiven\b"
    r"|number of|length|\bkeep|\bhas\b|too long)"
)
_MAX_BEFORE = 100
_MAX_AFTER = 60


def _read_sizes(failure: UpstreamFailure, text: str, max_tokens: int) -> ContextSizes:
    """Return the sizes in the text of a failure, of which llama.cpp also sends fields."""
    fields = ContextSizes(
        prompt=_get_count(failure.error, "n_prompt_tokens"),
        limit=_get_count(failure.error, "n_ctx"),
    )
    if fields.prompt and fields.limit:
        return fields
    sum_match = _SUM.search(text)
    if sum_match is not None:
        prompt, completion, limit = map(int, sum_match.groups())
        return ContextSizes(prompt, limit, completion)
    if not _UNITS_OF_SIZES.search(text) and not _UNITS_OF_SIZES.search(failure.codes):
        return _UNKNOWN_SIZES
    reader = _SizeReader()
    for number, before, after in _split_at_numbers(text):
        reader.read(number, before, after)
    is_window = bool(reader.total or reader.completion or _WINDOW.search(text))
    return ContextSizes(
        prompt=reader.get_prompt(max_tokens),
        limit=reader.limit,
        completion=reader.completion,
        limits_prompt_only=reader.limit > 0 and not is_window,
        is_lower_bound=reader.is_lower_bound,
    )


def _get_count(error: JsonObject, name: str) -> int:
    value = error.get(name)
    return value if isinstance(value, int) else 0


def _split_at_numbers(text: str) -> list[tuple[int, str, str]]:
    """Return each number of a text, with the text of its sentence before it and after it."""
    matches = list(_NUMBER.finditer(text))
    if len(matches) == 1 and _LAST_CODE.search(text, max(matches[0].start() - 1, 0)):
        return []
    numbers: list[tuple[int, str, str]] = []
    previous_end = 0
    for index, match in enumerate(matches):
        next_start = matches[index + 1].start() if index + 1 < len(matches) else len(text)
        before = text[max(previous_end, match.start() - _MAX_BEFORE) : match.start()]
        after = text[match.end() : min(next_start, match.end() + _MAX_AFTER)]
        if _RANGE_START_AFTER.match(text, match.end(), match.end() + 20):
            after = ""
        else:
            numbers.append((int(match[0]), _SENTENCE_END.split(before)[-1], after))
        previous_end = match.end()
    return numbers


class _SizeReader:
    """Assigns the numbers of a text to sizes, by the words around them.

    The first number of each kind counts: servers repeat them in explanations.
    """

    def __init__(self) -> None:
        self.prompt = 0
        self.total = 0
        self.limit = 0
        self.completion = 0
        self.is_lower_bound = False
        # The parts of the prompt in a list such as "(500 in the messages, 20 in the functions)".
        self._input_parts = 0

    def read(self, number: int, before: str, after: str) -> None:
        """Assign one number. `before` and `after` are the texts around it."""
        if _IGNORED_BEFORE.search(before) or _OTHER_UNIT_AFTER.search(after):
            return
        before = _OUTPUT.sub(_OUTPUT_MARK, before)
        is_about_output = _OUTPUT_MARK in before and not _INPUT.search(before)
        is_size = _EXCEEDS_AFTER.search(after) is not None
        if _OUTPUT_AFTER.search(after):
            self.completion = self.completion or number
        elif not is_size and (_LIMIT_BEFORE.search(before) or _LIMIT_AFTER.search(after)):
            # A limit of the response alone is none of these sizes.
            if not is_about_output or _WINDOW.search(before + after):
                self.limit = self.limit or number
        elif is_about_output:
            self.completion = self.completion or number
        elif _INPUT_AFTER.search(after):
            self._set_prompt(number, before)
            self._input_parts += number
        else:
            self._read_size_of_input(number, before)

    def _read_size_of_input(self, number: int, before: str) -> None:
        """Assign the size of the prompt or of the total, by the last words before it."""
        prompt_match = _INPUT_BEFORE.match(before)
        total_match = _TOTAL_BEFORE.match(before)
        prompt_end = prompt_match.end() if prompt_match else 0
        total_end = total_match.end() if total_match else 0
        if total_end and total_end >= prompt_end:
            self.total = self.total or number
        elif prompt_end:
            self._set_prompt(number, before)

    def _set_prompt(self, number: int, before: str) -> None:
        if not self.prompt:
            self.prompt = number
            self.is_lower_bound = "at least" in before

    def get_prompt(self, max_tokens: int) -> int:
        """Return the size of the prompt; 0 if unknown."""
        if not self.total:
            return self.prompt
        if self.completion:
            return max(self.total - self.completion, 0)
        if self._input_parts:
            return min(self._input_parts, self.total)
        if self.prompt:
            return self.prompt
        return self.total - max_tokens if max_tokens < self.total else self.total
