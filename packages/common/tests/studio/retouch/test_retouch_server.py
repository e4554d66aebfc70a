"""What the Retouch tool's page asks the server for: photos in, views, what steps amount to, files out."""

import base64
import io
import json
import os
import sys
import threading

import numpy as np
import pytest
import pyvips
from drawn_network import FACE, HEIGHT, MOLE, OUTSIDE, PATCH, SPOT, WIDTH, DrawnNetwork, decoded, encoded, pixels
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from retouch_common.inference.recipe import Recipe
from retouch_common.inference.recipe_retouching import apply_recipe
from retouch_common.photo.io import Photo
from retouch_common.studio.files import DECODE_LOCK

OFF = {"step": "blemish", "at": list(MOLE), "on": False}
PROTECT = {"step": "protect", "radius": 20, "points": [[PATCH[0], PATCH[1] - 3], [PATCH[0], PATCH[1] + 3]]}


def opened(client, data=None, name="anna.png", **query):
    data = encoded(pixels()) if data is None else data
    answer = client.post("/api/photos", params={"name": name, **query}, content=data)
    assert answer.status_code == 200, answer.text
    return answer.json()


def request_body(photo, *steps, **more):
    return {"photo": photo["id"], "network": "drawn", "steps": list(steps), "time": "2026-01-02T03:04:05+00:00", **more}


def view(client, photo, *steps, window=(0, 0, WIDTH, HEIGHT), size=None):
    content = request_body(photo, *steps, window=list(window), size=list(size or window[2:]))
    answer = client.post("/api/view", json=content)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/jpeg"
    return decoded(answer.content)


def before(client, photo, window=(0, 0, WIDTH, HEIGHT), size=None):
    names = ("x", "y", "w", "h", "width", "height")
    query = dict(zip(names, (*window, *(size or window[2:])), strict=True))
    return decoded(client.get(f"/api/photos/{photo['id']}/before", params=query).content)


def test_about_names_networks_and_formats(client):
    about = client.get("/api/about").json()
    assert [network["name"] for network in about["networks"]] == ["drawn", "other"]
    assert about["networks"][0]["overlays"] == {"heat": "Heat", "layer": "Layer"}
    assert [network["whole_photo"] for network in about["networks"]] == [True, False]
    assert list(about["formats"]) == ["jpg", "png", "tif", "webp", "avif"]
    assert about["formats"]["avif"] == {"quality": 90, "bits": 12, "alpha": True}
    assert about["formats"]["tif"]["quality"] is None and not about["formats"]["jpg"]["alpha"]


def test_a_photo_is_described(client):
    photo = opened(client)
    assert (photo["name"], photo["width"], photo["height"], photo["bits"]) == ("anna.png", WIDTH, HEIGHT, 8)
    faces = client.get(f"/api/photos/{photo['id']}/faces").json()["faces"]
    assert faces == [{"box": list(FACE.box), "on": True}] and photo["recipe"] is None
    assert photo["factor"] == 1 and not photo["beside"]


def test_views_show_before_and_after(client):
    photo = opened(client)
    np.testing.assert_allclose(before(client, photo), pixels(), atol=3)
    added = view(client, photo) - before(client, photo)
    assert added[MOLE[::-1]] == pytest.approx(60, abs=4) and added[PATCH[::-1]] == pytest.approx(40, abs=4)
    assert np.abs(added[:50]).max() <= 3
    part = view(client, photo, window=(140, 90, 40, 30))
    np.testing.assert_allclose(part, view(client, photo)[90:120, 140:180], atol=6)
    assert view(client, photo, size=(180, 150)).shape == (150, 180, 3)
    view(client, photo, OFF)
    assert DrawnNetwork.runs == 1  # what it found is kept


def test_what_the_steps_amount_to(client):
    photo = opened(client)
    state = client.post("/api/state", json=request_body(photo)).json()
    assert state["strength"] == 1 and state["faces"] == [{"box": list(FACE.box), "on": True}]
    assert {blemish["size"] for blemish in state["blemishes"]} == {"small", "medium", "large"}
    assert all(blemish["on"] for blemish in state["blemishes"])
    off = {"step": "size", "size": "small", "on": False}
    half = {"step": "strength", "value": 0.5}
    state = client.post("/api/state", json=request_body(photo, OFF, off, half)).json()
    assert {blemish["size"]: blemish["on"] for blemish in state["blemishes"]} == {
        "small": False, "medium": False, "large": True,
    }  # fmt: skip
    assert state["sizes"]["small"] == {"count": 1, "on": 0} and state["strength"] == 0.5
    state = client.post("/api/state", json=request_body(photo, {"step": "face", "face": 0, "on": False})).json()
    assert state["blemishes"] == [] and not state["faces"][0]["on"]


