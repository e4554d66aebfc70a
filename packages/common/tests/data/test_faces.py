from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from retouch_common.data import face_cache
from retouch_common.data import faces as faces_module
from retouch_common.data.face_cache import entry_key, load_entry, open_or_prepare, portrait_key
from retouch_common.data.face_crops import CropConfig, random_crop
from retouch_common.data.faces import FaceBlemishes, drawing_weights
from retouch_common.data.pairs import open_pairs
from retouch_common.data.portraits import find_portraits, split_portraits
from retouch_common.faces.face import Face
from retouch_common.faces.mesh import write_mesh_file
from retouch_common.synthesis.blemishes import NOTHING_KEPT, BlemishConfig
from retouch_common.synthesis.distractors import ON_SKIN, Scenery
from retouch_common.synthesis.photometric import relight
from retouch_common.synthesis.preparation import PreparedFace

Draw = Callable[..., Any]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory, draw_person: Draw) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("faces")
    for number in range(12):
        tone = np.array([0.78, 0.58, 0.49]) * (1.0 - 0.04 * number)
        if number in (0, 1, 10):
            person = draw_person(tuple(tone), seed=number)
            person.save(folder / "set_a" / f"{number:02d}.png", with_template=True)
        else:
            (folder / "set_a" / f"{number:02d}.png").write_bytes(b"not opened in this test")
    cache = tmp_path_factory.mktemp("cache")
    return folder, cache


@pytest.fixture(scope="module")
def dataset(people: tuple[Path, Path]) -> FaceBlemishes:
    folder, cache = people
    return FaceBlemishes(folder, size=128, split="val", seed=7, cache=cache)


def test_samples_have_the_promised_form(dataset: FaceBlemishes) -> None:
    assert len(dataset) == 2
    drawn = 0
    for index in range(12):
        sample = dataset[index]
        assert {k: tuple(v.shape) for k, v in sample.items()} == {"raw": (3, 128, 128), "target": (3, 128, 128)}
        for picture in sample.values():
            assert picture.dtype == torch.float32 and picture.min() >= 0 and picture.max() <= 1
        drawn += bool((sample["raw"] - sample["target"]).abs().max() > 3.5 / 255)  # three levels are noise
    assert drawn >= 5


def test_a_sample_depends_on_seed_and_index_only(people: tuple[Path, Path], dataset: FaceBlemishes) -> None:
    folder, cache = people
    again = FaceBlemishes(folder, size=128, split="val", seed=7, cache=cache)
    for index in (5, 123456789, 0):
        assert all(torch.equal(again[index][k], dataset[index][k]) for k in ("raw", "target"))
    other = FaceBlemishes(folder, size=128, split="val", seed=8, cache=cache)
    assert not torch.equal(other[5]["target"], dataset[5]["target"])
    assert not torch.equal(dataset[6]["target"], dataset[5]["target"])
    with pytest.raises(IndexError):
        dataset[-1]


def test_light_and_camera_leave_pairs_equal_off_skin(people: tuple[Path, Path]) -> None:
    folder, cache = people
    config = BlemishConfig(clean_probability=1.0)
    clean = FaceBlemishes(folder, size=128, split="val", cache=cache, config=config, natural=0.0)
    for index in range(10):
        sample = clean[index]
        assert torch.equal(sample["raw"], sample["target"])


def test_people_are_divided_by_identity() -> None:
    paths = [Path(f"x/london_{mood}/{n:03d}.jpg") for mood in ("neutral", "smiling") for n in range(0, 60, 2)]
    paths += [Path(f"x/canada/{n:03d}.jpg") for n in range(0, 20)]
    train, dev, val = (split_portraits(paths, split) for split in ("train", "dev", "val"))
    assert sorted(train + dev + val) == sorted(paths) == sorted(split_portraits(paths, "all"))
    london = {p.stem for p in val if "london" in str(p)}
    assert london == {"000", "020", "040"}
    assert all(sum(p.stem == name and "london" in str(p) for p in val) == 2 for name in london)
    assert {p.stem for p in val if "canada" in str(p)} == {"000", "010"}
    with pytest.raises(ValueError, match="'train', 'dev', 'val' or 'all'"):
        split_portraits(paths, "test")


