"""The model card ``README.md``: its head in the hub's format, and a card for any network."""

from __future__ import annotations

import re
from typing import cast

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from placeformer.models.transformer import NavigationTransformer
from placeformer.zoo.config import LIBRARY, Results

TAGS = (LIBRARY, "place-cells", "memory-consolidation", "nmda", "transformer")
HUB_ID = re.compile(r'(?<=pf\.load\(")[\w.-]+/[\w.-]+(?=["@])')
LIMITS = """Activations are signed, and how negative they get depends on the activation function:
compare networks only by measures that say what they do with negative values. It is a model of a
task, not of an animal; it must not be used for statements about patients or medication."""
TEXT = """---
{head}
---
# {name}

A navigation Transformer that walks on grid maps of letters and predicts the letter at its next
place.

- activation: {unit}
- trained maps: {maps}
- layers: {config.n_layers} of width {config.d_model}, {config.d_inner} feed-forward units each

## How to load it

```python
import placeformer as pf

model = pf.load("path/to/{name}")  # the folder this file is in
model = pf.load("org/name")  # the hub; "org/name@commit" pins what is loaded
```

## What it reaches

{reached}

## Limits

{limits}

## Licence

MIT
"""
NOT_MEASURED = """Nothing was measured. `placeformer evaluate` measures the errors of working and
reference memory, on trained and on novel maps."""


def head(name: str, results: Results) -> str:
    """YAML head of a card: library, licence, tags and, where measured, the ``model-index``."""
    measured = [
        EvalResult(
            task_type="other",
            task_name="next-letter prediction on grid maps",
            dataset_type=LIBRARY,
            dataset_name="GridWorld",
            metric_type=key,
            metric_name=key.replace("_", " "),
            metric_value=entry["value"],
        )
        for key, entry in results.items()
    ]
    return ModelCardData(
        library_name=LIBRARY,
        license="mit",
        tags=list(TAGS),
        model_name=name if measured else None,
        eval_results=measured or None,
    ).to_yaml()


def default_card(name: str, model: NavigationTransformer, results: Results) -> str:
    """Return a card for a network of which only weights and results are known."""
    config, world = model.config, model.world
    unit = config.activation if config.alpha is None else f"NMDA_α, α = {config.alpha!r}"
    size = "none stored" if world is None else f"{world.n_maps}, {world.side} × {world.side} places"
    rows = [f"| {k} | {v['value']} | {v['definition']} |" for k, v in results.items()]
    table = "\n".join(["| result | value | definition |", "| --- | --- | --- |", *rows])
    return TEXT.format(
        head=head(name, results),
        name=name,
        unit=unit,
        maps=size,
        config=config,
        reached=table if results else NOT_MEASURED,
        limits=LIMITS,
    )


def addressed(text: str, repo_id: str) -> str:
    """Return a card that loads from `repo_id`, with the tag the hub's search finds it by."""
    card = ModelCard(HUB_ID.sub(repo_id, text))
    data = cast(ModelCardData, card.data)
    if LIBRARY not in (data.tags or []):
        data.library_name, data.tags = LIBRARY, [*(data.tags or []), LIBRARY]
    return str(card)
