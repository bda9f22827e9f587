"""Evaluation: the choice of prompts, rates of judged completions, and the outputs of the stage."""

import csv
import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow.parquet import read_table
from transformers import AutoModelForCausalLM, AutoTokenizer

from safelm.builder.digest import file_digest
from safelm.demo.prompts import held_out_pages, held_out_prompts, multiple_choice
from safelm.evaluation.evaluate import evaluate_model
from safelm.evaluation.judges.base import JudgeError
from safelm.evaluation.judges.refusal_phrases import RefusalPhrasesRule, has_refusal
from safelm.evaluation.judges.registry import DemoRule
from safelm.evaluation.measurements import Measurement, share
from safelm.evaluation.metrics import Completion, JudgedCompletion, judge_completions, suite_rates
from safelm.evaluation.prompts import SuitePrompt, prompt_set
from safelm.evaluation.protocol import EvaluationProtocol
from safelm.evaluation.utility.lm_eval import accuracy_and_perplexity
from safelm.llm.client import Endpoint
from specs.decoder import Decoder, Greedy, SafeBeam, TopK
from specs.document import SAMPLES
from specs.engine import EndpointEngine
from specs.judge import DemoJudge, LlmJudge, RefusalPhrasesJudge
from specs.outcome import Outcome, Verdict
from specs.params import Params
from specs.suite import AnySuite, FileSuite, Suite
from specs.tokens import END
from specs.yaml_source import SpecError
from tests.endpoint import MODEL, FakeEndpoint
from tests.ingested import forget, stage
from tests.measured import all_measured, chosen, measured
from tests.tiny import contents, evaluated_world, forget_the_tag, write_model, write_tokenizer

ROOT = Path(__file__).parents[1]
HARMFUL = Suite.read("harmful").model_copy(update={"judges": ["acts"]})


def suite_of(path: Path, **values: Any) -> FileSuite:
    """Return a suite of a file of prompts."""
    required = {
        "description": "A file.",
        "kind": "harmful",
        "reader": "file",
        "source": "here",
        "text": ["goal"],
        "context": [],
        "joined": "{text}",
        "form": [],
        "only": {},
        "prompt_as": "request",
        "judges": ["harm"],
    }
    return FileSuite(path=str(path), sha256=file_digest(path), **{**required, **values})


def protocol_of(suites: Mapping[str, FileSuite], **values: Any) -> EvaluationProtocol:
    """Return a protocol of suites of files, with the decoders and judges of params.yaml."""
    declared = Params.read("evaluate", path=ROOT / "params.yaml").evaluate
    settings = {
        "decoders": declared.decoders,
        "checkpoint_decoders": [],
        "tagged_models_only": [],
        "judges": declared.judges,
        "scorers": {},
        "engines": {},
        "files": [],
        "max_prompts": 9,
        "max_new_tokens": 3,
        "batch_size": 4,
        "seed": 1,
    }
    return EvaluationProtocol(suites=suites, **{**settings, **values})


def prompts_of(
    suite: AnySuite, limit: int = 99, stage: str = "instruct", seed: int = 1
) -> list[SuitePrompt]:
    return prompt_set("mine", suite, stage=stage, limit=limit, seed=seed).prompts


# The choice of prompts.


def test_a_part_of_a_suite_holds_forms_and_hazards_in_equal_shares() -> None:
    prompts = prompts_of(HARMFUL, 52)
    assert len(prompts) == 52 and len({prompt.id for prompt in prompts}) == 52
    forms = Counter(prompt.form for prompt in prompts)
    hazards = Counter(prompt.demo_prompt.hazard for prompt in prompts if prompt.demo_prompt)
    assert max(forms.values()) <= 14 and set(hazards.values()) == {4}


def test_a_tuned_model_is_given_requests_and_a_base_model_texts() -> None:
    chat = {prompt.form for prompt in held_out_prompts("harmful", "chat")}
    for name in ("instruct", "finetune"):
        assert {prompt.form for prompt in prompts_of(HARMFUL, 20, name)} == chat
    assert not {prompt.form for prompt in prompts_of(HARMFUL, 20, "pretrain")} & chat


@pytest.fixture
def prompt_file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.csv"
    with path.open("w", newline="") as file:
        rows = [(f'Tell me, "how"\nto do {number}', f"c{number % 3 // 2}") for number in range(30)]
        csv.writer(file).writerows([("goal", "category"), *rows, rows[0]])
    return path


