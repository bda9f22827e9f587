"""The README's picture: drawn by the build, and that of the committed params."""

import re
from pathlib import Path
from xml.etree import ElementTree

import yaml

from safelm.report.build import draw_picture, load_report
from tests import report_world as world
from tests.test_package import ROOT, module

figure = module(ROOT / ".ci/figure.py")


def test_the_picture_stands_alone_and_is_always_the_same(tmp_path: Path) -> None:
    models = world.models("standard", "filtered", "safe")
    world.write_evaluations(tmp_path, models)
    pictures = {draw_picture(load_report(tmp_path, world.declared(models))[0]) for _ in range(2)}
    (picture,) = pictures
    root = ElementTree.fromstring(picture)
    panels = [child for child in root if child.tag.endswith("}svg")]
    assert len(panels) == 3 and "url(http" not in picture and "href" not in picture


def test_a_digest_follows_the_blocks_that_the_picture_depends_on() -> None:
    params = {"mix": {"tokens": 1}, "attacks": {}}
    digest = figure.params_digest(params)
    assert digest == figure.params_digest({**params, "attacks": {"blind": {}}})
    assert digest != figure.params_digest({**params, "mix": {"tokens": 2}})


def test_the_committed_picture_is_that_of_the_committed_params() -> None:
    """After a change of params.yaml: `make repro`, then `make figure`."""
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    text = figure.COMMITTED.read_text(encoding="utf-8")
    stated = re.search(r"digest of params\.yaml: (\w+)", text)
    assert stated and stated[1] == figure.params_digest(params)