def test_steps_are_seen(client):
    photo = opened(client)
    base = before(client, photo)
    added = view(client, photo, OFF, PROTECT) - base
    assert abs(added[MOLE[::-1]]).max() <= 3 and abs(added[PATCH[::-1]]).max() <= 3
    assert added[SPOT[::-1]].max() > 30
    framed = view(client, opened(client, encoded(pixels()[:, :350])), {"step": "add_face", "box": list(FACE.box)},
                  window=(0, 0, 350, HEIGHT))  # fmt: skip
    assert framed[95, 145].max() > 120


def test_the_export_is_what_the_command_replays_byte_for_byte(client, tmp_path):
    photo = opened(client, encoded(pixels(), ".jpg"), "anna.jpg")
    steps = [OFF, PROTECT, {"step": "strength", "value": 0.8}]
    exported = client.post("/api/export", json=request_body(photo, *steps, options={"format": "png"}))
    assert exported.headers["content-disposition"] == "attachment; filename*=UTF-8''anna.retouched.png"
    recipe = client.post("/api/recipe", json=request_body(photo, *steps))
    assert "anna.recipe.json" in recipe.headers["content-disposition"]
    (tmp_path / "anna.jpg").write_bytes(encoded(pixels(), ".jpg"))
    (tmp_path / "anna.recipe.json").write_bytes(recipe.content)
    read = Recipe.read(tmp_path / "anna.recipe.json")
    assert read.name == "anna.jpg" and read.weights == "a" * 64
    apply_recipe(read, DrawnNetwork("cpu"), tmp_path / "anna.jpg", tmp_path / "replayed.png")
    assert (tmp_path / "replayed.png").read_bytes() == exported.content


@pytest.mark.parametrize("width", [WIDTH, WIDTH - 10])
def test_the_whole_photo(client, width, tmp_path, refused):
    data = encoded(pixels()[:, :width])
    photo, whole = opened(client, data), {"step": "region", "value": "photo"}
    base = before(client, photo, (0, 0, width, HEIGHT))
    added = view(client, photo, whole, PROTECT, window=(0, 0, width, HEIGHT)) - base
    assert added[OUTSIDE[::-1]].min() > 50 and abs(added[PATCH[::-1]]).max() <= 3
    state = client.post("/api/state", json=request_body(photo, whole)).json()
    assert state["region"] == "photo" and len(state["blemishes"]) == 4
    (part,) = client.post("/api/overlay", json=request_body(photo, whole, name="heat")).json()["parts"]
    assert part["box"] == [0, 0, width, HEIGHT]
    exported = client.post("/api/export", json=request_body(photo, whole, OFF, PROTECT)).content
    recipe = Recipe.from_json(client.post("/api/recipe", json=request_body(photo, whole, OFF, PROTECT)).json())
    (tmp_path / "anna.png").write_bytes(data)
    apply_recipe(recipe, DrawnNetwork("cpu"), tmp_path / "anna.png", tmp_path / "replayed.png")
    assert (tmp_path / "replayed.png").read_bytes() == exported
    answer = client.post("/api/state", json=request_body(photo, whole) | {"network": "other"})
    assert "other retouches faces" in refused(answer, 422)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif", None])
def test_formats_and_depth(client, suffix, tmp_path):
    """Without a quality the export is what the command replays with its default options."""
    deep = (pixels().astype(np.uint16) * 257) if suffix in ("png", "tif", None) else pixels()
    photo = opened(client, encoded(deep), "anna.png")
    answer = client.post("/api/export", json=request_body(photo, options={"format": suffix}))
    assert answer.status_code == 200, answer.text
    assert f"anna.retouched.{suffix or 'png'}" in answer.headers["content-disposition"]
    stored = pyvips.Image.new_from_buffer(answer.content, "")
    assert stored.format == ("ushort" if deep.dtype == np.uint16 else "uchar")
    if deep.dtype == np.uint16:
        added = stored.numpy().astype(int) - deep
        assert added[MOLE[::-1]][0] == 60 * 257 and not added[:50].any()
    recipe = Recipe.from_json(client.post("/api/recipe", json=request_body(photo)).json())
    (tmp_path / "anna.png").write_bytes(encoded(deep))
    replayed = tmp_path / f"replayed.{suffix or 'png'}"
    apply_recipe(recipe, DrawnNetwork("cpu"), tmp_path / "anna.png", replayed)
    assert replayed.read_bytes() == answer.content


