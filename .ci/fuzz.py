"""Mutate photographs of every format, and check what becomes of them: `nox -s fuzz [-- --minutes N] [--seed S]`.

Each mutated file is retouched (a block in its middle is inverted) in a child process with limits on processor time,
elapsed time, address space and resident memory. It must be refused in one line, or the output must have the pixels
outside the block that an independent decoder (tifffile or Pillow, in another child) finds in the mutated file, or in
the sound one, where that decoder refuses the mutated one. Crashes, hangs, exceeded limits, tracebacks, wrong outputs
and leftovers are failures.

A case is determined by the seed and its number. Files that failed are saved; `--seed S --only NUMBER` repeats one.
`--summary docs/evidence/fuzz.json` adds the run to that file: how many files of each kind ended how, the largest use of
time and memory, the limits, the commit and the versions.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("VIPS_CONCURRENCY", "1")  # before libvips is loaded

import click
import numpy as np
import tifffile
from PIL import Image, ImageCms, ImageFile, ImageOps
from retouch_common.metrics.environment import commit, environment, work_tree_changes
from retouch_common.photo.io import Photo
from retouch_common.photo.sources import blocks

HEIGHT, WIDTH, BLOCK = 96, 80, 16
SECONDS, ELAPSED = 10, 120  # limits of a child: processor time and elapsed time, the latter for a busy machine
ADDRESS_SPACE, RESIDENT = 4 << 30, 512 << 20  # limits of a child in bytes
MAX_PIXELS = 2_000_000
INTERESTING = (0, 1, 2, 3, 4, 7, 8, 16, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


@dataclass(frozen=True)
class Case:
    """A mutated file, and the sound one."""

    number: int
    kind: str
    data: bytes
    sound: bytes

    @property
    def name(self) -> str:
        """File name."""
        suffix = {"jpeg": ".jpg", "tiff": ".tif"}.get(family := self.kind.split("-")[0], f".{family}")
        return f"{self.number}-{self.kind}{suffix}"


# Sound files


def drawn(dtype: type = np.uint8) -> np.ndarray:
    """Return slopes, edges and a little noise, (96, 80, 3)."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH][..., None]
    values = 0.5 + 0.35 * np.sin(x / 17 + y / 23 + generator.uniform(0, 6, 3))
    values = values + 0.1 * np.sign(np.sin(x / 7) * np.sin(y / 11)) + generator.normal(0, 0.02, values.shape)
    return np.clip(np.rint(values * np.iinfo(dtype).max), 0, np.iinfo(dtype).max).astype(dtype)


def sound_files() -> dict[str, bytes]:
    """Return files by kind, the format first; to be called in a child, because libvips starts threads."""
    import pyvips

    pixels, deep = drawn(), drawn(np.uint16)
    picture = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb")
    picture16 = pyvips.Image.new_from_array(deep).copy(interpretation="rgb16")
    inks = pyvips.Image.new_from_array(np.dstack([255 - pixels, np.full(pixels.shape[:2], 40, np.uint8)]))
    inks = inks.copy(interpretation="cmyk")
    grey = picture.extract_band(1).copy(interpretation="b-w")
    tiles = {"tile": True, "tile_width": 32, "tile_height": 32}
    jpeg = {"Q": 90, "subsample_mode": "off"}
    files = {
        "jpeg-baseline": picture.jpegsave_buffer(**jpeg),
        "jpeg-progressive": picture.jpegsave_buffer(Q=85, subsample_mode="on", interlace=True),
        "jpeg-restarts": picture.jpegsave_buffer(Q=85, subsample_mode="on", restart_interval=4),
        "jpeg-cmyk": inks.jpegsave_buffer(**jpeg),
        "jpeg-grey": grey.jpegsave_buffer(Q=90),
        "png-8": picture.pngsave_buffer(),
        "png-16": picture16.pngsave_buffer(),
        "png-grey16": picture16.extract_band(0).copy(interpretation="grey16").pngsave_buffer(),
        "png-interlaced": picture.pngsave_buffer(interlace=True),
        "png-palette": picture.pngsave_buffer(palette=True),
        "tiff-strips": picture.tiffsave_buffer(),
        "tiff-strips-deflate": picture.tiffsave_buffer(compression="deflate", predictor="horizontal"),
        "tiff-strips-lzw": picture.tiffsave_buffer(compression="lzw", predictor="none"),
        "tiff-tiles": picture.tiffsave_buffer(**tiles),
        "tiff-tiles-lzw": picture.tiffsave_buffer(compression="lzw", predictor="none", **tiles),
        "tiff-tiles-jpeg": picture.tiffsave_buffer(compression="jpeg", Q=90, **tiles),
        "tiff-tiles-deflate16": picture16.tiffsave_buffer(compression="deflate", predictor="none", **tiles),
        "tiff-big16": picture16.tiffsave_buffer(bigtiff=True),
        "tiff-big-deflate": picture.tiffsave_buffer(bigtiff=True, compression="deflate", predictor="none"),
        "tiff-cmyk": inks.tiffsave_buffer(compression="deflate", predictor="none"),
        "webp-lossy": picture.webpsave_buffer(Q=90),
        "webp-lossless": picture.webpsave_buffer(lossless=True),
        "avif-8": picture.heifsave_buffer(compression="av1", Q=90, effort=1, subsample_mode="off"),
        "avif-12": picture16.heifsave_buffer(compression="av1", Q=90, effort=1, bitdepth=12),
    }
    return files | _with_metadata(pixels)


