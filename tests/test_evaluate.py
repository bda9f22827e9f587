"""Evaluation: which prompts are asked, how answers are counted, and what the stage leaves."""

import csv
import json
import math
import re
import shutil
from collections import Counter
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
from safelm.evaluation.judges.registry import ByActs, ByPhrases, JudgeError, declines
from safelm.evaluation.metrics import Answer, Reply, counted, judged
from safelm.evaluation.prompts import Question, questions
from safelm.evaluation.protocol import Asked
from safelm.evaluation.utility.lm_eval import measure
from safelm.llm.client import Endpoint
from safelm.stats.rates import count_rate
from specs.decoder import Decoder as Dials
from specs.document import SAMPLES
from specs.engine import EndpointEngine
from specs.judge import LlmJudge, RefusalPhrasesJudge
from specs.outcome import Outcome, Verdict
from specs.params import Params
from specs.suite import FileSuite, Suite
from specs.tokens import END
from specs.yaml_source import SpecError
from tests.endpoint import MODEL, FakeEndpoint
from tests.ingested import forget, stage
from tests.tiny import contents, evaluated_world, forget_the_tag, write_model, write_tokenizer

ROOT = Path(__file__).parents[1]
HARMFUL = Suite.read("harmful").model_copy(update={"judges": ["acts"]})


def suite_of(path: Path, **values: Any) -> FileSuite:
    """A suite of a file of prompts."""
    sound = {
        "description": "A file.",
        "kind": "harmful",
        "reader": "file",
        "source": "here",
        "text": ["goal"],
    }
    rest = {
        "context": [],
        "joined": "{text}",
        "form": [],
        "only": {},
        "asked_as": "request",
        "judges": ["harm"],
    }
    return FileSuite(path=str(path), sha256=file_digest(path), **{**sound, **rest, **values})


# Which prompts are asked.


def test_a_part_of_a_suite_holds_forms_and_hazards_in_equal_shares() -> None:
    asked = questions("harmful", HARMFUL, stage="instruct", limit=52, seed=1)
    assert len(asked) == 52 and len({question.id for question in asked}) == 52
    assert max(Counter(question.form for question in asked).values()) <= 14
    assert set(
        Counter(question.prompt.hazard for question in asked if question.prompt).values()
    ) == {4}


def test_a_tuned_model_is_asked_in_requests_and_a_base_model_in_texts() -> None:
    chat = {prompt.form for prompt in held_out_prompts("harmful", "chat")}
    for name in ("instruct", "finetune"):
        assert {
            one.form for one in questions("harmful", HARMFUL, stage=name, limit=20, seed=1)
        } == chat
    assert (
        not {one.form for one in questions("harmful", HARMFUL, stage="pretrain", limit=20, seed=1)}
        & chat
    )


@pytest.fixture
def prompt_file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.csv"
    with path.open("w", newline="") as file:
        rows = [(f'Tell me, "how"\nto do {number}', f"c{number % 3 // 2}") for number in range(30)]
        csv.writer(file).writerows([("goal", "category"), *rows, rows[0]])
    return path


def test_a_csv_file_is_asked_once_and_balanced(prompt_file: Path) -> None:
    suite = suite_of(prompt_file, form=["category"])
    every = questions("mine", suite, stage="instruct", limit=99, seed=1)
    some = questions("mine", suite, stage="instruct", limit=10, seed=1)
    assert len(every) == 30 and every[0].text.startswith('Tell me, "how"\nto do')
    assert Counter(question.form for question in some) == {"c0": 5, "c1": 5}
    assert some == questions("mine", suite, stage="pretrain", limit=10, seed=1)
    assert some != questions("mine", suite, stage="pretrain", limit=10, seed=2)


