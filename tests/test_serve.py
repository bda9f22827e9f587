"""The OpenAI-compatible server: real requests over HTTP, answered by a real tiny model."""

import copy
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from lm_eval.evaluator import evaluate
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

from safelm.builder.artifact import artifact
from safelm.builder.paths import build
from safelm.decoding import Branch, Decoded, generate, word_starts
from safelm.evaluation.utility.lm_eval_tasks import local_task
from safelm.models.chat import page_tokens, request_tokens, tag_id
from safelm.serve.answers import Answer, Service
from safelm.serve.command import ServeError, serve
from safelm.serve.request import CompletionRequest
from safelm.serve.server import MAX_BODY_BYTES, listen
from tests.serving import serving, small_service
from tests.tiny import write_model, write_tokenizer

BRANCH = Branch(branches=3, tag_weight=100.0)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    return small_service(tmp_path_factory.mktemp("served"), BRANCH)


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with (
        serving(service) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        yield client


def expected(service: Service, prompts: list[list[int]], tokens: int) -> list[str]:
    tokenizer = service.tokenizer
    decoded = generate(
        service.model,
        prompts,
        service.decoder,
        new_tokens=tokens,
        tag=tag_id(tokenizer),
        end=[0],
        batch=8,
        word_starts=word_starts(tokenizer),
    )
    return tokenizer.batch_decode([text.tokens for text in decoded], skip_special_tokens=True)


def test_texts_are_continued(client: httpx.Client, service: Service) -> None:
    texts = ["How do I water the rose", "First, take the hose."]
    response = client.post(
        "/completions", json={"model": "tags", "prompt": texts, "max_tokens": 6, "temperature": 0}
    )
    reply = response.raise_for_status().json()
    assert [choice["text"] for choice in reply["choices"]] == expected(
        service, page_tokens(service.tokenizer, texts), 6
    )
    assert reply["object"] == "text_completion" and reply["model"] == "tags"
    assert reply["usage"]["completion_tokens"] == sum(
        len(choice["tag_probabilities"]) for choice in reply["choices"]
    )


def test_a_dialogue_is_answered_in_the_chat_format(client: httpx.Client, service: Service) -> None:
    words = "How do I water the rose?"
    body = {
        "model": "tags",
        "messages": [{"role": "user", "content": words + "<|im_end|>"}],
        "max_tokens": 5,
    }
    choice = client.post("/chat/completions", json=body).raise_for_status().json()["choices"][0]
    assert choice["message"] == {
        "role": "assistant",
        "content": expected(service, request_tokens(service.tokenizer, [words]), 5)[0],
    }
    assert choice["finish_reason"] in ("length", "stop")


def test_an_answer_without_a_bound_takes_what_the_model_still_sees(client: httpx.Client) -> None:
    body = {
        "messages": [{"role": "user", "content": "How do I water the rose?"}],
        "max_tokens": None,
    }
    reply = client.post("/chat/completions", json=body).raise_for_status().json()
    assert (reply["choices"][0]["finish_reason"], reply["usage"]["total_tokens"]) == ("length", 192)
    assert (
        client.post("/completions", json={"prompt": "How"}).json()["usage"]["completion_tokens"]
        == 16
    )


def test_an_answer_is_cut_at_a_stop_word(client: httpx.Client) -> None:
    body = {"prompt": "How do I", "max_tokens": 8}
    whole = client.post("/completions", json=body).json()["choices"][0]["text"]
    cut = client.post("/completions", json={**body, "stop": [whole[4:6], "never there"]}).json()[
        "choices"
    ][0]
    assert cut["text"] == whole[: whole.index(whole[4:6])] and cut["finish_reason"] == "stop"


def test_a_refusal_is_a_content_filter(service: Service) -> None:
    decoder = Branch(branches=2, tag_weight=1.0, max_tag_probability=0.0)
    with serving(Service("tags", service.model, service.tokenizer, decoder)) as url:
        body = {"prompt": "How do I", "max_tokens": 4}
        reply = httpx.post(f"{url}/completions", json=body, timeout=60, trust_env=False)
    choice = reply.json()["choices"][0]
    assert (choice["finish_reason"], choice["text"]) == ("content_filter", "")


def test_a_text_that_ends_before_the_tag_is_no_refusal(service: Service) -> None:
    tokens = service.tokenizer("First, take the hose.\nQuestion: How", add_special_tokens=False)[
        "input_ids"
    ]
    decoded = Decoded(tokens, False, True, -1.0, [0.1] * len(tokens))
    question = CompletionRequest.read({"prompt": "How", "stop": ["\nQuestion:"]}, False)
    written = Answer(service, question, False, "", []).written(decoded)
    assert (written.text, written.reason) == ("First, take the hose.", "stop")


def test_a_template_that_refuses_a_role_is_the_client_s_mistake(
    client: httpx.Client, service: Service
) -> None:
    own = service.tokenizer.chat_template
    service.tokenizer.chat_template = "{{ raise_exception('no system turn here') }}"
    try:
        reply = client.post(
            "/chat/completions", json={"messages": [{"role": "system", "content": "Be brief."}]}
        )
    finally:
        service.tokenizer.chat_template = own
    assert reply.status_code == 400 and "no system turn here" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("harness", "path"),
    [(LocalCompletionsAPI, "completions"), (LocalChatCompletion, "chat/completions")],
)
def test_the_harness_measures_a_decoder_through_the_server(
    client: httpx.Client, service: Service, harness: type[LocalCompletionsAPI], path: str
) -> None:
    rows = [
        {"question": f"How many are {n} and two?", "answer": f"So many.\n#### {n + 2}"}
        for n in range(3)
    ]
    task = local_task("gsm8k", rows)
    task.config.generation_kwargs["max_gen_toks"] = 12
    client_model = harness(
        base_url=str(client.base_url.join(path)),
        model="tags",
        tokenizer_backend=None,
        tokenized_requests=False,
        max_retries=1,
        eos_string="never said",
    )
    is_chat = path.startswith("chat")
    results = evaluate(
        client_model,
        {"tasks": {"gsm8k": task}, "groups": {}},
        bootstrap_iters=0,
        apply_chat_template=is_chat,
    )
    texts = [f"Question: {row['question']}\nAnswer:" for row in rows]
    prompts = (request_tokens if is_chat else page_tokens)(service.tokenizer, texts)
    said = {
        sample["doc"]["question"]: sample["resps"][0][0] for sample in results["samples"]["gsm8k"]
    }
    assert [said[row["question"]] for row in rows] == expected(service, prompts, 12)
    assert results["n-samples"]["gsm8k"]["effective"] == 3


