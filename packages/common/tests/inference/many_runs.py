"""Runs over drawn photographs, and what became of them."""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from pyarrow import parquet
from retouch_common.inference.batch import plan_job
from retouch_common.inference.manifest import read_manifest
from retouch_common.inference.many import ManyOptions, run_many
from retouch_common.inference.storage import OutputFolder, output_folder
from retouch_common.inference.workers import Task, run_in_workers


def draw(folder, count, prefix="photo"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 200, (32, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{prefix}{number:03}.png")
    return folder


def run(root, *, manifest=None, work=None, out="out", workers=1, engine=None, endings=(), **options):
    from drawn_work import lighten

    failures = []
    folder = output_folder(Path(out) if "://" in out else root / out)
    entries = read_manifest(str(manifest or root / "in"), folder.path)
    engine = engine or partial(run_in_workers, workers=workers)
    settings = ManyOptions(out=folder, engine=engine, results=root / "results.parquet", **options)
    totals = run_many(entries, work or lighten(), partial(plan_job, endings=endings), settings, report=failures.append)
    return (totals.done, totals.skipped, totals.failed), failures


def table(root):
    rows = parquet.read_table(root / "results.parquet").to_pylist()
    return {Path(row["path"]).name: row for row in rows}


def contents(folder):
    """Files by name, without the temporary ones of killed processes, which a later run deletes."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".retouch-writing-"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def planned(folder, out):
    return [Task(str(path), plan_job(path, out / path.name), OutputFolder(out)) for path in sorted(folder.iterdir())]