def test_wrong_folders_and_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a folder"):
        find_portraits(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("no pictures")
    with pytest.raises(ValueError, match="no portraits in it"):
        FaceBlemishes(tmp_path, cache=tmp_path / "cache")
    with pytest.raises(ValueError, match="64 to 768"):
        FaceBlemishes(tmp_path, size=4096)


def test_a_broken_photo_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8 broken")
    with pytest.raises(ValueError, match=r"a\.jpg"):
        FaceBlemishes(tmp_path, split="all", cache=tmp_path / "cache")


def test_portraits_without_templates_are_found_by_the_detector(
    draw_person: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retouch_common.faces import detection as faces

    person = draw_person()
    found = Face(box=(62.0, 65.0, 136.0, 175.0), score=1.0, landmarks=person.landmarks)
    monkeypatch.setattr(faces, "detect_faces", lambda image: [found])
    person.save(tmp_path / "deep" / "er" / "me.png", with_template=False)
    dataset = FaceBlemishes(tmp_path, size=96, split="all", cache=tmp_path / "cache")
    assert len(dataset) == 1 and dataset.faces[0].box[2] == pytest.approx(136.0, abs=1.0)
    monkeypatch.setattr(faces, "detect_faces", lambda image: [])
    with pytest.raises(ValueError, match="no face with enough visible skin in 1 portraits"):
        FaceBlemishes(tmp_path, size=96, split="all", cache=tmp_path / "other")


def test_the_cache_is_keyed_by_photo_template_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo, template = tmp_path / "a.png", tmp_path / "a.tem"
    photo.write_bytes(b"one")
    keys = [entry_key(photo)]
    write_mesh_file(tmp_path / "landmarks.npz", {"a.png": np.ones((468, 2), np.float32)})
    keys.append(entry_key(photo))
    template.write_text("1")
    keys.append(entry_key(photo))
    template.write_text("2")
    keys.append(entry_key(photo))
    photo.write_bytes(b"two")
    keys.append(entry_key(photo))
    monkeypatch.setattr(face_cache, "CACHE_VERSION", -1)
    keys.append(entry_key(photo))
    assert len(set(keys)) == 6


def test_faces_found_by_the_last_resort_are_searched_again_by_yunet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "a.png"
    photo.write_bytes(b"a photo")
    detectors = iter(["face parser", "YuNet", "YuNet"])
    monkeypatch.setattr(face_cache, "available_detector", lambda: (next(detectors), None))
    by_parser, by_yunet, again = (portrait_key(photo, 1) for _ in range(3))
    assert by_parser != by_yunet == again
    assert portrait_key(photo, 1, mesh=np.zeros((468, 2))) and portrait_key(photo, 1, files=[photo])  # no detector


def test_copied_and_touched_portraits_keep_their_entries(tmp_path: Path) -> None:
    points = np.arange(936, dtype=np.float32).reshape(468, 2)
    photo, folder = tmp_path / "a.png", tmp_path / "copy"
    photo.write_bytes(b"one")
    write_mesh_file(tmp_path / "landmarks.npz", {"a.png": points})
    key = entry_key(photo)
    os.utime(photo, (1, 1))
    folder.mkdir()
    (folder / "b.png").write_bytes(b"one")
    write_mesh_file(folder / "landmarks.npz", {"a.png": points + 1, "b.png": points})
    assert entry_key(photo) == entry_key(folder / "b.png") == key
    write_mesh_file(folder / "landmarks.npz", {"b.png": points + 1})
    assert entry_key(folder / "b.png") != key
    assert len({portrait_key(photo, *about) for about in ((), (1,), (2,), (1, 2), (12,))}) == 5


@pytest.mark.parametrize("damage", ["truncate image", "remove maps", "garble json", "wrong shape"])
def test_damaged_entries_are_made_again(
    draw_person: Draw, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    photo, cache = tmp_path / "a.png", tmp_path / "cache"
    draw_person().save(photo, with_template=True)
    first = open_or_prepare(cache, photo)
    assert first is not None
    expected = np.array(first.image)
    key = entry_key(photo)
    image, maps, about = (cache / f"{key}.{end}" for end in ("image.npy", "maps.npy", "json"))
    if damage == "truncate image":
        data = image.read_bytes()
        image.unlink()
        image.write_bytes(data[:1000])
    elif damage == "remove maps":
        maps.unlink()
    elif damage == "garble json":
        about.write_text("{")
    else:
        np.save(maps, np.zeros((3, 3, 4), dtype=np.uint8))
    with pytest.raises(ValueError, match="damaged cache entry"):
        load_entry(cache, key)
    again = open_or_prepare(cache, photo)
    assert again is not None and "made again" in caplog.text
    np.testing.assert_array_equal(again.image, expected)


def test_worker_processes_get_the_place_of_a_portrait_and_not_a_copy(draw_person: Draw, tmp_path: Path) -> None:
    draw_person().save(tmp_path / "a.png", with_template=True)
    face = open_or_prepare(tmp_path / "cache", tmp_path / "a.png")
    assert face is not None
    message = pickle.dumps(face)
    assert len(message) < 1000
    again = pickle.loads(message)
    np.testing.assert_array_equal(again.image, face.image)
    assert isinstance(again.image, np.memmap)


def test_a_second_opening_reads_the_cache(draw_person: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_person().save(tmp_path / "a.png", with_template=True)
    FaceBlemishes(tmp_path, size=96, split="all", cache=tmp_path / "cache")
    monkeypatch.setattr(face_cache, "prepare_face", lambda *_: pytest.fail("prepared again"))
    again = FaceBlemishes(tmp_path, size=96, split="all", cache=tmp_path / "cache")
    assert len(again) == 1
    names = sorted(p.name.split(".", 1)[1] for p in (tmp_path / "cache").iterdir())
    assert names == ["image.npy", "json", "maps.npy", "natural.npy"]
    about = json.loads(next((tmp_path / "cache").glob("*.json")).read_text())
    assert about["version"] == face_cache.CACHE_VERSION


_DATA = Path(os.environ.get("RETOUCH_DATA", Path(__file__).parents[4].parent / "shared" / "data")) / "faces"


@pytest.mark.skipif(not (_DATA / "canada").is_dir(), reason="the shared portraits (RETOUCH_DATA) are not here")
def test_a_real_portrait_loses_little_but_its_blemishes(tmp_path: Path) -> None:
    photo = sorted((_DATA / "canada").glob("*.jpg"))[1]
    face = open_or_prepare(tmp_path, photo)
    assert face is not None
    levels = face_cache.read_levels(photo)
    changed = np.abs(levels.astype(int) - face.image).max(-1) > 2
    skin = face.maps[..., 0].repeat(2, 0).repeat(2, 1) > 0
    assert 0.0002 < changed.mean() < 0.03
    assert not changed[~skin].any()
    assert 0.15 < skin.mean() < 0.5


def test_natural_blemishes_stay_in_raw_and_on_skin(people: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, cache = people
    monkeypatch.setattr(faces_module, "MIN_NATURAL_WIDTH", 100.0)
    quiet = BlemishConfig(clean_probability=1.0, **NOTHING_KEPT)
    found = {}
    for share in (0.0, 1.0):
        faces = FaceBlemishes(folder, size=96, split="val", cache=cache, config=quiet, augment=False, natural=share)
        darker = [replace(face, natural=face.image - np.minimum(face.image, 20)) for face in faces.faces]
        faces.faces[:] = darker
        found[share] = [faces[index] for index in range(6)]
    touched = 0
    for without, kept in zip(found[0.0], found[1.0], strict=True):
        assert torch.equal(without["raw"], without["target"])
        assert torch.equal(kept["target"], without["target"])
        difference = (kept["target"] - kept["raw"]).amax(dim=0)
        assert difference.max() < 22 / 255 and difference.min() > -2 / 255
        touched += int((difference > 15 / 255).sum())
    assert touched > 0


def test_narrow_faces_do_not_teach_blemishes_of_their_own(people: tuple[Path, Path]) -> None:
    folder, cache = people
    quiet = BlemishConfig(clean_probability=1.0)
    faces = FaceBlemishes(folder, size=96, split="val", cache=cache, config=quiet, augment=False, natural=1.0)
    for width, differs in ((250.0, False), (400.0, True)):
        faces.faces[:] = [
            replace(face, natural=face.image - np.minimum(face.image, 20), box=(*face.box[:2], width, face.box[3]))
            for face in faces.faces
        ]
        samples = [faces[index] for index in range(4)]
        assert any(bool((sample["raw"] != sample["target"]).any()) for sample in samples) == differs


@pytest.mark.parametrize("name", sorted(ON_SKIN))
def test_things_over_skin_are_the_same_in_both_pictures(
    people: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder, cache = people
    mattes = []

    def draw_one(scene: Scenery, generator: np.random.Generator) -> None:
        ON_SKIN[name][0](scene, generator)
        mattes.append(scene.matte.copy())

    monkeypatch.setattr(faces_module, "draw_on_skin", draw_one)
    monkeypatch.setattr(FaceBlemishes, "_camera", lambda _, raw, target, *rest: (raw, target))
    busy = BlemishConfig(clean_probability=0.0, min_count=60.0)
    faces = FaceBlemishes(folder, size=128, split="val", cache=cache, config=busy, natural=0.0)
    covered = drawn = 0
    for index in range(5):
        mattes.clear()
        sample = faces[index]
        drawn += int((sample["raw"] != sample["target"]).sum())
        if mattes:
            there = torch.from_numpy(mattes[0]) > 0.05
            assert torch.equal(sample["raw"][:, there], sample["target"][:, there])
            covered += int(there.sum())
    assert covered > 0 and drawn > 0


def plain_face(height: int, width: int, box: tuple[float, float, float, float]) -> PreparedFace:
    levels = np.zeros((height, width, 3), dtype=np.uint8)
    return PreparedFace(levels, levels, np.zeros((height // 2, width // 2, 4), dtype=np.uint8), box)


@pytest.mark.parametrize("size", [128, 512])
def test_no_crop_enlarges_a_face(size: int) -> None:
    face = plain_face(300, 240, (60.0, 70.0, 120.0, 150.0))
    generator = np.random.default_rng(0)
    for anywhere in (False, True) * 10:
        crop = random_crop(face, size, generator, anywhere=anywhere)
        assert crop.levels.shape == (size, size, 3) and crop.maps.shape == (size, size, 4)
        assert crop.face_width <= 1.12 * 120.0
    tall = random_crop(plain_face(900, 800, (100.0, 100.0, 600.0, 700.0)), size, generator, config=CropConfig())
    assert tall.face_width <= CropConfig().max_face_width * size / 512 * 1.02


def test_wide_faces_and_small_sets_are_drawn_oftener() -> None:
    paths = [Path(f"x/congress/{n}.jpg") for n in range(9)] + [Path("x/canada/1.jpg")]
    faces = [plain_face(8, 8, (0.0, 0.0, 240.0, 300.0))] * 9 + [plain_face(8, 8, (0.0, 0.0, 480.0, 600.0))]
    share = np.diff(drawing_weights(paths, faces), prepend=0.0)
    assert share.sum() == pytest.approx(1.0) and share[-1] == pytest.approx(6.0 * share[0])


def test_several_folders_are_one_set_of_pairs(
    draw_person: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(2):
        draw_person(seed=number).save(tmp_path / f"set{number}" / "a.png", with_template=True)
    pairs = open_pairs(f"faces:{tmp_path / 'set0'},{tmp_path / 'set1'}", size=96, split="all")
    assert len(pairs) == 2  # type: ignore[arg-type]


def test_skin_is_relit_from_very_dark_to_very_light() -> None:
    levels = np.full((16, 16, 3), (190, 150, 130), dtype=np.uint8)
    whole = np.ones((16, 16), dtype=np.float32)
    seen = [float(relight(levels, whole, np.random.default_rng(seed), brightness=0.6).mean()) for seed in range(150)]
    assert min(seen) < 0.27 and max(seen) > 0.75
    assert np.mean(np.array(seen) < 0.06) < 0.02
