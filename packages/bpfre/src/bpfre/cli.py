"""The commands ``bpfre-train``, ``bpfre-retouch``, ``bpfre-inpaint``, ``bpfre-evaluate`` and ``bpfre-export``.

Heavy libraries load when a command runs.
"""

import functools
from pathlib import Path
from typing import Any

import click
from retouch_common.cli import options, photo_runs, photos
from retouch_common.cli.training import chosen_configuration, start_training, training_options

task_option = functools.partial(click.option, "--task", type=click.Choice(["retouching", "inpainting"]))
aligned_option = click.option(
    "--aligned", is_flag=True, help="Every INPUT is an aligned face, a square image as in FFHQ."
)


@click.command()
@training_options(
    data="Folder with raw/ and target/, FFHQR as published, or faces:DIR for plain portraits; pictures:DIR to inpaint.",
    presets=("paper", "recommended", "small", "inpainting", "tiny"),
)
@click.option(
    "--paired-fraction",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the pairs used as pairs; short for --set train.paired_fraction=F.",
)
@task_option(help="Retouching, or inpainting of white strokes on the target images; short for --set train.task=TASK.")
@options.version_option("bpfre")
@options.friendly_errors
def train(**settings: Any) -> None:
    """Train BPFRe. Rerun the same command to resume a run that was stopped or killed.

    On several GPUs or nodes: accelerate launch "$(which bpfre-train)" with the same options, or torchrun --no-python
    bpfre-train; docs/guides/training.md has examples, for SLURM too.
    """
    from bpfre.config import PRESETS
    from bpfre.train import RetouchingTask

    start_training(PRESETS, RetouchingTask, **settings)


@click.command()
@photos.many_inputs
@photos.out_option
@options.weights_option()
@click.option(
    "--stage",
    type=click.Choice(["coarse", "refined"]),
    default="refined",
    show_default=True,
    help="Output of the first stage, or of both.",
)
@aligned_option
@click.option(
    "--attention-out",
    is_flag=True,
    help="Also write each stage's blemish map, NAME.attention-coarse.png and NAME.attention-refined.png.",
)
@photos.retouching_options
@options.backend_option
@options.version_option("bpfre")
@options.friendly_errors
def retouch(
    inputs: tuple[Path, ...],
    out: Path,
    weights: str,
    stage: Any,
    recursive: bool,
    device: str,
    precision: str,
    backend: str,
    recipe: Path | None,
    **settings: Any,
) -> None:
    """Retouch the faces in photographs: remove blemishes and leave every other pixel as it is.

    INPUT: files (JPEG, PNG, TIFF, WebP, AVIF) or folders of them. Profile, EXIF, transparency and bit depth
    are kept. Photos that cannot be retouched are listed at the end, and the exit status is then 1.
    """
    if settings["face_boxes"] and settings["aligned"]:
        raise click.UsageError("--face-box and --aligned are mutually exclusive; omit one")
    if recipe is not None:
        if backend == "openvino":
            raise click.UsageError("--recipe repeats what the studio wrote, with torch; leave out --backend openvino")
        if stage != "refined":
            raise click.UsageError("--recipe repeats what the studio wrote, with both stages; leave out --stage")
        backend = "torch"
    from bpfre.retouch import RetouchOptions, load_retouching

    network = {"device": device, "precision": precision, "stage": stage, "backend": backend}
    start = functools.partial(load_retouching, weights, **network, recipe=recipe, **settings)
    photo_runs.process_photos(inputs, out, start, RetouchOptions(**settings, stage=stage), recursive=recursive)


@click.command()
@photos.inputs_argument
@photos.out_option
@options.weights_option(default="inpainting")
@click.option(
    "--mask",
    type=click.Path(path_type=Path),
    metavar="MASK",
    help="Image of the photo's size, white where it is damaged; or a folder of them, named like the photos.",
)
@click.option("--strokes", type=click.IntRange(min=0), metavar="SEED", help="Draw random strokes on the faces instead.")
@click.option("--damaged-out", is_flag=True, help="Also write the input with its damage in white, NAME.damaged.png.")
@photos.face_box_option
@aligned_option
@photos.output_options
@photos.batch_options
@options.device_option
@options.precision_option
@options.backend_option
@options.version_option("bpfre")
@options.friendly_errors
def inpaint(
    inputs: tuple[Path, ...],
    out: Path,
    weights: str,
    recursive: bool,
    device: str,
    precision: str,
    backend: str,
    **settings: Any,
) -> None:
    """Inpaint damaged faces.

    Without --mask and --strokes, INPUT must have white strokes. Otherwise only damaged pixels of faces change.
    """
    from retouch_common.inference.openvino import choose_backend

    from bpfre.inpaint_files import InpaintOptions, inpaint_file, open_inpainter

    opts = InpaintOptions(**settings)
    jobs = photo_runs.plan_photos(inputs, out, recursive=recursive, endings=opts.endings)
    kept = opts.kept([job.source for job in jobs])
    backend = choose_backend(backend, "bpfre", num_photos=len(jobs), device=device, precision=precision)
    retoucher = open_inpainter(weights, device=device, precision=precision, backend=backend)
    photo_runs.retouch_all(
        jobs,
        lambda job: inpaint_file(retoucher, job.source, job.target, opts),
        overwrite=opts.overwrite,
        kept=kept,
    )


