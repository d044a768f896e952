"""The model card ``README.md``: its header in the hub's format, and a default card."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import nn

from placeformer.models.transformer import NavigationTransformer
from placeformer.zoo.config import LIBRARY, Results

TAGS = (LIBRARY, "place-cells", "memory-consolidation", "nmda", "transformer")
HUB_ID = re.compile(r'(?<=pf\.load\(")[\w.-]+/[\w.-]+(?=["@])')
TEMPLATES = Environment(
    loader=PackageLoader("placeformer.zoo"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
"""Templates of the cards. They are Markdown, so HTML is not escaped."""


PIPELINE = "feature-extraction"
"""Task on the hub: networks are loaded to record their activations."""


def head(
    name: str,
    results: Results,
    *,
    tags: Sequence[str] = TAGS,
    license: str | None = "mit",
    base_model: str | None = None,
    task: str = "next-letter prediction on grid maps",
    dataset: str = "GridWorld",
) -> str:
    """YAML header of a card: library, licence, tags and, with results, the ``model-index``."""
    measured = [
        EvalResult(
            task_type="other",
            task_name=task,
            dataset_type=LIBRARY,
            dataset_name=dataset,
            metric_type=key,
            metric_name=key.replace("_", " "),
            metric_value=entry["value"],
        )
        for key, entry in results.items()
    ]
    return ModelCardData(
        library_name=LIBRARY,
        license=license,
        base_model=base_model,
        pipeline_tag=PIPELINE,
        tags=list(tags),
        model_name=name if measured else None,
        eval_results=measured or None,
    ).to_yaml()


def default_card(name: str, model: NavigationTransformer, results: Results) -> str:
    """Return a card for a network of which only the weights and results are known."""
    return TEMPLATES.get_template("card.md.jinja").render(
        head=head(name, results),
        name=name,
        config=model.config,
        world=model.world,
        results=results,
    )


def custom_card(name: str, model: nn.Module, results: Results, sections: Mapping[str, Any]) -> str:
    """Return a card for a network of a registered class."""
    cls = sections["class"]["name"]
    return TEMPLATES.get_template("custom_card.md.jinja").render(
        head=head(
            name,
            results,
            tags=(LIBRARY, cls),
            license=None,
            task=f"task of the class {cls}",
            dataset="see the definition of each result",
        ),
        name=name,
        cls=sections["class"],
        config=json.dumps(sections["config"], indent=2, ensure_ascii=False),
        parameters=sum(weight.numel() for weight in model.parameters()),
        results=results,
    )


LICENCE = re.compile(r"(?<=^## Licence\n\n).*?(?=\n*\Z|\n+#)", re.MULTILINE | re.DOTALL)


def addressed(text: str, repo_id: str, license: str | None) -> str:
    """Return the card with `repo_id` in its example, the tag of this library, and a licence."""
    card = ModelCard(HUB_ID.sub(repo_id, text))
    data = cast(ModelCardData, card.data)
    if LIBRARY not in (data.tags or []):
        data.library_name, data.tags = LIBRARY, [*(data.tags or []), LIBRARY]
    if license is not None and data.license != license:
        data.license = license
        card.text = LICENCE.sub(license, card.text, count=1)
    return str(card)