@pytest.mark.parametrize("suffix", ["jpg", "webp", "avif"])
@pytest.mark.parametrize("kind", ["16 bits", "transparency"])
def test_what_a_format_cannot_hold_is_converted_if_that_is_allowed(client, suffix, kind, refused):
    if kind == "16 bits":
        levels = pixels().astype(np.uint16) * 257
    else:
        levels = np.dstack([pixels(), np.full((HEIGHT, WIDTH), 128, np.uint8)])
    photo = opened(client, encoded(levels))
    assert (photo["bits"], photo["opacity"]) == ((16, False) if kind == "16 bits" else (8, True))

    def export(**options):
        return client.post("/api/export", json=request_body(photo, options={"format": suffix, **options}))

    if kind == "16 bits" or suffix == "jpg":
        assert kind in refused(export(), 422)
    stored = pyvips.Image.new_from_buffer(export(convert=True).content, "")
    assert stored.format == "uchar" and stored.hasalpha() == (kind == "transparency" and suffix != "jpg")
    expected = (pixels().astype(int) + 255) / 2 if kind == "transparency" and suffix == "jpg" else pixels()
    np.testing.assert_allclose(stored.numpy()[:50, ..., :3], expected[:50], atol=6)


@pytest.mark.parametrize("bits", [8, 16])
def test_what_is_only_read_is_exported_as_tiff(client, bits):
    pillow_heif = pytest.importorskip("pillow_heif")
    levels = pixels() if bits == 8 else pixels().astype(np.uint16) * 257
    image, file = (
        pillow_heif.from_bytes("RGB" if bits == 8 else "RGB;16", (WIDTH, HEIGHT), levels.tobytes()),
        io.BytesIO(),
    )
    image.save(file, quality=-1, chroma=444, matrix_coefficients=0)
    photo = opened(client, file.getvalue(), "anna.heic")
    assert (photo["format"], photo["bits"]) == ("tif", bits)
    answer = client.post("/api/export", json=request_body(photo))
    assert "anna.retouched.tif" in answer.headers["content-disposition"]
    assert pyvips.Image.new_from_buffer(answer.content, "").format == ("uchar" if bits == 8 else "ushort")


def test_a_raw_file_is_recognised_by_its_name(client, monkeypatch, refused):
    """It starts like a TIFF file, as which its small preview would be opened."""
    monkeypatch.setitem(sys.modules, "rawpy", None)
    answer = client.post("/api/photos", params={"name": "anna.nef"}, content=encoded(pixels(), ".tif"))
    assert "anna.nef: is a camera raw file (NEF), which needs an extra" in refused(answer, 422)


@pytest.mark.parametrize("path", ["/api/export", "/api/export/change"])
def test_one_photo_at_a_time_is_exported_while_others_are_seen(client, path):
    photo = opened(client)
    view(client, photo)
    exporting = threading.Thread(target=client.post, args=(path,), kwargs={"json": request_body(photo)})
    with DECODE_LOCK:  # as of the export of another photo
        exporting.start()
        seeing = threading.Thread(target=view, args=(client, photo, OFF))
        seeing.start()
        seeing.join(60)
        assert not seeing.is_alive() and exporting.is_alive()
    exporting.join()


def test_metadata_is_kept_or_left_out(client):
    exif = Image.Exif()
    exif[0x010E] = "Anna in Oslo"
    file = io.BytesIO()
    Image.fromarray(pixels()).save(file, "PNG", exif=exif.tobytes())
    photo = opened(client, file.getvalue())

    def exported(**options):
        return client.post("/api/export", json=request_body(photo, options=options)).content

    assert Image.open(io.BytesIO(exported())).getexif()[0x010E] == "Anna in Oslo"
    assert b"compositeWithTrainedAlgorithmicMedia" in exported() and b"2026-01-02T03:04:05" in exported()
    assert b"compositeWithTrained" not in exported(provenance=False)
    assert 0x010E not in Image.open(io.BytesIO(exported(strip="all"))).getexif()


def test_the_answer_names_what_an_export_does_not_carry(client):
    text, file = PngInfo(), io.BytesIO()
    text.add_text("Author", "Anna")
    Image.fromarray(pixels()).save(file, "PNG", pnginfo=text)
    photo = opened(client, file.getvalue())

    def losses(**options):
        answer = client.post("/api/export", json=request_body(photo, options=options))
        return answer.headers.get("x-losses")

    assert losses(format="jpg") == "text%20%28Author%29"
    assert losses() is None and losses(format="jpg", strip="all") is None


