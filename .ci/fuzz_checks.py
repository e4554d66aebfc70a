"""What becomes of a case of the fuzzer, in child processes with limits, and whether that is right."""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("VIPS_CONCURRENCY", "1")  # before libvips is loaded

import numpy as np
import tifffile
from fuzz_cases import Case
from PIL import Image, PngImagePlugin
from retouch_common.photo.io import Photo
from retouch_common.photo.sources import blocks

PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # profiles and text of 1 MB and more are read, too

ORIENTATION = 274  # of EXIF and TIFF
BLOCK = 16  # side of the block that is inverted
SECONDS, ELAPSED = 10, 120  # limits of a child: processor time and elapsed time, the latter for a busy machine
ADDRESS_SPACE, RESIDENT = 4 << 30, 512 << 20  # limits of a child in bytes
MAX_PIXELS = 2_000_000
RIGHT = ("done", "refused")  # kinds of endings
VAGUE = re.compile("unable to call|unable to fetch|libpng read error")  # messages that do not say what is wrong


def retouch(path: Path, target: Path) -> None:
    """Invert a block in the middle of a photograph."""
    photo = Photo.open(path, max_pixels=MAX_PIXELS)

    def rows() -> Iterator[np.ndarray]:
        for top, bottom in blocks(photo.height, photo.width):
            levels = photo.read_rows(top, bottom)
            part = levels[middle(photo.height, photo.width, top)]
            part[...] = np.iinfo(levels.dtype).max - part
            yield levels

    photo.write_stripes(target, rows())


