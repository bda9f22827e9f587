"""Repeated requests for answers of a required form: an invalid one is asked again, never mended."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from typing import TypeVar

from loguru import logger

from safelm.llm.engine import Engine, Request, list_counts

Value = TypeVar("Value")


def ask(
    engine: Engine,
    indices: Sequence[int],
    request: Callable[[int, int], Request],
    read: Callable[[int, str], Value | None],
    max_attempts: int,
) -> tuple[dict[int, Value], dict[int, str]]:
    """Ask about each index until its answer is valid or refused, at most `max_attempts` times.

    `request` builds the request of an index and an attempt. `read` reads the text of an answer, and
    returns None for an invalid one. Returns the values and the problems of what the server refuses,
    both by index. Stored answers that stay invalid are marked as unusable.

    Raises:
        EngineError: if the server is down.
    """
    values: dict[int, Value] = {}
    refused: dict[int, str] = {}
    counts: Counter[str] = Counter()
    waiting = list(indices)
    for attempt in range(max_attempts if waiting else 0):
        answers = engine.generate([request(index, attempt) for index in waiting])
        invalid = []
        for index, answer in zip(waiting, answers, strict=True):
            value = None if answer.problem else read(index, answer.text)
            if answer.problem:
                refused[index] = answer.problem
            elif value is None:
                invalid.append(index)
            else:
                values[index] = value
            counts[answer.problem or ("invalid" if value is None else "valid")] += 1
        waiting = invalid
        if not waiting:
            break
    # Those of all attempts: a rerun would be given any that stayed.
    engine.reject([request(*pair) for pair in product(waiting, range(max_attempts))])
    logger.info(f"{engine.name}: {list_counts(counts)}")
    return values, refused
