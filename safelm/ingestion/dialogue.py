"""Dialogues in the formats of public data sets, told apart by the columns of each row.

One folder may hold several data sets: messages with roles (UltraChat and most others); prompt and
response with labels of harm (WildGuardMix); vanilla and adversarial requests with a completion
(WildJailbreak); question and answer (GSM8K). A dialogue is read as its exchanges, requests with
their answers. A source with `text: messages` and `prompt: messages` is read this way.
"""

import re
from collections.abc import Mapping
from typing import Any

from safelm.ingestion.metadata import Row

MESSAGES = "messages"
DIALOGUE_COLUMNS = (
    "messages",
    "prompt",
    "response",
    "prompt_harm_label",
    "response_harm_label",
    "subcategory",
    "vanilla",
    "adversarial",
    "completion",
    "data_type",
    "question",
    "answer",
)
# The hazard of a harmful request whose category is not given.
UNSPECIFIED = "unspecified"
# The label of an answer that complies with a harmful request (paper §1.1).
COMPLIED = 4
# The hazard (paper §9) of each subcategory of WildGuardMix (arXiv 2406.18495, table 8).
SUBCATEGORIES = {
    "violence_and_physical_harm": "violent_crimes",
    "fraud_assisting_illegal_activities": "nonviolent_crimes",
    "sexual_content": "sexual_content",
    "defamation_encouraging_unethical_or_unsafe_actions": "defamation",
    "private_information_individual": "privacy",
    "sensitive_information_organization_government": "privacy",
    "copyright_violations": "intellectual_property",
    "toxic_language_hate_speech": "hate",
    "social_stereotypes_and_unfair_discrimination": "hate",
    "mental_health_over_reliance_crisis": "self_harm",
    "disseminating_false_information": "elections",
    "cyberattack": "code_abuse",
}
# GSM8K annotates calculations, as in "2+3=<<2+3=5>>5".
CALCULATION = re.compile(r"<<[^<>]*>>")


def exchanges(row: Row) -> list[Row]:
    """Return prompt, text, label and hazard of each exchange; None for those that it lacks.

    There is always a first exchange, if only to say what it lacks. Later ones are whole.
    """
    if row.get("messages") is not None:
        return _messages(row["messages"])
    if "data_type" in row:
        return [_jailbreak(row)]
    if "question" in row:
        answer = row.get("answer")
        text = CALCULATION.sub("", answer) if isinstance(answer, str) else None
        return [_pair(row["question"], text)]
    return [_labelled(row)]


def _is_harmful(row: Row) -> bool:
    """Return whether the data set calls the request of a row harmful."""
    kind = str(row.get("data_type"))
    return row.get("prompt_harm_label") == "harmful" or kind.endswith("_harmful")


def _pair(prompt: Any, text: Any, label: int | None = None, hazard: str | None = None) -> Row:
    return {"prompt": prompt, "text": text, "label": label, "hazard": hazard}


def _messages(turns: Any) -> list[Row]:
    """Read requests and the answers right after them, in turn; system messages are skipped."""
    listed = turns if isinstance(turns, list | tuple) else ()
    valid = [turn for turn in listed if isinstance(turn, Mapping)]
    spoken = [turn for turn in valid if turn.get("role") != "system"]
    read = []
    for first in range(0, max(len(spoken), 1), 2):
        exchange = spoken[first : first + 2]
        roles = [turn.get("role") for turn in exchange]
        prompt = exchange[0].get("content") if roles[:1] == ["user"] else None
        text = exchange[1].get("content") if roles == ["user", "assistant"] else None
        if first and not (prompt and text):
            break
        read.append(_pair(prompt, text))
    return read


def _labelled(row: Row) -> Row:
    """Read WildGuardMix: harmful requests have a hazard, and answers the label 0 or 4."""
    labels = {"unharmful": 0, "harmful": COMPLIED}
    label = labels.get(str(row.get("response_harm_label")))
    hazard = None
    if _is_harmful(row):
        hazard = SUBCATEGORIES.get(str(row.get("subcategory")), UNSPECIFIED)
    return _pair(row.get("prompt"), row.get("response"), label, hazard)


def _jailbreak(row: Row) -> Row:
    """Read WildJailbreak: its completions decline harmful requests and answer harmless ones."""
    prompt = row.get("adversarial") or row.get("vanilla")
    hazard = UNSPECIFIED if _is_harmful(row) else None
    return _pair(prompt, row.get("completion"), 0, hazard)