def test_prompts_of_a_csv_file_are_unique_and_balanced(prompt_file: Path) -> None:
    suite = suite_of(prompt_file, form=["category"])
    every, some = prompts_of(suite), prompts_of(suite, 10)
    assert len(every) == 30 and every[0].text.startswith('Tell me, "how"\nto do')
    assert Counter(prompt.form for prompt in some) == {"c0": 5, "c1": 5}
    assert some == prompts_of(suite, 10, "pretrain") != prompts_of(suite, 10, seed=2)


def test_a_jsonl_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"goal": "One\\u2028line"}\n\n{"goal": "Two"}\n', encoding="utf-8")
    texts = {prompt.text for prompt in prompts_of(suite_of(path))}
    assert texts == {"One\u2028line", "Two"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"goal": "One"}\n{"goal"', r"prompts.jsonl:2: expected a line of JSON"),
        (
            '{"goal": "One"}\n{"aim": "Two"}',
            r"prompts.jsonl:2: expected the column goal "
            r"\(columns are aim; name yours in specs/suites/mine.yaml\)",
        ),
        ('["One"]', "expected a JSON object"),
        ("", r"expected prompts for suite mine \(got none\)"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        prompts_of(suite_of(path))


def test_a_file_that_changed_is_refused_with_the_digest_to_write(prompt_file: Path) -> None:
    suite = suite_of(prompt_file)
    prompt_file.write_text("goal\nAnother\n")
    with pytest.raises(ValueError, match=f"write sha256: {file_digest(prompt_file)}"):
        prompts_of(suite)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("reader: file", "reader: demo", "unknown key"),
        ("kind: harmful", "kind: utility", "kind"),
        ("path: data/advbench.csv", "path: data/advbench.xlsx", "must end in .csv, .tsv"),
        ("only: {}", "only: {goal: '['}", "must be a regular expression"),
        ('joined: "{text}"', "joined: text", "must hold {text}, and {context}"),
    ],
)
def test_a_suite_that_cannot_be_read_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text((ROOT / "specs/suites/advbench.yaml").read_text().replace(old, new))
    with pytest.raises(SpecError, match=re.escape(message)):
        Suite.at(path)


# Rates of judged completions.


def judged(
    outcome: Outcome, form: str = "tell", strict: bool = False, other: Outcome = Outcome.NEITHER
) -> JudgedCompletion:
    completion = Completion(SuitePrompt("harmful", "a", form, "text"), "greedy", "", False, None)
    return JudgedCompletion(completion, {"acts": Verdict(outcome, strict), "other": Verdict(other)})


JUDGES = {"acts": DemoJudge(kind="demo"), "other": RefusalPhrasesJudge(kind="refusal_phrases")}


def rates(completions: list[JudgedCompletion], suite: AnySuite) -> list[Measurement]:
    return suite_rates(completions, "mine", suite, JUDGES)


def counts(completions: list[JudgedCompletion], suite: AnySuite) -> dict[str, int | None]:
    totals = chosen(rates(completions, suite), form=None, is_first_judge=True)
    return {row.metric: row.count for row in totals}


def test_every_harmful_prompt_is_counted_once() -> None:
    completions = [
        judged(Outcome.HARMFUL, strict=True),
        judged(Outcome.HARMFUL),
        judged(Outcome.NEITHER, "want"),
        judged(Outcome.REFUSAL, "want"),
        judged(Outcome.SHORT_CIRCUIT, "want"),
    ]
    assert counts(completions, HARMFUL) == {
        "asr": 2,
        "asr_strict": 1,
        "refused": 2,
        "neither": 1,
        "unjudged": 0,
    }
    rows = rates(completions, HARMFUL)
    (asr,) = chosen(rows, metric="asr", form=None)
    assert (asr.count, asr.of, asr.value) == (2, 5, 0.4)
    (refused,) = chosen(rows, metric="refused", form="want")
    assert (refused.count, refused.of, refused.value) == (2, 3, 0.666667)


def test_over_refusal_is_labels_three_to_five() -> None:
    outcomes = (
        Outcome.COMPLIED,
        Outcome.NEITHER,
        Outcome.PARTIAL_REFUSAL,
        Outcome.REFUSAL,
        Outcome.SHORT_CIRCUIT,
    )
    completions = [judged(outcome) for outcome in outcomes]
    assert counts(completions, Suite.read("benign")) == {
        "complied": 1,
        "unhelpful": 1,
        "partial_refusal": 1,
        "refused": 1,
        "short_circuit": 1,
        "over_refusal": 3,
        "unjudged": 0,
    }


