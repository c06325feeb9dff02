"""The solver of block-Toeplitz systems against dense algebra."""

import numpy as np
import pytest
import torch

from sepkit.metrics.bss_eval import toeplitz
from sepkit.metrics.bss_eval.toeplitz import BlockToeplitz, solve_densely


def correlations(n_systems, n_channels, n_lags, seed=0):
    """Make lags of random coloured signals: (Q, M, M, L)."""
    rng = np.random.default_rng(seed)
    waveforms = np.cumsum(rng.standard_normal((n_systems, n_channels, 40 * n_lags)), axis=-1) * 0.1
    waveforms += rng.standard_normal(waveforms.shape)
    spectra = np.fft.rfft(waveforms, 64 * n_lags)
    lags = np.fft.irfft(spectra.conj()[:, :, None] * spectra[:, None])[..., :n_lags]
    return torch.from_numpy(lags.copy())


def dense(lags):
    """Build one matrix entry by entry, rows and columns ordered by channel, then lag."""
    n_channels, _, n_lags = lags.shape
    matrix = np.empty((n_channels, n_lags, n_channels, n_lags))
    for a in range(n_lags):
        for b in range(n_lags):
            matrix[:, a, :, b] = lags[..., a - b] if a >= b else lags[..., b - a].T
    return torch.from_numpy(matrix.reshape(n_channels * n_lags, -1))


sizes = pytest.mark.parametrize(
    ("n_systems", "n_channels", "n_lags"), [(1, 1, 1), (2, 3, 1), (1, 1, 7), (3, 2, 20), (1, 4, 33)]
)


@sizes
def test_product_is_that_of_the_dense_matrix(n_systems, n_channels, n_lags):
    lags = correlations(n_systems, n_channels, n_lags)
    right = torch.randn(n_systems, n_channels, n_lags, 3, dtype=torch.float64)
    product = BlockToeplitz(lags).product(right)
    for system in range(n_systems):
        expected = dense(lags[system]) @ right[system].reshape(-1, 3)
        torch.testing.assert_close(product[system].reshape(-1, 3), expected, rtol=1e-12, atol=1e-9)


@sizes
def test_solution_is_that_of_the_dense_matrix(n_systems, n_channels, n_lags):
    lags = correlations(n_systems, n_channels, n_lags)
    right = torch.randn(n_systems, n_channels, n_lags, 3, dtype=torch.float64)
    filters, trusted = BlockToeplitz(lags).solve(right)
    assert trusted.all()
    for system in range(n_systems):
        expected = torch.linalg.solve(dense(lags[system]), right[system].reshape(-1, 3)).view(right[system].shape)
        torch.testing.assert_close(filters[system], expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(solve_densely(lags[system], right[system]), expected, rtol=1e-9, atol=1e-12)


def test_an_inverse_that_is_half_a_percent_off_is_refined_to_the_rounding_of_the_equations(monkeypatch):
    inverted = BlockToeplitz._inverted
    monkeypatch.setattr(BlockToeplitz, "_inverted", lambda self, right: 1.005 * inverted(self, right))
    lags = correlations(1, 3, 20)
    right = torch.randn(1, 3, 20, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    filters, trusted = BlockToeplitz(lags).solve(right)
    assert trusted.all()
    matrix = dense(lags[0])
    residual = right[0].reshape(-1, 1) - matrix @ filters[0].reshape(-1, 1)
    assert residual.norm() / (torch.linalg.matrix_norm(matrix, 2) * filters.norm()) < 1e-15


def test_systems_that_cannot_be_trusted_are_solved_densely():
    lags = correlations(2, 2, 8)
    lags[1] = 1.0  # the same constant in both channels: rank 1
    right = torch.ones(2, 2, 8, 1, dtype=torch.float64)
    filters, trusted = BlockToeplitz(lags).solve(right)
    assert trusted.tolist() in ([True, False], [False, False])
    torch.testing.assert_close(filters[1].sum(), torch.tensor(1.0, dtype=torch.float64))


def test_a_singular_system_has_no_conditioning():
    assert BlockToeplitz(torch.zeros(1, 2, 2, 4, dtype=torch.float64)).conditioning().tolist() == [0.0]


def test_conditioning_is_the_smallest_eigenvalue_of_the_scaled_matrix():
    lags = correlations(2, 3, 16)
    lags[:, 0] *= 100
    lags[:, :, 0] *= 100
    estimated = BlockToeplitz(lags).conditioning(n_iterations=40)
    for system in range(2):
        matrix = dense(lags[system])
        scale = matrix.diagonal().rsqrt()
        expected = torch.linalg.eigvalsh(scale[:, None] * matrix * scale)[0]
        assert estimated[system].item() == pytest.approx(expected.item(), rel=0.05)  # iterations still converge


def test_torch_predicts_as_numpy_does():
    blocks = correlations(2, 3, 16).permute(0, 3, 1, 2)
    for found, expected in zip(
        toeplitz._predictors(blocks, torch), toeplitz._predictors(blocks.numpy(), np), strict=True
    ):
        torch.testing.assert_close(found, torch.from_numpy(expected))
