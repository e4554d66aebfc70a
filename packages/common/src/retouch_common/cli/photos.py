"""Options of the commands that retouch photographs; :mod:`retouch_common.cli.photo_runs` runs them over many files.

Importing this costs click only; everything else is imported when a command runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from retouch_common.cli.options import device_option, option_group, precision_option
from retouch_common.photo.limits import MAX_PIXELS

F = TypeVar("F", bound=Callable[..., Any])


class FaceBox(click.ParamType):
    """Parameter X,Y,W,H in pixels."""

    name = "X,Y,W,H"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float, float, float]:
        """Parse four numbers; width and height must be positive."""
        try:
            x, y, width, height = (float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not four numbers X,Y,W,H, e.g. 320,180,400,520", param, ctx)
        if not all(map(math.isfinite, (x, y, width, height))):
            self.fail(f"{value!r} is not four finite numbers", param, ctx)
        if not (width > 0 and height > 0):
            self.fail(f"{value!r} has no area; W and H must be above 0", param, ctx)
        return x, y, width, height


INPUT = "INPUT..."

inputs_argument = click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar=INPUT)

out_option = click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Folder for the results, or a file name when INPUT is one file.",
)

strength_option = click.option(
    "--strength", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="0 changes nothing."
)

face_box_option = click.option(
    "--face-box",
    "face_boxes",
    type=FaceBox(),
    multiple=True,
    help="Where a face is, in pixels of the upright photo, instead of the detector; may be repeated.",
)

compare_option = click.option(
    "--compare", is_flag=True, help="Also write NAME.compare.jpg: before and after side by side."
)

overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace outputs that are there, the input too where OUT is the input."
)


def _usable_certificate(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Refuse a certificate that cannot be used before anything else is loaded."""
    if value is not None:
        from retouch_common.photo.content_credentials import load_certificate

        try:
            load_certificate(value)
        except (ValueError, OSError) as error:
            raise click.UsageError(f"--sign {error}") from error
    return value


max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=MAX_PIXELS,
    show_default=True,
    help="Refuse larger photos, which small files can claim to be; a third for those decoded in memory: WebP, AVIF, "
    "HEIC, JPEG XL, raw, progressive JPEG and interlaced PNG.",
)

output_options = option_group(
    click.option(
        "--provenance",
        type=click.Choice(["on", "off"]),
        default="on",
        show_default=True,
        callback=lambda ctx, param, value: value == "on",
        help="Record in the XMP that a trained network edited the photo, with its settings, or not.",
    ),
    click.option(
        "--sign",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        metavar="CERT",
        callback=_usable_certificate,
        help="Add content credentials (C2PA), signed with a PEM file of the certificate chain and its private key.  "
        "[needs retouch-common[c2pa]]",
    ),
    click.option(
        "--strip",
        type=click.Choice(["gps", "all"]),
        help="Leave out coordinates, or all metadata but the colour space and --provenance.",
    ),
    click.option(
        "--convert",
        is_flag=True,
        help="Round 16 bits to 8 and lay transparency on white where the output's format cannot hold them, instead of "
        "refusing the photo.",
    ),
    max_pixels_option,
)


@dataclass
class RunOptions:
    """Options of a run over many photos. Commands do not get them as arguments: :func:`run_options` returns them."""

    skip_existing: bool = False
    format: str | None = None
    keep_times: bool = False
    faceless: str = "refuse"
    manifest: str | None = None
    results: Path | None = None
    retry: str | None = None
    workers: int | None = None
    engine: str | None = None
    ray_address: str | None = None

    @property
    def suffix(self) -> str | None:
        """Suffix of outputs in a folder, None for that of each photo."""
        return f".{self.format}" if self.format else None


def run_options() -> RunOptions:
    """Return the options of the run that were given to the current command; defaults where it has none."""
    ctx = click.get_current_context(silent=True)
    return (ctx and ctx.find_object(RunOptions)) or RunOptions()


def _run_option(*declarations: str, **attributes: Any) -> Callable[[F], F]:
    """Return an option that is stored in :class:`RunOptions`."""

    def store(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        setattr(ctx.ensure_object(RunOptions), str(param.name), value)

    return click.option(*declarations, expose_value=False, callback=store, **attributes)


keep_times_option = _run_option(
    "--keep-times", is_flag=True, help="Give outputs the modification times of their photos."
)

quality_option = click.option(
    "--quality",
    type=click.IntRange(1, 100),
    help="Quality of JPEG, WebP and AVIF outputs.  [default: 95; AVIF: 90]",
)

batch_options = option_group(
    click.option("--recursive", is_flag=True, help="Search folders within folders; OUT keeps their tree."),
    overwrite_option,
    _run_option(
        "--skip-existing",
        is_flag=True,
        help="Skip photos whose output already exists, to resume an interrupted run.",
    ),
    _run_option(
        "--format",
        type=click.Choice(["jpg", "png", "tif", "webp", "avif"]),
        help="Format of outputs in a folder.  [default: that of each photo]",
    ),
    keep_times_option,
    _run_option(
        "--faceless",
        type=click.Choice(["refuse", "copy"]),
        default="refuse",
        show_default=True,
        help="Refuse photos without a face, or copy them, so that the folder stays whole; abpn-retouch --region auto "
        "always copies them.",
    ),
    quality_option,
)

retouching_options = option_group(
    strength_option,
    face_box_option,
    click.option(
        "--protect",
        type=click.Path(path_type=Path),
        metavar="MASK",
        help="Image of the photo's size, white where nothing may change, or strokes on a transparent layer; or a "
        "folder of such images, named like the photos.",
    ),
    click.option(
        "--confine/--no-confine",
        default=True,
        show_default=True,
        help="Change only the skin of the faces (face, ears, neck), softly; or all that the network changes.",
    ),
    click.option("--mask-out", is_flag=True, help="Also write NAME.mask.png: where the network would retouch."),
    click.option(
        "--recipe",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE.recipe.json",
        help="Replay what was done in retouch-studio with this photo, instead of the options above.",
    ),
    compare_option,
    output_options,
    batch_options,
    device_option,
    precision_option,
)

many_inputs = option_group(
    click.argument("inputs", nargs=-1, type=click.Path(path_type=Path), metavar=INPUT),
    _run_option(
        "--manifest",
        metavar="LIST",
        help="Many photos instead of INPUT: a folder, a quoted glob, or a list (.txt with a path per line, .parquet "
        'with the column "path"), here or at s3:// or gs://.  [needs retouch-common[many]]',
    ),
    _run_option(
        "--results",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE.parquet",
        help="Table of what became of the photos of --manifest; the same command again does what is missing or has "
        "changed.",
    ),
    _run_option("--retry", type=click.Choice(["failed"]), help="Only photos of --manifest that failed before."),
    _run_option(
        "--workers",
        type=click.IntRange(min=1),
        help="Processes for --manifest, each with its own network.  [default: number of cores; on a GPU 1; with "
        "--engine ray all GPUs of the cluster, or without any its cores]",
    ),
    _run_option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        help="Where the processes for --manifest run: on this machine, or in a Ray cluster.  [default: local; ray "
        "needs retouch-common[ray]]",
    ),
    _run_option(
        "--ray-address",
        metavar="ADDRESS",
        help="Cluster of --engine ray: auto for the one that this machine belongs to, or HOST:PORT.  [default: Ray is "
        "started on this machine]",
    ),
)
"""INPUT, or --manifest and the options that go with it."""
