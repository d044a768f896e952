"""Place fields: compact regions of a rate map that stand out from the rest of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer import schema
from placeformer._regions import Criteria, Found, Method, detect
from placeformer.ratemaps import flatten

FIELD = "field"


def place_fields(
    maps: xr.Dataset,
    *,
    method: Method = "peak",
    threshold: float = 0.2,
    min_bins: int = 4,
    min_contrast: float = 4.5,
    min_prominence: float = 0.3,
    connectivity: int = 4,
) -> xr.Dataset:
    """Find the place fields of every unit.

    The height of a rate is its distance from the unit's baseline, the median of its map. A
    field is a connected set of bins of at least ``threshold`` times the greatest height, with
    one peak; two peaks that touch are two fields when the saddle between them is deep enough.
    Only differences of rates count, so signed activations of any scale and offset will do.

    Parameters
    ----------
    maps
        RateMaps, of one map or several.
    method
        ``"peak"``: as described. ``"fraction"``: the convention for firing rates, bins of at
        least ``threshold`` times the peak rate itself that are connected; no baseline, contrast
        or saddle (a flat map is then one field).
    threshold
        Share of the unit's greatest height that a bin of a field must reach. The 20 % are those
        of the literature on place cells.
    min_bins
        Least size in bins: 4 of 121 is the least that is not a single place and a neighbour or
        two, which a letter that happens to recur can mimic.
    min_contrast
        Least height of a field's peak, in spreads of the background: the distance between the 5 %
        and 30 % quantiles of the map as a normal standard deviation, which fields that cover
        less than two thirds of the arena hardly widen. Of 1,000 maps of 11 x 11 independent
        normal values fewer than 10 hold a region of ``min_bins`` that rises 4.5 spreads.
        Smoothed maps need more.
    min_prominence
        Least depth of the saddle below the lower of two peaks, as a share of the unit's greatest
        height; at least two background spreads are always asked for.
    connectivity
        Bins of a field touch by sides (4), or by sides and corners (8).

    Returns
    -------
    xarray.Dataset
        ``label`` (unit, y, x): 0 outside fields, 1 in the unit's field of the highest peak, 2 in
        the next. ``n_fields`` (unit). And a table over (unit, field), numbered as the labels and
        padded: ``size`` (bins, 0 where padded), ``peak`` (rate), ``height`` (rate above the
        baseline), ``contrast`` (spreads), ``centroid_y``, ``centroid_x`` (units of the axes,
        weighted by height) and ``eccentricity`` (0 round to 1 line; NaN on one axis), NaN where
        padded. A leading ``map`` stays. :func:`field_table` makes a DataFrame of it.

    Raises
    ------
    ValueError
        Maps break the contract or a criterion is out of range.

    Notes
    -----
    Unvisited places (NaN) belong to no field and part what they separate.

    References
    ----------
    Muller, R. U., Kubie, J. L. and Ranck, J. B. (1987). Spatial firing patterns of hippocampal
    complex-spike cells in a fixed environment. Journal of Neuroscience 7, 1935-1950.
    https://doi.org/10.1523/JNEUROSCI.07-07-01935.1987
    Soille, P. (2004). Morphological Image Analysis, chapter 6 (h-maxima).
    https://doi.org/10.1007/978-3-662-05088-0
    """
    criteria = Criteria(method, threshold, min_bins, min_contrast, min_prominence, connectivity)
    criteria.check()
    schema.check_rate_maps(maps)
    rate, share = flatten(maps)
    sizes = tuple(maps.sizes[d] for d in schema.place_dims(maps))
    valid = np.broadcast_to(share > 0, rate.shape)
    lead = rate.shape[:-1]
    found = detect(rate.reshape(-1, *sizes), valid.reshape(-1, *sizes), criteria)
    return _label(maps, found, lead, criteria)


def field_table(fields: xr.Dataset) -> Any:
    """Fields as a pandas DataFrame, one row a field, without the padding.

    Parameters
    ----------
    fields
        Result of :func:`place_fields`.
    """
    table = fields.drop_dims([d for d in fields["label"].dims if d not in fields["size"].dims])
    frame = table.drop_vars("n_fields").to_dataframe()
    return frame[frame["size"] > 0]


def _label(maps: xr.Dataset, found: Found, lead: tuple[int, ...], criteria: Criteria) -> xr.Dataset:
    """Label what was found as a Dataset with the coordinates of the maps."""
    space = schema.place_dims(maps)
    rate = maps[schema.RATE]
    first = tuple(d for d in rate.dims if d not in (schema.UNIT, *space))
    outer = (*first, schema.UNIT)
    n_fields = np.bincount(found.owner, minlength=len(found.label))
    width = max(1, int(n_fields.max(initial=0)))
    table = {
        name: ((*outer, FIELD), _pad(found, values, (*lead, width), name), attrs)
        for name, values, attrs in _columns(maps, found, space)
    }
    result = xr.Dataset(
        {
            "label": (
                (*outer, *space),
                found.label.reshape(*lead, *found.label.shape[1:]),
                {"units": "1", "long_name": "number of the field, 0 outside fields"},
            ),
            "n_fields": (
                outer,
                n_fields.reshape(lead),
                {"units": "1", "long_name": "number of fields"},
            ),
            **table,
        },
        coords={
            **rate.coords,
            FIELD: (
                FIELD,
                np.arange(1, width + 1),
                {"units": "1", "long_name": "field by height of peak"},
            ),
        },
    )
    result.attrs = {name: getattr(criteria, name) for name in Criteria.__dataclass_fields__}
    result.attrs[schema.PROVENANCE] = schema.provenance(maps, "place_fields", **result.attrs)
    return result


def _columns(
    maps: xr.Dataset, found: Found, space: tuple[str, ...]
) -> list[tuple[str, NDArray[np.float64], dict[str, str]]]:
    """Name, values and attributes of every column of the table."""
    columns, units = found.columns, str(maps[schema.RATE].attrs.get("units", "a.u."))

    def entry(name: str, unit: str, long_name: str) -> tuple[str, Any, dict[str, str]]:
        return name, columns[name], {"units": unit, "long_name": long_name}

    listed = [
        entry("size", "bins", "bins of the field"),
        entry("peak", units, "greatest rate in the field"),
        entry("height", units, "greatest rate above the baseline of the map"),
        entry("contrast", "1", "height over the spread of the background"),
        entry("eccentricity", "1", "eccentricity of the field"),
    ]
    for i, dim in enumerate(space):
        centres = np.asarray(maps[dim].values, float)
        position = np.interp(columns[f"axis_{i}"], np.arange(len(centres)), centres)
        attrs = {
            "units": str(maps[dim].attrs.get("units", "1")),
            "long_name": f"{dim} of the centroid weighted by height",
        }
        listed.append((f"centroid_{dim}", position, attrs))
    return listed


def _pad(
    found: Found, values: NDArray[np.float64], shape: tuple[int, ...], name: str
) -> NDArray[Any]:
    """Flat column laid out over (..., unit, field)."""
    fill, kind = (0, np.int64) if name == "size" else (np.nan, np.float64)
    laid_out = np.full((len(found.label), shape[-1]), fill, kind)
    laid_out[found.owner, found.number - 1] = values
    return laid_out.reshape(shape)