@click.command()
@options.weights_option()
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.onnx")
@options.overwrite_option
@options.version_option("bpfre")
@options.friendly_errors
def export(weights: str, out: Path, overwrite: bool) -> None:
    """Write the network as ONNX, for onnxruntime and other runtimes.

    Inputs and outputs are described in the module bpfre.export; the configuration is in the file's metadata.
    """
    from retouch_common.files import refuse_existing
    from retouch_common.inference.onnx import require_onnx

    require_onnx("bpfre")
    from bpfre.export import export as run
    from bpfre.model import BPFRe

    refuse_existing([out], overwrite=overwrite)
    run(BPFRe.from_pretrained(weights), out, report=click.echo)


measuring_options = options.option_group(
    task_option(
        help="Retouching, or inpainting of white strokes on the target images (Table 4).  [default: what the weights "
        "or the preset are for]",
    ),
    click.option(
        "--protocol",
        "protocols",
        type=click.Choice(["png8", "wang", "bpfre-group"]),
        multiple=True,
        default=("png8",),
        show_default=True,
        help="How to compute PSNR, SSIM and LPIPS; may be repeated, a table for each.",
    ),
    click.option("--split", type=click.Choice(["val", "test", "all"]), default="val", show_default=True),
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N pairs."),
    click.option(
        "--hard-share",
        type=click.FloatRange(0, 1, min_open=True),
        default=0.2,
        show_default=True,
        help="Share of the pairs in the hard subset, those with the lowest raw PSNR.",
    ),
    click.option(
        "--lpips/--no-lpips",
        default=None,
        help="Require LPIPS, or skip it.  [default: measure it if AlexNet's weights are available]",
    ),
    click.option("--fid", metavar="FILE", help="Also measure FID, with these weights of Inception."),
)


@click.group()
@options.version_option("bpfre")
def evaluate() -> None:
    """Measure weights, or train and measure with several shares of pairs."""


@evaluate.command("run")
@click.option("--data", required=True, metavar="DATA", help="As for bpfre-train.")
@options.weights_option()
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="For evaluation.json and figures.png.")
@measuring_options
@options.overwrite_option
@options.device_option
@options.friendly_errors
def evaluate_run(data: str, weights: str, out: Path | None, overwrite: bool, **settings: Any) -> None:
    """Measure both stages beside the identity: PSNR, SSIM, LPIPS, inside and outside the mask, all and hard pairs.

    AUPRC measures how well the attention maps find the pixels that differ.
    """
    from retouch_common.metrics.evaluation import refuse_evaluated

    from bpfre.evaluate import EvaluationOptions, show
    from bpfre.evaluate import evaluate as run

    refuse_evaluated(out, overwrite=overwrite)
    show(run(weights, data, EvaluationOptions(**settings), out=out, report=lambda line: click.echo(line, err=True)))
    if out is not None:
        click.echo(f"wrote {out}", err=True)


@evaluate.command("sweep")
@click.option("--preset", default="recommended", show_default=True, help="Preset of every training.")
@click.option("--data", required=True, metavar="DATA", help="As for bpfre-train.")
@click.option("--test-data", metavar="DATA", help="Measure on this data instead of --data.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder for a run per share."
)
@click.option(
    "--fractions",
    type=options.CommaSeparated(click.FloatRange(0, 1, min_open=True)),
    metavar="F,F,...",
    default="0.01,0.05,0.1,0.2,0.5,1",
    show_default=True,
    help="Shares of pairs, by default those of Figure 6; Table 4 has 0.01,0.05,0.1,0.2.",
)
@options.set_option
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps of every training.")
@measuring_options
@options.device_option
@options.friendly_errors
def evaluate_sweep(
    preset: str,
    data: str,
    test_data: str | None,
    out: Path,
    fractions: tuple[float, ...],
    overrides: tuple[str, ...],
    steps: int | None,
    **settings: Any,
) -> None:
    """Train and measure with every share of pairs (Figure 6, Table 4).

    Rerun the same command to resume a sweep that was stopped or killed.
    """
    from bpfre.config import PRESETS
    from bpfre.evaluate import EvaluationOptions
    from bpfre.sweep import show_sweep, sweep

    config = chosen_configuration(PRESETS, preset, None, overrides, steps=steps, task=settings["task"])
    settings["task"] = config.train.task
    opts = EvaluationOptions(**settings)
    show_sweep(sweep(config, data, out, fractions, opts, test_data=test_data, report=click.echo), opts)
