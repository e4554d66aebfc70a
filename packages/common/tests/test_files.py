"""Files that are complete or not there, and that are not replaced unasked."""

import json

import pytest
from retouch_common.files import atomic_output, refuse_existing, refuse_foreign, refuse_other_settings, write_atomically


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


def test_other_settings_are_refused(tmp_path):
    record, settings = tmp_path / "settings.json", {"seed": 0, "names": ["a"]}
    refuse_other_settings(record, settings)
    write_atomically(record, json.dumps(settings | {"more": 1}).encode())
    (tmp_path / "result.png").touch()
    refuse_other_settings(record, settings)
    with pytest.raises(ValueError, match=r"settings\.json: was begun with other seed, names"):
        refuse_other_settings(record, {"seed": 1, "names": []})
    record.unlink()
    with pytest.raises(ValueError, match="holds other files already"):
        refuse_other_settings(record, settings)


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
