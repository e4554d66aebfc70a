"""The commands ``mofrr-train``, ``mofrr-simulate``, ``mofrr-restore`` and ``mofrr-evaluate``.

Heavy modules are imported when a command runs.
"""

import functools
import sys
from pathlib import Path
from typing import Any

import click
from retouch_common.cli import options, photo_runs, photos
from retouch_common.cli.training import STOPPED, chosen_configuration, refuse_own_configuration, training_options

KINDS = ("router", "degree", "expert", "shared", "combine", "all", "baseline")

steps_option = click.option(
    "--steps", type=click.IntRange(min=1), help="DDIM steps; by default what the weights were made for."
)


@click.command()
@click.argument("stage", type=click.Choice(KINDS), metavar="|".join(KINDS))
@click.option(
    "--operation",
    metavar="NAME",
    help="Of a degree or expert stage: white, smooth, lift, eye; of a baseline: unet, combine, nafnet,"
    " pix2pix. By default all.",
)
@training_options(data="faces:DIR for plain portraits, or RetouchingFFHQ as published or as mofrr-simulate writes it.")
@options.version_option("mofrr")
@options.friendly_errors
def train(
    stage: str,
    operation: str | None,
    preset: str,
    data: str,
    out: Path,
    config_file: Path | None,
    overrides: tuple[str, ...],
    steps: int | None,
    init: str | None,
    dry_run: bool,
    tensorboard: bool,
    device: str,
) -> None:
    """Train a stage of MoFRR, or all that are left; rerun the same command to resume.

    The order is router and degree, expert (which needs its degree), shared, combine (which needs all others). On
    several GPUs or nodes: accelerate launch "$(which mofrr-train)" with the same options. A baseline is what MoFRR is
    compared with; "all" leaves it out.
    """
    from mofrr.baselines import build_baseline
    from mofrr.config import Config, stage_presets
    from mofrr.stages import known_stages, stages_of
    from mofrr.train import dry_run as check
    from mofrr.train import train as run

    if operation and stage not in ("degree", "expert", "baseline"):
        raise ValueError(f"--operation is for degree, expert and baseline, not for {stage}")

    def configured(name: str) -> Config:
        return chosen_configuration(stage_presets(name), preset, config_file, overrides, steps=steps, init=init)

    config = configured(stage)
    if stage == "baseline" and config.train.init:
        raise ValueError("--init is for the stages of MoFRR; baselines start at random")
    known = known_stages(config)
    chosen = stages_of(config) if stage == "all" else [item for item in known.values() if item.kind == stage]
    configs = {item.name: configured(item.name) for item in chosen if operation in (None, "", item.operation)}
    if not configs:
        raise ValueError(f"no such stage; this configuration has {', '.join(known)}")
    for name, own in configs.items():
        refuse_own_configuration(config_file, out / name)
        if stage == "baseline":
            build_baseline(known[name].operation, own.model)  # a library that is missing is named before the training
    if dry_run:
        name, first = next(iter(configs.items()))
        check(first, data, stage=name, device=device, report=click.echo)
    else:
        run(configs, data, out, device=device, tensorboard=tensorboard, report=click.echo)
        if not all((out / name / "weights").is_dir() for name in configs):
            sys.exit(STOPPED)


@click.command()
@click.argument("faces", type=click.Path(path_type=Path), metavar="FACES")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of the set.")
@click.option("--size", type=click.IntRange(64, 1024), default=512, show_default=True, help="Side in pixels.")
@click.option(
    "--multi", type=click.IntRange(0), default=3, show_default=True, help="Images with several operations per face."
)
@click.option(
    "--style",
    "styles",
    multiple=True,
    help="Only this style of retouching; may be repeated. By default all but foreign, which is for tests.",
)
@options.seed_option
@options.version_option("mofrr")
@options.friendly_errors
def simulate(faces: Path, out: Path, styles: tuple[str, ...], **settings: int) -> None:
    """Retouch the portraits in FACES as apps do: whitening, smoothing, face lifting, eye enlarging.

    DIR becomes a set laid out as RetouchingFFHQ, with labels, split by person. Rerun the same command to resume.
    """
    from mofrr.simulate import TRAINING_STYLES
    from mofrr.simulate import simulate as run

    run(faces, out, styles=styles or TRAINING_STYLES, report=click.echo, **settings)


