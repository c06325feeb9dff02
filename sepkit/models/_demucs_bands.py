"""The outermost layers of a spectrogram's coder, once for each of several bands of rows."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sepkit.models._demucs_layers import DecoderLayer, EncoderLayer, Stride, activate


class BandedEncoder(nn.Module):
    """Encode bands of rows by a layer each; neighbours overlap as far as the strides need.

    Args:
        layers: one a band.
        edges: where bands end, shares of the rows in rising order; the last band ends with the last row.
    """

    def __init__(self, layers: Sequence[EncoderLayer], edges: Sequence[float]) -> None:
        super().__init__()
        self.layers, self.edges = nn.ModuleList(layers), tuple(edges)

    def forward(self, features: Tensor, injected: None = None) -> Tensor:  # noqa: ARG002
        """Encode (B, H, R, N)."""
        stride, last = self.layers[0].stride, len(self.edges)
        spans = encoder_spans(features.shape[2], self.edges, stride)
        return torch.cat(
            [
                layer(features[:, :, start:stop], edges=(stride.edge * (not i), stride.edge * (i == last)))
                for i, (layer, (start, stop)) in enumerate(zip(self.layers, spans, strict=True))
            ],
            2,
        )


class BandedDecoder(nn.Module):
    """Decode bands of rows by a layer each and add what reaches beyond a band to the one below it.

    Args:
        layers: one a band, `banded`.
        edges: where bands end, shares of the rows in rising order.
        outermost: no activation behind it.
    """

    def __init__(self, layers: Sequence[DecoderLayer], edges: Sequence[float], outermost: bool) -> None:
        super().__init__()
        self.layers, self.edges, self.outermost = nn.ModuleList(layers), tuple(edges), outermost

    def forward(self, features: Tensor, skip: Tensor, length: int) -> tuple[Tensor, None]:
        """Decode (B, H, R, N)."""
        n_rows = features.shape[2]
        bounds = [0, *(round(n_rows * edge) for edge in self.edges), n_rows]
        step, bands = self.layers[0].stride.step, []
        for layer, (start, stop) in zip(self.layers, pairwise(bounds), strict=True):
            band, _ = layer(features[:, :, start:stop], skip[:, :, start:stop], length)
            if bands:
                beyond = band[:, :, :step] - layer.convolution.bias[:, None, None]  # the bias is in both
                below = bands[-1]
                bands[-1] = torch.cat([below[:, :, :-step], below[:, :, -step:] + beyond], 2)
                band = band[:, :, step:]
            bands.append(band)
        joined = torch.cat(bands, 2)[:, :, step // 2 : -(step // 2) or None]
        return activate(joined, self.outermost), None


def encoder_spans(n_rows: int, edges: Sequence[float], stride: Stride) -> Iterator[tuple[int, int]]:
    """List the rows that the layer of each band reads, first to last and one, without the zeros beyond the ends."""
    start, kernel, step = 0, stride.kernel_size, stride.step
    for i, edge in enumerate(edges):
        before = stride.edge if i == 0 else 0
        n_strides = round((round(n_rows * edge) - start + before - kernel) / step + 1)
        stop = start + (n_strides - 1) * step + kernel - before
        yield start, stop
        start = stop - kernel + step
    yield start, n_rows
