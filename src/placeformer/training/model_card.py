"""Model cards: measured figures, training curves and the text of a network's README."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import xarray as xr

from placeformer.evaluation.profiles import place_cell_shares, recorded
from placeformer.models.activation import alpha_to_mg
from placeformer.models.memory import KINDS, memory_errors, world_of
from placeformer.models.transformer import NavigationTransformer
from placeformer.plot._style import shade_windows
from placeformer.training.recipe import Recipe
from placeformer.training.trainer import Trainer
from placeformer.zoo import folder as hub
from placeformer.zoo.card import TEMPLATES, head
from placeformer.zoo.files import CURVE, RECIPE

ERRORS = {
    "reference_error_trained": ("reference memory", "-"),
    "working_error_trained": ("working memory", "-"),
    "reference_error_novel": ("reference memory, novel maps", ":"),
    "working_error_novel": ("working memory, novel maps", ":"),
}


def learning_curve(history: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the memory errors of a training against its steps.

    Parameters
    ----------
    history
        Rows of ``history.csv``: "step", and the errors on trained and novel maps; with "alpha",
        the windows of a schedule of α are shaded.

    Returns
    -------
    bytes
        A PNG picture of 640 × 400 pixels.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), dpi=100, layout="constrained")
    ax = figure.subplots()
    steps = [float(row["step"]) for row in history]
    for i, (key, (label, style)) in enumerate(ERRORS.items()):
        errors = [float(row[key]) for row in history]
        ax.plot(steps, errors, style, color=f"C{i % 2}", marker=".", markersize=3, label=label)
    if "alpha" in history[0]:
        shade_windows(ax, steps, [float(row["alpha"]) for row in history])
    ax.set(xlabel="optimiser step", ylabel="share of wrong letters", ylim=(0, 1))
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize="small")
    ax.spines[["top", "right"]].set_visible(False)
    picture = BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


PLACE_WALKS: dict[str, Any] = {"n_walks": 16, "n_steps": 512, "seed": 0}
PLACE_PROTOCOL = "{n_walks} walks of {n_steps} steps, seed {seed}".format(**PLACE_WALKS)
PLACE_PROTOCOL += ", walks exchanged, as many shuffles as decisions need"
PAPER = {"side": 11, "n_letters": 10, "n_maps": 32}


def publish(
    trainer: Trainer,
    folder: str | os.PathLike[str],
    *,
    recipe: str | os.PathLike[str] | None = None,
    n_walks: int = 256,
    n_steps: int = 2048,
    progress: bool = True,
) -> NavigationTransformer:
    """Store a trained network, measure it as stored, and write its card.

    The folder holds the weights (rounded to float16), the measured memory errors and fractions of
    place cells, the recipe, the history of the training and its curve, and a card that states all
    of them. It is what :func:`load` reads and :func:`push` shares.

    Parameters
    ----------
    trainer
        Result of :func:`train`. The card of a run that was stopped before its last step says so.
    folder
        New or empty folder. It appears complete, with its card, or not at all.
    recipe
        The TOML file it was trained with, whose comments are kept; by default the recipe is written
        from `trainer`. For a run with `init`, the table ``[init]`` is added.
    n_walks, n_steps
        Number of walks, and of steps in each, on trained and on novel maps.
    progress
        Show progress bars.

    Returns
    -------
    NavigationTransformer
        The network, read back from the folder.

    Raises
    ------
    TypeError
        `trainer` is not a result of :func:`train`; :func:`save` writes any other network.
    ValueError
        `recipe` differs from that of `trainer`, or the training has diverged.
    FolderError
        `folder` is not empty or cannot be written; a subclass of ValueError.

    See Also
    --------
    train : Train the network.
    save : Write a network without measuring it.
    push : Push the folder: ``pf.push(pf.load(folder), "org/name")``.

    Examples
    --------
    >>> import placeformer as pf
    >>> trainer = pf.train("recipe.toml", "run")  # doctest: +SKIP
    >>> model = pf.publish(trainer, "my-network", recipe="recipe.toml")  # doctest: +SKIP
    >>> url = pf.push(model, "org/my-network")  # doctest: +SKIP
    """
    if not isinstance(trainer, Trainer):
        raise TypeError(
            f"trainer must be the result of pf.train, got {type(trainer).__name__}; pf.save writes "
            "a network that was trained elsewhere"
        )
    if trainer.diverged is not None:
        raise ValueError(
            "trainer must not have diverged, got a run whose weights are not finite after step "
            f"{trainer.diverged}"
        )
    text_of_recipe = recipe_text(trainer.recipe, recipe)
    target = Path(folder).expanduser().resolve()
    with hub.new_folder(target, overwrite=False) as staging:
        draft, toml = staging / target.name, staging / RECIPE
        toml.write_text(text_of_recipe, encoding="utf-8")
        hub.save(trainer.model.cpu(), draft)
        stored = hub.read(draft)
        errors = measure(stored, n_walks=n_walks, n_steps=n_steps, progress=progress)
        shares = place_shares(stored, progress=progress)
        hub.save(
            trainer.model,
            draft,
            history=trainer.history or None,
            recipe=toml,
            card=text(target.name, stored, errors, shares, trainer),
            results=results(errors) | shares,
            overwrite=True,
        )
        if trainer.history:
            (draft / CURVE).write_bytes(learning_curve(trainer.history))
            hub.write_sums(draft)
        toml.unlink()
        for file in draft.iterdir():
            os.rename(file, staging / file.name)
        draft.rmdir()
    return hub.read(target)


def recipe_text(recipe: Recipe, file: str | os.PathLike[str] | None) -> str:
    """Text of a recipe: that of its file, with ``[init]`` if the file has none."""
    if file is None:
        return recipe.to_toml()
    said = Recipe.read(Path(file))
    if replace(said, init=said.init or recipe.init) != recipe:
        raise ValueError(
            f"recipe must be the one that trainer was made with ({recipe.name}), got another one, "
            f"{said.name}, in {os.fspath(file)}"
        )
    text = Path(file).expanduser().read_text(encoding="utf-8-sig")
    if recipe.init is None or said.init is not None:
        return text
    whole = recipe.to_toml()
    return f"{text.rstrip()}\n\n{whole[whole.index('[init]') :]}"


def measure(
    model: NavigationTransformer,
    *,
    n_walks: int = 256,
    n_steps: int = 2048,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Memory errors at chunk ends: `error`, `n`, `interval` over ``maps`` and ``memory``."""
    errors = [
        memory_errors(
            model,
            n_walks=n_walks,
            n_steps=n_steps,
            seed=seed,
            familiar=kind == "trained",
            progress=progress,
        )
        for kind in KINDS
    ]
    together = xr.concat(errors, "maps", join="exact", combine_attrs="drop_conflicts")
    return together.assign_coords(maps=list(KINDS))


