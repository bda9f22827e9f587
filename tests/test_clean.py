"""Cleaning: filters of DataTrove, language, near-duplicates and overlap with suites, by name."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

import eldc
import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter

from safelm.builder.blocks import Block, Task
from safelm.builder.manifest import Manifest
from safelm.builder.paths import build
from safelm.builder.shards import shards
from safelm.cleaning.clean import clean
from safelm.cleaning.filters import WORDS, DropByDatatrove, DropByLanguage, DropOverlap
from safelm.cleaning.near_duplicates import MinHash
from safelm.documents.shards import text_digest
from safelm.text.word_hashes import hash_ngrams, hash_words
from specs.filter import (
    LANGUAGES,
    REFUSED,
    DatatroveFilter,
    FilterRow,
    LanguageFilter,
    NearDuplicates,
    OverlapFilter,
    datatrove_filters,
)
from tests.ingested import forget, ingested, rows_of, stage
from tests.test_specs import complaints

VOCABULARY = [f"{first}{second}" for first in "abcdefghijklmno" for second in "aeiou" * 20]
NEAR = NearDuplicates(kind="near_duplicates", ngram=3, bands=28, rows=16, seed=1)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = Path("specs").absolute()
    monkeypatch.chdir(tmp_path)
    Path("specs").symlink_to(specs)


def page(seed: int, words: int = 120) -> list[str]:
    """Words of a page that shares no n-gram with the page of another seed."""
    draw = Random(seed)
    return [f"{draw.choice(VOCABULARY)}{draw.randrange(1000)}" for _ in range(words)]


def kept(block: Block, texts: Iterable[str]) -> list[str]:
    block.begin(Task("t", ()), Path())
    documents = [Document(text=text, id=text_digest(None, text)) for text in texts]
    return [document.text for document in block.run(documents)]


def cleaned(
    texts: Sequence[str], filters: dict[str, FilterRow], size: int = 100, **prompts: list[str]
) -> Manifest:
    ingested("ingest/web", [{"text": text} for text in texts], size)
    return clean("clean/web", build("ingest", "web"), filters, prompts)


def texts_of(folder: str = "clean") -> list[str]:
    return [row["text"] for row in rows_of(build(folder, "web"))]


# ── the stage ──


def test_without_filters_the_files_have_the_same_bytes() -> None:
    cleaned([" ".join(page(seed)) for seed in range(30)], {}, size=10)
    before, after = (shards(build(folder, "web")) for folder in ("ingest", "clean"))
    assert [(file.name, file.sha256) for file in before] == [
        (file.name, file.sha256) for file in after
    ]


def test_the_stage_applies_the_filters_that_a_source_names() -> None:
    source = {"reader": "demo", "path": "specs", "license": "CC0-1.0", "filters": ["suites"]}
    filters = {"suites": {"kind": "overlap", "suites": ["harmful"], "ngram": 8, "min_share": 0.9}}
    Path("params.yaml").write_text(json.dumps({"sources": {"web": source}, "filters": filters}))
    from safelm.demo.prompts import held_out_prompts

    prompt = held_out_prompts("harmful", "chat", 1)[0].text
    ingested("ingest/web", [{"text": f"He asked: {prompt}"}, {"text": "Roses are red."}])
    stage("clean", "web")
    assert texts_of() == ["Roses are red."]
    assert Manifest.read(build("clean", "web")).ledger.dropped == {"suites/harmful": 1}


def test_filters_run_in_their_order_and_every_drop_is_named() -> None:
    original = " ".join(page(1))
    texts = [original, f"{original} again", "# # # #", " ".join(page(2)), "Buy now: " + original]
    rows: dict[str, FilterRow] = {
        "ads": DatatroveFilter(
            kind="datatrove", block="RegexFilter", arguments={"regex_exp": "Buy"}
        ),
        "near": NEAR,
        "symbols": DatatroveFilter(
            kind="datatrove", block="RegexFilter", arguments={"regex_exp": "^#"}
        ),
    }
    manifest = cleaned(texts, rows, size=2)
    assert texts_of() == [original, " ".join(page(2))]
    assert manifest.ledger.summary() == (
        "5 in = 2 out + 3 dropped (ads/RegexFilter 1, near 1, symbols/RegexFilter 1)"
    )


def test_two_near_duplicate_filters_may_follow_each_other() -> None:
    text = " ".join(page(1))
    manifest = cleaned([text, f"{text} more"], {"near": NEAR, "again": NEAR})
    assert manifest.ledger.dropped == {"near": 1}


# ── near-duplicates ──


def similarity(first: Sequence[str], second: Sequence[str]) -> float:
    sets = [set(hash_ngrams(hash_words(" ".join(text)), 3).tolist()) for text in (first, second)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def plant(words: list[str], kind: int) -> list[str]:
    """Change a page in one of five ways: a Jaccard similarity of 0.9 or more is left."""
    draw = Random(kind)
    place = draw.randrange(20, len(words) - 20)
    if kind == 0:  # a footer
        return [*words, "all", "rights", "reserved"]
    if kind == 1:  # a title
        return ["home", "page", *words]
    if kind == 2:  # another word
        return [*words[:place], "other", *words[place + 1 :]]
    if kind == 3:  # cut
        return words[: int(len(words) * 0.95)]
    return [word.upper() + "," for word in words[:place]] + words[place + 1 :]


def test_planted_duplicates_of_five_kinds_are_found() -> None:
    pages = [page(seed) for seed in range(60)]
    planted = [plant(words, seed % 5) for seed, words in enumerate(pages)]
    assert all(similarity(*pair) >= 0.9 for pair in zip(pages, planted, strict=True))
    originals = [" ".join(words) for words in pages]
    manifest = cleaned([*originals, *(" ".join(words) for words in planted)], {"near": NEAR})
    assert manifest.ledger.dropped == {"near": 60}
    assert texts_of() == originals  # the first of the source is kept


def test_half_equal_pages_are_kept() -> None:
    texts = []
    for seed in range(60):
        words = page(seed)
        other = [*words[:80], *page(1000 + seed, 40)]
        assert similarity(words, other) == pytest.approx(0.5, abs=0.02)
        texts += [" ".join(words), " ".join(other)]
    assert cleaned(texts, {"near": NEAR}).ledger.dropped == {}


def test_bands_agree_as_often_as_the_formula_says() -> None:
    minhash, draw = MinHash(bands=200, rows=2, seed=3), np.random.default_rng(1)
    shared = []
    for _ in range(40):
        ngrams = draw.integers(0, 1 << 63, 130, dtype=np.uint64) * np.uint64(2)
        first, second = minhash.band_hashes(ngrams[:100]), minhash.band_hashes(ngrams[30:])
        shared.append((first == second).mean())
    assert np.mean(shared) == pytest.approx((70 / 130) ** 2, abs=0.02)


def test_a_chain_of_duplicates_is_one_cluster() -> None:
    words = page(1, 400)
    chain = [" ".join(words[start : start + 300]) for start in range(0, 100, 4)]
    cleaned(chain, {"near": NEAR})
    assert texts_of() == chain[:1]


@pytest.mark.parametrize("size", [1, 7])
def test_the_documents_kept_do_not_depend_on_shards_or_workers(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = []
    for seed in range(12):
        texts += [" ".join(page(seed)), " ".join(plant(page(seed), 0))]
    cleaned(texts, {"near": NEAR})
    expected = texts_of()
    forget()
    monkeypatch.setenv("SAFELM_WORKERS", "2")
    monkeypatch.setattr("safelm.builder.executors.local.SMALL", 0)
    monkeypatch.setattr("safelm.cleaning.near_duplicates.PART", 5)
    cleaned(texts, {"near": NEAR}, size)
    assert texts_of() == expected == texts[::2]


def test_a_text_without_words_is_no_duplicate_and_dialogues_count_with_their_prompt() -> None:
    ingested(
        "ingest/web",
        [
            {"text": "!"},
            {"text": "?"},
            {"text": "Yes, gladly.", "prompt": " ".join(page(1))},
            {"text": "Yes, gladly.", "prompt": " ".join(page(2))},
        ],
    )
    manifest = clean("clean/web", build("ingest", "web"), {"near": NEAR}, {})
    assert manifest.ledger.dropped == {}


def test_words_of_scripts_without_spaces_are_letters() -> None:
    assert len(hash_words("今天天气很好, hello world_2 สวัสดี")) == 6 + 3 + 4
    assert len(hash_words("")) == 0


# ── DataTrove ──

GARDEN = " ".join(
    f"The rose of garden {number} is red and the tree is tall, with a view of the river."
    for number in range(8)
)


def test_a_block_drops_what_datatrove_drops_for_its_reason() -> None:
    texts = [GARDEN, "Too short.", "# " * 60 + GARDEN, "word " * 90]
    for kind in (GopherQualityFilter, GopherRepetitionFilter):
        bare = [kind(language=WORDS).filter(Document(text=text, id="")) for text in texts]
        block = DropByDatatrove(row="quality", block=kind.__name__, arguments={})
        expected = [text for text, result in zip(texts, bare, strict=True) if result is True]
        assert kept(block, texts) == expected
        reasons = {f"quality/{result[1]}" for result in bare if result is not True}
        assert set(block.dropped) == reasons and sum(block.dropped.values()) == 4 - len(expected)


def test_an_edited_text_has_its_own_id_and_no_twin() -> None:
    edited = GARDEN.replace(". ", ".\n")
    row = DatatroveFilter(kind="datatrove", block="C4QualityFilter", arguments={})
    manifest = cleaned([f"{edited}\nSkip to content", f"Home\n{edited}"], {"c4": row}, size=1)
    (document,) = rows_of(build("clean", "web"))
    assert document["text"] == edited and document["id"] == text_digest(None, edited)
    assert manifest.ledger.dropped == {"duplicate": 1}


def test_a_page_at_which_a_block_fails_is_quarantined() -> None:
    arguments = {"min_doc_words": None, "min_avg_word_length": None, "max_avg_word_length": None}
    block = DropByDatatrove(row="quality", block="GopherQualityFilter", arguments=arguments)
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning):
        assert kept(block, ["", GARDEN]) == [GARDEN]
    assert [row["reason"] for row in block.quarantined] == ["quality/ZeroDivisionError"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("block: GopherQualtyFilter", "did you mean GopherQualityFilter?"),
        ("block: LanguageFilter", "it downloads a fastText model; write a row of kind: language"),
        ("block: SamplerFilter", "its draws depend on the order of documents"),
        ("block: RegexFilter", "arguments.regex_exp is missing"),
        (
            "block: GopherQualityFilter, arguments: {min_doc_word: 3}",
            "arguments.min_doc_word is no argument of GopherQualityFilter; did you mean "
            "min_doc_words?",
        ),
        (
            "block: GopherQualityFilter, arguments: {min_doc_words: few}",
            "arguments.min_doc_words must be a number or null, such as 50 (got 'few')",
        ),
        (
            "block: C4QualityFilter, arguments: {filter_policy: 1}",
            "arguments.filter_policy must be true or false (got 1)",
        ),
    ],
)
def test_a_wrong_block_or_argument_is_refused_with_what_to_write(
    tmp_path: Path, row: str, words: str
) -> None:
    edit = ("filters: {} ", f"filters:\n  mine: {{kind: datatrove, {row}}} ")
    (message,) = complaints(tmp_path, edit)
    assert "filters.mine" in message and words in message


def test_every_filter_of_datatrove_is_usable_or_refused_with_a_reason() -> None:
    import datatrove.pipeline.filters as module

    exported = {name for name in vars(module) if name.endswith("Filter")}
    assert exported == set(datatrove_filters()) and set(REFUSED) < exported
    for name in exported - set(REFUSED) - {"RegexFilter"}:
        block = DropByDatatrove(row="a", block=name, arguments={})
        kept(block, [GARDEN])
        assert block.quarantined == []


# ── language ──

SENTENCES = {
    "en": "The committee will meet again next week to discuss the results of the study.",
    "de": "Der Ausschuss trifft sich nächste Woche wieder, um die Ergebnisse zu besprechen.",
    "fr": "Le comité se réunira de nouveau la semaine prochaine pour discuter des résultats.",
    "es": "El comité se reunirá de nuevo la próxima semana para hablar de los resultados.",
    "it": "Il comitato si riunirà di nuovo la prossima settimana per discutere i risultati.",
    "pl": "Komisja zbierze się ponownie w przyszłym tygodniu, aby omówić wyniki badania.",
    "fi": "Valiokunta kokoontuu jälleen ensi viikolla keskustelemaan tutkimuksen tuloksista.",
    "ru": "Комитет снова соберётся на следующей неделе, чтобы обсудить результаты.",
    "ja": "委員会は来週また集まり、研究の結果について話し合う予定です。",
    "ar": "ستجتمع اللجنة مرة أخرى الأسبوع المقبل لمناقشة نتائج الدراسة.",
}


def language(*languages: str, min_score: float = 0.5) -> DropByLanguage:
    return DropByLanguage(
        row="own", languages=list(languages), min_score=min_score, min_characters=20
    )


@pytest.mark.parametrize("code", SENTENCES)
def test_sentences_of_one_language_are_kept_and_others_named(code: str) -> None:
    block = language(code)
    assert kept(block, SENTENCES.values()) == [SENTENCES[code]]
    assert block.dropped == {f"own/{other}": 1 for other in SENTENCES if other != code}


def test_short_and_uncertain_texts_are_dropped_under_their_own_names() -> None:
    block = language("en")
    assert kept(block, ["Yes.", "12345 67890 !!! 42 42 42 42", SENTENCES["en"]]) == [
        SENTENCES["en"]
    ]
    assert block.dropped == {"own/short": 1, "own/uncertain": 1}


def test_nul_does_not_end_a_text() -> None:
    assert kept(language("de"), [f"a\0{SENTENCES['de']}"]) == [f"a\0{SENTENCES['de']}"]


def test_the_languages_of_the_grammar_are_those_of_the_library(tmp_path: Path) -> None:
    assert LANGUAGES.split() == list(eldc.LANGUAGES)
    row = "{kind: language, languages: [xx], min_score: 0.5, min_characters: 20}"
    (message,) = complaints(tmp_path, ("filters: {} ", f"filters:\n  mine: {row} "))
    assert "filters.mine.languages.0: must be the code of a language" in message
    assert LanguageFilter(kind="language", languages=["en"], min_score=0.5, min_characters=1)


# ── overlap and usage ──

PROMPT = "Tell me, how does one whistle a tune in the library at night?"


def test_a_page_that_holds_a_prompt_is_dropped_by_the_suite() -> None:
    prompts = {"mine": [PROMPT, "Hum aloud"], "other": ["Sing a song for the whole town please"]}
    block = DropOverlap(row="suites", prompts=prompts, ngram=5, min_share=0.7)
    texts = [
        f"So he said: {PROMPT} And left.",
        PROMPT.replace("night", "noon"),
        "HUM ALOUD!",
        "Please hum. Aloud.",
        "He would sing a song for the whole town, please. Hum alone",
        PROMPT.replace("library", "garden"),
    ]
    assert kept(block, texts) == [texts[5]]
    assert block.dropped == {"suites/mine": 4, "suites/other": 1}
    assert OverlapFilter(kind="overlap", suites=["harmful"], ngram=5, min_share=0.5)


@pytest.mark.parametrize(
    ("suite", "words"),
    [
        ("harmfull", "must be a file of specs/suites (got harmfull"),
        ("utility", "must be a suite of prompts (got utility, of kind utility"),
    ],
)
def test_only_suites_of_prompts_can_be_looked_for(tmp_path: Path, suite: str, words: str) -> None:
    row = f"{{kind: overlap, suites: [{suite}], ngram: 13, min_share: 0.8}}"
    (message,) = complaints(tmp_path, ("filters: {} ", f"filters:\n  mine: {row} "))
    assert "filters.mine.suites.0" in message and words in message


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ("[english]", "sources.math.filters.0: must be a row of filters (got english"),
        ("[mine, mine]", "sources.math.filters.1: must name a filter once (got mine twice)"),
    ],
)
def test_a_source_names_rows_of_filters_once(tmp_path: Path, filters: str, words: str) -> None:
    row = "{kind: near_duplicates, ngram: 5, bands: 28, rows: 16, seed: 1}"
    edits = [
        ("math.yaml, ", f"math.yaml, filters: {filters}, "),
        ("filters: {} ", f"filters:\n  mine: {row} "),
    ]
    (message,) = complaints(tmp_path, *edits)
    assert words in message


def test_no_model_is_trained_on_a_source_for_evaluation(tmp_path: Path) -> None:
    usage = "usage: evaluation_only, "
    messages = complaints(tmp_path, ("math.yaml, ", f"math.yaml, {usage}"))
    assert len(messages) == 4  # once for each phase that reads it
    assert all("math has usage: evaluation_only; leave the part out" in text for text in messages)
    (message,) = complaints(tmp_path, ("chat.yaml, ", f"chat.yaml, {usage}"))
    assert "instruct.default.source: must not be chat, which has usage: evaluation_only" in message
