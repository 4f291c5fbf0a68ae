"""The set of phase portraits, the paths in them, and the figure that draws them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from twinmodes.cli.main import main
from twinmodes.compare import compare
from twinmodes.figures import FIGURES
from twinmodes.figures.style import COLUMN_WIDTH
from twinmodes.problem import Constant, Descent, LinearTeacher, RankOne, Sample
from twinmodes.theory import gradient_flow
from twinmodes.theory.fields import RankOneProblem, rank_one_problem
from twinmodes.theory.nullclines import side_of_fold
from twinmodes.theory.paths import flow_path
from twinmodes.theory.planes import Plane, positions, velocities
from twinmodes.theory.portraits import FAMILIES, natural_units, portraits, read_family, telling_modes

draw = FIGURES["phase-portraits"]
TWO = Sample.from_modes([4.0, 1.0], [1.0, 2.0], noise_modes=[0.0, 0.3])
FIELD = {"sample": TWO, "rates": (1e-3, 5e-4), "gain": 2.0}
PROBLEM = rank_one_problem(TWO, np.array([1e-3, 5e-4]), 2.0)
FIVE = RankOneProblem(np.array([9.0, 8.0, 7.0, 0.02, 0.01]), np.ones(5), 1e-3, 1e-3)


@pytest.fixture(scope="module")
def run():
    return compare(
        TWO, Constant(first=0.05, second=0.05, hidden=4), Descent(steps=2000, lr=0.002, record=100), ["flow"]
    )


def test_the_table_has_21_panels_with_its_held_values_ranges_and_grids():
    found = {family: portraits(PROBLEM, family, target=np.ones(2)) for family in FAMILIES}
    assert natural_units(PROBLEM, (0, 1)) == {"u": 1.0, "z1": 1.0, "z2": 1.0}
    assert sum(len(panels) for family, panels in found.items() if family != "velocity") == 21
    held = {family: [panel.held for panel in panels] for family, panels in found.items()}
    assert held["u,z1"] == [{"z2": 1}, {"z2": 5}, {"z2": 10}] and held["u,z2"] == [{"z1": 1}, {"z1": 2}, {"z1": 10}]
    assert held["z1,z2"] == held["uz1,uz2"] == held["velocity"] == [{"u": 0.1}, {"u": 1}, {"u": 10}]
    assert held["w1,w2"] == [{"u": 1}, {"u": 5}, {"u": 10}, {"z1": 5}, {"z2": 5}] and held["u,z1,z2"] == [{}]
    assert held["error"] == [{"u": 5}, {"z1": 5}, {"z2": 5}]
    assert [panel.plane.axes for panel in found["error"]] == [("z1", "E"), ("z2", "E"), ("z1", "E")]
    reach = {"u,z1": 10, "u,z2": 10, "z1,z2": 20, "uz1,uz2": 20, "u,z1,z2": 20, "w1,w2": 20, "error": 5}
    for family, size in reach.items():
        assert all(span == (-size, size) for panel in found[family] for span in panel.spans)
        assert {panel.grid for panel in found[family]} == {10 if family in ("u,z1,z2", "w1,w2", "error") else 20}
    for panel in found["velocity"]:  # the same weights at every u
        assert positions(panel.plane, *(span[1] for span in panel.spans)) == pytest.approx((5, 5))


def test_other_modes_take_the_places_and_the_units_of_the_first_two():
    assert telling_modes(FIVE.S) == (0, 3)
    (panel, *_) = portraits(FIVE, "w1,w2")
    assert panel.plane.varied == ("z1", "z4") and panel.plane.axes == ("w1", "w4")
    unit = natural_units(FIVE, (0, 3))
    w = FIVE.c / FIVE.S
    u = np.sqrt(np.linalg.norm(w))
    for name, value in {"u": u, "z1": w[0] / u, "z4": w[3] / u}.items():
        assert 10**-0.5 <= value / unit[name] <= 10**0.5
    assert [span[1] for span in panel.spans] == [20 * unit["z1"], 20 * unit["z4"]]
    assert read_family("u,z4", 5) == ("u,z2", (0, 3)) and read_family("u,z1", 5) == ("u,z1", (0, 1))
    assert read_family("uz2,uz5", 5) == ("uz1,uz2", (1, 4)) and read_family("u,z1,z3", 5) == ("u,z1,z2", (0, 2))


def test_fixed_values_choose_the_planes_that_hold_them():
    held = [panel.held for panel in portraits(PROBLEM, "w1,w2", fix={"z1": [2, 3]})]
    assert held == [{"z1": 2.0}, {"z1": 3.0}]
    (panel,) = portraits(FIVE, "u,z1", modes=(0, 1), fix={"z2": 3, "z5": 0.5})
    np.testing.assert_array_equal(panel.plane.z, [0, 3, 0, 0, 0.5])


def test_states_of_a_run_hold_its_panels_and_the_spans_cover_it():
    u = np.array([0.0, 0.5, 1.0])
    z = np.array([[0.1, 0.0], [0.5, 0.7], [1.0, 2.0]])
    told = {"states": list(zip(u, z, strict=True)), "path": (u, z), "target": np.ones(2)}
    panels = portraits(PROBLEM, "u,z1", **told)
    assert [panel.held["z2"] for panel in panels] == [0.0, 0.7, 2.0] and [panel.state for panel in panels] == [0, 1, 2]
    assert all(low < 0 and high > 1 for low, high in panels[0].spans)
    weights = portraits(PROBLEM, "w1,w2", **told)
    assert [panel.held for panel in weights] == [{"u": 0.5}, {"u": 1.0}, {"z1": 1.0}, {"z2": 2.0}]  # no plane at u = 0
    for panel in weights[:2]:
        ends = positions(panel.plane, *(np.array(span) for span in panel.spans))
        assert ends[0][0] < 0 < 1 < ends[0][1] and ends[1][0] < 0 < 2 < ends[1][1]


def test_paths_are_those_of_gradient_flow():
    """The same state by gradient_flow, in mid-course and at rest."""
    plane = Plane(PROBLEM, ("u", "z1"), ("z1", "E"), 0.0, np.array([0.0, 0.2]), np.array([1.0, 2.0]))
    path = np.array(flow_path(plane, 0.3, -0.1))
    path = path[:, np.append(True, np.any(np.diff(path, axis=1) != 0, axis=0))]  # at rest it stands still
    weights = RankOne(u=0.3, z=(-0.1, 0.2), hidden=3).weights(TWO, 0)
    flow = gradient_flow(TWO, weights, Descent(steps=60_000, lr=(1e-3, 5e-4), record=[0, 50, 200, 500, 60_000]))
    z, w = flow.z.values[0], flow.weight.values[0]
    wanted = np.column_stack([z[:, 0], np.sum((w - [1.0, 2.0]) ** 2, axis=1)])
    np.testing.assert_allclose(path[:, 0], wanted[0], rtol=1e-12)
    np.testing.assert_allclose(path[:, -1], wanted[-1], rtol=1e-6)
    for k, at in enumerate(wanted[1:-1], start=1):
        # Between records the path is straight: it passes the flow's state within the square of its own steps.
        steps = np.diff(path, axis=1).T
        share = np.clip(np.sum((at - path.T[:-1]) * steps, axis=1) / np.sum(steps**2, axis=1), 0, 1)
        gap = np.linalg.norm(path.T[:-1] + share[:, None] * steps - at, axis=1).min()
        assert gap < 2e-3, k


@pytest.mark.parametrize("rates", [(1e-3, 0.0), (0.0, 1e-3), (0.0, 0.0)])
def test_paths_and_panels_of_frozen_layers(rates):
    problem = rank_one_problem(TWO, np.array(rates), 2.0)
    for family in FAMILIES:
        for panel in portraits(problem, family, target=np.ones(2)):
            path = flow_path(panel.plane, *(0.5 * span[1] for span in panel.spans))
            assert all(np.isfinite(part).all() for part in path)
    plane = portraits(problem, "u,z1")[0].plane
    ends = [part[-1] for part in flow_path(plane, 2.0, 3.0)]
    assert (ends[0] == 2.0) == (rates[1] == 0) and (ends[1] == 3.0) == (rates[0] == 0)


def quivers(axes):
    return [c for c in axes.collections if type(c).__name__ in ("Quiver", "Line3DCollection")]


def panels_of(figure):
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]


def labels(axes):
    return {str(line.get_label()) for line in axes.lines}


def test_the_overview_has_one_panel_of_each_plane_with_a_path_and_one_colour_bar():
    figure = draw(**FIELD)
    panels = panels_of(figure)
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in panels] == [
        ("$u$", "$z_{1}$"), ("$u$", "$z_{2}$"), ("$z_{1}$", "$z_{2}$"), ("$u z_{1}$", "$u z_{2}$"), ("$u$", "$z_{1}$"),
        *[("$w_{1}$", "$w_{2}$")] * 3, ("$z_{1}$", "$E$"), ("$z_{2}$", "$E$"), ("$z_{1}$", "$E$"),
        ("$w_{1}$", "$w_{2}$"),
    ]  # fmt: skip
    assert panels[4].get_zlabel() == "$z_{2}$"
    for axes in panels:
        assert {"path of the flow", "its start"} <= labels(axes) and axes.get_title() and quivers(axes)
    (bar,) = (axes for axes in figure.axes if axes not in panels)
    assert bar.get_ylabel() == "speed / largest in the panel"
    assert quivers(panels[0])[0].get_array().max() == pytest.approx(1)


@pytest.mark.parametrize(("plane", "count"), [("u,z1", 3), ("uz1,uz2", 3), ("w1,w2", 5), ("error", 3), ("velocity", 3)])
def test_families_have_all_their_panels_and_the_arrows_are_the_field(plane, count):
    figure = draw(**FIELD, plane=plane, grid=6)
    panels = panels_of(figure)
    assert len(panels) == count
    target = TWO.modes.to_modes(TWO.target)
    for axes, told in zip(panels, portraits(PROBLEM, plane, target=target, grid=6), strict=True):
        at = np.meshgrid(*(low + (high - low) * (np.arange(6) + 0.5) / 6 for low, high in told.spans))
        where, moves = positions(told.plane, *at), velocities(told.plane, *at)
        sheets = [np.ones_like(at[0], dtype=bool)]
        if plane == "error":
            sheets = [side_of_fold(told.plane, *at), ~side_of_fold(told.plane, *at)]
            assert axes.get_yscale() == "log"
        for quiver, sheet in zip(quivers(axes), sheets, strict=False):
            np.testing.assert_allclose(quiver.XY, np.column_stack([part[sheet] for part in where]))
            speed = np.hypot(*moves)[sheet]
            np.testing.assert_allclose(np.hypot(quiver.U, quiver.V), 1, rtol=1e-12)
            if plane != "velocity":
                np.testing.assert_allclose(quiver.get_array(), speed)
                np.testing.assert_allclose(quiver.U * speed, moves[0][sheet], atol=1e-12 * speed.max())
        if plane == "error":
            # On a logarithmic axis the direction is that of (dz, d log E) on the page's square.
            (left, right), (low, high) = axes.get_xlim(), np.log(axes.get_ylim())
            quiver, sheet = quivers(axes)[0], sheets[0]
            wanted = np.arctan2((moves[1] / where[1])[sheet] / (high - low), moves[0][sheet] / (right - left))
            np.testing.assert_allclose(np.deg2rad(quiver.angles), wanted)
            assert axes.get_box_aspect() == 1


def test_the_error_falls_to_the_page_below_in_real_pixels():
    """What the angles promise: a short path of the flow on the page has the direction of its arrow."""
    figure = draw(**FIELD, plane="error", grid=5)
    figure.draw_without_rendering()
    axes = panels_of(figure)[0]
    told = portraits(PROBLEM, "error", target=TWO.modes.to_modes(TWO.target), grid=5)[0]
    at = [np.array([v]) for v in (2.0, -2.0)]
    where, moves = positions(told.plane, *at), velocities(told.plane, *at)
    h = 1e-6
    ends = axes.transData.transform(
        [[float(w[0] + s * h * m[0]) for w, m in zip(where, moves, strict=True)] for s in (0, 1)]
    )
    seen = np.arctan2(*(ends[1] - ends[0])[::-1])
    quiver = quivers(axes)
    angles = np.concatenate([np.ravel(q.angles) for q in quiver])
    places = np.concatenate([q.XY for q in quiver])
    nearest = np.argmin(np.linalg.norm((places - [w[0] for w in where]) / [1, 100], axis=1))
    np.testing.assert_allclose(places[nearest], [w[0] for w in where])
    assert np.deg2rad(angles[nearest]) == pytest.approx(seen, abs=1e-3)


def test_fixed_points_are_marked_by_kind_and_named():
    axes = panels_of(draw(**FIELD, plane="u,z1"))[1]
    assert {"minimum", "saddle"} <= labels(axes)
    (minimum,) = (line for line in axes.lines if line.get_label() == "minimum")
    least = TWO.least_squares
    np.testing.assert_allclose(np.ravel(minimum.get_data()), [least[1] / 5, 5 * least[0] / least[1]], rtol=1e-12)
    three = Sample.from_modes([4.0, 1.0, 0.5], [1.0, 2.0, 1.0])
    told = {"sample": three, "rates": (1e-3, 1e-3), "gain": 2.0, "plane": "u,z1"}
    (axes,) = panels_of(draw(**told, fix={"z2": 2.0, "z3": 0.3}))
    assert "slice only: stable node" in labels(axes)
    space = panels_of(draw(**FIELD, plane="u,z1,z2"))[0]
    assert {"minima (a curve)", "saddles (a curve)"} <= labels(space)


def test_a_run_stands_in_each_panel_projected(run):
    figure = draw(run, plane="w1,w2")
    one = run.isel(replica=0, side=0)
    for axes in panels_of(figure):
        (line,) = (line for line in axes.lines if line.get_label() == "run (projected)")
        np.testing.assert_allclose(np.column_stack(line.get_data()), one.mode_strength, rtol=1e-12)
    titles = [axes.get_title() for axes in panels_of(figure)]
    assert titles[0].startswith("start, step 0\n") and titles[2].startswith("end, step 2000\n")


@pytest.mark.parametrize("plane", ["overview", "velocity"])
def test_a_narrow_figure_has_readable_words_within_it(plane):
    figure = draw(**FIELD, plane=plane, width=COLUMN_WIDTH)
    figure.draw_without_rendering()
    assert figure.get_figwidth() == COLUMN_WIDTH
    for axes in panels_of(figure):
        assert axes.title.get_fontsize() >= 7
        box = axes.title.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    legend = figure.legends[0].get_window_extent()
    assert legend.x1 <= figure.bbox.width
    assert not any(legend.overlaps(axes.title.get_window_extent()) for axes in panels_of(figure))


@pytest.mark.slow
def test_every_panel_can_stand_on_one_page_and_frozen_layers_are_drawn():
    assert len(panels_of(draw(**FIELD, plane="all", grid=4))) == 24
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for plane, rates in (("overview", (1e-3, 0.0)), ("error", (0.0, 1e-3)), ("velocity", (0.0, 0.0))):
            draw(sample=TWO, rates=rates, gain=2.0, grid=4, plane=plane).draw_without_rendering()


def test_a_minimum_without_error_is_seen_at_the_edge():
    clean = Sample.from_modes([4.0, 1.0], [1.0, 2.0])
    axes = panels_of(draw(sample=clean, rates=(1e-3, 1e-3), gain=2.0, plane="error", grid=4))[0]
    (minimum,) = (line for line in axes.lines if line.get_label() == "minimum")
    assert axes.get_ylim()[0] < minimum.get_ydata()[0] < 1.2 * axes.get_ylim()[0]


def test_the_command_draws_a_family_and_refuses_what_it_cannot(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["figure", "phase-portraits", "--dim", "2", "--samples", "9"]
    for more, status in (
        (["--plane", "u,z1", "--fix", "z2=1,2", "--range", "5", "--grid", "6", "--out", "a.svg"], 0),
        (["--plane", "u,z9"], 2),
        (["--window", "1:2"], 2),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*words, *more])
        assert ended.value.code == status
    assert (tmp_path / "a.svg").exists()
    assert "z9 names a mode that does not exist" in capsys.readouterr().err


def test_real_data_count_the_error_from_least_squares():
    sample = LinearTeacher(dim=3, samples=12, noise=0.1, noise_ratio=None).sample(1)
    unknown = Sample(sample.X, sample.y)
    figure = draw(sample=unknown, rates=(1e-3, 1e-3), gain=2.0, plane="error", grid=4)
    assert "to the least squares" in figure.legends[0].get_title().get_text().replace("\n", " ")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw(), "give either a run"),
        (lambda: draw(**FIELD, plane="u,w1"), "plane must be one of u,z1"),
        (lambda: draw(**FIELD, plane="u,z3"), "z3 names a mode"),
        (lambda: draw(**FIELD, fix={"u": 1}), "name it, e.g."),
        (lambda: draw(**FIELD, plane="u,z1", fix={"z1": 1}), "u,z1 has no plane while z1 is held"),
        (lambda: draw(**FIELD, plane="u,z1", fix={"w1": 1}), "fix must name coordinates"),
        (lambda: draw(**FIELD, plane="u,z1", fix={"z2": [np.nan]}), "finite"),
        (lambda: draw(**FIELD, plane="u,z1", extent=-1), "reach must be"),
        (lambda: draw(**FIELD, plane="u,z1", grid=1), "grid must be"),
        (lambda: draw(**FIELD, plane="w1,w2", fix={"u": 0}), "other than 0"),
        (lambda: draw(sample=Sample.from_modes([1.0], [1.0]), rates=(1, 1), gain=2), "two different modes"),
        (lambda: portraits(PROBLEM, "x"), "family must be one of"),
    ],
)  # fmt: skip
def test_mistakes_are_answered(call, message):
    with pytest.raises(ValueError, match=message):
        call()
