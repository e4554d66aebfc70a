"""Training of the face parser: its network, a step of Eq. 7, validation."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from retouch_common.data.portraits import mesh_of
from retouch_common.parsing.config import Config
from retouch_common.parsing.data import find_pairs, open_data
from retouch_common.parsing.evaluate import MESH_PARTS, mesh_f1
from retouch_common.parsing.labels import COLOURS, NUM_CLASSES
from retouch_common.parsing.losses import dice_loss, parsing_loss
from retouch_common.parsing.metrics import confusion, segmentation_metrics
from retouch_common.parsing.model import ParsingUNet
from retouch_common.parsing.parser import FaceParser
from retouch_common.training import fit
from retouch_common.training.run_state import initial_weights
from retouch_common.training.task import Task
from retouch_common.training.validation import evaluating

VALIDATION_BATCH, HARD_SAMPLES, SHOWN_BATCHES = 4, 24, 3


def train(config: Config, data: str, out: str | Path, **options: Any) -> Path | None:
    """Train a parser, or resume the run in ``out``; see :func:`retouch_common.training.fit.fit`.

    ``data`` is what :func:`retouch_common.parsing.data.open_data` reads.
    """
    return fit.fit(ParsingTask(config, data), out, **options)


class ParsingTask(Task):
    """The face parser P_F on labelled faces; arguments as for :func:`train`."""

    def build(self) -> None:
        """Build the network and open the data sets."""
        cfg, size = self.config.train, self.config.model.size
        model = ParsingUNet(self.config.model)
        initial_weights(model, cfg)
        self.data = open_data(
            self.spec, size=size, split="train", seed=cfg.seed, augmentation=cfg.augmentation, extra=cfg.extra,
            teacher=cfg.teacher,
        )  # fmt: skip
        self.validation = open_data(self.spec, size=size, split="dev", teacher=cfg.teacher)
        self.hard = open_data(self.spec, size=size, split="dev", seed=1, augmentation="strong", teacher=cfg.teacher)
        self.meshed = [photo for photo, _ in find_pairs(self.spec, "dev") if mesh_of(photo) is not None]
        self.model = self.add_network("model", model.train())

    def training_step(self, step: int, batches: Any) -> dict[str, Tensor]:
        """Take one optimiser step of Eq. 7; return its losses and the accuracy, averaged over processes."""
        runner, cfg = self.runner, self.config.train
        sums: dict[str, Tensor] = {}
        for _ in range(cfg.accumulate):
            batch = self.to_device(next(batches))
            with runner.micro_step(self.model):
                with runner.autocast():
                    logits = self.model(batch["image"])
                terms = {"cross_entropy": parsing_loss(logits, batch["labels"], self.config.loss.class_weights)}
                loss = terms["cross_entropy"]
                if self.config.loss.dice:
                    terms["dice"] = dice_loss(logits, batch["labels"])
                    loss = loss + self.config.loss.dice * terms["dice"]
                runner.backward(loss)
            known = batch["labels"] < NUM_CLASSES
            accuracy = (logits.detach().argmax(1) == batch["labels"])[known].float().mean()
            named = {"loss": loss, **(terms if len(terms) > 1 else {}), "accuracy": accuracy}
            for name, value in ((name, value.detach()) for name, value in named.items()):
                sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value / cfg.accumulate
        return self.apply_gradients(step, sums)

    def validate(self) -> tuple[dict[str, float], list[dict[str, Tensor]]]:
        """Return metrics of faces not trained on, and rows of an image sheet.

        Faces are aligned and as photographed ("val"), augmented ("hard"), and compared with their meshes ("mesh").
        """
        model = self.averaged
        weights = self.config.loss.class_weights
        measured: dict[str, float] = {}
        rows: list[dict[str, Tensor]] = []
        splits = (("val", self.validation, len(self.validation)), ("hard", self.hard, HARD_SAMPLES))
        with evaluating(model):
            for name, faces, count in splits:
                matrix, loss = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64), 0.0
                for first in range(0, count, VALIDATION_BATCH):
                    batch = self.to_device(
                        default_collate([faces[i] for i in range(first, min(first + VALIDATION_BATCH, count))])
                    )
                    with self.runner.autocast():
                        logits = model(batch["image"])
                    found = logits.argmax(1)
                    loss += float(parsing_loss(logits, batch["labels"], weights)) * len(found) / count
                    matrix += confusion(found, batch["labels"])
                    if first < SHOWN_BATCHES * VALIDATION_BATCH:
                        shown = zip(batch["image"], batch["labels"], found, strict=True)
                        rows += [_row(*triple) for triple in shown][::2]
                measured |= {
                    f"{name}_loss": loss,
                    **{f"{name}_{key}": value for key, value in segmentation_metrics(matrix).items()},
                }
            if self.meshed:
                found_parts = mesh_f1(FaceParser(model, str(self.runner.device)), self.meshed)
                measured |= {f"mesh_f1_{name}": value for name, value in found_parts.items()}
        return measured, rows

    def summarize(self, metrics: dict[str, float]) -> str:
        """Return accuracy, mean F1, and F1 against the mesh."""
        summary = [
            f"{name}: accuracy {metrics[f'{name}_pixel_accuracy']:.4f}, mean F1 {metrics[f'{name}_f1_mean']:.4f}"
            for name in ("val", "hard")
        ]
        parts = [f"{name} {metrics[f'mesh_f1_{name}']:.3f}" for name in MESH_PARTS if f"mesh_f1_{name}" in metrics]
        return "; ".join(summary + ([f"F1 against the mesh: {', '.join(parts)}"] if parts else []))

    def save_weights(self, folder: Path) -> None:
        """Write the averaged network, as float16 with ``train.half``."""
        kept = copy.deepcopy(self.averaged)
        (kept.half() if self.config.train.half else kept).save_pretrained(folder)


def _row(image: Tensor, truth: Tensor, found: Tensor) -> dict[str, Tensor]:
    palette = torch.full((256, 3), 0.5)  # grey for labels that are not fully known
    palette[:NUM_CLASSES] = torch.from_numpy(COLOURS).float() / 255
    colours = {name: palette[labels.cpu()].permute(2, 0, 1) for name, labels in (("labels", truth), ("parsed", found))}
    return {"image": image.cpu(), **colours, "wrong": ((truth != found) & (truth < NUM_CLASSES)).float()[None].cpu()}
