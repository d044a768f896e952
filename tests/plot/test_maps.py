import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

import placeformer as pf
from placeformer.evaluation import simulation

mpl.use("agg")


@pytest.fixture
def ax():
    return Figure().add_subplot()


def maps():
    """Three units on 4 x 5 places, one of them not visited."""
    rate = np.arange(60.0).reshape(3, 4, 5) - 20
    rate[:, 1, 2] = np.nan
    return simulation.maps(rate)


def behaviour():
    """Six steps on a 3 x 3 map, one of every outcome and two visits of one place."""
    steps = ("walk", "time")
    return xr.Dataset(
        {
            "visited": (steps, [[False, True, True, False, True, False]]),
            "correct": (steps, [[True, True, False, False, True, False]]),
        },
        coords={
            "x": (steps, [[0, 1, 1, 2, 1, 2]], {"units": "1"}),
            "y": (steps, [[0, 0, 1, 1, 1, 2]], {"units": "1"}),
        },
        attrs={"side": 3},
    )


def errors(shift=0.0):
    error = np.array([0.1, 0.5]) + shift
    bounds = np.stack([error - 0.05, error + 0.02], axis=1)
    return xr.Dataset(
        {"error": ("memory", error), "interval": (("memory", "bound"), bounds)},
        coords={"memory": ["working", "reference"], "bound": ["lower", "upper"]},
        attrs={"chance": 0.9},
    )


def drawn(ax):
    """A figure can be drawn without a warning."""
    ax.figure.canvas.draw()


def test_maps_are_drawn_the_same_with_any_origin_of_images(ax):
    image = pf.plot.rate_maps(maps(), ax=ax, colorbar=False).images[0]
    with mpl.rc_context({"image.origin": "lower"}):
        other = pf.plot.rate_maps(maps(), ax=Figure().add_subplot(), colorbar=False).images[0]
    drawn = [np.asarray(one.make_image(one.figure._get_renderer())[0]) for one in (image, other)]
    np.testing.assert_array_equal(*drawn)


def by_label(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def test_image_is_the_rate_and_unvisited_places_are_masked(ax):
    data = maps()
    assert pf.plot.rate_maps(data, 1, ax=ax) is ax
    (image,) = ax.images
    shown, rate = image.get_array(), data["rate"].values[1]
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), np.isnan(rate))
    np.testing.assert_array_equal(shown.compressed(), rate[np.isfinite(rate)])
    assert ax.patch.get_hatch()
    drawn(ax)


def test_rate_map_has_the_place_of_every_rate(ax):
    pf.plot.rate_maps(maps(), ax=ax)
    left, right, bottom, top = ax.images[0].get_extent()
    assert (left, right, top, bottom) == (-0.5, 4.5, -0.5, 3.5)
    assert ax.images[0].origin == "upper"
    assert ax.get_xlim() == (-0.5, 4.5)
    assert ax.get_ylim() == (3.5, -0.5)
    assert ax.get_xlabel() == "x (grid steps)"
    assert all(float(tick).is_integer() for tick in ax.get_xticks())


def test_colour_bar_names_the_units_and_keeps_the_limits(ax):
    data = maps()
    data["rate"].attrs["units"] = "mV"
    pf.plot.rate_maps(data, ax=ax, limits=(-50, 50))
    assert ax.images[0].get_clim() == (-50, 50)
    assert ax.figure.axes[1].get_ylabel() == "mean activation (mV)"
    pf.plot.rate_maps(data, ax=(bare := Figure().add_subplot()), colorbar=False)
    assert bare.figure.axes == [bare]


def test_title_says_layer_and_unit(ax):
    data = maps().assign_coords(layer=("unit", ["ffn.0", "ffn.0", "ffn.1"]))
    pf.plot.rate_maps(data, 2, ax=ax)
    assert ax.get_title() == "ffn.1 unit 2"


def test_bins_of_unequal_size_keep_their_edges(ax):
    data = maps().assign_coords(x=[0.5, 1.5, 3, 6, 12], y=np.arange(4) + 0.5)
    data = data.assign_coords(
        x_edges=("x_edges", [0.0, 1, 2, 4, 8, 16]), y_edges=("y_edges", np.arange(5.0))
    )
    pf.plot.rate_maps(data, ax=ax)
    (mesh,) = ax.collections
    corners = mesh.get_coordinates()
    np.testing.assert_array_equal(corners[0, :, 0], [0, 1, 2, 4, 8, 16])
    assert np.ma.getmaskarray(mesh.get_array()).sum() == 1
    drawn(ax)


