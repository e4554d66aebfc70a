"""A short slice of the fuzzer, the failures that it must notice, kills in the middle of retouching, and a full disk."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from retouch_common.photo.io import Photo

if sys.platform != "linux":
    pytest.skip("limits of a process and forks", allow_module_level=True)
fuzz, fuzz_cases, fuzz_checks = map(importlib.import_module, ("fuzz", "fuzz_cases", "fuzz_checks"))  # of .ci
TOOLS = Path(fuzz.__file__).parent


def run(code, *arguments, **options):
    """Run Python code in a process of its own: libvips' threads do not survive a fork."""
    code = f"import sys; sys.path.insert(0, {str(TOOLS)!r})\n" + textwrap.dedent(code)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_no_mutated_file_does_harm():
    found = run("""
        import time, fuzz
        tally = fuzz.fuzz(20, iter(range(40)), time.monotonic() + 60)
        print(*tally.failures, sep="\\n")
        print(tally.endings["done"], tally.endings["refused"])
    """)
    *failures, numbers = found.splitlines()
    assert not [line for line in failures if line]
    done, refused = map(int, numbers.split())
    assert done >= 3 and refused >= 3


def test_no_file_with_metadata_of_absurd_size_does_harm():
    found = run("""
        import time, fuzz, fuzz_cases
        fuzz_cases.MUTATIONS = (fuzz_cases.add_metadata,)
        tally = fuzz.fuzz(3, iter(range(15)), time.monotonic() + 60)
        print(*tally.failures, sep="\\n")
        print(tally.endings["done"], tally.seconds)
    """)
    *failures, numbers = found.splitlines()
    assert not [line for line in failures if line]
    done, seconds = map(float, numbers.split())
    assert done >= 3 and seconds < 5


FAULTS = {
    "crash": "os.abort()",
    "hang": "time.sleep(99)",
    "busy": "any(iter(int, 1))",
    "traceback": "{}[path]",
    "unclear": "raise ValueError('damaged')",
    "vague": "raise ValueError(f'{path}: unable to call pngload')",
    "leftover": "(path.parent / '.retouch-writing-1').touch(); fuzz_checks.retouch(path, target)",
    "memory": "data = bytearray(b'1') * (3 << 27); raise ValueError(f'{path}: is damaged')",
    "wrong": "fuzz_checks.middle = lambda *a: (slice(0, 16), slice(0, 60)); fuzz_checks.retouch(path, target)",
}


def test_failures_are_noticed_and_saved(tmp_path):
    """Of a sound file, by retouchers that have a fault each."""
    works = "".join(f"def {kind}(path, target): {code}\n" for kind, code in FAULTS.items())
    code = f"""
        fuzz_checks.SECONDS, fuzz_checks.ELAPSED, fuzz_checks.RESIDENT = 1, 6, 3 << 27
        fuzz_cases.MUTATIONS = (lambda data, kind, generator: data,)
        fuzz_cases.sound_files = lambda: fuzz_cases._with_metadata(fuzz_cases.drawn())
        for work in ({", ".join(FAULTS)}):
            tally = fuzz.fuzz(1, iter([0]), time.monotonic() + 60, Path(sys.argv[1]) / work.__name__, work)
            print(list(tally.endings))
    """
    imports = "import os, time, fuzz, fuzz_cases, fuzz_checks\nfrom pathlib import Path\n"
    found = run(imports + works + textwrap.dedent(code), tmp_path)
    assert len(found.splitlines()) == 2 * len(FAULTS), found
    for kind, *lines in zip(FAULTS, *[iter(found.splitlines())] * 2, strict=True):
        ending = {"busy": "hang", "vague": "unclear"}.get(kind, kind)
        assert lines[0].startswith(f"seed 1 case 0 (jpeg-metadata): {ending}: ") and lines[1] == f"['{ending}']"
        assert {file.name for file in (tmp_path / kind).iterdir()} == {"1-0-jpeg-metadata.jpg", "failures.jsonl"}


EXTRAS = {"heic-8": "pillow_heif", "jxl-8": "pillow_jxl", "dng": "rawpy"}


