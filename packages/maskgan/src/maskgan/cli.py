"""The commands ``maskgan-parse``, ``-edit``, ``-swap``, ``-synthesize``, ``-train``, ``-evaluate`` and ``-augment``.

Heavy imports are deferred until a command runs. ``maskgan-train-parser`` and ``maskgan-convert-labels`` are in
:mod:`maskgan.parser_cli`, ``maskgan-studio`` in :mod:`maskgan.studio.cli`.
"""

import functools
from pathlib import Path
from typing import Any

import click
from retouch_common.cli import options, photo_runs, photos
from retouch_common.cli.training import start_training, training_options
from retouch_common.errors import printable

from maskgan.cli_options import NamedWeights, Parts, adapt_option, aligned_option, face_box_option, parser_option
from maskgan.config import COMPONENT_NAMES, PRESETS


@click.command()
@photos.many_inputs
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder for the results."
)
@parser_option
@click.option("--whole", is_flag=True, help="Labels of the photo's own size instead of the aligned face's.")
@click.option("--overlay", is_flag=True, help="Also write NAME.overlay.png: the parts in colours over the face.")
@face_box_option
@aligned_option
@click.option("--recursive", is_flag=True, help="Search subfolders; DIR keeps their tree.")
@click.option("--overwrite", is_flag=True, help="Replace existing files, edited labels included.")
@photos.max_pixels_option
@options.device_option
@options.version_option("maskgan")
@options.friendly_errors
def parse(
    inputs: tuple[Path, ...],
    out: Path,
    parser: str,
    whole: bool,
    overlay: bool,
    recursive: bool,
    device: str,
    **settings: Any,
) -> None:
    """Parse faces: write NAME.labels.png, to be edited, and NAME.aligned.png beside it.

    The largest face of every photo is used. Labels are PNGs with a palette of 11 colours; existing ones are kept unless
    --overwrite is given.
    """
    from maskgan.edit_files import EditOptions, plan_labels, plan_parsing, start_parsing

    def report(line: str) -> None:
        click.echo(printable(line), err=True)

    photo_runs.process_photos(
        inputs,
        out,
        functools.partial(start_parsing, parser, device=device, whole=whole, overlay=overlay, **settings),
        EditOptions(**settings),
        recursive=recursive,
        plan=functools.partial(plan_labels, overlay=overlay),
        jobs=lambda: plan_parsing(inputs, out, recursive=recursive, overlay=overlay, report=report),
        done="parsed",
    )


@click.command()
@click.argument("source", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--mask",
    required=True,
    type=click.Path(path_type=Path),
    metavar="LABELS",
    help="Edited label image from maskgan-parse, of the aligned face or of the whole photo.",
)
@photos.out_option
@options.weights_option()
@parser_option
@face_box_option
@aligned_option
@adapt_option
@photos.compare_option
@photos.output_options
@photos.quality_option
@photos.keep_times_option
@photos.overwrite_option
@options.device_option
@options.precision_option
@options.version_option("maskgan")
@options.friendly_errors
def edit(
    source: Path,
    mask: Path,
    out: Path,
    weights: str,
    parser: str,
    device: str,
    precision: str,
    **settings: Any,
) -> None:
    """Edit the face of the photo SOURCE to match a mask: another hairline, other brows, an open mouth.

    What the mask does not change stays as in the photo, except for slight side effects of the edit. Metadata, profile
    and bit depth are kept.
    """
    from maskgan.edit_files import EditOptions, edit_file
    from maskgan.editor import Editor

    opts = EditOptions(**settings)
    jobs = photo_runs.plan_photos([source], out, endings=opts.endings)
    editor = Editor(weights, parser=parser, device=device, precision=precision)
    photo_runs.retouch_all(
        jobs,
        lambda job: edit_file(editor, job.source, job.target, mask, opts),
        overwrite=opts.overwrite,
        done="edited",
        kept=[mask],
    )


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("targets", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="TARGET...")
@click.option(
    "--parts",
    type=Parts(),
    default="all",
    show_default=True,
    help=f"What to take from SOURCE: {', '.join(COMPONENT_NAMES)}, eyes, all.",
)
@click.option(
    "--blend", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="Weight of SOURCE's appearance."
)
@photos.out_option
@options.weights_option()
@parser_option
@face_box_option
@aligned_option
@adapt_option
@photos.compare_option
@photos.output_options
@photos.batch_options
@options.device_option
@options.precision_option
@options.version_option("maskgan")
@options.friendly_errors
def swap(
    source: Path,
    targets: tuple[Path, ...],
    parts: tuple[str, ...],
    blend: float,
    out: Path,
    weights: str,
    parser: str,
    recursive: bool,
    device: str,
    precision: str,
    **settings: Any,
) -> None:
    """Give the faces of TARGET photos the appearance of SOURCE's parts: its lips, its hair's colour, its skin.

    The target's shapes stay; --face-box says which face of a target is meant.
    """
    from maskgan.edit_files import EditOptions, open_reference, swap_file
    from maskgan.editor import Editor

    opts = EditOptions(**settings)
    jobs = photo_runs.plan_photos(targets, out, recursive=recursive, endings=opts.endings)
    editor = Editor(weights, parser=parser, device=device, precision=precision)
    reference = open_reference(editor, source, parts, opts)
    photo_runs.retouch_all(
        jobs,
        lambda job: swap_file(editor, reference, job.source, job.target, parts, blend, opts),
        overwrite=opts.overwrite,
        done="changed",
        kept=[source],
    )


