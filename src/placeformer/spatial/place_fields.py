"""Place fields: compact regions of a rate map that stand out from the rest of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.data import circular, schema
from placeformer.data.schema import variable
from placeformer.data.unit_identity import check_same_units
from placeformer.spatial.field_detection import Criteria, DetectedFields, Method, detect
from placeformer.spatial.rate_maps import flatten

FIELD = "field"

MIN_CONTRAST = 4.5

SIDE_OF_FIELD: dict[str, int] = {"peak": 2, "fraction": 3, "opexebo": 3}
"""Side in bins of the smallest field by default, a square of 4 or 9 bins on two axes."""


def place_fields(
    maps: xr.Dataset,
    *,
    method: Method = "peak",
    threshold: float = 0.2,
    min_bins: int | None = None,
    min_contrast: float | None = None,
    min_prominence: float = 0.25,
    connectivity: int = 4,
) -> xr.Dataset:
    """Find the place fields of every unit.

    The height of a rate is its distance from the unit's baseline, the median of its map. A
    field is a connected set of bins of at least ``threshold`` times the maximum height that has
    one peak and stands out from the noise of the map. Two adjacent peaks are two fields if the
    saddle between them is deep enough. Only differences of rates matter, so activations may be
    signed and have any scale and offset.

    Parameters
    ----------
    maps
        RateMaps, of one map or several.
    method
        ``"peak"``: as described. Two conventions for firing rates, for comparison:
        ``"fraction"``, connected bins of at least ``threshold`` times the peak rate itself, and
        ``"opexebo"``, that package's adaptive threshold (two axes only; it falls to
        ``threshold``, and bins are connected by sides). Neither uses a baseline or a contrast: a
        map of noise has fields, and with ``"fraction"`` a flat map is one field.
    threshold
        Fraction of the unit's maximum height that a bin of a field must reach. 20 % is usual in
        the literature on place cells.
    min_bins
        Minimum size in bins; by default 4 for ``"peak"``, because a letter that happens to recur
        nearby can mimic a field of up to three places, and the conventional 9 for the others. These
        are squares of 2 x 2 and 3 x 3 bins on two axes; on one axis the default is 2 or 3 bins.
    min_contrast
        For ``"peak"``: how far the maximum mean of 3 x 3 bins in the field must lie above the
        median of all such means, in standard errors. The noise of a bin is the root mean square
        difference of neighbours (von Neumann and others, 1941). It includes fields, which limits
        the contrast of a noiseless field to about 20 on 11 x 11 places. Where the background of the
        means varies more than that, as in smoothed maps, its spread is used instead: the difference
        between their 5 % and 30 % quantiles, converted to a normal standard deviation. The default
        is 4.5, which fewer than 1 % of maps of 11 x 11 independent normal values reach, and 3 % of
        maps of exponential values. On one axis of n < 28 bins the flanks of the field are most of
        the noise, and the default is half the contrast of a noiseless field of three bins,
        sqrt(3 (n - 1)) / 2: 2.6 on 10 bins, which 4 % of maps of normal noise reach, and 3.8 on 20,
        which fewer than 1 % reach. The factor of one half was chosen on one recording (CA1, linear
        track) and tested on simulated tracks.
    min_prominence
        For ``"peak"``: minimum depth of the saddle below the lower of two peaks, as a fraction of
        the unit's maximum height. The depth must also be at least 2.5 standard deviations of a bin.
    connectivity
        Bins of a field are connected by sides (4), or by sides and corners (8).

    Returns
    -------
    xarray.Dataset
        ``label`` (unit, y, x): 0 outside fields, 1 in the unit's field with the highest peak, 2 in
        the next. ``n_fields`` (unit). A table over (unit, field), numbered as the labels and
        padded: ``size`` (bins, 0 where padded), ``peak`` (rate), ``height`` (rate above the
        baseline), ``contrast`` (standard errors), ``centroid_y``, ``centroid_x`` (units of the
        axes, weighted by height) and ``eccentricity`` (0 for a circle to 1 for a line; NaN on one
        axis). On one axis also ``start_x`` and ``stop_x`` (outer edges of the bins; for a field
        across the seam of a circular axis the start is above the stop) and ``width_x``. All but
        ``size`` are NaN where padded. A leading
        ``map`` is kept. :func:`field_table` returns it as a DataFrame with one row per field.

    Raises
    ------
    ValueError
        The maps break the contract, a criterion is out of range, or maps for ``"opexebo"`` do not
        have two axes with two ends each.

    See Also
    --------
    field_table : The fields as a pandas DataFrame.
    place_cell_score : Share of a unit's activity that lies in one small place field.
    rate_maps : Rate maps of a recording.
    plot.place_fields : Draw the fields of a unit.

    Notes
    -----
    On a circular axis (``circular`` of :func:`rate_maps`) the last bin adjoins the first: a region
    across the seam is one field, and its centroid is a circular mean. Unvisited places (NaN) belong
    to no field and separate the places on either side, except with ``"opexebo"``, where their rate
    is 0. Maps of many fine bins should be smoothed first
    (``rate_maps(..., smooth=1)``) when their noise is more than a twentieth of the peak.

    References
    ----------
    Muller, R. U., Kubie, J. L. and Ranck, J. B. (1987). Spatial firing patterns of hippocampal
    complex-spike cells in a fixed environment. Journal of Neuroscience 7, 1935-1950.
    https://doi.org/10.1523/JNEUROSCI.07-07-01935.1987
    von Neumann, J., Kent, R. H., Bellinson, H. R. and Hart, B. I. (1941). The mean square
    successive difference. Annals of Mathematical Statistics 12, 153-162.
    Soille, P. (2004). Morphological Image Analysis, chapters 6 (h-maxima) and 9 (watersheds).
    https://doi.org/10.1007/978-3-662-05088-0

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> y, x = np.divmod(np.arange(64), 8)  # one sample at each place of an 8 x 8 arena
    >>> field = np.exp(-((x - 3) ** 2 + (y - 3) ** 2) / 4)
    >>> units = np.stack([field, np.ones(64)], axis=-1)  # a place field and a constant rate
    >>> maps = pf.rate_maps(pf.from_arrays(units, {"x": x, "y": y}))
    >>> fields = pf.place_fields(maps)
    >>> fields.n_fields.values
    array([1, 0])
    >>> fields.centroid_y.values.round(1)
    array([[ 3.],
           [nan]])
    """
    schema.check_rate_maps(maps)
    sizes = tuple(maps.sizes[d] for d in schema.place_dims(maps))
    least = SIDE_OF_FIELD.get(str(method), 1) ** len(sizes) if min_bins is None else min_bins
    contrast = _least_contrast(sizes) if min_contrast is None else min_contrast
    criteria = Criteria(method, threshold, least, contrast, min_prominence, connectivity)
    criteria.check()
    rate, share = flatten(maps)
    if method == "opexebo" and len(sizes) != 2:
        raise ValueError(f"method='opexebo' needs maps of two axes, got {len(sizes)}")
    valid = np.broadcast_to(share > 0, rate.shape)
    lead = rate.shape[:-1]
    if method == "opexebo":
        circular.refuse_circular(maps, "method='opexebo', which does not wrap around")
    wraps = circular.wraps(maps)
    fields = detect(rate.reshape(-1, *sizes), valid.reshape(-1, *sizes), criteria, wraps)
    return _label(maps, fields, lead, criteria)


def labels_of(fields: xr.Dataset | xr.DataArray, maps: xr.Dataset) -> xr.DataArray:
    """Labels of the place fields of maps, with their dimensions as :func:`flatten` orders them.

    Parameters
    ----------
    fields
        Result of :func:`place_fields` for the maps, or its ``label``.
    maps
        RateMaps.

    Raises
    ------
    ValueError
        The fields have other dimensions, bins or units than the maps.
    """
    label = fields["label"] if isinstance(fields, xr.Dataset) else fields
    sizes, expected = dict(label.sizes), dict(maps[schema.RATE].sizes)
    if sizes != expected:
        raise ValueError(
            f"fields must be those of maps with rate {expected}, got label {sizes}; compute "
            "them with place_fields(maps)"
        )
    space = schema.place_dims(maps)
    for dim in space:
        if dim in label.coords and not np.array_equal(label[dim], maps[dim]):
            raise ValueError(
                f"fields must be those of maps, with the same bins, got other bins along {dim!r}; "
                "compute them with place_fields(maps)"
            )
    way = "compute the fields of these maps with place_fields(maps)"
    check_same_units(maps, fields, ("maps", "fields"), otherwise=way)
    lead = (d for d in maps[schema.RATE].dims if d not in (schema.UNIT, *space))
    return label.transpose(*lead, schema.UNIT, *space)


def field_table(fields: xr.Dataset) -> Any:
    """Fields as a pandas DataFrame with one row per field, without the padding.

    Parameters
    ----------
    fields
        Result of :func:`place_fields`.

    See Also
    --------
    place_fields : Find the place fields of every unit.

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> y, x = np.divmod(np.arange(64), 8)  # one sample at each place of an 8 x 8 arena
    >>> field = np.exp(-((x - 3) ** 2 + (y - 3) ** 2) / 4)
    >>> units = np.stack([field, np.ones(64)], axis=-1)  # a place field and a constant rate
    >>> maps = pf.rate_maps(pf.from_arrays(units, {"x": x, "y": y}))
    >>> table = pf.field_table(pf.place_fields(maps))
    >>> table[["size", "peak", "centroid_y", "centroid_x"]].round(1)
                size  peak  centroid_y  centroid_x
    unit field
    0    1        21   1.0         3.0         3.0
    """
    table = fields.drop_dims([d for d in fields["label"].dims if d not in fields["size"].dims])
    frame = table.drop_vars("n_fields").to_dataframe()
    return frame[frame["size"] > 0]


def _least_contrast(sizes: tuple[int, ...]) -> float:
    """Default of the minimum contrast of a field."""
    return min(MIN_CONTRAST, np.sqrt(3 * (sizes[0] - 1)) / 2) if len(sizes) == 1 else MIN_CONTRAST


def _label(
    maps: xr.Dataset, fields: DetectedFields, lead: tuple[int, ...], criteria: Criteria
) -> xr.Dataset:
    """Label detected fields as a Dataset with the coordinates of the maps."""
    space = schema.place_dims(maps)
    rate = maps[schema.RATE]
    first = tuple(d for d in rate.dims if d not in (schema.UNIT, *space))
    outer = (*first, schema.UNIT)
    n_fields = np.bincount(fields.owner, minlength=len(fields.label))
    width = max(1, int(n_fields.max(initial=0)))
    table = {
        name: variable(
            (*outer, FIELD), _pad(fields, values, (*lead, width), name), text, units=units
        )
        for name, values, text, units in _columns(maps, fields, space)
    }
    schema.refuse_names(rate, ("label", "n_fields", FIELD, *table))
    label = fields.label.reshape(*lead, *fields.label.shape[1:])
    result = xr.Dataset(
        {
            "label": variable((*outer, *space), label, "number of the field, 0 outside fields"),
            "n_fields": variable(outer, n_fields.reshape(lead), "number of fields"),
            **table,
        },
        coords={
            **rate.coords,
            FIELD: variable(FIELD, np.arange(1, width + 1), "field by height of peak"),
        },
    )
    result.attrs = {name: getattr(criteria, name) for name in Criteria.__dataclass_fields__}
    result.attrs[schema.PROVENANCE] = schema.provenance(maps, "place_fields", **result.attrs)
    return result


def _columns(
    maps: xr.Dataset, fields: DetectedFields, space: tuple[str, ...]
) -> list[tuple[str, NDArray[np.float64], str, str]]:
    """Name, values, long name and units of every column of the table."""
    columns, units = fields.columns, str(maps[schema.RATE].attrs.get("units", "1"))
    about = {
        "size": ("bins of the field", "1"),
        "peak": ("maximum rate in the field", units),
        "height": ("maximum rate above the baseline of the map", units),
        "contrast": ("mean of 3 x 3 bins above the background, in standard errors", "1"),
        "eccentricity": ("eccentricity of the field", "1"),
    }
    listed = [(name, columns[name], *text) for name, text in about.items()]
    for i, (dim, period) in enumerate(zip(space, circular.axis_periods(maps), strict=True)):
        position = _position(columns[f"axis_{i}"], maps, dim, period)
        text, units = f"{dim} of the centroid weighted by height", maps[dim].attrs.get("units", "1")
        listed.append((f"centroid_{dim}", position, text, str(units)))
    return listed + _ends(maps, fields, space)


def _ends(
    maps: xr.Dataset, fields: DetectedFields, space: tuple[str, ...]
) -> list[tuple[str, NDArray[np.float64], str, str]]:
    """Columns of the ends and the width of fields on one axis; none on more axes."""
    if len(space) > 1 or space[0] + schema.EDGES_SUFFIX not in maps.variables:
        return []
    (dim,), (wrapped,) = space, circular.wraps(maps)
    edges, units = schema.edges_of(maps, dim), str(maps[dim].attrs.get("units", "1"))
    inside = fields.label[fields.owner] == fields.number[:, None]
    # On a circular axis a field may begin before the seam; one of all bins begins at the seam.
    before = np.roll(inside, 1, axis=1) if wrapped else np.pad(inside, ((0, 0), (1, 0)))[:, :-1]
    after = np.roll(inside, -1, axis=1) if wrapped else np.pad(inside, ((0, 0), (0, 1)))[:, 1:]
    first = (inside & ~before).argmax(axis=1)
    last = np.where(inside.all(axis=1), inside.shape[1] - 1, (inside & ~after).argmax(axis=1))
    width = np.where(inside, np.diff(edges), 0.0).sum(axis=1)
    return [
        (f"start_{dim}", edges[first], f"{dim} at which the field begins", units),
        (f"stop_{dim}", edges[last + 1], f"{dim} at which the field ends", units),
        (f"width_{dim}", width, f"width of the field along {dim}", units),
    ]


def _position(
    bins: NDArray[np.float64], maps: xr.Dataset, dim: str, period: float | None
) -> NDArray[np.float64]:
    """Positions on an axis of places between the centres of its bins."""
    centres = np.asarray(maps[dim].values, float)
    if period is None:
        return np.interp(bins, np.arange(len(centres)), centres)
    around = np.append(centres, centres[0] + period)
    position = np.interp(bins, np.arange(len(around)), around)
    return np.asarray(circular.wrap(position, schema.edges_of(maps, dim)[0], period))


def _pad(
    fields: DetectedFields, values: NDArray[np.float64], shape: tuple[int, ...], name: str
) -> NDArray[Any]:
    """Column of the flat table laid out over (..., unit, field)."""
    fill, kind = (0, np.int64) if name == "size" else (np.nan, np.float64)
    laid_out = np.full((len(fields.label), shape[-1]), fill, kind)
    laid_out[fields.owner, fields.number - 1] = values
    return laid_out.reshape(shape)
