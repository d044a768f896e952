"""Train recurrent path integrators and measure the score cards of "Navigation networks compared".

``python zoo/navigation_networks.py`` trains three recurrent networks with a fixed seed (seven
minutes on one CPU core), measures them along with networks of the zoo and cells of RatInABox with
:func:`placeformer.score_card` (which takes as long again), and writes
zoo/results/navigation-networks.json, from which the page of the documentation is generated. Weights
are kept in a folder (``--weights``): a network that is there is not trained again. If names are
given, only those networks are measured, and the others remain unchanged in the file.

The paths are random walks in a box of one metre. The networks receive the start of a path and then
its velocity, step by step, and are trained to output their position:

- ``LSTM`` and ``GRU`` output x and y (mean squared error);
- ``ReLU RNN, place-cell targets`` outputs the activity of 128 place cells with centre and surround,
  the difference of two softmax functions, as in Sorscher et al. (2023)
  (https://doi.org/10.1016/j.neuron.2022.10.003), with fewer units and far fewer steps.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

import placeformer as pf
from placeformer._atomic import atomic_file
from placeformer.evaluation.score_card_files import plain

STEP_S, SPEED, PERSISTENCE_S = 0.1, 0.2, 0.7
"""Seconds of a step; s.d. of each velocity component in m/s; its correlation time in seconds."""
N_STEPS, BATCH = 50, 100
N_PLACES, WIDTH_M, SURROUND = 128, 0.1, 2.0
"""Place-cell targets: number, s.d. of the centre in metres, variance of surround over centre."""
RECORDED, SCORED, BINS = 400, 200, 10
"""Number of paths that are recorded, and that are scored under lesions; bins along each axis."""


RESULT = Path(__file__).resolve().parent / "results" / "navigation-networks.json"


class Entry(NamedTuple):
    """A row of the page: a network with facts about its training, and its card."""

    name: str
    what: str
    learnt: dict[str, Any]
    card: xr.Dataset


def paths(n_walks: int, seed: int, n_steps: int = N_STEPS) -> xr.Dataset:
    """Random walks in a box of one metre: x and y in m, and the velocity that led there in m/s.

    Each velocity component is an Ornstein-Uhlenbeck process, reflected by the walls. ``start`` is
    the place before the first step.
    """
    rng = np.random.default_rng(seed)
    place = rng.random((n_walks, 2))
    velocity = SPEED * rng.standard_normal((n_walks, 2))
    kept = np.exp(-STEP_S / PERSISTENCE_S)
    places = [place]
    for _ in range(n_steps):
        kick = rng.standard_normal((n_walks, 2))
        velocity = kept * velocity + np.sqrt(1 - kept**2) * SPEED * kick
        place = place + STEP_S * velocity
        velocity = np.where((place < 0) | (place > 1), -velocity, velocity)
        place = 1 - np.abs(1 - np.abs(place))
        places.append(place)
    course = np.stack(places, 1)
    at = ("walk", "time")
    return xr.Dataset(
        {
            "velocity": ((*at, "axis"), np.diff(course, axis=1) / STEP_S),
            "start": (("walk", "axis"), course[:, 0]),
        },
        {
            "x": (at, course[:, 1:, 0], {"units": "m"}),
            "y": (at, course[:, 1:, 1], {"units": "m"}),
        },
        {"sample_rate": 1 / STEP_S},
    )


class PlaceTargets(nn.Module):
    """Place cells with centre and surround, and the place that their activity encodes."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("centre", torch.rand(N_PLACES, 2, generator=generator))

    def forward(self, place: Tensor) -> Tensor:
        """Activity (..., cell) at places (..., axis): at least 0, with sum 1."""
        # -|place - centre|² / 2 w² without |place|², which is common to all cells
        logits = (place @ self.centre.T - self.centre.square().sum(-1) / 2) / WIDTH_M**2
        activity = logits.softmax(-1) - (logits / SURROUND).softmax(-1)
        activity = activity - activity.amin(-1, keepdim=True)
        return activity / activity.sum(-1, keepdim=True)

    def place(self, activity: Tensor) -> Tensor:
        """Mean centre (..., axis) of the three most active cells."""
        return self.centre[activity.topk(3, dim=-1).indices].mean(-2)


class ReLUCell(nn.RNNCell):
    """Recurrent cell with ReLU whose recurrent weights start as the identity.

    With a random rotation or the default initialisation of torch, the network does not learn in
    this time (Le et al. 2015, https://arxiv.org/abs/1504.00941).
    """

    def __init__(self, n_inputs: int, width: int) -> None:
        super().__init__(n_inputs, width, bias=False, nonlinearity="relu")

    def reset_parameters(self) -> None:
        """Draw new weights."""
        super().reset_parameters()
        nn.init.eye_(self.weight_hh)


