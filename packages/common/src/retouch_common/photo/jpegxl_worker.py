"""Script that decodes a JPEG XL file within limits of memory and time; run by :mod:`retouch_common.photo.jpegxl`.

Arguments: the module path as JSON, bytes of address space, seconds of CPU time, the file, a folder. The samples go to
``pixels`` in the folder, or a JPEG file that was recompressed to ``photo.jpg``; the profile to ``icc``, boxes to files
that are called as they are. Standard output is a JSON object: jpeg, mode, width and height of either, others (kinds of
further boxes, of compressed ones after "brob"). The exit status is ``FULL`` if the folder's disk is full. It imports
nothing of its package, which would count against the limits.
"""

import errno
import io
import json
import resource
import sys
from pathlib import Path

FULL = 3


def main(path: Path, folder: Path) -> None:
    """Decode a file into a folder."""
    from PIL import Image
    from pillow_jxl import Decoder

    Image.MAX_IMAGE_PIXELS = None  # the caller limits them
    jpeg, info, data, profile, boxes = Decoder(num_threads=0)(path.read_bytes())
    size = Image.open(io.BytesIO(data)).size if jpeg else (info.width, info.height)
    (folder / ("photo.jpg" if jpeg else "pixels")).write_bytes(data)
    if profile:
        (folder / "icc").write_bytes(profile)
    others = []
    for box in boxes:
        kind = bytes(box.box_type)
        if kind in (b"Exif", b"xml "):
            (folder / kind.decode().strip()).write_bytes(box.data)
        else:
            others.append((kind if kind != b"brob" else kind + bytes(box.data[:4])).decode("latin-1"))
    print(json.dumps({"jpeg": jpeg, "mode": info.mode, "width": size[0], "height": size[1], "others": others}))


def limit(kind: int, soft: int, hard: int) -> None:
    """Limit this process, more where it is limited more already, as only the superuser can raise that."""
    _, present = resource.getrlimit(kind)
    if present != resource.RLIM_INFINITY:
        soft, hard = min(soft, present), min(hard, present)
    resource.setrlimit(kind, (soft, hard))


if __name__ == "__main__":
    sys.path[:] = json.loads(sys.argv[1])
    memory, seconds = int(sys.argv[2]), int(sys.argv[3])
    limit(resource.RLIMIT_AS, memory, memory)
    limit(resource.RLIMIT_CPU, seconds, seconds + 1)
    limit(resource.RLIMIT_CORE, 0, 0)
    try:
        main(Path(sys.argv[4]), Path(sys.argv[5]))
    except OSError as error:
        sys.exit(FULL if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT) else 1)
