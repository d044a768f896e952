"""NMDA_α, the activation whose α represents the Mg²⁺ concentration."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from placeformer._options import check_number

K_MG_MM = 3.57
"""Mg²⁺ concentration (mM) that corresponds to α = 1 (Jahr & Stevens 1990)."""


def nmda(x: Tensor, alpha: float, beta: float = 1.0) -> Tensor:
    r"""Current through an NMDA receptor as an activation function.

    .. math:: \mathrm{NMDA}_\alpha(x) = \frac{x}{1 + \alpha e^{-\beta x}}
              = x\,\sigma(\beta x - \ln\alpha)

    Parameters
    ----------
    x
        Any shape; not modified.
    alpha
        [Mg²⁺] / K_Mg, dimensionless, ≥ 0. 0 gives the identity (no Mg²⁺ block), 1 gives SiLU.
    beta
        Steepness of the block, > 0.

    Returns
    -------
    Tensor
        Signed, of the shape of `x`. Negative values are not cut off, and they become larger in
        magnitude as `alpha` falls: the minimum is −0.04 at α = 10, −0.28 at 1 and −1.16 at 0.1.

    References
    ----------
    Kim, Kwon, Cha & Lee, NeurIPS 2023. Jahr & Stevens, J. Neurosci. 10, 3178 (1990),
    https://doi.org/10.1523/JNEUROSCI.10-09-03178.1990
    """
    if alpha == 0:
        return x.clone()
    return x * torch.sigmoid((x if beta == 1 else beta * x) - math.log(alpha))


def check_alpha(alpha: float) -> float:
    """Return `alpha` as a float; raise if it is not a valid α."""
    check_number("alpha", alpha)
    value = float(alpha)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(
            f"alpha must be a finite number ≥ 0 ([Mg²⁺]/K_Mg; 0 is no Mg²⁺), got {alpha!r}"
        )
    return value


class NMDA(nn.Module):
    """The activation NMDA_α(x) = x / (1 + α e^(−βx)) as a module.

    Parameters
    ----------
    alpha
        [Mg²⁺] / K_Mg, dimensionless, ≥ 0. There is no default: α is what experiments vary.
    beta
        Steepness of the Mg²⁺ block, > 0.

    Raises
    ------
    ValueError
        If `alpha` is negative, NaN or infinite, or `beta` is not a positive number.

    See Also
    --------
    magnesium : Change α of a trained network.
    alpha_to_mg, mg_to_alpha : Convert between α and concentrations of Mg²⁺.
    ModelConfig : Configuration of a network with this activation.

    Examples
    --------
    >>> import placeformer as pf
    >>> import torch
    >>> activation = pf.NMDA(alpha=1)
    >>> [round(value, 3) for value in activation(torch.tensor([-1.0, 0.0, 1.0])).tolist()]
    [-0.269, 0.0, 0.731]
    """

    def __init__(self, alpha: float, beta: float = 1.0) -> None:
        super().__init__()
        self.alpha = check_alpha(alpha)
        self.beta = float(beta)
        if not (math.isfinite(self.beta) and self.beta > 0):
            raise ValueError(f"beta must be a finite number > 0, got {beta!r}")

    def forward(self, x: Tensor) -> Tensor:
        """Apply NMDA_α to every element."""
        return nmda(x, self.alpha, self.beta)

    def extra_repr(self) -> str:
        """Show α and β in the module's repr."""
        return f"alpha={self.alpha:g}, beta={self.beta:g}"


OTHERS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
}
"""Activations that can replace NMDA_α."""


def check_activation(name: str, alpha: float | None) -> None:
    """Raise for an unknown activation, NMDA_α without α, and another activation with α."""
    if name not in ("nmda", *OTHERS):
        raise ValueError(f"activation must be one of nmda, {', '.join(OTHERS)}, got {name!r:.80}")
    if (name == "nmda") != (alpha is not None):
        raise ValueError(
            f"alpha must be given for nmda and be None for others, got {alpha!r} for {name!r}"
        )
    if alpha is not None:
        check_alpha(alpha)


def make_activation(name: str, alpha: float | None) -> nn.Module:
    """Return a new activation module."""
    check_activation(name, alpha)
    return OTHERS[name]() if alpha is None else NMDA(alpha)


def alpha_to_mg(alpha: float, *, k_mg: float = K_MG_MM) -> float:
    """Return the Mg²⁺ concentration in mM that corresponds to α: α · K_Mg.

    Parameters
    ----------
    alpha
        [Mg²⁺] / K_Mg, dimensionless, ≥ 0.
    k_mg
        Half-block concentration at 0 mV, in mM (Jahr & Stevens 1990,
        https://doi.org/10.1523/JNEUROSCI.10-09-03178.1990).

    Returns
    -------
    float
        [Mg²⁺] in mM, ≥ 0.

    Raises
    ------
    ValueError
        If `alpha` is negative, NaN or infinite, or `k_mg` is not above 0.

    See Also
    --------
    mg_to_alpha : The inverse.
    magnesium : Change α of a trained network.

    Examples
    --------
    >>> import placeformer as pf
    >>> round(pf.alpha_to_mg(10), 2)
    35.7
    """
    return check_alpha(alpha) * check_half_block(k_mg)


def mg_to_alpha(mg_mM: float, *, k_mg: float = K_MG_MM) -> float:
    """Return the α that corresponds to a Mg²⁺ concentration: [Mg²⁺] / K_Mg.

    Parameters
    ----------
    mg_mM
        [Mg²⁺] in mM, ≥ 0.
    k_mg
        Half-block concentration at 0 mV, in mM (Jahr & Stevens 1990,
        https://doi.org/10.1523/JNEUROSCI.10-09-03178.1990).

    Returns
    -------
    float
        α, dimensionless, ≥ 0.

    Raises
    ------
    ValueError
        If `mg_mM` is negative, NaN or infinite, or `k_mg` is not above 0.

    See Also
    --------
    alpha_to_mg : The inverse.
    magnesium : Change α of a trained network.

    Examples
    --------
    >>> import placeformer as pf
    >>> round(pf.mg_to_alpha(1), 2)
    0.28
    """
    check_number("mg_mM", mg_mM)
    if not (math.isfinite(mg_mM) and mg_mM >= 0):
        raise ValueError(f"mg_mM must be a finite concentration ≥ 0 mM, got {mg_mM!r}")
    return float(mg_mM) / check_half_block(k_mg)


def check_half_block(k_mg: float) -> float:
    """Refuse a half-block concentration that is not a positive number of mM."""
    check_number("k_mg", k_mg)
    if not (math.isfinite(k_mg) and k_mg > 0):
        raise ValueError(f"k_mg must be a finite concentration above 0 mM, got {k_mg!r}")
    return float(k_mg)
