"""Training in stages; a stage is trained by :mod:`retouch_common.training.fit`.

A run directory has a run directory for each stage (``router``, ``degree-white``, ``expert-white``, …, ``shared``,
``combine``) with ``weights/`` of its part once it is finished, checksums of the parts that it needs in
``trained_beside.json``, and that of a degree stage ``degrees.json``, the PSNRs between degrees. Once all stages are
finished, ``weights/`` holds the whole network. Rerun the same command to resume; finished stages are skipped.

A finished part is usable wherever the options of ``model`` that it depends on are the same. So are the parts of
``train.init``: a stage that needs another takes it from there if the run directory has none, and the whole network is
then made of both. Table 4's rows are trained that way from one full network.
"""

import json
import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from retouch_common.config import from_dict, to_dict
from retouch_common.files import sha256
from retouch_common.losses.adversarial import PatchDiscriminator, discriminator_loss, generator_loss
from retouch_common.ranges import to_signed
from retouch_common.training import fit
from retouch_common.training.run_state import initial_weights
from retouch_common.training.runner import Runner
from retouch_common.training.task import Task
from retouch_common.training.validation import evaluating
from retouch_common.weights import FOLDER_FILE, load_state, resolve_weights, save_weights
from torch import Tensor
from torch.utils.data import default_collate

from mofrr.config import Config, ModelConfig
from mofrr.losses import l1_loss, weighted_sum
from mofrr.model import MoFRR
from mofrr.pix2pix import L1
from mofrr.stages import BaselineStage, Batch, Rows, Stage, known_stages, stages_of
from mofrr.wavefrr import without_residual

logger = logging.getLogger(__name__)

VALIDATION_BATCH = 4
DEGREES_FILE, DEGREE_EDGES = "degrees.json", "degree_edges"  # PSNRs between degrees: of a stage, in weights
BESIDE = "trained_beside.json"  # checksums of the parts that a stage was begun with


def train(
    configs: Mapping[str, Config],
    data: str,
    out: str | Path,
    *,
    device: str = "auto",
    tensorboard: bool = False,
    report: Callable[[str], None] = print,
) -> Path | None:
    """Train stages one after another, or resume the run in ``out``.

    Args:
        configs: Configurations of the stages to train, by name, with the same ``model``; see
            :func:`mofrr.stages.known_stages`.
        data: See :func:`mofrr.data.open_retouched_faces`.
        out: Run directory.
        device: "auto", "cpu" or "cuda".
        tensorboard: Also write TensorBoard event files.
        report: Receives messages for the user.

    Returns:
        The whole network's weights, or None while stages are missing.

    Raises:
        ValueError: As :func:`retouch_common.training.fit.fit`, a stage that needs another first, or weights in ``out``
            that no stage in it made.
        NonFiniteError: Losses, gradients or weights became NaN or infinite; the last good checkpoint stays.
        OSError: Nothing can be written to ``out``; the last good checkpoint stays.
    """
    out, config = Path(out), next(iter(configs.values()))
    every = stages_of(config)
    names = {stage.name for stage in every}
    if names & configs.keys() and (out / "weights").exists() and not any((out / name).exists() for name in names):
        raise ValueError(f"{out} holds weights but no stage that they were made of; move them, or choose another --out")
    for name, own in configs.items():
        if _is_finished(out / name):
            with Runner(cpu=device == "cpu") as runner:
                if runner.is_main:
                    report(f"{name} is finished; delete {out / name} to retrain it")
            continue
        task = stage_task(name, own, data, out)
        weights = fit.fit(task, out / name, device=device, tensorboard=tensorboard, report=report)
        if weights is None or task.runner.stop_requested():
            return None
    model, reused, _ = initial_network(config)
    untrained = [stage.name for stage in every if not _is_finished(out / stage.name)]
    missing = [name for name in untrained if name not in reused]
    with Runner(cpu=device == "cpu") as runner:
        if runner.is_main and missing:
            report(f"not trained yet: {', '.join(missing)}")
        elif runner.is_main:
            if untrained:
                report(f"taken from {config.train.init}: {', '.join(untrained)}")
            load_parts(model, every, out, reused)
            _state_degree_edges(model, out)
            model.save_pretrained(out / "weights")
            report(f"wrote {out / 'weights'}")
        runner.wait()
    return None if missing else out / "weights"


