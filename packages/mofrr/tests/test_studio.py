"""The Restore tool: what was found, shares of the experts, and that its export is the command's; and its page."""

import base64
import os
import shutil
import socket
import threading

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
from starlette.testclient import TestClient

ROOT, TOKEN = "http://127.0.0.1:8765", "shown-in-the-terminal"
BOX = (110.0, 80.0, 60.0, 80.0)
HEIGHT, WIDTH = 260, 340
UNKNOWN = np.full((5, 2), np.nan, np.float32)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


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


@pytest.fixture(scope="module")
def browser():
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        line = f"no Chromium here (looked for {', '.join(NAMES)})"
        if os.environ.get("RETOUCH_BROWSER") == "required":
            pytest.fail(f"{line}, and RETOUCH_BROWSER=required")
        pytest.skip(line)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, app, tmp_path):
    """The page with anna.png open. In the end nothing may have gone wrong."""
    import uvicorn
    from retouch_common.studio.cli import server_config

    (tmp_path / "anna.png").write_bytes(encoded(pixels()))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(server_config(app))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(30_000)
        complaints = []
        page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/?token={TOKEN}")
        page.wait_for_selector("html[data-ready]")
        with page.expect_file_chooser() as chooser:
            page.click("#open")
        chooser.value.set_files(str(tmp_path / "anna.png"))
        rendered(page)
        yield page
        assert complaints == []
        page.close()
        server.should_exit = True
        thread.join()


def rendered(page, since=-1):
    page.wait_for_function(
        "since => document.querySelector('#stage').dataset.state === 'ready'"
        " && Number(document.querySelector('#stage').dataset.revision) > since"
        " && !document.querySelector('#latency').classList.contains('busy')",
        arg=since,
    )
    return int(page.locator("#stage").get_attribute("data-revision"))


def shown(page, which):
    drawn = page.locator(which).evaluate(
        "async (img) => { await img.decode(); const c = document.createElement('canvas'); c.width = img.naturalWidth;"
        " c.height = img.naturalHeight; c.getContext('2d').drawImage(img, 0, 0); return c.toDataURL(); }"
    )
    return decoded(base64.b64decode(drawn.partition(",")[2]))


def test_experts_are_switched_and_weighed_on_the_page(page):
    assert page.locator("#caution").is_visible() and "not evidence" in page.locator("#caution").text_content()
    revision = rendered(page)
    for box in page.locator(".expert input[type=checkbox]").all():
        if box.is_checked():
            box.uncheck()
            revision = rendered(page, revision)
    assert np.abs(shown(page, "#after") - shown(page, "#before")).max() <= 3
    page.locator(".expert[data-name=white] input[type=checkbox]").check()
    revision = rendered(page, revision)
    whole = np.abs(shown(page, "#after") - shown(page, "#before")).sum()
    assert whole > 0 and page.locator(".expert[data-name=white] output").text_content() == "100 %"
    assert "certain" in page.locator(".expert[data-name=white] p").text_content()
    page.locator(".expert[data-name=white] input[type=range]").fill("30")
    revision = rendered(page, revision)
    assert np.abs(shown(page, "#after") - shown(page, "#before")).sum() < whole
    page.keyboard.press("Control+z")
    rendered(page, revision)
    assert page.locator(".expert[data-name=white] output").text_content() == "100 %"
    with page.expect_download() as download:
        page.click("#export")
    assert download.value.suggested_filename == "anna.restored.png"


def test_axe_finds_nothing(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    results = axe.run(page)
    assert results.violations_count == 0, results.generate_report()
