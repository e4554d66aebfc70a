"""What the page asks the server for: photographs in, pictures and files out."""

import base64
import io
import json
import threading

import numpy as np
import pytest
import pyvips
import torch
from api_requests import edit, opened, picture, refused, upload
from flat_editor import HEIGHT, SIZE, WIDTH, encoded, plain_mask, portrait_pixels
from maskgan.config import COMPONENT_NAMES
from maskgan.studio import session
from maskgan.studio.session import Edit, EditSession
from PIL import Image
from retouch_common.parsing.labels import CLASSES, COLOURS, decode_labels
from retouch_common.studio.files import DECODE_LOCK, StoredFile
from retouch_common.testing.studio import ROOT

HAIR, SKIN = CLASSES.index("hair"), CLASSES.index("skin")


def test_the_page_and_its_files_are_served_with_their_types(client):
    page = client.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    for name, kind in (
        ("edit/main.js", "text/javascript"), ("edit/edit.css", "text/css"), ("shell/icon.svg", "image/svg+xml"),
    ):  # fmt: skip
        answer = client.get(f"{ROOT}/{name}")
        assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
    for path in ("/tool.html", "/../server.py", "/%2e%2e/server.py", "/nothing"):
        assert client.get(path).status_code == 404


def test_about_says_what_the_page_needs(client):
    about = client.get("/api/about").json()
    assert about["size"] == SIZE and about["classes"] == list(CLASSES) and about["colours"] == COLOURS.tolist()
    assert about["components"] == list(COMPONENT_NAMES)
    assert about["upload_bytes"] >= 1_000_000_000  # 100 megapixels of 16 bits are 600 MB


def test_a_photo_is_opened_with_its_face_and_mask(client):
    photo = opened(client)
    assert (photo["name"], photo["width"], photo["height"]) == ("anna.png", WIDTH, HEIGHT)
    assert photo["present"] == dict.fromkeys(COMPONENT_NAMES, True)
    labels = np.frombuffer(client.get(f"/api/photos/{photo['id']}/labels").content, np.uint8)
    np.testing.assert_array_equal(labels.reshape(SIZE, SIZE), plain_mask(SIZE))
    face = picture(client.get(f"/api/photos/{photo['id']}/face.png"))
    assert face.shape[0] == face.shape[1] >= SIZE  # as sharp as the photo has it


def test_each_face_of_a_photo_can_be_edited(client, two_faces):
    first = opened(client)
    assert (first["faces"], first["face"]) == (2, 0)
    second = client.post(f"/api/photos/{first['id']}/faces/1").json()
    assert (second["faces"], second["face"]) == (2, 1) and second["id"] != first["id"]
    views = [picture(client.get(f"/api/photos/{photo['id']}/face.png")) for photo in (first, second)]
    assert (views[0][:SIZE, :SIZE] != views[1][:SIZE, :SIZE]).any()
    labels = plain_mask(SIZE)
    labels[20:40] = HAIR
    exported = picture(client.post("/api/export/photo", json=edit(second, labels)))
    y, x = np.argwhere((exported != portrait_pixels()).any(axis=2)).mean(axis=0)
    assert y < 70 and x > 90  # where the second face is
    again = client.post(f"/api/photos/{second['id']}/faces/0").json()
    np.testing.assert_array_equal(picture(client.get(f"/api/photos/{again['id']}/face.png")), views[0])
    assert "there is no face 3; the photo shows 2" in refused(client.post(f"/api/photos/{first['id']}/faces/2"), 422)
    refused(client.post("/api/photos/nobody/faces/0"), 404)


@pytest.mark.parametrize("kind, name", [("JPEG", "a.jpg"), ("WEBP", "b.webp"), ("TIFF", "c.tif"), ("PNG", "noending")])
def test_formats_and_names(client, kind, name):
    assert opened(client, data=encoded(portrait_pixels(), kind), name=name)["name"] == name


def test_16_bits_and_orientation(client):
    import pyvips

    deep = np.asarray(portrait_pixels(), np.uint16).transpose(1, 0, 2) * 257
    image = pyvips.Image.new_from_array(np.ascontiguousarray(deep)).copy(interpretation="rgb16")
    image.set_type(pyvips.GValue.gint_type, "orientation", 6)
    photo = opened(client, data=image.tiffsave_buffer(), name="deep.tif")
    assert (photo["width"], photo["height"]) == (WIDTH, HEIGHT)
    answer = client.post("/api/export/photo", json=edit(photo))
    stored = pyvips.Image.new_from_buffer(answer.content, "")
    assert stored.format == "ushort" and (stored.width, stored.height) == (WIDTH, HEIGHT)