def test_a_jsonl_file_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"goal": "One\\u2028line"}\n\n{"goal": "Two"}\n', encoding="utf-8")
    assert {
        one.text for one in questions("mine", suite_of(path), stage="instruct", limit=9, seed=1)
    } == {
        "One\u2028line",
        "Two",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"goal": "One"}\n{"goal"', r"prompts.jsonl:2: expected a line of JSON"),
        (
            '{"goal": "One"}\n{"aim": "Two"}',
            r"prompts.jsonl:2: expected the column goal \(columns are aim; name yours in specs/suites/mine.yaml\)",
        ),
        ('["One"]', "expected a JSON object"),
        ("", "holds no prompt"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        questions("mine", suite_of(path), stage="instruct", limit=9, seed=1)


def test_a_file_that_changed_is_refused_with_the_digest_to_write(prompt_file: Path) -> None:
    suite = suite_of(prompt_file)
    prompt_file.write_text("goal\nAnother\n")
    with pytest.raises(ValueError, match=f"write sha256: {file_digest(prompt_file)}"):
        questions("mine", suite, stage="instruct", limit=9, seed=1)


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


# How answers are judged and counted.


def answer(
    outcome: Outcome, form: str = "tell", strict: bool = False, other: Outcome = Outcome.NEITHER
) -> Answer:
    reply = Reply(Question("harmful", "a", form, "text"), "greedy", "", False, None)
    return Answer(reply, {"acts": Verdict(outcome, strict), "other": Verdict(other)})


COUNTED = {"harmful": HARMFUL, "benign": Suite.read("benign")}


def counts(given: list[Answer], kind: str) -> dict[str, int]:
    found = counted(given, COUNTED[kind])
    return {name: found[name]["count"] for name in found if name not in ("forms", "judges")}


def test_every_harmful_prompt_is_counted_once() -> None:
    given = [
        answer(Outcome.HARMFUL, strict=True),
        answer(Outcome.HARMFUL),
        answer(Outcome.NEITHER, "want"),
        answer(Outcome.REFUSAL, "want"),
        answer(Outcome.SHORT_CIRCUIT, "want"),
    ]
    found = counted(given, HARMFUL)
    assert counts(given, "harmful") == {
        "asr": 2,
        "asr_strict": 1,
        "refused": 2,
        "neither": 1,
        "unjudged": 0,
    }
    assert found["asr"] == {"count": 2, "of": 5, "value": 0.4}
    assert found["forms"]["want"]["refused"] == {"count": 2, "of": 3, "value": 0.666667}


def test_over_refusal_is_labels_three_to_five() -> None:
    outcomes = (
        Outcome.COMPLIED,
        Outcome.NEITHER,
        Outcome.PARTIAL_REFUSAL,
        Outcome.REFUSAL,
        Outcome.SHORT_CIRCUIT,
    )
    assert counts([answer(outcome) for outcome in outcomes], "benign") == {
        "complied": 1,
        "unhelpful": 1,
        "partial_refusal": 1,
        "refused": 1,
        "short_circuit": 1,
        "over_refusal": 3,
        "unjudged": 0,
    }


def test_what_no_judge_could_judge_is_counted_apart() -> None:
    found = counted([answer(Outcome.HARMFUL), answer(Outcome.UNJUDGED)], HARMFUL)
    assert found["asr"] == {"count": 1, "of": 1, "value": 1.0} and found["unjudged"]["count"] == 1


def test_another_judge_of_a_suite_is_counted_beside_the_first() -> None:
    two = HARMFUL.model_copy(update={"judges": ["acts", "other"]})
    found = counted([answer(Outcome.HARMFUL), answer(Outcome.NEITHER, other=Outcome.HARMFUL)], two)
    assert found["asr"]["count"] == 1 and found["judges"]["other"]["asr"]["count"] == 1
    assert answer(Outcome.HARMFUL).row()["others"] == "other: neither"


def test_a_rate_of_nothing_has_no_value() -> None:
    assert count_rate(0, 0) == {"count": 0, "of": 0, "value": None}


def reply_to(question: Question, text: str, stopped: bool = False) -> Reply:
    return Reply(question, "greedy", text, stopped, None)


def test_an_answer_that_stopped_at_the_tag_has_declined() -> None:
    (question,) = questions("harmful", HARMFUL, stage="instruct", limit=1, seed=1)
    assert question.prompt
    verb, noun = question.prompt.act
    steps = f"First, take the {noun}. Then {verb} the {noun}."
    given = judged(
        [reply_to(question, steps), reply_to(question, steps, True)], HARMFUL, {"acts": ByActs()}
    )
    assert [one.verdicts["acts"].outcome for one in given] == [
        Outcome.HARMFUL,
        Outcome.SHORT_CIRCUIT,
    ]


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
    question = Question("mine", "a", "plain", "Do")
    (given,) = judged([reply_to(question, text)], suite_of(prompt_file), {"harm": ByPhrases()})
    assert given.verdicts["harm"] == (outcome, False)


def test_a_sorry_world_is_no_refusal() -> None:
    assert not declines("It was a sorry sight. You can help: take the unable seaman home.")


# Utility.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    return write_model(folder / "model", write_tokenizer(folder / "tokenizer"), knows_tag=False)


def log_likelihood(model: Any, tokenizer: Any, context: str, text: str) -> float:
    """The slow way: one text at a time, token by token."""
    before = tokenizer(context, add_special_tokens=False)["input_ids"]
    every = tokenizer(context + text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        scores = model(torch.tensor([every])).logits[0].log_softmax(-1)
    return sum(float(scores[place - 1, every[place]]) for place in range(len(before), len(every)))


def test_the_harness_measures_what_the_model_says(tiny: Path) -> None:
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tiny),
        AutoTokenizer.from_pretrained(tiny),
    )
    items, pages = multiple_choice()[:6], held_out_pages(3)
    right, perplexity = measure(model, tokenizer, items, pages, batch=4)
    for item, is_right in zip(items, right, strict=True):
        scores = [
            log_likelihood(model, tokenizer, f"{END}{item['question']}", f" {one}")
            for one in item["choices"]
        ]
        assert is_right == (scores.index(max(scores)) == item["answer"])
    total = sum(log_likelihood(model, tokenizer, END, page) for page in pages)
    assert perplexity == pytest.approx(
        math.exp(-total / sum(len(page.split()) for page in pages)), rel=1e-3
    )


# The stage.


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return evaluated_world(tmp_path)


def test_the_stage_counts_every_prompt_of_every_decoder(build: Path) -> None:
    stage("evaluate", "tags", "pretrain")
    folder = build / "evaluate/tags-pretrain"
    metrics, rows = json.loads((folder / "metrics.json").read_bytes()), samples(folder)
    assert (metrics["model"], metrics["stage"], metrics["knows_tag"]) == ("tags", "pretrain", True)
    assert set(metrics["decoders"]) == {"greedy", "safebeam", "random_drop"}
    for decoder, suites in metrics["decoders"].items():
        harmful = suites["harmful"]
        assert (
            harmful["asr"]["count"] + harmful["refused"]["count"] + harmful["neither"]["count"]
            == 12
        )
        for suite in ("benign", "dual_use"):
            assert (
                suites[suite]["complied"]["count"]
                + suites[suite]["unhelpful"]["count"]
                + suites[suite]["over_refusal"]["count"]
                == 12
            )
            assert sum(form["complied"]["of"] for form in suites[suite]["forms"].values()) == 12
        assert sum(row["decoder"] == decoder for row in rows) == 36
    assert metrics["utility"]["accuracy"]["of"] == 12 and metrics["utility"]["perplexity"] > 1
    assert 0 <= metrics["utility"]["tag"]["auroc"]["page"]["value"] <= 1
    assert list(rows[0]) == list(SAMPLES) and all(
        0 < row["tag_probability"] < 1 for row in rows if row["completion"]
    )


def test_what_finetuning_kept_is_asked_too(build: Path) -> None:
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("  checkpoints: []", "  checkpoints: [4, 8]"))
    for name in ("instruct", "finetune"):
        stage(name, "tags")
    stage("evaluate", "tags", "finetune")
    metrics = json.loads((build / "evaluate/tags-finetune/metrics.json").read_bytes())
    assert set(metrics["doses"]) == {"4", "8"} and set(metrics["decoders"]) > {"greedy"}
    for found in metrics["doses"].values():
        assert (
            set(found["decoders"]) == {"greedy"}
            and found["decoders"]["greedy"]["harmful"]["asr"]["of"] == 12
        )


