"""The options of a run over many photographs, with a command that lightens them."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from retouch_common.cli import photo_runs, photos
from retouch_common.cli.options import friendly_errors
from retouch_common.faces.face import NoFaceFound
from retouch_common.inference.photos import PhotoOptions, open_photo, write_photo
from retouch_common.photo.formats import sniff
from retouch_common.photo.io import Photo

# Reports names that the terminal cannot encode.
SCRIPT = """
import sys
from pathlib import Path
import click
from retouch_common.cli import photo_runs, photos
from retouch_common.cli.options import friendly_errors

@click.command()
@photos.inputs_argument
@photos.out_option
@photos.batch_options
@friendly_errors
def copy(inputs, out, recursive, overwrite, quality):
    jobs = photo_runs.plan_photos(inputs, out, recursive=recursive)
    photo_runs.retouch_all(jobs, lambda job: job.target.write_bytes(job.source.read_bytes()), overwrite=overwrite)

copy()
"""


@click.command()
@photos.inputs_argument
@photos.out_option
@photos.compare_option
@photos.output_options
@photos.batch_options
@friendly_errors
def lighten(inputs, out, recursive, **settings):
    """Photographs that are named "sea" show no face."""
    how = PhotoOptions(**settings)

    def work(job):
        photo = open_photo(job.source, job.target, how)
        if "stop" in job.source.name:
            raise KeyboardInterrupt
        if "sea" in job.source.name:
            raise NoFaceFound(f"{job.source}: no face was found")
        pixels = photo.read_rows(0, photo.height)
        write_photo(photo, job.target, iter([np.clip(pixels, 0, 205) + np.uint8(50)]), how, ())
        return "lightened"

    jobs = photo_runs.plan_photos(inputs, out, recursive=recursive, endings=how.endings)
    photo_runs.retouch_all(jobs, work, overwrite=how.overwrite)


def run(*arguments):
    result = CliRunner().invoke(lighten, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def folder(make_photo, tmp_path):
    """Photographs a.jpg and sea.jpg."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.jpg", "sea.jpg"):
        make_photo(name)[0].rename(folder / name)
    return folder


