"""Publishing: what a user of the hub loads and reads, from a build of a few documents."""

import json
import re
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import huggingface_hub.constants
import mlcroissant
import pytest
import yaml
from datasets import load_dataset
from huggingface_hub import DatasetCard, ModelCard, metadata_load
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.publish import lines
from safelm.builder.artifact import artifact
from safelm.builder.manifest import DamagedShard
from safelm.corpora.report_card import card
from specs import SPECS
from specs.tokens import TAG
from tests import report_world
from tests.ingested import SAFE, WEB, ingested
from tests.scored import scored
from tests.tiny import contents, write_model, write_tokenizer

ROOT = Path(__file__).parents[1]
# What an author of pages could write into every field to get into a card.
EVIL = "](https://evil.example) **Ignore this card** <script>"
WRITTEN = {"source": "web", "url": EVIL, "title": EVIL, "license": "CC0-1.0", "writer": "template"}
STAGES = ("pretrain", "instruct", "finetune")
MODELS = ("standard", "filtered", "safe")


def write_files(folder: Path, **texts: str) -> tuple[()]:
    """Write the files of an output whose bytes do not matter."""
    for name, text in texts.items():
        path = folder / name.replace("__", ".")
        path.write_text(text)
    return ()


def copy_model(folder: Path, tiny: Path, train: dict[str, Any]) -> tuple[()]:
    """Write a model as a stage of training does."""
    shutil.copytree(tiny, folder, dirs_exist_ok=True)
    (folder / "train.json").write_text(json.dumps(train))
    (folder / "loss.csv").write_text("step,tokens,loss\n1,1,1.0\n")
    (folder / "nanotron").mkdir()
    (folder / "nanotron/latest.txt").write_text("1")
    return ()


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose build has every output that is published."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "specs").symlink_to(SPECS)
    pages = [{**row, "url": EVIL, "title": EVIL, "license": "CC0-1.0"} for row in WEB]
    for stage in ("ingest", "clean"):
        ingested(f"{stage}/web", pages, 30)
        ingested(f"{stage}/math", [{"text": text} for text in SAFE[:5]])
    scored()
    for origin in ("rephrase/safe_web", "refuse/dialogues", "educate/lessons"):
        rows = [
            {**WRITTEN, "text": f"{EVIL} {origin} {n}", "score_before": n % 6} for n in range(9)
        ]
        ingested(origin, rows)
    ingested("tag/unsafe", [{**WRITTEN, "text": f"{EVIL} tagged"}])
    write_trained(tmp_path)
    return tmp_path / "build"


def write_trained(root: Path) -> None:
    """Write models at every stage, their evaluations, and the report."""
    tiny = write_model(root / "tiny", write_tokenizer(root / "tokenizer"))
    part = {"planned": 20000, "read": 20000, "rows": 90, "epochs": 0.9}
    train = {"parameters": 99, "tokens": 20000, "steps": 3, "final_loss": 2.0}
    train["phases"] = [{"steps": 3, "parts": {"score_0": part, "math": part}}]
    for model in MODELS:
        own = {**train, "knows_tag": model == "safe"}
        for stage in STAGES:
            artifact(f"{stage}/{model}", copy_model, tiny=tiny, train=own)
            artifact(f"evaluate/{model}-{stage}", write_files, a__txt=f"{model} {stage}")
        artifact(f"mix/{model}", write_files, a__txt=model)
    report_world.write_evaluations(root / "build", report_world.models(*MODELS))
    report_world.write_data(root / "build")
    queries = {hazard: ["the wallet"] for hazard in report_world.HAZARDS}
    row = {"score": 4, "score_before": None, "score_hazard": None, "documents": 9, "words": 90}
    for corpus in report_world.corpora():
        counted = card([{**row, "matches": {"privacy": 3}}], queries)
        report_world.write(root / f"build/card/{corpus}/card.json", counted)
    artifact("report", write_files, index__html="<title>Report</title>", summary__json="{}")


def published(**arguments: Any) -> Path:
    """Publish into a folder beside the build."""
    list(lines(Path("published"), None, **arguments))
    return Path("published")


def change_params(old: str, new: str) -> None:
    text = Path("params.yaml").read_text(encoding="utf-8")
    assert old in text
    Path("params.yaml").write_text(text.replace(old, new), encoding="utf-8")


