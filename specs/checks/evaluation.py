"""That suites, judges and engines fit each other, and all that is asked: what is wrong, before
anything is spent.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from specs.attacks import Relearn
from specs.corpus import tags_of
from specs.engine import Engine
from specs.judge import DemoJudge, LlmJudge, ScorerJudge
from specs.params import Params
from specs.shape import SHAPES, Shape
from specs.suite import SUITES, AnySuite, DemoSuite, FileSuite, Suite
from specs.verdict import VERDICTS, VerdictPrompt
from specs.yaml_source import Location

Finding = tuple[Location, str]


def evaluation(params: Params) -> Iterator[Finding]:
    """Every contradiction, as (place in params.yaml, message)."""
    yield from _suites(params)
    yield from _judges(params)
    yield from _external_models(params)
    yield from _relearn(params)
    yield from _attacks(params)


def _suites(params: Params) -> Iterator[Finding]:
    for name in params.evaluate.suites:
        if not (SUITES / f"{name}.yaml").is_file():
            yield (
                ("evaluate", "suites"),
                f"must name files of specs/suites (got {name}; files are {words(stems(SUITES))})",
            )
            continue
        suite = Suite.read(name)
        if not isinstance(suite, DemoSuite) and (mistake := suite.mistake()):
            yield ("evaluate", "suites"), f"specs/suites/{name}.yaml {mistake[0]}: {mistake[1]}"
        for judge in suite.judges:
            if (message := _unfit(params, suite, judge)) is not None:
                yield ("evaluate", "judges"), f"specs/suites/{name}.yaml judges: {message}"


def _unfit(params: Params, suite: AnySuite, name: str) -> str | None:
    """Why a judge cannot judge a suite."""
    match params.evaluate.judges.get(name):
        case None:
            return f"must be rows of evaluate.judges (got {name}; rows are {words(params.evaluate.judges)})"
        case DemoJudge() if isinstance(suite, FileSuite):
            return f"must not be of kind demo ({name}), which knows the prompts of the embedded world alone"
        case ScorerJudge() if not suite.is_harmful:
            return f"must not be of kind scorer ({name}), which knows harm alone, for a suite of kind {suite.kind}"
        case LlmJudge(prompt=prompt) if prompt in stems(VERDICTS):
            judges = VerdictPrompt.read(prompt).judges
            if (judges == "harmful") != suite.is_harmful:
                return f"must suit kind {suite.kind} (got {name}, whose prompt {prompt} judges {judges} requests)"
    return None


def _judges(params: Params) -> Iterator[Finding]:
    for name, row in params.evaluate.judges.items():
        at: Location = ("evaluate", "judges", name)
        match row:
            case ScorerJudge() if row.scorer not in params.scorers:
                yield (
                    (*at, "scorer"),
                    f"must be a row of scorers (got {row.scorer}; rows are {words(params.scorers)})",
                )
            case LlmJudge():
                yield from (
                    ((*at, *place), message) for place, message in _asked(row, params.engines)
                )


def _asked(row: LlmJudge, engines: Mapping[str, Engine]) -> Iterator[Finding]:
    models = [name for name, engine in engines.items() if engine.kind != "template"]
    if row.engine not in models:
        yield (
            ("engine",),
            f"must be a language model of engines (got {row.engine}; those are {words(models)})",
        )
    if row.prompt not in stems(VERDICTS):
        files = words(stems(VERDICTS))
        yield (
            ("prompt",),
            f"must be a file of specs/prompts/verdict (got {row.prompt}; files are {files})",
        )


def _external_models(params: Params) -> Iterator[Finding]:
    for name, row in params.external_models.items():
        for decoder in row.decoders:
            if decoder not in params.evaluate.decoders:
                rows = words(params.evaluate.decoders)
                yield (
                    ("external_models", name, "decoders"),
                    f"must be rows of evaluate.decoders (got {decoder}; rows are {rows})",
                )
        is_folder = Path(row.model).is_dir()
        if (row.revision is None) != is_folder:
            got = f"got {row.revision or 'null'} for {row.model}, which is {'' if is_folder else 'not '}a folder here"
            yield (
                ("external_models", name, "revision"),
                f"must be the commit of a model of the hub, and null for a folder ({got})",
            )


def _relearn(params: Params) -> Iterator[Finding]:
    for name, row in params.relearn.items():
        yield from ((("relearn", name, *at), message) for at, message in _curve(params, row))


def _curve(params: Params, row: Relearn) -> Iterator[Finding]:
    asked = [name for name in params.evaluate.suites if not _is_utility(name)]
    known = {"models": params.models, "suites": asked, "decoders": params.evaluate.decoders}
    for field, rows in known.items():
        for name in getattr(row, field):
            if name not in rows:
                yield (
                    (field,),
                    f"must name rows that are there (got {name}; those that fit are {words(rows)})",
                )
    source = params.sources.get(row.source)
    if source is None or not source.is_dialogue:
        dialogues = [name for name, one in params.sources.items() if one.is_dialogue]
        yield (
            ("source",),
            f"must be a dialogue source of sources (got {row.source}; those are {words(dialogues)})",
        )
    for model in row.models:
        shape = params.models[model].shape if model in params.models else ""
        if (SHAPES / f"{shape}.yaml").is_file() and row.sequence_length > (
            most := Shape.read(shape).positions
        ):
            yield (
                ("sequence_length",),
                f"must be at most the {most} positions of shape {shape} (got {row.sequence_length})",
            )


def _is_utility(name: str) -> bool:
    """Whether a suite measures what a model knows; one that is not there is told of elsewhere."""
    return (SUITES / f"{name}.yaml").is_file() and Suite.read(name).kind == "utility"


def _attacks(params: Params) -> Iterator[Finding]:
    for name, row in params.attacks.items():
        at: Location = ("attacks", name)
        for place, model in enumerate(row.models):
            if model not in params.models:
                yield (
                    (*at, "models", place),
                    f"must be a row of models (got {model}; rows are {words(params.models)})",
                )
            elif row.tag_weight and not _reads_tags(params, model):
                yield (
                    (*at, "tag_weight"),
                    f"must be 0.0 for a model that reads no tagged corpus (got {row.tag_weight:g}, and {model}); "
                    "write 0.0, or leave the model out",
                )
        for place, decoder in enumerate(row.decoders):
            if decoder not in params.evaluate.decoders:
                rows = words(params.evaluate.decoders)
                yield (
                    (*at, "decoders", place),
                    f"must be a row of evaluate.decoders (got {decoder}; rows are {rows})",
                )
        if row.suite not in params.evaluate.suites:
            suites = words(params.evaluate.suites)
            yield (
                (*at, "suite"),
                f"must be one of evaluate.suites (got {row.suite}; those are {suites})",
            )
        elif (SUITES / f"{row.suite}.yaml").is_file():
            yield from (((*at, key), message) for key, message in _attacked(row.suite, row.target))


def _attacked(name: str, target: str | None) -> Iterator[tuple[str, str]]:
    """Why a suite cannot be attacked."""
    suite = Suite.read(name)
    if not suite.is_harmful:
        yield "suite", f"must be of kind harmful (got {name}, of kind {suite.kind})"
    elif target is None and not isinstance(suite, DemoSuite):
        yield (
            "target",
            f"must say how an answer to {name} is to begin (got null); write target: Sure, here is",
        )


def _reads_tags(params: Params, model: str) -> bool:
    mixture = params.mixtures.get(params.models[model].mixture)
    read = mixture.corpora if mixture else []
    return any(tags_of(params.corpora[name]) for name in read if name in params.corpora)


def stems(folder: Path) -> list[str]:
    """The names of the YAML files of a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def words(values: object) -> str:
    """Some values as people list them."""
    return ", ".join(map(str, values)) or "none"  # type: ignore[call-overload]  # any iterable
