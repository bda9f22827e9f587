"""Checks that a number can mean what it says.

Some rows know only the made-up world of specs/demo: its word lists, templates, suites and the
scorers fitted on it. On other text they are at chance, so they are refused there. A judge that is a
part of what it judges finds none of its mistakes, so it is refused too.
"""

import re
from functools import cached_property
from pathlib import Path

from specs.checks.files import stems
from specs.checks.filters import corpora_of, source_of
from specs.checks.references import GATES, WRITERS
from specs.corpus import Corpus
from specs.engine import TemplateEngine
from specs.judge import ScorerJudge
from specs.messages import Findings, Location, listed
from specs.params import Params
from specs.scorer import CLASSIFIERS, Assumed, Cascade, Labels, Lexicon
from specs.spec import values_at
from specs.suite import SUITES, DemoSuite, Suite

# The top-level key by which report_card.py knows the word lists of the made-up world.
DEMO_KEY = re.compile(rb"^categories:", re.MULTILINE)
NGRAMS = "specs/hazard_ngrams.yaml"
# Scorers that may grade real text.
ANY_TEXT = (
    "a language model (kind llm), or n-grams or an encoder fitted on labels of such pages "
    "(annotate.judge of kind labels, label_file or llm)"
)
AUDITOR = "a row of kind labels, label_file or llm"
# Readers of pages that come without a column of labels.
UNLABELLED = ("warc", "wet", "html")


def check_validity(params: Params) -> Findings:
    """Yield every set-up whose numbers would mislead."""
    world = _World(params)
    yield from _labellers(params, world)
    yield from _graders(params, world)
    yield from _independence(params)
    yield from _writers(params, world)
    yield from _card(params, world)
    yield from _evaluation(params, world)


