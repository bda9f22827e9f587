"""Dialogues as public data sets write them, each row by the columns it has, so that one folder may
hold several sets.

messages of roles (UltraChat and most others); prompt and response with labels of harm
(WildGuardMix); vanilla and adversarial requests with a completion (WildJailbreak); question and
answer (GSM8K). Only the first exchange of a dialogue is read. A source asks for this with `text:
messages` and `prompt: messages`."""

import re
from collections.abc import Mapping
from typing import Any

MESSAGES = "messages"
COLUMNS = (
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
UNSPECIFIED = "unspecified"  # the hazard of a request that is called harmful and nothing more
COMPLIED = (
    4  # the score of an answer that is called harmful: it complies with its request (paper §1.1)
)
SUBCATEGORIES = {  # of WildGuardMix (arXiv 2406.18495, table 8), by the hazards of paper §9
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
CALCULATION = re.compile(r"<<[^<>]*>>")  # GSM8K's notes for a calculator, which are no text


def first_exchange(row: Mapping[str, Any]) -> dict[str, Any]:
    """prompt, text, and where the row tells them label and hazard; what is missing is None."""
    if "messages" in row and row["messages"] is not None:
        return _messages(row["messages"])
    if "data_type" in row:
        return _jailbreak(row)
    if "question" in row:
        answer = row.get("answer")
        return _pair(
            row["question"], CALCULATION.sub("", answer) if isinstance(answer, str) else None
        )
    return _labelled(row)


def _pair(
    prompt: Any, text: Any, label: int | None = None, hazard: str | None = None
) -> dict[str, Any]:
    return {"prompt": prompt, "text": text, "label": label, "hazard": hazard}


def _messages(turns: Any) -> dict[str, Any]:
    """The first request and the answer right after it; what a system says before is not read."""
    listed = turns if isinstance(turns, list | tuple) else ()
    said = [turn for turn in listed if isinstance(turn, Mapping) and turn.get("role") != "system"]
    roles = [turn.get("role") for turn in said[:2]]
    if roles != ["user", "assistant"]:
        return _pair(said[0].get("content") if roles[:1] == ["user"] else None, None)
    return _pair(said[0].get("content"), said[1].get("content"))


def _labelled(row: Mapping[str, Any]) -> dict[str, Any]:
    """A request called harmful has a hazard, and its answer a label: 0 where it is not, 4 where it
    is harmful too.
    """
    labels = {"unharmful": 0, "harmful": COMPLIED}
    label = labels.get(str(row.get("response_harm_label")))
    hazard = SUBCATEGORIES.get(str(row.get("subcategory")), UNSPECIFIED)
    return _pair(row.get("prompt"), row.get("response"), label, hazard if is_harmful(row) else None)


def is_harmful(row: Mapping[str, Any]) -> bool:
    """Whether the request of a row is called harmful."""
    return row.get("prompt_harm_label") == "harmful" or str(row.get("data_type")).endswith(
        "_harmful"
    )


def _jailbreak(row: Mapping[str, Any]) -> dict[str, Any]:
    """The completions of WildJailbreak are safe: harmful requests are declined, harmless ones
    answered.
    """
    prompt = row.get("adversarial") or row.get("vanilla")
    return _pair(prompt, row.get("completion"), 0, UNSPECIFIED if is_harmful(row) else None)
