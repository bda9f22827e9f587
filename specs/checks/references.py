"""Names in params.yaml that must be those of other rows, or of files of specs/, by their paths."""

from operator import attrgetter

from specs import SPECS
from specs.checks.files import stems
from specs.judge import JUDGES
from specs.messages import Findings, unknown_file, unknown_row
from specs.params import Params
from specs.prompt import PROMPTS
from specs.rubric import RUBRICS
from specs.scorer import RECIPES
from specs.shape import SHAPES
from specs.spec import Spec, values_at
from specs.suite import SUITES

# Names of scorers that label documents.
LABELLED_BY = ("annotate.judge", "annotate.pool.*.judge", "annotate.pool.*.beside.*", "audit.judge")
# Names of sources of dialogues, which a model is trained on.
TUNING = ("instruct.*.source", "finetune.*.source")
# Names of engines that must be language models.
ASKED = ("scorers.*.engine", "evaluate.judges.*.engine")
# Names of engines that write, and of scorers that grade what they write.
WRITERS = ("rephrase.*.engine", "refuse.*.engine", "educate.*.engine")
GATES = ("rephrase.*.gate", "refuse.*.gate", "educate.*.gate")
# The table whose rows the names at a path must be.
ROWS = {
    **dict.fromkeys((*LABELLED_BY, *GATES), "scorers"),
    **dict.fromkeys(WRITERS, "engines"),
    **dict.fromkeys(TUNING, "sources"),
    "annotate.pool.*.source": "sources",
    "annotate.pool.*.draw.of.*": "scorers",
    "annotate.pool.*.draw.labels": "scorers",
    "fit.operating_point.source": "sources",
    "score.sources.*": "sources",
    "score.scorers.*": "scorers",
    "scorers.*.expensive": "scorers",
    "sources.*.filters.*": "filters",
    "educate.*.from": "refuse",
    "models.*.mixture": "mixtures",
    "models.*.budget": "budgets",
    "models.*.instruct": "instruct",
    "models.*.finetune": "finetune",
    "instruct.*.tag": "tags",
    "evaluate.tagged_models_only.[]": "evaluate.decoders",
    "evaluate.checkpoint_decoders.[]": "evaluate.decoders",
    "evaluate.judges.*.scorer": "scorers",
    "external_models.*.decoders.[]": "evaluate.decoders",
    "attacks.*.models.*": "models",
    "attacks.*.decoders.*": "evaluate.decoders",
    "comparisons.standard": "models",
    "comparisons.filtered": "models",
    "comparisons.safe": "models",
    "comparisons.ablation.*": "models",
    # Their keys are numbers here and text in the file, so that no line is known of a key.
    "comparisons.amounts.*.[]": "models",
    "comparisons.starts.*.[]": "models",
}
# The folder whose files the names at a path must be, without .yaml.
FILES = {
    "filters.*.suites.*": SUITES,
    "scorers.*.rubric": RUBRICS,
    "scorers.*.recipe": RECIPES,
    "rephrase.*.prompts.[]": PROMPTS / "rephrase",
    "refuse.*.prompts.[]": PROMPTS / "refuse",
    "educate.*.prompts.[]": PROMPTS / "educate",
    "models.*.shape": SHAPES,
    "evaluate.judges.*.prompt": JUDGES,
}
# The table that has a row for each folder of build/<origin>.
TABLES = {
    "clean": "sources",
    "rephrase": "rephrase",
    "refuse": "refuse",
    "educate": "educate",
    "tag": "tags",
}


def check_references(params: Spec) -> Findings:
    """Require a row or a file for every name in params.yaml, or in a file with blocks of it."""
    for path, table in ROWS.items():
        for at, name in values_at(params, path):
            rows = attrgetter(table)(params)
            if name not in rows:
                yield at, unknown_row(table, name, rows)
    for path, folder in FILES.items():
        files = stems(folder)
        for at, name in values_at(params, path):
            if name not in files:
                yield at, unknown_file(f"specs/{folder.relative_to(SPECS)}", name, files)


def row_of(params: Params, path: str) -> Spec | None:
    """Return the row whose documents lie in build/<path>; None where it is missing."""
    origin, _, name = path.partition("/")
    row: Spec | None = getattr(params, TABLES[origin]).get(name)
    return row
