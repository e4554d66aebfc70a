"""The commands ``abpn-train``, ``abpn-retouch``, ``abpn-evaluate`` and ``abpn-export``.

Heavy libraries load when a command runs.
"""

import functools
from pathlib import Path
from typing import Any

import click
from retouch_common.cli import options, photo_runs, photos
from retouch_common.cli.training import start_training, training_options

DATA_HELP = "Folder with raw/ and target/, FFHQR or CRHD-3K as published, or faces:DIR for plain portraits."


@click.command()
@training_options(data=DATA_HELP)
@options.version_option("abpn")
@options.friendly_errors
def train(**settings: Any) -> None:
    """Train ABPN. Rerun the same command to resume a run that was stopped or killed.

    On several GPUs or nodes: accelerate launch "$(which abpn-train)" with the same options, or torchrun --no-python
    abpn-train; docs/guides/training.md has examples, for SLURM too.
    """
    from abpn.config import PRESETS
    from abpn.train import RetouchingTask

    start_training(PRESETS, RetouchingTask, **settings)


@click.command()
@photos.many_inputs
@photos.out_option
@options.weights_option()
@click.option(
    "--region",
    type=click.Choice(["auto", "faces", "photo"]),
    default="auto",
    show_default=True,
    help="Retouch every face, or the whole photo; auto leaves photos without a face as they are, faces refuses them.",
)
@photos.retouching_options
@options.version_option("abpn")
@options.friendly_errors
def retouch(
    inputs: tuple[Path, ...],
    out: Path,
    weights: str,
    recursive: bool,
    device: str,
    precision: str,
    recipe: Path | None,
    **settings: Any,
) -> None:
    """Retouch photographs: remove blemishes and leave every other pixel as it is.

    INPUT: files (JPEG, PNG, TIFF, WebP, AVIF) or folders of them. Profile, EXIF, transparency and bit depth
    are kept. Photos that cannot be retouched are listed at the end, and the exit status is then 1.
    """
    if settings["face_boxes"] and settings["region"] == "photo":
        raise click.UsageError("--face-box and --region photo are mutually exclusive; omit one")
    from abpn.retouch import RetouchOptions, load_retouching

    start = functools.partial(load_retouching, weights, device=device, precision=precision, recipe=recipe, **settings)
    photo_runs.process_photos(inputs, out, start, RetouchOptions(**settings), recursive=recursive)


@click.command()
@options.weights_option()
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.onnx",
    help="Output file; --parts adds FILE.down.onnx, FILE.thumbnail.onnx, FILE.level.onnx and FILE.blend.onnx.",
)
@click.option(
    "--levels",
    type=click.IntRange(0, 7),
    help="Number of pyramid levels, fixed in FILE.onnx; by default that of a 1024x1024 photo.",
)
@click.option("--parts", is_flag=True, help="Also write the parts of the network, to run at any photo size.")
@options.overwrite_option
@options.version_option("abpn")
@options.friendly_errors
def export(weights: str, out: Path, levels: int | None, parts: bool, overwrite: bool) -> None:
    """Write the network as ONNX, with dynamic sizes, for onnxruntime and other runtimes.

    Inputs and outputs are described in the module abpn.export; the configuration is in the file's metadata.
    """
    from retouch_common.files import refuse_existing
    from retouch_common.inference.onnx import require_onnx

    require_onnx("abpn")
    from abpn.export import PARTS
    from abpn.export import export as run
    from abpn.model import ABPN

    refuse_existing([out, *(out.with_suffix(f".{name}.onnx") for name in PARTS if parts)], overwrite=overwrite)
    run(ABPN.from_pretrained(weights), out, levels=levels, parts=parts, report=click.echo)


@click.command()
@click.option("--data", required=True, metavar="DATA", help=DATA_HELP)
@options.weights_option()
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="For evaluation.json and figures.png.")
@click.option("--size", type=click.IntRange(min=64), help="Side in pixels to resize the pairs to.  [default: 1024]")
@click.option(
    "--resolutions",
    type=options.CommaSeparated(click.IntRange(min=64)),
    metavar="N,N,...",
    help="Several sizes, a table for each; Table 3 has 512,1024,2048,4096.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N pairs.")
@click.option("--split", type=click.Choice(["val", "test", "all"]), default="val", show_default=True)
@click.option(
    "--postprocess/--no-postprocess",
    default=None,
    help="Measure what abpn-retouch writes, without faint changes and with uncertain ones limited, or R_0.  "
    "[default: R_0 with --resolutions, whose tables stand beside the paper's]",
)
@click.option(
    "--lpips/--no-lpips",
    default=None,
    help="Require LPIPS, or skip it.  [default: measure it if AlexNet's weights are available]",
)
@options.overwrite_option
@options.device_option
@options.precision_option
@options.version_option("abpn")
@options.friendly_errors
def evaluate(
    data: str,
    weights: str,
    out: Path | None,
    size: int | None,
    resolutions: tuple[int, ...] | None,
    postprocess: bool | None,
    overwrite: bool,
    **settings: Any,
) -> None:
    """Measure weights on pairs of photographs, beside the identity: PSNR, SSIM, LPIPS, inside and outside the mask."""
    if size and resolutions:
        raise click.UsageError("--size and --resolutions are mutually exclusive; omit one")
    from retouch_common.metrics.evaluation import refuse_evaluated

    from abpn.evaluate import EvaluationOptions, show
    from abpn.evaluate import evaluate as run

    refuse_evaluated(out, overwrite=overwrite)
    postprocess = not resolutions if postprocess is None else postprocess
    opts = EvaluationOptions(resolutions=resolutions or (size or 1024,), postprocess=postprocess, **settings)
    show(run(weights, data, opts, out=out, report=lambda line: click.echo(line, err=True)))
    if out is not None:
        click.echo(f"wrote {out}", err=True)
