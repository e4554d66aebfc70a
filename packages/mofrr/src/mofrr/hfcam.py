"""Section 3.3, HFCAM: the high bands corrected by what the low band became, Eq. 8.

    y^_H = x_H + Conv(CA(y^_0, x_H))

Both bands are cut into patches; the patches of the restored low band ask, those of the high bands answer. The paper
gives no positions; here fixed sines tell patches apart, or a patch could not find its own high bands. The paper's three
convolutions see what was attended to alone; with ``refine_all`` they see both bands beside it, for a patch of tokens is
too coarse for edges.

Shapes: y_low (N, 3, h, w), x_H (N, 9, h, w), h and w multiples of the patch.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mofrr.denoiser import sinusoids, zero

HIDDEN = 32  # channels between the convolutions


class HFCAM(nn.Module):
    """One-layer cross-attention and three convolutions.

    Args:
        patch: Side of a patch in pixels of the band.
        width: Width of a token.
        heads: Attention heads.
        query: Which band asks, "low" or "high"; the other answers.
        refine_all: The convolutions see both bands too.
    """

    def __init__(
        self,
        *,
        patch: int,
        width: int,
        heads: int,
        query: Literal["low", "high"] = "low",
        refine_all: bool = True,
    ) -> None:
        super().__init__()
        self.patch, self.heads, self.query, self.refine_all = patch, heads, query, refine_all
        low, high = 3 * patch**2, 9 * patch**2
        asking, answering = (low, high) if query == "low" else (high, low)
        self.to_query, self.to_key_value = nn.Linear(asking, width), nn.Linear(answering, 2 * width)
        self.from_tokens = nn.Linear(width, high)
        self.convolutions = nn.Sequential(
            nn.Conv2d(21 if refine_all else 9, HIDDEN, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1),
            nn.SiLU(),
            zero(nn.Conv2d(HIDDEN, 9, 3, padding=1)),
        )

    def forward(self, y_low: Tensor, x_H: Tensor) -> Tensor:
        """y^_H, (N, 9, h, w)."""
        attended = self._attend(y_low, x_H)
        seen = torch.cat([attended, y_low, x_H], dim=1) if self.refine_all else attended
        return x_H + self.convolutions(seen)

    def _attend(self, y_low: Tensor, x_H: Tensor) -> Tensor:
        """CA, (N, 9, h, w)."""
        rows, columns = (side // self.patch for side in x_H.shape[-2:])
        asking, answering = (y_low, x_H) if self.query == "low" else (x_H, y_low)
        q = self.to_query(self._tokens(asking))
        k, v = self.to_key_value(self._tokens(answering)).chunk(2, dim=-1)
        position = positions(rows, columns, q.shape[-1]).to(q)
        q, k, v = (token.unflatten(-1, (self.heads, -1)).transpose(1, 2) for token in (q + position, k + position, v))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        bands = self.from_tokens(attended).transpose(1, 2).unflatten(-1, (rows, columns))
        return F.pixel_shuffle(bands, self.patch)

    def _tokens(self, band: Tensor) -> Tensor:
        """(N, patches, values of a patch)."""
        return F.pixel_unshuffle(band, self.patch).flatten(2).transpose(1, 2)


def positions(rows: int, columns: int, width: int) -> Tensor:
    """Sines and cosines of row and column, (rows * columns, width); width a multiple of 4."""
    y = sinusoids(torch.arange(rows), width // 2)[:, None].expand(-1, columns, -1)
    x = sinusoids(torch.arange(columns), width // 2)[None].expand(rows, -1, -1)
    return torch.cat([y, x], dim=-1).flatten(0, 1)
