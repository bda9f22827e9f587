"""Find the subject of a document with word lists: an act, a hazard, or a topic."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from operator import attrgetter

from safelm.text.hazards import Hazards
from safelm.text.lexicon import Act
from specs.prompt import Shared

# Limits of the sentences that a text keeps from a mild page: their number, and their total words.
MAX_KEPT = 2
MAX_KEPT_WORDS = 24
MIN_SENTENCE_WORDS = 4
MAX_SENTENCE_CHARACTERS = 300
MAX_SENTENCES = 60  # at the beginning of a page; the others are not considered
TOPIC_CHARACTERS = 20_000  # at the beginning of a page, in which its topic is sought
QUOTED = re.compile(r'"(\w[^"\n]{1,38}\w)"')
LINE = re.compile(r"[^\n]+")
SPEAKER = re.compile(r"^[\w.'-]{1,24}(?: [\w.'-]{1,24})?:\s+")
SENTENCE_BREAK = re.compile(r"(?<=[.!?])\s+")
WORD = re.compile(r"[^\W\d_]+|[^\w\s]")
# Weights of the noun after each word: a page calls its topic "the" more often than "a".
ARTICLES = {
    **dict.fromkeys(("the", "this", "these", "my", "your", "his", "her", "our", "their"), 3),
    **dict.fromkeys(("a", "an"), 1),
}
DETERMINER = re.compile(r"\b(?:the|this|that|my|your|his|her|our|their) $", re.IGNORECASE)
PREPOSITIONS = frozenset(
    {"at", "near", "behind", "by", "in", "on", "with", "from", "to", "of", "for", "into", "under"}
)


@dataclass(frozen=True)
class Subject:
    """The hazard of a document, or its concern if it has no hazard, and the known facts.

    Facts are named as in ABOUT of specs/prompt.py.
    """

    hazard: str | None
    concern: str
    facts: dict[str, str]


@dataclass
class SubjectFinder:
    """Finds subjects with the word lists of specs/hazards.yaml and specs/prompts/shared.yaml."""

    hazards: Hazards
    shared: Shared

    def __post_init__(self) -> None:
        self.function_words = frozenset(self.shared.common.split())
        # The longest first: an alternative of a pattern must not hide a longer one.
        rude = "|".join(sorted(map(re.escape, self.shared.omitted), key=len, reverse=True))
        self.rude = re.compile(rf"\b(?:{rude}) (?=\w)", re.IGNORECASE)
        self.interjection = re.compile(rf"^(?:oh )?(?:{rude}), (?=\w)", re.IGNORECASE)

    def subject(self, text: str, hint: str | None = None) -> Subject:
        """Return the subject of a document.

        `hint` is the hazard that the scorers found; a hazard named in the text takes precedence.
        """
        grade = self.hazards.grade(text)
        acts = self.hazards.acts(text) if grade.hazard else []
        if acts:
            return self.subject_of_act(main_act(acts))
        hazard = grade.hazard or hint
        if hazard in self.shared.hazards:
            return Subject(hazard, "general", {})
        concern = grade.reason if grade.reason in self.shared.concerns else "general"
        facts = {"topic": self.topic(text)}
        if self.shared.concerns[concern].keeps:
            facts["kept"] = self.kept(text)
        return Subject(None, concern, {name: fact for name, fact in facts.items() if fact})

    def subject_of_act(self, act: Act) -> Subject:
        """Return the subject of a document that names an act."""
        verbs = {verb.base: verb for verb in self.hazards.categories[act.hazard].verbs}
        doing = f"{verbs[act.verb].gerund} the {act.object}"
        facts = {
            "act": f"{act.verb} the {act.object}",
            "doing": doing,
            "subject": doing,
            "object": act.object,
        }
        return Subject(act.hazard, "general", facts)

    def kept(self, text: str) -> str:
        """Return the first sentences that score 0 by themselves after rude words are removed."""
        # Paper §2: every sentence of a rephrased text must be safe when it is read alone.
        kept: list[str] = []
        total = 0
        for sentence in islice(_sentences(text), MAX_SENTENCES):
            clean = self.without_rude_words(sentence)
            words = len(clean.split())
            if words < MIN_SENTENCE_WORDS or words + total > MAX_KEPT_WORDS:
                continue
            if clean[0].isalnum() and self.is_harmless(clean):
                kept.append(clean)
                total += words
                if len(kept) == MAX_KEPT:
                    break
        return " ".join(kept)

    def without_rude_words(self, sentence: str) -> str:
        """Remove rude words that a sentence can do without: attributes and interjections."""
        clean = self.interjection.sub("", sentence)

        def replacement(match: re.Match[str]) -> str:
            return "" if DETERMINER.search(clean[: match.start()]) else match[0]

        clean = self.rude.sub(replacement, clean)
        return clean[:1].upper() + clean[1:]

    def topic(self, text: str) -> str:
        """Return the topic of a page: a quoted phrase, "the" and a noun, or an empty string.

        Prefers the first phrase that is quoted twice, then the most frequent noun. Words of the
        hazard lists, even mild ones, are never a topic.
        """
        quotations = Counter(QUOTED.findall(text))
        quoted = [phrase for phrase, count in quotations.items() if count > 1]
        if quoted and self.is_harmless(quoted[0]):
            return quoted[0]
        beginning = text[:TOPIC_CHARACTERS]
        words = WORD.findall(beginning.lower())
        frequency = Counter(words)
        for noun in self._nouns(words, frequency):
            if self.is_harmless(noun):
                phrase = self.noun_phrase(noun, words, frequency[noun])
                return f"the {phrase}"
        return ""

    def _nouns(self, words: list[str], frequency: Counter[str]) -> list[str]:
        """Return the words that follow articles, from the most to the least probable topic."""
        weights = Counter[str]()
        for index, (word, after) in enumerate(pairwise(words)):
            if word in ARTICLES:
                # "at the station" probably names a place, not the topic.
                is_place = words[index - 1] in PREPOSITIONS
                weights[after] += 1 if is_place else ARTICLES[word]
        nouns = [word for word in weights if len(word) > 2 and word not in self.function_words]

        def rank(word: str) -> tuple[int, str]:
            # Capped at three mentions with "the"; beyond that, only the frequency counts.
            weight = min(weights[word], 9)
            return -weight * frequency[word], word

        return sorted(nouns, key=rank)

    def noun_phrase(self, noun: str, words: list[str], frequency: int) -> str:
        """Return the noun, with the next word where the two mostly occur together."""
        pairs = pairwise(words)
        following = Counter(after for word, after in pairs if word == noun and len(after) > 2)
        if not following:
            return noun
        after, together = following.most_common(1)[0]
        is_mostly_together = together > 1 and 2 * together > frequency
        if not is_mostly_together or after in self.function_words:
            return noun
        phrase = f"{noun} {after}"
        return phrase if self.is_harmless(phrase) else noun

    def is_harmless(self, words: str) -> bool:
        """Check that the lexicon gives score 0 to the words by themselves."""
        return self.hazards.grade(words).score == 0


def _sentences(text: str) -> Iterator[str]:
    """Yield every complete sentence, without the name of its speaker."""
    for line in LINE.finditer(text):
        spoken = SPEAKER.sub("", line[0].strip())
        for sentence in SENTENCE_BREAK.split(spoken):
            is_complete = sentence.endswith((".", "!", "?"))
            if is_complete and len(sentence) <= MAX_SENTENCE_CHARACTERS:
                yield sentence


def main_act(acts: list[Act]) -> Act:
    """Return the act that is named most often; of equally frequent ones, the first."""
    name = attrgetter("hazard", "verb", "object")
    count = Counter(map(name, acts))
    return max(acts, key=lambda act: (count[name(act)], -act.start))
