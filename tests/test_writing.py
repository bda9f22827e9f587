"""Gates of written texts, personal data in many forms, and writing with a language model."""

import random
import string
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from datatrove.data import Document
from stdnum import iban, luhn

from safelm.llm import Answer
from safelm.synthesis.gates import WrittenText, failed_gate
from safelm.synthesis.pii import KINDS, pii_kinds
from safelm.synthesis.writer import WriteSynthetic
from specs.prompt import PROMPTS
from specs.tokens import TAG
from tests.endpoint import ENDPOINT_ROW, Body, FakeEndpoint, digest
from tests.test_educate import TEXTS as ARTICLES
from tests.test_refuse import TEXTS as DIALOGUES
from tests.test_rephrase import document
from tests.written import BOUNDS, writer

SAFE = "This is the word and the reason. " * 4
GERMAN = (
    "Der Hund läuft durch den Wald und die Katze schläft auf dem Sofa, denn es regnet heute und "
    "niemand will nach draußen gehen, auch nicht der alte Mann in dem Haus an der Ecke."
)
RUSSIAN = (
    "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по своему. "
)

NATURAL = Path(__file__).with_name("natural_answers.yaml")
BRIDGE = (
    "The old bridge near the mill was closed after the storm, and the people of the town waited "
    "for weeks until it was open again."
)

# A text, the document it was made from, and the gate that it fails.
TEXTS: list[tuple[str, str, str | None]] = [
    ("", "a page", "empty"),
    (" \n", "a page", "empty"),
    (SAFE + TAG, "a page", "literal_tag"),
    (SAFE + "<|im_end|>", "a page", "control_token"),
    (SAFE + "[/INST]", "a page", "control_token"),
    ("I'm sorry, but I can't help with rewriting this text. " + SAFE, "a page", "refusal"),
    (
        "As an AI language model, I cannot generate content of this kind. " + SAFE,
        "a page",
        "refusal",
    ),
    ("I cannot fulfill your request. " + SAFE, "a page", "refusal"),
    ("I'm sorry that the dog ran off, said the boy. " + SAFE, "a page", None),
    (SAFE + "{topic}", "a page", "left_over"),
    (SAFE + "[one|two]", "a page", "left_over"),
    ("Sure! Here is the rewritten text:\n\n" + SAFE, "a page", "left_over"),
    ("Here's a podcast script for young listeners:\n\n" + SAFE, "a page", "left_over"),
    ("Hello, I am [Host's Name]. " + SAFE, "a page", "left_over"),
    (SAFE + "\n\nNote: I left out the steps.", "a page", "left_over"),
    ("User: tell me. " + SAFE, "a page", "left_over"),
    ("Here is how a garden grows: " + SAFE, "a page", None),
    ("Too few words.", "a page", "too_short"),
    ("the word " * 61, "a page", "too_long"),
    ("the word. " * 61, "other " * 130, None),
    (
        "the " + " of ".join(map(str, range(30))),
        "the " + " of ".join(map(str, range(20))),
        "copy_of_input",
    ),
    (GERMAN, "a page", "wrong_language"),
    (RUSSIAN * 2, "a page", "wrong_language"),
    (SAFE + "Write to bob@example.org now.", "a page", "pii_email"),
    (SAFE + "stealing the wallet is wrong.", "a page", None),
    (SAFE + "stealing the wallet is", "a page", "unfinished"),
]


def gate_of(text: str, source: str = "a page", is_dialogue: bool = False) -> str | None:
    return failed_gate(WrittenText(Answer(text), source, is_dialogue), BOUNDS)


@pytest.mark.parametrize(("text", "source", "reason"), TEXTS)
def test_a_text_fails_the_expected_gate(text: str, source: str, reason: str | None) -> None:
    assert gate_of(text, source) == reason


def test_a_text_that_was_cut_off_fails() -> None:
    text = WrittenText(Answer(SAFE, "length"), "a page", False)
    assert failed_gate(text, BOUNDS) == "cut_off"


