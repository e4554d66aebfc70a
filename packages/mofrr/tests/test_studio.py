"""The Restore tool: what was found, shares of the experts, and that its export is the command's; and its page."""

import threading

import numpy as np
import pytest
import pyvips
from mofrr.restore import CAUTION, Restorer
from retouch_common.faces.face import Face
from retouch_common.inference import face_plan, regions

pytest.importorskip("starlette")
from mofrr.studio import session
from mofrr.studio.server import create_tool
from mofrr.studio.session import RestoreSession
from retouch_common.studio import views
from retouch_common.studio.files import DECODE_LOCK
from retouch_common.studio.server import create_app
from retouch_common.studio.tools import ToolContext
from retouch_common.testing.studio import LONG_NAME, ROOT, TOKEN, WINDOWS, ToolPage, chromium, open_tool, serve
from starlette.testclient import TestClient

BOX = (110.0, 80.0, 60.0, 80.0)
HEIGHT, WIDTH = 260, 340
UNKNOWN = np.full((5, 2), np.nan, np.float32)


@pytest.fixture(autouse=True)
def one_face(monkeypatch):
    """Photographs of WIDTH show a face, others none."""

    def detect(image):
        return [Face(BOX, 0.9, UNKNOWN)] if image.shape[1] == WIDTH else []

    monkeypatch.setattr(regions, "detect_faces", detect)
    monkeypatch.setattr(face_plan, "detect_faces", detect)


def pixels(width=WIDTH):
    y, x = np.mgrid[:HEIGHT, :width]
    values = 0.55 + 0.25 * np.sin(x[..., None] / 31 + y[..., None] / 47 + np.arange(3))
    return np.rint(values * 255).astype(np.uint8)


def encoded(levels):
    space = "rgb16" if levels.dtype == np.uint16 else "srgb"
    return pyvips.Image.new_from_array(levels).copy(interpretation=space).pngsave_buffer()


def decoded(data):
    image = pyvips.Image.new_from_buffer(data, "")
    return image.numpy().reshape(image.height, image.width, image.bands)[..., :3].astype(int)


@pytest.fixture(scope="module")
def restorer(weights):
    return Restorer(weights, device="cpu", precision="fp32")


@pytest.fixture
def app(tmp_path, restorer):
    folder = tmp_path / "uploads"
    folder.mkdir()
    context = ToolContext(folder=folder)
    return create_app([create_tool(lambda: RestoreSession(restorer), context)], context, TOKEN)


@pytest.fixture
def client(app):
    client = TestClient(app, base_url=f"{ROOT}/restore", headers={"Origin": ROOT})
    client.get(f"{ROOT}/", params={"token": TOKEN})
    return client


def opened(client, data=None):
    answer = client.post("/api/photos", params={"name": "anna.png"}, content=data or encoded(pixels()))
    assert answer.status_code == 200, answer.text
    return answer.json()


def request_body(photo, *steps, **more):
    return {"photo": photo["id"], "steps": list(steps), **more}


def share(name, value):
    return {"step": "share", "face": 0, "name": name, "value": value}


def exported(client, photo, *steps):
    answer = client.post("/api/export", json=request_body(photo, *steps))
    assert answer.status_code == 200, answer.text
    assert "anna.restored.png" in answer.headers["content-disposition"]
    return decoded(answer.content)


def test_the_caution_and_the_operations(client):
    about = client.get("/api/about").json()
    assert about["caution"] == CAUTION
    assert [operation["name"] for operation in about["operations"]] == ["white", "smooth", "lift", "eye"]


def test_without_steps_it_is_what_the_restorer_does(client, restorer):
    photo = opened(client)
    wanted = restorer(pixels(), faces=[Face(BOX, 0.9, UNKNOWN)])
    np.testing.assert_array_equal(exported(client, photo), wanted)


def test_what_was_found_is_said(client):
    photo = opened(client)
    state = client.post("/api/state", json=request_body(photo, share("lift", 0.25))).json()
    (face,) = state["faces"]
    assert state["strength"] == 1 and len(face["operations"]) == 4
    for operation in face["operations"]:
        assert 0 <= operation["probability"] <= 1 and 0 <= operation["degree"] <= 5
        assert operation["found"] == (operation["probability"] > 0.5)
    assert face["operations"][2]["share"] == 0.25


def test_shares_and_strength_change_the_face_alone(client):
    photo = opened(client)
    off = [share(name, 0) for name in ("white", "smooth", "lift", "eye")]
    np.testing.assert_array_equal(exported(client, photo, *off), pixels())
    one = exported(client, photo, *off, share("white", 1))
    other = exported(client, photo, *off, share("smooth", 1))
    assert (one != other).any() and (one[:40] == pixels()[:40]).all()
    half = exported(client, photo, *off, share("white", 1), {"step": "strength", "value": 0.5})
    assert np.abs((one - pixels()) / 2 - (half - pixels())).max() <= 1
    content = request_body(photo, *off, share("white", 1), window=[0, 0, WIDTH, HEIGHT], size=[WIDTH, HEIGHT])
    seen = decoded(client.post("/api/view", json=content).content)
    assert np.abs(seen - one).mean() < 3


