"""Chat Completions chunks -> Anthropic stream events: a state machine without I/O.

The events of one answer obey, whatever the upstream sends,

    message_start ping (content_block_start content_block_delta* content_block_stop)* message_delta message_stop

with indices 0, 1, 2 ... and one open block at a time; or they break off with one `error` event. Exactly one of `close`
and `fail` ends the answer. An end of input without a finish reason is a failure and never a made-up `end_turn`.

Tool calls whose fragments interleave share the one open block like this: the open call streams, and the others wait
until its arguments are a whole document or the answer ends. What else comes between the fragments of a call waits too.
"""

from collections.abc import Sequence

from anthropic_proxy.errors import ApiError, TruncatedError
from anthropic_proxy.translate import upstream_errors
from anthropic_proxy.translate.reasoning.fields import IN_TEXT, Piece, reasoning_of
from anthropic_proxy.translate.reasoning.tool_call_signatures import signature_of
from anthropic_proxy.translate.response.block_writer import BlockWriter
from anthropic_proxy.translate.response.spec import AnswerSpec, Reasoning
from anthropic_proxy.translate.response.stop_reasons import (
    STOP_REASONS,
    stopped_at,
    to_stop,
    was_cut,
)
from anthropic_proxy.translate.response.text_filters import AnswerText
from anthropic_proxy.translate.response.think_tags import ThinkSplitter
from anthropic_proxy.translate.response.usage import (
    Tally,
    fills,
    reported_input,
    to_iteration,
    to_tiers,
    to_usage,
)
from anthropic_proxy.translate.tool_calls.assembler import Assembler, Call, fragments_of
from anthropic_proxy.translate.tool_calls.text_parser import Parts, TextCalls
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import content_text, first_choice, plain_text, string