def test_the_change_alone(client):
    photo = opened(client)
    answer = client.post("/api/export/change", json=request_body(photo, OFF))
    assert "anna.change.tif" in answer.headers["content-disposition"]
    layer = decoded(answer.content)
    assert (layer[MOLE[::-1]] == 32768).all() and layer[PATCH[::-1]][0] > 33000


def test_a_large_photo_is_shown_by_its_proxy_and_in_full(client, monkeypatch):
    from retouch_common.studio import views

    monkeypatch.setattr(views, "PROXY_SIDE", WIDTH)
    photo = opened(client, encoded(pixels(3)))
    assert photo["factor"] == 3 and photo["width"] == 3 * WIDTH
    large = tuple(3 * value for value in MOLE)
    off = {**OFF, "at": list(large)}
    protect = {**PROTECT, "radius": 60, "points": (3 * np.array(PROTECT["points"])).tolist()}
    whole = (0, 0, 3 * WIDTH, 3 * HEIGHT)
    base = before(client, photo, whole, (WIDTH, HEIGHT))
    added = view(client, photo, window=whole, size=(WIDTH, HEIGHT)) - base
    assert added[MOLE[::-1]] == pytest.approx(60, abs=6) and added[PATCH[::-1]] == pytest.approx(40, abs=6)
    added = view(client, photo, off, protect, window=whole, size=(WIDTH, HEIGHT)) - base
    assert abs(added[MOLE[::-1]]).max() <= 4 and abs(added[PATCH[::-1]]).max() <= 4 and added[SPOT[::-1]].max() > 20
    window = (3 * 140, 3 * 90, 120, 90)
    exported = decoded(client.post("/api/export", json=request_body(photo, off)).content)
    half = exported[2:, 2:].reshape(3 * HEIGHT // 2 - 1, 2, 3 * WIDTH // 2 - 1, 2, 3).mean(axis=(1, 3))
    part = view(client, photo, off, window=(2, 2, 3 * WIDTH - 2, 3 * HEIGHT - 2), size=half.shape[1::-1])
    np.testing.assert_allclose(part, half, atol=8)
    np.testing.assert_allclose(view(client, photo, off, window=window), exported[270:360, 420:540], atol=8)


def test_overlays(client, refused):
    photo = opened(client)
    (part,) = client.post("/api/overlay", json=request_body(photo, name="heat")).json()["parts"]
    assert part["box"] == [120, 60, 100, 120]
    assert Image.open(io.BytesIO(base64.b64decode(part["image"]))).mode == "RGBA"
    assert "no overlay" in refused(client.post("/api/overlay", json=request_body(photo, name="x" * 500)), 422)


def test_a_recipe_beside_the_photo_is_opened_and_written(client, context, tmp_path):
    from retouch_common.studio.files import StoredFile

    path = tmp_path / "anna.png"
    path.write_bytes(encoded(pixels()))
    file = context.files.add(StoredFile(path, str(path), owned=False))
    photo = client.post("/api/photos", params={"file": file.id}).json()
    assert photo["recipe"] is None and photo["beside"]
    saved = client.post("/api/recipe", json=request_body(photo, OFF)).json()["saved"]
    assert saved == str(tmp_path / "anna.recipe.json")
    again = client.post("/api/photos", params={"file": file.id}).json()
    assert again["recipe"] == {"network": "drawn", "steps": [OFF], "time": "2026-01-02T03:04:05+00:00"}
    assert again["notice"] is None
    assert Photo.open(path).read().tobytes() == pixels().tobytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (None, "is not JSON"),
        ({"photo": {"width": 100, "height": 600}, "faces": [], "steps": []}, "for a photo of 100x600"),
        ({"network": "nobody"}, "nobody, which is not installed"),
        ({"photo": {"name": "anna.tif", "width": WIDTH, "height": HEIGHT}}, "it is for anna.tif"),
    ],
)
def test_a_recipe_that_is_not_for_the_photo_stays_as_it_is(client, context, tmp_path, change, words):
    from retouch_common.studio.files import StoredFile

    uploaded = opened(client)
    data = client.post("/api/recipe", json=request_body(uploaded, OFF)).content
    content = b"{" if change is None else json.dumps(json.loads(data) | change).encode()
    path, beside = tmp_path / "anna.png", tmp_path / "anna.recipe.json"
    path.write_bytes(encoded(pixels()))
    (tmp_path / "anna.tif").touch()
    beside.write_bytes(content)
    file = context.files.add(StoredFile(path, str(path), owned=False))
    photo = client.post("/api/photos", params={"file": file.id}).json()
    assert photo["recipe"] is None and words in photo["notice"] and "will not be replaced" in photo["notice"]
    saved = client.post("/api/recipe", json=request_body(photo, OFF))
    assert "anna.recipe.json" in saved.headers["content-disposition"] and json.loads(saved.content)["steps"] == [OFF]
    assert beside.read_bytes() == content


