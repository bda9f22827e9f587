"""The command `safelm serve`: one model with one decoder."""

import ipaddress
import os
from contextlib import suppress
from pathlib import Path

from safelm.builder.manifest import DamagedShard
from safelm.builder.paths import build
from safelm.builder.provenance import check_inputs
from safelm.builder.shards import shards
from safelm.evaluation.bounds import bound_key, bound_path, with_bound
from safelm.evaluation.measurements import read_measurements
from safelm.models import TRAIN, knows_tag
from safelm.models.chat import load, tag_id
from safelm.serve.answers import Service
from safelm.serve.server import LOCALHOST, address, listen, make_app, make_server
from specs.decoder import Decoder, DecoderRow
from specs.messages import did_you_mean
from specs.yaml_source import YamlFile, check

PARAMS = Path("params.yaml")
PORT = 8000
CONFIG = "config.json"
KEY = "SAFELM_SERVE_KEY"


class ServeError(ValueError):
    """A model or a decoder that cannot be served; the message says what to write."""


def serve(
    model: Path,
    decoder: str,
    *,
    host: str = LOCALHOST,
    port: int = PORT,
    seed: int = 1,
) -> None:
    """Serve a model until it is interrupted.

    With SAFELM_SERVE_KEY in the environment, clients must send that key.

    Args:
        model: a folder in Hugging Face's format, such as build/instruct/safe.
        decoder: a row of evaluate.decoders in params.yaml.
        host: the address to listen at; others than this machine's own need a key.
        port: 0 for any that is free.
        seed: of decoders that draw.

    Raises:
        ServeError: there is no such model or decoder, they do not fit, the model is not the one
            that this build made or dvc.lock names, or the address is not free.
        SpecError: params.yaml does not follow its grammar.
    """
    key = os.environ.get(KEY) or None
    refuse_open_address(host, key)
    row = read_decoder(decoder)
    refuse_unknown_folder(model)
    refuse_without_tag(model, decoder, row)
    refuse_damaged(model)
    if row.is_calibrated:
        row = read_bound(model, decoder, row)
    network, tokenizer = load(model)
    if row.needs_tag and tag_id(tokenizer) is None:
        raise ServeError(
            f"--decoder {decoder}: reads the harmfulness tag, which the tokenizer of {model} does "
            "not have; use a decoder that does not read it, such as greedy"
        )
    app = make_app(Service(model.name, network, tokenizer, row, seed=seed), key)
    try:
        listener = listen(host, port)
    except OSError as error:
        raise ServeError(f"{host}, port {port}: {error.strerror}; choose another --port") from error
    print(f"{model} with the decoder {decoder}: {address(listener)}", flush=True)
    with suppress(KeyboardInterrupt):
        make_server(app).run(sockets=[listener])


def refuse_open_address(host: str, key: str | None) -> None:
    """Raise ServeError where other machines could ask without a key."""
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ServeError(f"--host {host}: expected an IP address, such as {LOCALHOST}") from None
    if not is_loopback and key is None:
        raise ServeError(
            f"--host {host}: other machines reach it, so a key is needed; set {KEY}, which "
            "clients send as their API key"
        )


def read_decoder(name: str) -> Decoder:
    """Read a row of evaluate.decoders, and nothing else of params.yaml. Raises ServeError."""
    file = YamlFile(PARAMS)
    rows = file.values["evaluate"]["decoders"]
    if name not in rows:
        raise ServeError(
            f"--decoder {name}: expected a row of evaluate.decoders in {PARAMS} (rows are "
            f"{', '.join(rows)}){did_you_mean(name, rows)}"
        )
    return check(DecoderRow, file, at=("evaluate", "decoders", name))


def refuse_unknown_folder(model: Path) -> None:
    """Raise ServeError, with the models beside it, for a folder that holds none."""
    if (model / CONFIG).is_file():
        return
    beside = sorted(str(path.parent) for path in model.parent.glob(f"*/{CONFIG}"))
    known = f"; models there are {', '.join(beside)}" if beside else ""
    raise ServeError(
        f"{model}: expected a folder with a model in Hugging Face's format, such as "
        f"build/instruct/safe{known}{did_you_mean(model, beside)}"
    )


def refuse_damaged(model: Path) -> None:
    """Raise ServeError for a model in build/ that was replaced, as a remote's writer may do."""
    try:
        check_inputs(sorted(model.iterdir()))
    except DamagedShard as error:
        raise ServeError(str(error)) from error


def read_bound(model: Path, name: str, decoder: Decoder) -> Decoder:
    """Give a decoder the bound that `evaluate` measured for this model. Raises ServeError."""
    folder = build("evaluate", f"{model.name}-{model.parent.name}")
    path = folder / f"{bound_path(name)}.parquet"
    if path.is_file():
        refuse_damaged(folder)
        (part,) = [part for part in shards(folder) if part.path == path]
        bound = read_measurements(part)[0]
        if bound.condition == bound_key(model, decoder):
            return with_bound(decoder, bound.value)
    raise ServeError(
        f"--decoder {name}: {path} is not there, or has the bound of another row or of other "
        "weights; run `safelm build`, or write max_tag_probability"
    )


def refuse_without_tag(model: Path, name: str, decoder: Decoder) -> None:
    """Raise ServeError where a model of ours never read the tag that the decoder compares.

    Its p(tag) would be noise. Only models with a train.json say what they read; of others the
    tokenizer decides.
    """
    if decoder.needs_tag and (model / TRAIN).is_file() and not knows_tag(model):
        raise ServeError(
            f"--decoder {name}: reads the harmfulness tag, which {model} never saw in training; "
            "serve a model that did, such as build/instruct/safe, or use the decoder greedy"
        )