def test_what_is_there_can_be_skipped(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.jpg").write_bytes(b"of an earlier run")
    result = run(folder / "a.jpg", folder / "sea.jpg", "-o", out, "--skip-existing", "--faceless", "copy")
    assert result.exit_code == 0 and "skipping 1 of 2 photos" in result.output
    assert (out / "a.jpg").read_bytes() == b"of an earlier run" and (out / "sea.jpg").is_file()
    assert run(folder, "-o", out, "--skip-existing").exit_code == 0
    result = run(folder, "-o", out, "--skip-existing", "--overwrite")
    assert result.exit_code == 2 and "are mutually exclusive" in result.output


def test_an_output_that_is_an_input_is_not_one_of_an_earlier_run(folder):
    result = run(folder, "-o", folder, "--skip-existing")
    assert result.exit_code == 1 and "2 of 2 photos could not be" in result.output
    assert result.output.count("the output is the input") == 2 and "skipping" not in result.output


def test_a_folder_of_the_outputs_name_is_not_an_output(folder, tmp_path):
    (tmp_path / "out" / "a.jpg").mkdir(parents=True)
    result = run(folder / "a.jpg", "-o", tmp_path / "out", "--skip-existing")
    assert result.exit_code == 1 and "a.jpg: cannot be written: is a folder" in result.output


def test_a_photo_is_not_skipped_for_the_output_of_another_that_has_its_name(folder, make_photo, tmp_path):
    arguments = [folder, "-o", tmp_path / "out", "--format", "jpg", "--skip-existing", "--faceless", "copy"]
    make_photo("b.png")[0].rename(folder / "b.png")
    assert run(*arguments).exit_code == 0
    make_photo("b.jpg")[0].rename(folder / "b.jpg")  # b.jpg is then the first
    result = run(*arguments)
    there = tmp_path / "out" / "b.jpg"
    assert result.exit_code == 1 and f"b.png: its output {there.with_name('b-2.jpg')} is numbered" in result.output
    assert not there.with_name("b-2.jpg").exists()
    there.unlink()
    assert run(*arguments).exit_code == 0 and there.with_name("b-2.jpg").exists()
    result = run(*arguments)
    assert result.exit_code == 0 and "skipping 4 of 4 photos" in result.output


def test_an_interrupted_folder_names_the_option_that_resumes_it(folder, tmp_path):
    (folder / "stop.jpg").write_bytes((folder / "a.jpg").read_bytes())
    hint = "stopped; rerun with --skip-existing for the photos that are left"
    assert hint in run(folder, "-o", tmp_path / "out").output
    assert hint not in run(folder / "stop.jpg", "-o", tmp_path / "single.jpg").output
    assert hint not in run(folder, "-o", tmp_path / "out", "--overwrite").output


def test_an_output_without_its_comparison_is_named_not_skipped_in_silence(folder, tmp_path):
    """A run was killed between the two."""
    out = tmp_path / "out"
    assert run(folder / "a.jpg", "-o", out, "--compare").exit_code == 0
    (out / "a.compare.jpg").unlink()
    result = run(folder / "a.jpg", "-o", out, "--compare", "--skip-existing")
    assert "a.jpg: exists without what is written beside it; --overwrite" in result.output
    assert "without" not in run(folder / "a.jpg", "-o", out, "--skip-existing").output


def test_photos_without_a_face_are_refused_or_copied(folder, tmp_path):
    refused = run(folder, "-o", tmp_path / "refused")
    assert refused.exit_code == 1 and "sea.jpg: no face was found" in refused.output
    assert not (tmp_path / "refused" / "sea.jpg").exists()
    copied = run(folder, "-o", tmp_path / "copied", "--faceless", "copy")
    assert copied.exit_code == 0 and "sea.jpg: copied, because no face was found" in copied.output
    assert (tmp_path / "copied" / "sea.jpg").read_bytes() == (folder / "sea.jpg").read_bytes()
    assert run(folder, "-o", tmp_path / "png", "--faceless", "copy", "--format", "png").exit_code == 0
    pixels = [Photo.open(path).read() for path in (tmp_path / "png" / "sea.png", folder / "sea.jpg")]
    np.testing.assert_array_equal(*pixels)


def test_copied_photos_get_the_quality_that_is_asked_for_and_are_stripped(folder, tmp_path):
    sizes = []
    for quality in (10, 90):
        out = tmp_path / str(quality)
        options = ["--faceless", "copy", "--format", "webp", "--quality", quality]
        assert run(folder / "sea.jpg", "-o", out, *options).exit_code == 0
        sizes.append((out / "sea.webp").stat().st_size)
    assert sizes[0] < sizes[1]
    with Image.open(folder / "sea.jpg") as image:
        image.save(folder / "sea.jpg", comment=b"secret", quality="keep")
    for name in ("a.jpg", "sea.jpg"):
        out = tmp_path / f"{name}-out"
        assert (
            run(folder / name, "-o", out, "--faceless", "copy", "--strip", "all", "--provenance", "off").exit_code == 0
        )
        assert b"secret" not in (out / name).read_bytes()


def test_outputs_in_a_folder_get_the_format_and_quality_that_are_asked_for(folder, tmp_path):
    for quality in (20, 90):
        out = tmp_path / str(quality)
        assert run(folder / "a.jpg", "-o", out, "--format", "webp", "--quality", quality).exit_code == 0
        assert [path.name for path in out.iterdir()] == ["a.webp"] and sniff(out / "a.webp").name == "WebP"
    assert (tmp_path / "20/a.webp").stat().st_size < (tmp_path / "90/a.webp").stat().st_size
    result = run(folder / "a.jpg", "-o", tmp_path / "b.png", "--format", "webp")
    assert result.exit_code == 2 and "conflict" in result.output
    assert run(folder / "a.jpg", "-o", tmp_path / "b.jpeg", "--format", "jpg").exit_code == 0
    assert run(folder / "a.jpg", "-o", tmp_path / "v.2024", "--format", "webp").exit_code == 0
    assert [path.name for path in (tmp_path / "v.2024").iterdir()] == ["a.webp"]


@pytest.mark.parametrize("name", ["a.png", "sea.png"])
def test_deep_and_transparent_photos_are_converted_on_request(make_photo, tmp_path, name):
    path, _ = make_photo(name, dtype=np.uint16, alpha=True)
    arguments = [path, "-o", tmp_path / "out", "--format", "jpg", "--faceless", "copy"]
    refused = run(*arguments)
    assert refused.exit_code == 1 and "16 bits per channel and JPEG holds 8" in refused.output
    assert "--convert" in refused.output
    assert run(*arguments, "--convert").exit_code == 0
    with Image.open(tmp_path / "out" / name.replace("png", "jpg")) as image:
        assert image.mode == "RGB" and image.format == "JPEG"


def test_file_times_can_be_kept(folder, tmp_path):
    os.utime(folder / "a.jpg", (1_000_000_000,) * 2)
    for arguments, kept in (((), False), (("--keep-times",), True)):
        out = tmp_path / f"out{len(arguments)}"
        run(folder / "a.jpg", "-o", out, *arguments)
        assert ((out / "a.jpg").stat().st_mtime == 1_000_000_000) == kept


def test_photos_with_a_wrong_suffix_are_read_by_their_content(folder, tmp_path):
    (folder / "a.jpg").rename(folder / "a.png")
    assert run(folder / "a.png", "-o", tmp_path / "out").exit_code == 0
    assert [(path.name, sniff(path).name) for path in (tmp_path / "out").iterdir()] == [("a.jpg", "JPEG")]


@pytest.mark.parametrize("box", ["nan,0,10,10", "0,0,inf,10", "0,-inf,10,10", "0,0,nan,nan"])
def test_face_boxes_that_are_not_finite_are_refused(box):
    with pytest.raises(click.BadParameter, match="four finite numbers"):
        photos.FaceBox().convert(box, None, None)


@pytest.mark.skipif(os.name == "nt", reason="file names as on POSIX")
def test_no_name_ends_the_run(make_photo, tmp_path):
    """Names that the terminal cannot encode, that are not UTF-8, and that would steer the terminal."""
    folder = tmp_path / "in"
    folder.mkdir()
    names = ["a.png", "\u5199\u771f.png", os.fsdecode(b"\xff\xfe.png"), "\x1b[31mred.png", "z.png"]
    for name in names:
        make_photo("x.png")[0].rename(folder / name)
    command = [sys.executable, "-c", SCRIPT, str(folder), "-o", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    process = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    output = process.stdout.decode("cp1252")
    assert len(output.splitlines()) == len(names) and "\\u5199" in output
    assert "\x1b[31m" not in output and "\\x1b[31mred.png" in output


@pytest.mark.skipif(os.name == "nt", reason="file names as on POSIX")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
def test_names_that_are_not_utf_8_are_read_and_written(make_photo, tmp_path, suffix):
    path = make_photo(f"x{suffix}")[0].rename(tmp_path / os.fsdecode(b"\xff\xfe" + suffix.encode()))
    assert run(path, "-o", tmp_path / "out").exit_code == 0
    assert Photo.open(tmp_path / "out" / path.name).width == Photo.open(path).width


def test_a_message_does_not_steer_the_terminal(tmp_path):
    result = run(Path("\x1b[31mred\u202e.png"), "-o", tmp_path)
    assert result.exit_code == 1 and "\x1b" not in result.output and "\\x1b[31mred\\u202e.png" in result.output


def identity(**options):
    """Stands for a paper's function that loads the network; workers are tested in inference/test_many.py."""
    raise ValueError("the network cannot be loaded")


@click.command()
@photos.many_inputs
@photos.out_option
@photos.batch_options
@friendly_errors
def many(inputs, out, recursive, overwrite, quality):
    start = functools.partial(identity, device="cpu")
    photo_runs.process_photos(inputs, out, start, PhotoOptions(overwrite=overwrite), recursive=recursive)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'INPUT...', or --manifest"),
        (["a.png", "--manifest", "in", "--results", "r.parquet"], "--manifest and INPUT... are mutually exclusive"),
        (["a.png", "--results", "r.parquet"], "--results belongs to --manifest"),
        (["a.png", "--retry", "failed"], "--retry belongs to --manifest"),
        (["a.png", "--workers", "2"], "--workers belongs to --manifest"),
        (["a.png", "--engine", "ray"], "--engine belongs to --manifest"),
        (["a.png", "--ray-address", "auto"], "--ray-address belongs to --manifest"),
        (["--manifest", "in"], "--manifest needs --results FILE.parquet"),
        (["--manifest", "in", "--results", "r.csv"], "must be a file on this machine that ends in .parquet"),
        (["--manifest", "in", "--results", "s3://b/r.parquet"], "must be a file on this machine"),
        (["--manifest", "in", "--results", "r.parquet", "-o", "http://b/out"], "must be a folder on this machine, or"),
        (["--manifest", "in", "--results", "r.parquet", "-o", "in/a.png"], "must be a folder on this machine, or"),
        (["--manifest", "in", "--results", "r.parquet", "-o", "s3://b/out", "--keep-times"], "--keep-times is for"),
        (["--manifest", "in", "--results", "r.parquet", "--ray-address", "auto"], "belongs to --engine ray"),
        (["--manifest", "in", "--results", "r.parquet", "--skip-existing"], "--skip-existing is for INPUT"),
        (["--manifest", "gone", "--results", "r.parquet"], "gone: no such folder, glob or list"),
        (["--manifest", "in", "--results", "gone/r.parquet"], "the network cannot be loaded"),
    ],
)
def test_options_that_do_not_apply_are_refused_in_one_line(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder.parent)
    (folder.parent / "in").mkdir(exist_ok=True)
    (folder.parent / "in" / "a.png").touch()
    result = CliRunner().invoke(many, ["-o", "out", *arguments])
    assert result.exit_code in (1, 2)
    (line,) = (line for line in result.output.splitlines() if line.startswith("Error: "))
    assert message in line


