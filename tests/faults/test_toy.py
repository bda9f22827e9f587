"""The small project itself: a build of it is right, and a second one makes nothing."""

from tests.faults.toy import Toy


def test_a_second_build_makes_nothing(oracle: Toy) -> None:
    before = oracle.state()
    assert "up to date" in oracle.build()
    assert oracle.state() == before


def test_every_stage_has_something_to_do(oracle: Toy) -> None:
    names = {name.split("/")[1] for name in oracle.state().files}
    assert names == {"ingest", "clean", "score", "tag", "tokenizer"}
    assert (oracle.root / "build/tokenizer/tokenizer.json").stat().st_size > 1000
