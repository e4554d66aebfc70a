"""Similarity of faces by a face recognition network, Fig. 6.

No such network is bundled, since none is published under a free licence. Any network from (N, 3, 112, 112) to (N, D)
will do, as ONNX (``.onnx``) or TorchScript (``.pt``, ``.ts``): ArcFace expects RGB, AdaFace BGR. A TorchScript file can
run its author's code, so that it is read only with its checksum. A restored face and its original are aligned to
ArcFace's template by the same average landmarks, so that changes of shape count.
"""

from collections.abc import Mapping, Sequence
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
# ArcFace's template (Deng et al., CVPR 2019): eyes, tip of the nose and corners of the mouth, in pixels.
FRAME = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
BINS = 100
THRESHOLD = 0.5


class Embedder:
    """A face recognition network from a file.

    Args:
        path: ``.onnx``, ``.pt`` or ``.ts``.
        colour: Order of its channels.
        expected: SHA-256 of the file; None skips the check, which only ``.onnx`` allows.

    Raises:
        ValueError: Another kind of file, another checksum, or none for TorchScript.
        OSError: It cannot be read.
    """

    def __init__(self, path: str | Path, *, colour: Literal["rgb", "bgr"] = "rgb", expected: str | None = None) -> None:
        self.path, self.colour = Path(path), colour
        self.sha256 = sha256(self.path)
        if expected is None and self.path.suffix in (".pt", ".ts"):
            raise ValueError(
                f"{path}: a TorchScript network can run its author's code; use an .onnx file, or, if you trust this "
                "one, give its SHA-256 (--embedder-sha256)"
            )
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
        """Return unit-length embeddings, (N, D), of faces (N, 3, S, S) in [0, 1] aligned as in FFHQ.

        Raises:
            ValueError: The network has another input or output.
        """
        faces = to_signed(to_frame(image.float().cpu()))
        try:
            embedding = self._run(faces.flip(1) if self.colour == "bgr" else faces)
        except Exception as error:  # of any kind, see above
            raise ValueError(f"{self.path}: does not take images {tuple(faces.shape)} ({error})") from error
        if not isinstance(embedding, Tensor) or embedding.ndim != 2 or len(embedding) != len(image):
            raise ValueError(f"{self.path}: does not return (N, D) embeddings")
        return F.normalize(embedding.float(), dim=1)


def to_frame(image: Tensor) -> Tensor:
    """Align FFHQ faces (N, 3, S, S) to ArcFace's template, (N, 3, 112, 112), by average landmarks."""
    size = image.shape[-1]
    points = canonical_landmarks(size).five_points.astype(np.float64)
    to_source = similarity_transform(FRAME, points)
    # Pixel centres in grid_sample's coordinates from -1 to 1.
    y, x = np.mgrid[:SIDE, :SIDE]
    sources = to_source @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
    grid = torch.from_numpy(((sources.T + 0.5) / size * 2 - 1).reshape(1, SIDE, SIDE, 2)).to(image)
    if size > 2 * SIDE:  # grid_sample does not antialias
        image = F.interpolate(image, (2 * SIDE, 2 * SIDE), mode="bilinear", antialias=True)
    return F.grid_sample(image, grid.expand(len(image), -1, -1, -1), "bilinear", "border", align_corners=False)


def similarity_transform(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Fit the similarity transform of points (n, 2) to others by least squares, (2, 3)."""
    x, y = source.T
    zero, one = np.zeros_like(x), np.ones_like(x)
    equations = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    a, b, c, d = np.linalg.lstsq(equations, np.concatenate([target[:, 0], target[:, 1]]), rcond=None)[0]
    return np.array([[a, -b, c], [b, a, d]])


def summarize(cosines: Sequence[float]) -> dict[str, Any]:
    """Return mean, median, 5th percentile, share above the threshold, and the density in bins from -1 to 1."""
    values = np.asarray(cosines)
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


def plot_distributions(path: Path, rows: Mapping[str, Sequence[float]]) -> None:
    """Plot the density of every row's cosines, as in Fig. 6.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: The image cannot be written.
    """
    from matplotlib.figure import Figure  # without pyplot's global state

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, cosines in rows.items():
        summary = summarize(cosines)
        centres = (np.array(summary["edges"][:-1]) + np.array(summary["edges"][1:])) / 2
        axes.plot(centres, summary["density"], label=f"{name}, median {summary['median']:.2f}")
    axes.set_xlabel("cosine to the original")
    axes.set_ylabel("density")
    lowest = min(min(cosines) for cosines in rows.values())
    axes.set_xlim(max(-1.0, lowest - 0.1), 1.0)
    axes.legend()
    figure.savefig(path, dpi=150)