def _with_metadata(pixels: np.ndarray) -> dict[str, bytes]:
    exif = Image.Exif()
    exif[271], exif[274] = "Maker", 6
    exif.get_ifd(0x8769).update({33434: 0.01, 37500: b"maker notes" * 9, 40962: WIDTH})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.5)})
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'
    files = {}
    for name, options in (
        ("jpeg", {"xmp": xmp, "comment": b"comment"}),
        ("png", {}),
        ("tiff", {}),
        ("webp", {"xmp": xmp}),
    ):
        target = io.BytesIO()
        Image.fromarray(pixels).save(target, name, exif=exif, icc_profile=profile, **options)
        files[f"{name}-metadata"] = target.getvalue()
    return files


# Mutations


def parts(data: bytes, kind: str) -> list[tuple[int, int]]:
    """Return (begin, end) of the chunks, segments or boxes of a file; of TIFF those of 64 bytes."""
    found, at = [], 0
    family = kind.split("-")[0]
    at = {"jpeg": 2, "png": 8, "webp": 12}.get(family, 0)
    while at + 8 <= len(data):
        if family == "jpeg":
            if data[at] != 0xFF or data[at + 1] == 0xDA:
                break
            length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        elif family == "png":
            length = 12 + int.from_bytes(data[at : at + 4], "big")
        elif family == "webp":
            size = int.from_bytes(data[at + 4 : at + 8], "little")
            length = 8 + size + size % 2
        elif family == "avif":
            length = int.from_bytes(data[at : at + 4], "big") or len(data)
        else:
            length = 64
        found.append((at, min(at + length, len(data))))
        at += length
    return found or [(0, len(data))]


def flip_bits(data: bytes, kind: str, generator: np.random.Generator) -> bytes:
    """Flip one to eight bits."""
    result = bytearray(data)
    for at in generator.integers(2, len(data), generator.integers(1, 9)):
        result[at] ^= 1 << generator.integers(8)
    return bytes(result)


def cut(data: bytes, kind: str, generator: np.random.Generator) -> bytes:
    """Cut the end off, half of the time as a JPEG with a new end marker."""
    rest = data[: generator.integers(2, len(data))]
    return rest + b"\xff\xd9" * int(kind.startswith("jpeg") and generator.random() < 0.5)


def zero(data: bytes, kind: str, generator: np.random.Generator) -> bytes:
    """Overwrite some bytes with zeros."""
    at, length = generator.integers(2, len(data)), generator.integers(1, 600)
    return data[:at] + bytes(min(length, len(data) - at)) + data[at + length :]


def lose(data: bytes, kind: str, generator: np.random.Generator) -> bytes:
    """Leave some bytes out."""
    at = generator.integers(2, len(data))
    return data[:at] + data[at + generator.integers(1, 40) :]


def insert(data: bytes, kind: str, generator: np.random.Generator) -> bytes:
    """Insert random bytes."""
    at = generator.integers(2, len(data))
    return data[:at] + generator.bytes(generator.integers(1, 200)) + data[at:]


def swap_parts(data: bytes, kind: str, generator: np.random.Generator) -> bytes:
    """Swap two parts."""
    found = parts(data, kind)
    (a, b), (c, d) = sorted(found[i] for i in generator.integers(0, len(found), 2))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:] if b <= c else data


def repeat_part(data: bytes, kind: str, generator: np.random.Generator) -> bytes:
    """Insert a copy of a part elsewhere."""
    found = parts(data, kind)
    begin, end = found[generator.integers(len(found))]
    at = found[generator.integers(len(found))][0]
    return data[:at] + data[begin:end] * int(generator.integers(1, 4)) + data[at:]