def test_formats_of_the_extras_and_gain_maps_are_judged():
    """Of sound files: right outputs are done, in two formats of each kind, and wrong ones are noticed."""
    installed = {kind for kind, module in EXTRAS.items() if importlib.util.find_spec(module)}
    if not installed:
        pytest.skip("needs one of the extras heif, jxl and raw")
    found = run("""
        import json, time, fuzz, fuzz_cases, fuzz_checks
        draw, wanted = fuzz_cases.sound_files, ("heic", "jxl", "dng", "jpeg-gainmap")
        fuzz_cases.sound_files = lambda: {k: data for k, data in draw().items() if k.startswith(wanted)}
        fuzz_cases.MUTATIONS = (lambda data, kind, generator: data,)
        def wrong(path, target):
            fuzz_checks.middle = lambda *a: (slice(0, 16), slice(0, 60))
            fuzz_checks.retouch(path, target)
        for work, count in ((fuzz_checks.retouch, 16), (wrong, 8)):
            tally = fuzz.fuzz(1, iter(range(count)), time.monotonic() + 60, None, work)
            print(json.dumps(tally.kinds))
    """)
    right, wrong = (json.loads(line) for line in found.splitlines() if line.startswith("{"))
    assert installed <= right.keys() == wrong.keys()
    assert all(endings.keys() == {"done"} for endings in right.values()), right
    assert all(endings.keys() == {"wrong"} for endings in wrong.values()), wrong


def test_outputs_take_turns_among_the_formats_that_hold_the_photo():
    files = dict.fromkeys(("avif-12", "jpeg-grey", "png-16", "tiff-cmyk"), bytes(600))
    found = {}
    for number in range(60):
        case = fuzz_cases.make_case(files, 1, number)
        found.setdefault(case.kind, set()).add(case.output)
    assert found["jpeg-grey"] == set(fuzz_cases.OUTPUTS) and found["png-16"] == {".tif", ".png"}
    assert found["tiff-cmyk"] == {".tif", ".jpg"} and found["avif-12"] == {".tif", ".png", ".avif"}


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
@pytest.mark.parametrize("noise", [0, 60])
def test_lossy_outputs_may_differ_a_little(tmp_path, suffix, noise):
    added = np.random.default_rng(0).normal(0, noise, fuzz_cases.drawn().shape)
    levels = np.clip(fuzz_cases.drawn() + added, 0, 255).astype(np.uint8)
    Image.fromarray(levels).save(tmp_path / "a.png")
    Image.fromarray(levels).save(tmp_path / f"right{suffix}", quality=90)
    fuzz_checks.judge(tmp_path / "a.png", tmp_path / f"right{suffix}")
    for name, changed in (("swapped", levels[..., ::-1]), ("shifted", np.roll(levels, 2, axis=1))):
        Image.fromarray(changed).save(tmp_path / f"{name}{suffix}", quality=90)
        with pytest.raises(AssertionError, match="of its pixels are wrong"):
            fuzz_checks.judge(tmp_path / "a.png", tmp_path / f"{name}{suffix}")


def test_a_summary_counts_every_run_once(tmp_path):
    path = tmp_path / "fuzz.json"
    for seed, kinds in ((9, ["done"]), (8, ["done", "refused", "hang"]), (9, ["done", "refused"])):
        tally = fuzz.Tally()
        for number, kind in enumerate(kinds):
            case = fuzz_cases.Case(number, "png-8", b"", b"")
            tally.add(seed, case, fuzz_checks.Ending(kind, "why", number / 2, number << 20))
        fuzz.write_summary(path, seed, tally, 12.3)
    summary = json.loads(path.read_text())
    assert (summary["files"], summary["failures"]) == (5, 1) and list(summary["runs"]) == ["8", "9"]
    run = summary["runs"]["8"]
    assert run["kinds"] == {"png-8": {"done": 1, "hang": 1, "refused": 1}} and run["elapsed_seconds"] == 12
    assert run["failures"] == ["seed 8 case 2 (png-8): hang: why"]
    assert run["largest"] == {"processor_seconds": 1.0, "resident_mib": 2}
    assert run["limits"]["processor_seconds"] == fuzz_checks.SECONDS and run["environment"]["commit"]
    assert set(run["environment"]["decoders"]) >= {"libvips", "pillow", "tifffile"}


