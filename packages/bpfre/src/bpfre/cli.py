"""The commands ``bpfre-train``, ``bpfre-retouch``, ``bpfre-inpaint``, ``bpfre-evaluate`` and ``bpfre-export``.

Each parses its options and calls the module of the same concept; heavy imports wait until a command runs.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from retouch_common.cli.options import (
    device_option,
    friendly_errors,
    overwrite_option,
    precision_option,
    set_option,
    version_option,
    weights_option,
)
from retouch_common.cli.photos import (
    batch_options,
    compare_option,
    confine_option,
    face_box_option,
    inputs_argument,
    mask_out_option,
    out_option,
    plan_photos,
    retouch_all,
    strength_option,
)
from retouch_common.cli.training import chosen_configuration, start_training, training_options


@click.command()
@training_options(data="Folder with raw/ and target/, FFHQR as published, or faces:DIR for plain portraits.")
@click.option(
    "--paired-fraction",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the pairs used as pairs; short for --set train.paired_fraction=F.",
)
@click.option(
    "--task",
    type=click.Choice(["retouching", "inpainting"]),
    help="Inpainting: of white strokes over the target pictures; short for --set train.task=TASK.",
)
@version_option("bpfre")
@friendly_errors
def train(**options: Any) -> None:
    """Train BPFRe, or continue the run in RUN: a killed run goes on with the same command.

    On several GPUs or nodes: accelerate launch "$(which bpfre-train)" with the same options, or torchrun --no-python
    bpfre-train; scripts/ in the package has examples, for SLURM too.
    """
    from bpfre.config import PRESETS
    from bpfre.train import dry_run, train

    start_training(PRESETS, train, dry_run, **options)


@click.command()
@inputs_argument
@out_option
@weights_option()
@strength_option
@click.option(
    "--stage",
    type=click.Choice(["coarse", "refined"]),
    default="refined",
    show_default=True,
    help="Stop after the first stage, or refine its result.",
)
@face_box_option
@click.option("--aligned", is_flag=True, help="Every INPUT is a face framed as FFHQ's, a square picture.")
@click.option(
    "--protect",
    type=click.Path(path_type=Path),
    metavar="MASK",
    help="Picture of the photo's size, white where nothing may change; or a folder of them, named like the photos.",
)
@confine_option
@mask_out_option
@click.option(
    "--attention-out",
    is_flag=True,
    help="Also write NAME.attention-coarse.png and NAME.attention-refined.png: where each stage sees blemishes.",
)
@compare_option
@batch_options
@device_option
@precision_option
@version_option("bpfre")
@friendly_errors
def retouch(
    inputs: tuple[Path, ...],
    out: Path,
    weights: str,
    strength: float,
    stage: str,
    face_boxes: tuple[tuple[float, float, float, float], ...],
    aligned: bool,
    protect: Path | None,
    confine: bool,
    mask_out: bool,
    attention_out: bool,
    compare: bool,
    recursive: bool,
    overwrite: bool,
    device: str,
    precision: str,
) -> None:
    """Retouch the faces in photographs: blemishes go, everything else stays.

    INPUT: files (JPEG, PNG, TIFF, WebP, AVIF) or folders of them. Profile, EXIF, transparency and bit depth
    are kept. Photos that cannot be retouched are listed at the end, and the exit status is then 1.
    """
    if face_boxes and aligned:
        raise click.UsageError("--face-box and --aligned exclude each other; leave one out")
    from bpfre.retouch import Options, Retoucher, retouch_file

    options = Options(
        strength=strength,
        face_boxes=face_boxes,
        aligned=aligned,
        protect=protect,
        confine=confine,
        mask_out=mask_out,
        attention_out=attention_out,
        compare=compare,
        overwrite=overwrite,
    )
    jobs = plan_photos(inputs, out, recursive=recursive, endings=options.endings)
    retoucher = Retoucher(weights, device=device, precision=precision, stage=stage)  # type: ignore[arg-type]
    retouch_all(
        jobs,
        lambda job: retouch_file(retoucher, job.source, job.target, options),
        overwrite=overwrite,
        kept=options.kept,
    )


@click.command()
@inputs_argument
@out_option
@weights_option(default="inpainting")
@click.option(
    "--mask",
    type=click.Path(path_type=Path),
    metavar="MASK",
    help="Picture of the photo's size, white where it is damaged; or a folder of them, named like the photos.",
)
@click.option("--strokes", type=click.IntRange(min=0), metavar="SEED", help="Draw strokes over the faces, as a trial.")
@click.option("--damaged-out", is_flag=True, help="Also write NAME.damaged.png: what the network saw.")
@face_box_option
@click.option("--aligned", is_flag=True, help="Every INPUT is a face framed as FFHQ's, a square picture.")
@batch_options
@device_option
@precision_option
@version_option("bpfre")
@friendly_errors
def inpaint(
    inputs: tuple[Path, ...], out: Path, weights: str, recursive: bool, device: str, precision: str, **options: Any
) -> None:
    """Paint what is missing in faces, with weights trained for it: bpfre-train --task inpainting.

    Without --mask and --strokes, INPUT has white strokes already. Else only what is damaged changes; damage outside
    the faces stays.
    """
    from bpfre.inpaint_files import InpaintOptions, inpaint_file, open_inpainter

    how = InpaintOptions(**options)
    jobs = plan_photos(inputs, out, recursive=recursive, endings=how.endings)
    retoucher = open_inpainter(weights, device=device, precision=precision)
    retouch_all(
        jobs,
        lambda job: inpaint_file(retoucher, job.source, job.target, how),
        overwrite=how.overwrite,
        kept=how.kept,
    )


@click.command()
@weights_option()
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.onnx")
@overwrite_option
@version_option("bpfre")
@friendly_errors
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


def _measuring(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that both kinds of evaluation share."""
    for option in reversed(
        (
            click.option(
                "--task",
                type=click.Choice(["retouching", "inpainting"]),
                default="retouching",
                show_default=True,
                help="Inpainting: of white strokes over the target pictures (Table 4).",
            ),
            click.option(
                "--protocol",
                "protocols",
                type=click.Choice(["png8", "wang", "bpfre-group"]),
                multiple=True,
                default=("png8",),
                show_default=True,
                help="How PSNR, SSIM and LPIPS are computed; may be repeated, a table each.",
            ),
            click.option("--split", type=click.Choice(["val", "test", "all"]), default="val", show_default=True),
            click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N pairs."),
            click.option(
                "--hard-share",
                type=click.FloatRange(0, 1, min_open=True),
                default=0.2,
                show_default=True,
                help="Of the pairs, those with the lowest raw PSNR, in the hard subset.",
            ),
            click.option(
                "--lpips/--no-lpips",
                default=None,
                help="Insist on LPIPS, or leave it out.  [default: measure it where AlexNet's weights are]",
            ),
            click.option("--fid", metavar="FILE", help="Measure FID too, with these weights of Inception."),
        )
    ):
        command = option(command)
    return command


