"""Checks of the evaluation: suites, decoders, judges, external models, relearning and attacks."""

from collections.abc import Iterator

from specs.attacks import AttackRow, TargetedAttack
from specs.checks.corpora import dialogues
from specs.checks.files import stems
from specs.checks.filters import corpora_of, is_utility
from specs.checks.start import shape_of
from specs.corpus import tags_of
from specs.judge import JUDGES, DemoJudge, JudgePrompt, LlmJudge, ScorerJudge
from specs.messages import Findings, Location, among, unknown_file, unknown_row
from specs.params import Params
from specs.spec import values_at
from specs.suite import SUITES, AnySuite, FileSuite, Suite

# Decoders that the report needs for its comparisons.
REPORTED = ("greedy", "safebeam")


def check_evaluation(params: Params) -> Findings:
    """Yield every contradiction between the rows of evaluate, compare, relearn and attack."""
    for name in REPORTED:
        if name not in params.evaluate.decoders:
            yield (
                ("evaluate", "decoders"),
                f"must have the row `{name}`, which the report compares with; add it",
            )
    yield from _suites(params)
    yield from _promises(params)
    yield from _curves(params)
    for at, attack in values_at(params, "attacks.*"):
        for key, message in _attack(params, attack):
            yield (*at, key), message


def _suites(params: Params) -> Findings:
    files = stems(SUITES)
    named = values_at(params, "evaluate.suites.[]", "evaluate.calibration.suite")
    for at, name in named:
        if name not in files:
            yield at, unknown_file("specs/suites", name, files)
            continue
        suite, path = Suite.read(name), f"specs/suites/{name}.yaml"
        usage = "report" if "suites" in at else "calibration"
        if suite.usage != usage or (suite.is_harmful and usage == "calibration"):
            yield (
                at,
                f"must be of usage {usage}, and harmless for calibration (got {name}, of usage "
                f"{suite.usage} and kind {suite.kind})",
            )
        for judge in suite.judges:
            message = _unfit(params, suite, judge)
            if message:
                yield ("evaluate", "judges"), f"{path} judges: {message}"


def _promises(params: Params) -> Findings:
    """Refuse promises of false refusals without prompts enough for them."""
    calibration = params.evaluate.calibration
    prompts = calibration.max_prompts if calibration else 0
    for at, share in values_at(params, "evaluate.decoders.*.max_false_refusals"):
        needed = params.evaluate.decoders[str(at[2])].min_calibration_prompts
        if prompts < needed:
            yield (
                at,
                f"must have at least {needed} prompts of calibration for {share:g} (got {prompts});"
                f" write evaluate.calibration: {{suite: calibration, max_prompts: {needed}}}",
            )


def _unfit(params: Params, suite: AnySuite, name: str) -> str | None:
    """Return why a judge cannot judge a suite; None if it can."""
    judges = params.evaluate.judges
    match judges.get(name):
        case None:
            return unknown_row("evaluate.judges", name, judges)
        case DemoJudge() if isinstance(suite, FileSuite):
            return f"must not be of kind demo (got {name}), which knows only demo prompts"
        case ScorerJudge() if not suite.is_harmful:
            return (
                f"must not be of kind scorer (got {name}), which knows only harm, for a suite of "
                f"kind {suite.kind}"
            )
        case LlmJudge(prompt=prompt) if prompt in stems(JUDGES):
            judged = JudgePrompt.read(prompt).kinds
            if ("harmful" if suite.is_harmful else "harmless") not in judged:
                return (
                    f"must suit kind {suite.kind} (got {name}, whose prompt {prompt} judges "
                    f"{' and '.join(judged)} requests)"
                )
    return None


def _curves(params: Params) -> Findings:
    measurable = [name for name in params.evaluate.suites if not is_utility(name)]
    known = {"models": params.models, "suites": measurable, "decoders": params.evaluate.decoders}
    for key, rows in known.items():
        for at, name in values_at(params, f"relearn.*.{key}.[]"):
            if name not in rows:
                yield at, f"must name rows that are there {among(name, 'those that fit', rows)}"
    sources = dialogues(params)
    for at, name in values_at(params, "relearn.*.source", "attacks.*.source"):
        if name not in sources:
            yield at, f"must be a dialogue source of sources {among(name, 'those', sources)}"
    for at, row in values_at(params, "relearn.*"):
        for model in row.models:
            yield from _positions(params, model, (*at, "sequence_length"), row.sequence_length)


def _positions(params: Params, model: str, at: Location, length: int) -> Findings:
    shape = shape_of(params, params.models[model]) if model in params.models else None
    if shape and length > shape.positions:
        name = params.models[model].shape
        yield at, f"must be at most the {shape.positions} positions of shape {name} (got {length})"


def _attack(params: Params, row: AttackRow) -> Iterator[tuple[str, str]]:
    suites = params.evaluate.suites
    weight = getattr(row, "tag_weight", 0.0)
    for model in row.models:
        if weight and model in params.models and not _reads_tags(params, model):
            yield (
                "tag_weight",
                f"must be 0.0 for a model that reads no tagged corpus (got {weight:g}, and "
                f"{model}); write 0.0, or leave the model out",
            )
    if row.suite not in suites:
        yield "suite", f"must be one of evaluate.suites {among(row.suite, 'those', suites)}"
    elif row.suite in stems(SUITES):
        yield from _attacked_suite(row.suite, row)


def _attacked_suite(name: str, row: AttackRow) -> Iterator[tuple[str, str]]:
    """Check that a suite can be attacked."""
    suite = Suite.read(name)
    if not suite.is_harmful:
        yield "suite", f"must be of kind harmful (got {name}, of kind {suite.kind})"
    elif isinstance(row, TargetedAttack) and not (row.target or getattr(suite, "target", True)):
        yield (
            "target",
            f"must say how an answer to {name} begins (got null); write target: Sure, here is",
        )


def _reads_tags(params: Params, model: str) -> bool:
    """Return whether some phase of a model's mixture reads a tagged corpus."""
    return any(tags_of(corpus) for corpus in corpora_of(params, model))
