"""Work for worker processes: lighten photographs; some names kill their worker. Imported by its processes."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
from retouch_common.inference.batch import Summary
from retouch_common.inference.photos import PhotoOptions, open_photo, write_photo
from retouch_common.inference.workers import Work


def start(by, *, seconds=0.0, once=None, **options):
    """Photographs named "poison" kill their worker; so does every file, the first time, if ``once`` is a folder."""
    how = PhotoOptions(**options)

    def process(job):
        time.sleep(seconds)
        first = once and "deadly" in job.source.name and not (Path(once) / job.source.name).exists()
        if first:
            (Path(once) / job.source.name).touch()
        if first or "poison" in job.source.name:
            os.kill(os.getpid(), signal.SIGKILL)
        photo = open_photo(job.source, job.target, how)
        pixels = photo.read_rows(0, photo.height)
        pixels[: photo.height // 4] = np.clip(pixels[: photo.height // 4], 0, 205) + np.uint8(by)
        changed = write_photo(photo, job.target, iter([pixels]), how, ())
        return Summary(f"lightened by process {os.getpid()}", num_faces=1, changed=changed)

    return Work(process, f"weights {by}")


def lighten(by=50, **options):
    return partial(start, by, **options)
