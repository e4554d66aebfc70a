"""Section 3.3, HFCAM: cross-attention that corrects the high bands by the restored low band, Eq. 8.

    y^_H = x_H + Conv(CA(y^_0, x_H))

Patches of the restored low band are the queries, those of the high bands keys and values, in Eq. 8's order.

Paper: no position encoding, and the convolutions see the attention output alone. Here: sinusoidal positions, without
which a patch cannot find its own high bands, and with ``refine_all`` the convolutions also see both bands, since a
patch per token is too coarse for edges.

Shapes: y_low (N, 3, h, w), x_H (N, 9, h, w), h and w multiples of the patch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mofrr.denoiser import sinusoids, zero

HIDDEN = 32  # channels between the convolutions


class HFCAM(nn.Module):
    """One-layer cross-attention and three convolutions.

    Args:
        patch: Side of a patch in pixels of the band.
        width: Token width.
        heads: Attention heads.
        refine_all: The convolutions also see both bands.
    """

    def __init__(self, *, patch: int, width: int, heads: int, refine_all: bool = True) -> None:
        super().__init__()
        self.patch, self.heads, self.refine_all = patch, heads, refine_all
        low, high = 3 * patch**2, 9 * patch**2
        self.to_query, self.to_key_value = nn.Linear(low, width), nn.Linear(high, 2 * width)
        self.from_tokens = nn.Linear(width, high)
        self.convolutions = nn.Sequential(
            nn.Conv2d(21 if refine_all else 9, HIDDEN, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1),
            nn.SiLU(),
            zero(nn.Conv2d(HIDDEN, 9, 3, padding=1)),
        )

    def forward(self, y_low: Tensor, x_H: Tensor) -> Tensor:
        """Return y^_H, (N, 9, h, w)."""
        attended = self._attend(y_low, x_H)
        return x_H + self.convolutions(torch.cat([attended, y_low, x_H], dim=1) if self.refine_all else attended)

    def _attend(self, y_low: Tensor, x_H: Tensor) -> Tensor:
        """Return CA, (N, 9, h, w)."""
        rows, columns = (side // self.patch for side in x_H.shape[-2:])
        q = self.to_query(self._tokens(y_low))
        k, v = self.to_key_value(self._tokens(x_H)).chunk(2, dim=-1)
        position = positions(rows, columns, q.shape[-1]).to(q)
        q, k, v = (token.unflatten(-1, (self.heads, -1)).transpose(1, 2) for token in (q + position, k + position, v))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        bands = self.from_tokens(attended).transpose(1, 2).unflatten(-1, (rows, columns))
        return F.pixel_shuffle(bands, self.patch)

    def _tokens(self, band: Tensor) -> Tensor:
        """Return (N, patches, pixels of a patch)."""
        return F.pixel_unshuffle(band, self.patch).flatten(2).transpose(1, 2)


def positions(rows: int, columns: int, width: int) -> Tensor:
    """Return sinusoidal encodings of row and column, (rows * columns, width); ``width`` is a multiple of 4."""
    y = sinusoids(torch.arange(rows), width // 2)[:, None].expand(-1, columns, -1)
    x = sinusoids(torch.arange(columns), width // 2)[None].expand(rows, -1, -1)
    return torch.cat([y, x], dim=-1).flatten(0, 1)