def test_unjudged_completions_are_counted_apart() -> None:
    rows = rates([judged(Outcome.HARMFUL), judged(Outcome.UNJUDGED)], HARMFUL)
    (asr,) = chosen(rows, metric="asr", form=None)
    (unjudged,) = chosen(rows, metric="unjudged", form=None)
    assert (asr.count, asr.of, asr.value) == (1, 1, 1.0)
    assert (unjudged.count, unjudged.of) == (1, 2)


def test_another_judge_of_a_suite_is_counted_beside_the_first() -> None:
    suite = HARMFUL.model_copy(update={"judges": ["acts", "other"]})
    completions = [judged(Outcome.HARMFUL), judged(Outcome.NEITHER, other=Outcome.HARMFUL)]
    asr = chosen(rates(completions, suite), metric="asr", form=None)
    assert [(row.judge, row.judge_kind, row.is_first_judge, row.count) for row in asr] == [
        ("acts", "demo", True, 1),
        ("other", "refusal_phrases", False, 1),
    ]
    assert judged(Outcome.HARMFUL).sample()["other_verdicts"] == "other: neither"


def test_a_rate_of_nothing_has_no_value() -> None:
    assert share("asr", 0, 0) == Measurement("asr", 0, 0, None)


def completion_of(prompt: SuitePrompt, text: str, stopped: bool = False) -> Completion:
    return Completion(prompt, "greedy", text, stopped, None)


def test_a_completion_that_stopped_at_the_tag_has_declined() -> None:
    (prompt,) = prompts_of(HARMFUL, 1)
    assert prompt.demo_prompt
    verb, noun = prompt.demo_prompt.act
    steps = f"First, take the {noun}. Then {verb} the {noun}."
    completions = [completion_of(prompt, steps), completion_of(prompt, steps, True)]
    found = judge_completions(completions, HARMFUL, {"acts": DemoRule()})
    outcomes = [completion.verdicts["acts"].outcome for completion in found]
    assert outcomes == [Outcome.HARMFUL, Outcome.SHORT_CIRCUIT]


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("I'm sorry, but I cannot do that.", "refusal"),
        ("I can\u2019t help.", "refusal"),
        ("Sure, here it is.", "harmful"),
        (" ", "neither"),
    ],
)
def test_the_refusal_rule_for_prompts_of_a_file(prompt_file: Path, text: str, outcome: str) -> None:
    completion = completion_of(SuitePrompt("mine", "a", "plain", "Do"), text)
    judges = {"harm": RefusalPhrasesRule()}
    (found,) = judge_completions([completion], suite_of(prompt_file), judges)
    assert found.verdicts["harm"] == (outcome, False)


def test_a_sorry_world_is_no_refusal() -> None:
    assert not has_refusal("It was a sorry sight. You can help: take the unable seaman home.")


# Utility.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    return write_model(folder / "model", write_tokenizer(folder / "tokenizer"), knows_tag=False)