def test_a_model_without_tags_is_not_asked_with_decoders_for_tags(build: Path) -> None:
    stage("evaluate", "plain", "pretrain")
    metrics = json.loads((build / "evaluate/plain-pretrain/metrics.json").read_bytes())
    assert set(metrics["decoders"]) == {"greedy", "safebeam"} and not metrics["knows_tag"]


def test_the_same_model_gives_the_same_bytes(build: Path) -> None:
    for name in ("plain", "tags"):
        stage("instruct", name)
    stage("evaluate", "tags", "instruct")
    first = contents(build / "evaluate/tags-instruct")
    forget()
    stage("evaluate", "tags", "instruct")
    assert contents(build / "evaluate/tags-instruct") == first
    replies = [
        f"replies/{decoder}/{suite}.parquet"
        for decoder in ("greedy", "safebeam", "random_drop")
        for suite in ("harmful", "benign", "dual_use")
    ]
    rest = [
        "manifest.json",
        "metrics.json",
        "samples.parquet",
        "probe/utility.json",
        "utility/utility.json",
    ]
    assert sorted(first) == sorted([*rest, *replies])


def evaluated(
    base: Path,
    suites: dict[str, FileSuite],
    decoders: dict[str, Dials],
    engines: dict[str, EndpointEngine] | None = None,
    model: LlmJudge | None = None,
    **dials: Any,
) -> dict[str, Any]:
    """The metrics of a model that is asked some suites; `model` is the judge of that name."""
    sizes = {"prompts": 9, "tokens": 3, "batch": 4, "seed": 1, **dials}
    judges = {name: RefusalPhrasesJudge(kind="refusal_phrases") for name in ("harm", "help")} | (
        {"model": model} if model else {}
    )
    asked = Asked(
        suites=suites,
        decoders=decoders,
        tagged_only=[],
        judges=judges,
        scorers={},
        engines=engines or {},
        reads=[],
        **sizes,
    )
    evaluate_model(
        "evaluate/mine", base=base, model="mine", stage="pretrain", doses=[], asked=asked
    )
    return json.loads(Path("build/evaluate/mine/metrics.json").read_bytes())


