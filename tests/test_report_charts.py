"""Charts: escaped markup, round ticks, names that do not overlap, and the frontier of points."""

import re
from itertools import pairwise

from safelm.report.charts.svg import (
    Curve,
    Point,
    apart,
    better_points,
    draw,
    nice_ticks,
    shortened,
)
from safelm.stats.rates import rate


def test_a_drawn_text_is_escaped() -> None:
    drawn = draw("text", 1.25, 2.0, "a<b", '"')
    assert drawn == '<text x="1.2" y="2" class="&#34;">a&lt;b</text>'


def test_ticks_are_round_and_reach_the_top() -> None:
    assert nice_ticks(7.3) == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert nice_ticks(0.83) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert nice_ticks(0.0) == [0.0, 1.0]


def test_names_at_the_ends_of_curves_do_not_lie_on_each_other() -> None:
    places = apart([50.0, 51.0, 52.0, 53.0], 13.0, 60.0)
    assert all(after - before >= 13.0 for before, after in pairwise(places))
    assert places[-1] <= 60.0


def test_a_long_name_is_cut() -> None:
    assert shortened("score 0", 100.0) == "score 0"
    assert shortened("a very long name of a corpus", 60.0).endswith("…")


def test_the_frontier_is_what_no_other_beats() -> None:
    shares = {
        "low": (0.1, 0.4),
        "ours": (0.1, 0.9),
        "greedy": (0.4, 0.95),
        "worse": (0.4, 0.9),
        "again": (0.1, 0.9),
    }
    points = [
        Point(name, "s1", *(rate(round(share * 20), 20, 0.95) for share in pair))
        for name, pair in shares.items()
    ]
    frontier = [point for point in points if not better_points(point, points)]
    assert [point.label for point in frontier] == ["ours", "greedy", "again"]


def test_a_step_that_was_not_measured_has_no_mark() -> None:
    points = [(0, 0.25), (2, 0.75)]
    curves = [Curve("a", "s1", points, [rate(1, 4, 0.95), rate(3, 4, 0.95)])]
    drawn = str(draw("steps", curves, ["x", "y", "z"], "label", "", ""))
    assert len(re.findall(r'class="s1 mark"', drawn)) == 2 and drawn.count("whisker") == 2


def test_curves_at_one_step_stand_beside_each_other() -> None:
    rates = [rate(1, 4, 0.95)]
    curves = [Curve(name, "s1", [(0, 0.25)], rates) for name in ("a", "b")]
    drawn = str(draw("steps", curves, ["x"], "label", "", ""))
    places = [float(x) for x in re.findall(r"translate\((\S+) ", drawn)]
    assert places[1] - places[0] == 5.0 and sum(places) / 2 == 165.0
