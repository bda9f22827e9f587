"""The console command `safelm`.

Each subcommand is a thin layer over a function; `make` calls the same ones. Imports stand inside
the commands, so that `safelm --help` answers at once.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline import message
from safelm.builder.environment import workers

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""Build language models that are safe because of what they read.

    Everything is declared in params.yaml. Run these in the folder of the project:

    \b
      safelm check                    is params.yaml valid?
      safelm build                    build what is out of date
      safelm serve build/instruct/safe --decoder branch

    `make help` lists the targets of the Makefile. docs/ has a page for each task.""",
)


@app.command()
def build(
    jobs: Annotated[
        int,
        typer.Option(
            min=1, help="stages built side by side (default: one a core)", show_default=False
        ),
    ] = workers(),
) -> None:
    """Build what is out of date, down to build/report/index.html.

    \b
      safelm build              what `make repro` calls
      safelm build --jobs 1     one stage after another

    A build that was stopped goes on where it was. What each stage prints is in .safelm/logs.
    """
    from pipeline.build import build_project

    try:
        print(build_project(jobs))
    except KeyboardInterrupt as error:
        raise SystemExit(message(error)) from None


@app.command()
def check(
    schema: Annotated[
        bool, typer.Option("--schema", help="write specs/params.schema.json for editors, no more")
    ] = False,
) -> None:
    """Check params.yaml and every file that it names.

    It takes under a second. Each mistake is shown with its file and line, and so is whatever a
    build needs and cannot find: data, weights, digests, addresses of servers, with the remedy. The
    rows that stages read are brought up to date in dvc.yaml.
    """
    from pipeline.build import require_project
    from pipeline.dependencies import update_dependencies
    from specs import validation

    if schema:
        validation.SCHEMA.write_text(validation.schema(), encoding="utf-8")
        print(f"wrote {validation.SCHEMA.name}")
        return
    require_project()
    if problems := validation.problems(with_addresses=True):
        raise SystemExit("\n".join(map(str, problems)))
    if stages := update_dependencies(with_code=False):
        print(f"dvc.yaml: rows that {', '.join(stages)} read are updated")
    params = validation.read()
    tables = ("sources", "corpora", "mixtures", "models")
    counts = ", ".join(f"{len(getattr(params, table))} {table}" for table in tables)
    print(f"params.yaml is valid: {counts}")


@app.command()
def use(
    name: Annotated[str | None, typer.Argument(help="a setup; default: list them")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="also overwrite edits that are not committed")
    ] = False,
) -> None:
    """Write a setup to params.yaml.

    \b
      safelm use              list the setups
      safelm use continued    train SmolLM2 further, on one GPU in a day
      safelm check            lists what the setup needs: data, weights, digests
      safelm estimate         costs its training
    """
    from pipeline.build import require_project
    from pipeline.dependencies import update_dependencies
    from specs import setup

    if name is None:
        for row, title in setup.titles().items():
            print(f"{row:<12} {title}")
        return
    require_project()
    setup.use(name, force=force)
    update_dependencies(with_code=False)
    print(f"params.yaml is the setup {name}; `safelm check` lists what it needs")


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="a YAML file of rows, such as those shipped")],
) -> None:
    """Add the rows of a file to params.yaml.

    \b
      safelm add specs/experiments/ablation.yaml
      safelm build

    Each model becomes one row for each of its seeds. Rows that are there already stay as they are.
    docs/mixtures.md says what a file may hold.
    """
    from pipeline.build import require_project
    from pipeline.dependencies import update_dependencies
    from specs.add_rows import add as add_rows

    require_project()
    tables = add_rows(file)
    update_dependencies(with_code=False)
    counts = " and ".join(f"{len(names)} rows of {table}" for table, names in tables.items())
    print(f"params.yaml: {counts} added from {file}; `safelm build` builds their branches")


@app.command()
def estimate(
    file: Annotated[Path, typer.Argument(help="a file such as params.yaml")] = Path("params.yaml"),
    model: Annotated[str | None, typer.Argument(help="a row of its models; default: all")] = None,
) -> None:
    """Estimate the steps, memory and GPU hours of training runs.

    \b
      safelm estimate                                every model of params.yaml
      safelm estimate specs/setups/paper.yaml safe   one model of the paper's run

    The block `estimate` of the file has the sizes of corpora and the machines.
    """
    from pipeline.estimate import lines

    print(*lines(file, model), sep="\n")


@app.command()
def judges(
    files: Annotated[list[Path], typer.Argument(help="answers that people have labelled")],
) -> None:
    """Measure how far judges agree with people.

    \b
      safelm judges xstest_v2_completions_gpt4.csv harmbench_labelled.csv

    Judges are the rows of evaluate.judges in params.yaml. A line has accuracy, Cohen's kappa
    and, for a judge that gives scores, the area under the ROC curve: on all answers, by attack,
    model and category where the file has them, and on answers that are made longer, written in
    Markdown, paraphrased at the opening, or without it. docs/evaluation.md lists the files.
    """
    from pipeline.judges import lines

    for file in files:
        print(*lines(file), sep="\n")