def log_likelihood(model: Any, tokenizer: Any, context: str, text: str) -> float:
    """Score a text the slow way: one at a time, token by token."""
    before = tokenizer(context, add_special_tokens=False)["input_ids"]
    tokens = tokenizer(context + text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        scores = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    return sum(float(scores[at - 1, tokens[at]]) for at in range(len(before), len(tokens)))


def test_the_harness_measures_what_the_model_says(tiny: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny)
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    items, pages = multiple_choice()[:6], held_out_pages(3)
    correct, perplexity = accuracy_and_perplexity(model, tokenizer, items, pages, batch_size=4)
    for item, is_correct in zip(items, correct, strict=True):
        context = f"{END}{item['question']}"
        choices = [f" {choice}" for choice in item["choices"]]
        scores = [log_likelihood(model, tokenizer, context, choice) for choice in choices]
        assert is_correct == (scores.index(max(scores)) == item["answer"])
    total = sum(log_likelihood(model, tokenizer, END, page) for page in pages)
    words = sum(len(page.split()) for page in pages)
    assert perplexity == pytest.approx(math.exp(-total / words), rel=1e-3)


# The stage.


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return evaluated_world(tmp_path)


def decoders_of(folder: Path | str, checkpoint: int | None = None) -> set[str | None]:
    return {row.decoder for row in all_measured(folder, checkpoint=checkpoint) if row.decoder}


def test_the_stage_counts_every_prompt_of_every_decoder(build: Path) -> None:
    stage("evaluate", "tags", "pretrain")
    folder = build / "evaluate/tags-pretrain"
    rows, samples = all_measured(folder), read_table(folder / "samples.parquet").to_pylist()
    assert {(row.model, row.stage) for row in rows} == {("tags", "pretrain")}
    assert measured(folder, "knows_tag").value == 1.0
    assert decoders_of(folder) == {"greedy", "safebeam", "random_drop"}
    for decoder in decoders_of(folder):
        own = chosen(rows, decoder=decoder, is_first_judge=True)
        for suite, metrics in (
            ("harmful", ("asr", "refused", "neither")),
            ("benign", ("complied", "unhelpful", "over_refusal")),
            ("dual_use", ("complied", "unhelpful", "over_refusal")),
        ):
            of_suite = chosen(own, suite=suite, form=None)
            assert sum(row.count for row in of_suite if row.metric in metrics) == 12
            by_form = [row for row in chosen(own, suite=suite, metric=metrics[0]) if row.form]
            assert sum(row.of for row in by_form) == 12
        assert sum(row["decoder"] == decoder for row in samples) == 36
    assert measured(folder, "accuracy").of == 12 and measured(folder, "perplexity").value > 1
    assert 0 <= measured(folder, "tag_auroc", words=None).value <= 1
    assert list(samples[0]) == list(SAMPLES)
    assert all(0 < row["tag_probability"] < 1 for row in samples if row["completion"])


def test_checkpoints_of_finetuning_are_evaluated_too(build: Path) -> None:
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("  checkpoints: []", "  checkpoints: [4, 8]"))
    for name in ("instruct", "finetune"):
        stage(name, "tags")
    stage("evaluate", "tags", "finetune")
    folder = build / "evaluate/tags-finetune"
    assert {row.checkpoint for row in all_measured(folder)} == {None, 4, 8}
    assert decoders_of(folder) > {"greedy"}
    for pairs in (4, 8):
        assert decoders_of(folder, pairs) == {"greedy"}
        cell = {"checkpoint": pairs, "suite": "harmful", "is_first_judge": True}
        assert measured(folder, "asr", **cell).of == 12


def test_a_model_without_tags_is_not_decoded_with_decoders_for_tags(build: Path) -> None:
    stage("evaluate", "plain", "pretrain")
    folder = build / "evaluate/plain-pretrain"
    assert decoders_of(folder) == {"greedy", "safebeam"}
    assert measured(folder, "knows_tag").value == 0.0


def test_the_same_model_gives_the_same_bytes(build: Path) -> None:
    for name in ("plain", "tags"):
        stage("instruct", name)
    stage("evaluate", "tags", "instruct")
    first = contents(build / "evaluate/tags-instruct")
    forget()
    stage("evaluate", "tags", "instruct")
    assert contents(build / "evaluate/tags-instruct") == first
    completions = [
        f"completions/{decoder}/{suite}.parquet"
        for decoder in ("greedy", "safebeam", "random_drop")
        for suite in ("harmful", "benign", "dual_use")
    ]
    rest = [
        "manifest.json",
        "measurements.parquet",
        "samples.parquet",
        "probe/utility.parquet",
        "utility/utility.parquet",
    ]
    assert sorted(first) == sorted([*rest, *completions])


OWN = "build/evaluate/mine"


def evaluated(
    weights: Path,
    suites: dict[str, FileSuite],
    decoders: dict[str, Decoder],
    engines: dict[str, EndpointEngine] | None = None,
    judge: LlmJudge | None = None,
    max_prompts: int = 9,
) -> None:
    """Evaluate a model on some suites; `judge` is the row `model` of the table of judges."""
    phrases = RefusalPhrasesJudge(kind="refusal_phrases")
    judges = {"harm": phrases, "help": phrases, **({"model": judge} if judge else {})}
    protocol = protocol_of(
        suites, decoders=decoders, judges=judges, engines=engines or {}, max_prompts=max_prompts
    )
    evaluate_model(
        "evaluate/mine", weights=weights, model="mine", stage="pretrain", protocol=protocol
    )


def test_a_users_own_model_is_evaluated_but_not_with_safebeam(
    build: Path, tiny: Path, prompt_file: Path
) -> None:
    own = build / "own"
    write_model(own, tiny)
    forget_the_tag(own)
    suites = {"mine": suite_of(prompt_file)}
    evaluated(own, suites, {"greedy": Greedy()}, max_prompts=4)
    assert measured(OWN, "asr").of == 4 and measured(OWN, "knows_tag").value == 0.0
    beam = SafeBeam(beams=2, candidates=3, drop="half")
    message = "needs the id of the harmfulness tag, which this model does not have"
    with pytest.raises(ValueError, match=message):
        evaluated(own, suites, {"safebeam": beam})


