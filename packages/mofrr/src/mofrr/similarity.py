"""How alike two faces are to a face recognition network: Fig. 6.

No such network is bundled: the known ones may not be used for everything, and are given out by their authors. Any that
takes (N, 3, 112, 112) and answers (N, D) will do, as ONNX (``.onnx``) or TorchScript (``.pt``, ``.ts``): ArcFace
expects RGB, AdaFace BGR. Faces are brought into ArcFace's frame by an average face's points, the same for a restored
face and its original, so that a changed shape stays one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from retouch_common.faces.landmarks import canonical_landmarks
from retouch_common.files import check_sha256, sha256
from retouch_common.ranges import to_signed
from torch import Tensor

SIDE = 112
# Where ArcFace's pictures have eyes, tip of the nose and corners of the mouth (Deng et al., CVPR 2019), in pixels.
FRAME = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
BINS = 100
THRESHOLD = 0.5


class Embedder:
    """A face recognition network from a file.

    Args:
        path: ``.onnx``, ``.pt`` or ``.ts``.
        colour: Order of its channels.
        expected: SHA-256 of the file, checked if given.

    Raises:
        ValueError: The file is none of them, has another checksum, or does not answer (N, D).
        OSError: It cannot be read.
    """

    def __init__(self, path: str | Path, *, colour: Literal["rgb", "bgr"] = "rgb", expected: str | None = None) -> None:
        self.path, self.colour = Path(path), colour
        self.sha256 = sha256(self.path)
        if expected is not None:
            check_sha256(self.path, expected)
        self._run: Any
        if self.path.suffix == ".onnx":
            try:
                import onnxruntime
            except ImportError:
                raise ValueError(f"{path}: needs onnxruntime; pip install onnxruntime") from None
            try:
                session = onnxruntime.InferenceSession(str(self.path), providers=["CPUExecutionProvider"])
            except Exception as error:  # onnxruntime's errors have no base class of their own
                raise ValueError(f"{path}: not an ONNX network ({str(error).splitlines()[0]})") from None
            name = session.get_inputs()[0].name
            self._run = lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])
        elif self.path.suffix in (".pt", ".ts"):
            try:
                self._run = torch.jit.load(str(self.path), map_location="cpu").eval()
            except RuntimeError as error:
                raise ValueError(f"{path}: not a TorchScript network ({str(error).splitlines()[0]})") from None
        else:
            raise ValueError(f"{path}: an embedder is an .onnx, .pt or .ts file")

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Embeddings of length 1, (N, D), of aligned faces (N, 3, S, S) in [0, 1] framed as FFHQ's.

        Raises:
            ValueError: The network takes or answers something else.
        """
        faces = to_signed(to_frame(image.float().cpu()))
        try:
            answer = self._run(faces.flip(1) if self.colour == "bgr" else faces)
        except Exception as error:  # of any kind, see above
            raise ValueError(f"{self.path}: takes no {tuple(faces.shape)} pictures ({error})") from error
        if not isinstance(answer, Tensor) or answer.ndim != 2 or len(answer) != len(image):
            raise ValueError(f"{self.path}: answers no (N, D) embeddings")
        return F.normalize(answer.float(), dim=1)


def to_frame(image: Tensor) -> Tensor:
    """Aligned faces (N, 3, S, S) in ArcFace's frame, (N, 3, 112, 112), by an average face's points."""
    size = image.shape[-1]
    points = canonical_landmarks(size).five_points.astype(np.float64)
    to_source = similarity_transform(FRAME, points)
    # Pixel centres of both pictures as shares from -1 to 1, as grid_sample has them.
    y, x = np.mgrid[:SIDE, :SIDE]
    wanted = to_source @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
    grid = torch.from_numpy(((wanted.T + 0.5) / size * 2 - 1).reshape(1, SIDE, SIDE, 2)).to(image)
    if size > 2 * SIDE:  # grid_sample does not filter
        image = F.interpolate(image, (2 * SIDE, 2 * SIDE), mode="bilinear", antialias=True)
    return F.grid_sample(image, grid.expand(len(image), -1, -1, -1), "bilinear", "border", align_corners=False)


def similarity_transform(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(2, 3): rotation, scale and shift that bring points (n, 2) closest to others (least squares)."""
    x, y = source.T
    zero, one = np.zeros_like(x), np.ones_like(x)
    equations = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    a, b, c, d = np.linalg.lstsq(equations, np.concatenate([target[:, 0], target[:, 1]]), rcond=None)[0]
    return np.array([[a, -b, c], [b, a, d]])


@dataclass(frozen=True)
class Similarities:
    """Cosines between faces and their originals.

    Attributes:
        values: One per face, in [-1, 1].
    """

    values: Sequence[float]

    def as_json(self) -> dict[str, Any]:
        """Mean, median, 5th percentile, share above the threshold, and the density in 100 bins from -1 to 1."""
        values = np.asarray(self.values)
        density, edges = np.histogram(values, bins=BINS, range=(-1, 1), density=True)
        return {
            "faces": len(values),
            "mean": float(values.mean()),
            "median": float(np.median(values)),
            "p5": float(np.percentile(values, 5)),
            f"share above {THRESHOLD}": float((values > THRESHOLD).mean()),
            "density": density.tolist(),
            "edges": edges.tolist(),
        }


def plot_distributions(path: Path, rows: Mapping[str, Similarities]) -> None:
    """Draw the density of every row's cosines, one curve each, as in Fig. 6.

    Args:
        path: Picture to write.
        rows: By name.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: The picture cannot be written.
    """
    from matplotlib.figure import Figure  # no window, no state: the figure is only written

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, found in rows.items():
        told = found.as_json()
        centres = (np.array(told["edges"][:-1]) + np.array(told["edges"][1:])) / 2
        axes.plot(centres, told["density"], label=f"{name}, median {told['median']:.2f}")
    axes.set_xlabel("cosine to the original")
    axes.set_ylabel("density")
    lowest = min(min(found.values) for found in rows.values())
    axes.set_xlim(max(-1.0, lowest - 0.1), 1.0)
    axes.legend()
    figure.savefig(path, dpi=150)