def test_a_square_picture_without_a_found_face_can_be_opened_as_aligned(client):
    square = encoded(portrait_pixels(height=120, width=120))
    answer = upload(client, square, "face.png")
    assert "no face was found" in refused(answer, 422) and answer.json()["aligned"] is True
    assert opened(client, data=square, name="face.png", aligned="1")["width"] == 120
    assert upload(client, encoded(portrait_pixels(width=WIDTH + 1)), "wide.png").json().get("aligned") is None
    assert "square" in refused(upload(client, aligned="1"), 422)


def test_names_cannot_leave_the_folder(client):
    photo = opened(client, name="../../etc/..\\evil\n.png")
    assert photo["name"] == "evil.png"
    assert [file.parent for file in client.folder.iterdir()] == [client.folder]


def test_a_render_follows_the_mask(client):
    photo = opened(client)
    labels = plain_mask(SIZE)
    labels[40:60, 4:20] = HAIR
    plain = client.post("/api/render", json=edit(photo, view="network")).json()
    other = client.post("/api/render", json=edit(photo, labels, view="network")).json()
    assert plain["warnings"] == [] and plain["milliseconds"] >= 0
    before, after = (np.array(Image.open(io.BytesIO(base64.b64decode(a["image"])))) for a in (plain, other))
    changed = (before != after).any(axis=2)
    assert changed[40:60, 4:20].mean() > 0.9
    changed[40:60, 4:20] = False
    assert not changed.any()


def test_a_render_in_the_photo_is_what_is_exported(client):
    photo = opened(client)
    labels = plain_mask(SIZE)
    labels[labels == HAIR] = SKIN
    shown = client.post("/api/render", json=edit(photo, labels)).json()
    view = np.array(Image.open(io.BytesIO(base64.b64decode(shown["image"])))).astype(int)
    face = picture(client.get(f"/api/photos/{photo['id']}/face.png")).astype(int)
    assert view.shape == face.shape
    inside = np.abs(view - face).max(axis=2) > 8
    assert 0.05 < inside.mean() < 0.95
    exported = picture(client.post("/api/export/photo", json=edit(photo, labels))).astype(int)
    assert exported.shape == (HEIGHT, WIDTH, 3)
    changed = np.abs(exported - portrait_pixels()).max(axis=2) > 8
    assert 0 < changed.mean() < inside.mean()


def test_an_adaptation_tells_every_step_and_ends_with_another_entry(client):
    photo = opened(client)
    answer = client.post(f"/api/photos/{photo['id']}/adapt", params={"steps": 3})
    said = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["taken"] for line in said] == [1, 2, 3, 3] and {line["steps"] for line in said} == {3}
    adapted = said[-1]["photo"]
    assert adapted["id"] != photo["id"] and adapted["name"] == photo["name"]
    first, second = (client.post("/api/render", json=edit(p, view="network")).json() for p in (photo, adapted))
    assert first["image"] != second["image"]


def test_an_adaptation_that_fails_ends_with_the_reason(client, editor, monkeypatch):
    def adaptation(portrait, *, steps):
        yield 0.5
        raise torch.OutOfMemoryError

    monkeypatch.setattr(editor, "adaptation", adaptation)
    answer = client.post(f"/api/photos/{opened(client)['id']}/adapt", params={"steps": 3})
    said = [json.loads(line) for line in answer.text.splitlines()]
    assert said[0]["taken"] == 1 and "not enough GPU memory" in said[1]["error"]


@pytest.mark.parametrize("steps", ["0", "-3", "1e3", "100000", ""])
def test_an_adaptation_of_other_steps_is_refused(client, steps):
    photo = opened(client)
    answer = client.post(f"/api/photos/{photo['id']}/adapt", params={"steps": steps})
    assert "whole number from 1" in refused(answer, 422)
    refused(client.post("/api/photos/nobody/adapt", params={"steps": 3}), 404)


def test_others_render_between_the_steps_of_an_adaptation_and_whoever_leaves_cancels(editor, client, tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(portrait_pixels()))
    studio = EditSession(editor)
    opened_ = studio.open(StoredFile(tmp_path / "a.png", "a.png", owned=False))
    steps = studio.adapt(opened_.id, 5)
    assert [next(steps)[0] for _ in range(2)] == [1, 2]
    studio.render(Edit(opened_.id, plain_mask(SIZE)))  # or it would wait for ever
    steps.close()
    assert editor.taken == 2


