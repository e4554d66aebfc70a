"""What is refused in one line: files that are no portraits or masks, requests that are no edits, what is too large."""

import json

import numpy as np
import pytest
from api_requests import ADDRESS, edit, opened, refused, upload
from flat_editor import SIZE, WIDTH, encoded, portrait_pixels
from maskgan.studio import session
from retouch_common.faces.registry import DetectorUnavailable
from retouch_common.parsing.labels import encode_labels
from retouch_common.studio.guard import HEADERS
from starlette.testclient import TestClient


@pytest.mark.parametrize(
    "data, name, words",
    [
        (b"", "empty.jpg", "empty.jpg: is empty"),
        (b"hello, I am text", "notes.txt", "notes.txt: is not a photo"),
        (encoded(portrait_pixels())[:400], "cut.png", "cut.png: "),
        (encoded(portrait_pixels(width=WIDTH + 1)), "landscape.png", "landscape.png: no face was found"),
    ],
)
def test_what_is_no_portrait_is_refused_in_one_line(client, data, name, words):
    line = refused(upload(client, data, name), 422)
    assert line.startswith(words) and str(client.folder) not in line
    assert not list(client.folder.iterdir())  # nothing stays behind


def test_a_missing_detector_is_said(client, monkeypatch):
    def locate(photo):
        raise DetectorUnavailable("put the weights there")

    monkeypatch.setattr(session, "locate_faces", locate)
    assert "put the weights there" in refused(upload(client), 422)


def test_label_files_that_do_not_fit_are_refused(client):
    def line(data, name="m.png"):
        return refused(client.post("/api/labels/decode", params={"name": name}, content=data), 422)

    wanted = f"a mask for this page has {SIZE}x{SIZE}"
    assert line(encode_labels(np.zeros((32, 48), np.uint8))) == f"m.png: has 48x32 pixels; {wanted}"
    huge = encode_labels(np.zeros((SIZE, SIZE), np.uint8))
    huge = huge[:16] + (60_000).to_bytes(4, "big") * 2 + huge[24:]
    assert line(huge) == f"m.png: has 60000x60000 pixels; {wanted}"
    assert line(b"GIF89a nothing", "m.gif").startswith("m.gif: ")
    assert line(encoded(np.full((SIZE, SIZE, 3), 77, np.uint8))).startswith("m.png: ")
    assert line(b"").startswith("m.png: is empty")


def test_masks_that_do_not_fit_are_refused(client):
    photo = opened(client)
    wrong = np.full((SIZE, SIZE), 11, np.uint8)
    for path in ("/api/labels/encode", f"/api/photos/{photo['id']}/labels"):
        assert "64x64" in refused(client.post(path, content=b"123"), 422)
        assert "label 11" in refused(client.post(path, content=wrong.tobytes()), 422)
    assert "label 11" in refused(client.post("/api/render", json=edit(photo, wrong)), 422)
    assert "64x64" in refused(client.post("/api/render", json=edit(photo, wrong[:32])), 422)


def test_requests_that_are_no_edits_are_refused(client):
    photo = opened(client)
    for body in (b"{}", b'{"labels": 3}', b'{"labels": "*", "photo": "x"}'):
        assert "not an edit" in refused(client.post("/api/render", content=body), 422)
    part = {"photo": photo["id"], "amount": 0.5}
    for parts, words in (
        ({"ears": part}, "unknown component ears"),
        ({"hair": {**part, "amount": 1.5}}, "between 0 and 1"),
        ({"hair": {**part, "amount": float("nan")}}, "between 0 and 1"),
        ({"hair": 3}, "not an edit"),
    ):
        body = edit(photo, parts=parts)

        assert words in refused(client.post("/api/render", content=json.dumps(body)), 422)
    assert "view" in refused(client.post("/api/render", json=edit(photo, view="sideways")), 422)
    assert refused(client.post("/api/render", content=b"x" * 5_000_000), 413)


def test_requests_that_are_deep_huge_or_long_are_refused(client):
    photo = opened(client)
    text = json.dumps(edit(photo, parts={"hair": {"photo": photo["id"], "amount": 7777}}))
    for body, words in (
        (b"[" * 100_000, "not JSON"),
        (text.replace("7777", "9" * 400).encode(), "not an edit"),
        (text.replace("7777", "9" * 5000).encode(), "not JSON"),
    ):
        assert words in refused(client.post("/api/render", content=body), 422)
    long = refused(client.post("/api/render", json=edit(photo, view="v" * 100_000)), 422)
    assert "view" in long and len(long) < 300
    lone = json.dumps(edit(photo, parts={"\ud800": {"photo": photo["id"], "amount": 1}}))
    assert "unknown component" in refused(client.post("/api/render", content=lone), 422)
    path = f"/api/photos/{photo['id']}/adapt"
    assert len(refused(client.post(path, params={"steps": "9" * 5000}), 422)) < 300
    for name in ("ä" * 300 + ".png", "a." + "ä" * 300, "a." + "\U0001f600" * 100):
        assert upload(client, name=name).status_code == 200
    assert "is not a photo" in refused(upload(client, b"text", "a." + "ä" * 300), 422)


def test_unknown_photos_are_refused(client):
    photo = opened(client)
    for path in ("/api/photos/nobody/face.png", "/api/photos/nobody/labels"):
        assert "open it again" in refused(client.get(path), 404)
    for kind in ("render", "export/photo", "export/face"):
        assert "open it again" in refused(client.post(f"/api/{kind}", json=edit({"id": "nobody"})), 404)
    lent = {"hair": {"photo": "nobody", "amount": 1}}
    assert "open it again" in refused(client.post("/api/render", json=edit(photo, parts=lent)), 404)


def test_a_failure_of_our_own_is_one_line_too(client, editor, monkeypatch):
    client = TestClient(client.app, base_url=ADDRESS, cookies=client.cookies, raise_server_exceptions=False)
    photo = opened(client)
    monkeypatch.setattr(editor, "render", lambda *arguments: 1 / 0)
    answer = client.post("/api/render", json=edit(photo))
    assert "ZeroDivisionError" in refused(answer, 500)
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
