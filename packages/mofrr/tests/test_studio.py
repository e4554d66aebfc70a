"""The Restore tool: what was found, shares of the experts, and that its export is the command's; and its page."""

import numpy as np
import pytest
import pyvips
from mofrr.restore import CAUTION, Restorer
from retouch_common.faces.face import Face
from retouch_common.inference import face_plan, regions

pytest.importorskip("starlette")
from mofrr.studio.server import create_tool
from mofrr.studio.session import RestoreSession
from retouch_common.studio.server import create_app
from retouch_common.studio.tools import ToolContext
from retouch_common.testing.studio import ROOT, TOKEN, ToolPage, chromium, open_tool, serve
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
    return pyvips.Image.new_from_array(levels).copy(interpretation="srgb").pngsave_buffer()


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


def test_requests_that_make_no_sense_are_refused(client):
    photo = opened(client)
    for steps, words in (
        ([{"step": "sing"}], "no step"), ([share("ears", 1)], "no such face or operation"),
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
    assert "certain" in page.locator(".expert[data-name=white] p").text_content()
    page.locator(".expert[data-name=white] input[type=range]").fill("30")
    revision = restore_page.rendered(revision)
    assert np.abs(restore_page.pixels("#after") - restore_page.pixels("#before")).sum() < whole
    page.keyboard.press("Control+z")
    restore_page.rendered(revision)
    assert page.locator(".expert[data-name=white] output").text_content() == "100 %"
    assert restore_page.download("#export").name == "anna.restored.png"


def test_axe_finds_nothing(restore_page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    results = axe.run(restore_page.page)
    assert results.violations_count == 0, results.generate_report()