def test_a_recipe_made_with_other_weights_says_so(client):
    photo = opened(client)
    content = client.post("/api/recipe", json=request_body(photo, OFF)).json()

    def send(**change):
        data = json.dumps(content | change).encode()
        return client.post(f"/api/photos/{photo['id']}/recipe", params={"name": "a.json"}, content=data).json()

    assert send()["notice"] is None
    assert "other weights" in send(weights="0" * 64)["notice"]


@pytest.mark.parametrize("kind", ["export", "export/change"])
def test_a_photo_that_changed_on_disk_is_not_exported(client, context, refused, tmp_path, kind):
    """The change was computed from other pixels."""
    from retouch_common.studio.files import StoredFile

    path = tmp_path / "anna.png"
    path.write_bytes(encoded(pixels()))
    file = context.files.add(StoredFile(path, str(path), owned=False))
    photo = client.post("/api/photos", params={"file": file.id}).json()
    assert client.post(f"/api/{kind}", json=request_body(photo)).status_code == 200
    path.write_bytes(encoded(pixels() // 2))
    assert "has changed since it was opened" in refused(client.post(f"/api/{kind}", json=request_body(photo)), 422)


def test_names_that_are_not_utf_8_are_shown(client, context, tmp_path):
    from retouch_common.studio.files import StoredFile, displayed

    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    path.write_bytes(encoded(pixels()))
    file = context.files.add(StoredFile(path, displayed(path), owned=False))
    photo = client.post("/api/photos", params={"file": file.id}).json()
    assert photo["name"] == "caf\N{REPLACEMENT CHARACTER}.png"
    saved = client.post("/api/recipe", json=request_body(photo, OFF)).json()["saved"]
    assert saved.endswith("caf\N{REPLACEMENT CHARACTER}.recipe.json")


def test_a_saved_recipe_is_opened(client, refused):
    photo = opened(client)
    data = client.post("/api/recipe", json=request_body(photo, OFF)).content

    def send(data, **query):
        return client.post(f"/api/photos/{photo['id']}/recipe", params={"name": "a.json"}, content=data)

    described = send(data).json()
    assert described["recipe"]["steps"] == [OFF] and described["recipe"]["network"] == "drawn"
    assert described["id"] != photo["id"]
    content = json.loads(data)
    for change, words in (
        ({"network": "nobody"}, "nobody, which is not installed"),
        ({"photo": {"width": 100, "height": 600}, "faces": [], "steps": []}, "for a photo of 100x600"),
        ({"steps": [{"step": "sing"}]}, "unknown step"),
    ):
        assert words in refused(send(json.dumps(content | change).encode()), 422)
    assert "a.json: is not JSON" in refused(send(b"{"), 422)


def test_requests_that_make_no_sense_are_refused(client, refused):
    photo = opened(client)

    def line(path, status=422, **content):
        return refused(client.post(path, json=request_body(photo) | content), status)

    assert "unknown network nobody" in line("/api/state", network="nobody")
    assert "list" in line("/api/state", steps={"a": 1})
    assert "unknown step" in line("/api/state", steps=[{"step": "sing" * 1000}])
    assert len(line("/api/state", steps=[{"step": "sing" * 1000}])) < 300
    assert "damaged" in line("/api/state", steps=["x"])
    assert "not inside" in line("/api/view", window=[0, 0, WIDTH + 1, 5], size=[5, 5])
    assert "six integers" in line("/api/view", window=[0, 0, "a", 5], size=[5, 5])
    assert "six integers" in line("/api/view", window=3, size=[5, 5])
    assert "at most 4096" in line("/api/view", window=[0, 0, 5, 5], size=[5000, 5])
    assert "unknown format bmp" in line("/api/export", options={"format": "bmp"})
    assert "quality" in line("/api/export", options={"quality": 101})
    assert "strip" in line("/api/export", options={"strip": "x"})
    assert "open it again" in line("/api/state", status=404, photo="nobody")
    assert "not JSON" in refused(client.post("/api/state", content=b"{"), 422)


def test_what_is_no_photo_is_refused(client, context, refused):
    answer = client.post("/api/photos", params={"name": "notes.txt"}, content=b"hello, I am text")
    assert refused(answer, 422).startswith("notes.txt: is not a photo")
    answer = client.post("/api/photos?name=big.jpg", content=b"x", headers={"Content-Length": "2000000001"})
    assert "2000 MB" in refused(answer, 413)
    assert not list(context.folder.iterdir())