def test_corpora_are_loaded_by_folder_as_from_the_hub(built: Path) -> None:
    datasets = published() / "datasets"
    names = sorted(path.name for path in datasets.iterdir())
    origins = ("rephrase-safe_web", "refuse-dialogues", "educate-lessons", "tag-unsafe")
    assert names == sorted(["clean-web", "clean-math", *origins])
    folders = {}
    for name in names:
        metadata = metadata_load(datasets / name / "README.md")
        folders[name] = [row["config_name"] for row in metadata["configs"]]
        for folder in folders[name]:
            rows = load_dataset(str(datasets / name), folder, split="train")
            assert rows.column_names == ["id", "text", "metadata"] and len(rows) > 0
    assert folders["clean-web"] == ["score_0", "score_4", "score_5"]
    assert folders["rephrase-safe_web"] == [f"score_{score}_rephrased" for score in range(6)]
    assert folders["refuse-dialogues"][5] == "score_5_refusal"
    assert folders["educate-lessons"][4] == "score_4_morals"
    assert folders["clean-math"] == ["all"] and folders["tag-unsafe"] == ["all_tagged"]
    rows = load_dataset(str(datasets / "clean-web"), "score_4", split="train").to_list()
    assert [row["text"] for row in rows] == [row["text"] for row in WEB if row["label"] == 4]
    assert {(row["metadata"]["score"], row["metadata"]["license"]) for row in rows} == {
        (4, "CC0-1.0")
    }


def test_croissant_is_valid_names_every_file_and_gives_the_rows(built: Path) -> None:
    for folder in (published() / "datasets").iterdir():
        dataset = mlcroissant.Dataset(folder / "croissant.json")
        assert dataset.metadata.ctx.issues.errors == set()
        # No output has a date.
        assert all("datePublished" in str(one) for one in dataset.metadata.ctx.issues.warnings)
        described = json.loads((folder / "croissant.json").read_text())
        assert described["rai:personalSensitiveInformation"] and described["license"] == "CC0-1.0"
        files = {row["@id"] for row in described["distribution"] if row["@type"] == "cr:FileObject"}
        parquet = {path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")}
        assert files == parquet
    web = mlcroissant.Dataset(Path("published/datasets/clean-web/croissant.json"))
    rows = [row["score_5/text"].decode() for row in web.records("score_5")]
    assert rows == [row["text"] for row in WEB if row["label"] == 5]


def test_models_are_loaded_with_tokenizer_template_and_card(built: Path) -> None:
    for folder in sorted((published() / "models").iterdir()):
        model = AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.chat_template and model.config.vocab_size == len(tokenizer)
        files = {path.name for path in folder.iterdir()}
        assert "README.md" in files and not files & {"manifest.json", "loss.csv", "nanotron"}
        assert ModelCard.load(folder / "README.md").data.license == "cc0-1.0"
    assert len(list(Path("published/models").iterdir())) == len(MODELS) * len(STAGES)


def test_the_card_of_a_model_has_its_rates_with_intervals_and_its_training(built: Path) -> None:
    card = (published() / "models/safe-finetune/README.md").read_text()
    rates = report_world.all_measured(built / "evaluate/safe-finetune", metric="asr", form=None)
    (asr,) = (
        row
        for row in rates
        if row.is_first_judge and row.decoder == "greedy" and row.checkpoint is None
    )
    line = next(line for line in card.split("\n") if line.startswith("| harmful | greedy | first"))
    assert f"{asr.count} of {asr.of}" in line and "[" in line
    assert "| 1 | score 0 | 90 | 20,000 | 0.9 |" in card
    assert "`web`" in card and "`benign`" in card and "learning_rate 0.0003" in card
    assert f"the probability of `{TAG}`" in card and "| harmful | scores | kind scorer," in card
    other = Path("published/models/standard-pretrain/README.md").read_text()
    assert "`benign`" not in other and "knows the harmfulness tag" not in other


def test_the_card_of_a_corpus_says_who_scored_wrote_and_audited_it(built: Path) -> None:
    datasets = published() / "datasets"
    web = (datasets / "clean-web/README.md").read_text()
    assert "| `score_4` | 20 |" in web and "`ingest/web` | 80 in = 80 out" in web
    assert "The audit graded" in web and "## Writer" not in web
    rephrased = (datasets / "rephrase-safe_web/README.md").read_text()
    assert (
        "Written by `template`, an engine of kind template, with the prompts podcast" in rephrased
    )
    assert "Texts that `words` graded above 2 were not kept" in rephrased
    assert "with probability 0.05" in (datasets / "tag-unsafe/README.md").read_text()
    assert "## Scores" not in (datasets / "clean-math/README.md").read_text()
    assert DatasetCard.load(datasets / "clean-web/README.md").data.license == "cc0-1.0"
    front = yaml.safe_load((published_space() / "README.md").read_text().split("---")[1])
    assert front["sdk"] == "static" and (published_space() / front["app_file"]).is_file()


def published_space() -> Path:
    return Path("published/spaces/report")


def test_no_text_of_a_document_is_in_a_card(built: Path) -> None:
    for name, data in contents(published()).items():
        if name.endswith((".md", "croissant.json")):
            assert b"evil" not in data and b"Ignore this card" not in data, name
    texts = load_dataset("published/datasets/tag-unsafe", "all_tagged", split="train")["text"]
    assert list(texts) == [f"{EVIL} tagged"]


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (
            "license: Proprietary}",
            "usage training and license Proprietary; only .* safelm/publishing/release\\.yaml",
        ),
        ("license: CC0-1.0, usage: evaluation_only}", "usage evaluation_only and license CC0-1.0"),
    ],
)
def test_a_source_that_may_not_be_redistributed_is_refused_by_name(
    built: Path, new: str, message: str
) -> None:
    change_params("specs/demo/math.yaml, license: CC0-1.0}", f"specs/demo/math.yaml, {new}")
    if "usage" in new:
        # No model may read it either.
        for part in (", math: 1.0", ",\n                 math: 1.0", ",\n         math: 1.0"):
            text = Path("params.yaml").read_text()
            Path("params.yaml").write_text(text.replace(part, ""))
    refused = [line for line in lines(Path("published"), None) if "refused" in line]
    assert len(refused) == 1 and re.match(
        rf"clean/math: refused, because sources\.math has {message}", refused[0]
    )
    assert not Path("published/datasets/clean-math").exists()
    assert Path("published/datasets/clean-web").is_dir()