def middle(height: int, width: int, top: int = 0) -> tuple[slice, slice]:
    """Return the block's place in rows from ``top`` on."""
    y, x = height // 2, width // 2
    return slice(max(0, y - BLOCK // 2 - top), max(0, y + BLOCK // 2 - top)), slice(x - BLOCK // 2, x + BLOCK // 2)


def oracle_pixels(path: Path) -> tuple[np.ndarray, bool]:
    """Decode a file independently: the upright stored levels (H, W, C), and whether they must be met exactly."""
    if path.suffix == ".heic":
        import pillow_heif

        levels = np.asarray(pillow_heif.open_heif(path, convert_hdr_to_8bit=False))
        return levels.reshape(*levels.shape[:2], -1), True
    if path.suffix == ".dng":
        import rawpy

        with rawpy.imread(str(path)) as raw:
            space = rawpy.ColorSpace.sRGB
            return raw.postprocess(use_camera_wb=True, output_bps=16, no_auto_bright=True, output_color=space), True
    if path.suffix == ".jxl":
        import pillow_jxl  # noqa: F401 (a plugin of Pillow)
    if path.suffix == ".tif":
        with contextlib.suppress(Exception), tifffile.TiffFile(path) as file:
            page = file.pages[0]
            levels = page.asarray()
            if page.planarconfig == 2 and levels.ndim == 3:
                levels = np.moveaxis(levels, 0, -1)
            if page.photometric == 0:
                levels = np.iinfo(levels.dtype).max - levels
            if page.photometric == 3:
                raise ValueError("palette")
            orientation = page.tags[ORIENTATION].value if ORIENTATION in page.tags else 1
            return _turned(levels.reshape(*levels.shape[:2], -1), int(orientation)), page.compression != 7
    with Image.open(path) as image:
        image.load()
        exact = image.format in ("PNG", "TIFF") and image.info.get("compression") != "jpeg"
        upright_already = image.format == "JXL" and not image.jpeg  # whatever its EXIF says
        orientation = 1 if upright_already else _orientation(image)
        if image.mode in ("P", "PA", "1"):
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        levels = np.asarray(image)
        levels = levels.astype(np.uint16) if levels.dtype == np.int32 else levels
        return _turned(levels.reshape(*levels.shape[:2], -1), orientation), exact


def _orientation(image: Image.Image) -> int:
    """Return the orientation that EXIF states, as tifffile reads it where Pillow stops at a damaged entry."""
    with contextlib.suppress(SyntaxError):  # EXIF without a header of TIFF
        if (stated := image.getexif().get(ORIENTATION)) is not None:
            return int(stated)
    block = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
    with contextlib.suppress(Exception), tifffile.TiffFile(io.BytesIO(block)) as file:
        return int(file.pages[0].tags[ORIENTATION].value)
    return 1


def _turned(levels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored levels upright, by the orientation of EXIF."""
    if orientation in (5, 6, 7, 8):
        levels = levels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        levels = levels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        levels = levels[::-1]
    return levels


def judge(path: Path, target: Path) -> None:
    """Compare an output with what an independent decoder finds in the mutated file.

    Of lossy outputs means of 4x4 pixels are compared, which noise and halved resolution of colours change little, and
    nothing around the block that was inverted. What WebP's sharp conversion of colours does to saturated noise, which a
    mutation may make, is no difference.

    Raises:
        AssertionError: If they differ.
        Exception: If the decoder refuses the file.
    """
    output, lossless = oracle_pixels(target)
    expected, exact = oracle_pixels(path)
    assert output.shape[:2] == expected.shape[:2], f"{output.shape} instead of {expected.shape}"
    if output.shape[2] != expected.shape[2]:  # grey of three channels, transparency that is only one decoder's
        bands = 3 if min(output.shape[2], expected.shape[2]) == 3 else 1
        output, expected = output[..., :bands], expected[..., :bands]
    output, expected = output.astype(np.int64), expected.astype(np.int64)
    if (expected.max() > 255) != (output.max() > 255):  # Pillow gives 8 of 16 bits
        depth = 8 if expected.max() <= 255 else 0
        output, expected = output >> depth, expected >> (8 - depth)
    tolerance, share = (24, 0.02) if not lossless else (0, 0) if exact else (16, 0.005)
    margin = 0 if lossless else BLOCK
    rows, columns = (slice(max(0, part.start - margin), part.stop + margin) for part in middle(*output.shape[:2]))

    def wrong(truth: np.ndarray) -> float:
        differences = output - truth
        differences[rows, columns] = 0
        differences = differences if lossless else _block_means(differences)
        return float((np.abs(differences).max(axis=2) > tolerance).mean())

    found = wrong(expected)
    if found > share and target.suffix == ".webp" and not lossless:
        found = wrong(_through_webp(expected))
    assert found <= share, f"{100 * found:.1f} % of its pixels are wrong"


def _through_webp(levels: np.ndarray) -> np.ndarray:
    """Return 8-bit levels (H, W, C) as the best WebP of them shows them."""
    import pyvips

    image = pyvips.Image.new_from_array(levels.astype(np.uint8)).copy(interpretation="srgb")
    stored = image.webpsave_buffer(Q=100, smart_subsample=True)
    with Image.open(io.BytesIO(stored)) as decoded:
        shown = np.asarray(decoded.convert("RGBA"))
    return shown[..., : levels.shape[2]].astype(np.int64)


def _block_means(levels: np.ndarray, side: int = 4) -> np.ndarray:
    """Return the means of blocks (H / side, W / side, C); what exceeds the last whole blocks is left out."""
    height, width, bands = levels.shape
    height, width = height // side, width // side
    return levels[: side * height, : side * width].reshape(height, side, width, side, bands).mean(axis=(1, 3))


@dataclass(frozen=True)
class Ending:
    """How a child ended.

    Attributes:
        kind: "done" without an exception, "refused", or the kind of the failure.
        message: That of the exception or failure.
        seconds: Processor time.
        resident: Peak of resident memory in bytes.
    """

    kind: str
    message: str = ""
    seconds: float = 0.0
    resident: int = 0


def in_child(work: Callable[[], Any], log: Path) -> Ending:
    """Run a function in a child process with limits."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _run_child(work, writer, log)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    _, status, usage = os.wait4(child, 0)
    kind, _, message = answer.decode(errors="replace").partition(" ")
    ending = Ending(kind or "crash", message, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
    if os.WIFSIGNALED(status):
        late = os.WTERMSIG(status) in (signal.SIGALRM, signal.SIGXCPU)
        return replace(ending, kind="hang" if late else "crash", message=signal.Signals(os.WTERMSIG(status)).name)
    if ending.resident > RESIDENT:
        return replace(ending, kind="memory", message=f"{ending.resident >> 20} MiB")
    return ending


def _run_child(work: Callable[[], Any], writer: int, log: Path) -> None:
    """Run a function and report; never returns."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(ELAPSED)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    try:
        work()
        answer = "done"
    except (ValueError, OSError) as error:
        answer = f"refused {error}"
    except AssertionError as error:
        answer = f"wrong {error}"
    except BaseException as error:
        answer = f"traceback {type(error).__name__}: {error}"
    os.write(writer, answer.encode(errors="replace")[:4000])
    os._exit(0)


def run_case(case: Case, folder: Path, work: Callable[[Path, Path], None] = retouch) -> Ending:
    """Run a case in an empty folder, which is its temporary folder, too; "done" and "refused" are right endings."""
    path, target, log = folder / case.name, folder / f"output{case.output}", folder.with_suffix(".log")
    path.write_bytes(case.data)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    ending = in_child(lambda: work(path, target), log)
    there = {entry.name for entry in folder.iterdir()} - {path.name}
    if ending.kind == "refused":
        if (
            not ending.message.startswith((str(path), str(target)))
            or "\n" in ending.message
            or VAGUE.search(ending.message)
        ):
            return replace(ending, kind="unclear")
    elif ending.kind == "done":
        there.discard(target.name)
    else:
        return ending
    if there:
        return replace(ending, kind="leftover", message=", ".join(sorted(there)))
    if ending.kind == "done":
        opinion = in_child(lambda: judge(path, target), log)
        if opinion.kind == "wrong":
            return replace(ending, kind="wrong", message=opinion.message)
        if opinion.kind != "done":  # then the pixels must be those of the sound file
            sound = folder / f"sound{path.suffix}"
            sound.write_bytes(case.sound)
            if in_child(lambda: judge(sound, target), log).kind != "done":
                message = f"accepted, and its pixels are not the original's; oracle: {opinion.message}"
                return replace(ending, kind="doubtful", message=message)
    return ending
