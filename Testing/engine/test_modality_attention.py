"""Equations 1 to 3, against a plain NumPy reading of the paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sofa_engine.model.attention import ModalityAttention

ALL = torch.ones(1, 4, dtype=torch.bool)


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(1, 4, 8, 5, 6, generator=torch.Generator().manual_seed(0))


def paper(
    features: np.ndarray, weight: np.ndarray, bias: np.ndarray, present: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 1-3, one modality, sub-region and position at a time."""
    _, count, channels, height, width = features.shape
    alpha, fused = np.zeros((3, count, height, width)), np.zeros((3, channels, height, width))
    for r in range(3):
        for y in range(height):
            for x in range(width):
                e = {m: np.tanh(weight[r] @ features[0, m, :, y, x] + bias[r]) for m in present}
                total = sum(np.exp(v) for v in e.values())
                for m in present:
                    alpha[r, m, y, x] = np.exp(e[m]) / total
                    fused[r, :, y, x] += alpha[r, m, y, x] * features[0, m, :, y, x]
    return alpha, fused


@pytest.mark.parametrize("present", [[0, 1, 2, 3], [1, 3], [2]])
def test_the_attention_is_the_papers(features: torch.Tensor, present: list[int]) -> None:
    attention = ModalityAttention(8)
    with torch.no_grad():
        attention.bias.copy_(torch.tensor([0.3, -0.2, 0.1]))
        mask = torch.zeros(1, 4, dtype=torch.bool)
        mask[0, present] = True
        fused, alpha = attention(features, mask)
    expected_alpha, expected = paper(
        features.numpy(), attention.weight.detach().numpy(), attention.bias.detach().numpy(), present
    )
    np.testing.assert_allclose(alpha[0].numpy(), expected_alpha, atol=1e-6)
    np.testing.assert_allclose(fused[0].numpy(), expected, atol=1e-5)


def test_a_missing_sequence_adds_nothing_even_if_its_features_are_not_finite(features: torch.Tensor) -> None:
    attention = ModalityAttention(8)
    present = torch.tensor([[True, True, False, True]])
    clean, _ = attention(features, present)
    features[:, 2] = torch.nan
    broken, alpha = attention(features, present)
    torch.testing.assert_close(broken, clean)
    assert torch.all(alpha[:, :, 2] == 0)


def test_tanh_bounds_every_weight_as_the_papers_equation_implies(features: torch.Tensor) -> None:
    attention = ModalityAttention(8)
    _, alpha = attention(features * 1000, ALL)
    assert alpha.min() >= np.exp(-1) / (np.exp(-1) + 3 * np.e) - 1e-6
    assert alpha.max() <= np.e / (np.e + 3 * np.exp(-1)) + 1e-6


def test_a_learned_temperature_lets_the_attention_ignore_a_sequence(features: torch.Tensor) -> None:
    attention = ModalityAttention(8, learned_temperature=True)
    assert attention.scale is not None
    with torch.no_grad():
        attention.scale.fill_(8.0)
    _, alpha = attention(features * 1000, ALL)
    assert alpha.min() < 1e-3


def test_global_scope_gives_one_weight_per_slice(features: torch.Tensor) -> None:
    _, alpha = ModalityAttention(8, "global")(features, ALL)
    assert torch.equal(alpha.amax((-1, -2)), alpha.amin((-1, -2)))


def test_without_attention_every_present_sequence_counts_the_same(features: torch.Tensor) -> None:
    present = torch.tensor([[True, False, True, True]])
    fused, alpha = ModalityAttention(8, "mean")(features, present)
    assert torch.allclose(alpha[:, :, [0, 2, 3]], torch.tensor(1 / 3))
    torch.testing.assert_close(fused[0, 0], features[0, [0, 2, 3]].mean(0))