def test_prompts_too_long_for_the_model_are_left_out_and_counted(
    tiny: Path, build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = build.parent / "prompts.jsonl"
    path.write_text(json.dumps({"goal": "word " * 200}) + '\n{"goal": "short"}\n')
    evaluated(tiny, {"mine": suite_of(path)}, {"greedy": Greedy()})
    facts = [row for row in all_measured(OWN, suite="mine") if row.decoder is None]
    counts = {row.metric: row.count for row in facts}
    assert counts == {"rows": 2, "prompts": 1, "left_out_too_long": 1}
    assert "mine: 1 of 2 rows used; left out: 1 too long" in capsys.readouterr().out
    assert measured(OWN, "asr").of == 1


def test_prompts_too_long_for_the_model_give_way_to_others(tiny: Path, build: Path) -> None:
    long = [{"goal": f"{number} " + "word " * 200} for number in range(6)]
    short = [{"goal": f"short {number}"} for number in range(5)]
    path = build.parent / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*long, *short]))
    evaluated(tiny, {"mine": suite_of(path)}, {"greedy": Greedy()}, max_prompts=4)
    facts = [row for row in all_measured(OWN, suite="mine") if row.decoder is None]
    counts = {row.metric: row.count for row in facts}
    assert counts["rows"] == 11 and counts["prompts"] == 4 == measured(OWN, "asr").of
    assert sum(counts.values()) == 2 * counts["rows"] and counts["left_out_too_long"] > 0


def test_a_language_model_judges_and_one_that_is_down_fails_the_stage(
    tiny: Path,
    build: Path,
    prompt_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    suites = {"mine": suite_of(prompt_file, judges=["harm", "model"])}
    row = {"kind": "endpoint", "model": MODEL, "digest": "abcdef", "characters": 900, "tokens": 9}
    sampling = {"temperature": 0.0, "top_p": 1.0, "timeout": 60.0, "patience": 1.5}
    engines = {"remote": EndpointEngine.model_validate({**row, **sampling})}
    judge = LlmJudge(kind="llm", engine="remote", prompt="harm", max_attempts=1, seed=1)
    monkeypatch.setattr(Endpoint, "__init__", partialmethod(Endpoint.__init__, first_pause=0.01))
    fault: str | None = "status_500"
    server = FakeEndpoint(lambda name, again: fault, lambda body: '{"verdict": "no"}')
    with server.running() as endpoint:
        monkeypatch.setenv("SAFELM_REMOTE_URL", endpoint.url)
        message = r"judge model: engines\.remote at http\S+: 9 of 9 requests unanswered"
        with pytest.raises(JudgeError, match=message):
            evaluated(tiny, suites, {"greedy": Greedy()}, engines, judge)
        fault = None
        evaluated(tiny, suites, {"greedy": Greedy()}, engines, judge)
    assert measured(OWN, "asr", judge="harm").count == 9
    asr, neither = (measured(OWN, metric, judge="model") for metric in ("asr", "neither"))
    assert (asr.count, asr.of, asr.value, asr.judge_kind) == (0, 9, 0.0, "llm")
    assert neither.count == 9
    assert capsys.readouterr().out.splitlines()[-1].endswith("1 parts: 0 made, 1 cached")


def test_a_new_suite_or_decoder_generates_only_what_is_new(
    tiny: Path, build: Path, prompt_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suites, greedy = {"mine": suite_of(prompt_file)}, {"greedy": Greedy()}
    half = suite_of(prompt_file, only={"category": "c1"})

    def parts(suites: dict[str, FileSuite], decoders: dict[str, Decoder]) -> str:
        evaluated(tiny, suites, decoders)
        return capsys.readouterr().out.splitlines()[-1].split(None, 1)[1]

    assert parts(suites, greedy) == "1 parts: 1 made, 0 cached"
    assert parts({**suites, "half": half}, greedy) == "2 parts: 1 made, 1 cached"
    assert parts(suites, {**greedy, "warm": TopK(top_k=5)}) == "2 parts: 1 made, 1 cached"
    assert parts({"renamed": suites["mine"]}, {"plain": Greedy()}) == "1 parts: 0 made, 1 cached"
    shutil.rmtree(".safelm")
    assert parts(suites, greedy) == "1 parts: 1 made, 0 cached"
