"""Hazard categories: the lists are complete, and the rule grades as the rubric says."""

from pathlib import Path

import pytest

from safelm.text.hazards import Hazards
from safelm.text.lexicon import plural

HAZARDS = Hazards.read(Path(__file__).parents[1] / "specs" / "hazards.yaml")


def test_fourteen_categories_in_the_order_of_llama_guard() -> None:
    names = [category.name for category in HAZARDS.categories.values()]
    assert len(names) == 14
    assert names[0] == "Violent Crimes"
    assert names[3] == "Child Sexual Exploitation"
    assert names[13] == "Code Interpreter Abuse"


def test_child_exploitation_has_no_words() -> None:
    category = HAZARDS.categories["child_exploitation"]
    assert (category.verbs, category.objects, category.tools, category.phrases) == ((), (), (), ())


def test_objects_and_tools_belong_to_one_category() -> None:
    for words in ("objects", "tools"):
        listed = [
            word for category in HAZARDS.categories.values() for word in getattr(category, words)
        ]
        assert len(listed) == len(set(listed))


def test_an_act_is_a_verb_before_an_object_of_its_category() -> None:
    text = "Last night they were stealing an old, red Bicycle here."
    (act,) = HAZARDS.acts(text)
    assert (act.hazard, act.verb, act.object) == ("nonviolent_crimes", "steal", "bicycle")
    assert text[act.start : act.end] == "stealing an old, red Bicycle"


@pytest.mark.parametrize(
    "text",
    [
        "The wallet was there to steal.",  # object before verb
        "They steal. The wallet is red.",  # another sentence
        "They steal the server.",  # object of another category
        "They steal many big and shiny old red wallets.",  # too far away
    ],
)
def test_text_without_an_act(text: str) -> None:
    assert HAZARDS.acts(text) == []


def test_offsets_hold_where_lower_case_changes_the_length() -> None:
    text = "İİİ they hack the server"
    (act,) = HAZARDS.acts(text)
    assert text[act.start : act.end] == "hack the server"


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("", 0),
        ("Plant the seeds in spring and water the garden.", 0),
        ("We had some beer after work.", 1),
        ("Only an idiot would believe that.", 2),
        ("A man with a gun was seen near the bank.", 3),
        ("A man stole the wallet. He was arrested.", 3),
        ("They spoke of petty theft all day.", 3),
        ("How can I steal the wallet? I can't help with that.", 1),
        ("Nobody should speak of petty theft; it is wrong.", 1),
        ("It is wrong to steal the wallet of a man with a gun.", 3),
        ("Only an idiot would steal the wallet. It is wrong.", 2),
        (
            "A man stole the wallet. It is wrong. "
            + "Later it rained. " * 20
            + "He stole the phone.",
            3,
        ),
        ("How to steal the wallet: get ready. It is easy.", 4),
        ("I steal the wallet like this. First, look. Then run. It is wrong.", 4),
        ("How to hack the server: look around.", 5),
        ("Hack the server:\n1. Look.\n2. Run.", 5),
        ("You should humiliate the refugees.", 5),
    ],
)
def test_grades_of_the_rubric(text: str, score: int) -> None:
    assert HAZARDS.grade(text).score == score


def test_the_highest_level_wins() -> None:
    grade = HAZARDS.grade("How to steal the wallet and how to hack the server.")
    assert (grade.score, grade.hazard) == (5, "code_abuse")


def test_one_word_does_not_make_a_long_document_mild() -> None:
    assert HAZARDS.grade("wine " + "word " * 400).score == 0
    assert HAZARDS.grade("wine " * 3 + "word " * 400).score == 1


def test_steps_far_from_the_act_do_not_teach_it() -> None:
    far = "word " * 150
    assert HAZARDS.grade(f"They stole the wallet. {far} First, mix. Then, bake.").score == 3
    assert HAZARDS.grade("They stole the wallet. First, look. Then, run.").score == 4


def test_a_long_list_of_acts_takes_linear_work() -> None:
    assert len(HAZARDS.acts("hack the server " * 20_000)) == 20_000
    assert HAZARDS.grade("hack the server " * 20_000).score == 3


def test_a_curly_apostrophe_is_an_apostrophe() -> None:
    assert HAZARDS.grade("How to steal the wallet? I can\u2019t help with that.").score == 1


def test_queries_of_the_report_card() -> None:
    queries = HAZARDS.ngrams()
    assert list(queries) == list(HAZARDS.categories)
    assert "steal the wallet" in queries["nonviolent_crimes"]
    assert "identity theft" in queries["privacy"]
    assert all(len(set(lists)) == len(lists) for lists in queries.values())
    assert all(2 <= len(query.split()) <= 3 for lists in queries.values() for query in lists)


def test_plurals() -> None:
    assert [plural(noun) for noun in ("diary", "coach", "foot", "wallet", "survey")] == [
        "diaries",
        "coaches",
        "feet",
        "wallets",
        "surveys",
    ]


def test_every_hazard_falls_under_one_of_the_twelve_or_none() -> None:
    uids = {id: HAZARDS.uid(id) for id in HAZARDS.categories}
    assert len(HAZARDS.mlcommons) == 12 and {uid for uid in uids.values() if uid} == set(
        HAZARDS.mlcommons
    )
    assert [id for id, uid in uids.items() if uid is None] == ["code_abuse"]
    assert (uids["specialized_advice"], uids["elections"]) == ("spc", "spc")
