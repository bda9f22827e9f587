"""What no single block can see: that the rows of params.yaml fit each other. Nothing is spent before this passes."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from specs.corpus import ScoredCorpus, WholeCorpus, scores_of, tags_of
from specs.engine import Engine
from specs.evaluation import Finding, evaluation, stems, words
from specs.mixture import Phase, Replaced
from specs.params import Params, TokenizerStage
from specs.prompt import PROMPTS
from specs.prompt import problems as prompt_problems
from specs.rubric import RUBRICS, Rubric
from specs.scorer import JUDGES, LABELLERS, RECIPES, Cascade, Embedding, Given, Llm, Ngrams, Recipe, ScorerRow
from specs.shape import SHAPES, Shape
from specs.suite import SUITES, Suite
from specs.tokenizer import ids_in
from specs.tokens import END, SPECIAL
from specs.verdict import VERDICTS, VerdictPrompt
from specs.yaml_file import Location, SpecError

KINDS = ((Shape, SHAPES), (Suite, SUITES), (Recipe, RECIPES), (Rubric, RUBRICS), (VerdictPrompt, VERDICTS))
RESERVED = ("id", "score", "hazard", "hazards")


def findings(params: Params) -> Iterator[Finding]:
    """Every contradiction between rows, as (place, message)."""
    yield from _scorers(params)
    yield from _scores(params)
    yield from _tags(params)
    yield from _corpora(params)
    yield from _mixtures(params)
    yield from _models(params)
    yield from _dialogues(params)
    yield from _tokenizer(params.tokenizer)
    yield from _evaluation(params)
    yield from evaluation(params)
    yield from _engines(params)
    yield from _files(params)


def _scorers(params: Params) -> Iterator[Finding]:
    rows = params.scorers
    for name, row in rows.items():
        if name in RESERVED:
            yield ("scorers", name), f"must not be called {name}, a column of the score files; give it another name"
        yield from ((("scorers", name, *at), message) for at, message in _scorer(row, rows, params.engines))
    for block, judge, kinds in (
        ("annotate", params.annotate.judge, LABELLERS),
        ("audit", params.audit.judge, JUDGES),
    ):
        if judge not in rows:
            yield (block, "judge"), f"must be a row of scorers (got {judge}; rows are {words(rows)})"
        elif rows[judge].kind not in kinds:
            yield (block, "judge"), f"must be a judge: a row of kind {words(kinds)} (got {rows[judge].kind})"
    for place, name in enumerate(params.score.scorers):
        if name not in rows:
            yield ("score", "scorers", place), f"must be a row of scorers (got {name}; rows are {words(rows)})"
        elif isinstance(rows[name], Given):
            yield (
                ("score", "scorers", place),
                f"must grade every page (got {name}, the labels that some have); leave it out, annotate.judge reads it",
            )
    for name in params.score.ensemble.thresholds:
        if name not in params.score.scorers:
            yield (
                ("score", "ensemble", "of"),
                f"must name columns of score.scorers (got {name}; columns are {words(params.score.scorers)}); "
                "add it there or leave it out",
            )


def _scorer(row: ScorerRow, rows: Mapping[str, ScorerRow], engines: Mapping[str, Engine]) -> Iterator[Finding]:
    match row:
        case Ngrams(words=[], characters=[]):
            yield ("words",), "must have a length of n-grams where characters has none; write words: [1, 2]"
        case Embedding():
            yield from _encoder(row)
        case Llm():
            yield from _judge(row, engines)
        case Cascade():
            cheap, dear = rows.get(row.cheap), rows.get(row.dear)
            if not isinstance(cheap, Ngrams | Embedding):
                yield (
                    ("cheap",),
                    f"must be a row of kind ngrams or embedding, which gives probabilities (got {row.cheap})",
                )
            if dear is None or isinstance(dear, Cascade | Given) or row.dear == row.cheap:
                yield (
                    ("dear",),
                    f"must be another row, of a kind that reads pages, and not a cascade (got {row.dear}; rows are "
                    f"{words(rows)})",
                )


def _judge(row: Llm, engines: Mapping[str, Engine]) -> Iterator[Finding]:
    models, rubrics = [name for name, engine in engines.items() if engine.kind != "template"], stems(RUBRICS)
    if row.engine not in models:
        yield ("engine",), f"must be a language model of engines (got {row.engine}; those are {words(models)})"
    if row.rubric not in rubrics:
        yield ("rubric",), f"must be a file of specs/prompts/judge (got {row.rubric}; files are {words(rubrics)})"


def _encoder(row: Embedding) -> Iterator[Finding]:
    if row.revision is None and not (Path(row.encoder) / "config.json").is_file():
        yield (
            ("encoder",),
            f"must be a folder with config.json (got {row.encoder}); for one of the hub write its commit as revision",
        )
    if row.recipe not in stems(RECIPES):
        yield ("recipe",), f"must be a file of specs/recipes (got {row.recipe}; files are {words(stems(RECIPES))})"


def _scores(params: Params) -> Iterator[Finding]:
    for block, scores in [("rephrase", params.rephrase.scores), ("refuse", params.refuse.scores)]:
        yield from _unsafe_only((block,), scores)
    both = sorted(set(params.rephrase.scores) & set(params.refuse.scores))
    if both:
        yield (
            ("refuse", "scores"),
            f"must not claim what rephrase claims (both have {words(both)}): a document is rewritten once; "
            f"write scores: {[score for score in params.refuse.scores if score not in both]}",
        )


def _engines(params: Params) -> Iterator[Finding]:
    for block in ("rephrase", "refuse", "educate"):
        engine = getattr(params, block).engine
        if engine not in params.engines:
            message = f"must be a row of engines (got {engine}; rows are {words(params.engines)}); add it there"
            yield (block, "engine"), message
    if params.gates.shortest > params.gates.longest:
        shortest, longest = params.gates.shortest, params.gates.longest
        yield ("gates", "shortest"), f"must not be above longest (got {shortest} and {longest}); write one below it"


def _unsafe_only(at: Location, scores: list[int]) -> Iterator[Finding]:
    if 0 in scores:
        yield (*at, "scores"), f"must not hold 0, the score of safe text (got {scores}); leave 0 out"
    if len(set(scores)) < len(scores):
        yield (*at, "scores"), f"must name a score once (got {scores}); write {sorted(set(scores))}"


def _tags(params: Params) -> Iterator[Finding]:
    for name, row in params.tags.items():
        if row.from_ != "ingest/web":
            yield (
                ("tags", name, "from"),
                f"must be ingest/web (got {row.from_}): only raw scored text is tagged, never safe or synthetic text "
                "(paper §4); write from: ingest/web",
            )
        if 0 in row.scores:
            yield (
                ("tags", name, "scores"),
                f"must not hold 0 (got {row.scores}): safe text never carries the tag (paper §4); leave 0 out",
            )
        else:
            yield from _unsafe_only(("tags", name), row.scores)
    if params.instruct.tag not in params.tags:
        yield (
            ("instruct", "tag"),
            f"must be a row of tags (got {params.instruct.tag}; rows are {words(params.tags)})",
        )


def _corpora(params: Params) -> Iterator[Finding]:
    for name, corpus in params.corpora.items():
        origin, _, source = corpus.from_.partition("/")
        at: Location = ("corpora", name, "from")
        if origin == "ingest" and source not in params.sources:
            yield at, f"must name a row of sources (got {source}; rows are {words(params.sources)})"
        elif origin == "ingest" and params.sources[source].prompt is not None:
            yield at, f"must name a source of pages ({source} holds dialogues: its prompt is not null)"
        elif origin == "tag" and source not in params.tags:
            yield at, f"must name a row of tags (got {source}; rows are {words(params.tags)})"
        if isinstance(corpus, WholeCorpus) and corpus.from_ == "ingest/web":
            yield ("corpora", name), "must say which scores of the web it reads; add the line `scores: [0]`"


def _mixtures(params: Params) -> Iterator[Finding]:
    for name, mixture in params.mixtures.items():
        for index, phase in enumerate(mixture.phases):
            at: Location = ("mixtures", name, "phases", index, "parts")
            known = [part for part in phase.parts if part in params.corpora]
            for part in phase.parts:
                if part not in params.corpora:
                    yield (*at, part), f"must be a row of corpora (rows are {words(params.corpora)}); add it there"
            yield from _overlaps(params, at, [part for part in known if not isinstance(phase.parts[part], Replaced)])
            for part in known:
                if isinstance(made := phase.parts[part], Replaced):
                    yield from _replaced((*at, part), params, part, made.replaced_by, phase)
        yield from _sizes(params, name)


def _replaced(at: Location, params: Params, part: str, made: str, phase: Phase) -> Iterator[Finding]:
    """What stands in for a corpus was made of its documents, and is not read a second time under its own name."""
    if made not in params.corpora:
        yield (*at, "replaced_by"), f"must be a row of corpora (got {made}; rows are {words(params.corpora)})"
        return
    if made in phase.parts:
        yield (
            (*at, "replaced_by"),
            f"must not be read beside what it replaces (got {made}, which is a part too); leave one of them out",
        )
    writer, scores = params.corpora[made].from_, set(scores_of(params.corpora[part]) or [])  # not of what has tags
    wanted = {
        "rephrase": set(params.rephrase.scores),
        "refuse": set(params.refuse.scores),
        "tag": _raw_scores(params, made),
    }.get(writer.partition("/")[0], set())
    if not (scores & wanted or (writer == "educate" and params.corpora[part].from_ == "refuse")):
        yield (
            (*at, "replaced_by"),
            f"must be made of documents of {part} (got {made}, which {writer} makes of "
            f"{f'the scores {words(sorted(wanted))}' if wanted else 'others'}); name another corpus",
        )


def _overlaps(params: Params, at: Location, parts: list[str]) -> Iterator[Finding]:
    """A page must not be read twice in one phase under two names, tagged pages included."""
    for index, part in enumerate(parts):
        for earlier in parts[:index]:
            both = sorted(_raw_scores(params, part) & _raw_scores(params, earlier))
            if both:
                yield (
                    (*at, part),
                    f"must not read what {earlier} reads (both hold the web's score {words(both)}); "
                    "leave one of them out, or change corpora so that each score is in one",
                )


def _sizes(params: Params, name: str) -> Iterator[Finding]:
    """What rounds to nothing whatever the corpora hold; `mix` checks natural proportions, when sizes are known."""
    mixture, mix = params.mixtures[name], params.mix
    shares = sum(phase.share for phase in mixture.phases)
    for index, phase in enumerate(mixture.phases):
        tokens = mix.tokens * phase.share / shares
        doses = sum(phase.doses.values()) * mix.tokens
        at: Location = ("mixtures", name, "phases", index)
        if tokens < mix.batch * mix.sequence:
            yield (
                (*at, "share"),
                f"must be a step of {mix.batch} rows of {mix.sequence} at least (got {tokens:.0f} tokens); "
                f"write a larger share, or mix.tokens: {int(mix.batch * mix.sequence * shares / phase.share) + 1}",
            )
        if doses >= tokens:
            yield (
                (*at, "parts", next(iter(phase.doses))),
                f"must leave room for the parts with a weight (the doses of this phase take {doses:,.0f} of its "
                f"{tokens:,.0f} tokens); write a dose below {phase.share / shares:.3g}, or a larger share",
            )
        fixed = phase.weights if phase.proportions == "fixed" and doses < tokens else {}
        rows = {part: (tokens - doses) * weight / sum(fixed.values()) / mix.sequence for part, weight in fixed.items()}
        rows |= {part: dose * mix.tokens / mix.sequence for part, dose in phase.doses.items()}
        for part, count in rows.items():
            if round(count) < 1:
                yield (
                    (*at, "parts", part.partition("-")[0]),
                    f"must be a sequence of {mix.sequence} tokens at least (got {count:.2f} of one); "
                    "write a larger weight or dose, or leave the part out",
                )


def _raw_scores(params: Params, part: str) -> set[int]:
    corpus: ScoredCorpus | WholeCorpus = params.corpora[part]
    row = tags_of(corpus)
    if row in params.tags:
        return set(params.tags[row].scores)
    return set(scores_of(corpus) or [])


def _models(params: Params) -> Iterator[Finding]:
    shapes = sorted(path.stem for path in SHAPES.glob("*.yaml"))
    for name, model in params.models.items():
        if model.mixture not in params.mixtures:
            yield (
                ("models", name, "mixture"),
                f"must be a row of mixtures (got {model.mixture}; rows are {words(params.mixtures)})",
            )
        if model.shape not in shapes:
            yield (
                ("models", name, "shape"),
                f"must be a file of specs/shapes (got {model.shape}; files are {words(shapes)})",
            )
        else:
            yield from _fits(params, name, Shape.read(model.shape))


def _fits(params: Params, name: str, shape: Shape) -> Iterator[Finding]:
    at: Location = ("models", name, "shape")
    if params.tokenizer.vocabulary > shape.vocabulary:
        yield (
            at,
            f"must have room for tokenizer.vocabulary (got {shape.vocabulary} in specs/shapes, the tokenizer has "
            f"{params.tokenizer.vocabulary}); write tokenizer.vocabulary: {shape.vocabulary} or take a larger shape",
        )
    mix = params.mix
    if mix.layout == "packed" and (wrong := shape.short_of_warmup(mix.tokens, mix.batch, mix.sequence)):
        yield at, wrong
    for block, sequence in [
        ("mix", params.mix.sequence),
        ("instruct", params.instruct.sequence),
        ("finetune", params.finetune.sequence),
    ]:
        if sequence > shape.positions:
            yield (
                (block, "sequence"),
                f"must be at most the {shape.positions} positions of shape "
                f"{params.models[name].shape} (got {sequence})",
            )
    if params.mix.batch % shape.recipe.micro_batch:
        yield (
            ("mix", "batch"),
            f"must be a multiple of the shape's micro_batch {shape.recipe.micro_batch} (got {params.mix.batch})",
        )


def _dialogues(params: Params) -> Iterator[Finding]:
    for block, source in [("instruct", params.instruct.source), ("finetune", params.finetune.source)]:
        if source not in params.sources:
            yield (block, "source"), f"must be a row of sources (got {source}; rows are {words(params.sources)})"
        elif params.sources[source].prompt is None:
            yield (
                (block, "source"),
                f"must hold dialogues (source {source} has prompt: null); name the field of the request",
            )
    tuning = params.finetune
    for place, dose in enumerate(tuning.doses):
        if dose % tuning.batch or dose >= tuning.examples * tuning.epochs:
            most = (tuning.examples * tuning.epochs - 1) // tuning.batch * tuning.batch
            yield (
                ("finetune", "doses", place),
                f"must be a multiple of finetune.batch, {most} at most (got {dose}); the end is evaluated anyway",
            )
    if "web" not in params.sources:
        yield ("sources",), "must have a row `web`: the documents that are scored"


def _tokenizer(asked: TokenizerStage) -> Iterator[Finding]:
    """What a tokenizer must have room for; and what one that is taken must have."""
    if asked.vocabulary <= len(SPECIAL) + 256:
        yield (
            ("tokenizer", "vocabulary"),
            f"must be above {len(SPECIAL) + 256}: 256 bytes and the special tokens (got {asked.vocabulary})",
        )
    if asked.path is None:
        return
    at: Location = ("tokenizer", "path")
    try:
        ids = ids_in(Path(asked.path) / "tokenizer.json")
    except (OSError, ValueError):
        yield at, f"must be a folder with tokenizer.json, or null to train one (got {asked.path})"
        return
    if ids.get(END) != 0:
        yield at, f"must have {END} as token 0, as SmolLM2 has (got {ids.get(END)} in {asked.path}); take another"
    elif (size := 1 + max(ids.values()) + sum(token not in ids for token in SPECIAL)) > asked.vocabulary:
        yield (
            ("tokenizer", "vocabulary"),
            f"must have room for the {size:,} tokens of {asked.path}, {words(SPECIAL)} included "
            f"(got {asked.vocabulary:,}); write {size}, and take shapes that have room for it",
        )


def _evaluation(params: Params) -> Iterator[Finding]:
    for field in ("tagged_only", "doses"):
        for name in getattr(params.evaluate, field):
            if name not in params.evaluate.decoders:
                yield (
                    ("evaluate", field),
                    f"must name rows of decoders (got {name}; rows are {words(params.evaluate.decoders)})",
                )
    for name in ("greedy", "safebeam"):
        if name not in params.evaluate.decoders:
            yield ("evaluate", "decoders"), f"must have the row `{name}`: the report compares with it"


def _files(params: Params) -> Iterator[Finding]:
    for name, source in params.sources.items():
        if (source.text == "messages") != (source.prompt == "messages"):
            yield (
                ("sources", name, "prompt"),
                f"must be messages where text is, and only there (got text: {source.text}, prompt: {source.prompt}); "
                "write messages for both, or the fields of request and answer",
            )
        if not Path(source.path).exists():
            yield (
                ("sources", name, "path"),
                f"must be a file or folder that exists (got {source.path}){_pattern(source.path)}",
            )
    if not Path(params.card.ngrams).is_file():
        yield ("card", "ngrams"), f"must be a file that exists (got {params.card.ngrams})"
    for block, names in _prompt_names(params):
        for name in names:
            if not (PROMPTS / block / f"{name}.yaml").is_file():
                field = "styles" if block == "rephrase" else "prompts"
                yield (
                    (block, field),
                    f"must name files of specs/prompts/{block} (got {name}; files are {words(stems(PROMPTS / block))})",
                )


def _pattern(path: str) -> str:
    """What to write instead of a pattern: DVC watches files and folders."""
    folder, _, pattern = path.rpartition("/")
    return f"; write path: {folder or '.'} and files: '{pattern}'" if "*" in pattern else ""


def _prompt_names(params: Params) -> list[tuple[str, list[str]]]:
    return [
        ("rephrase", params.rephrase.styles),
        ("refuse", params.refuse.prompts),
        ("educate", params.educate.prompts),
    ]


def check_files() -> None:
    """Every shape, suite and prompt in the repository means what its grammar asks for."""
    problems = prompt_problems()
    for kind, folder in (
        (Shape, SHAPES),
        (Suite, SUITES),
        (Recipe, RECIPES),
        (Rubric, RUBRICS),
        (VerdictPrompt, VERDICTS),
    ):
        for path in sorted(folder.glob("*.yaml")):
            try:
                kind.read(path.stem)
            except SpecError as error:
                problems += error.problems
    if problems:
        raise SpecError(problems)
