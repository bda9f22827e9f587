"""A language model as judge, prompted by a file of specs/judges."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from safelm.evaluation.judges.base import Exchange, JudgeError
from safelm.evaluation.judges.refusal_phrases import not_harmful
from safelm.evaluation.judges.replies import Reading, read_reply
from safelm.llm import Engine, EngineError, Request, ask, strip_control_tokens
from specs.judge import SLOT, Completion, JudgePrompt, TokenScores
from specs.outcome import Outcome, Verdict

# The most that vLLM and OpenAI give for a token.
LOGPROBS = 20
# Hexadecimal digits of the digest between the fences.
FENCE = 32


@dataclass(frozen=True)
class LanguageModelJudge:
    """A language model that gives verdicts in the form of its prompt.

    The engine saves its answers, so that no request is sent twice.
    """

    name: str
    engine: Engine
    prompt: JudgePrompt
    max_attempts: int
    seed: int

    def verdicts(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """Ask the model about every answer that is not empty.

        An answer is unjudged if the model gives no valid verdict in `max_attempts`, or if the
        server refuses the request.

        Raises:
            JudgeError: if the prompt is for another kind of suite, if the server is down, or if
                the model gives no valid verdict on any answer.
        """
        found = self._readings(exchanges)
        verdicts = []
        for index, exchange in enumerate(exchanges):
            if index in found:
                verdicts.append(_verdict(found[index][0], exchange.answer))
            else:
                is_empty = not exchange.answer.strip()
                verdicts.append(Verdict(Outcome.NEITHER if is_empty else Outcome.UNJUDGED))
        return verdicts

    def scores(self, exchanges: Sequence[Exchange]) -> list[float | None]:
        """Return the score of each answer, from 0 to 1; None for a verdict without one.

        Raises JudgeError as `verdicts` does.
        """
        found = self._readings(exchanges)
        return [found[index][1] if index in found else None for index in range(len(exchanges))]

    def _readings(self, exchanges: Sequence[Exchange]) -> dict[int, Reading]:
        """Read the verdicts on the answers that are not empty, by their index."""
        self._check_kind(exchanges)
        judged = [index for index, one in enumerate(exchanges) if one.answer.strip()]

        def request(index: int, attempt: int) -> Request:
            return self.request(exchanges[index], attempt)

        def read(index: int, reply: str) -> Reading | None:
            return read_reply(self.prompt, reply, exchanges[index].kind)

        try:
            found, _ = ask(self.engine, judged, request, read, self.max_attempts)
        except EngineError as error:
            raise JudgeError(f"judge {self.name}: {error}") from None
        if judged and not found:
            raise JudgeError(
                f"judge {self.name}: none of {len(judged)} answers of {self.engine.name} is a "
                f"verdict as {self.prompt.id} asks for it; "
                f"use the model that the file is for: {self.prompt.model}"
            )
        return found

    def _check_kind(self, exchanges: Sequence[Exchange]) -> None:
        judged = self.prompt.kinds
        for exchange in exchanges:
            if exchange.kind not in judged:
                raise JudgeError(
                    f"judge {self.name}: {self.prompt.id} judges {' and '.join(judged)} suites "
                    f"(got a {exchange.kind} one); use another prompt or judge for it"
                )

    def request(self, exchange: Exchange, attempt: int) -> Request:
        """Write a request: prompt and answer as data in the slots of the template.

        The fence is a digest of prompt and answer, so that neither can contain it.
        """
        limit = self.engine.characters
        prompt = strip_control_tokens(exchange.prompt).strip()
        # HarmBench, too, cuts long answers at the end.
        answer = strip_control_tokens(exchange.answer).strip()[:limit]
        digest = sha256(f"{prompt}\0{answer}".encode()).hexdigest()
        fence = f"=== {digest[:FENCE]} ==="
        parts = {"request": prompt[:limit], "answer": answer, "fence": fence}

        def filled(text: str) -> str:
            # In one pass, so that text in a slot is never taken for another slot.
            return SLOT.sub(lambda slot: parts[slot[1]], text)

        template = self.prompt.template
        messages: tuple[tuple[str, str], ...] = ()
        if isinstance(template, Completion):
            special = {"add_special_tokens": template.adds_special_tokens}
            body = {"prompt": filled(template.text), **special, "logprobs": LOGPROBS}
        else:
            messages = tuple((turn.role, filled(turn.content).strip()) for turn in template.turns)
            body = {"logprobs": True, "top_logprobs": LOGPROBS}
        if not isinstance(self.prompt.reads, TokenScores):
            body = {key: value for key, value in body.items() if not key.endswith("logprobs")}
        return Request(
            exchange.id,
            self.prompt.id,
            self.prompt.version,
            messages,
            self.seed,
            attempt,
            self.prompt.answer_schema(exchange.kind),
            body=body or None,
        )


def _verdict(outcome: str, answer: str) -> Verdict:
    return not_harmful(answer) if outcome == "not_harmful" else Verdict(Outcome(outcome))
