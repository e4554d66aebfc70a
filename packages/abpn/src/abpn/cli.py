"""The commands ``abpn-train``, ``abpn-retouch``, ``abpn-evaluate`` and ``abpn-export``.

Each parses its options and calls the module of the same concept; heavy imports wait until a command runs.
"""

from pathlib import Path
from typing import Any

import click
from retouch_common.cli.options import (
    device_option,
    friendly_errors,
    overwrite_option,
    precision_option,
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
from retouch_common.cli.training import start_training, training_options


@click.command()
@training_options(data="Folder with raw/ and target/, FFHQR or CRHD-3K as published, or faces:DIR for plain portraits.")
@version_option("abpn")
@friendly_errors
def train(**options: Any) -> None:
    """Train ABPN, or continue the run in RUN: a killed run goes on with the same command.

    On several GPUs or nodes: accelerate launch "$(which abpn-train)" with the same options, or torchrun --no-python
    abpn-train; scripts/ in the package has examples, for SLURM too.
    """
    from abpn.config import PRESETS
    from abpn.train import dry_run, train

    start_training(PRESETS, train, dry_run, **options)


@click.command()
@inputs_argument
@out_option
@weights_option()
@strength_option
@click.option(
    "--region",
    type=click.Choice(["auto", "faces", "photo"]),
    default="auto",
    show_default=True,
    help="Retouch every face, the whole frame, or faces where some are found and else the whole frame.",
)
@face_box_option
@confine_option
@mask_out_option
@compare_option
@batch_options
@device_option
@precision_option
@version_option("abpn")
@friendly_errors
def retouch(
    inputs: tuple[Path, ...],
    out: Path,
    weights: str,
    strength: float,
    region: str,
    face_boxes: tuple[tuple[float, float, float, float], ...],
    confine: bool,
    mask_out: bool,
    compare: bool,
    recursive: bool,
    overwrite: bool,
    device: str,
    precision: str,
) -> None:
    """Retouch photographs: blemishes go, everything else stays.

    INPUT: files (JPEG, PNG, TIFF, WebP, AVIF) or folders of them. Profile, EXIF, transparency and bit depth
    are kept. Photos that cannot be retouched are listed at the end, and the exit status is then 1.
    """
    if face_boxes and region == "photo":
        raise click.UsageError("--face-box and --region photo exclude each other; leave one out")
    from abpn.retouch import Options, Retoucher, retouch_file

    options = Options(
        strength=strength,
        region=region,  # type: ignore[arg-type]
        face_boxes=face_boxes,
        confine=confine,
        mask_out=mask_out,
        compare=compare,
        overwrite=overwrite,
    )
    jobs = plan_photos(inputs, out, recursive=recursive, endings=options.endings)
    retoucher = Retoucher(weights, device=device, precision=precision)
    retouch_all(jobs, lambda job: retouch_file(retoucher, job.source, job.target, options), overwrite=overwrite)


@click.command()
@weights_option()
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.onnx",
    help="The network's file; with --parts, FILE.down.onnx, .thumbnail.onnx, .level.onnx and .blend.onnx beside it.",
)
@click.option(
    "--levels",
    type=click.IntRange(0, 7),
    help="Halvings from the photo to the thumbnail, fixed in FILE.onnx; by default those of a 1024x1024 photo.",
)
@click.option("--parts", is_flag=True, help="Also write the pieces that an application can run at any photo size.")
@overwrite_option
@version_option("abpn")
@friendly_errors
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


class Sizes(click.ParamType):
    """Sides in pixels, separated by commas."""

    name = "N,N,..."

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Read numbers of at least 64."""
        try:
            sizes = tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers, e.g. 512,1024,2048,4096", param, ctx)
        if min(sizes) < 64:
            self.fail(f"{min(sizes)} is too small; at least 64 pixels are needed", param, ctx)
        return sizes


@click.command()
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="Folder with raw/ and target/, FFHQR or CRHD-3K as published, or faces:DIR for plain portraits.",
)
@weights_option()
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="For evaluation.json and figures.png.")
@click.option("--size", type=click.IntRange(min=64), help="Side in pixels the pairs are brought to.  [default: 1024]")
@click.option("--resolutions", type=Sizes(), help="Several of them, a table each: 512,1024,2048,4096 are Table 3's.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N pairs.")
@click.option("--split", type=click.Choice(["val", "test", "all"]), default="val", show_default=True)
@click.option(
    "--lpips/--no-lpips",
    default=None,
    help="Insist on LPIPS, or leave it out.  [default: measure it where AlexNet's weights are]",
)
@overwrite_option
@device_option
@precision_option
@version_option("abpn")
@friendly_errors
def evaluate(
    data: str,
    weights: str,
    out: Path | None,
    size: int | None,
    resolutions: tuple[int, ...] | None,
    limit: int | None,
    split: str,
    lpips: bool | None,
    overwrite: bool,
    device: str,
    precision: str,
) -> None:
    """Measure weights on pairs of photographs, beside the identity: PSNR, SSIM, LPIPS, inside and outside the mask."""
    if size and resolutions:
        raise click.UsageError("--size and --resolutions exclude each other; leave one out")
    from retouch_common.metrics.evaluation import refuse_evaluated

    from abpn.evaluate import Options, show
    from abpn.evaluate import evaluate as run

    refuse_evaluated(out, overwrite=overwrite)
    options = Options(
        resolutions=resolutions or (size or 1024,),
        split=split,  # type: ignore[arg-type]
        limit=limit,
        lpips=lpips,
        device=device,
        precision=precision,
    )
    show(run(weights, data, options, out=out, report=lambda line: click.echo(line, err=True)))
    if out is not None:
        click.echo(f"wrote {out}", err=True)