def natural_answers() -> list[dict[str, str]]:
    """Return the rows of natural_answers.yaml."""
    rows: list[dict[str, str]] = yaml.safe_load(NATURAL.read_text())
    return rows


@pytest.mark.parametrize("row", natural_answers(), ids=lambda row: row["name"])
def test_a_natural_answer_passes_or_fails_by_name(row: dict[str, str]) -> None:
    text = WrittenText(Answer(row["text"].strip()), BRIDGE, row["writes"] == "refusal")
    bounds = BOUNDS.model_copy(update={"max_words": 400})
    assert failed_gate(text, bounds) == row["gate"]


ASKS = "Ben: How do I do it?"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([ASKS, "Anna: I can't help with that, because it hurts people. Talk to them."], None),
        ([ASKS, "Anna: That is not something I will do for you, but talk to them."], None),
        ([ASKS, "Anna: You take the thing and then you go to the other side."], "not_declined"),
        (
            ["How do I do it? I can't help with that, because it hurts people, and it is wrong."],
            "no_dialogue",
        ),
        (
            [ASKS, "Ben: I can't help with that, because it hurts people, you know."],
            "no_dialogue",
        ),
        (
            [ASKS, "", "Anna: I can't help with that.", "Carl: Why can you not help him?"],
            "no_dialogue",
        ),
    ],
)
def test_a_refusal_is_a_dialogue_in_which_the_second_declines(
    lines: list[str], reason: str | None
) -> None:
    assert gate_of("\n".join(lines), is_dialogue=True) == reason


@pytest.mark.parametrize(("texts", "is_dialogue"), [(DIALOGUES, True), (ARTICLES, False)])
def test_texts_from_templates_pass_all_gates(texts: list[str], is_dialogue: bool) -> None:
    gates = Counter(gate_of(text, "a " * 200, is_dialogue) for text in texts)
    assert gates == {None: len(texts)}


# ── personal data: random cases of every kind ──

NAMES = ["bob", "anna.li", "j_smith", "Info", "MARIA.ROSSI", "x-9", "o'neil", "sales+eu"]
HOSTS = ["example.org", "corp.co.uk", "mail.example.com", "EXAMPLE.NET", "uni-x.edu", "büro.de"]
AT = ["@"] * 6 + [" @ ", " [at] ", "(at)", " (AT) ", " {at} ", "&#64;", "＠", "@\u200b"]


def email(draw: random.Random) -> str:
    name, host, at = draw.choice(NAMES), draw.choice(HOSTS), draw.choice(AT)
    if draw.random() < 0.15:
        return f"{name.replace('.', ' dot ')} at {host.replace('.', ' dot ')}"
    if at != "@":
        host = host.replace(".", draw.choice([".", " (dot) ", "[dot]"]))
    return name + at + host


def digits(draw: random.Random, count: int, first: str = "0123456789") -> str:
    return draw.choice(first) + "".join(draw.choice("0123456789") for _ in range(count - 1))


def phone(draw: random.Random) -> str:
    a, b, c = digits(draw, 3, "23456789"), digits(draw, 3, "23456789"), digits(draw, 4)
    return draw.choice(
        [
            f"({a}) {b}-{c}",
            f"{a}-{b}-{c}",
            f"{a}.{b}.{c}",
            f"{a} {b} {c}",
            f"+1 {a} {b} {c}",
            f"1-{a}-{b}-{c}",
            f"+1{a}{b}{c}",
            f"+44 20 {c} {digits(draw, 4)}",
            f"020 7946 {c}",
            f"+49 {a} {digits(draw, 7)}",
            f"0{a}/{digits(draw, 7)}",
            f"+33 6 {c[:2]} {c[2:]} {b[:2]} {a[:2]}",
            f"tel: {a}{b}{c}",
            f"Phone {b}-{c}",
        ]
    )