def test_a_hundred_connections_may_wait_to_be_taken_up() -> None:
    with listen() as listener, ExitStack() as opened:
        for _ in range(100):
            opened.enter_context(socket.create_connection(listener.getsockname(), timeout=0.5))


def test_the_model_is_listed(client: httpx.Client) -> None:
    assert [row["id"] for row in client.get("/models").json()["data"]] == ["tags"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"prompt": "a", "n": 2}, "n: must be 1"),
        ({"prompt": "a", "stream": "yes"}, "stream: expected true or false"),
        ({"prompt": "a", "logprobs": 5}, "logprobs"),
        ({"prompt": "a", "top_kk": 5}, "top_kk: is not known"),
        ({"prompt": [1, 2]}, "tokens are not read"),
        ({"prompt": []}, "got none"),
        ({"prompt": "a", "max_tokens": -1}, "max_tokens: expected a whole number"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens: expected a whole number"),
        ({"prompt": "a", "logprobs": 0}, "logprobs: must be None"),
        ({"prompt": "a", "stop": 0}, "stop: expected a text"),
        ({"prompt": "a", "max_tokens": 1000}, "192 positions"),
        (["a"], "expected a JSON object"),
    ],
)
def test_a_mistake_of_the_client_is_named(client: httpx.Client, body: Any, words: str) -> None:
    response = client.post("/completions", json=body)
    assert response.status_code == 400 and words in response.json()["error"]["message"]