@app.command()
def serve(
    model: Annotated[Path, typer.Argument(help="a folder in Hugging Face's format")],
    decoder: Annotated[str, typer.Option(help="a row of evaluate.decoders in params.yaml")],
    host: Annotated[str, typer.Option(help="the address to listen at")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any that is free")] = 8000,
    seed: Annotated[int, typer.Option(help="of decoders that draw")] = 1,
) -> None:
    """Serve a model with a decoder over OpenAI's protocol.

    \b
      safelm serve build/instruct/safe --decoder branch
      safelm serve build/pretrain/safe --decoder safebeam --port 8001

    POST /v1/completions continues a text as in pretraining, POST /v1/chat/completions answers a
    dialogue. The decoder and --seed choose the tokens: temperature, top_p and seed of a request
    are ignored. The finish_reason content_filter says that the decoder stopped at the tag.
    With SAFELM_SERVE_KEY in the environment clients must send it, which a --host that other
    machines reach needs. docs/serving.md has the limits, the fields and examples.
    """
    import pipeline.offline  # noqa: F401  (before transformers)
    from safelm.serve.command import serve as serve_model

    serve_model(model, decoder, host=host, port=port, seed=seed)


@app.command()
def publish(
    to: Annotated[Path, typer.Option(help="a new folder")] = Path("published"),
    push: Annotated[
        str | None, typer.Option(help="upload to this user or organisation of the hub, privately")
    ] = None,
) -> None:
    """Write a finished build as folders of the Hugging Face hub.

    \b
      safelm publish                 into published/: read the cards
      safelm publish --push my-lab   and upload the folders, into private repositories

    Cards are filled from the build. Texts of a source with usage: evaluation_only, or under a
    license that is not known to allow it, are left out and named. docs/sharing.md says more.
    """
    from pipeline.build import require_project
    from pipeline.publish import lines

    require_project()
    for line in lines(to, push):
        print(line)


@app.command()
def pull() -> None:
    """Fetch and verify the build that dvc.lock names.

    \b
      safelm pull && safelm build     take a build from the default remote; runs nothing

    An object that is not the one that dvc.lock names is quarantined and named, and the exit code
    is 1. A bare `dvc pull` hashes nothing before it writes: it trusts every writer of the remote.
    """
    from pipeline.build import require_project
    from safelm.maintenance.pull import pull as pull_build

    require_project()
    if problems := pull_build():
        raise SystemExit("\n".join(problems))
    print("everything that was fetched is what dvc.lock names")


@app.command()
def verify(
    repair: Annotated[
        bool, typer.Option("--repair", help="quarantine bad objects and make only them again")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="hash only files whose time, inode or size changed")
    ] = False,
    earlier: Annotated[
        bool, typer.Option("--all", help="also objects of earlier builds, which DVC may bring back")
    ] = False,
    objects: Annotated[
        bool, typer.Option("--objects", help="only the cache, as after `dvc fetch`: not build/")
    ] = False,
) -> None:
    """Hash what the build needs, and name what is damaged.

    \b
    The exit code is 0 if all is whole, else the sum of
      1  something is corrupt
      2  something is missing
      4  something cannot be verified
    """
    from pipeline.build import require_project
    from safelm.maintenance.verify.command import verify as verify_build

    require_project()
    code = verify_build(repair_found=repair, quick=quick, earlier=earlier, built=not objects)
    raise typer.Exit(code)


@app.command()
def doctor(
    fix: Annotated[
        bool, typer.Option("--fix", help="move leftovers to .safelm/quarantine; deletes nothing")
    ] = False,
) -> None:
    """Name what a crash left behind, with the remedy.

    The exit code is 1 if something is left to be done, else 0.
    """
    from pipeline.build import require_project
    from safelm.maintenance.doctor.examine import doctor as examine

    require_project()
    raise typer.Exit(examine(fix=fix))


@app.command()
def retry(
    stage: Annotated[str, typer.Argument(help="a stage that asks a language model")],
) -> None:
    """Ask a language model again about quarantined rows.

    \b
      safelm retry rephrase     pages that the provider refused to rewrite
      safelm retry annotate     pages without a valid verdict of the judge
      safelm retry evaluate@safe-instruct
      safelm build              then builds what reads them

    Accepted answers are stored and are not requested again. An outage needs no retry: it fails the
    stage, and the next build requests what is missing.
    """
    from pipeline.build import require_project
    from safelm.maintenance.retry import retry as retry_stage

    require_project()
    print(retry_stage(stage))


@app.command()
def gc(
    hours: Annotated[
        float,
        typer.Option(help="keep shards this young although no finished stage has them"),
    ] = 24.0,
) -> None:
    """Free the disk of what no build needs.

    \b
      safelm gc --hours 0     also what a stopped build had made

    A bare `dvc gc` would also take away the shards of a stage that has not finished.
    """
    from pipeline.build import require_project
    from safelm.maintenance.gc import collect_garbage

    require_project()
    print(collect_garbage(hours))


def main() -> None:
    """Run a subcommand; show an error that the user can mend without a traceback."""
    try:
        # Not app(): it would put a hook of Typer in the place of sys.excepthook.
        typer.main.get_command(app)(prog_name="safelm")
    except Exception as error:
        text = message(error)
        if text is None:
            raise
        sys.exit(text)


if __name__ == "__main__":
    main()