def set_field(data: bytes, kind: str, generator: np.random.Generator) -> bytes:
    """Set a field of 1, 2 or 4 bytes in a header, or in a TIFF's directory, to an extreme value."""
    begin = 0
    if kind.startswith("tiff"):
        begin = int.from_bytes(data[8:16] if data[2] == 43 else data[4:8], "little") % len(data)
    at = begin + int(generator.integers(2, max(3, min(400, len(data) - begin - 4))))
    size = int(generator.choice([1, 2, 4]))
    value = int(generator.choice(INTERESTING)) % (1 << (8 * size))
    return data[:at] + value.to_bytes(size, "little" if generator.random() < 0.5 else "big") + data[at + size :]


MUTATIONS = (flip_bits, cut, zero, lose, insert, swap_parts, repeat_part, set_field, set_field)


def with_png_checksums(data: bytes) -> bytes:
    """Return a PNG whose chunks have the right checksums, so that damage gets past them."""
    result = bytearray(data)
    for begin, end in parts(data, "png"):
        if end - begin >= 12:
            result[end - 4 : end] = struct.pack(">I", zlib.crc32(result[begin + 4 : end - 4]))
    return bytes(result)


def make_case(files: dict[str, bytes], seed: int, number: int) -> Case:
    """Return a case."""
    generator = np.random.default_rng([seed, number])
    kind = sorted(files)[number % len(files)]
    data = files[kind]
    for _ in range(1 + int(generator.random() < 0.2)):
        data = MUTATIONS[generator.integers(len(MUTATIONS))](data, kind, generator)
    if kind.startswith("png") and generator.random() < 0.5:
        data = with_png_checksums(data)
    return Case(number, kind, data, files[kind])


