"""Page object of the Edit tool in headless Chromium."""

import base64
import io
import os
import shutil
import socket
import threading

import numpy as np
import pytest
from api_requests import ONE_TIME_TOKEN, TOKEN
from flat_editor import SIZE, encoded, portrait_pixels
from maskgan.studio.server import create_tool
from maskgan.studio.session import EditSession
from PIL import Image
from retouch_common.parsing.labels import COLOURS, read_labels
from retouch_common.studio.cli import server_config
from retouch_common.studio.server import create_app
from retouch_common.studio.tools import ToolContext

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 30_000  # ms


class EditPage:
    def __init__(self, page, files):
        self.page, self.files = page, files
        self.refusals = False  # expected: a browser notes refused requests on its console

    def choose(self, selector, *paths):
        with self.page.expect_file_chooser() as chooser:
            self.page.click(selector)
        chooser.value.set_files([str(path) for path in paths])

    def keys(self, *names):
        for name in names:
            self.page.keyboard.press(name)

    def at(self, x, y):
        """Where a pixel of the mask is on the screen."""
        box = self.page.locator("#world").bounding_box()
        return box["x"] + (x + 0.5) * box["width"] / SIZE, box["y"] + (y + 0.5) * box["height"] / SIZE

    def click(self, x, y, **options):
        self.page.mouse.click(*self.at(x, y), **options)

    def stroke(self, *points):
        self.page.mouse.move(*self.at(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.at(*point))
        self.page.mouse.up()

    def brush(self, size):
        self.page.fill("#size", str(size))

    def download(self, selector):
        with self.page.expect_download() as download:
            self.page.click(selector)
        path = self.files / download.value.suggested_filename
        download.value.save_as(path)
        return path

    def exported(self):
        """The mask as the page's file has it."""
        return read_labels(self.download("#export-mask"))

    def mask(self):
        """The mask as the page shows it: quicker."""
        shown = pixels(self.page.locator("#labels").evaluate("(canvas) => canvas.toDataURL()"))
        classes = (shown[:, :, None] == COLOURS).all(axis=3)
        assert classes.sum(axis=2).max() == classes.sum(axis=2).min() == 1
        return classes.argmax(axis=2).astype(np.uint8)

    def unsaved(self):
        """Whether the page would warn before it is closed."""
        return self.page.evaluate("() => !window.dispatchEvent(new Event('beforeunload', { cancelable: true }))")

    def rendered(self, since=-1):
        """Wait for a picture newer than a revision, with no other on its way; its revision."""
        self.page.wait_for_function(
            "since => document.querySelector('#result').dataset.state === 'ready'"
            " && Number(document.querySelector('#result').dataset.revision) > since"
            " && !document.querySelector('#latency').classList.contains('busy')",
            arg=since,
        )
        return int(self.page.locator("#result").get_attribute("data-revision"))

    def shown(self, which="#after"):
        """A picture's pixels, (V, V, 3)."""
        drawn = self.page.locator(which).evaluate(
            "async (img) => { await img.decode(); const c = document.createElement('canvas');"
            " c.width = img.naturalWidth; c.height = img.naturalHeight;"
            " c.getContext('2d').drawImage(img, 0, 0); return c.toDataURL(); }"
        )
        return pixels(drawn).astype(int)

    def notice(self):
        self.page.wait_for_selector("#notice", state="visible")
        return self.page.locator("#notice-text").text_content()


def pixels(address):
    """Of a canvas's data: address, (H, W, 3)."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))[..., :3]


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
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def address(tmp_path, editor):
    import uvicorn

    folder = tmp_path / "uploads"
    folder.mkdir()
    context = ToolContext(folder=folder)
    app = create_app([create_tool(lambda: EditSession(editor), context)], context, TOKEN, one_time_token=ONE_TIME_TOKEN)
    config = server_config(app)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def files(tmp_path):
    for name, seed in (("anna.png", 0), ("ben.png", 5)):
        (tmp_path / name).write_bytes(encoded(portrait_pixels(seed)))
    return tmp_path


@pytest.fixture
def edit_page(browser, address, files):
    """The page with anna.png open. At the end there may be no errors except expected refusals."""
    browser_context = browser.new_context(viewport={"width": 1280, "height": 800}, has_touch=True)
    browser_context.set_default_timeout(PATIENCE)
    page = browser_context.new_page()
    console_errors, asked = [], []
    page.on("console", lambda message: console_errors.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: console_errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}/?token={TOKEN}")
    page.wait_for_url(f"{address}/edit/")
    page.wait_for_selector("html[data-ready]")
    edit_page = EditPage(page, files)
    edit_page.choose("#open", files / "anna.png")
    edit_page.rendered()
    yield edit_page
    if not edit_page.refusals:
        assert console_errors == []
    assert asked and all(url.startswith((address, "data:", "blob:")) for url in asked)
    browser_context.close()
