"""Serve a model with a decoder to harnesses that speak OpenAI's protocol.

    python -m safelm.serve build/instruct/safe --decoder branch
    python -m safelm.serve build/pretrain/safe --decoder safebeam --port 8001

POST /v1/completions continues texts as in pretraining, POST /v1/chat/completions answers a dialogue
in the model's chat format. It listens on 127.0.0.1 alone. finish_reason content_filter says that
the decoder stopped at the tag. How tokens are chosen the decoder and --seed say: temperature, top_p
and seed of a request, which harnesses send, are not heeded."""

import argparse
from contextlib import suppress
from pathlib import Path

from safelm.decoding import Decoder
from safelm.models.chat import load, tag_id
from safelm.serve.server import Service, address, server_of
from specs.decoder import Decoder as Dials
from specs.yaml_source import YamlFile, check

PARAMS = Path("params.yaml")
PORT = 8000


def main() -> None:
    """Load the model, say where it is served, and answer until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m safelm.serve",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument(
        "model", type=Path, help="a folder in Hugging Face's format, such as build/instruct/safe"
    )
    parser.add_argument(
        "--decoder", required=True, help="a row of evaluate.decoders in params.yaml"
    )
    parser.add_argument(
        "--port", type=int, default=PORT, help=f"of 127.0.0.1 (default: {PORT}; 0 for any)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of decoders that draw (default: 1)")
    asked = parser.parse_args()
    decoder = Decoder(**row(asked.decoder).model_dump(), seed=asked.seed)
    model, tokenizer = load(asked.model)
    if decoder.needs_tag and tag_id(tokenizer) is None:
        raise SystemExit(
            f"--decoder {asked.decoder}: reads the harmfulness tag, which the tokenizer of {asked.model} has not"
        )
    server = server_of(Service(asked.model.name, model, tokenizer, decoder), asked.port)
    print(f"{asked.model} with the decoder {asked.decoder}: {address(server)}", flush=True)
    with suppress(KeyboardInterrupt), server:
        server.serve_forever()


def row(name: str) -> Dials:
    """A row of evaluate.decoders in params.yaml, which is read for this alone."""
    file = YamlFile(PARAMS)
    rows = file.values["evaluate"]["decoders"]
    if name not in rows:
        raise SystemExit(
            f"--decoder {name}: expected a row of evaluate.decoders (rows are {', '.join(rows)})"
        )
    return check(Dials, file, at=("evaluate", "decoders", name))


if __name__ == "__main__":
    main()