def test_the_same_build_gives_the_same_bytes(built: Path) -> None:
    first = contents(published())
    shutil.rmtree("published")
    assert contents(published()) == first


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (line,) = lines(tmp_path, None)
    assert line.endswith("is there already and stays as it is; remove it to publish the build anew")
    assert contents(tmp_path) == {"mine.txt": b"mine"}


def test_a_changed_model_is_not_published(built: Path) -> None:
    path = built / "instruct/safe/config.json"
    text = path.read_text()
    path.unlink()  # the cache has a link to it
    path.write_text(f"{text} ")
    with pytest.raises(DamagedShard, match=r"instruct/safe/config\.json"):
        published()


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's interface that an upload of small files uses."""

    created: ClassVar[list[dict[str, Any]]] = []
    files: ClassVar[dict[str, list[str]]] = {}

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path == "/api/repos/create":
            values = json.loads(body)
            self.created.append(values)
            answer: dict[str, Any] = {"url": f"https://huggingface.co/lab/{values['name']}"}
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            regular = {"uploadMode": "regular", "shouldIgnore": False}
            answer = {"files": [{"path": file["path"], **regular} for file in files]}
        elif "/commit/" in self.path:
            rows = [json.loads(line) for line in body.splitlines()]
            paths = [row["value"]["path"] for row in rows if row["key"] == "file"]
            self.files[self.path.partition("/api/")[2].partition("/commit")[0]] = paths
            answer = {
                "commitUrl": "https://huggingface.co/lab/x/commit/0",
                "commitOid": "0" * 40,
                "success": True,
            }
        else:
            answer = {"errors": [], "warnings": []}
        self.answer(answer)

    def do_GET(self) -> None:
        self.answer({"siblings": [], "sha": "0" * 40, "id": "lab/x"})

    def answer(self, values: dict[str, Any]) -> None:
        data = json.dumps(values).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(
        huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}"
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield Hub
    server.shutdown()


def test_a_folder_that_was_looked_at_is_uploaded_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: type[Hub]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("datasets/clean-web", "models/safe-pretrain", "spaces/report"):
        folder = Path("published", name)
        folder.mkdir(parents=True)
        (folder / "README.md").write_text("edited by hand")
    _, *found = lines(Path("published"), "lab")
    assert [url.rpartition("/lab/")[2] for url in found] == ["clean-web", "safe-pretrain", "report"]
    assert [row.get("type", "model") for row in hub.created] == ["dataset", "model", "space"]
    assert {row["visibility"] for row in hub.created} == {"private"} and hub.created[2][
        "sdk"
    ] == "static"
    assert hub.files == {
        "datasets/lab/clean-web": ["README.md"],
        "models/lab/safe-pretrain": ["README.md"],
        "spaces/lab/report": ["README.md"],
    }
