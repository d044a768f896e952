"""Score cards as JSON, for other programs, and as HTML pages."""

from __future__ import annotations

import json
import math
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from placeformer._atomic import atomic_file

FORMAT = "placeformer score card 1"
SUFFIXES = (".json", ".html")
TEMPLATES = Environment(
    loader=PackageLoader("placeformer.evaluation"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_score_card(card: xr.Dataset, file: str | PathLike[str], *, title: str = "") -> Path:
    """Write a score card as JSON or as an HTML page, completely or not at all.

    Parameters
    ----------
    card
        Result of :func:`score_card`.
    file
        File to write; its suffix ``.json`` or ``.html`` determines the format. JSON holds the whole
        card (undefined numbers are null) and is read by :func:`read_score_card`; the HTML page is a
        single self-contained file with one table per layer.
    title
        Title of the page, such as the name of the network.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError
        The suffix is another, or `card` is not a score card.

    See Also
    --------
    score_card : Measure a network.
    read_score_card : Read JSON.

    Examples
    --------
    >>> import tempfile
    >>> import placeformer as pf
    >>> from placeformer.evaluation import simulation
    >>> import numpy as np
    >>> recording = simulation.place_code(np.random.default_rng(0), n_walks=8, n_units=4)
    >>> card = pf.score_card(recording, progress=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pf.write_score_card(card, folder + "/card.json")
    ...     pf.read_score_card(file).identical(card)
    True
    """
    file = Path(file).expanduser()
    if file.suffix not in SUFFIXES:
        raise ValueError(f"file must end in {' or '.join(SUFFIXES)}, got {file.name!r}")
    check_card(card)
    text = as_json(card) if file.suffix == ".json" else as_page(card, title or "Score card")
    with atomic_file(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return file


def read_score_card(file: str | PathLike[str]) -> xr.Dataset:
    """Read a score card that :func:`write_score_card` wrote as JSON.

    Parameters
    ----------
    file
        JSON file.

    Returns
    -------
    xarray.Dataset
        The card, see :func:`score_card`.

    Raises
    ------
    ValueError
        The file does not hold a score card.

    See Also
    --------
    write_score_card : Write a card, with an example of both.

    Examples
    --------
    >>> import placeformer as pf
    >>> pf.read_score_card("no-card.json")
    Traceback (most recent call last):
    FileNotFoundError: ...
    """
    try:
        stored = json.loads(Path(file).expanduser().read_text(encoding="utf-8"))
        if stored["format"] != FORMAT:
            raise KeyError(stored["format"])
        return from_plain(stored["card"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is not a score card written by write_score_card") from error


def check_card(card: object) -> None:
    """Refuse anything that is not a score card."""
    if not isinstance(card, xr.Dataset) or not {"share", "decoded_error"} <= set(card.variables):
        raise ValueError(f"card must be a result of score_card, got {type(card).__name__}")


def as_json(card: xr.Dataset) -> str:
    """All of a card as JSON."""
    return json.dumps({"format": FORMAT, "card": plain(card)}, indent=1, ensure_ascii=False) + "\n"


def plain(card: xr.Dataset) -> dict[str, Any]:
    """A card as lists, numbers and texts; None where a number is undefined."""
    stored = card.to_dict(encoding=False)
    for part in ("coords", "data_vars"):
        for name, entry in stored[part].items():
            values = card[name].values
            entry["dtype"] = "str" if values.dtype.kind in "UO" else str(values.dtype)
            if values.dtype.kind == "f":
                objects = values.astype(object)
                objects[np.isnan(values)] = None
                entry["data"] = objects.tolist()
    return stored


def from_plain(stored: dict[str, Any]) -> xr.Dataset:
    """Restore the card from the output of :func:`plain`."""
    variables: dict[str, xr.Variable] = {}
    for part in ("coords", "data_vars"):
        for name, entry in stored[part].items():
            values = np.array(entry["data"], entry["dtype"])
            variables[name] = xr.Variable(tuple(entry["dims"]), values, entry["attrs"])
    card = xr.Dataset(variables, attrs=stored["attrs"])
    return card.set_coords(list(stored["coords"]))


def as_page(card: xr.Dataset, title: str) -> str:
    """An HTML page with one table per layer."""
    layers = [table_of(card.sel(layer=layer)) for layer in card["layer"].values]
    return TEMPLATES.get_template("score_card.html.jinja").render(
        title=title,
        layers=layers,
        subjects=card["subject"].values.tolist(),
        criteria=dict(zip(card["mark"].values, card["criterion"].values, strict=True)),
        attrs=card.attrs,
    )


def table_of(one: xr.Dataset) -> dict[str, Any]:
    """Rows of the table of one layer: the name of each row, and one cell per subject."""
    subjects = one["subject"].values
    rows = []
    for mark in one["mark"].values:
        cells = []
        for subject in subjects:
            at = one.sel(mark=mark, subject=subject)
            bounds = at["share_interval"].values
            cells.append(cell(float(at["share"]), bounds, str(at["share_reason"].item()), "%"))
        rows.append((str(mark), cells))
    units = str(one["decoded_error"].attrs["units"])
    parts = [one.sel(subject=subject) for subject in subjects]
    for decoder in one["decoder"].values:
        cells = []
        for at in (part.sel(decoder=decoder) for part in parts):
            note = f"chance {float(at['chance_error']):.3g}{p_text(at['decoded_p'])}"
            bounds, reason = at["decoded_interval"].values, str(at["decoded_reason"].item())
            cells.append(cell(float(at["decoded_error"]), bounds, reason, note=note))
        title = f"decoded error, {decoder}" + ("" if units == "1" else f" ({units})")
        rows.append((title, cells))
    rows.append(
        (
            "cost of lesioning the place cells, beyond control units",
            [
                cell(
                    float(at["lesion_cost"]),
                    at["lesion_interval"].values,
                    str(at["lesion_reason"].item()),
                    note=f"{int(at['lesion_n'])} units{p_text(at['lesion_p'])}",
                )
                for at in parts
            ],
        )
    )
    return {"name": str(one["layer"].item()), "n": int(one["n_units"]), "rows": rows}


def p_text(p: xr.DataArray) -> str:
    """Text of a p-value after a comma; empty if there was no test."""
    return "" if np.isnan(p) else f", p = {float(p):.2g}"


def cell(
    value: float, bounds: NDArray[np.float64], reason: str, kind: str = "", note: str = ""
) -> dict[str, str]:
    """Texts of one cell: value, interval and note; the reason if there is no value."""
    if math.isnan(value):
        return {"value": "–", "interval": "", "note": reason}
    shown = "{:.0%}" if kind == "%" else "{:.3g}"
    known = bool(np.isfinite(bounds).all())
    interval = " to ".join(shown.format(bound) for bound in bounds) if known else ""
    return {"value": shown.format(value), "interval": interval, "note": note}
