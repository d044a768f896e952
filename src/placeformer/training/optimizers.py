"""Optimizers: AdamW, and Muon for some of the matrices, of one network or of an ensemble."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from placeformer.training.recipe import TrainingConfig

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Muon: momentum whose singular values are pushed towards 1 before every step.

    The update is that of ``torch.optim.Muon`` with Nesterov momentum and
    ``adjust_lr_fn="match_rms_adamw"``, so that AdamW's learning rate and weight decay fit.
    There are two differences. A parameter may be a stack of matrices, (…, rows, columns), each
    of which is updated separately. And the iteration runs in the precision of the weights, not in
    bfloat16, which a processor without bfloat16 instructions emulates 15 times slower than float32.

    Parameters
    ----------
    parameters
        Matrices, or stacks of them.
    lr
        Learning rate; a tensor is read at every step of a captured graph.
    weight_decay, momentum
        Decoupled decay of the weights, and the fraction of the momentum that a step keeps.

    References
    ----------
    Jordan et al. (2024), https://kellerjordan.github.io/posts/muon/; Liu et al. (2025),
    https://doi.org/10.48550/arXiv.2502.16982
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float | Tensor,
        *,
        weight_decay: float,
        momentum: float,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix by its gradient."""
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for weight in group["params"]:
                state = self.state[weight]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                average = state["momentum_buffer"].lerp_(weight.grad, 1 - momentum)
                update = orthogonalise(weight.grad.lerp(average, momentum))
                size = 0.2 * max(weight.shape[-2:]) ** 0.5
                weight.mul_(1 - lr * group["weight_decay"]).sub_(update.mul_(lr * size))


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Push all singular values of matrices, (…, rows, columns), to about 1 (0.7 to 1.2)."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def make_optimizers(
    weights: Mapping[str, Tensor], config: TrainingConfig, *, stacked: bool = False
) -> list[torch.optim.Optimizer]:
    """Make the optimizers of a recipe: AdamW, and Muon if the recipe asks for it.

    Parameters
    ----------
    weights
        Name → weight.
    config
        Settings of the training; weight decay applies to matrices only.
    stacked
        Whether the weights are those of an ensemble, with one more axis, (member, …). On a GPU the
        learning rate is then a tensor, which a captured step reads.
    """
    by_muon = muon_weights(weights, config, stacked) if config.optimizer == "muon" else []
    others = [w for name, w in weights.items() if name not in by_muon]
    matrices = [w for w in others if w.ndim - stacked > 1]
    vectors = [w for w in others if w.ndim - stacked == 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    device = next(iter(weights.values())).device
    capturable = stacked and device.type == "cuda"

    def rate() -> float | Tensor:
        return torch.zeros((), dtype=torch.float32, device=device) if capturable else 0.0

    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=rate(), betas=config.betas, fused=True, capturable=capturable)
    ]
    if by_muon:
        optimizers.append(
            Muon(
                [weights[name] for name in by_muon],
                lr=rate(),
                weight_decay=config.weight_decay,
                momentum=config.muon_momentum,
            )
        )
    return optimizers


def muon_weights(weights: Mapping[str, Tensor], config: TrainingConfig, stacked: bool) -> list[str]:
    """Names of the weights that Muon updates; a name in the recipe must fit a matrix."""
    matrices = [name.removesuffix(".weight") for name, w in weights.items() if w.ndim - stacked > 1]
    ends = tuple(f".{end}" for end in config.muon_matrices)
    for end, given in zip(ends, config.muon_matrices, strict=True):
        if not any(f".{name}".endswith(end) for name in matrices):
            raise ValueError(
                "training.muon_matrices must name layers that have a matrix, such as "
                f'"ffn.fc1", got {given!r}; the layers are {", ".join(matrices)}'
            )
    return [name for name in weights if f".{name.removesuffix('.weight')}".endswith(ends)]


def set_rate(optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
    """Set the learning rate."""
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def start_descent(optimizers: Sequence[torch.optim.Optimizer], loss: Tensor) -> None:
    """Compute the gradients, which are independent between the networks of an ensemble."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.sum().backward()
