"""Section 4.4, the gender filter: tables of people's genders.

CelebA's ``list_attr_celeba.txt`` (the count of files, a line of attribute names, and 1 or -1 for each of a file's), or
CSV with a header: the file in the first column, its gender in "gender" (m or male, f or female) or "Male" (1 or -1).
"""

import csv
from pathlib import Path

from retouch_common.files import refuse_special
from retouch_common.inference.names import LABELS

COLUMNS = ("gender", "Male")
VALUES = {"1": "male", "m": "male", "male": "male", "-1": "female", "0": "female", "f": "female", "female": "female"}


def read_genders(path: Path) -> dict[str, str]:
    """Return the gender of each file, "male" or "female", by :func:`person_name`.

    Raises:
        ValueError: The file is not such a table.
        OSError: It cannot be read.
    """
    refuse_special(path)
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    if lines and lines[0].strip().isdigit():  # CelebA's own format
        rows = [line.split() for line in lines[1:]]
        header = ["file", *rows[0]] if rows else []
    else:
        rows = list(csv.reader(lines))
        header = rows[0] if rows else []
    column = next((header.index(name) for name in COLUMNS if name in header[1:]), None)
    if column is None:
        raise ValueError(f"{path}: no column {' or '.join(COLUMNS)} in its header; see maskgan.genders for the formats")
    genders: dict[str, str] = {}
    for row in filter(None, rows[1:]):
        value = row[column].strip().lower() if len(row) == len(header) else ""
        if value not in VALUES:
            raise ValueError(f"{path}: {row[0]} has no gender among {', '.join(VALUES)} in column {header[column]}")
        genders[person_name(Path(row[0]))] = VALUES[value]
    return genders


def person_name(path: Path) -> str:
    """Return the name by which tables know an image or its labels: without folder and suffix."""
    return path.name.removesuffix(LABELS) if path.name.endswith(LABELS) else path.stem
