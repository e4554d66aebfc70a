"""Page object of the Edit tool in headless Chromium."""

from dataclasses import replace

import numpy as np
import pytest
from flat_editor import SIZE, encoded, portrait_pixels
from maskgan.studio.server import create_tool
from maskgan.studio.session import EditSession
from retouch_common.parsing.labels import COLOURS, read_labels
from retouch_common.studio.server import create_app
from retouch_common.studio.tools import ToolContext
from retouch_common.testing.studio import ONE_TIME_TOKEN, TOKEN, ToolPage, chromium, decode_data_url, open_tool, serve


class EditPage(ToolPage):
    name, plane, result, size = "edit", "#world", "#result", (SIZE, SIZE)

    def brush(self, size):
        self.page.fill("#size", str(size))

    def exported(self):
        """The mask as the page's file has it."""
        return read_labels(self.download("#export-mask"))

    def mask(self):
        """The mask as the page shows it: quicker."""
        shown = decode_data_url(self.page.locator("#labels").evaluate("(canvas) => canvas.toDataURL()"))
        classes = (shown[:, :, None] == COLOURS).all(axis=3)
        assert classes.sum(axis=2).max() == classes.sum(axis=2).min() == 1
        return classes.argmax(axis=2).astype(np.uint8)

    def unsaved(self):
        """Whether the page would warn before it is closed."""
        return self.page.evaluate("() => !window.dispatchEvent(new Event('beforeunload', { cancelable: true }))")

    def notice(self):
        self.page.wait_for_selector("#notice", state="visible")
        return self.page.locator("#notice-text").text_content()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def address(tmp_path, editor):
    folder = tmp_path / "uploads"
    folder.mkdir()
    context = ToolContext(folder=folder)
    tool = create_tool(lambda: EditSession(editor), context)
    with serve(create_app([tool], context, TOKEN, one_time_token=ONE_TIME_TOKEN)) as address:
        yield address


@pytest.fixture
def files(tmp_path):
    for name, seed in (("anna.png", 0), ("ben.png", 5)):
        (tmp_path / name).write_bytes(encoded(portrait_pixels(seed)))
    return tmp_path


@pytest.fixture
def edit_page(browser, address, files):
    """The page with anna.png open."""
    with open_tool(EditPage, browser, address, files / "anna.png", height=800) as page:
        yield page


@pytest.fixture
def edit_page_of_two(browser, files, editor):
    """As edit_page, in a studio that has a second tool."""
    context = ToolContext(folder=files)
    tool = create_tool(lambda: EditSession(editor), context)
    tools = [tool, replace(tool, name="second", title="Second", order=tool.order + 1)]
    with (
        serve(create_app(tools, context, TOKEN, one_time_token=ONE_TIME_TOKEN)) as address,
        open_tool(EditPage, browser, address, files / "anna.png", height=800) as page,
    ):
        yield page