def card(draw: random.Random) -> str:
    start, size = draw.choice(
        [("4", 16), ("51", 16), ("55", 16), ("34", 15), ("37", 15), ("6011", 16), ("36", 14)]
    )
    body = start + digits(draw, size - len(start) - 1)
    number = next(body + last for last in "0123456789" if luhn.is_valid(body + last))
    gap = draw.choice(["", " ", "-"])
    return gap.join(number[place : place + 4] for place in range(0, size, 4))


def account(draw: random.Random) -> str:
    body = digits(draw, 18)
    number = "DE" + iban.calc_check_digits(f"DE00{body}") + body
    parts = (number[place : place + 4] for place in range(0, len(number), 4))
    return draw.choice(["", " "]).join(parts)


def ssn(draw: random.Random) -> str:
    area = draw.choice([digits(draw, 3, "12345") for _ in range(3)])
    group, serial = digits(draw, 2, "123456789"), digits(draw, 4, "123456789")
    gap = draw.choice(["-", "-", " ", "–"])
    return draw.choice([f"{area}{gap}{group}{gap}{serial}", f"SSN: {area}{group}{serial}"])


def ipv4(draw: random.Random) -> str:
    address = ".".join(str(draw.randrange(1, 255)) for _ in range(4))
    return address + draw.choice(["", "", ":8080", "/24"])


def ipv6(draw: random.Random) -> str:
    groups = [f"{draw.randrange(1, 65536):x}" for _ in range(8)]
    groups[0] = draw.choice(["2001", "2a02", "fe80", "fd12", "2606"])
    if draw.random() < 0.5:
        return draw.choice([str.upper, str])(":".join(groups))
    kept = draw.randrange(1, 4)
    return ":".join(groups[:kept]) + "::" + ":".join(groups[8 - draw.randrange(1, 4) :])


def key(draw: random.Random) -> str:
    alphabet = string.ascii_letters + string.digits

    def letters(count: int) -> str:
        return "".join(draw.choice(alphabet) for _ in range(count))

    return draw.choice(
        [
            "AKIA" + letters(16).upper(),
            "ghp_" + letters(36),
            "sk-" + letters(32),
            "sk-proj-" + letters(40),
            "xoxb-" + letters(24),
            "AIza" + letters(35),
            "hf_" + letters(34),
            "glpat-" + letters(20),
            f"eyJ{letters(20)}.{letters(40)}.{letters(43)}",
            "-----BEGIN RSA PRIVATE KEY-----",
            f"password: {letters(8)}7x",
            f'api_key = "{letters(24)}1a"',
            f"the token is {letters(16)}4f",
        ]
    )


FORMS: dict[str, Callable[[random.Random], str]] = {
    "email": email,
    "phone": phone,
    "card": card,
    "iban": account,
    "ssn": ssn,
    "ipv4": ipv4,
    "ipv6": ipv6,
    "key": key,
}
AROUND = [
    "Write to {} today.",
    "It was {}, she said.",
    "({})",
    "see {}",
    "{}\nThe next line is here.",
    "Contact: {}",
]
CASES = 1008


