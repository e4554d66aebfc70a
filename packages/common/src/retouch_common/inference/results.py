"""The results table of a run over many photographs, in Parquet.

While a run goes on, results are appended to a journal beside the table, so that a run that is killed loses none. They
are merged when it ends, or when the next one starts.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from retouch_common.files import atomic_output, exclusive, refuse_special

DONE, FAILED, STARTED = "done", "failed", "started"


class Result(NamedTuple):
    """A row of the table.

    Attributes:
        path: Absolute path or URL of the photograph.
        status: "done" or "failed"; "started" if the run ended before the photograph was finished.
        reason: Reason of a failure, in one line.
        faces: Number of faces that were processed.
        changed: Share of pixels that were changed, in [0, 1]; null where nothing of the kind is written.
        seconds: Time of processing.
        output: Path of the output.
        version: Version of the package.
        weights: SHA-256 of the network's weights.
        size: Size of the photograph in bytes.
        modified: Time of the photograph's last modification, in ns since 1970.
        settings: Digest of the options and the weights.
        companions: Paths of the files beside the output.
    """

    path: str
    status: str
    reason: str | None = None
    faces: int | None = None
    changed: float | None = None
    seconds: float | None = None
    output: str | None = None
    version: str | None = None
    weights: str | None = None
    size: int | None = None
    modified: int | None = None
    settings: str | None = None
    companions: Sequence[str] | None = None


class ResultsTable:
    """Results by path of the photograph.

    Attributes:
        rows: Newest result of every photograph.
    """

    def __init__(self, path: Path, journal: IO[str]) -> None:
        self._path, self._journal = path, journal
        self.rows: dict[str, Result] = _read(path) if path.exists() else {}
        for line in journal:
            with contextlib.suppress(json.JSONDecodeError):  # the last line, if its process was killed
                row = Result(*json.loads(line))
                self.rows[row.path] = row
        if journal.tell():
            journal.write("\n")

    def record(self, row: Result) -> None:
        """Add a result, safe from now on against the death of this process."""
        self.rows[row.path] = row
        self._journal.write(json.dumps(row) + "\n")
        self._journal.flush()

    def write(self) -> None:
        """Write the table, atomically."""
        import pyarrow as pa
        from pyarrow import parquet

        columns = zip(*self.rows.values(), strict=True) if self.rows else [()] * len(Result._fields)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, _schema(), strict=True)]
        with atomic_output(self._path) as temporary:
            parquet.write_table(pa.Table.from_arrays(arrays, schema=_schema()), temporary)


@contextlib.contextmanager
def open_results(path: Path) -> Iterator[ResultsTable]:
    """Open a results table, new or of an earlier run, and write it at the end, whatever happens.

    Raises:
        OSError: If it cannot be read or written.
        ValueError: If the file is another one, or another process writes it.
    """
    refuse_special(path)
    if not path.parent.is_dir():
        raise ValueError(f"{path}: the folder {path.parent} does not exist; create it, or choose another file")
    journal = path.with_name(f"{path.name}.journal")
    with exclusive(journal, f"{path}"), open(journal, "r+", encoding="utf-8") as file:
        try:
            table = ResultsTable(path, file)
        except BaseException:
            if not os.path.getsize(journal):
                os.unlink(journal)
            raise
        try:
            yield table
        finally:
            table.write()
            os.unlink(journal)


def _schema() -> Any:
    import pyarrow as pa

    kinds = {"faces": pa.int32(), "changed": pa.float64(), "seconds": pa.float64(), "size": pa.int64()}
    kinds |= {"modified": pa.int64(), "companions": pa.list_(pa.string())}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in Result._fields])


def _read(path: Path) -> dict[str, Result]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]}); choose another file"
        ) from None
    names = table.schema.names  # those of earlier versions lack the last column
    if names not in (list(Result._fields), list(Result._fields[:-1])):
        raise ValueError(f"{path}: is not a results table of this program; choose another file")
    columns = [column.to_pylist() for column in table.columns]
    return {row[0]: Result(*row) for row in zip(*columns, strict=True)}
