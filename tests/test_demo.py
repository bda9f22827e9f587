"""The made-up world: labels, held-out combinations, balanced prompts, and the same text always."""

import re
import subprocess
import sys
from collections import Counter
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from safelm import demo
from safelm.demo.prompts import held_out_acts
from safelm.demo.sums import numbers
from safelm.seeding import pick_weighted, stream
from safelm.text.grammar import Grammar, parse
from safelm.text.hazards import Hazards

SPECS = Path(__file__).parents[1] / "specs"
PARTS = ("web", "math", "chat", "benign/arithmetic", "benign/how_to")
KINDS = ("harmful", "benign", "dual_use")
WORLD = demo.World.read(SPECS / "demo" / "world.yaml")


@cache
def rows(part: str) -> list[dict[str, Any]]:
    return list(demo.documents(SPECS / "demo" / f"{part}.yaml"))


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


# The grammar.


def test_slots_choices_and_rules() -> None:
    grammar = Grammar({"greet": ["hello, {who}! [nice|good] to see {whom}."], "whom": ["you"]})
    texts = {grammar.write("greet", {"who": "Anna"}, stream(seed)) for seed in range(20)}
    assert texts == {"Hello, Anna! Nice to see you.", "Hello, Anna! Good to see you."}


def test_choices_may_be_nested_and_empty() -> None:
    grammar = Grammar({"a": ["x[| [y|z]]"]})
    assert {grammar.write("a", {}, stream(seed)) for seed in range(30)} == {"X", "X y", "X z"}


@pytest.mark.parametrize("text", ["a [b", "a {b", "a }"])
def test_a_broken_template_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="template"):
        parse(text)


def test_weights_are_shares() -> None:
    draw = stream("weights")
    counts = Counter(pick_weighted({"often": 3, "seldom": 1}, draw) for _ in range(4000))
    assert 0.72 < counts["often"] / 4000 < 0.78


@pytest.mark.parametrize(("kind", "sign"), [("plus", "+"), ("minus", "-"), ("times", "*")])
def test_numbers_are_right_and_not_negative(kind: str, sign: str) -> None:
    draw = stream(kind)
    for _ in range(200):
        first, second, result = numbers(kind, 20, draw)
        assert result == eval(f"{first} {sign} {second}") >= 0
        assert max(first, second) <= 20


# The documents.


@pytest.mark.parametrize("part", PARTS)
def test_a_document_has_its_columns_and_no_open_slot(part: str) -> None:
    for row in rows(part):
        assert set(row) == {"text", "prompt", "label", "hazard", "url", "crawl", "title"}
        assert row["text"] == row["text"].strip() != ""
        assert not re.search(r"[{}\[\]|]", row["text"] + (row["prompt"] or "") + row["title"])


@pytest.mark.parametrize("part", PARTS)
def test_the_same_text_every_time(part: str) -> None:
    assert list(demo.documents(SPECS / "demo" / f"{part}.yaml")) == rows(part)


def test_the_labels_have_their_shares() -> None:
    counts = Counter(row["label"] for row in rows("web"))
    shares = [round(100 * counts[label] / len(rows("web"))) for label in range(6)]
    assert shares == [70, 7, 4, 4, 8, 9]


def test_a_label_above_three_is_the_level_of_its_hazard() -> None:
    for row in rows("web") + rows("chat"):
        if row["label"] > 3:
            assert row["label"] == WORLD.hazards.categories[row["hazard"]].level


def test_every_hazard_but_the_empty_one_has_pages() -> None:
    hazards = Counter(row["hazard"] for row in rows("web") if row["label"] > 3)
    assert set(hazards) == set(WORLD.hazards.categories) - {"child_exploitation"}
    assert min(hazards.values()) > 100


def test_some_pages_are_exact_copies_at_another_address() -> None:
    copies = len(rows("web")) - len({row["text"] for row in rows("web")})
    assert 55 <= copies <= 65
    assert len({row["url"] for row in rows("web")}) == len(rows("web"))


def test_pages_are_short() -> None:
    counts = [len(re.findall(r"\w+|[^\w\s]", row["text"])) for row in rows("web")]
    assert max(counts) < 95
    assert 35 < sum(counts) / len(counts) < 55


def test_the_vocabulary_is_small() -> None:
    seen: set[str] = set()
    for part in PARTS:
        for row in rows(part):
            seen |= words(row["text"] + " " + (row["prompt"] or ""))
    assert 900 < len(seen) < 1250


def test_the_lexicon_rule_agrees_well_but_not_perfectly() -> None:
    hazards = Hazards.read(SPECS / "hazards.yaml")
    graded = [(row["label"], hazards.grade(row["text"]).score) for row in rows("web")]
    for label, least in enumerate((0.97, 0.85, 0.85, 0.9, 0.85, 0.8)):
        scores = [score for known, score in graded if known == label]
        assert least < scores.count(label) / len(scores) < 1


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text("part: pages\nworld: world.yaml\n")
    with pytest.raises(ValueError, match=r"other.yaml part: must be one of web, math"):
        list(demo.documents(path))


# Held-out combinations.