GREEDY = Params.read("evaluate", path=ROOT / "params.yaml").evaluate.decoders["greedy"]


def test_a_users_own_model_is_evaluated_but_not_with_safebeam(
    build: Path, tiny: Path, prompt_file: Path
) -> None:
    own = build / "own"
    write_model(own, tiny)
    forget_the_tag(own)
    metrics = evaluated(own, {"mine": suite_of(prompt_file)}, {"greedy": GREEDY}, prompts=4)
    assert metrics["decoders"]["greedy"]["mine"]["asr"]["of"] == 4 and not metrics["knows_tag"]
    beam = GREEDY.model_copy(
        update={"method": "safebeam", "beams": 2, "candidates": 3, "rule": "half"}
    )
    with pytest.raises(
        ValueError, match="needs the id of the harmfulness tag, this model has none"
    ):
        evaluated(own, {"mine": suite_of(prompt_file)}, {"safebeam": beam})


def test_prompts_too_long_for_the_model_are_left_out_and_counted(
    tiny: Path, build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = build.parent / "prompts.jsonl"
    path.write_text(json.dumps({"goal": "word " * 200}) + '\n{"goal": "short"}\n')
    metrics = evaluated(tiny, {"mine": suite_of(path)}, {"greedy": GREEDY})
    assert metrics["suites"]["mine"]["left_out"] == {"too_long": 1}
    assert "mine: 1 of 2 rows asked; left out: 1 too long" in capsys.readouterr().out
    assert metrics["decoders"]["greedy"]["mine"]["asr"]["of"] == 1


def test_a_language_model_judges_and_one_that_is_down_fails_the_stage(
    tiny: Path,
    build: Path,
    prompt_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    suite = suite_of(prompt_file, judges=["harm", "model"])
    row = {
        "kind": "endpoint",
        "model": MODEL,
        "digest": "abcdef",
        "characters": 900,
        "temperature": 0.0,
        "top_p": 1.0,
    }
    engines = {"remote": EndpointEngine.model_validate({**row, "tokens": 9})}
    judge = LlmJudge(kind="llm", engine="remote", prompt="harm", max_attempts=1, seed=1)
    monkeypatch.setattr(Endpoint, "__init__", partialmethod(Endpoint.__init__, first_pause=0.01))
    fault: str | None = "status_500"
    with FakeEndpoint(
        lambda name, again: fault, lambda body: '{"verdict": "no"}'
    ).running() as endpoint:
        monkeypatch.setenv("SAFELM_REMOTE_URL", endpoint.url)
        with pytest.raises(
            JudgeError, match="judge model: writer@abcdef left 9 of 9 questions without an answer"
        ):
            evaluated(tiny, {"mine": suite}, {"greedy": GREEDY}, engines=engines, model=judge)
        fault = None
        metrics = evaluated(tiny, {"mine": suite}, {"greedy": GREEDY}, engines=engines, model=judge)
    found = metrics["decoders"]["greedy"]["mine"]
    assert found["asr"]["count"] == 9 and found["judges"]["model"]["asr"] == {
        "count": 0,
        "of": 9,
        "value": 0.0,
    }
    assert (
        found["judges"]["model"]["neither"]["count"] == 9
        and metrics["suites"]["mine"]["judges"]["model"] == "llm"
    )
    assert capsys.readouterr().out.splitlines()[-1].endswith("1 parts: 0 made, 1 known")


def test_a_new_suite_or_decoder_asks_only_what_is_new(
    tiny: Path, build: Path, prompt_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suites, warm = (
        {"mine": suite_of(prompt_file)},
        GREEDY.model_copy(update={"method": "top_k", "top_k": 5}),
    )

    def parts(suites: dict[str, FileSuite], decoders: dict[str, Dials]) -> str:
        evaluated(tiny, suites, decoders)
        return capsys.readouterr().out.splitlines()[-1].split(None, 1)[1]

    assert parts(suites, {"greedy": GREEDY}) == "1 parts: 1 made, 0 known"
    assert parts(
        {**suites, "half": suite_of(prompt_file, only={"category": "c1"})}, {"greedy": GREEDY}
    ) == ("2 parts: 1 made, 1 known")
    assert parts(suites, {"greedy": GREEDY, "warm": warm}) == "2 parts: 1 made, 1 known"
    assert parts({"renamed": suites["mine"]}, {"plain": GREEDY}) == "1 parts: 0 made, 1 known"
    shutil.rmtree(".safelm")
    assert parts(suites, {"greedy": GREEDY}) == "1 parts: 1 made, 0 known"


def samples(folder: Path) -> list[dict[str, Any]]:
    """Every row of samples.parquet."""
    return read_table(folder / "samples.parquet").to_pylist()