def test_without_an_ax_there_is_a_new_figure_of_pyplot():
    before = plt.get_fignums()
    ax = pf.plot.rate_maps(maps())
    assert plt.get_fignums() == [*before, ax.figure.number]
    plt.close(ax.figure)


def test_y_goes_upwards_except_on_a_grid(ax):
    metres = maps().assign_coords(x=(np.arange(5) + 0.5) / 5, y=(np.arange(4) + 0.5) / 4)
    metres = metres.assign_coords(
        x_edges=("x_edges", np.arange(6) / 5), y_edges=("y_edges", np.arange(5) / 4)
    )
    pf.plot.rate_maps(metres, ax=ax)
    assert ax.get_ylim() == (0, 1)
    left, right, bottom, top = ax.images[0].get_extent()
    assert (left, right, top, bottom) == (0, 1, 0, 1)  # the first row at y = 0
    drawn(ax)


def test_maps_of_one_axis_are_curves_and_rows(ax):
    data = maps().isel(y=0, drop=True)
    pf.plot.rate_maps(data, 1, ax=ax, limits=(-1, 2))
    (curve,) = ax.patches[-1:]
    np.testing.assert_array_equal(curve.get_data().values, data.rate[1])
    assert ax.get_xlabel() == "x (grid steps)"
    assert ax.get_ylim() == (-1, 2)
    label = xr.DataArray(np.array([[0, 1, 1, 0, 2]] * 3), dims=("unit", "x"))
    pf.plot.place_fields(data, label, ax=(other := Figure().add_subplot()))
    shaded = [p.get_x() + np.array([0, p.get_width()]) for p in other.patches[-2:]]
    np.testing.assert_array_equal(shaded, [[0.5, 2.5], [3.5, 4.5]])


def test_population_is_sorted_by_peaks(ax):
    rate = np.array([[0.0, 1, 2, 9, 0], [np.nan, 8, 0, 0, 4], [1.0, 1, 3, 1, 1]])
    data = maps().isel(y=0, drop=True)
    data = data.assign(rate=(("unit", "x"), rate))
    shown = pf.plot.population(data, ax=ax).images[0].get_array()
    np.testing.assert_allclose(shown.filled(-1)[[0, 1]], [[-1, 1, 0, 0, 0.5], [0, 0, 1, 0, 0]])
    assert ax.get_ylim() == (2.5, -0.5)
    plain = pf.plot.population(data, order=[2, 0], normalize=False, ax=Figure().add_subplot())
    np.testing.assert_array_equal(plain.images[0].get_array(), rate[[2, 0]])
    with pytest.raises(ValueError, match="one axis of place"):
        pf.plot.population(maps(), ax=ax)
    for wrong in ([3], [0.7, 1.2], [True, False, True], []):
        with pytest.raises(ValueError, match="order must hold .* whole numbers from 0 to 2"):
            pf.plot.population(data, order=wrong, ax=ax)


def test_population_of_one_half_is_sorted_by_the_other(ax):
    data = maps().isel(y=0, drop=True)
    odd = data.assign(rate=(("unit", "x"), np.eye(3, 5)[[1, 2, 0]]))
    even = data.assign(rate=(("unit", "x"), np.eye(3, 5)[[1, 0, 2]]))
    halves = xr.concat([odd, even], xr.Variable("half", ["odd", "even"]), data_vars=["rate"])
    drawn_rows = pf.plot.population(halves, ax=ax).images[0].get_array()
    np.testing.assert_array_equal(drawn_rows, np.eye(3, 5)[[2, 1, 0]])
    assert ax.get_title() == "even half, sorted by the odd half"
    other = Figure().add_subplot()
    same = pf.plot.population(even, sort_by=odd, ax=other).images[0].get_array()
    np.testing.assert_array_equal(same, drawn_rows)
    with pytest.raises(ValueError, match="sort_by must be None if order is given"):
        pf.plot.population(even, sort_by=odd, order=[0], ax=ax)
    with pytest.raises(ValueError, match="sort_by"):
        pf.plot.population(even, sort_by=odd.isel(unit=[0, 1]), ax=ax)


