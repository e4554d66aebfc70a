"""What the page asks the server for: photographs in, pictures and files out, and everything that is refused."""

import base64
import io
import json
import threading

import numpy as np
import pytest
from flat_editor import HEIGHT, SIZE, WIDTH, encoded, plain_mask, portrait_pixels
from maskgan.components import COMPONENTS
from maskgan.studio.guard import HEADERS
from PIL import Image
from retouch_common.parsing.labels import CLASSES, COLOURS, decode_labels, encode_labels
from retouch_common.photo.faces import DetectorUnavailable
from starlette.testclient import TestClient

ADDRESS = "http://127.0.0.1:8765"
HAIR, SKIN = CLASSES.index("hair"), CLASSES.index("skin")


@pytest.fixture
def client(make_app):
    app, _, folder = make_app()
    client = TestClient(app, base_url=ADDRESS, headers={"Origin": ADDRESS})
    client.folder = folder
    return client


def upload(client, data=None, name="anna.png", **query):
    data = encoded(portrait_pixels()) if data is None else data
    return client.post("/api/photos", params={"name": name, **query}, content=data)


def opened(client, **options):
    answer = upload(client, **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def edit(photo, labels=None, **more):
    labels = plain_mask(SIZE) if labels is None else labels
    return {"photo": photo["id"], "labels": base64.b64encode(labels.tobytes()).decode(), **more}


def picture(answer):
    return np.array(Image.open(io.BytesIO(answer.content)))


def refused(answer, status):
    assert answer.status_code == status, answer.text
    line = answer.json()["error"]
    assert line and "\n" not in line and "Traceback" not in line
    return line


def test_the_page_and_its_files_are_served_with_their_types(client):
    page = client.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    for name, kind in (("main.js", "text/javascript"), ("style.css", "text/css"), ("icon.svg", "image/svg+xml")):
        answer = client.get(f"/{name}")
        assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
    for path in ("/index.html", "/../server.py", "/%2e%2e/server.py", "/nothing"):
        assert client.get(path).status_code == 404


def test_every_answer_is_protected(client):
    photo = opened(client)
    for path in ("/", "/main.js", "/api/about", f"/api/photos/{photo['id']}/face.png", "/nothing"):
        answer = client.get(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "set-cookie" not in answer.headers
    assert "default-src 'self'" in HEADERS["Content-Security-Policy"]


def test_about_says_what_the_page_needs(client):
    about = client.get("/api/about").json()
    assert about["size"] == SIZE and about["classes"] == list(CLASSES) and about["colours"] == COLOURS.tolist()
    assert about["components"] == list(COMPONENTS) and about["photo"] is None


def test_a_photo_is_opened_with_its_face_and_mask(client):
    photo = opened(client)
    assert (photo["name"], photo["width"], photo["height"]) == ("anna.png", WIDTH, HEIGHT)
    assert photo["present"] == dict.fromkeys(COMPONENTS, True)
    assert client.get(f"/api/photos/{photo['id']}").json() == photo
    labels = np.frombuffer(client.get(f"/api/photos/{photo['id']}/labels").content, np.uint8)
    np.testing.assert_array_equal(labels.reshape(SIZE, SIZE), plain_mask(SIZE))
    face = picture(client.get(f"/api/photos/{photo['id']}/face.png"))
    assert face.shape[0] == face.shape[1] >= SIZE  # as sharp as the photo has it


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


@pytest.mark.parametrize(
    "data, name, words",
    [
        (b"", "empty.jpg", "empty.jpg: is empty"),
        (b"hello, I am text", "notes.txt", "notes.txt: is not a photo"),
        (encoded(portrait_pixels()), "wrong.jpg", "wrong.jpg: the name says JPEG but the content is PNG"),
        (encoded(portrait_pixels())[:400], "cut.png", "cut.png: "),
        (encoded(portrait_pixels(width=WIDTH + 1)), "landscape.png", "landscape.png: no face was found"),
    ],
)
def test_what_is_no_portrait_is_refused_in_one_line(client, data, name, words):
    line = refused(upload(client, data, name), 422)
    assert line.startswith(words) and str(client.folder) not in line
    assert not list(client.folder.iterdir())  # nothing stays behind


def test_a_square_picture_without_a_found_face_can_be_opened_as_aligned(client):
    square = encoded(portrait_pixels(height=120, width=120))
    answer = upload(client, square, "face.png")
    assert "no face was found" in refused(answer, 422) and answer.json()["aligned"] is True
    assert opened(client, data=square, name="face.png", aligned="1")["width"] == 120
    assert upload(client, encoded(portrait_pixels(width=WIDTH + 1)), "wide.png").json()["aligned"] is False
    assert "square" in refused(upload(client, aligned="1"), 422)


def test_a_missing_detector_is_said(client, monkeypatch):
    from maskgan.studio import session

    def locate(photo):
        raise DetectorUnavailable("put the weights there")

    monkeypatch.setattr(session, "locate_faces", locate)
    assert "put the weights there" in refused(upload(client), 422)


def test_names_cannot_leave_the_folder(client):
    photo = opened(client, name="../../etc/..\\evil\n.png")
    assert photo["name"] == "evil.png"
    assert [file.parent for file in client.folder.iterdir()] == [client.folder]


def test_an_upload_is_refused_by_what_it_says_of_its_size(make_app):
    app, _, folder = make_app(upload_bytes=5_000_000)
    client = TestClient(app, base_url=ADDRESS)
    answer = client.post("/api/photos?name=big.jpg", content=b"x", headers={"Content-Length": "5000001"})
    assert refused(answer, 413) == "big.jpg: is larger than 5 MB, the most that can be opened here"
    assert not list(folder.iterdir())


def test_an_upload_is_refused_while_it_is_read(make_app):
    app, _, folder = make_app(upload_bytes=100_000)
    sent = []

    def endless():  # chunked: nothing says how much will come
        while len(sent) < 50:
            sent.append(1)
            yield bytes(50_000)

    client = TestClient(app, base_url=ADDRESS)
    assert "0.1 MB" in refused(client.post("/api/photos?name=big.jpg", content=endless()), 413)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "192.168.1.5:8765", "127.0.0.1.evil.example", ""]
)
def test_other_hosts_are_refused(client, host):
    for method, path in (("GET", "/"), ("GET", "/api/about"), ("POST", "/api/photos")):
        assert "this computer" in refused(client.request(method, path, headers={"Host": host}), 403)


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1:8765", "LOCALHOST"])
def test_this_computers_names_are_taken(client, host):
    assert client.get("/api/about", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "https://127.0.0.1:8765"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_pages_requests_are_refused(client, headers):
    photo = opened(client)
    for path in ("/api/photos", "/api/render", "/api/labels/encode", f"/api/photos/{photo['id']}/labels"):
        assert "other pages" in refused(client.post(path, content=b"x", headers=headers), 403)


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


def test_a_mask_that_fits_better_is_another_entry(client):
    photo = opened(client)
    labels = plain_mask(SIZE)
    labels[labels == HAIR] = 0
    other = client.post(f"/api/photos/{photo['id']}/labels", content=labels.tobytes()).json()
    assert other["id"] != photo["id"] and other["present"]["hair"] is False
    assert client.get(f"/api/photos/{other['id']}/labels").content == labels.tobytes()
    assert client.get(f"/api/photos/{photo['id']}").json() == photo


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
    for body in (b"{", b"[]", b"{}", b'{"labels": 3}', b'{"labels": "*", "photo": "x"}'):
        assert "not an edit" in refused(client.post("/api/render", content=body), 422)
    part = {"photo": photo["id"], "amount": 0.5}
    for parts, words in (
        ({"ears": part}, "no component ears"),
        ({"hair": {**part, "amount": 1.5}}, "between 0 and 1"),
        ({"hair": {**part, "amount": float("nan")}}, "between 0 and 1"),
        ({"hair": 3}, "not an edit"),
    ):
        body = edit(photo, parts=parts)

        assert words in refused(client.post("/api/render", content=json.dumps(body)), 422)
    assert "view" in refused(client.post("/api/render", json=edit(photo, view="sideways")), 422)
    assert refused(client.post("/api/render", content=b"x" * 5_000_000), 413)


def test_unknown_photos_are_refused(client):
    photo = opened(client)
    for path in ("/api/photos/nobody", "/api/photos/nobody/face.png", "/api/photos/nobody/labels"):
        assert "open it again" in refused(client.get(path), 404)
    for kind in ("render", "export/photo", "export/face"):
        assert "open it again" in refused(client.post(f"/api/{kind}", json=edit({"id": "nobody"})), 404)
    lent = {"hair": {"photo": "nobody", "amount": 1}}
    assert "open it again" in refused(client.post("/api/render", json=edit(photo, parts=lent)), 404)


def test_the_photo_not_used_for_longest_goes_with_its_file(make_app):
    app, _, folder = make_app(photos=3)
    client = TestClient(app, base_url=ADDRESS)
    first, second, third = (opened(client, name=f"{n}.png") for n in "abc")
    client.get(f"/api/photos/{first['id']}")  # used again
    opened(client, name="d.png")
    assert client.get(f"/api/photos/{second['id']}").status_code == 404
    assert all(client.get(f"/api/photos/{photo['id']}").status_code == 200 for photo in (first, third))
    assert len(list(folder.iterdir())) == 3


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


def test_two_tabs_do_not_meet(client):
    one, two = opened(client), opened(client)
    labels = np.full((SIZE, SIZE), HAIR, np.uint8)
    before = client.post("/api/render", json=edit(two)).json()["image"]
    client.post(f"/api/photos/{one['id']}/labels", content=labels.tobytes())
    client.post("/api/render", json=edit(one, labels))
    assert client.post("/api/render", json=edit(two)).json()["image"] == before


def test_a_failure_of_our_own_is_one_line_too(make_app, editor, monkeypatch):
    app, _, _ = make_app()
    client = TestClient(app, base_url=ADDRESS, raise_server_exceptions=False)
    photo = opened(client)
    monkeypatch.setattr(editor, "render", lambda *arguments: 1 / 0)
    assert "ZeroDivisionError" in refused(client.post("/api/render", json=edit(photo)), 500)


def test_decoding_agrees_with_the_files_other_commands_read(client):
    labels = plain_mask(SIZE)
    data = client.post("/api/labels/encode", content=labels.tobytes()).content
    np.testing.assert_array_equal(decode_labels(data, "x"), labels)
