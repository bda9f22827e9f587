"""A language model as judge, prompted by a file of specs/prompts/verdict."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import product

from loguru import logger

from safelm.evaluation.judges.base import Exchange, JudgeError
from safelm.evaluation.judges.refusal_phrases import not_harmful
from safelm.llm import Engine, EngineError, Request, strip_control_tokens
from specs.judge import KEY, VerdictPrompt
from specs.outcome import Outcome, Verdict

# Slots are filled in one pass, so that text in one is never taken for another slot.
SLOT = re.compile(r"\{(request|answer|fence)\}")
# Hexadecimal digits of the digest between the fences.
FENCE = 32


@dataclass(frozen=True)
class LanguageModelJudge:
    """A language model that answers with one of the verdicts of its prompt, as JSON.

    The engine saves its answers, so that no request is sent twice.
    """

    name: str
    engine: Engine
    prompt: VerdictPrompt
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
        self._check_kind(exchanges)
        found: dict[int, Verdict] = {}
        judged = [index for index, one in enumerate(exchanges) if one.answer.strip()]
        waiting = judged
        for attempt in range(self.max_attempts):
            waiting = self._ask(exchanges, waiting, attempt, found) if waiting else []
        attempts = product(waiting, range(self.max_attempts))
        self.engine.reject([self.request(exchanges[index], attempt) for index, attempt in attempts])
        if judged and not any(index in found for index in judged):
            raise JudgeError(
                f"judge {self.name}: none of {len(judged)} answers of {self.engine.name} is a "
                f"verdict as {self.prompt.id} asks for it; "
                "use a model that answers in JSON and does not refuse to judge"
            )
        verdicts = []
        for index, exchange in enumerate(exchanges):
            missing = Outcome.UNJUDGED if exchange.answer.strip() else Outcome.NEITHER
            verdicts.append(found.get(index, Verdict(missing)))
        return verdicts

    def _check_kind(self, exchanges: Sequence[Exchange]) -> None:
        for exchange in exchanges:
            kind = "harmful" if exchange.is_harmful else "harmless"
            if kind != self.prompt.judges:
                raise JudgeError(
                    f"judge {self.name}: {self.prompt.id} judges {self.prompt.judges} suites "
                    f"(got a {kind} one); use another prompt or judge for it"
                )

    def _ask(
        self,
        exchanges: Sequence[Exchange],
        indices: Sequence[int],
        attempt: int,
        found: dict[int, Verdict],
    ) -> list[int]:
        """Ask about some exchanges; add valid verdicts to `found` and return the invalid ones."""
        requests = [self.request(exchanges[index], attempt) for index in indices]
        try:
            replies = self.engine.generate(requests)
        except EngineError as error:
            raise JudgeError(f"judge {self.name}: {error}") from None
        invalid = []
        counts: Counter[str] = Counter()
        for index, reply in zip(indices, replies, strict=True):
            verdict = None if reply.problem else self._verdict(reply.text, exchanges[index].answer)
            if verdict:
                found[index] = verdict
            elif not reply.problem:
                invalid.append(index)
            kind = "verdicts" if verdict else "invalid"
            counts[reply.problem or kind] += 1
        shown = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        logger.info(f"{self.engine.name}: {shown}")
        return invalid

    def _verdict(self, reply: str, answer: str) -> Verdict | None:
        outcome = self.outcome(reply)
        if outcome is None:
            return None
        if outcome == "not_harmful":
            return not_harmful(answer)
        return Verdict(Outcome(outcome))

    def outcome(self, reply: str) -> str | None:
        """Read the outcome of a reply; None if it is not exactly what the prompt asks for."""
        try:
            value = json.loads(reply)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict) or set(value) != {KEY}:
            return None
        for choice in self.prompt.choices:
            if choice.verdict == value[KEY]:
                return choice.outcome
        return None

    def request(self, exchange: Exchange, attempt: int) -> Request:
        """Write a request: rules in the system turn, prompt and answer as data between fences.

        The fence is a digest of prompt and answer, so that neither can contain it.
        """
        limit = self.engine.characters
        prompt = strip_control_tokens(exchange.prompt)
        # HarmBench, too, cuts long answers at the end.
        answer = strip_control_tokens(exchange.answer)[:limit]
        digest = sha256(f"{prompt}\0{answer}".encode()).hexdigest()
        fence = f"=== {digest[:FENCE]} ==="
        parts = {"request": prompt[:limit], "answer": answer, "fence": fence}
        user = SLOT.sub(lambda slot: parts[slot[1]], self.prompt.frame).strip()
        messages = (("system", self.prompt.system()), ("user", user))
        return Request(
            exchange.id,
            self.prompt.id,
            self.prompt.version,
            messages,
            self.seed,
            attempt,
            self.prompt.answer_schema(),
        )