@click.command()
@click.option(
    "--masks",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Label images of aligned faces; with their photos, a folder with images/ and labels/.",
)
@click.option(
    "--sources",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Photos whose faces give the appearance.",
)
@click.option(
    "--n",
    "number",
    required=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of faces; up to the number of masks, each mask is used once.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "all"]),
    default="all",
    show_default=True,
    help="Masks of all people, or of those whom maskgan-augment trains on, if DIR is its DATA.",
)
@click.option("--mask-genders", type=click.Path(path_type=Path), metavar="FILE", help="Genders of the masks' people.")
@click.option(
    "--source-genders",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Genders of the sources' people, of whom only those of a mask's gender are taken for it: CelebA's "
    "list_attr_celeba.txt, or CSV with the columns file and gender.",
)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of the set.")
@click.option("--mix", is_flag=True, help="Take every component from a different photo instead of all from one.")
@options.weights_option()
@parser_option
@aligned_option
@options.seed_option
@options.device_option
@options.precision_option
@options.version_option("maskgan")
@options.friendly_errors
def synthesize(
    masks: Path,
    sources: Path,
    out: Path,
    mask_genders: Path | None,
    source_genders: Path | None,
    weights: str,
    parser: str,
    device: str,
    precision: str,
    **settings: Any,
) -> None:
    """Generate N faces with random masks and random people's appearance, with labels, to train a face parser.

    DIR gets images/, labels/ and pairs.jsonl, which lists mask and sources of every face. Rerun the same command to
    resume.
    """
    if (mask_genders is None) != (source_genders is None):
        raise click.UsageError("--mask-genders and --source-genders belong together; give both or none")
    from maskgan.editor import Editor
    from maskgan.genders import read_genders
    from maskgan.synthesize import synthesize as run

    if mask_genders is not None and source_genders is not None:
        settings["genders"] = (read_genders(mask_genders), read_genders(source_genders))
    editor = Editor(weights, parser=parser, device=device, precision=precision)
    run(editor, masks, sources, out, **settings, report=click.echo)


@click.command()
@training_options(
    data="faces:DIR for plain portraits, or a folder with images/ and labels/ of aligned faces.", presets=list(PRESETS)
)
@options.version_option("maskgan")
@options.friendly_errors
def train(**settings: Any) -> None:
    """Train the networks; rerun the same command to resume.

    Eq. 8 needs a trained face parser: train.parser names its weights, by default the bundled ones. On
    several GPUs or nodes: accelerate launch "$(which maskgan-train)" with the same options.
    """
    from maskgan.train import FaceTask

    start_training(PRESETS, FaceTask, **settings)


@click.command()
@click.option("--data", required=True, metavar="DATA", help="As for maskgan-train.")
@click.option(
    "--weights",
    type=NamedWeights(),
    multiple=True,
    default=("small",),
    show_default=True,
    help="Bundled name, file, folder or hub id, a row of the tables; may be repeated, e.g. 'without parsing=runs/b'.",
)
@click.option(
    "--judge",
    metavar="WEIGHTS",
    default="small",
    show_default=True,
    help="Face parser that measures agreement with masks: one of maskgan-train-parser that training did not use.",
)
@click.option("--split", type=click.Choice(["val", "test", "all"]), default="val", show_default=True)
@click.option("--limit", type=click.IntRange(min=0), default=0, metavar="N", help="Only the first N faces.")
@click.option(
    "--pairs",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Faces generated with one person's appearance and another's mask; 5000 in the paper.",
)
@click.option("--fid", metavar="FILE", default="", help="Measure FID too, with these weights of Inception.")
@click.option(
    "--judge-distance",
    is_flag=True,
    help="Measure the Fréchet distance to the training faces in the judge's features, too, which is not FID.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="For evaluation.json and figures.png.")
@options.overwrite_option
@options.seed_option
@options.device_option
@options.version_option("maskgan")
@options.friendly_errors
def evaluate(
    data: str, weights: tuple[tuple[str, str], ...], out: Path | None, overwrite: bool, **settings: Any
) -> None:
    """Measure reconstruction, agreement with masks (Table 2), locality of edits and, with Inception, FID (Table 1)."""
    from retouch_common.metrics.evaluation import refuse_evaluated

    from maskgan.evaluate import EvaluationOptions, show
    from maskgan.evaluate import evaluate as run

    refuse_evaluated(out, overwrite=overwrite)
    opts = EvaluationOptions(**settings)
    if len(dict(weights)) < len(weights):
        raise click.UsageError("two --weights have the same name; give them different ones: --weights NAME=WEIGHTS")
    show(run(dict(weights), data, opts, out=out, report=lambda line: click.echo(line, err=True)))


@click.command()
@click.option("--data", required=True, metavar="DATA", help="Faces with labels, as for maskgan-train-parser.")
@click.option(
    "--generated",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Generated faces with labels from maskgan-synthesize, from masks of the training split only.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="A run for each arm and seed."
)
@click.option("--preset", default="recommended", show_default=True, help="Of every training of the parser.")
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps of every training.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Trainings of every arm.")
@options.device_option
@options.version_option("maskgan")
@options.friendly_errors
def augment(data: str, generated: Path, out: Path, **settings: Any) -> None:
    """Table 3: does a face parser improve with generated faces? Three arms, each trained with several seeds.

    Rerun the same command to resume; finished trainings are skipped.
    """
    from maskgan.augment import compare, show

    show(compare(data, generated, out, **settings, report=click.echo))