def test_warnings_say_what_is_missing(client):
    labels = plain_mask(SIZE)
    labels[np.isin(labels, [CLASSES.index(name) for name in ("upper_lip", "mouth", "lower_lip")])] = SKIN
    (line,) = client.post("/api/render", json=edit(opened(client), labels)).json()["warnings"]
    assert "mouth" in line


def test_a_part_is_lent_in_proportion(client):
    target, source = opened(client), opened(client, data=encoded(portrait_pixels(5)), name="ben.png")
    at = np.unravel_index(np.flatnonzero(plain_mask(SIZE) == HAIR)[0], (SIZE, SIZE))

    def hair(parts):
        answer = client.post("/api/render", json=edit(target, parts=parts, view="network")).json()
        return np.array(Image.open(io.BytesIO(base64.b64decode(answer["image"]))))[at].astype(int)

    none, half, full = (hair({"hair": {"photo": source["id"], "amount": amount}}) for amount in (0, 0.5, 1))
    np.testing.assert_array_equal(none, hair({}))
    assert np.abs(full - none).max() > 20
    np.testing.assert_allclose(half, (none + full) / 2, atol=1)
    lent = {"hair": {"photo": source["id"], "amount": 0.5}, "skin": {"photo": source["id"], "amount": 0}}
    exported = client.post("/api/export/photo", json=edit(target, parts=lent)).content
    assert b"adapt=0; parts_of_another_face=hair 0.5</" in exported


def test_a_mask_that_fits_better_is_another_entry(client):
    photo = opened(client)
    labels = plain_mask(SIZE)
    labels[labels == HAIR] = 0
    other = client.post(f"/api/photos/{photo['id']}/labels", content=labels.tobytes()).json()
    assert other["id"] != photo["id"] and other["present"]["hair"] is False
    assert client.get(f"/api/photos/{other['id']}/labels").content == labels.tobytes()
    assert client.get(f"/api/photos/{photo['id']}/labels").content == plain_mask(SIZE).tobytes()


def test_the_photo_keeps_its_metadata_and_the_pixels_around(client):
    pixels = portrait_pixels()
    exif = Image.Exif()
    exif[0x010E] = "Anna in Oslo"
    photo = opened(client, data=encoded(pixels, exif=exif.tobytes()), name="Anna Ø.png")
    labels = np.full((SIZE, SIZE), HAIR, np.uint8)
    answer = client.post("/api/export/photo", json=edit(photo, labels))
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''Anna%20%C3%98.edited.png"
    result = Image.open(io.BytesIO(answer.content))
    assert result.getexif()[0x010E] == "Anna in Oslo"
    changed = (np.array(result) != pixels).any(axis=2)
    assert changed.any() and not changed[:8].any() and not changed[-8:].any()
    assert len(list(client.folder.iterdir())) == 1  # the export is gone again


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif"])
def test_the_photo_is_exported_in_a_format_and_quality(client, suffix):
    photo = opened(client)

    def exported(quality):
        content = edit(photo, np.full((SIZE, SIZE), HAIR, np.uint8), options={"format": suffix, "quality": quality})
        answer = client.post("/api/export/photo", json=content)
        assert f"anna.edited.{suffix}" in answer.headers["content-disposition"]
        return answer.content

    fine, coarse = exported(95), exported(50)
    assert pyvips.Image.new_from_buffer(fine, "").width == WIDTH
    assert (len(coarse) < 0.8 * len(fine)) == (suffix not in ("png", "tif"))


def test_metadata_and_the_note_of_the_edit_are_kept_or_left_out(client):
    exif = Image.Exif()
    exif[0x010E] = "Anna in Oslo"
    photo = opened(client, data=encoded(portrait_pixels(), exif=exif.tobytes()))

    def exported(**options):
        return client.post("/api/export/photo", json=edit(photo, options=options)).content

    assert b"maskgan" in exported() and b"maskgan" not in exported(provenance=False)
    assert Image.open(io.BytesIO(exported())).getexif()[0x010E] == "Anna in Oslo"
    assert 0x010E not in Image.open(io.BytesIO(exported(strip="all"))).getexif()
    answer = client.post("/api/export/photo", json=edit(photo, options={"format": "bmp"}))
    assert "unknown format bmp" in refused(answer, 422)