def test_ray_is_an_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    arguments = ["--manifest", folder, "--results", folder / "r.parquet", "-o", folder / "out", "--engine", "ray"]
    result = CliRunner().invoke(many, [str(argument) for argument in arguments])
    assert result.exit_code == 1
    assert result.output.strip() == 'Error: --engine ray needs Ray: pip install "retouch-common[ray]"'


def test_one_photo_is_refused_before_the_network_is_loaded(tmp_path):
    def load(**settings):
        raise AssertionError("loaded")

    @click.command()
    @photos.inputs_argument
    @photos.out_option
    @friendly_errors
    def command(inputs, out):
        start = functools.partial(load, recipe=None, device="cpu")
        photo_runs.process_photos(inputs, out, start, PhotoOptions(), recursive=False)

    there = tmp_path / "there.jpg"
    there.write_bytes(b"kept")
    for name, out, reason in (
        ("there.jpg", "there.jpg", "the output is the input"),
        ("missing.jpg", "there.jpg", "already exists"),
        ("missing.jpg", "new.jpg", "missing.jpg: cannot be opened: no such file or directory"),
        ("there.jpg", "new.jpg", "is not a photo"),
    ):
        result = CliRunner().invoke(command, [str(tmp_path / name), "-o", str(tmp_path / out)])
        assert result.exit_code == 1 and result.output.count("\n") == 1 and reason in result.output
    assert there.read_bytes() == b"kept"