@pytest.mark.parametrize("kind", KINDS)
def test_only_combinations_are_held_out(kind: str) -> None:
    for act in held_out_acts(WORLD, kind):
        assert act not in act.group.training
        assert act.verb in {other.verb for other in act.group.training}
        assert act.object in {other.object for other in act.group.training}


def test_no_other_prompt_names_an_unseen_act_and_their_forms_are_balanced() -> None:
    unseen = held_out_acts(WORLD, "unseen")
    acts = [(act.verb.base, act.object) for act in unseen]
    others = chain(*(held_out_acts(WORLD, kind) for kind in KINDS))
    assert len(acts) == len(set(acts)) > 360
    assert not {(act.verb.base, act.object) for act in others} & set(acts)
    forms = Counter(prompt.form for prompt in demo.held_out_prompts("unseen", "completion", 360))
    assert set(forms.values()) == {72}


@pytest.mark.parametrize("kind", [*KINDS, "unseen"])
def test_no_document_names_a_held_out_act(kind: str) -> None:
    texts = [
        f"{row['title']} {row['prompt']} {row['text']}".lower()
        for part in ("web", "chat")
        for row in rows(part)
    ]
    held = {f"{form} the {act.object}" for act in held_out_acts(WORLD, kind) for form in act.verb}
    assert not [text for text in texts if any(phrase in text for phrase in held)]


@pytest.mark.parametrize("kind", [*KINDS, "unseen"])
def test_every_word_of_a_held_out_act_is_seen_in_the_web(kind: str) -> None:
    seen = set().union(*(words(row["text"]) for row in rows("web")))
    for act in held_out_acts(WORLD, kind):
        assert (
            words(" ".join((act.verb.base, act.verb.gerund, act.object, *act.group.tools))) <= seen
        )


def test_harmful_and_harmless_pages_share_forms_and_objects() -> None:
    def starts(low: int, high: int) -> set[str]:
        return {row["text"].split()[0] for row in rows("web") if low <= row["label"] <= high}

    assert {"Q:", "How", "Student:", "Anna:", "Yesterday"} <= starts(4, 5) & starts(0, 0)
    for group in WORLD.groups["harmful"]:
        assert group.objects in [other.objects for other in WORLD.groups["benign"]]


# The prompts.


@pytest.mark.parametrize(("kind", "acts"), [("harmful", 104), ("benign", 63), ("dual_use", 30)])
@pytest.mark.parametrize(("stage", "forms"), [("completion", 5), ("chat", 4)])
def test_every_held_out_act_has_a_prompt_in_every_form(
    kind: str, acts: int, stage: str, forms: int
) -> None:
    prompts = demo.held_out_prompts(kind, stage)
    assert len({prompt.act for prompt in prompts}) == acts
    assert len({prompt.id for prompt in prompts}) == len(prompts) == acts * forms
    assert set(Counter(prompt.form for prompt in prompts).values()) == {acts}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", ["completion", "chat"])
@pytest.mark.parametrize("limit", [24, 48, 96, 144])
def test_a_first_part_of_the_prompts_is_balanced(kind: str, stage: str, limit: int) -> None:
    prompts = demo.held_out_prompts(kind, stage, limit)
    groups = Counter(prompt.id.split("-")[3] for prompt in prompts)
    forms = Counter(prompt.form for prompt in prompts)
    assert max(groups.values()) - min(groups.values()) <= len(prompts) // 24
    assert max(forms.values()) - min(forms.values()) <= len(prompts) // 12


def test_the_unseen_form_and_the_held_out_phrasings_are_in_no_document() -> None:
    assert not [row for row in rows("web") if "This page explains" in row["text"]]
    starts = {text.split("{")[0] for text in WORLD.table["phrasings"]["held_out"]}
    assert not [row for row in rows("chat") if row["prompt"].startswith(tuple(starts))]


def test_chat_forms_are_phrasings() -> None:
    phrasings = WORLD.table["phrasings"]
    for form, text in WORLD.table["prompts"]["chat"].items():
        assert text in phrasings["held_out" if form.startswith("unseen") else "seen"]


def test_multiple_choice_has_one_right_answer() -> None:
    items = demo.multiple_choice()
    assert len({str(item["id"]) for item in items}) == len(items) == 108
    for item in items:
        assert len(set(item["choices"])) == 4
        verb, noun = str(item["id"]).split("-")[2:]
        acts = held_out_acts(WORLD, "neutral")
        act = next(act for act in acts if act.object == noun)
        right = {"tool": act.tool, "object": noun, "act": f"{verb} the {noun}"}
        assert item["choices"][item["answer"]] == right[str(item["id"]).split("-")[0]]


def test_held_out_text_is_harmless_and_unseen() -> None:
    texts = demo.held_out_pages()
    assert len(texts) == 100
    assert not set(texts) & {row["text"] for row in rows("web")}
    assert not [text for text in texts if WORLD.hazards.acts(text)]


def test_the_world_needs_neither_torch_nor_datatrove() -> None:
    heavy = ("torch", "datatrove", "pyarrow")
    code = f"import sys, safelm.demo; sys.exit(any(name in sys.modules for name in {heavy}))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=SPECS.parent)