CELLS = {"LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "ReLU": ReLUCell}


class PathIntegrator(nn.Module):
    """Recurrent network that is given the start of a path and its velocity at every step."""

    def __init__(self, cell: str, width: int, n_start: int, n_outputs: int) -> None:
        super().__init__()
        self.start = nn.Linear(n_start, 2 * width if cell == "LSTM" else width, bias=False)
        self.cell = CELLS[cell](2, width)
        self.readout = nn.Linear(width, n_outputs, bias=cell != "ReLU")

    def forward(self, velocity: Tensor, start: Tensor) -> Tensor:
        """Outputs (walk, time, output) for velocities (walk, time, axis) and starts (walk, …)."""
        state: Any = self.start(start)
        is_lstm = isinstance(self.cell, nn.LSTMCell)
        if is_lstm:
            state = state.chunk(2, dim=-1)
        states = []
        for step in velocity.unbind(1):
            state = self.cell(step / SPEED, state)
            states.append(state[0] if is_lstm else state)
        return self.readout(torch.stack(states, 1))


class Recipe(NamedTuple):
    """How a network is made and trained."""

    cell: str
    layer: str
    n_updates: int
    rate: float
    places: bool
    width: int = 128
    decay: float = 0.0


RECIPES = {
    "LSTM": Recipe("LSTM", "cell[0]", 2500, 2e-3, places=False),
    "GRU": Recipe("GRU", "cell", 2500, 2e-3, places=False),
    "ReLU RNN, place-cell targets": Recipe("ReLU", "cell", 3500, 1e-3, places=True, decay=1e-4),
}


class Task(NamedTuple):
    """A network with its targets, None for x and y."""

    network: PathIntegrator
    targets: PlaceTargets | None

    def run(self, network: nn.Module, walks: xr.Dataset) -> tuple[Tensor, Tensor]:
        """Outputs and true places of a network along paths."""
        place = torch.from_numpy(np.stack([walks["x"], walks["y"]], -1)).float()
        start = torch.from_numpy(walks["start"].values).float()
        velocity = torch.from_numpy(walks["velocity"].values).float()
        return network(velocity, self.encoded(start)), place

    def encoded(self, place: Tensor) -> Tensor:
        """A place in the form in which the network receives it."""
        return place if self.targets is None else self.targets(place)

    def loss(self, walks: xr.Dataset) -> Tensor:
        """The loss that training minimises."""
        outputs, place = self.run(self.network, walks)
        if self.targets is None:
            return nn.functional.mse_loss(outputs, place)
        return -(self.targets(place) * outputs.log_softmax(-1)).sum(-1).mean()

    @torch.no_grad()
    def errors(self, network: nn.Module, walks: xr.Dataset) -> NDArray[np.float64]:
        """Mean distance in metres between true place and read-out of every path."""
        outputs, place = self.run(network, walks)
        found = outputs if self.targets is None else self.targets.place(outputs)
        return (found - place).norm(dim=-1).mean(1).double().numpy()


def task(recipe: Recipe, seed: int) -> Task:
    """A new network, before training."""
    torch.manual_seed(seed)
    targets = PlaceTargets(seed) if recipe.places else None
    n = N_PLACES if recipe.places else 2
    return Task(PathIntegrator(recipe.cell, recipe.width, n, n), targets)


def train(recipe: Recipe, seed: int, progress: bool = False) -> tuple[Task, dict[str, Any]]:
    """Train a network, and return it with its errors on paths that it was not trained on."""
    new, started = task(recipe, seed), time.process_time()
    test = paths(400, seed=10_000)
    facts: dict[str, Any] = {"error_untrained_m": float(new.errors(new.network, test).mean())}
    optimizer = torch.optim.Adam(new.network.parameters(), recipe.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.n_updates)
    recent = []
    for update in tqdm(range(recipe.n_updates), disable=not progress):
        loss = new.loss(paths(BATCH, seed=20_000 + seed * 1_000_000 + update))
        recent = [*recent[-99:], loss.item()]
        if recipe.decay:
            loss = loss + recipe.decay * new.network.cell.weight_hh.square().sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(new.network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    facts |= {
        "error_m": float(new.errors(new.network, test).mean()),
        "loss": float(np.mean(recent)),
        "n_updates": recipe.n_updates,
        "seed": seed,
        "cpu_s": round(time.process_time() - started),
    }
    return new, facts


def trained(name: str, folder: Path, seed: int = 0) -> tuple[Task, dict[str, Any]]:
    """A trained network and its facts, from the folder if they are there."""
    file = folder / f"{name}-s{seed}.safetensors".replace(" ", "-").replace(",", "")
    recipe = RECIPES[name]
    if not file.is_file():
        new, facts = train(recipe, seed, progress=True)
        folder.mkdir(parents=True, exist_ok=True)
        about = {"facts": json.dumps(facts), "recipe": json.dumps(recipe)}
        save_file(new.network.state_dict(), file, about)
    with safe_open(file, "pt") as stored:
        about = stored.metadata()
        if json.loads(about["recipe"]) != list(recipe):
            raise SystemExit(f"{file} was made with another recipe; delete it to train again")
        old = task(recipe, seed)
        old.network.load_state_dict({key: stored.get_tensor(key) for key in list(stored.keys())})
    return old, json.loads(about["facts"])


def path_integrator(name: str, folder: Path) -> Entry:
    """Measure a trained path integrator."""
    of_task, facts = trained(name, folder)
    recipe = RECIPES[name]
    walks, scored = paths(RECORDED, seed=30_000), paths(SCORED, seed=40_000)

    def forward(module: nn.Module, batch: xr.Dataset) -> None:
        with torch.no_grad():
            of_task.run(module, batch)

    card = pf.score_card(
        of_task.network.eval(),
        walks[["x", "y"]],
        layers=[recipe.layer],
        inputs={"velocity": walks["velocity"], "start": walks["start"]},
        forward=forward,
        given="velocity",
        score=lambda network: of_task.errors(network, scored),
        bins=BINS,
        progress=False,
    )
    return Entry(name, f"{recipe.width} {recipe.cell} units", facts, card)


def zoo_network(name: str) -> Entry:
    """Measure a navigation Transformer of the zoo on two of its trained maps."""
    model = pf.load(name)
    card = pf.score_card(
        model, maps=(0, 1), n_walks=32, n_steps=1024, score="reference",
        lesion_options={"n_walks": 16, "n_steps": 1024}, progress=False,
    )  # fmt: skip
    results = {key: float(value) for key, value in model.summary()["results"].items()}
    return Entry(name, f"Transformer, α = {model.config.alpha:g}", results, card)


CELLS_OF_RATINABOX: dict[str, tuple[str, dict[str, Any]]] = {
    "place": ("PlaceCells", {"widths": 0.15, "wall_geometry": "euclidean"}),
    "grid": ("GridCells", {"gridscale": (0.3, 0.4, 0.5), "gridscale_distribution": "modules"}),
    "boundary": ("BoundaryVectorCells", {}),
}
"""Class and parameters of the cells of RatInABox, by kind; widths and periods in metres."""


def of_ratinabox(kind: str, n: int = 128, seed: int = 0) -> Entry:
    """Measure noiseless cells of RatInABox along the same paths.

    George et al. (2024), https://doi.org/10.7554/eLife.85274; it is an optional dependency.
    """
    import ratinabox

    np.random.seed(seed)  # noqa: NPY002  RatInABox draws from numpy's global generator
    cells, parameters = CELLS_OF_RATINABOX[kind]
    agent = ratinabox.Agent(ratinabox.Environment())
    neurons = getattr(import_module("ratinabox.Neurons"), cells)(agent, {"n": n, **parameters})
    walks = paths(RECORDED, seed=30_000)
    place = np.stack([walks["x"], walks["y"]], -1)
    # Walk by walk: boundary cells look at every wall in every direction from every place.
    rate = np.stack([neurons.get_state(evaluate_at=None, pos=walk).T for walk in place])
    position = {axis: walks[axis].values for axis in ("x", "y")}
    recording = pf.from_arrays(rate, position, layer=f"{kind} cells", position_units="m")
    recording = recording.assign_coords(velocity=walks["velocity"].variable)
    card = pf.score_card(recording, given="velocity", bins=BINS, progress=False)
    return Entry(f"{kind} cells, RatInABox", f"{n} functions of position", {}, card)


MEASURES: dict[str, Callable[[str, Path], Entry]] = {
    "nmda-a10": lambda name, _: zoo_network(name),
    "nmda-a0": lambda name, _: zoo_network(name),
    **dict.fromkeys(RECIPES, path_integrator),
    "place cells, RatInABox": lambda name, _: of_ratinabox("place"),
    "grid cells, RatInABox": lambda name, _: of_ratinabox("grid"),
    "boundary cells, RatInABox": lambda name, _: of_ratinabox("boundary"),
}


def main() -> None:
    """Measure networks, and write the file after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASURES))
    parser.add_argument("--weights", type=Path, default=Path("build/navigation-networks"))
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(MEASURES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; names are {', '.join(MEASURES)}")
    torch.set_num_threads(1)
    for name in tqdm(arguments.names or list(MEASURES), unit="network"):
        entry = MEASURES[name](name, arguments.weights)
        stored = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
        stored[name] = {"what": entry.what, "learnt": entry.learnt, "card": plain(entry.card)}
        ordered = {key: stored[key] for key in MEASURES if key in stored}
        with atomic_file(RESULT) as temporary:
            temporary.write_text(json.dumps(ordered, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