def dry_run(
    config: Config, data: str, *, stage: str, device: str = "auto", report: Callable[[str], None] = print
) -> None:
    """Run one step of a stage in memory, with the other parts untrained; see :func:`retouch_common.training.fit`."""
    fit.dry_run(stage_task(stage, config, data, None), device=device, report=report)


class StageTask(Task):
    """One stage of a run.

    Args:
        name: See :mod:`mofrr.stages`.
        config: Of the run.
        data: See :func:`train`.
        out: Run directory with the parts that the stage needs; None leaves them untrained.

    Raises:
        ValueError: There is no such stage.
    """

    kept: ClassVar[str] = "part"

    def __init__(self, name: str, config: Config, data: str, out: Path | None) -> None:
        super().__init__(config, data)
        known = known_stages(config)
        if name not in known:
            raise ValueError(f"unknown stage {name!r}; choose from {', '.join(known)}")
        self.stage, self.out = known[name], out

    def build(self) -> None:
        """Open the faces and build the network with its finished parts; only the stage's part is trained."""
        cfg, stage = self.config.train, self.stage
        self.model, reused, given = initial_network(self.config)
        self.beside: dict[str, str] = {}
        if self.out is not None:
            load_parts(self.model, stage.needs(), self.out, reused)
            self.beside = _checksums(stage, self.out)
            if (self.out / stage.name / "checkpoints").is_dir():
                _warn_of_other_parts(stage, self.out)
        if not cfg.only and stage.name not in reused:
            if cfg.init and stage.kind != BaselineStage.kind:
                logger.warning("%s has no %s that fits; tensors that do not fit start at random", cfg.init, stage.name)
            stage.initialize(self.model, given)
        self.data, self.validation = stage.open_data(self.spec)
        self.model.eval().requires_grad_(False)
        part = stage.part_of(self.model)
        parameters = stage.trained_parameters(part)
        for parameter in parameters:
            parameter.requires_grad_(True)
        # Where only a head or a slot is trained, batch statistics stay as well.
        part.train(len(parameters) == len(list(part.parameters())))
        if cfg.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.model.to(self.runner.device)
        self.part = self.add_network(self.kept, part, parameters)

    def run_files(self) -> dict[str, str]:
        """Return the borders between degrees, of a degree stage, and the checksums of the parts that a stage needs."""
        edges = self.data.degree_edges
        files = {} if edges is None else {DEGREES_FILE: json.dumps(edges)}
        return files | ({BESIDE: json.dumps(self.beside, indent=2)} if self.beside else {})

    def training_step(self, step: int, batches: Any) -> dict[str, Tensor]:
        """Take an optimiser step; return the losses, averaged over processes."""
        runner, cfg = self.runner, self.config.train
        sums: dict[str, Tensor] = {}
        for round_ in range(cfg.accumulate):
            batch = self.to_device(next(batches))
            # Seeded by the step: the same after resuming, different on every process.
            generator = torch.Generator().manual_seed(
                ((cfg.seed * 1_000_003 + step) * cfg.accumulate + round_) * runner.num_processes + runner.process_index
            )
            for name, value in self.add_gradients(batch, generator).items():
                sums[name] = sums.get(name, 0.0) + value.detach() / cfg.accumulate
        return self.apply_gradients(step, sums)

    def add_gradients(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Add the gradients of a batch, and return its losses."""
        runner, stage = self.runner, self.stage
        with runner.micro_step(self.part):
            with runner.autocast():
                losses = stage.terms(self.model, self.part, batch, generator)
                losses["loss"] = weighted_sum(losses, self.config.loss)
            runner.backward(losses["loss"])
        return losses

    def validate(self) -> tuple[dict[str, float], Rows]:
        """Return the stage's metrics on fixed validation faces, and rows of an image sheet."""
        part, batches = self.averaged, self.validation_batches(self.stage.validation_batches)
        with evaluating(part), self.runner.autocast():
            return self.stage.validate(self.model, part, batches)

    def validation_batches(self, count: int) -> list[Batch]:
        """Return fixed validation faces, each at most once."""
        samples = [self.validation[index] for index in range(min(count * VALIDATION_BATCH, self.validation.different))]
        return [
            self.to_device(default_collate(samples[first : first + VALIDATION_BATCH]))
            for first in range(0, len(samples), VALIDATION_BATCH)
        ]

    @torch.no_grad()
    def calibrate(self) -> None:
        """Calibrate the finished part on validation faces."""
        count = self.stage.calibration_batches
        if count:
            batches = self.validation_batches(count)
            with self.runner.autocast():
                self.stage.calibrate(self.averaged.eval(), batches)

    def save_weights(self, folder: Path) -> None:
        """Write the averaged, calibrated part with the configuration of the whole network."""
        self.calibrate()
        folder.mkdir(exist_ok=True)
        save_weights(folder / FOLDER_FILE, self.averaged.state_dict(), config=to_dict(self.config.model))


class AdversarialTask(StageTask):
    """The baseline pix2pix: L1, and a PatchGAN that rates images beside the retouched one."""

    def build(self) -> None:
        """Add the discriminator, as wide as the generator."""
        super().build()
        discriminator = PatchDiscriminator(6, width=self.config.model.shared_channels, norm="instance")
        self.discriminator = self.add_network("discriminator", discriminator.to(self.runner.device))

    def add_gradients(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Add the gradients of both networks, and return the losses."""
        runner, discriminator = self.runner, self.runner.unwrap(self.discriminator)
        X, Y = to_signed(batch["retouched"]), to_signed(batch["original"])
        with runner.micro_step(self.part, self.discriminator):
            discriminator.requires_grad_(False)
            with runner.autocast():
                restored = self.part(X)
                logits = discriminator(torch.cat([X, restored], dim=1))
                losses = {"adversarial": generator_loss(logits, kind="bce"), "l1": l1_loss(restored, Y)}
                losses["loss"] = losses["adversarial"] + L1 * losses["l1"]
            runner.backward(losses["loss"])
            discriminator.requires_grad_(True)
            with runner.autocast():
                pairs = [torch.cat([X, image], dim=1) for image in (Y, restored.detach())]
                logits = self.discriminator(torch.cat(pairs))
                # Half of it, "which slows down the rate at which D learns" (section 3.3 of pix2pix).
                losses["discriminator"] = discriminator_loss(*logits.chunk(2), kind="bce") / 2
            runner.backward(losses["discriminator"])
        return losses


def stage_task(name: str, config: Config, data: str, out: Path | None) -> StageTask:
    """Return the task of a stage; arguments as of :class:`StageTask`."""
    return (AdversarialTask if name == "baseline-pix2pix" else StageTask)(name, config, data, out)


def initial_network(config: Config) -> tuple[MoFRR, list[str], set[str]]:
    """Return the network that a run starts from.

    Of parts of ``train.init`` that are not usable as they are, tensors of the same name and shape are taken; without
    IDEM also the first convolution of the noise predictors, without the channels of R^. A run directory may lack
    stages. With ``train.only`` it must be a network of the same configuration, none of whose parts stands for a stage.

    Returns:
        The network, the stages whose parts are usable as ``train.init`` has them, and the names of its tensors.

    Raises:
        ValueError: No part of ``train.init`` fits.
    """
    model, init = MoFRR(config.model), config.train.init
    if not init or config.train.only:
        initial_weights(model, config.train)
        return model, [], set()
    parts = sorted(folder for folder in Path(init).glob("*") if _is_finished(folder))
    unfinished = bool(parts) and not _is_finished(Path(init))
    start = _parts_of_run(config, parts) if unfinished else MoFRR.from_pretrained(init)
    trained = {stage.name: stage.path for stage in stages_of(replace(config, model=start.config))}
    if unfinished:
        trained = {folder.name: trained[folder.name] for folder in parts if folder.name in trained}
    fitting = [stage.name for stage in stages_of(config) if stage.name in trained and stage.fits(start.config)]
    if not fitting and not unfinished:
        raise ValueError(
            f"train.init={init} was trained with another model configuration ({start.config}); "
            "choose its preset, or the --set model.… options that it was trained with"
        )
    own, prefixes = model.state_dict(), tuple(f"{path}." for path in trained.values())
    given = {name: value for name, value in start.state_dict().items() if name.startswith(prefixes) and name in own}
    if start.config.idem and not config.model.idem:  # Table 4: fine-tuned from the whole network, not begun anew
        first = re.compile(r"experts\.\w+\.denoiser\.first\.weight")
        given |= {name: without_residual(value) for name, value in given.items() if first.fullmatch(name)}
    taken = {name: value for name, value in given.items() if value.shape == own[name].shape}
    model.load_state_dict(own | taken)
    model.metadata = start.metadata
    return model, fitting, set(taken)


def load_parts(model: MoFRR, stages: Sequence[Stage], out: Path, reused: Collection[str] = ()) -> MoFRR:
    """Load the weights of finished stages into a network. Modified in place.

    Args:
        model: The network.
        stages: Stages whose parts are needed.
        out: Run directory.
        reused: Names of stages whose parts the network already has, where the run directory has none.

    Raises:
        ValueError: A stage is not finished, or was trained under another ``model``.
    """
    for stage in stages:
        folder = out / stage.name
        if not _is_finished(folder):
            if stage.name in reused:
                continue
            command = stage.name.replace("-", " --operation ", 1)
            raise ValueError(f"{out}: {stage.name} must be trained first (mofrr-train {command})")
        weights = resolve_weights(folder / "weights", bundled=None)
        if weights.config is None or not stage.fits(from_dict(ModelConfig, weights.config)):
            raise ValueError(f"{folder} was trained with another model configuration; train it anew, or use that")
        _warn_of_other_parts(stage, out)
        stage.part_of(model).load_state_dict(load_state(weights))
    return model


def _parts_of_run(config: Config, parts: Sequence[Path]) -> MoFRR:
    """Return a network with the finished stages of a run directory, the first of which says its configuration."""
    recorded = resolve_weights(parts[0] / "weights", bundled=MoFRR.bundled).config
    model = MoFRR(from_dict(ModelConfig, dict(recorded or {})))
    names = {part.name for part in parts}
    stages = [stage for stage in stages_of(replace(config, model=model.config)) if stage.name in names]
    _state_degree_edges(model, parts[0].parent)
    return load_parts(model, stages, parts[0].parent)


def _state_degree_edges(model: MoFRR, out: Path) -> None:
    """State the PSNRs between degrees of a run's finished degree stages in the metadata. Modified in place."""
    edges = json.loads(model.metadata.get(DEGREE_EDGES, "{}"))
    for file in out.glob(f"degree-*/{DEGREES_FILE}"):
        if _is_finished(file.parent):
            edges[file.parent.name.removeprefix("degree-")] = json.loads(file.read_bytes())
    if edges:
        model.metadata = {**model.metadata, DEGREE_EDGES: json.dumps(edges, sort_keys=True)}


def _is_finished(folder: Path) -> bool:
    return (folder / "weights" / FOLDER_FILE).is_file()


def _warn_of_other_parts(stage: Stage, out: Path) -> None:
    """Warn if the training of a stage began with other parts than those that are in the run directory."""
    folder = out / stage.name
    recorded = (folder / BESIDE, folder / "weights" / BESIDE)  # the latter: where development versions wrote it
    if beside := next(filter(Path.is_file, recorded), None):
        now, then = _checksums(stage, out), json.loads(beside.read_bytes())
        if changed := [name for name, checksum in then.items() if now.get(name) != checksum]:
            logger.warning("%s was trained with another %s; delete it to retrain it", folder, ", ".join(changed))


def _checksums(stage: Stage, out: Path) -> dict[str, str]:
    """Return the SHA-256 of the finished parts in a run directory that a stage needs."""
    files = {needed.name: out / needed.name / "weights" / FOLDER_FILE for needed in stage.needs()}
    return {name: sha256(file) for name, file in files.items() if file.is_file()}
