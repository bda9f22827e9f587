"""Every mistake in params.yaml is refused before anything is spent, with its line and what to write
instead.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from specs.add_rows import add
from specs.params import Params
from specs.shape import Shape
from specs.spec import Spec
from specs.tokens import END, TAG
from specs.validation import SCHEMA, problems, schema
from specs.yaml_source import SpecError, YamlFile, validate

PARAMS = Path("params.yaml").read_text(encoding="utf-8")


def complaints(tmp_path: Path, *edits: tuple[str, str]) -> list[str]:
    """What `safelm check` says of params.yaml after some edits of its text."""
    text = PARAMS
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in problems(path)]


def line_of(words: str) -> int:
    return next(number for number, line in enumerate(PARAMS.splitlines(), 1) if words in line)


def test_the_params_of_the_repository_are_valid(tmp_path: Path) -> None:
    assert complaints(tmp_path) == []


def test_tagged_pages_in_place_of_raw_ones_are_read_too(tmp_path: Path) -> None:
    """So that an attacker may know the tag of a model that has learned it so."""
    instead = ("tagged: 1.0", "score_4: {weight: 1.0, replaced_by: tagged}")
    assert complaints(tmp_path, instead, attack("[safe]", "[safe]")) == []


LEXICON = "  lexicon: {kind: lexicon}\n"
LABELS = "  people: {kind: labels}\n"
ENCODER = (
    "  deep: {kind: encoder, model: acme/encoder, revision: null, recipe: small, "
    "sequence_length: 9, unsafe_weight: 9.0}\n"
)
LLM = "  judge: {kind: llm, engine: template, rubric: rubric, max_attempts: 3, seed: 1}\n"
CASCADE = (
    "  both: {kind: cascade, cheap: ngrams, expensive: lexicon, min_score: 1, recall: 0.95, "
    "precision: 0.95}\n"
)

# Each row: an edit of params.yaml, the place that must be named, and words that must be in the
# message.
OTHER = "{model: org/name, revision: null, digest: null, chat: true, decoders: [greedy]}"
RELEARN = (
    "relearn:\n  mine: {models: [safe], stage: instruct, source: chat, part: harmful, "
    "checkpoints: [8, 16], batch_size: 8, sequence_length: 128, learning_rate: 3.0e-4, "
    "suites: [harmful, benign], decoders: [greedy], seed: 1}  "
)


def relearn(old: str, new: str) -> tuple[str, str]:
    """An edit that adds a row of `relearn` in which some words are others."""
    assert old in RELEARN
    return "relearn: {} ", RELEARN.replace(old, new)


ATTACK = (
    "{kind: suffix, models: [safe], stages: [instruct], suite: harmful, target: null, "
    "max_prompts: 8, suffix_tokens: 8, steps: 20, "
    "candidates: 64, top_k: 16, tag_weight: 1.0, decoders: [greedy], seed: 1}"
)


ABLITERATION = (
    "{kind: abliteration, models: [safe], stages: [instruct], suite: harmful, max_prompts: 8, "
    "source: web, pairs: 8, held_out: 4, decoders: [greedy], seed: 1}"
)


def attack(old: str, new: str) -> tuple[str, str]:
    """An edit of params.yaml: an attack, after an edit of its own text."""
    assert old in ATTACK
    return "attacks: {} ", f"attacks:\n  mine: {ATTACK.replace(old, new)}  "


def gated_by(scorer: str) -> tuple[str, str]:
    """An edit of params.yaml: a row of `rephrase` whose texts a scorer grades."""
    row = "from: web, scores: [5], engine: template, prompts: [talk], max_score: 1, seed: 1"
    return "\nrefuse:\n", f"  mine: {{{row}, gate: {scorer}}}\n\nrefuse:\n"


MISTAKES = {
    "unknown key": (
        ("  rows_per_shard: 2048", "  rows_per_shart: 2048"),
        "ingest.rows_per_shart",
        "unknown key; did you mean rows_per_shard?",
    ),
    "missing key": (("  max_line_bytes: 16777216\n", ""), "ingest.max_line_bytes", "is missing"),
    "unknown corpus": (
        ("{score_0: 1.0, math: 1.0}", "{score_9: 1.0, math: 1.0}"),
        "parts.score_9",
        "row of corpora",
    ),
    "overlapping scores": (
        (
            "score_1:   {from: clean/web, scores: [1]",
            "score_1:   {from: clean/web, scores: [0, 1]",
        ),
        "mixtures.standard.phases.0.parts.score_1",
        "what score_0 reads",
    ),
    "tagged text beside its raw text": (
        ("refusals: 1.0", "refusals: 1.0, score_5: 1.0"),
        "mixtures.safe",
        "score_5",
    ),
    "a share of 0": (
        ("{share: 4,", "{share: 0,"),
        "mixtures.safe.phases.1.share",
        "greater than 0 (got 0)",
    ),
    "a negative weight": (
        ("refusals: 1.0", "refusals: -1.0"),
        "parts.refusals",
        "greater than 0 (got -1.0)",
    ),
    "a branch that seeks the tag": (
        ("tag_weight: 240.0", "tag_weight: -240.0"),
        "evaluate.decoders.branch.tag_weight",
        "greater than or equal to 0",
    ),
    "a promise from too few prompts": (
        ("max_prompts: 360", "max_prompts: 18"),
        "evaluate.decoders.branch.max_false_refusals",
        "must have at least 19 prompts of calibration for 0.05 (got 18)",
    ),
    "two bounds": (
        ("max_false_refusals: 0.05", "max_false_refusals: 0.05, max_tag_probability: 0.1"),
        "evaluate.decoders.branch",
        "not both",
    ),
    "a suite for calibration that is reported": (
        ("suites: [harmful, benign, dual_use, utility]", "suites: [harmful, benign, calibration]"),
        "evaluate.suites",
        "must be of usage report",
    ),
    "calibration on a reported suite": (
        ("{suite: calibration,", "{suite: benign,"),
        "evaluate.calibration.suite",
        "must be of usage calibration, and harmless",
    ),
    "a weight of 0": (
        ("refusals: 1.0", "refusals: 0.0"),
        "parts.refusals",
        "leave a part out to drop it",
    ),
    "a threshold above 5": (
        ("scores: [1, 2, 3]", "scores: [1, 2, 6]"),
        "rephrase.safe_web.scores.2",
        "less than or equal to 5",
    ),
    "a threshold below 0": (
        ("max_score: 2", "max_score: -1"),
        "rephrase.safe_web.max_score",
        "greater than or equal to 0",
    ),
    "safe text that is rewritten": (
        ("    scores: [1, 2, 3]", "    scores: [0, 1]"),
        "rephrase.safe_web.scores",
        "must not hold 0 (got [0, 1]): it is the score of safe text",
    ),
    "a score that is named twice": (
        ("    scores: [1, 2, 3]", "    scores: [2, 1, 2]"),
        "rephrase.safe_web.scores",
        "write [1, 2]",
    ),
    "rewriting of a source without scores": (
        ("    from: web", "    from: math"),
        "rephrase.safe_web.from",
        "must be a source of score.sources (got math; those are web)",
    ),
    "lessons of no refusals": (
        ("{from: dialogues,", "{from: dialogue,"),
        "educate.lessons.from",
        "must be a row of refuse (got dialogue; rows are dialogues)",
    ),
    "a gate that is no scorer": (
        gated_by("letters"),
        "rephrase.mine.gate",
        "must be a row of scorers (got letters",
    ),
    "a gate of given labels": (
        ("  lexicon: {kind: lexicon}\n", f"{LABELS}{LEXICON}"),
        gated_by("people"),
        "rephrase.mine.gate",
        "must grade any text (got people, of kind labels",
    ),
    "scores of a source that is not there": (
        ("sources: [web]", "sources: [webs]"),
        "score.sources.0",
        "must be a row of sources (got webs",
    ),
    "scores of dialogues": (
        ("sources: [web]", "sources: [web, chat]"),
        "score.sources.1",
        "must name a source of pages (got chat",
    ),
    "a selection by scores that are not there": (
        ("math:      {from: clean/math,", "math:      {from: clean/math, scores: [0],"),
        "corpora.math.from",
        "must be a source of score.sources, for its scores (got math; those are web)",
    ),
    "a corpus of a row that is not there": (
        ("{from: rephrase/safe_web,", "{from: rephrase/web,"),
        "corpora.rephrased.from",
        "must be a row of rephrase (got web; rows are safe_web)",
    ),
    "an unknown engine": (
        ("  engine: template", "  engine: templates"),
        "rephrase.safe_web.engine",
        "got templates; rows are template",
    ),
    "an unknown kind of engine": (
        ("{kind: template}", "{kind: templates}"),
        "engines.template",
        "templates",
    ),
    "an engine without a digest": (
        (
            "{kind: template}",
            "{kind: endpoint, model: m, characters: 9, temperature: 0.7, top_p: 0.9, tokens: 9, "
            "timeout: 60, patience: 60}",
        ),
        "engines.template",
        "digest",
    ),
    "texts shorter than the shortest": (
        ("  max_words: 120", "  max_words: 9"),
        "gates.min_words",
        "must not be above max_words",
    ),
    "a share of copies above 1": (
        ("  max_copied_share: 0.5", "  max_copied_share: 1.5"),
        "gates.max_copied_share",
        "less than 1",
    ),
    "no attempt": (
        ("  max_attempts: 2", "  max_attempts: 0"),
        "gates.max_attempts",
        "greater than 0",
    ),
    "a tag rate of 1": (("rate: 0.05", "rate: 1.0"), "tags.unsafe.rate", "less than 1 (got 1.0)"),
    "a tag rate of 0": (
        ("rate: 0.05", "rate: 0.0"),
        "tags.unsafe.rate",
        "greater than 0 (got 0.0)",
    ),
    "tags in a synthetic corpus": (
        ("{from: web, scores: [4, 5], rate", "{from: rephrase, scores: [4, 5], rate"),
        "tags.unsafe.from",
        "must be a source of score.sources (got rephrase; those are web)",
    ),
    "tags in safe text": (
        ("{from: web, scores: [4, 5], rate", "{from: web, scores: [0, 5], rate"),
        "tags.unsafe.scores",
        "never carries",
    ),
    "a vocabulary that does not fit": (
        ("vocab_size: 1536", "vocab_size: 2000"),
        "models.standard.shape",
        "room for",
    ),
    "a warm-up longer than training": (
        ("layout: document", "layout: packed"),
        ("mixture: safe, shape: nano", "mixture: safe, shape: smollm2-135m"),
        ("    batch_size: 16     ", "    # 512 by the recipe "),
        "models.safe.shape",
        "recipe.warmup 2,000, and 450,000 tokens are 7 steps); write tokens: 131203072 in its",
    ),
    "another batch than the recipe's": (
        ("mixture: safe, shape: nano", "mixture: safe, shape: smollm2-135m"),
        "models.safe.shape",
        "must have one batch size, in its recipe or in its budget (got 512 in specs/shapes, 16 in",
    ),
    "no batch": (
        ("    batch_size: 16     ", "    # no recipe has one "),
        "models.safe.shape",
        "(got none in specs/shapes, none in budgets)",
    ),
    "a budget of no row": (
        ("mixture: safe, shape: nano", "mixture: safe, budget: long, shape: nano"),
        "models.safe.budget",
        "must be a row of budgets (got long; rows are default)",
    ),
    "tuned by no row": (
        ("mixture: safe, shape: nano", "mixture: safe, instruct: brief, shape: nano"),
        "models.safe.instruct",
        "must be a row of instruct (got brief; rows are default)",
    ),
    "an unknown mixture": (
        ("{mixture: safe,", "{mixture: saef,"),
        "models.safe.mixture",
        "got saef",
    ),
    "an unknown shape": (
        ("mixture: safe, shape: nano", "mixture: safe, shape: nanno"),
        "models.safe.shape",
        "got nanno",
    ),
    "a number DVC reads otherwise": (
        ("learning_rate: 3.0e-4", "learning_rate: 3e-4"),
        "finetune.default.learning_rate",
        "write 3.0e-04",
    ),
    "a word DVC reads otherwise": (("path: null", "path: on"), "tokenizer.path", "'on'"),
    "an octal number": (("  seed: 1\n", "  seed: 017\n"), "annotate.seed", "leading 0"),
    "a key that stands twice": (
        ("  rows_per_shard: 2048\n", "  rows_per_shard: 2048\n  rows_per_shard: 4096\n"),
        "ingest.rows_per_shard",
        "appears twice",
    ),
    "a row too long for the model": (
        ("sequence_length: 128", "sequence_length: 4096"),
        "budgets.default.sequence_length",
        "positions",
    ),
    "pages where dialogues are needed": (
        ("source: chat", "source: math"),
        "instruct.default.source",
        "dialogues",
    ),
    "an unscored selection of the web": (
        ("tagged:    {from: tag/unsafe,", "tagged:    {from: clean/web,"),
        "corpora.tagged",
        "scores",
    ),
    "tags of a row that is not there": (
        ("{from: tag/unsafe, epochs", "{from: tag/dense, epochs"),
        "corpora.tagged.from",
        "rows are unsafe",
    ),
    "pairs tagged by no row": (
        ("  tag: unsafe ", "  tag: dense "),
        "instruct.default.tag",
        "rows are unsafe",
    ),
    "a pattern where a folder belongs": (
        ("specs/demo/math.yaml", "specs/demo/*.yaml"),
        "sources.math.path",
        "write path: specs/demo and files: '*.yaml'",
    ),
    "a file that is not there": (
        ("specs/demo/math.yaml", "specs/demo/maths.yaml"),
        "sources.math.path",
        "maths.yaml",
    ),
    "a part that rounds to no sequence": (
        (
            "{share: 1, proportions: natural, parts: {score_0: 1.0, math: 1.0}}",
            "{share: 1, proportions: fixed, parts: {score_0: 10000.0, math: 1.0}}",
        ),
        "mixtures.filtered.phases.0.parts.math",
        "leave the part out",
    ),
    "a budget share that fills its phase": (
        ("refusals: 1.0", "refusals: {budget_share: 0.9}"),
        "mixtures.safe.phases.1.parts.refusals",
        "budget_share below 0.8",
    ),
    "a budget share of nothing": (
        ("refusals: 1.0", "refusals: {budget_share: 0.0}"),
        "parts.refusals.budget_share",
        "greater than 0",
    ),
    "a budget share that is no sequence": (
        ("refusals: 1.0", "refusals: {budget_share: 1.0e-5}"),
        "mixtures.safe.phases.1.parts.refusals",
        "larger weight or budget_share",
    ),
    "nothing beside the budget shares": (
        (
            "parts: {score_0: 1.0, math: 1.0}",
            "parts: {score_0: {budget_share: 0.1}, math: {budget_share: 0.1}}",
        ),
        "mixtures.filtered.phases.0",
        "a part with a weight",
    ),
    "an unknown key of a budget share": (
        ("refusals: 1.0", "refusals: {budget_share: 0.1, start: 2}"),
        "parts.refusals.start",
        "known keys are",
    ),
    "replaced by what is made of other documents": (
        ("score_4: 1.0,", "score_4: {weight: 1.0, replaced_by: rephrased},"),
        "mixtures.standard.phases.0.parts.score_4.replaced_by",
        "must be made of documents of score_4",
    ),
    "tagged pages replaced by what was made of raw ones": (
        (
            "refusals: 1.0, education: 1.0, tagged: 1.0",
            "tagged: {weight: 1.0, replaced_by: refusals}, education: 1.0",
        ),
        "mixtures.safe.phases.1.parts.tagged.replaced_by",
        "must be made of documents of tagged (got refusals",
    ),
    "replaced by an unknown corpus": (
        ("score_1: 1.0,", "score_1: {weight: 1.0, replaced_by: rephrases},"),
        "score_1.replaced_by",
        "got rephrases",
    ),
    "replaced by what is a part too": (
        ("score_1: 1.0,", "rephrased: 1.0, score_1: {weight: 1.0, replaced_by: rephrased},"),
        "score_1.replaced_by",
        "leave one of them out",
    ),
    "fewer than no rows held out": (
        ("held_out_rows: 16", "held_out_rows: -1"),
        "mix.held_out_rows",
        "greater than or equal to 0",
    ),
    "messages that answer a field": (
        (
            "  # pages: {reader: jsonl, path: ../data,",
            "  pages: {reader: jsonl, path: specs, prompt: messages,",
        ),
        "sources.pages",
        "for both",
    ),
    "a phase that rounds to no step": (
        ("{share: 4,", "{share: 4000,"),
        "mixtures.safe.phases.0.share",
        "larger share",
    ),
    "an unknown scorer": (
        ("scorers: [lexicon, ngrams]", "scorers: [ngram]"),
        "score.scorers.0",
        "got ngram",
    ),
    "an ensemble of an unknown scorer": (
        ("of: [lexicon, ngrams]", "of: [lexicon, letters]"),
        "score.ensemble.of",
        "got letters; columns are lexicon, ngrams",
    ),
    "a threshold on a column that is not there": (
        ("{rule: max, of: [lexicon, ngrams]}", "{rule: any, of: {lexicon: 1, letters: 3}}"),
        "score.ensemble.of",
        "got letters",
    ),
    "a threshold of 0": (
        ("{rule: max, of: [lexicon, ngrams]}", "{rule: any, of: {lexicon: 0}}"),
        "score.ensemble.of.lexicon",
        "greater than or equal to 1",
    ),
    "an unknown rule": (("rule: max", "rule: min"), "score.ensemble", "min"),
    "a classifier as a judge": (
        ("judge: lexicon", "judge: ngrams"),
        "annotate.judge",
        "kind labels, label_file, assumed, lexicon, llm",
    ),
    "a suite whose file is not there": (
        ("suites: [harmful,", "suites: [advbench, harmful,"),
        "evaluate.suites",
        "specs/suites/advbench.yaml path: must be a file (got data/advbench.csv, which is not "
        "there); fetch",
    ),
    "a suite whose judge is no row": (
        ("    acts: {kind: demo}", "    deeds: {kind: demo}"),
        "evaluate.judges",
        "specs/suites/harmful.yaml judges: must be a row of evaluate.judges (got acts; rows are "
        "deeds, scores,",
    ),
    "a judge of harm for harmless suites": (
        ("    acts: {kind: demo}", "    acts: {kind: scorer, scorer: ngrams, min_score: 3}"),
        "evaluate.judges",
        "specs/suites/benign.yaml judges: must not be of kind scorer (got acts), which knows only "
        "harm",
    ),
    "a judge by an unknown scorer": (
        (
            "    harm: {kind: refusal_phrases}",
            "    harm: {kind: scorer, scorer: letters, min_score: 3}",
        ),
        "evaluate.judges.harm.scorer",
        "got letters; rows are lexicon, ngrams",
    ),
    "a judge by an unknown model": (
        (
            "    harm: {kind: refusal_phrases}",
            "    harm: {kind: llm, engine: template, prompt: harm, max_attempts: 3, seed: 1}",
        ),
        "evaluate.judges.harm.engine",
        "must be a language model of engines (got template; those are none)",
    ),
    "a judge in unknown words": (
        (
            "    harm: {kind: refusal_phrases}",
            "    harm: {kind: llm, engine: template, prompt: harms, max_attempts: 3, seed: 1}",
        ),
        "evaluate.judges.harm.prompt",
        "got harms; files are gpt_oss_safeguard, harm",
    ),
    "a model of the hub without its commit": (
        ("external_models: {} ", f"external_models:\n  mine: {OTHER}  "),
        "external_models.mine.revision",
        "and null for a folder (got null for org/name, which is not a folder here)",
    ),
    "a greedy decoder of two beams": (
        ("{method: greedy}", "{method: greedy, beams: 2}"),
        "evaluate.decoders.greedy.beams",
        "unknown key; known keys are min_probability, temperature, top_p, short_circuit, method",
    ),
    "a bound that nothing reads": (
        ("drop: half}", "drop: half, max_tag_probability: 0.1}"),
        "evaluate.decoders.safebeam",
        "belongs to drop: absolute, and only there",
    ),
    "a beam search that misses": (
        ("{method: greedy}", "{method: beam, beams: 4, candidates: 2}"),
        "evaluate.decoders.greedy",
        "can miss the 4 likeliest texts (got 2); write candidates: 4",
    ),
    "an unknown decoder of an external model": (
        (
            "external_models: {} ",
            f"external_models:\n  mine: {OTHER.replace('greedy', 'gready')}  ",
        ),
        "external_models.mine.decoders",
        "got gready; rows are greedy",
    ),
    "an attack on an unknown model": (
        attack("[safe]", "[saef]"),
        "attacks.mine.models.0",
        "must be a row of models (got saef; rows are standard, filtered, safe)",
    ),
    "an attacker who knows the tag of a model that has none": (
        attack("[safe]", "[standard]"),
        "attacks.mine.tag_weight",
        "must be 0.0 for a model that reads no tagged corpus (got 1, and standard)",
    ),
    "an attack at an unknown stage": (
        attack("[instruct]", "[instruction]"),
        "attacks.mine.stages.0",
        "instruction",
    ),
    "an attack with harmless requests": (
        attack("harmful", "benign"),
        "attacks.mine.suite",
        "of kind harmful",
    ),
    "an attack with a suite that is not asked": (
        attack("harmful", "advbench"),
        "attacks.mine.suite",
        "must be one of evaluate.suites (got advbench",
    ),
    "an attack without a target": (
        ("suites: [harmful,", "suites: [tdc2023, harmful,"),
        attack("suite: harmful", "suite: tdc2023"),
        "attacks.mine.target",
        "must say how an answer to tdc2023 begins (got null); write target: Sure, here is",
    ),
    "an attack of an unknown kind": (
        attack("kind: suffix", "kind: suffixes"),
        "attacks.mine",
        "(got 'suffixes'); did you mean suffix?",
    ),
    "an abliteration on pages": (
        ("attacks: {} ", f"attacks:\n  mine: {ABLITERATION}  "),
        "attacks.mine.source",
        "must be a dialogue source of sources (got web",
    ),
    "an attack on an unknown decoder": (
        attack("[greedy]", "[gready]"),
        "attacks.mine.decoders.0",
        "got gready; rows are greedy",
    ),
    "more candidates than there are": (
        attack("candidates: 64", "candidates: 999"),
        "attacks.mine",
        "at most suffix_tokens x top_k, as many as there are (got 999 of 128); write "
        "candidates: 128",
    ),
    "an attack that seeks the tag": (
        attack("tag_weight: 1.0", "tag_weight: -1.0"),
        "attacks.mine.tag_weight",
        "greater than or equal to 0",
    ),
    "an attack without a seed": (attack(", seed: 1", ""), "attacks.mine.seed", "is missing"),
    "a judge without an engine": (
        ("  lexicon: {kind: lexicon}\n", f"{LLM}{LEXICON}"),
        "scorers.judge.engine",
        "must be a language model of engines (got template",
    ),
    "a judge without a rubric": (
        (
            "  lexicon: {kind: lexicon}\n",
            f"{LLM}{LEXICON}".replace("rubric: rubric", "rubric: rubrik"),
        ),
        "scorers.judge.rubric",
        "got rubrik; files are rubric",
    ),
    "a scorer named like a column": (
        ("  lexicon: {kind: lexicon}\n", LEXICON.replace("  lexicon:", "  hazard:") + LEXICON),
        "scorers.hazard",
        "a column of the score files",
    ),
    "an audit by a classifier": (
        ("audit:\n  judge: world", "audit:\n  judge: ngrams"),
        "audit.judge",
        "kind labels, label_file, assumed, lexicon, llm (got ngrams",
    ),
    "given labels as a score": (
        ("  lexicon: {kind: lexicon}\n", f"{LABELS}{LEXICON}"),
        ("scorers: [lexicon, ngrams]", "scorers: [lexicon, ngrams, people]"),
        ("    gate: words                     # grades every text; never", "    # never"),
        "rephrase.safe_web",
        "must name a scorer of texts, as people of score.scorers are labels",
    ),
    "a pool of an unknown source": (
        ("web: {source: web, documents: 4000}", "web: {source: forum, documents: 4000}"),
        "annotate.pool.web.source",
        "got forum",
    ),
    "a draw by a classifier that nothing is fitted on": (
        (
            "web: {source: web, documents: 4000}",
            "web: {source: web, documents: 9, draw: {rule: stratified, of: [ngrams]}}",
        ),
        "annotate.pool.web.draw.labels",
        "must name the labels that ngrams is fitted on",
    ),
    "labels of a file that find no document": (
        (
            "  lexicon: {kind: lexicon}\n",
            f"{LEXICON}  people: {{kind: label_file, path: a, label: b}}\n",
        ),
        "scorers.people",
        "needs `id` or `text`",
    ),
    "a cascade to given labels": (
        (
            "  lexicon: {kind: lexicon}\n",
            f"{LABELS}{CASCADE}{LEXICON}".replace("expensive: lexicon", "expensive: people"),
        ),
        "scorers.both.expensive",
        "of a kind that reads pages",
    ),
    "a scorer of an unknown kind": (
        ("kind: lexicon}", "kind: lexicn}"),
        "scorers.lexicon",
        "lexicn",
    ),
    "n-grams of nothing": (
        ("words: [1, 2] ", "words: []"),
        ("characters: [3, 4, 5]", "characters: []"),
        "scorers.ngrams.words",
        "words: [1, 2]",
    ),
    "an encoder of the hub without a commit": (
        ("  lexicon: {kind: lexicon}\n", f"{ENCODER}{LEXICON}".replace("small", "large")),
        "scorers.deep.model",
        "write its commit as revision",
    ),
    "an unknown recipe": (
        ("  lexicon: {kind: lexicon}\n", f"{ENCODER}{LEXICON}".replace("small", "smal")),
        "scorers.deep.recipe",
        "brief, large, small",
    ),
    "a cascade from a judge": (
        (
            "  lexicon: {kind: lexicon}\n",
            f"{CASCADE}{LEXICON}".replace("cheap: ngrams", "cheap: lexicon"),
        ),
        "scorers.both.cheap",
        "gives probabilities",
    ),
    "a cascade to itself": (
        (
            "  lexicon: {kind: lexicon}\n",
            f"{CASCADE}{LEXICON}".replace("expensive: lexicon", "expensive: ngrams"),
        ),
        "scorers.both.expensive",
        "another row",
    ),
    "a checkpoint within a batch": (
        ("checkpoints: [32, 128]", "checkpoints: [33]"),
        "finetune.default.checkpoints.0",
        "multiple of its batch",
    ),
    "a checkpoint beyond the end": (
        ("checkpoints: [32, 128]", "checkpoints: [32, 512]"),
        "finetune.default.checkpoints.1",
        "496 at most (got 512)",
    ),
    "an unknown decoder for checkpoints": (
        ("checkpoint_decoders: [greedy]", "checkpoint_decoders: [gredy]"),
        "evaluate.checkpoint_decoders",
        "got gredy",
    ),
    "relearning of an unknown model": (
        relearn("[safe]", "[saef]"),
        "relearn.mine.models",
        "got saef",
    ),
    "relearning from pages": (
        relearn("source: chat", "source: math"),
        "relearn.mine.source",
        "must be a dialogue source of sources (got math; those are chat, benign)",
    ),
    "relearning of a part that is none": (
        relearn("part: harmful", "part: refusal"),
        "relearn.mine.part",
        "harmful",
    ),
    "checkpoints that fall": (
        relearn("[8, 16]", "[16, 8]"),
        "relearn.mine",
        "checkpoints must rise",
    ),
    "a checkpoint of half a batch": (
        relearn("[8, 16]", "[8, 12]"),
        "relearn.mine",
        "a multiple of batch_size 8 (got 8, 12)",
    ),
    "relearning measured by a utility suite": (
        relearn("[harmful, benign]", "[utility]"),
        "relearn.mine.suites",
        "got utility; those that fit are harmful, benign, dual_use",
    ),
    "relearning with an unknown decoder": (
        relearn("[greedy]", "[gredy]"),
        "relearn.mine.decoders",
        "got gredy",
    ),
    "relearning of rows too long": (
        relearn("sequence_length: 128", "sequence_length: 4096"),
        "relearn.mine.sequence_length",
        "positions of shape nano (got 4096)",
    ),
    "an unknown style": (("[podcast,", "[podcasts,"), "rephrase.safe_web.prompts", "podcasts"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_refused(mistake: str, tmp_path: Path) -> None:
    *edits, place, words = MISTAKES[mistake]
    found = complaints(tmp_path, *edits)
    assert any(place in line and words in line for line in found), found
    assert all(line.startswith("params.yaml:") for line in found)


@pytest.mark.parametrize(
    ("tokens", "place", "words"),
    [
        ({}, "tokenizer.path", "a folder with tokenizer.json"),
        ({"a": 0, END: 1}, "tokenizer.path", "<|endoftext|> as token 0, as SmolLM2 has (got 1 in"),
        ({END: 0, "a": 1599}, "tokenizer.vocab_size", "room for the 1,603 tokens of"),
        ({END: 0, TAG: 1599}, "tokenizer.vocab_size", "write 1602, and use shapes"),
    ],
)
def test_a_tokenizer_that_cannot_be_taken_is_refused(
    tokens: dict[str, int], place: str, words: str, tmp_path: Path
) -> None:
    values = {"model": {"vocab": tokens}, "added_tokens": []} if tokens else {}
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    (problem,) = complaints(
        tmp_path, ("tokenizer:\n  path: null", f"tokenizer:\n  path: {tmp_path}")
    )
    assert f"{place}: " in problem and words in problem
    (tmp_path / "tokenizer.json").unlink()
    (problem,) = complaints(
        tmp_path, ("tokenizer:\n  path: null", f"tokenizer:\n  path: {tmp_path}")
    )
    assert (
        "tokenizer.path: must be a folder with tokenizer.json, or null to train one (got "
        in problem
    )


def test_a_tokenizer_that_fits_is_taken(tmp_path: Path) -> None:
    values = {
        "model": {"vocab": [[END, 0.0], *([str(n), 0.0] for n in range(1532))]},
        "added_tokens": [],
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    assert (
        complaints(tmp_path, ("tokenizer:\n  path: null", f"tokenizer:\n  path: {tmp_path}")) == []
    )


def test_the_line_is_named(tmp_path: Path) -> None:
    found = complaints(tmp_path, ("{share: 4,", "{share: 0,"))
    assert found[0].startswith(
        f"params.yaml:{line_of('{share: 4,')} mixtures.safe.phases.1.share: "
    )


def test_a_mistake_that_every_model_meets_is_named_once(tmp_path: Path) -> None:
    assert len(complaints(tmp_path, ("sequence_length: 128", "sequence_length: 4096"))) == 1


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    found = complaints(
        tmp_path, ("  rows_per_shard: 2048", "  rows_per_shard: 0"), ("rate: 0.05", "rate: 2.0")
    )
    assert len(found) == 2


def test_heads_must_divide_the_width(tmp_path: Path) -> None:
    text = Path("specs/shapes/nano.yaml").read_text(encoding="utf-8")
    path = tmp_path / "odd.yaml"
    path.write_text(text.replace("heads: 4", "heads: 5", 1), encoding="utf-8")
    with pytest.raises(SpecError, match="heads must divide hidden"):
        validate(Shape, path)


# Each row: a text, the line that must be named, and words of the message.
YAML_ERRORS = {
    "a tab": ("ingest:\n\trows: 1\n", 2, "is indented with a tab; use spaces"),
    "a tab below spaces": ("ingest:\n  a: b\n\trows: 1\n", 3, "with a tab"),
    "an open brace": ("a: {b: 1\nc: 2\n", 1, "opens `{` without closing it; add `}`"),
    "an open bracket": ("a:\n  b: [1, 2\n  c: 3\n", 2, "opens `[` without closing it"),
    "a brace too many": ("a: {b: 1}}\nc: 1\n", 1, "closes a bracket that is not open; remove it"),
    "no colon": ("a:\n  b 1\n  c: 2\n", 2, "has no colon after its key; write `key: value`"),
    "no colon after a block": ("a\n  b: 1\n", 1, "has no colon after its key"),
    "no space after a colon": ("a:\n  b:1\n  c: 2\n", 2, "has no space after the colon"),
    "an indent too deep": ("a:\n  b: 1\n   c: 2\n", 3, "is indented deeper than the line above"),
    "an indent too small": ("a:\n    b: 1\n  c: 2\n", 3, "has an indent that no line above it has"),
    "two colons": ("a: b: c\n", 1, "has a second `: `; put the value in quotes"),
    "an open quote": ('a: "b\nc: 2\n', 1, "opens a quote without closing it"),
    "a pattern": ("a: *.yaml\n", 1, "begins with a special character; put the value in quotes"),
    "a tag": ("a: !!python/name:os.system\n", 1, "has a tag (`!…`), which is not allowed"),
    "an alias": ("a: *b\n", 1, "has an alias"),
    "nothing": ("", 1, "is empty; write its keys, or restore it with git"),
    "comments alone": ("# a: 1\n", 1, "is empty"),
}


@pytest.mark.parametrize("name", YAML_ERRORS)
def test_broken_yaml_is_one_plain_sentence(name: str, tmp_path: Path) -> None:
    text, line, words = YAML_ERRORS[name]
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as error:
        YamlFile(path)
    (problem,) = error.value.problems
    assert (problem.line, words in problem.message) == (line, True), problem
    assert "while parsing" not in problem.message and "found character" not in problem.message


def test_a_file_of_params_that_is_not_closed_is_one_line(tmp_path: Path) -> None:
    found = complaints(tmp_path, ("sources:\n", "sources: [\n"))
    assert len(found) == 1 and "opens `[` without closing it; add `]`" in found[0]


# Each row: an edit of params.yaml with a misspelt name, and the name that is meant.
MISSPELT = {
    "a key": (("  rows_per_shard: ", "  rows_per_shart: "), "rows_per_shard"),
    "a block": (("refuse:\n", "refuze:\n"), "refuse"),
    "a corpus": (("parts: {score_0: 1.0, math: 1.0}", "parts: {score_0: 1.0, mat: 1.0}"), "math"),
    "a source": (("source: chat", "source: chta"), "chat"),
    "an engine": (("  engine: template", "  engine: templates"), "template"),
    "a row of tags": (("  tag: unsafe ", "  tag: unsave "), "unsafe"),
    "a mixture": (("mixture: safe", "mixture: saef"), "safe"),
    "a shape": (("shape: nano", "shape: nanno"), "nano"),
    "a decoder": (("checkpoint_decoders: [greedy]", "checkpoint_decoders: [gredy]"), "greedy"),
    "a suite": (("suites: [harmful,", "suites: [harmfull,"), "harmful"),
    "a style": (("[podcast,", "[podcasts,"), "podcast"),
    "a scorer": (("scorers: [lexicon, ngrams]", "scorers: [lexicon, ngram]"), "ngrams"),
    "a judge": (("judge: lexicon", "judge: lexikon"), "lexicon"),
    "a model": (("  filtered: filtered", "  filtered: filterd"), "filtered"),
    "a method": (("{method: greedy}", "{method: greedi}"), "greedy"),
    "a value": (("drop: half", "drop: halve"), "half"),
    "a reader": (("{reader: demo", "{reader: demmo"), "demo"),
    "a prompt of a judge": (
        (
            "harm: {kind: refusal_phrases}",
            "harm: {kind: llm, engine: remote, prompt: harn, max_attempts: 3, seed: 1}",
        ),
        "harm",
    ),
}


@pytest.mark.parametrize("kind", MISSPELT)
def test_a_misspelt_name_is_answered_with_the_close_one(kind: str, tmp_path: Path) -> None:
    edit, meant = MISSPELT[kind]
    found = complaints(tmp_path, edit)
    assert any(f"did you mean {meant}?" in line for line in found), found


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("  seed: 1\n", "  seed: one\n"), "must be a whole number (got 'one')"),
        (("held_out_share: 0.2", "held_out_share: much"), "must be a number (got 'much')"),
        (
            ("  title: Safety pretraining in miniature", "  title: 7"),
            "must be text; put it in quotes",
        ),
        (("scorers: [lexicon, ngrams]", "scorers: lexicon"), "must be a list, such as [a, b]"),
        (("engines:\n  template: {kind: template}", "engines: none"), "must be a mapping of keys"),
        (("{kind: template}", "{}"), "must have the key 'kind'"),
        (("  tag: unsafe ", "  tag: Un-safe "), "a name of lower-case letters, digits and _"),
        (("scorers: [lexicon, ngrams]", "scorers: []"), "must have at least 1 of them (got [])"),
        (("  title: Safety pretraining in miniature", '  title: ""'), "must not be empty"),
    ],
)
def test_a_value_of_another_kind_is_refused_in_plain_words(
    edit: tuple[str, str], message: str, tmp_path: Path
) -> None:
    found = complaints(tmp_path, edit)
    assert any(message in line for line in found), found
    assert not any("Input should" in line or "valid" in line for line in found)


def test_a_stage_reads_only_its_blocks() -> None:
    params = Params.read("tags")
    assert params.tags["unsafe"].rate == 0.05
    with pytest.raises(AttributeError):
        _ = params.mix


def test_grammars_are_frozen_and_have_no_defaults() -> None:
    row = Params.read("tags").tags["unsafe"]
    with pytest.raises(ValueError, match="frozen"):
        row.rate = 0.1  # type: ignore[misc]
    blocks = [
        field.annotation
        for field in Params.model_fields.values()
        if isinstance(field.annotation, type)
    ]
    fields = [
        item for block in blocks if issubclass(block, Spec) for item in block.model_fields.items()
    ]
    defaults = [name for name, field in fields if not field.is_required()]
    assert defaults == ["calibration"]  # left out where no decoder has a bound of its own


def test_the_schema_for_editors_is_current() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema()
    assert "mixtures" in json.loads(schema())["properties"]


def test_the_command_says_what_is_wrong_and_fails(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(
        PARAMS.replace("rows_per_shard: 2048", "rows_per_shard: -1"), encoding="utf-8"
    )
    (tmp_path / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    code = f"import sys; sys.path.insert(0, {str(Path.cwd())!r}); from pipeline.cli import main; "
    command = [sys.executable, "-c", f"{code}sys.argv = ['safelm', 'check']; main()"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "params.yaml:" in done.stderr and "ingest.rows" in done.stderr


def test_the_grammar_imports_nothing_heavy() -> None:
    heavy = ("torch", "datatrove", "pyarrow", "numpy")
    code = f"import sys, specs.validation; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


ROWS = """\
mixtures:
  mine:
    phases:
      - {share: 1, proportions: natural, parts: {score_0: 1.0, refusals: {budget_share: 0.05}}}
