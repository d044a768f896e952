"""NMDA_α: its equation, its limits, its units."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from placeformer.models.activation import NMDA, alpha_to_mg, mg_to_alpha, nmda

ALPHAS = [0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 50.0]


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_equals_its_equation(alpha, beta):
    x = torch.linspace(-30, 30, 601, dtype=torch.float64)
    want = x / (1 + alpha * torch.exp(-beta * x))
    torch.testing.assert_close(NMDA(alpha, beta)(x), want, rtol=1e-12, atol=1e-14)


def test_alpha_zero_is_the_identity_and_one_is_silu():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(NMDA(0)(x), x)
    torch.testing.assert_close(NMDA(1)(x), F.silu(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("alpha", [0.0, *ALPHAS])
def test_is_stable_up_to_1e4(dtype, alpha):
    x = torch.tensor([-1e4, -100.0, -1.0, 0.0, 1.0, 100.0, 1e4], dtype=dtype, requires_grad=True)
    y = NMDA(alpha)(x)
    y.sum().backward()
    assert torch.isfinite(y).all()
    assert torch.isfinite(x.grad).all()
    assert y[-1] == x[-1]
    assert y[0] == (x[0] if alpha == 0 else 0)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 10.0])
def test_leaves_its_input_alone(alpha):
    x = torch.linspace(-3, 3, 7)
    before = x.clone()
    NMDA(alpha)(x).add_(1)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("alpha", "lowest"), [(0.01, -2.64), (0.1, -1.16), (1, -0.28), (10, -0.04)]
)
def test_the_lowest_value_falls_with_alpha(alpha, lowest):
    assert nmda(torch.linspace(-12, 3, 15001), alpha).min().item() == pytest.approx(
        lowest, abs=6e-3
    )


@pytest.mark.parametrize("alpha", [-1e-9, -1, math.nan, math.inf])
def test_a_bad_alpha_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha must be a finite number ≥ 0"):
        NMDA(alpha)


@pytest.mark.parametrize("beta", [0, -1, math.nan])
def test_a_bad_beta_is_refused(beta):
    with pytest.raises(ValueError, match="beta must be a finite number > 0"):
        NMDA(1, beta)


def test_alpha_has_no_default():
    with pytest.raises(TypeError, match="alpha"):
        NMDA()


@given(st.floats(0, 1e6))
def test_alpha_and_mg_are_inverse(alpha):
    assert mg_to_alpha(alpha_to_mg(alpha)) == pytest.approx(alpha)


def test_alpha_one_is_k_mg_and_negative_mg_is_refused():
    assert alpha_to_mg(1) == 3.57
    assert mg_to_alpha(3.57) == 1
    assert alpha_to_mg(2, k_mg=4.1) == 8.2
    with pytest.raises(ValueError, match="mg_mM must be a finite concentration"):
        mg_to_alpha(-0.1)
    for convert in (mg_to_alpha, alpha_to_mg):
        for k_mg in (0, -1, float("nan"), "3"):
            with pytest.raises(ValueError, match="k_mg must be a"):
                convert(1, k_mg=k_mg)
    with pytest.raises(ValueError, match="mg_mM must be a number, got '1'"):
        mg_to_alpha("1")


def test_equals_the_open_probability_of_jahr_and_stevens():
    v, mg = np.linspace(-80, 40, 50), 1.0
    open_probability = 1 / (1 + mg / 3.57 * np.exp(-0.062 * v))
    got = NMDA(mg_to_alpha(mg), beta=0.062)(torch.from_numpy(v))
    np.testing.assert_allclose(got, v * open_probability, rtol=1e-12)