def test_gallery_draws_the_chosen_units_in_order():
    data = maps().assign_coords(unit=["a/0", "a/1", "b/0"])
    for chosen in ([2, 0], ["b/0", "a/0"]):
        axes = pf.plot.gallery(data, chosen, ax=Figure().subplots(1, 3))
        assert len(axes) == 2
        for ax, number in zip(axes, (2, 0), strict=True):
            shown = ax.images[0].get_array()
            np.testing.assert_array_equal(shown.filled(np.nan), data.rate[number])
            assert ax.get_title().endswith(
                f"\n{np.nanmin(data.rate[number]):.2g} to {np.nanmax(data.rate[number]):.2g}"
            )
    figure = Figure()
    assert len(pf.plot.gallery(data, data.unit == "a/1", ax=figure.subplots(1, 2))) == 1
    assert [ax.get_visible() for ax in figure.axes] == [True, False]
    for chosen, message in (
        ([3], "numbers from 0 to 2"), (["c/1"], "do not have"), ([], "1 to 200"),
        (np.array([True]), "one boolean for each of 3 units"), ([0.5], "numbers from 0 to 2"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            pf.plot.gallery(data, chosen, ax=Figure().subplots(1, 3))
    with pytest.raises(ValueError, match="ax must hold 3 axes, got 1"):
        pf.plot.gallery(data, ax=Figure().subplots())


def test_several_maps_are_refused_with_the_way_out(ax):
    several = xr.concat(
        [maps(), maps()], "map", data_vars="all", coords="minimal", compat="override", join="exact"
    )
    with pytest.raises(ValueError, match=r"isel\(map=0\)"):
        pf.plot.rate_maps(several, ax=ax)


def test_outline_runs_along_the_edges_of_the_field(ax):
    data = maps()
    label = np.zeros((3, 4, 5), int)
    label[1, 0, 0] = label[1, 0, 1] = 1
    label[1, 3, 4] = 2
    fields = data["rate"].copy(data=label)
    assert pf.plot.place_fields(data, fields, 1, ax=ax) is ax
    outlines = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert len(outlines) == 4  # dark and white, two fields
    segments = {tuple(map(tuple, s)) for s in outlines[1].get_segments()}
    assert segments == {
        ((-0.5, -0.5), (0.5, -0.5)), ((0.5, -0.5), (1.5, -0.5)),
        ((-0.5, 0.5), (0.5, 0.5)), ((0.5, 0.5), (1.5, 0.5)),
        ((-0.5, -0.5), (-0.5, 0.5)), ((1.5, -0.5), (1.5, 0.5)),
    }  # fmt: skip
    assert {tuple(map(tuple, s)) for s in outlines[3].get_segments()} == {
        ((3.5, 2.5), (4.5, 2.5)), ((3.5, 3.5), (4.5, 3.5)),
        ((3.5, 2.5), (3.5, 3.5)), ((4.5, 2.5), (4.5, 3.5)),
    }  # fmt: skip
    drawn(ax)


def test_fields_that_were_found_can_be_drawn(ax):
    data = simulation.maps([simulation.bump((3, 4)), simulation.bump((8, 8))])
    found = pf.place_fields(data)
    pf.plot.place_fields(data, found, 1, ax=ax)
    points = np.concatenate(ax.collections[1].get_segments())
    inside = found["label"].values[1] > 0
    y, x = np.nonzero(inside)
    assert points.min(axis=0).tolist() == [x.min() - 0.5, y.min() - 0.5]
    assert points.max(axis=0).tolist() == [x.max() + 0.5, y.max() + 0.5]


def test_units_have_a_number_or_a_label_and_walks_a_number(ax):
    data = simulation.maps(np.random.default_rng(0).random((2, 9, 9)))
    data = data.assign_coords(unit=["a/1", "b/2"])
    correlogram, found = pf.autocorrelogram(data), pf.place_fields(data)
    for draw in (lambda unit: pf.plot.rate_maps(data, unit, ax=ax),
                 lambda unit: pf.plot.place_fields(data, found, unit, ax=ax),
                 lambda unit: pf.plot.autocorrelogram(correlogram, unit, ax=ax)):  # fmt: skip
        assert [draw(unit).get_title() for unit in (1, "b/2")] == ["b unit 2"] * 2
        for unit, words in (
            (2, "numbers from 0 to 1, got .2."),
            ("1", "labels of maps"),
            (0.5, "0.5"),
        ):
            with pytest.raises(ValueError, match=f"unit must be .*{words}"):
                draw(unit)
    with pytest.raises(ValueError, match="walk must be a number from 0 to 0, got 1"):
        pf.plot.walk(behaviour().isel(walk=[0]), walk=1, ax=ax)


@pytest.mark.parametrize("units", [("rad", "cm"), ("cm", "cm")])
def test_axes_of_two_units_have_no_common_scale(ax, units):
    data = pf.maps_from_arrays(np.eye(4), edges=[np.arange(5), np.arange(5) * 100])
    for name, unit in zip("yx", units, strict=True):
        data[name].attrs["units"] = unit
    aspect = pf.plot.rate_maps(data, ax=ax).get_aspect()
    assert aspect == (1 if units[0] == units[1] else "auto")


def test_what_is_paired_by_unit_must_have_the_same_order(ax):
    label = {"unit": ["a", "b"]}
    data = simulation.maps(np.random.default_rng(0).random((2, 9, 9))).assign_coords(label)
    found = pf.place_fields(data.isel(unit=[1, 0]))
    for draw in (lambda: pf.plot.place_fields(data, found, ax=ax),
                 lambda: pf.plot.gallery(data, fields=found)):  # fmt: skip
        with pytest.raises(ValueError, match="maps and fields must hold the same units"):
            draw()
    lattice = pf.grid_properties(data.isel(unit=[1, 0]))
    with pytest.raises(ValueError, match="r and properties must hold the same units"):
        pf.plot.autocorrelogram(pf.autocorrelogram(data), properties=lattice, ax=ax)
    track = pf.maps_from_arrays(np.eye(3), by="x")
    with pytest.raises(ValueError, match="maps and sort_by .* as order=$"):
        pf.plot.population(track, sort_by=track.isel(unit=[2, 1, 0]), ax=ax)


def test_fields_of_other_maps_are_refused(ax):
    other = simulation.maps(np.zeros((3, 6, 6)))
    with pytest.raises(ValueError, match=r"fields must be those of maps"):
        pf.plot.place_fields(maps(), other["rate"], ax=ax)


def test_walk_marks_every_prediction_at_its_place(ax):
    data = behaviour()
    assert pf.plot.walk(data, ax=ax) is ax
    lines = by_label(ax)
    np.testing.assert_array_equal(lines["path"].get_xdata(), data["x"].values[0])
    np.testing.assert_array_equal(lines["path"].get_ydata(), data["y"].values[0])
    for label, steps in {
        "working memory, right": [1, 4],
        "working memory, wrong": [2],
        "reference memory, right": [0],
        "reference memory, wrong": [3, 5],
    }.items():
        line = lines[f"{label} ({len(steps)})"]
        for axis, at in (("x", line.get_xdata()), ("y", line.get_ydata())):
            np.testing.assert_array_less(np.abs(at - data[axis].values[0][steps]), 0.5)
        assert (line.get_markerfacecolor() == "none") == label.endswith("wrong")
        assert line.get_marker() == ("o" if label.startswith("working") else "D")
    drawn(ax)


def test_predictions_at_one_place_are_apart(ax):
    steps = ("walk", "time")
    still = behaviour().assign_coords(x=(steps, np.ones((1, 6))), y=(steps, np.ones((1, 6))))
    pf.plot.walk(still, ax=ax, legend=False)
    points = np.concatenate(
        [line.get_xydata() for line in ax.get_lines() if "memory" in str(line.get_label())]
    )
    assert len(np.unique(points.round(3), axis=0)) == 6
    assert ax.get_legend() is None


def test_walk_shows_the_letters_where_they_stand(ax):
    letters = xr.DataArray(np.arange(20, 29).reshape(3, 3), dims=("y", "x"))
    pf.plot.walk(behaviour()[["x", "y"]], letters, ax=ax)
    shown = {t.get_text(): t.get_position() for t in ax.texts}
    assert len(shown) == 9
    assert shown["V"] == (1 - 0.44, 0 - 0.42)
    assert shown["28"] == (2 - 0.44, 2 - 0.42)


def test_memory_shows_errors_intervals_and_chance(ax):
    assert pf.plot.memory({"trained": errors(), "novel": errors(0.3)}, ax=ax) is ax
    first, second = ax.containers
    np.testing.assert_allclose(first.lines[0].get_ydata(), [0.1, 0.5])
    np.testing.assert_allclose(second.lines[0].get_ydata(), [0.4, 0.8])
    bars = first.lines[2][0].get_segments()
    np.testing.assert_allclose([bar[:, 1] for bar in bars], [[0.05, 0.12], [0.45, 0.52]])
    assert by_label(ax)["chance"].get_ydata() == [0.9, 0.9]
    assert [t.get_text() for t in ax.texts] == ["10.0%", "50.0%", "40.0%", "80.0%"]
    drawn(ax)


def test_memory_without_predictions_is_left_out(ax):
    data = errors()
    data["error"][1] = data["interval"][1] = np.nan
    pf.plot.memory(data, ax=ax)
    assert [t.get_text() for t in ax.texts] == ["10.0%"]
    drawn(ax)


def share_above(line, value):
    x, y = line.get_data()
    return y[np.searchsorted(x, value, side="right") - 1]


@pytest.mark.parametrize("n", [9, 5000])
def test_distribution_is_the_share_above(ax, n):
    values = np.random.default_rng(0).normal(size=n)
    some = xr.DataArray(values, dims="unit", attrs={"units": "bit", "long_name": "information"})
    assert pf.plot.distribution({"some": some, "zeros": np.zeros(4)}, ax=ax) is ax
    line = by_label(ax)["some"]
    for value in np.quantile(values, [0.1, 0.5, 0.9]):
        assert abs(share_above(line, value) - (values > value).mean()) < 0.01
    assert line.get_ydata()[0] == 1
    assert line.get_ydata()[-1] == 0
    assert len(line.get_xdata()) <= pf.plot.maps.MOST_POINTS + 1
    assert ax.get_xlabel() == "information (bit)"
    drawn(ax)


def test_distribution_leaves_out_what_is_not_a_number(ax):
    pf.plot.distribution({"a": np.array([np.nan, 1.0, 2.0]), "b": np.array([np.nan])}, ax=ax)
    assert share_above(by_label(ax)["a"], 1.5) == 0.5
    assert len(by_label(ax)["b"].get_xdata()) == 0
    drawn(ax)


def test_nothing_that_is_given_changes(ax):
    data, walk = maps(), behaviour()
    pf.plot.place_fields(data, pf.place_fields(data), ax=ax)
    pf.plot.walk(walk)
    xr.testing.assert_identical(data, maps())
    xr.testing.assert_identical(walk, behaviour())


def test_an_autocorrelogram_of_a_track_is_a_curve_and_others_are_refused(ax):
    track = pf.maps_from_arrays(np.cos(np.arange(60.0)), by="x")
    pf.plot.autocorrelogram(pf.autocorrelogram(track), ax=ax)
    assert len(ax.lines[0].get_xdata()) == 119
    assert ax.get_xlabel() == "lag along x (bins)"
    several = pf.autocorrelogram(pf.maps_from_arrays(np.ones((2, 3, 8, 8))))
    with pytest.raises(ValueError, match="r must have the dims .* select one of several maps"):
        pf.plot.autocorrelogram(several)


def test_a_lattice_that_was_not_found_is_not_drawn(ax):
    maps = pf.maps_from_arrays(simulation.bump((6, 6), 2, 16))
    r, found = pf.autocorrelogram(maps), pf.grid_properties(maps)
    pf.plot.autocorrelogram(r, properties=found, ax=ax)
    assert not ax.lines
    assert not ax.patches


def test_names_with_dollars_are_no_formulas():
    rate = np.random.default_rng(0).random((1, 8, 8))
    maps = pf.maps_from_arrays(rate, layer="a$x_{b$c")
    axes = [pf.plot.rate_maps(maps), pf.plot.autocorrelogram(pf.autocorrelogram(maps))]
    for ax in axes:
        ax.figure.canvas.draw()  # a formula that is none fails here
        assert ax.get_title() == r"a\$x_{b\$c unit 0"


@pytest.mark.parametrize(("scale", "shift"), [(0.1, 0.0), (1.0, -1.0)])
def test_a_walk_off_the_grid_is_seen_as_a_whole(ax, scale, shift):
    moved = behaviour().drop_attrs(deep=False)
    moved = moved.assign_coords(x=moved.x * scale + shift, y=moved.y * scale + shift)
    pf.plot.walk(moved, ax=ax)
    for values, limits in ((moved.x, ax.get_xlim()), (moved.y, ax.get_ylim())):
        assert min(limits) < values.min() and values.max() < max(limits)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x", "y")


def test_only_bins_of_a_grid_are_grid_steps(ax):
    on_grid, halves = maps().drop_attrs(), maps().drop_attrs()
    halves = halves.assign_coords(x=halves.x / 2)
    assert pf.plot.rate_maps(on_grid, ax=ax).get_xlabel() == "x (grid steps)"
    axes = pf.plot.rate_maps(halves, ax=Figure().add_subplot())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "y (grid steps)")


def test_groups_differ_in_their_looks_and_names_are_no_formulas(ax):
    groups = {f"$a^$ {i} $\\x$": np.arange(5.0) + i for i in range(9)}
    lines = pf.plot.distribution(groups, ax=ax).get_lines()
    drawn(ax)
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 9
    several = {name: errors() for name in groups}
    drawn(pf.plot.memory(several, ax=Figure().add_subplot()))
