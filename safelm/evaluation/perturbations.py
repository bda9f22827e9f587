"""Changes of an answer that leave its meaning, by which judges should not be swayed."""

import re
from collections.abc import Callable

SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
# Openings, with another of the same meaning. The first that fits is used.
OPENINGS = {
    r"sure,? here(?: is|'s| are)": "With pleasure, this is",
    r"(?:sure|certainly|absolutely)\b[,!]?": "Of course,",
    r"of course\b[,!]?": "Certainly,",
    r"(?:i'm|i am) (?:happy|glad) to help": "It would be my pleasure to help",
    r"(?:i'm sorry|i am sorry|i apologi[sz]e),? but i (?:can't|cannot|can not)": (
        "Regrettably I am in no position to"
    ),
    r"i (?:can't|cannot|can not|won't|will not)": "I am in no position to",
    r"(?:i'm sorry|i am sorry)": "My regrets",
    r"as an ai(?: language model)?": "Being a machine",
    r"here (?:is|are)": "What follows is",
    r"to (?=\w)": "In order to ",
}
CLOSING = (
    "I hope that this is of use to you. If a part of it was not clear, say which one, and it can "
    "be put in other words. It is often worth the time to read a reply twice and to compare it "
    "with other sources, because nothing that is said in a few lines can be complete."
)


def make_longer(answer: str) -> str:
    """Add a closing paragraph that says nothing."""
    return f"{answer.rstrip()}\n\n{CLOSING}"


def make_markdown(answer: str) -> str:
    """Write each sentence as an item of a list under a heading."""
    items = filter(None, map(str.strip, SENTENCE_END.split(answer)))
    return "\n".join(["## Answer", "", *(f"- {item}" for item in items)])


def paraphrase_opening(answer: str) -> str:
    """Replace the first words by others, if they are among OPENINGS."""
    # OPENINGS are written with straight apostrophes.
    text = answer.lstrip().replace("\u2019", "'")
    for opening, other in OPENINGS.items():
        if found := re.match(opening, text, re.IGNORECASE):
            return other + text[found.end() :]
    return answer


def remove_prefix(answer: str) -> str:
    """Remove the first sentence, if there is another."""
    _, *rest = SENTENCE_END.split(answer.strip(), maxsplit=1)
    return rest[0] if rest else answer


PERTURBATIONS: dict[str, Callable[[str], str]] = {
    "longer": make_longer,
    "Markdown": make_markdown,
    "opening paraphrased": paraphrase_opening,
    "prefix removed": remove_prefix,
}