class StreamTranslator:
    """Translates one answer: `start`, then `feed` for each chunk, then `close` or `fail`; each gives events to send.

    `finished` is true once the answer has ended; with a stop sequence that happens while the upstream still talks. Then
    `outcome` is the stop reason, and `usage` the answer's (None for both when it broke off).
    """

    def __init__(self, spec: AnswerSpec) -> None:
        self.finished = False
        self.outcome: str | None = None
        self.usage: JsonObject | None = None
        self.spec = spec
        self._blocks = BlockWriter(
            spec.signer, spec.tool_names, omits_thinking=spec.reasoning is Reasoning.OMITTED
        )
        if spec.compaction is not None:
            self._blocks.compaction(spec.compaction.block)
        self._before = self._blocks.take()
        self._splitter = ThinkSplitter(opened=spec.opens_thinking)
        self._text = AnswerText(spec)
        self._text_calls = TextCalls(spec.tools if spec.calls_in_text else {})
        self.calls = Assembler(spec.tools, single=spec.single_call)
        self._opened_calls = 0
        self._late: list[Piece | str] = []
        self._finish_reason = ""
        self._refusals: list[str] = []
        self._tally = Tally()

    @property
    def opens_thinking(self) -> bool:
        """Whether the next answer of this model is to be read as one that begins within a block of reasoning."""
        return self._splitter.opens

    def begins_thinking(self) -> None:
        """The answer to come begins within a block of reasoning. To be called before anything is fed."""
        self._splitter = ThinkSplitter(opened=True)

    @property
    def unknown_finish_reason(self) -> str | None:
        """The upstream's finish reason where it is in no table; it ended the turn like any other."""
        return None if self._finish_reason in ("", *STOP_REASONS) else self._finish_reason

    @property
    def answered(self) -> bool:
        """Whether the upstream has said why it stopped: nothing of the answer is missing then."""
        return bool(self._finish_reason)

    @property
    def reported_input(self) -> int | None:
        """Input tokens as the upstream counted them; None as long as it has not said."""
        return reported_input(self._tally.reported)

    @property
    def usage_so_far(self) -> JsonObject:
        """Usage of what has come of the answer: the upstream's, or an estimate as long as it has not said."""
        return self._tally.usage(
            self.spec.input_estimate, sum(call.arguments.characters for call in self.calls.calls)
        )

    def start(self) -> list[JsonObject]:
        """The events that open the answer. Their usage is an estimate; the end has the real one."""
        estimate = to_usage(None, input_estimate=self.spec.input_estimate, output_estimate=0)
        message = events.message(self.spec.id, self.spec.model, estimate) | self.spec.fields
        return [events.message_start(message), events.ping(), *self._before]

    def feed(self, chunk: JsonObject) -> list[JsonObject]:
        """Events for one chunk. Raises ApiError when the chunk says that the upstream failed."""
        if self.finished:
            return []
        self._tally.tier = chunk.get("service_tier") or self._tally.tier
        text = plain_text(chunk)
        if text and (plain := self.go_on([text])):
            return plain
        error = upstream_errors.stream_error(chunk, self.spec.source)
        if error:
            raise error
        if chunk.get("usage"):
            self._tally.reported = chunk["usage"]
        choice = first_choice(chunk)
        if choice is not None:
            self._choice(choice)
        return self._blocks.take()

    def go_on(self, texts: Sequence[str]) -> list[JsonObject]:
        """Events for the texts of chunks that say nothing else. None when the chunks must be fed: something is looked for
        in their text, or waits.
        """
        text = "".join(texts)
        if not text or not self._passes(text):
            return []
        self._tally.add(text, sum(map(bool, texts)))
        self._blocks.text(text)
        return self._blocks.take()

    def close(self, *, done: bool) -> list[JsonObject]:
        """Events that end the answer. `done`: the upstream said [DONE], which ends an answer even where no finish
        reason came (Snowflake). Raises ApiError when the answer broke off.
        """
        if self.finished:
            return []
        if not self._finish_reason and not (done and self._tally.pieces):
            raise TruncatedError(
                f"The upstream {self.spec.source.name} ended the answer without finishing it"
            )
        self._blocks.cut = was_cut(self._finish_reason)
        self._write_split(self._splitter.close())
        self._write_parts(self._text_calls.close(cut=self._blocks.cut))
        self._end_text()
        self._flush_calls()
        self._flush_late()
        self._take_for_text()
        self._end_text()
        if not self.finished:
            has_calls = bool(self.calls.calls)
            self._end(
                to_stop(self._finish_reason, has_calls=has_calls, refusal="".join(self._refusals))
            )
        return self._blocks.take()

    def fail(self, error: ApiError, request_id: str) -> list[JsonObject]:
        """Events that break the answer off. The open block stays open, as it is not whole."""
        self.finished = True
        return [*self._blocks.take(), error.body(request_id)]

    def _passes(self, text: str) -> bool:
        """Whether text only goes on with a block of text: nothing is looked for in it, and nothing waits."""
        is_plain = (
            not self.finished and self._text.passes and self._blocks.is_text and not self._late
        )
        return is_plain and self._splitter.passes(text) and self._text_calls.passes(text)

    def _choice(self, choice: JsonObject) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._delta(delta)
        if self.finished:
            return
        finish_reason = choice.get("finish_reason")
        if finish_reason == "error":
            raise ApiError(
                500, f"The upstream {self.spec.source.name} broke off the answer without a reason"
            )
        if finish_reason and not self._finish_reason:
            self._finish_reason = str(finish_reason)

    def _delta(self, delta: JsonObject) -> None:
        reasoning = reasoning_of(delta)
        if reasoning is not None:
            self._tally.add(reasoning.text)
            self._write(reasoning)
        refusal = string(delta.get("refusal"))
        self._refusals.append(refusal)
        # Where JSON is expected a refusal has no text: the SDKs would take it for the document.
        text = content_text(delta.get("content")) or ("" if self.spec.structured else refusal)
        if text:
            self._tally.add(text)
            self._write_split(self._splitter.feed(text))
        for fragment in fragments_of(delta):
            self._tool_call(fragment)

    def _write_split(self, pairs: list[tuple[bool, str]]) -> None:
        for is_reasoning, text in pairs:
            if is_reasoning:
                self._write(Piece(IN_TEXT, text))
            else:
                self._write_parts(self._text_calls.feed(text))

    def _write_parts(self, parts: Parts) -> None:
        for part in parts:
            if isinstance(part, str):
                self._write(part)
            else:
                self.calls.whole(part.name, part.arguments, self.spec.new_tool_id())
                self._open_calls()

    def _write(self, said: Piece | str) -> None:
        """Reasoning, or text of the answer; it waits while a call is half sent."""
        call = self._blocks.call
        if call is not None and not call.arguments.complete:
            self._late.append(said)
            return
        self._flush_late()
        self._put(said)

    def _put(self, said: Piece | str) -> None:
        if self.finished:
            return
        if isinstance(said, str):
            self._put_text(self._text.feed(said))
        elif self.spec.reasoning is not Reasoning.HIDDEN:
            self._end_text()
            self._blocks.thinking(said)

    def _end_text(self) -> None:
        """Before another kind of block: what was held back is text after all."""
        if not self.finished:
            self._put_text(self._text.flush())

    def _put_text(self, visible: str) -> None:
        if visible:
            self._blocks.text(visible)
        if self._text.stopped_at is not None:
            self._end(stopped_at(self._text.stopped_at))

    def _tool_call(self, fragment: JsonObject) -> None:
        if self.finished:
            return
        self._write_split(self._splitter.close())
        self._write_parts(self._text_calls.stop())
        self._end_text()
        call = self.calls.feed(fragment, self.spec.new_tool_id)
        self._tally.add("")
        self._sign(call, fragment)
        if call is self._blocks.call:
            self._blocks.tool_use(call)
        elif not call.opened:
            self._open_calls()

    def _sign(self, call: Call, fragment: JsonObject) -> None:
        """A signature goes before its call, or behind it where it comes only then."""
        signature = signature_of(fragment, call.id)
        if signature is not None and not call.signed and self.calls.keeps(call):
            call.signed = True
            self._write(signature)

    def _refuse_overrun(self) -> None:
        """A call's block ends with a whole document; what came behind it can't be told to the client, nor left out."""
        if any(call.arguments.overrun for call in self.calls.kept):
            raise ApiError(
                500, f"The upstream {self.spec.source.name} sent more of a tool call after its end"
            )

    def _open_calls(self) -> None:
        """Open the calls that wait, in order, as long as the one before is whole and the name is known."""
        while self._opened_calls < len(self.calls.kept):
            call = self.calls.kept[self._opened_calls]
            previous = self._blocks.call
            if not self.calls.is_named(call) or (
                previous is not None and not previous.arguments.complete
            ):
                return
            self._flush_late()
            self._end_text()
            if self.finished:
                return
            self._blocks.tool_use(call)
            self._opened_calls += 1

    def _flush_calls(self) -> None:
        self._refuse_overrun()
        for call in () if self.finished else self.calls.kept[self._opened_calls :]:
            if not call.name:
                raise ApiError(
                    500, f"The upstream {self.spec.source.name} sent a tool call without a name"
                )
            self._blocks.tool_use(call)

    def _take_for_text(self) -> None:
        """An answer that was to begin with reasoning, and ended without an end of it, was an answer after all."""
        if self._finish_reason != "length" and not self.calls.calls and not self._blocks.has_text:
            text = self._splitter.unclosed()
            if text:
                self._put(text)

    def _flush_late(self) -> None:
        """Write what waited for the end of a call, in the order in which it came."""
        late, self._late = self._late, []
        for said in late:
            self._put(said)

    def _end(self, stop: JsonObject) -> None:
        self.finished = True
        self._blocks.close()
        self.usage = self.usage_so_far
        if stop["stop_reason"] == "max_tokens" and fills(self.usage, self.spec.context_window):
            stop = {**stop, "stop_reason": "model_context_window_exceeded"}
        self.outcome = stop["stop_reason"]
        self.usage |= self.spec.usage_fields | to_tiers(
            self._tally.tier, asks_for_speed=self.spec.asks_for_speed
        )
        if self.spec.compaction is not None:
            self.usage["iterations"] = [
                self.spec.compaction.usage,
                to_iteration("message", self.usage),
            ]
        end = events.message_delta(stop, self.usage, self.spec.context_management)
        self._blocks.out += [end, events.message_stop()]