@pytest.mark.parametrize("provenance", [True, False])
def test_the_export_says_what_was_done_unless_that_is_switched_off(client, provenance):
    content = request_body(opened(client), share("white", 1), options={"provenance": provenance})
    assert (b"mofrr" in client.post("/api/export", json=content).content) == provenance


def test_the_export_names_what_was_undone_in_every_face(two_faces, client, monkeypatch):
    stated, record = [], session.edit_record
    monkeypatch.setattr(session, "edit_record", lambda *given, settings: (
        stated.append(settings["experts"]) or record(*given, settings=settings)
    ))  # fmt: skip
    photo = opened(client)
    off = [share(name, 0) | {"face": face} for name in ("white", "smooth", "lift", "eye") for face in (0, 1)]
    for steps in (off, [*off, share("white", 1)]):
        exported(client, photo, *steps)
    assert stated == ["none; none", "white 1.00; none"]


def test_the_change_alone_gives_the_export_as_linear_light(client):
    photo, steps = opened(client), [share("white", 1), share("smooth", 0)]
    answer = client.post("/api/export/change", json=request_body(photo, *steps))
    assert answer.status_code == 200, answer.text
    assert "anna.change.tif" in answer.headers["content-disposition"]
    layer = decoded(answer.content)
    assert layer.max() > 32768 and (layer[:40] == 32768).all()
    after = np.rint(pixels() + 2 * 255 * (layer / 65535 - 0.5))
    np.testing.assert_array_equal(after, exported(client, photo, *steps))