def results(errors: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Errors as the `results` of a folder: value and definition."""
    entries = {}
    for kind, memory in product(errors["maps"].values, errors["memory"].values):
        cell = errors.sel(maps=kind, memory=memory)
        if not int(cell["n"]):
            continue  # the walks were too short for a prediction of this kind
        definition = (
            f"share of wrong letters at chunk ends, {memory} memory, {kind} maps; 95 % "
            f"interval over walks {interval(cell)}, {int(cell['n'])} predictions, "
            f"{protocol(errors)}"
        )
        value = round(float(cell["error"]), 6)
        entries[f"{memory}_error_{kind}"] = {"value": value, "definition": definition}
    return entries


def place_shares(
    model: NavigationTransformer, *, progress: bool = False
) -> dict[str, dict[str, Any]]:
    """Fractions of place cells as the `results` of a folder: value and definition."""
    recordings = recorded(model, **PLACE_WALKS, progress=progress)
    shares = place_cell_shares(
        recordings, n_shuffles="auto", seed=PLACE_WALKS["seed"], progress=progress
    )
    fractions = shares["place_cell_fraction"]
    units = model.config.n_layers * model.config.d_inner
    return {
        f"place_cell_fraction_{kind}": {
            "value": round(float(fractions.sel(maps=kind).mean("layer")), 6),
            "definition": (
                f"share of the {units:,} feed-forward units that place_cells accepts on the first "
                f"{kind} map, {PLACE_PROTOCOL}"
            ),
        }
        for kind in fractions["maps"].values
    }


def protocol(errors: xr.Dataset) -> str:
    """Describe the walks of a measurement."""
    attrs = errors.attrs
    return f"{attrs['n_walks']} walks of {attrs['n_steps']} steps, seed {attrs['seed']}"


def interval(error: xr.Dataset) -> str:
    """Bounds of the interval of an error."""
    low, high = error["interval"].values
    return f"{low:.4f} to {high:.4f}"


def text(
    name: str,
    model: NavigationTransformer,
    errors: xr.Dataset,
    shares: dict[str, dict[str, Any]],
    trainer: Trainer,
) -> str:
    """Write the card: results, training and limits of the network."""
    config, world, init = model.config, world_of(model), trainer.recipe.init
    return TEMPLATES.get_template("trained_card.md.jinja").render(
        head=head(name, results(errors) | shares, base_model=base_model(init)),
        name=name,
        config=config,
        mg_mM=None if config.alpha is None else alpha_to_mg(config.alpha),
        dtype=model.info["dtype"],
        protocol=protocol(errors),
        chance=errors.attrs["chance"],
        errors={
            (kind, memory): error_with_interval(errors.sel(maps=kind, memory=memory))
            for kind, memory in product(errors["maps"].values, errors["memory"].values)
        },
        shares=shares,
        place_protocol=PLACE_PROTOCOL,
        curve=bool(trainer.history),
        world=world,
        paper_sizes=[f"{key} {n}" for key, n in PAPER.items() if getattr(world, key, None) != n],
        parameters=model.info["parameters"],
        training=trainer.config,
        init=init,
        steps=trainer.step,
        seed=trainer.recipe.seed,
        hours=trainer.seconds / 3600,
        hardware=trainer.hardware,
    )


def base_model(init: Mapping[str, Any] | None) -> str | None:
    """Return the repository that a network was fine-tuned from; None for any other source."""
    source = "" if init is None else init["source"]
    return source[len("hf:") :].partition("@")[0] if source.startswith("hf:") else None


def error_with_interval(data: xr.Dataset) -> str:
    """One error with its interval and its number of predictions."""
    if not int(data["n"]):
        return "not measured (the walks had no such prediction)"
    return f"{float(data['error']):.4f} ({interval(data)}; n = {int(data['n'])})"
