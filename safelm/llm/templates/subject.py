"""What a document is about, as far as words alone can tell: an act, a hazard, or a topic and a
milder concern.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from safelm.text.hazards import Hazards
from safelm.text.lexicon import Act
from specs.prompt import Shared

KEPT = 2  # sentences of a mild page that are kept, at most
KEPT_WORDS = 24  # words of them together
SHORT = 4  # a sentence of fewer words says little alone
READ = 60  # sentences that are looked through
LONG = 300  # characters; a longer sentence is not kept
START = 20_000  # characters of a page that say what it speaks of
QUOTED = re.compile(r'"(\w[^"\n]{1,38}\w)"')
LINE = re.compile(r"[^\n]+")
SPEAKER = re.compile(r"^[\w.'-]{1,24}(?: [\w.'-]{1,24})?:\s+")
BETWEEN = re.compile(r"(?<=[.!?])\s+")
WORD = re.compile(r"[^\W\d_]+|[^\w\s]")
ARTICLES = {
    "the": 3,
    "this": 3,
    "these": 3,
    "my": 3,
    "your": 3,
    "his": 3,
    "her": 3,
    "our": 3,
    "their": 3,
    "a": 1,
    "an": 1,
}
OWNED = re.compile(r"\b(?:the|this|that|my|your|his|her|our|their) $", re.IGNORECASE)
PREPOSITIONS = frozenset(
    {"at", "near", "behind", "by", "in", "on", "with", "from", "to", "of", "for", "into", "under"}
)


@dataclass(frozen=True)
class Subject:
    """A hazard category, with the act if the document names one; or, on a milder page, the concern;
    and the facts.
    """

    hazard: str | None
    concern: str
    facts: dict[str, str]


class SubjectFinder:
    """Says what documents are about, with the word lists of specs/hazards.yaml and
    specs/prompts/shared.yaml.
    """

    def __init__(self, hazards: Hazards, shared: Shared) -> None:
        """Take the lists."""
        self.hazards, self.shared, self.common = hazards, shared, frozenset(shared.common.split())
        rude = "|".join(sorted(map(re.escape, shared.omitted), key=len, reverse=True))
        self.rude = re.compile(rf"\b(?:{rude}) (?=\w)", re.IGNORECASE)
        self.outcry = re.compile(rf"^(?:oh )?(?:{rude}), (?=\w)", re.IGNORECASE)

    def subject(self, text: str, hint: str | None = None) -> Subject:
        """What a document is about. `hint` is the hazard that the scorers named; the text itself
        comes before it.
        """
        grade = self.hazards.grade(text)
        acts = self.hazards.acts(text) if grade.hazard else []
        if acts:
            return self.named(main_act(acts))
        hazard = grade.hazard or hint
        if hazard in self.shared.hazards:
            return Subject(hazard, "general", {})
        concern = grade.reason if grade.reason in self.shared.concerns else "general"
        kept = self.kept(text) if self.shared.concerns[concern].keeps else ""
        found = {"topic": self.topic(text), "kept": kept}
        return Subject(None, concern, {name: fact for name, fact in found.items() if fact})

    def named(self, act: Act) -> Subject:
        """A document that names an act."""
        verbs = self.hazards.categories[act.hazard].verbs
        doing = next(f"{verb.gerund} the {act.object}" for verb in verbs if verb.base == act.verb)
        facts = {
            "act": f"{act.verb} the {act.object}",
            "doing": doing,
            "subject": doing,
            "object": act.object,
        }
        return Subject(act.hazard, "general", facts)

    def kept(self, text: str) -> str:
        """The first sentences that the judge grades 0 when it reads them alone, without rude words
        they can spare.
        """
        kept: list[str] = []
        for _, sentence in zip(range(READ), _sentences(text), strict=False):
            clean = self.without_rude_words(sentence)
            words = len(clean.split())
            if words < SHORT or words + sum(len(other.split()) for other in kept) > KEPT_WORDS:
                continue
            if clean[0].isalnum() and self.hazards.grade(clean).score == 0:
                kept.append(clean)
                if len(kept) == KEPT:
                    break
        return " ".join(kept)

    def without_rude_words(self, sentence: str) -> str:
        """The sentence without them where it stays one: behind an article, or as an outcry before a
        comma.
        """
        clean = self.outcry.sub("", sentence)
        clean = self.rude.sub(
            lambda found: "" if OWNED.search(clean[: found.start()]) else found[0], clean
        )
        return clean[:1].upper() + clean[1:]

    def topic(self, text: str) -> str:
        """What a page speaks of, as "the …": a phrase that it quotes twice, else the noun it most
        often names.

        A noun is a word behind an article or the like; one that follows a preposition may be a mere
        place and counts less. Words of the hazard lists, even mild ones, are no topic."""
        quoted = [phrase for phrase, count in Counter(QUOTED.findall(text)).items() if count > 1]
        if quoted and self.is_mild(quoted[0]):
            return quoted[0]
        words = WORD.findall(text[:START].lower())
        everywhere, weights = Counter(words), Counter[str]()
        for place, word in enumerate(words[:-1]):
            if word in ARTICLES:
                weights[words[place + 1]] += (
                    1 if words[place - 1] in PREPOSITIONS else ARTICLES[word]
                )
        nouns = [word for word in weights if len(word) > 2 and word not in self.common]
        nouns.sort(key=lambda word: (-min(weights[word], 9) * everywhere[word], word))
        noun = next((noun for noun in nouns if self.is_mild(noun)), "")
        return f"the {self.phrase(noun, words, everywhere[noun])}" if noun else ""

    def phrase(self, noun: str, words: list[str], count: int) -> str:
        """The noun with the word behind it, where the two mostly stand together."""
        behind = Counter(
            after for word, after in pairwise(words) if word == noun and len(after) > 2
        )
        after, together = behind.most_common(1)[0] if behind else ("", 0)
        is_phrase = together > 1 and 2 * together > count and after not in self.common
        return f"{noun} {after}" if is_phrase and self.is_mild(f"{noun} {after}") else noun

    def is_mild(self, words: str) -> bool:
        """Whether the judge grades words 0 when it reads them alone."""
        return self.hazards.grade(words).score == 0


def _sentences(text: str) -> Iterator[str]:
    """Every sentence that ends as one, line by line and without who speaks it."""
    for line in LINE.finditer(text):
        for sentence in BETWEEN.split(SPEAKER.sub("", line[0].strip())):
            if sentence.endswith((".", "!", "?")) and len(sentence) <= LONG:
                yield sentence


def main_act(acts: list[Act]) -> Act:
    """The act that is named most often, the earliest of those."""
    count = Counter((act.hazard, act.verb, act.object) for act in acts)
    return max(acts, key=lambda act: (count[act.hazard, act.verb, act.object], -act.start))