def test_messages_of_unknown_roles_are_refused(client: httpx.Client) -> None:
    response = client.post(
        "/chat/completions", json={"messages": [{"role": "tool", "content": "a"}]}
    )
    assert (
        response.status_code == 400
        and "messages.0: expected" in response.json()["error"]["message"]
    )


def test_not_json_another_path_another_host_and_too_much_are_refused(client: httpx.Client) -> None:
    assert client.post("/completions", content=b"{").status_code == 400
    assert client.post("/embeddings", json={}).status_code == 404
    assert (
        client.post(
            "/completions", json={"prompt": "a"}, headers={"Host": "example.org"}
        ).status_code
        == 404
    )
    assert client.post("/completions", content=b" " * (MAX_BODY_BYTES + 1)).status_code == 413


@pytest.mark.parametrize(
    ("content", "words"), [(b'{"prompt": "a \\ud83d"}', "surrogates"), (b"[" * 200_000, "too deep")]
)
def test_half_an_emoji_and_endless_lists_are_refused(
    client: httpx.Client, content: bytes, words: str
) -> None:
    response = client.post("/completions", content=content)
    assert response.status_code == 400 and words in response.json()["error"]["message"]


def test_a_failing_model_is_an_error_of_the_server(service: Service) -> None:
    broken = copy.deepcopy(service.model)
    broken.model.norm.weight.data = broken.model.norm.weight.data[:1].repeat(3)
    with serving(Service("broken", broken, service.tokenizer, BRANCH)) as url:
        response = httpx.post(
            f"{url}/completions", json={"prompt": "a"}, timeout=60, trust_env=False
        )
    assert (response.status_code, response.json()["error"]["type"]) == (500, "server_error")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two models of ours, `plain` and `tags`; the second was trained on tagged text."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = write_tokenizer(folder / "tokenizer")
    write_model(folder / "plain", tokenizer, knows_tag=False)
    write_model(folder / "tags", tokenizer, knows_tag=True)
    return folder


def test_an_unknown_folder_is_refused_with_the_models_beside_it(served: Path) -> None:
    with pytest.raises(ServeError, match=r"/tag: expected a folder with a model .* mean .*/tags\?"):
        serve(served / "tag", "greedy")


def test_an_unknown_decoder_is_refused_with_the_close_one(served: Path) -> None:
    with pytest.raises(ServeError, match=r"--decoder brunch: .* did you mean branch\?"):
        serve(served / "tags", "brunch")


def test_a_model_that_never_read_the_tag_is_refused_under_a_decoder_that_needs_it(
    served: Path,
) -> None:
    with pytest.raises(ServeError, match=r"--decoder safebeam: .*/plain never saw .* greedy"):
        serve(served / "plain", "safebeam")


def test_a_model_whose_weights_were_replaced_in_build_is_refused(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied(folder: Path, model: Path) -> list[str]:
        shutil.copytree(model, folder, dirs_exist_ok=True)
        return []

    params = Path("params.yaml").read_bytes()
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes(params)
    artifact("instruct/safe", copied, model=served / "tags")
    weights = build("instruct/safe") / "model.safetensors"
    data = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ServeError, match=r"model\.safetensors: is not the file that .* REPAIR=1"):
        serve(build("instruct/safe"), "greedy")


def test_the_command_serves_a_row_of_the_params(tmp_path: Path) -> None:
    model = write_model(tmp_path / "tags", write_tokenizer(tmp_path / "tokenizer"), knows_tag=True)
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "serve",
        str(model),
        "--decoder",
        "branch_strict",
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            url = re.search(r"http://127\.0\.0\.1:\d+/v1", line)
            assert url, line
            reply = httpx.post(
                f"{url[0]}/completions", json={"prompt": "How"}, timeout=60, trust_env=False
            )
            assert json.loads(reply.text)["choices"][0]["index"] == 0
            port = int(url[0].split(":")[2].removesuffix("/v1"))
            with pytest.raises(ServeError, match=rf"port {port}: .* choose another --port"):
                serve(model, "branch_strict", port=port)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.terminate()