def test_the_change_alone_gives_the_export_as_linear_light(client):
    content = edit(opened(client), np.full((SIZE, SIZE), HAIR, np.uint8))
    answer = client.post("/api/export/change", json=content)
    assert "anna.change.tif" in answer.headers["content-disposition"]
    layer = pyvips.Image.new_from_buffer(answer.content, "").numpy().astype(int)
    assert (layer[:8] == 32768).all() and (layer != 32768).any()
    after = np.rint(portrait_pixels() + 2 * 255 * (layer / 65535 - 0.5))
    np.testing.assert_array_equal(after, picture(client.post("/api/export/photo", json=content)))


def test_the_face_is_exported_alone(client):
    photo = opened(client)
    for view in ("photo", "network"):
        answer = client.post("/api/export/face", json=edit(photo, view=view))
        assert picture(answer).shape == (SIZE, SIZE, 3)
        assert "anna.face.png" in answer.headers["content-disposition"]


def test_label_files_make_the_round_trip_in_colours(client):
    labels = np.random.default_rng(0).integers(0, 11, (SIZE, SIZE), dtype=np.uint8)
    answer = client.post("/api/labels/encode", content=labels.tobytes())
    shown = Image.open(io.BytesIO(answer.content))
    np.testing.assert_array_equal(np.array(shown.convert("RGB")), COLOURS[labels])
    back = client.post("/api/labels/decode", params={"name": "m.png"}, content=answer.content)
    assert back.content == labels.tobytes()


def test_the_photo_not_used_for_longest_goes_with_its_file(client, monkeypatch):
    monkeypatch.setattr(session, "PHOTOS", 3)
    first, second, third = (opened(client, name=f"{n}.png") for n in "abc")

    def status(photo):
        return client.get(f"/api/photos/{photo['id']}/labels").status_code

    status(first)  # used again
    opened(client, name="d.png")
    assert [status(photo) for photo in (first, second, third)] == [200, 404, 200]
    assert len(list(client.folder.iterdir())) == 3


def test_the_network_runs_one_call_at_a_time(client, editor, monkeypatch):
    photo = opened(client)
    running, most = [], []
    render = editor.render

    def watched(*arguments):
        running.append(1)
        most.append(len(running))
        threading.Event().wait(0.02)
        running.pop()
        return render(*arguments)

    monkeypatch.setattr(editor, "render", watched)
    threads = [
        threading.Thread(target=client.post, args=("/api/render",), kwargs={"json": edit(photo)}) for _ in "1234"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_one_photo_at_a_time_is_decoded(client, monkeypatch):
    running, most = [], []
    find = session._find_faces

    def watched(*arguments):
        running.append(1)
        most.append(len(running))
        threading.Event().wait(0.05)
        running.pop()
        return find(*arguments)

    monkeypatch.setattr(session, "_find_faces", watched)
    threads = [threading.Thread(target=opened, args=(client,)) for _ in "1234"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


@pytest.mark.parametrize("kind", ["photo", "change"])
def test_files_are_exported_while_no_other_is_decoded(client, monkeypatch, kind):
    photo, held, reopen = opened(client), [], session.Photo.reopen

    def watched(opened_photo):
        held.append(DECODE_LOCK.locked())
        return reopen(opened_photo)

    monkeypatch.setattr(session.Photo, "reopen", watched)
    assert client.post(f"/api/export/{kind}", json=edit(photo)).status_code == 200
    assert held and all(held)


def test_16_bits_are_converted_for_jpeg_if_that_is_allowed(client):
    deep = pyvips.Image.new_from_array(np.asarray(portrait_pixels(), np.uint16) * 257).copy(interpretation="rgb16")
    photo = opened(client, data=deep.pngsave_buffer())
    assert (photo["format"], photo["bits"], photo["opacity"]) == ("png", 16, False)
    answer = client.post("/api/export/photo", json=edit(photo, options={"format": "jpg"}))
    assert "16 bits per channel" in refused(answer, 422)
    answer = client.post("/api/export/photo", json=edit(photo, options={"format": "jpg", "convert": True}))
    assert pyvips.Image.new_from_buffer(answer.content, "").format == "uchar"


def test_two_tabs_do_not_meet(client):
    one, two = opened(client), opened(client)
    labels = np.full((SIZE, SIZE), HAIR, np.uint8)
    before = client.post("/api/render", json=edit(two)).json()["image"]
    client.post(f"/api/photos/{one['id']}/labels", content=labels.tobytes())
    client.post("/api/render", json=edit(one, labels))
    assert client.post("/api/render", json=edit(two)).json()["image"] == before


def test_decoding_agrees_with_the_files_other_commands_read(client):
    labels = plain_mask(SIZE)
    data = client.post("/api/labels/encode", content=labels.tobytes()).content
    np.testing.assert_array_equal(decode_labels(data, "x"), labels)