models:
  safe: {mixture: safe, shape: nano, seeds: [1, 2]}
  mine: {mixture: mine, shape: nano, seeds: [7, 8, 9]}
"""


def experiment(tmp_path: Path, old: str = "", new: str = "") -> tuple[Path, Path]:
    """A file of rows, after an edit of its text, and params.yaml beside it."""
    assert old in ROWS
    (tmp_path / "rows.yaml").write_text(
        ROWS.replace(old, new, 1) if old else ROWS, encoding="utf-8"
    )
    (tmp_path / "params.yaml").write_text(PARAMS, encoding="utf-8")
    return tmp_path / "rows.yaml", tmp_path / "params.yaml"


def test_rows_are_added_with_a_model_for_each_seed(tmp_path: Path) -> None:
    rows, params = experiment(tmp_path)
    assert add(rows, params) == {
        "mixtures": ["mine"],
        "models": ["safe_2", "mine", "mine_8", "mine_9"],
    }
    text = params.read_text(encoding="utf-8")
    assert "  mine_8: {mixture: mine, shape: nano, seed: 8}\n" in text and problems(params) == []
    lines = iter(text.splitlines())
    assert all(
        line in lines for line in PARAMS.splitlines()
    )  # what stood there stands there, in its order


def test_rows_that_are_there_are_left_alone(tmp_path: Path) -> None:
    rows, params = experiment(tmp_path)
    add(rows, params)
    text = params.read_text(encoding="utf-8")
    assert (
        add(rows, params) == {"mixtures": [], "models": []}
        and params.read_text(encoding="utf-8") == text
    )


def test_rows_are_added_to_a_table_that_is_empty(tmp_path: Path) -> None:
    rows, params = experiment(tmp_path)
    rows.write_text(RELEARN.strip() + "\n", encoding="utf-8")
    assert add(rows, params) == {"relearn": ["mine"]} and problems(params) == []
    lines = params.read_text(encoding="utf-8").splitlines()
    place = lines.index("  mine:")
    assert lines[place - 1].startswith("relearn:  ") and lines[place + 1] == "    models: [safe]"
    assert add(rows, params) == {"relearn": []}


def test_rows_are_added_behind_one_that_ends_in_a_bracket(tmp_path: Path) -> None:
    rows, params = experiment(tmp_path)
    last = "  safe:     {mixture: safe, shape: nano, seed: 1}\n"
    params.write_text(PARAMS.replace(last, f"{last[:-2]}\n  }}\n"), encoding="utf-8")
    assert "mine_9" in add(rows, params)["models"] and problems(params) == []


def test_a_table_that_cannot_take_rows_is_named_by_its_file(tmp_path: Path) -> None:
    rows, params = experiment(tmp_path)
    indented = PARAMS.replace("  standard: {mix", "    standard: {mix").replace(
        "  filtered: {mix", "    filtered: {mix"
    )
    params.write_text(indented.replace("  safe:     {mix", "    safe:     {mix"), encoding="utf-8")
    with pytest.raises(
        SpecError, match=r"/params.yaml:1 rows cannot be added to a table in brackets"
    ):
        add(rows, params)


# Each row: an edit of the rows, the line of their file that must be named, and words of the
# message.
MISFITS = {
    "another row of that name": (
        ("shape: nano, seeds: [1, 2]", "shape: smollm2-135m, seeds: [1]"),
        6,
        "another name",
    ),
    "a corpus that is not there": (("score_0", "score_9"), 4, "row of corpora"),
    "a mixture that is not there": (
        ("mine: {mixture: mine", "mine: {mixture: nine"),
        7,
        "row of mixtures",
    ),
    "a seed below 0": (
        ("seeds: [7, 8, 9]", "seeds: [7, -8]"),
        7,
        "models.mine.seeds.1: must be greater than or equal",
    ),
    "a name too long": (
        ("mine: {mixture: mine", f"m{'e' * 62}: {{mixture: mine"),
        5,
        "64 characters",
    ),
    "no seed": (("seeds: [7, 8, 9]", "seeds: []"), 7, "seeds"),
    "two rows of one name": (
        ("  mine: {mixture: mine", "  safe_2: {mixture: mine"),
        7,
        "gives the row safe_2 twice",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_added(misfit: str, tmp_path: Path) -> None:
    edit, line, words = MISFITS[misfit]
    rows, params = experiment(tmp_path, *edit)
    with pytest.raises(SpecError) as error:
        add(rows, params)
    assert f"rows.yaml:{line} " in str(error.value) and words in str(error.value)
    assert params.read_text(encoding="utf-8") == PARAMS and sorted(tmp_path.iterdir()) == [
        params,
        rows,
    ]


LIKE = """\
mixtures:
  more: {like: safe, set: {refusals: 6.0}}
  less: {like: more, set: {refusals: null}}
  math_first: {like: safe, set: {score_0: null, score_1: 2.0}}
