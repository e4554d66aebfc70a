from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from retouch_common.cli.landmarks import landmarks
from retouch_common.data import mesh_folder
from retouch_common.faces.face import Face
from retouch_common.faces.mesh import read_mesh_file
from retouch_common.faces.mesh_model import MeshModel

FACE = Face((4.0, 5.0, 20.0, 24.0), 0.9, np.zeros((5, 2), np.float32))


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, level in (("a/1.png", 10), ("a/2.png", 20), ("b/1.png", 30), ("b/faceless.png", 99)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (level,) * 3).save(tmp_path / name)
    monkeypatch.setattr(mesh_folder, "detect_faces", lambda image: [] if image.max() == 99 else [FACE])
    return tmp_path


def model_of(calls: list[int], probability: float = 1.0) -> Callable[[np.ndarray, Face], Any]:
    def model(image: np.ndarray, face: Face) -> tuple[np.ndarray, float]:
        assert face is FACE
        calls.append(int(image[0, 0, 0]))
        return np.full((468, 2), image[0, 0, 0], np.float32), probability

    return model


def test_every_folder_gets_its_file_and_faceless_pictures_are_named(people: Path) -> None:
    failed = mesh_folder.write_landmarks(people, model_of([]))
    assert failed == [(people / "b" / "faceless.png", "no face was found")]
    assert {name: points[0, 0] for name, points in read_mesh_file(people / "a" / "landmarks.npz").items()} == {
        "1.png": 10.0,
        "2.png": 20.0,
    }
    assert list(read_mesh_file(people / "b" / "landmarks.npz")) == ["1.png"]


def test_a_second_run_does_only_what_is_missing(people: Path) -> None:
    calls: list[int] = []
    mesh_folder.write_landmarks(people, model_of(calls))
    Image.new("RGB", (32, 32), (40,) * 3).save(people / "a" / "3.png")
    mesh_folder.write_landmarks(people, model_of(calls))
    assert calls == [10, 20, 30, 40]
    assert sorted(read_mesh_file(people / "a" / "landmarks.npz")) == ["1.png", "2.png", "3.png"]


def test_an_interrupted_run_keeps_what_it_has(people: Path) -> None:
    calls: list[int] = []
    good = model_of(calls)

    def interrupted(image: np.ndarray, face: Face) -> tuple[np.ndarray, float]:
        if len(calls) == 1:
            raise KeyboardInterrupt
        return good(image, face)

    with pytest.raises(KeyboardInterrupt):
        mesh_folder.write_landmarks(people, interrupted)
    assert list(read_mesh_file(people / "a" / "landmarks.npz")) == ["1.png"]


def test_what_is_hardly_a_face_and_damaged_pictures_are_named(people: Path) -> None:
    (people / "a" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    failed = dict(mesh_folder.write_landmarks(people, model_of([], probability=0.2)))
    assert failed[people / "a" / "2.png"] == "it is hardly a face"
    assert people / "a" / "1.png" in failed and read_mesh_file(people / "a" / "landmarks.npz") == {}


def test_a_picture_that_cannot_be_read_does_not_stop_the_others(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = mesh_folder.read_levels

    def guarded(path: Path) -> np.ndarray:
        if path == people / "a" / "1.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(mesh_folder, "read_levels", guarded)
    failed = dict(mesh_folder.write_landmarks(people, model_of([])))
    assert failed[people / "a" / "1.png"] == "Permission denied"
    assert list(read_mesh_file(people / "a" / "landmarks.npz")) == ["2.png"]


def test_another_model_is_refused_by_its_checksum(people: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'landmarks' is not installed")
    (people / "face_landmark.onnx").write_bytes(b"another network")
    for name in (people, people / "face_landmark.onnx"):
        result = CliRunner().invoke(landmarks, [str(people), "--model", str(name)])
        assert result.exit_code == 1 and result.output.count("\n") == 1
        assert "not the expected one" in result.output and "Traceback" not in result.output


def test_a_model_that_is_not_there_is_said_at_once(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'landmarks' is not installed")
    with pytest.raises(ValueError, match=r"nowhere\.onnx: no such file"):
        MeshModel(people / "nowhere.onnx")
    monkeypatch.chdir(people.parent)
    with pytest.raises(ValueError, match=r"nowhere\.bin: no such file"):  # a name in a folder, not a hub id
        MeshModel(f"{people.name}/nowhere.bin")


@pytest.mark.parametrize("name", ["owner/name", "owner/face.mesh", "owner/name@v1.0", "owner/name@refs/pr/1"])
def test_models_are_taken_from_the_hub_at_any_revision(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'landmarks' is not installed")

    def asked(name: str, file: str) -> Path:
        raise ValueError(f"asked for {file} of {name}")

    monkeypatch.setattr("retouch_common.hub.verified_file", asked)
    with pytest.raises(ValueError, match=f"asked for face_landmark.onnx of {name}"):
        MeshModel(name)


def test_without_onnxruntime_the_extra_is_named(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"retouch-common\[landmarks\]"):
        MeshModel(people / "face_landmark.onnx")


@pytest.mark.skipif(sys.platform == "win32", reason="file names as on POSIX")
def test_a_name_does_not_steer_the_terminal(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = (people / "b" / "faceless.png").rename(people / "b" / "\x1b[31mred.png")
    damaged = people / "b" / "\x1b[32mgreen.png"
    damaged.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    monkeypatch.setattr("retouch_common.faces.mesh_model.MeshModel", lambda name: model_of([]))
    result = CliRunner().invoke(landmarks, [str(people), "--model", "any"])
    assert result.exit_code == 1 and "\x1b" not in result.output
    lines = [str(path).replace("\x1b", "\\x1b") + ": " for path in (named, damaged)]
    assert [result.output.count(line) for line in lines] == [1, 1], result.output
