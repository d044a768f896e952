"""Temporary changes of α in the NMDA_α modules of a network."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from torch import nn

from placeformer.interventions.stand_ins import standing_in
from placeformer.models.activation import NMDA, check_alpha
from placeformer.models.ownership import in_use
from placeformer.models.transformer import ModelConfig, NavigationTransformer


@contextmanager
def alpha_changed(
    model: nn.Module, change: Callable[[float], float], names: Container[str] | None = None
) -> Iterator[None]:
    """Change α of the NMDA_α modules with these names (default: all) by a function of it."""
    every = {name: module for name, module in model.named_modules() if isinstance(module, NMDA)}
    modules = [module for name, module in every.items() if names is None or name in names]
    if not modules:
        raise ValueError(
            "model must have NMDA activations for its Mg²⁺ to be changed, got none in "
            f"{type(model).__name__}"
        )

    def configured(config: ModelConfig) -> ModelConfig:
        return replace(config, alpha=None if config.alpha is None else new(config.alpha))

    def new(before: float) -> float:
        return check_alpha(change(before))

    own = [m for m in model.modules() if isinstance(m, NavigationTransformer)]
    whole = [m for m in own if {*nmda_modules(m)} <= {*modules}]
    with in_use(model), ExitStack() as stack:
        for module in modules:
            stack.enter_context(standing_in(module, "alpha", new))
        for network in whole:  # inside torch.compile and DataParallel too
            stack.enter_context(standing_in(network, "config", configured))
            stack.enter_context(standing_in(network, "_temporary_alpha", lambda _: True))
        yield


def nmda_modules(model: nn.Module) -> list[NMDA]:
    """All NMDA_α modules of a network."""
    return [module for module in model.modules() if isinstance(module, NMDA)]