models:
  more: {mixture: more, shape: nano, seeds: [1]}
comparisons:
  ablation: {moral: more}
  amounts:
    weight of refusals: {1.0: safe, 6.0: more}
"""


def test_a_mixture_may_be_like_another_but_for_some_parts(tmp_path: Path) -> None:
    rows, params = experiment(tmp_path)
    rows.write_text(LIKE, encoding="utf-8")
    add(rows, params)
    mixtures = Params.read("mixtures", path=params).mixtures
    safe = [phase.parts for phase in mixtures["safe"].phases]
    more = [phase.parts for phase in mixtures["more"].phases]
    assert more == [safe[0], {**safe[1], "refusals": 6.0}]
    assert [*more[1]] == [*safe[1]]
    assert "refusals" not in mixtures["less"].phases[1].parts
    assert [*mixtures["math_first"].phases[0].parts] == ["score_1", "math"]


def test_comparisons_are_added_to_their_tables(tmp_path: Path) -> None:
    rows, params = experiment(tmp_path)
    rows.write_text(LIKE, encoding="utf-8")
    assert add(rows, params)["comparisons.amounts"] == ["weight of refusals"]
    comparisons = Params.read("comparisons", path=params).comparisons
    assert comparisons.ablation["moral"] == "more" and comparisons.ablation["tags"] == "safe"
    assert comparisons.amounts == {"weight of refusals": {1.0: "safe", 6.0: "more"}}
    assert problems(params) == []


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("like: safe", "like: saef"), "more.like: must be a row of mixtures (got saef)"),
        (("refusals: 6.0", "refusal: 6.0"), "must be a part of safe (got refusal; parts are"),
        (("refusals: 6.0", "refusal: 6.0"), "did you mean refusals?"),
        (("refusals: 6.0", "refusals: -1.0"), "more.set.refusals: must be greater than 0"),
        (("{moral: more}", "{moral: mere}"), "must be a row of models (got mere; rows are"),
        (("{moral: more}", "{tags: more}"), "is in"),
        (("{moral: more}", "{morals: more}"), "did you mean moral?"),
        (("{1.0: safe, 6.0: more}", "{1.0: safe}"), "must have at least 2 of them"),
    ],
)
def test_an_experiment_that_names_nothing_is_refused(
    edit: tuple[str, str], message: str, tmp_path: Path
) -> None:
    rows, params = experiment(tmp_path)
    rows.write_text(LIKE.replace(*edit), encoding="utf-8")
    with pytest.raises(SpecError) as error:
        add(rows, params)
    assert message in str(error.value) and "rows.yaml:" in str(error.value)


def test_a_second_row_may_rewrite_the_same_scores(tmp_path: Path) -> None:
    rows, params = experiment(tmp_path)
    row = "from: web, scores: [3, 4, 5], engine: template, prompts: [talk], max_score: 2, seed: 1"
    rows.write_text(
        f"rephrase: {{talks: {{{row}, gate: words}}}}\n"
        f"corpora: {{talks: {{from: rephrase/talks, epochs: 9.0}}}}\n",
        encoding="utf-8",
    )
    assert add(rows, params) == {"rephrase": ["talks"], "corpora": ["talks"]}
    assert problems(params) == []


def test_the_rows_of_the_ablation_fit_params(tmp_path: Path) -> None:
    _, params = experiment(tmp_path)
    added = add(Path("specs/experiments/ablation.yaml"), params)
    assert {"safe_7", "educated_6", "never"} < set(added["models"]) and problems(params) == []


def test_the_rows_beyond_the_paper_fit_params(tmp_path: Path) -> None:
    _, params = experiment(tmp_path)
    added = add(Path("specs/experiments/beyond.yaml"), params)
    assert {"harmful", "harmless"} < set(added["relearn"]) and problems(params) == []
    assert added["attacks"] == ["blind", "aware", "prefill", "abliteration", "best_of"]