@click.group()
@version_option("bpfre")
def evaluate() -> None:
    """Measure weights, or train and measure with ever fewer pairs."""


@evaluate.command("run")
@click.option("--data", required=True, metavar="DATA", help="As for bpfre-train.")
@weights_option()
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="For evaluation.json and figures.png.")
@_measuring
@overwrite_option
@device_option
@friendly_errors
def evaluate_run(data: str, weights: str, out: Path | None, overwrite: bool, **options: Any) -> None:
    """Measure both stages beside the identity: PSNR, SSIM, LPIPS, inside and outside the mask, all and hard pairs.

    DATA are pairs as for bpfre-train, and AUPRC says how well the attention maps find what differs.
    """
    from retouch_common.metrics.evaluation import refuse_evaluated

    from bpfre.evaluate import Options, show
    from bpfre.evaluate import evaluate as run

    refuse_evaluated(out, overwrite=overwrite)
    show(run(weights, data, Options(**options), out=out, report=lambda line: click.echo(line, err=True)))
    if out is not None:
        click.echo(f"wrote {out}", err=True)


@evaluate.command("sweep")
@click.option("--preset", default="recommended", show_default=True, help="Of every training.")
@click.option("--data", required=True, metavar="DATA", help="As for bpfre-train.")
@click.option("--test-data", metavar="DATA", help="Measure on these instead of the --split of --data.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="A run for every share.")
@click.option(
    "--fractions",
    metavar="F,F,...",
    default="0.01,0.05,0.1,0.2,0.5,1",
    show_default=True,
    help="Shares of pairs; by default those of Figure 6. Table 4 has 0.01,0.05,0.1,0.2.",
)
@set_option
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps of every training.")
@_measuring
@device_option
@friendly_errors
def evaluate_sweep(
    preset: str,
    data: str,
    test_data: str | None,
    out: Path,
    fractions: str,
    overrides: tuple[str, ...],
    steps: int | None,
    **options: Any,
) -> None:
    """Train and measure with every share of pairs (Figure 6, Table 4).

    Killed, it goes on with the same command; what is finished is not done again.
    """
    from bpfre.config import PRESETS
    from bpfre.evaluate import Options
    from bpfre.sweep import parse_fractions, show_sweep, sweep

    config = chosen_configuration(PRESETS, preset, None, overrides, steps=steps, task=options["task"])
    how, shares = Options(**options), parse_fractions(fractions)
    show_sweep(sweep(config, data, out, shares, how, test_data=test_data, report=click.echo), how)
