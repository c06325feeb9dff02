"""Symmetric block-Toeplitz systems: the normal equations of multichannel filters, solved in O(L^2).

Lags are (Q, M, M, L): Q systems, M channels, `lags[:, i, k, l] = sum_n x_i[n] x_k[n + l]`. The matrix of a system has
the M x M block `lags[..., a - b]` in block row a and block column b, `lags[..., l]` transposed for -l.
"""

import numpy as np
import torch
from torch import Tensor

# A solution is trusted when its backward error is this small; one of LU with pivots is about 1e-15, and solutions are
# refined to that where they can be: in between, an ill-conditioned system moves scores by 1e-6 dB.
_TRUSTED, _REFINED = 1e-13, 1e-15
_REFINEMENTS = 6


class BlockToeplitz:
    """Solve with one or several symmetric block-Toeplitz matrices.

    Args:
        lags: (Q, M, M, L), float64.

    Source:
        Whittle, On the fitting of multivariate autoregressions, Biometrika 50, 1963 (the recursion);
        Gohberg and Semencul, Mat. Issled. 7(2), 1972, in Heinig's form for blocks (the inverse).
    """

    def __init__(self, lags: Tensor) -> None:
        self.lags = lags
        self.n_fft = 2 * lags.shape[-1]
        self._spectra = torch.fft.rfft(_both_sides(lags), n=self.n_fft).permute(0, 3, 1, 2).contiguous()
        self._inverse = self._factors()

    def product(self, filters: Tensor) -> Tensor:
        """Multiply the matrix with filters: (Q, M, L, P) -> (Q, M, L, P)."""
        return self._cut(self._spectra @ self._transform(filters))

    def solve(self, right: Tensor) -> tuple[Tensor, Tensor]:
        """Solve for the filters that give `right`.

        Args:
            right: (Q, M, L, P), float64.

        Returns:
            filters (Q, M, L, P), and bool (Q,): whether the fast solution passed its test; ill-conditioned systems fail
            it and are solved densely.
        """
        if self._inverse is None:
            filters, trusted = torch.zeros_like(right), right.new_zeros(len(right), dtype=torch.bool)
        else:
            filters, trusted = self._refined(right)
        for system in torch.nonzero(~trusted).flatten().tolist():
            filters[system] = solve_densely(self.lags[system], right[system])
        return filters, trusted

    def conditioning(self, n_iterations: int = 2) -> Tensor:
        """Estimate the smallest eigenvalue, (Q,), of the matrix whose diagonal has been scaled to ones.

        It is the power that the signals share at least in any direction, such as a band; 0: no inverse was found.
        """
        n_systems, n_channels, _, n_lags = self.lags.shape
        if self._inverse is None:
            return self.lags.new_zeros(n_systems)
        scale = self.lags[..., 0].diagonal(dim1=1, dim2=2).sqrt()[..., None, None]
        generator = torch.Generator().manual_seed(0)
        vector = torch.randn((1, n_channels, n_lags, 1), generator=generator, dtype=torch.float64)
        vector = vector.to(scale.device).repeat(n_systems, 1, 1, 1)
        for _ in range(n_iterations):
            vector = scale * self._inverted(scale * vector / _norm(vector))
        return 1 / _norm(vector).flatten()

    def _factors(self) -> Tensor | None:
        """Return the spectra of the two triangular factors of the inverse, (Q, K, M, 2 M)."""
        try:
            forward, backward, errors = _levinson(self.lags)
            roots = torch.linalg.cholesky(errors)
        except (np.linalg.LinAlgError, torch.linalg.LinAlgError):
            return None
        # Solving with the transposed root scales a predictor to unit error.
        scaled = torch.linalg.solve_triangular(
            roots.mT, torch.stack([forward, backward]).flatten(2, 3), upper=True, left=False
        ).view(2, *forward.shape)
        scaled[1] = scaled[1].roll(1, dims=1)
        scaled[1, :, 0] = 0
        both = torch.cat([scaled[0], scaled[1]], dim=-1)  # (Q, L, M, 2 M)
        if not both.isfinite().all():
            return None
        return torch.fft.rfft(both, n=self.n_fft, dim=1)

    def _inverted(self, right: Tensor) -> Tensor:
        """Multiply with the inverse: one correlation and one convolution with the triangular factors."""
        n_channels = right.shape[1]
        inner = self._cut(self._inverse.mH @ self._transform(right))
        inner[:, n_channels:] *= -1
        return self._cut(self._inverse @ self._transform(inner))

    def _refined(self, right: Tensor) -> tuple[Tensor, Tensor]:
        filters = self._inverted(right)
        scale = torch.linalg.matrix_norm(self._spectra).amax(1)[:, None, None, None]
        trusted = right.new_zeros(len(right), dtype=torch.bool)
        for _ in range(_REFINEMENTS):
            residual = right - self.product(filters)
            error = _norm(residual) / (scale * _norm(filters) + _norm(right)).clamp(min=torch.finfo(right.dtype).tiny)
            trusted = (error < _TRUSTED).flatten(1).all(1)
            filters = filters + self._inverted(residual)
            if (error < _REFINED).all():
                break
        return filters, trusted

    def _transform(self, filters: Tensor) -> Tensor:
        """Transform (Q, M, L, P) to spectra (Q, K, M, P)."""
        return torch.fft.rfft(filters.mT, n=self.n_fft).permute(0, 3, 1, 2)

    def _cut(self, spectra: Tensor) -> Tensor:
        """Transform spectra (Q, K, M, P) to the first L lags (Q, M, L, P)."""
        lags = torch.fft.irfft(spectra.permute(0, 2, 3, 1).contiguous(), n=self.n_fft)
        return lags[..., : self.n_fft // 2].mT


def solve_densely(lags: Tensor, right: Tensor) -> Tensor:
    """Solve one system (M, M, L), (M, L, P) as museval does: LU, least squares where that is singular."""
    n_channels, _, n_lags = lags.shape
    sided = torch.cat([lags.transpose(0, 1)[..., 1:].flip(-1), lags], dim=-1)  # lags -(L - 1) .. L - 1
    sided = sided.contiguous()
    # Row a, column b reads lag a - b: one step forward in a, one back in b, written without negative strides.
    shifted = sided.as_strided(
        (n_channels, n_channels, n_lags, n_lags),
        (sided.stride(0), sided.stride(1), 1, 1),
    )
    matrix = shifted.flip(-1).permute(0, 2, 1, 3).reshape(n_channels * n_lags, n_channels * n_lags)
    flat = right.reshape(n_channels * n_lags, -1)
    try:
        solution = torch.linalg.solve(matrix, flat)
    except torch.linalg.LinAlgError:
        solution = torch.linalg.lstsq(matrix.cpu(), flat.cpu(), driver="gelsd").solution.to(flat.device)
    return solution.view(right.shape)


def _levinson(lags: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the last forward and backward predictors and their errors.

    Small products dominate, and numpy starts them in half of torch's time.
    """
    blocks = lags.permute(0, 3, 1, 2)  # (Q, L, M, M)
    if lags.device.type == "cpu":
        return tuple(torch.from_numpy(part) for part in _predictors(blocks.numpy(), np))
    return _predictors(blocks, torch)


def _predictors(blocks, library):
    """Run Whittle's recursion on numpy arrays or torch tensors.

    Returns:
        forward and backward predictors, each (Q, L, M, M), and their errors (2, Q, M, M).
    """
    n_systems, n_lags, size, _ = blocks.shape
    like = {"dtype": blocks.dtype, "device": blocks.device} if library is torch else {"dtype": blocks.dtype}
    forward = library.zeros((n_systems, n_lags * size, size), **like)
    backward = library.zeros((n_systems, n_lags * size, size), **like)
    forward[:, :size] = backward[:, -size:] = library.eye(size, **like)
    newest_first = [blocks[:, lag] for lag in range(n_lags - 1, 0, -1)]
    newest_first = library.concatenate([blocks[:, :0].reshape(n_systems, size, 0), *newest_first], -1)
    errors = library.stack([blocks[:, 0], blocks[:, 0]])
    cross = library.zeros_like(errors)
    for order in range(1, n_lags):
        known, grown = order * size, (order + 1) * size
        cross[1] = newest_first[..., (n_lags - 1 - order) * size :] @ forward[:, :known]
        cross[0] = cross[1].swapaxes(-1, -2)
        reflection = library.linalg.solve(errors, cross)
        head, tail = forward[:, :grown], backward[:, -grown:]
        change = tail @ reflection[1]
        tail -= head @ reflection[0]
        head -= change
        errors = errors - cross @ reflection[[1, 0]]
    shape = (n_systems, n_lags, size, size)
    return forward.reshape(shape), backward.reshape(shape), errors


def _both_sides(lags: Tensor) -> Tensor:
    """Place lags 0 .. L - 1 and -(L - 1) .. -1 on a circle of 2 L."""
    negative = lags.transpose(1, 2)[..., 1:].flip(-1)
    return torch.cat([lags, torch.zeros_like(lags[..., :1]), negative], dim=-1)


def _norm(filters: Tensor) -> Tensor:
    """Compute the norm of each column of a system: (Q, M, L, P) -> (Q, 1, 1, P)."""
    return torch.linalg.vector_norm(filters, dim=(1, 2), keepdim=True)
