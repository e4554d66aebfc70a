"""Files that are complete or not there, and that are not replaced unasked."""

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from retouch_common.config import load_yaml
from retouch_common.faces.landmarks import read_landmarks
from retouch_common.faces.mesh import read_mesh_file
from retouch_common.files import (
    ScratchDirectory,
    atomic_output,
    refuse_existing,
    refuse_other_settings,
    sha256,
    write_atomically,
)
from retouch_common.inference.manifest import read_manifest
from retouch_common.inference.recipe import Recipe
from retouch_common.inference.results import open_results
from retouch_common.parsing.labels import read_labels

LEAVING = """
import os, sys, time
from retouch_common.files import ScratchDirectory, atomic_output
with atomic_output(sys.argv[1] + "/a.png") as temporary:
    scratch = ScratchDirectory("retouch-test-")
    for path in (temporary, scratch.name + "/face.png"):
        open(path, "wb").write(b"half of it")
    for path in (temporary, scratch.name):
        os.utime(path, (time.time() - 3600,) * 2)
    print(scratch.name, flush=True)
    time.sleep(60)
"""


def test_a_file_is_written_whole(tmp_path):
    write_atomically(tmp_path / "a", b"one")
    write_atomically(tmp_path / "a", b"two")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"two")]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic_output(path) as temporary:
        assert temporary.suffix == ".bin"
        temporary.write_bytes(b"new")
        raise ZeroDivisionError
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.bin", b"old")]


def test_a_read_only_output_is_replaced_and_stays_read_only():
    with tempfile.TemporaryDirectory() as folder:  # others may not enter pytest's
        path = Path(folder) / "a.bin"
        path.write_bytes(b"old")
        path.chmod(0o444)
        if os.getuid() == 0:  # nothing is read-only for root
            for name in (folder, path):
                os.chown(name, 65534, 65534)
            os.seteuid(65534)
        try:
            write_atomically(path, b"new")
        finally:
            os.seteuid(os.getuid())
        assert path.read_bytes() == b"new" and stat.S_IMODE(path.stat().st_mode) == 0o444


def test_file_and_folder_are_flushed_before_and_after_the_rename(tmp_path, monkeypatch):
    """Else a power failure may leave neither the old nor the new file."""
    events = []
    fsync, replace = os.fsync, os.replace

    def flushed(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        events.append("folder" if is_folder else os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", lambda *names: (events.append("rename"), replace(*names)))
    with atomic_output(tmp_path / "a.jpg") as temporary:
        temporary.write_bytes(b"12345")
    assert events == [5, "rename", "folder"]


def test_other_settings_are_refused(tmp_path):
    record, settings = tmp_path / "settings.json", {"seed": 0, "names": ["a"]}
    refuse_other_settings(record, settings)
    write_atomically(record, json.dumps(settings | {"more": 1}).encode())
    (tmp_path / "result.png").touch()
    refuse_other_settings(record, settings)
    with pytest.raises(ValueError, match=r"settings\.json: was begun with other seed, names"):
        refuse_other_settings(record, {"seed": 1, "names": []})
    record.unlink()
    with pytest.raises(ValueError, match="is not empty"):
        refuse_other_settings(record, settings)


def test_existing_files_are_refused(tmp_path):
    there, link = tmp_path / "a", tmp_path / "b"
    there.write_bytes(b"")
    link.symlink_to(tmp_path / "nowhere")
    refuse_existing([tmp_path / "new"])
    for path in (there, link):
        with pytest.raises(ValueError, match=f"{path}: already exists; .* --overwrite replaces it"):
            refuse_existing([tmp_path / "new", path])
        refuse_existing([path], overwrite=True)


def test_folders_with_other_files_are_refused(tmp_path):
    refuse_other_settings(tmp_path / "new" / "settings.json", {})
    (tmp_path / ".retouch-writing-abcd1234").write_bytes(b"")  # of a process that was killed
    refuse_other_settings(tmp_path / "settings.json", {})
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(ValueError, match=f"{tmp_path}: is not empty"):
        refuse_other_settings(tmp_path / "settings.json", {})


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX locks")
def test_what_a_killed_process_left_is_deleted_and_what_a_living_one_writes_is_not(tmp_path, monkeypatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)

    def leftovers():
        return sorted(path.name[:9] for path in (*tmp_path.glob(".retouch-writing-*"), *temporary.iterdir()))

    process = subprocess.Popen([sys.executable, "-c", LEAVING, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().startswith(str(temporary))
        (tmp_path / "folder").mkdir()
        write_atomically(tmp_path / "b", b"")
        ScratchDirectory("retouch-test-").cleanup()
        assert leftovers() == [".retouch-", "retouch-t"]  # it lives
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert leftovers() == [".retouch-", "retouch-t"]
    subprocess.run(
        [sys.executable, "-c", "import sys; from retouch_common.files import *;"
         "write_atomically(sys.argv[1] + '/b', b''); ScratchDirectory('retouch-test-').cleanup()", str(tmp_path)],
        check=True,
    )  # fmt: skip
    assert leftovers() == []
    assert {path.name for path in tmp_path.iterdir()} == {"tmp", "folder", "b"}


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX locks")
def test_files_of_the_user_whose_names_look_like_temporary_ones_stay(tmp_path):
    """Also old ones that nobody has locked."""
    names = ("retouch-me.jpg", "retouch-abcd1234", "retouch-originals/IMG_1.jpg", "retouch-abcd_123/IMG_2.jpg")
    mine = [tmp_path / "tmp" / name for name in names]
    mine += [tmp_path / name for name in (".writing-abcd1234.png", ".retouch-writing-notes.txt")]
    folders = [
        tmp_path / name for name in (".retouch-writing-abcd1234", "tmp/retouch-originals", "tmp/retouch-abcd_123")
    ]
    for path in (*mine, folders[0] / "a.jpg"):
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"the only copy")
    for path in (*mine, *folders):
        os.utime(path, (1, 1))
    code = """
import sys
from retouch_common.files import ScratchDirectory, write_atomically
ScratchDirectory("retouch-")
write_atomically(sys.argv[1], b"")
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "out.png")], env=environment, check=True)
    assert all(path.read_bytes() == b"the only copy" for path in (*mine, folders[0] / "a.jpg"))


def test_a_new_temporary_file_is_never_taken_for_a_leftover(tmp_path):
    """Between its creation and its lock."""
    fresh = tmp_path / ".retouch-writing-abcd_123.png"
    fresh.write_bytes(b"")
    write_atomically(tmp_path / "a", b"")
    assert fresh.exists() and time.time() - fresh.stat().st_mtime < 60


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize(
    "read",
    [
        load_yaml,
        Recipe.read,
        read_labels,
        read_landmarks,
        read_mesh_file,
        sha256,
        lambda path: read_manifest(str(path), path.parent / "out"),
        lambda path: open_results(path).__enter__(),
    ],
)
def test_pipe_is_refused_and_does_not_block(tmp_path, read):
    pipe = tmp_path / "a.txt"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match=r"a.txt: is not a regular file"):
        read(pipe)