@click.command()
@photos.many_inputs
@photos.out_option
@options.weights_option()
@photos.strength_option
@steps_option
@click.option(
    "--experts",
    default="auto",
    show_default=True,
    metavar="auto|NAME,...",
    help="What to undo: white, smooth, lift, eye; auto undoes what the router finds.",
)
@click.option(
    "--average-samples",
    "samples",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Samples to average: closer to the truth on average, smoother, and as many times slower.",
)
@options.seed_option
@photos.face_box_option
@click.option("--aligned", is_flag=True, help="Every INPUT is a face aligned as in FFHQ, a square image.")
@click.option(
    "--report", is_flag=True, help="Also write NAME.report.json and NAME.report.png: what was found and undone."
)
@photos.compare_option
@photos.output_options
@photos.batch_options
@options.device_option
@options.precision_option
@options.version_option("mofrr")
@options.friendly_errors
def restore(
    inputs: tuple[Path, ...],
    out: Path,
    weights: str,
    experts: str,
    recursive: bool,
    device: str,
    **settings: Any,
) -> None:
    """Estimate what the faces in photographs looked like before an app retouched them.

    INPUT: files (JPEG, PNG, TIFF, WebP, AVIF) or folders of them. Profile, EXIF, transparency and bit depth are kept.
    The same seed gives the same image. An estimate, not evidence.
    """
    if settings["face_boxes"] and settings["aligned"]:
        raise click.UsageError("--face-box and --aligned are mutually exclusive; omit one")
    from mofrr.restore import RestoreOptions, load_restoring

    names = None if experts == "auto" else [name.strip() for name in experts.split(",") if name.strip()]
    if names == []:
        raise click.UsageError("--experts names no operation; name some, or leave it out")
    network = {name: settings.pop(name) for name in ("precision", "steps", "seed", "samples")}
    start = functools.partial(load_restoring, weights, device=device, experts=names, **network, **settings)
    photo_runs.process_photos(inputs, out, start, RestoreOptions(**settings), recursive=recursive, done="restored")


@click.command()
@click.option("--data", required=True, metavar="DATA", help="faces:DIR, or a folder laid out as RetouchingFFHQ.")
@options.weights_option()
@click.option("--split", type=click.Choice(["val", "test", "all"]), default="test", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Faces of every kind.")
@click.option("--style", "styles", multiple=True, help="Only this style, of faces:DIR; may be repeated.")
@click.option("--api", "apis", multiple=True, help="Only this program's images, of a folder; may be repeated.")
@click.option("--baselines", metavar="RUN", help="Run with trained baselines to compare with.")
@click.option("--embedder", type=click.Path(path_type=Path), help="Face recognition network, .onnx or TorchScript.")
@click.option("--embedder-colour", type=click.Choice(["rgb", "bgr"]), default="rgb", show_default=True)
@click.option(
    "--embedder-sha256", metavar="HEX", help="Refuse another file; required for TorchScript, which can run code."
)
@steps_option
@click.option("--average-samples", "samples", type=click.IntRange(min=1), default=1, show_default=True)
@options.seed_option
@click.option("--out", type=click.Path(path_type=Path), help="Folder for evaluation.json and images.")
@options.overwrite_option
@options.device_option
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16", "auto"]), default="fp32", show_default=True)
@options.version_option("mofrr")
@options.friendly_errors
def evaluate(
    data: str,
    weights: str,
    embedder: Path | None,
    embedder_colour: Any,
    embedder_sha256: str | None,
    out: Path | None,
    overwrite: bool,
    **settings: Any,
) -> None:
    """Evaluate weights on every operation alone, several at once and untouched faces, beside the input itself."""
    from retouch_common.metrics.evaluation import refuse_evaluated

    from mofrr.evaluate import SIMILARITY, EvaluationOptions, show
    from mofrr.evaluate import evaluate as run
    from mofrr.similarity import Embedder

    refuse_evaluated(out, overwrite=overwrite, also=[SIMILARITY] if embedder is not None else [])
    network = None if embedder is None else Embedder(embedder, colour=embedder_colour, expected=embedder_sha256)
    show(run(weights, data, EvaluationOptions(**settings), embedder=network, out=out, report=click.echo))