class _World:
    """The rows that know only the made-up world, and the text that is not of it."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.real = {name for name, row in params.sources.items() if row.reader != "demo"}

    @cached_property
    def scorers(self) -> dict[str, str]:
        """Return each scorer that knows only the made-up world, with the reason."""
        rows, annotate = self.params.scorers, self.params.annotate
        reasons = {}
        for name, row in rows.items():
            if isinstance(row, Lexicon):
                reasons[name] = "whose words are those of the made-up world"
        is_labelled = any(row.source in self.real for row in annotate.pool.values())
        if not is_labelled or annotate.judge in reasons:
            for name, row in rows.items():
                if row.kind in CLASSIFIERS:
                    reasons[name] = f"fitted on the made-up world, as {annotate.judge} labels it"
        for name, row in rows.items():
            # Last, because a cascade may have members of both kinds above.
            parts = parts_of(row) & set(reasons)
            if parts:
                reasons[name] = f"a cascade of {listed(sorted(parts))}"
        return reasons

    def is_real(self, corpus: Corpus) -> bool:
        """Return whether the documents of a corpus come from outside of the made-up world."""
        return source_of(self.params, corpus.from_) in self.real


def parts_of(row: object) -> set[str]:
    """Return the scorers that a cascade asks; none for any other row."""
    return {row.cheap, row.expensive} if isinstance(row, Cascade) else set()


def _labellers(params: Params, world: _World) -> Findings:
    """Refuse labellers of real pages that know only the made-up world, or a column of labels."""
    for name, pool in params.annotate.pool.items():
        judge = pool.judge or params.annotate.judge
        if pool.source not in world.real:
            continue
        at: Location = ("annotate", "pool", name, "judge") if pool.judge else ("annotate", "judge")
        row, reader = params.scorers.get(judge), params.sources[pool.source].reader
        if isinstance(row, Lexicon):
            yield (
                at,
                f"must not be {judge}, {world.scorers[judge]}, for the pages of {pool.source}; "
                "name a row of kind labels (a column of the source), label_file or llm",
            )
        if isinstance(row, Labels) and reader in UNLABELLED:
            yield (
                at,
                f"must not be {judge}, of kind labels: the pages of {pool.source} come without a "
                "column of labels; name a row of kind label_file or llm",
            )


def _graders(params: Params, world: _World) -> Findings:
    """Refuse scorers of the made-up world where they score or audit real pages."""
    real = sorted(set(params.score.sources) & world.real)
    if not real:
        return
    scored = listed(real)
    for path, better in (("score.scorers.*", ANY_TEXT), ("audit.judge", AUDITOR)):
        for at, name in values_at(params, path):
            if name in world.scorers:
                yield (
                    at,
                    f"must not be {name}, {world.scorers[name]}, for the pages of {scored}; "
                    f"name {better}",
                )
    if isinstance(params.scorers.get(params.audit.judge), Assumed):
        yield (
            ("audit", "judge"),
            f"must look at the documents (got {params.audit.judge}, of kind assumed); "
            f"name {AUDITOR}",
        )


def _independence(params: Params) -> Findings:
    """Refuse auditors, gates and judges of attacks that are a part of what they judge."""
    members = _members(params)
    audit, annotate = params.audit.judge, params.annotate.judge
    if audit in members:
        yield (
            ("audit", "judge"),
            f"must not be a member of the ensemble that it audits (got {audit}; members are "
            f"{listed(sorted(members))}), whose misses it cannot see; name another row of kind "
            "labels, label_file or llm",
        )
    elif audit == annotate and any(params.scorers[name].kind in CLASSIFIERS for name in members):
        yield (
            ("audit", "judge"),
            f"must not be annotate.judge (got {audit}), whose labels the scorers were fitted on: "
            "it repeats its own mistakes; name another row of kind labels, label_file or llm",
        )
    for at, gate in values_at(params, *GATES):
        if gate in members:
            yield (
                at,
                f"must be another scorer than those that selected the pages (got {gate}; those are "
                f"{listed(sorted(members))}); name a row of scorers that is not in score.ensemble",
            )


def _members(params: Params) -> set[str]:
    """Return the scorers whose scores select documents, with the parts of cascades."""
    members = set(params.score.ensemble.thresholds) & set(params.scorers)
    for name in list(members):
        members |= parts_of(params.scorers[name])
    return members & set(params.scorers)


def _writers(params: Params, world: _World) -> Findings:
    """Refuse templates as writers about real pages."""
    for at, name in values_at(params, *WRITERS):
        table, row, _ = at
        source = source_of(params, f"{table}/{row}")
        if isinstance(params.engines.get(name), TemplateEngine) and source in world.real:
            yield (
                at,
                f"must be a language model for the pages of {source} (got {name}, whose templates "
                "know only the made-up world); name a row of engines of kind vllm or endpoint, or "
                "leave out the row and the corpora that are made of it",
            )


def _card(params: Params, world: _World) -> Findings:
    """Refuse report cards of real text that count the phrases of the made-up world."""
    real = [name for name, corpus in params.corpora.items() if world.is_real(corpus)]
    if real and _is_of_demo(Path(params.card.ngrams)):
        yield (
            ("card", "ngrams"),
            f"must not be {params.card.ngrams}, whose phrases are those of the made-up world, for "
            f"{listed(real)}; write {NGRAMS}, or a file of your own",
        )


def _is_of_demo(ngrams: Path) -> bool:
    """Return whether a file has the form of specs/hazards.yaml, wherever a copy of it lies."""
    if not ngrams.is_file():
        return False  # reported where every named file is checked
    return DEMO_KEY.search(ngrams.read_bytes()) is not None


def _evaluation(params: Params, world: _World) -> Findings:
    """Refuse suites and judges that say nothing about models of real text."""
    models = [name for name in params.models if any(map(world.is_real, corpora_of(params, name)))]
    members = _members(params)
    for at, name in values_at(params, "evaluate.suites.*", "evaluate.calibration.suite"):
        if name not in stems(SUITES):
            continue
        suite = Suite.read(name)
        if models and isinstance(suite, DemoSuite):
            if suite.usage == "calibration":
                way_out = (
                    "name a suite of a harmless public file with usage: calibration, or leave out "
                    "evaluate.calibration and give branch a max_tag_probability"
                )
            else:
                way_out = "name suites of public files, such as harmbench, xstest and arc_easy"
            yield (
                at,
                f"must not be {name}, whose prompts are of the made-up world, for "
                f"{listed(models)}, which read other text; {way_out}",
            )
        first = params.evaluate.judges.get(suite.judges[0]) if suite.judges else None
        if isinstance(first, ScorerJudge):
            message = _scorer_judge(first.scorer, members, world, isinstance(suite, DemoSuite))
            if message:
                yield (
                    ("evaluate", "judges", suite.judges[0], "scorer"),
                    f"must not be {first.scorer}, {message}, as the first judge of {name}; name "
                    "another scorer, or a judge of another kind in specs/suites",
                )


def _scorer_judge(scorer: str, members: set[str], world: _World, is_demo: bool) -> str | None:
    """Return why a scorer cannot decide the attack success of a suite; None if it can."""
    if scorer in members:
        return "which selected the training text"
    if not is_demo and scorer in world.scorers:
        return world.scorers[scorer]
    return None
