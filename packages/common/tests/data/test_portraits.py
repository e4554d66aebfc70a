from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from retouch_common.data.portraits import find_portraits, mesh_of, split_portraits
from retouch_common.faces.mesh import write_mesh_file


def pictures(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return [folder / name for name in names]


def test_several_folders_are_searched_in_their_order_and_no_picture_comes_twice(tmp_path: Path) -> None:
    second, first = pictures(tmp_path / "b" / "deep", "1.jpg"), pictures(tmp_path / "a", "2.png", "3.webp", "4.jfif")
    spec = f"{tmp_path / 'b'},{tmp_path / 'a'},{tmp_path / 'b' / 'deep'}"
    assert find_portraits(spec) == second + first


@pytest.mark.parametrize("spec", ["", ","])
def test_no_folder_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="no folder of portraits"):
        find_portraits(spec)


def test_commas_separate_folders_unless_they_are_part_of_a_name(tmp_path: Path) -> None:
    (plain,), (comma,) = pictures(tmp_path / "a", "1.jpg"), pictures(tmp_path / "b, c", "1.jpg")
    for folder in (comma.parent, str(comma.parent)):
        assert find_portraits(folder) == [comma]
    assert find_portraits(f"{plain.parent},{comma.parent}") == [plain, comma]
    assert find_portraits(f"{comma.parent},{plain.parent},") == [comma, plain]


def test_hidden_files_are_no_portraits(tmp_path: Path) -> None:
    portrait, _ = pictures(tmp_path, "1.jpg", "._1.jpg")  # as macOS writes on other file systems
    assert find_portraits(tmp_path) == [portrait]


def test_one_missing_folder_among_several_is_named(tmp_path: Path) -> None:
    pictures(tmp_path / "a", "1.jpg")
    with pytest.raises(ValueError, match="nowhere: not a folder"):
        find_portraits(f"{tmp_path / 'a'},{tmp_path / 'nowhere'}")


def test_every_fourth_person_of_portraits_taken_anywhere_is_held_out() -> None:
    paths = [Path(f"x/{group}/{n:02d}.jpg") for group in ("headshots", "community", "congress") for n in range(20)]
    val = {(p.parent.name, int(p.stem)) for p in split_portraits(paths, "val")}
    fourth = {(group, n) for group in ("headshots", "community") for n in range(0, 20, 4)}
    assert val == fourth | {("congress", 0), ("congress", 10)}
    assert not {(p.parent.name, int(p.stem)) for p in split_portraits(paths, "train")} & val


def test_every_twelfth_person_for_training_is_validated_on() -> None:
    paths = [Path(f"x/london_{mood}/{n:03d}.jpg") for mood in ("neutral", "smiling") for n in range(40)]
    paths += [Path(f"x/headshots/{n:03d}.jpg") for n in range(40)]
    train, dev, val = (split_portraits(paths, split) for split in ("train", "dev", "val"))
    people = {(p.parent.name.split("_")[0], int(p.stem)) for p in dev}
    assert people == {("london", n) for n in (7, 20 + 1, 34)} | {("headshots", n) for n in (9, 25)}
    assert sum(p.stem == "007" for p in dev) == 2
    assert sorted(train + dev + val) == sorted(paths)
    few = paths[:4]
    assert split_portraits(few, "dev") == split_portraits(few, "val")
    assert len(split_portraits(few, "train")) == 3


def test_a_picture_knows_its_mesh_and_a_changed_file_is_read_again(tmp_path: Path) -> None:
    one, two = pictures(tmp_path, "1.jpg", "2.jpg")
    assert mesh_of(one) is None
    write_mesh_file(tmp_path / "landmarks.npz", {"1.jpg": np.ones((468, 2))})
    np.testing.assert_array_equal(mesh_of(one), np.ones((468, 2)))
    assert mesh_of(two) is None
    write_mesh_file(tmp_path / "landmarks.npz", {"2.jpg": np.zeros((468, 2))})
    assert mesh_of(one) is None and mesh_of(two) is not None