def test_a_large_photo_is_seen_in_the_resolution_of_the_screen(client, monkeypatch):
    monkeypatch.setattr(views, "PROXY_SIDE", WIDTH // 4)
    photo, steps = opened(client), [share("white", 1), share("smooth", 0)]
    half = exported(client, photo, *steps).reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean(axis=(1, 3))
    content = request_body(photo, *steps, window=[0, 0, WIDTH, HEIGHT], size=[WIDTH // 2, HEIGHT // 2])
    seen = decoded(client.post("/api/view", json=content).content)
    assert np.abs(seen - half).mean() < 3


def test_16_bits_are_converted_for_jpeg_if_that_is_allowed(client):
    photo = opened(client, encoded(pixels().astype(np.uint16) * 257))
    content = request_body(photo, options={"format": "jpg"})
    assert "16 bits per channel" in client.post("/api/export", json=content).json()["error"]
    content["options"]["convert"] = True
    assert decoded(client.post("/api/export", json=content).content).max() < 256


@pytest.mark.parametrize("path", ["/api/export", "/api/export/change"])
def test_one_photo_at_a_time_is_exported_while_others_are_seen(client, path):
    photo = opened(client)
    content = request_body(photo, window=[0, 0, WIDTH, HEIGHT], size=[WIDTH, HEIGHT])
    client.post("/api/view", json=content)
    exporting = threading.Thread(target=client.post, args=(path,), kwargs={"json": request_body(photo)})
    with DECODE_LOCK:  # as of the export of another photo
        exporting.start()
        seeing = threading.Thread(target=client.post, args=("/api/view",), kwargs={"json": content})
        seeing.start()
        seeing.join(60)
        assert not seeing.is_alive() and exporting.is_alive()
    exporting.join()


def test_requests_that_make_no_sense_are_refused(client):
    photo = opened(client)
    for steps, words in (
        ([{"step": "sing"}], "unknown step"), ([share("ears", 1)], "unknown face or operation"),
        ([share("white", 2)], "between 0 and 1"), ([3], "step 1 is damaged"), ({}, "list"),
    ):  # fmt: skip
        answer = client.post("/api/state", json={"photo": photo["id"], "steps": steps})
        assert answer.status_code == 422 and words in answer.json()["error"]
    assert client.post("/api/state", json={"photo": "nobody"}).status_code == 404
    faceless = opened(client, encoded(pixels(300)))
    answer = client.post("/api/state", json=request_body(faceless))
    assert answer.status_code == 422 and "no face was found" in answer.json()["error"]


class RestorePage(ToolPage):
    name = "restore"


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def restore_page(browser, app, tmp_path):
    """The page with anna.png open."""
    photo = tmp_path / "anna.png"
    photo.write_bytes(encoded(pixels()))
    with serve(app) as address, open_tool(RestorePage, browser, address, photo) as page:
        yield page


def test_experts_are_switched_and_weighed_on_the_page(restore_page):
    page = restore_page.page
    assert page.locator("#caution").is_visible() and "not evidence" in page.locator("#caution").text_content()
    revision = restore_page.rendered()
    for box in page.locator(".expert input[type=checkbox]").all():
        if box.is_checked():
            box.uncheck()
            revision = restore_page.rendered(revision)
    assert np.abs(restore_page.pixels("#after") - restore_page.pixels("#before")).max() <= 3
    page.locator(".expert[data-name=white] input[type=checkbox]").check()
    revision = restore_page.rendered(revision)
    whole = np.abs(restore_page.pixels("#after") - restore_page.pixels("#before")).sum()
    assert whole > 0 and page.locator(".expert[data-name=white] output").text_content() == "100 %"
    notes = page.locator(".expert p").all_text_contents()
    assert notes and all("certain" in note for note in notes)
    assert all(("degree" in note) == note.startswith("found") for note in notes)
    assert page.get_by_role("heading", name="Operations to undo").is_visible()
    page.locator(".expert[data-name=white] input[type=range]").fill("30")
    revision = restore_page.rendered(revision)
    assert np.abs(restore_page.pixels("#after") - restore_page.pixels("#before")).sum() < whole
    page.keyboard.press("Control+z")
    restore_page.rendered(revision)
    assert page.locator(".expert[data-name=white] output").text_content() == "100 %"
    exported = restore_page.download("#export")
    assert exported.name == "anna.restored.png" and b"mofrr" in exported.read_bytes()
    page.locator("#provenance").uncheck()
    assert b"mofrr" not in restore_page.download("#export").read_bytes()
    assert restore_page.download("#export-change").name == "anna.change.tif"


def test_the_photo_as_it_was_is_seen_while_the_button_is_held(restore_page):
    page = restore_page.page
    clip = "getComputedStyle(document.querySelector('#before-layer')).clipPath"
    page.locator("#hold").focus()
    page.keyboard.down(" ")
    assert "100%" not in page.evaluate(clip)
    page.keyboard.up(" ")
    assert "100%" in page.evaluate(clip)
    page.click("#zoom-full")
    assert page.locator("#zoom").text_content() == "100 %"


def test_the_steps_are_there_again_when_the_photo_is_opened_again_by_its_tab(restore_page):
    page, revision = restore_page.page, restore_page.rendered()
    page.locator("#strength").fill("40")
    restore_page.rendered(revision)
    file = page.evaluate("Object.keys(sessionStorage)[0].split(' ').at(-1)")
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"{page.url}?file={file}")
    page.wait_for_selector("html[data-ready]")
    assert page.locator("#strength").input_value() == "40" and page.locator("#undo").is_enabled()


def test_it_fits_small_windows_and_tablets(restore_page):
    (restore_page.folder / LONG_NAME).write_bytes(encoded(pixels()))
    restore_page.choose("#open", restore_page.folder / LONG_NAME)
    restore_page.page.locator("#photo-name", has_text=LONG_NAME).wait_for()
    for width, height in WINDOWS:
        restore_page.require_fit(width, height, "#export", ".result-panel", "#caution")


@pytest.mark.parametrize("detected", ["one_face", "two_faces"])
def test_axe_finds_nothing(request, detected):
    request.getfixturevalue(detected)
    restore_page = request.getfixturevalue("restore_page")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    results = axe.run(restore_page.page)
    assert results.violations_count == 0, results.generate_report()


@pytest.fixture
def two_faces(monkeypatch):
    faces = [Face(BOX, 0.9, UNKNOWN), Face((8.0, 8.0, 36.0, 44.0), 0.9, UNKNOWN)]
    monkeypatch.setattr(face_plan, "detect_faces", lambda image: faces)
    monkeypatch.setattr(regions, "detect_faces", lambda image: faces)


def test_a_face_of_several_is_chosen_in_the_photo_or_by_keys(two_faces, restore_page):
    """Each has its own experts."""
    page, revision = restore_page.page, restore_page.rendered()
    faces, chips = page.get_by_role("group", name="Face", exact=True), page.locator("#face-frames button")
    assert chips.all_text_contents() == ["Face 1", "Face 2"] and chips.first.get_attribute("aria-pressed") == "true"
    boxes = [page.locator(".face-frame").nth(index).bounding_box() for index in range(2)]
    assert boxes[0]["width"] > boxes[1]["width"] and boxes[0]["x"] > boxes[1]["x"]
    white = page.locator(".expert[data-name=white] input[type=checkbox]")
    of_first = white.is_checked()
    chips.nth(1).click()
    second = faces.get_by_role("radio", name="Face 2 of 2")
    assert second.is_checked() and chips.nth(1).get_attribute("aria-pressed") == "true"
    of_second = not white.is_checked()
    white.set_checked(of_second)
    restore_page.rendered(revision)
    second.focus()
    page.keyboard.press("ArrowLeft")
    first = faces.get_by_role("radio", name="Face 1 of 2")
    assert first.is_checked() and first.evaluate("(radio) => radio === document.activeElement")
    assert white.is_checked() == of_first
    page.keyboard.press("ArrowRight")
    assert second.is_checked() and white.is_checked() == of_second