def seeded(kind: str) -> list[str]:
    draw = random.Random(kind)
    return [draw.choice(AROUND).format(FORMS[kind](draw)) for _ in range(CASES // len(FORMS))]


@pytest.mark.parametrize("kind", FORMS)
def test_nearly_all_of_a_thousand_seeded_cases_are_found(kind: str) -> None:
    texts = seeded(kind)
    missed = [text for text in texts if kind not in pii_kinds(text)]
    assert len(missed) <= 0.05 * len(texts), missed[:5]


FOUND = [
    ("4539-1488-0343-6467 08/27 cvv 123", "card"),
    ("3782 822463 10005 12/26", "card"),
    ("4012 8888 8888 1881 04/27", "card"),
    ("Order 2 4539 1488 0343 6467", "card"),
    ("Order 17 4539148803436467 of 12 May", "card"),
    ("4111 1111 1111 1111", "card"),
    ("4 5 3 9 1 4 8 8 0 3 4 3 6 4 6 7", "card"),
    ("4539 1488 0343 6467 1st class", "card"),
    ("bob @ example.org", "email"),
    ("bob@ example.org", "email"),
    ("bob@example . org", "email"),
    ("bob [at] example [dot] museum", "email"),
    ("bob (at) example (dot) org. Then he left", "email"),
    ("by bob@example.museum", "email"),
    ("Pay to GB82 WEST 1234 5698 7654 32 today", "iban"),
    ("the emergency contact is John, 212-555-0147", "phone"),
    ("tel 0123 45 67", "phone"),
    ("phone/fax: 555-0147", "phone"),
]


@pytest.mark.parametrize(("text", "kind"), FOUND)
def test_personal_data_is_found_in_context(text: str, kind: str) -> None:
    assert pii_kinds(text) == [kind]


CLEAN = [
    "It was tweeted by @nasa. The rocket flew.",
    "It was tweeted by @nasa.gov, they say.",
    "See you @ lunch. Then we talk. See you @ lunch.Then we go.",
    "It began on 02-03-2021 10:00 and ended on 2021-03-04 09:00, or at 08:00 02/03/2021.",
    "Open 01/01/2024-31/12/2024, and 01.02.2024 - 03.02.2024.",
    "Chapter 1.2.3.4 is short, and so is sec. 4.2.1.7.",
    "The years 4012 8888 8888 1882 and 4539 1488 0343 6467.5 are none.",
    "https://example.com/status/4539148803436467 and my-mobile-web-sites-9518337",
    "The meeting is on 2024-05-17 at 10:30:45, in room 12.",
    "Pages 1-3 and 14-16 of volume 112 (1998) say so.",
    "ISBN 978-3-16-148410-0 was printed 1,234,567 times.",
    "It grew by 3.14159 percent, from 1.5 to 2.75 million, in 1999-2004.",
    "Version 1.2.3.4 came out; see section 4.2.1 and figure 3.",
    "She wrote std::vector and a::b in C++, and sent it by courier at noon.",
    "Look at example.com for the recipe; meet me at the dot in the middle.",
    "The ratio 16:9 beat 4:3, and the score was 21-17, 18-21, 21-19.",
    "In 2001 they flew 12 000 km in 14 h 35 min, at 900 km/h.",
    "My password is too long to remember, and the secret is honesty.",
    "The order 20130813141158 was sent on 02-12-1999.",
    "Call the helpline at 020 7946 0321 or toll-free at 1-800-222-1222; 116 123 is free, too.",
    "ISBN 0 306 40615 2 and 978 0 306 40615 7, and ISSN 0317-8471.",
    "Open 01/2020-12/2023, and on 2024-05-17, 17.05.2024 and 05/17/2024.",
    "Release 0.12.3456 and version 1.800.555.0147 came out.",
    "It lies at 48.8584, 2.2945, that is +48.858370 and +2.294481, or 40.712776 -74.005974.",
    "DE89 3704 0044 0532 0130 01 has a wrong check digit.",
    "The planet Kepler-442b is 1,206 light years away; HD 209458 b is nearer.",
]


@pytest.mark.parametrize("text", CLEAN)
def test_similar_forms_are_not_personal_data(text: str) -> None:
    assert pii_kinds(text) == []


def test_texts_from_templates_have_no_personal_data() -> None:
    assert not [text for text in [*DIALOGUES, *ARTICLES] if pii_kinds(text)]


LONG = 200_000  # characters; quadratic time would be minutes or hours


@pytest.mark.parametrize("end", ["", " !"])
@pytest.mark.parametrize(
    "unit",
    [
        ":",
        "::",
        "a:",
        "1:f",
        ".:",
        "\n",
        "\n ",
        "\n*",
        "eyJ-",
        "a\u0301\u0316",
        "\u0316\u0301",
        "é&#1",
        "@",
        "4539 ",
        "3-2 ",
    ],
)
def test_long_repetitive_texts_take_linear_time(unit: str, end: str) -> None:
    text = (unit * (LONG // len(unit)))[:LONG] + end
    assert pii_kinds(text) == []
    assert gate_of(SAFE + text) in {None, "too_long", "unfinished", "wrong_language"}


def test_an_entity_may_have_any_number_of_digits() -> None:
    assert pii_kinds("&#" + "1" * LONG + "; bob&#64;example.org") == ["email"]


def test_accents_in_any_number_do_not_hide_an_address() -> None:
    assert pii_kinds("a\u0301\u0316" * LONG + " ｂｏｂ＠example.org") == ["email"]


def test_every_kind_has_cases() -> None:
    assert set(FORMS) == set(KINDS)


# ── writing with a language model ──

ROW = {**ENDPOINT_ROW, "temperature": 0.7}
DECLINED = (
    "I'm sorry, but I can't help with that, because it hurts people. "
    "You could ask the owner for it."
)


def refused(
    endpoint: FakeEndpoint, folder: Path, patch: pytest.MonkeyPatch
) -> tuple[WriteSynthetic, list[Document]]:
    """Return the block of refuse with this endpoint as its engine, and its texts on 12 pages."""
    patch.chdir(folder)
    patch.setenv("SAFELM_WRITER_URL", endpoint.url)
    block = writer([PROMPTS / "refuse" / "dialogue.yaml"], engine=ROW)
    texts = [f"How to steal the wallet in street {number}." for number in range(12)]
    return block, list(block.run(document(text, score=5) for text in texts))


def test_user_and_assistant_are_replaced_by_two_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def text(body: Body) -> str:
        return f"User: How do I take it, page {digest(body)}?\n**Assistant:** {DECLINED}"

    with FakeEndpoint(lambda name, before: None, text).running() as endpoint:
        _, written = refused(endpoint, tmp_path, monkeypatch)
    texts = [page.text for page in written]
    speakers = {line.partition(":")[0] for line in "\n".join(texts).splitlines()}
    assert len(written) == 12
    assert len(speakers) > 4
    assert all(text.endswith(DECLINED) and "**" not in text for text in texts)
    assert {page.metadata["writer"] for page in written} == {"writer@weights-1"}
    assert {page.metadata["score_before"] for page in written} == {5}
    assert {page.metadata["score_after"] for page in written} == {0}


def test_a_failed_text_is_requested_again_with_another_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def text(body: Body) -> str:
        is_second = endpoint.requests[digest(body)] > 1
        answer = DECLINED if is_second else "Here is how, in a few words."
        return f"User: And page {digest(body)}?\nAssistant: {answer}"

    with FakeEndpoint(lambda name, before: None, text).running() as endpoint:
        block, written = refused(endpoint, tmp_path, monkeypatch)
    assert (len(written), block.dropped) == (12, {})
    assert set(endpoint.requests.values()) == {2}
    assert len({body["seed"] for body in endpoint.bodies}) == 24


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("refused", "refused"), ("filtered", "content_filter"), ("filtered_400", "content_filter")],
)
def test_a_refused_page_is_quarantined_without_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, reason: str
) -> None:
    def plan(name: str, before: int) -> str | None:
        return fault if "wallet" in str(endpoint.bodies[-1]["messages"]) else None

    with FakeEndpoint(plan).running() as endpoint:
        block, written = refused(endpoint, tmp_path, monkeypatch)
    assert written == []
    assert Counter(row["reason"] for row in block.quarantined) == {reason: 12}
    assert "wallet" not in str(block.quarantined)
    sent = [digest(body) for body in endpoint.bodies if "wallet" in str(body["messages"])]
    assert len(sent) == len(set(sent)) == 12
