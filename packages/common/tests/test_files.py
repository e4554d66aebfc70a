"""Files that are complete or not there, and that are not replaced unasked."""

import pytest
from retouch_common.files import refuse_existing, refuse_foreign, write_atomically


def test_a_file_is_written_whole(tmp_path):
    write_atomically(tmp_path / "a", b"one")
    write_atomically(tmp_path / "a", b"two")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"two")]


def test_existing_files_are_refused(tmp_path):
    there, link = tmp_path / "a", tmp_path / "b"
    there.write_bytes(b"")
    link.symlink_to(tmp_path / "nowhere")
    refuse_existing([tmp_path / "new"])
    for path in (there, link):
        with pytest.raises(ValueError, match=f"{path}: is there already; .* --overwrite replaces it"):
            refuse_existing([tmp_path / "new", path])
        refuse_existing([path], overwrite=True)


def test_folders_with_other_files_are_refused(tmp_path):
    refuse_foreign(tmp_path / "new")
    (tmp_path / ".a.1.partial").write_bytes(b"")  # of a process that was killed
    refuse_foreign(tmp_path)
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(ValueError, match=f"{tmp_path}: holds other files already"):
        refuse_foreign(tmp_path)