# What a case must do


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
            orientation = page.tags[274].value if 274 in page.tags else 1
            return _turned(levels.reshape(*levels.shape[:2], -1), int(orientation)), page.compression != 7
    with Image.open(path) as image:
        image.load()
        exact = image.format in ("PNG", "TIFF") and image.info.get("compression") != "jpeg"
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("P", "PA", "1"):
            upright = upright.convert("RGBA" if "transparency" in upright.info else "RGB")
        levels = np.asarray(upright)
        levels = levels.astype(np.uint16) if levels.dtype == np.int32 else levels
        return levels.reshape(*levels.shape[:2], -1), exact


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

    Raises:
        AssertionError: If they differ.
        Exception: If the decoder refuses the file.
    """
    output = tifffile.imread(target)
    output = output.reshape(*output.shape[:2], -1)
    expected, exact = oracle_pixels(path)
    assert output.shape[:2] == expected.shape[:2], f"{output.shape} instead of {expected.shape}"
    if output.shape[2] != expected.shape[2]:  # grey of three channels, transparency that is only one decoder's
        bands = 3 if min(output.shape[2], expected.shape[2]) == 3 else 1
        output, expected = output[..., :bands], expected[..., :bands]
    output, expected = output.astype(np.int64), expected.astype(np.int64)
    if (expected.max() > 255) != (output.max() > 255):  # Pillow gives 8 of 16 bits
        depth = 8 if expected.max() <= 255 else 0
        output, expected = output >> depth, expected >> (8 - depth)
    differences = np.abs(output - expected).max(axis=2)
    differences[middle(*differences.shape)] = 0
    wrong = differences > (0 if exact else 16)
    assert wrong.mean() <= (0 if exact else 0.005), f"{100 * wrong.mean():.1f} % of its pixels are wrong"


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
    path, target, log = folder / case.name, folder / "output.tif", folder.with_suffix(".log")
    path.write_bytes(case.data)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    ending = in_child(lambda: work(path, target), log)
    there = {entry.name for entry in folder.iterdir()} - {path.name}
    if ending.kind == "refused":
        if not ending.message.startswith(str(path)) or "\n" in ending.message or VAGUE.search(ending.message):
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


RIGHT = ("done", "refused")
VAGUE = re.compile("unable to call|unable to fetch|libpng read error")  # messages that do not say what is wrong


@dataclass
class Tally:
    """What became of the cases of a run.

    Attributes:
        endings: Number of cases by ending.
        kinds: The same for each kind of file.
        failures: A line for each failure.
        seconds: Largest processor time of a case.
        resident: Largest resident memory of a case, in bytes.
    """

    endings: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    resident: int = 0

    def add(self, seed: int, case: Case, ending: Ending) -> None:
        """Count a case."""
        self.endings[ending.kind] += 1
        self.kinds.setdefault(case.kind, Counter())[ending.kind] += 1
        self.seconds, self.resident = max(self.seconds, ending.seconds), max(self.resident, ending.resident)
        if ending.kind not in RIGHT:
            self.failures.append(f"seed {seed} case {case.number} ({case.kind}): {ending.kind}: {ending.message}")


def fuzz(
    seed: int,
    numbers: Iterator[int],
    until: float,
    saved: Path | None = None,
    work: Callable[[Path, Path], None] = retouch,
) -> Tally:
    """Run cases until the monotonic time ``until``; failures are printed, and saved in a folder."""
    tally = Tally()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # outputs are flushed, which a disk makes slow
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory) as scratch:
        store = Path(scratch) / "sound.npz"
        made = in_child(
            lambda: np.savez(store, **{k: np.frombuffer(v, np.uint8) for k, v in sound_files().items()}),
            Path(scratch) / "log",
        )
        assert made.kind == "done", made
        with np.load(store) as sound:
            files = {kind: sound[kind].tobytes() for kind in sound}
        for number in numbers:
            if time.monotonic() > until:
                break
            folder = Path(scratch) / "case"
            folder.mkdir()
            case = make_case(files, seed, number)
            ending = run_case(case, folder, work)
            tally.add(seed, case, ending)
            shutil.rmtree(folder)
            if ending.kind in RIGHT:
                continue
            print(tally.failures[-1], flush=True)
            if saved is not None:
                saved.mkdir(parents=True, exist_ok=True)
                (saved / f"{seed}-{case.name}").write_bytes(case.data)
                with (saved / "failures.jsonl").open("a", encoding="utf-8") as file:
                    entry = {"seed": seed, "case": number, "kind": case.kind, "ending": ending.kind}
                    file.write(json.dumps(entry | {"message": ending.message}) + "\n")
    return tally


def write_summary(path: Path, seed: int, tally: Tally, elapsed: float) -> None:
    """Add a run to a summary, in place of an earlier one with its seed."""
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else {}
    runs[str(seed)] = {
        "files": sum(tally.endings.values()),
        "endings": dict(sorted(tally.endings.items())),
        "failures": tally.failures,
        "kinds": {kind: dict(sorted(endings.items())) for kind, endings in sorted(tally.kinds.items())},
        "elapsed_seconds": round(elapsed),
        "largest": {"processor_seconds": round(tally.seconds, 2), "resident_mib": tally.resident >> 20},
        "limits": {
            "processor_seconds": SECONDS,
            "elapsed_seconds": ELAPSED,
            "address_space_mib": ADDRESS_SPACE >> 20,
            "resident_mib": RESIDENT >> 20,
            "pixels": MAX_PIXELS,
        },
        "environment": environment() | {"decoders": decoders()},
    }
    runs = {seed: runs[seed] for seed in sorted(runs, key=int)}
    totals = {"files": sum(run["files"] for run in runs.values())}
    totals["failures"] = sum(len(run["failures"]) for run in runs.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(totals | {"runs": runs}, indent=2) + "\n", encoding="utf-8")


def decoders() -> dict[str, str]:
    """Return the versions of the decoders."""
    import PIL
    import pyvips

    libvips = ".".join(str(pyvips.version(i)) for i in range(3))
    return {"libvips": libvips, "pillow": PIL.__version__, "tifffile": tifffile.__version__}


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0), default=5.0, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), help="[default: drawn, and printed]")
@click.option("--only", type=click.IntRange(min=0), metavar="NUMBER", help="Repeat one case of a seed.")
@click.option("--files", type=click.IntRange(min=1), help="Stop after so many, even before the time is over.")
@click.option("--saved", type=click.Path(path_type=Path), default=Path("outputs/fuzz"), show_default=True)
@click.option("--summary", type=click.Path(path_type=Path), metavar="JSON", help="Add the run to this file.")
def main(
    minutes: float, seed: int | None, only: int | None, files: int | None, saved: Path, summary: Path | None
) -> None:
    """Mutate photographs of every format, and check what becomes of them."""
    if summary is not None and only is not None:
        raise click.UsageError("--summary is of whole runs; leave out --only")
    if summary is not None and work_tree_changes() != []:
        raise click.UsageError("--summary: a run belongs to a commit, and the work tree differs from its commit")
    seed = int.from_bytes(os.urandom(3), "big") if seed is None else seed
    numbers = iter(range(files or 10**9)) if only is None else iter([only])
    print(f"seed {seed}", flush=True)
    start, before = time.monotonic(), commit()
    tally = fuzz(seed, numbers, start + 60 * minutes, saved)
    counts = ", ".join(f"{count} {kind}" for kind, count in tally.endings.most_common())
    largest = f"at most {tally.seconds:.1f} s of processor time and {tally.resident >> 20} MiB"
    print(f"{sum(tally.endings.values())} files: {counts}; {largest}")
    if summary is not None:
        if commit() != before:
            raise click.ClickException(f"the work tree changed during the run; {summary} was not written")
        write_summary(summary, seed, tally, time.monotonic() - start)
    sys.exit(bool(tally.failures))


if __name__ == "__main__":
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    main()