def test_a_case_repeats():
    files = {"png-8": bytes(range(256)) * 3, "jpeg-grey": bytes(range(255, -1, -1)) * 3}
    cases = [[fuzz_cases.make_case(files, seed, number).data for number in range(20)] for seed in (1, 1, 2)]
    assert cases[0] == cases[1] and cases[0] != cases[2]


def test_kills_in_the_middle_of_retouching_leave_nothing_after_the_next_run(tmp_path):
    """Of a turned photo, which has a temporary file of its own."""
    levels = np.random.default_rng(0).integers(0, 256, (700, 500, 3), np.uint8)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(levels).save(tmp_path / "a.jpg", exif=exif)
    folders = [tmp_path / name for name in ("out", "tmp")]
    for folder in folders:
        folder.mkdir()
    left = run(
        """
        import os, signal, time, fuzz_checks
        from pathlib import Path
        import retouch_common.photo.decoder as decoder
        decoder._IN_MEMORY_BYTES = 0
        here = Path(sys.argv[1])
        interrupted = 0
        for number in range(20):
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                begin = fuzz_checks.blocks
                def slowly(*size):
                    first, *others = begin(*size)
                    yield first
                    os.write(writer, b"1")
                    time.sleep(0.05)
                    yield from others
                fuzz_checks.blocks = slowly
                fuzz_checks.retouch(here / "a.jpg", here / "out/a.png")
                os._exit(0)
            os.read(reader, 1)
            time.sleep(0.002 * number)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            interrupted += any(name.startswith(".retouch-writing-") for name in os.listdir(here / "out"))
            for folder in ("out", "tmp"):  # as if it were a while ago
                for entry in (here / folder).iterdir():
                    os.utime(entry, (1, 1))
        print(interrupted, len(os.listdir(here / "tmp")))
        """,
        tmp_path,
        env={**os.environ, "TMPDIR": str(folders[1])},
    )
    interrupted, scratch = map(int, left.split())
    assert interrupted >= 15 and scratch >= 1, "the kills came too late; the test shows nothing"
    env = {**os.environ, "TMPDIR": str(folders[1])}
    code = """
        from pathlib import Path
        import fuzz_checks
        import retouch_common.photo.decoder as decoder
        decoder._IN_MEMORY_BYTES = 0
        fuzz_checks.retouch(Path(sys.argv[1]) / "a.jpg", Path(sys.argv[1]) / "out/a.png")
    """
    run(code, tmp_path, env=env)
    assert [file.name for file in folders[0].iterdir()] == ["a.png"] and not list(folders[1].iterdir())
    assert Photo.open(folders[0] / "a.png").height == 500


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB, or a folder in which no file may be larger: (folder, limit of a file's size)."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        os.getuid() == 0
        and shutil.which("mount")
        and not subprocess.call(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], stderr=subprocess.DEVNULL
        )
    )
    yield disk, None if mounted else 65536
    if mounted:
        subprocess.check_call(["umount", str(disk)])


def test_a_full_disk_is_named(tmp_path, small_disk):
    disk, limit = small_disk
    levels = np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8)
    Image.fromarray(levels).save(tmp_path / "a.png")
    suffixes = [".jpg", ".png", ".tif", ".webp", ".avif"]
    said = run(
        """
        import resource, signal, fuzz_checks
        from pathlib import Path
        if sys.argv[3] != "None":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
        for suffix in sys.argv[4:]:
            try:
                fuzz_checks.retouch(Path(sys.argv[1]), Path(sys.argv[2]) / f"out{suffix}")
            except OSError as error:
                print(error)
        """,
        *(tmp_path / "a.png", disk, limit, *suffixes),
    )
    reason = "the disk is full" if limit is None else ".+"
    for line, suffix in zip(said.splitlines(), suffixes, strict=True):
        assert re.fullmatch(rf"{re.escape(str(disk))}/out{suffix}: cannot be written: {reason}", line)
    assert not list(disk.iterdir())
