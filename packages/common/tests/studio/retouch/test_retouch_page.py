"""The Retouch tool in headless Chromium, by what a person does; a stand-in is the network."""

import base64
import json
import os
import shutil
import socket
import threading

import numpy as np
import pytest
from drawn_network import HEIGHT, MOLE, PATCH, SPOT, WIDTH, DrawnNetwork, decoded, encoded, pixels
from retouch_common.inference.recipe import Recipe, apply_recipe

TOKEN = "shown-in-the-terminal"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
PATIENCE = 30_000  # ms


class Hands:
    """The page, and hands to use it with."""

    def __init__(self, page, files):
        self.page, self.files = page, files

    def choose(self, selector, path):
        with self.page.expect_file_chooser() as chooser:
            self.page.click(selector)
        chooser.value.set_files(str(path))

    def keys(self, *names):
        for name in names:
            self.page.keyboard.press(name)

    def at(self, x, y):
        """Where a pixel of the photo is on the screen."""
        box = self.page.locator("#after-layer .world").bounding_box()
        return box["x"] + (x + 0.5) * box["width"] / WIDTH, box["y"] + (y + 0.5) * box["height"] / HEIGHT

    def stroke(self, *points):
        self.page.mouse.move(*self.at(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.at(*point))
        self.page.mouse.up()

    def rendered(self, since=-1):
        self.page.wait_for_function(
            "since => document.querySelector('#stage').dataset.state === 'ready'"
            " && Number(document.querySelector('#stage').dataset.revision) > since"
            " && !document.querySelector('#latency').classList.contains('busy')",
            arg=since,
        )
        return int(self.page.locator("#stage").get_attribute("data-revision"))

    def shown(self, which="#after"):
        """The pixels of the whole photo's image, at the photo's size."""
        drawn = self.page.locator(which).evaluate(
            f"async (img) => {{ await img.decode(); const c = document.createElement('canvas');"
            f" c.width = {WIDTH}; c.height = {HEIGHT};"
            f" c.getContext('2d').drawImage(img, 0, 0, {WIDTH}, {HEIGHT}); return c.toDataURL(); }}"
        )
        return decoded(base64.b64decode(drawn.partition(",")[2]))

    def added(self):
        return (self.shown() - self.shown("#before"))[..., 0]

    def steps(self):
        return self.page.locator("#steps button").all_text_contents()

    def download(self, selector):
        with self.page.expect_download() as download:
            self.page.click(selector)
        path = self.files / download.value.suggested_filename
        download.value.save_as(path)
        return path


@pytest.fixture(scope="module")
def browser():
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        line = f"no Chromium here (looked for {', '.join(NAMES)})"
        if os.environ.get("RETOUCH_BROWSER") == "required":
            pytest.fail(f"{line}, and RETOUCH_BROWSER=required")
        pytest.skip(line)
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def address(app):
    import uvicorn
    from retouch_common.studio.cli import configuration

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(configuration(app))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def hands(browser, address, tmp_path):
    """The page with anna.png open. In the end nothing may have gone wrong, and nothing been loaded from elsewhere."""
    (tmp_path / "anna.png").write_bytes(encoded(pixels()))
    context = browser.new_context(viewport={"width": 1280, "height": 720}, has_touch=True)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    complaints, loaded = [], []
    page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: loaded.append(request.url))
    page.goto(f"{address}/?token={TOKEN}")
    page.wait_for_url(f"{address}/retouch/")
    page.wait_for_selector("html[data-ready]")
    hands = Hands(page, tmp_path)
    hands.choose("#open", tmp_path / "anna.png")
    hands.rendered()
    yield hands
    assert complaints == []
    assert loaded and all(url.startswith((address, "data:", f"blob:{address}")) for url in loaded)
    context.close()


def test_a_retouch_from_opening_to_the_bytes_of_the_command(hands):
    """Open, bring one mole back, protect a scar, compare, export, replay the recipe."""
    added = hands.added()
    assert added[MOLE[::-1]] > 45 and added[PATCH[::-1]] > 30
    assert "3 of 3 blemishes removed" in hands.page.locator("#under").text_content()
    hands.keys("o")
    revision = hands.rendered()
    hands.page.mouse.click(*hands.at(*MOLE))
    revision = hands.rendered(revision)
    added = hands.added()
    assert abs(added[MOLE[::-1]]) < 6 and added[PATCH[::-1]] > 30
    assert "2 of 3" in hands.page.locator("#under").text_content()
    hands.keys("b")
    hands.page.fill("#radius", "20")
    hands.stroke((PATCH[0] - 4, PATCH[1]), (PATCH[0] + 4, PATCH[1]))
    hands.rendered(revision)
    assert abs(hands.added()[PATCH[::-1]]) < 6
    assert hands.steps() == ["As found", "Blemish brought back", "Protected"]
    divider = hands.page.locator("#divider")
    divider.focus()
    hands.keys("ArrowRight")
    assert divider.get_attribute("aria-valuenow") == "5"
    exported, recipe = hands.download("#export"), hands.download("#save-recipe")
    assert (exported.name, recipe.name) == ("anna.retouched.png", "anna.recipe.json")
    replayed = hands.files / "replayed.png"
    apply_recipe(Recipe.read(recipe), DrawnNetwork("cpu"), hands.files / "anna.png", replayed)
    assert replayed.read_bytes() == exported.read_bytes()
    saved = decoded(exported.read_bytes())
    np.testing.assert_allclose(hands.shown(), saved, atol=12)
    assert (saved[MOLE[::-1]] == pixels()[MOLE[::-1]]).all() and (saved[PATCH[::-1]] == pixels()[PATCH[::-1]]).all()
    assert (saved[SPOT[::-1]] != pixels()[SPOT[::-1]]).all()


def test_steps_are_undone_redone_and_gone_back_to(hands):
    revision = hands.rendered()
    hands.page.locator("#sizes label", has_text="Large").click()
    revision = hands.rendered(revision)
    hands.page.locator("#strength").focus()
    hands.keys("ArrowLeft")
    revision = hands.rendered(revision)
    hands.page.locator("#faces label").click()
    revision = hands.rendered(revision)
    assert hands.steps() == ["As found", "Bring back large blemishes", "Strength 99 %", "Face 1 off"]
    assert not (abs(hands.added()) > 6).any()
    hands.keys("Control+z")
    revision = hands.rendered(revision)
    assert hands.added()[MOLE[::-1]] > 45 and abs(hands.added()[PATCH[::-1]]) < 6
    assert hands.page.locator("#faces input").is_checked()
    hands.page.locator("#steps button").first.click()
    revision = hands.rendered(revision)
    assert hands.added()[PATCH[::-1]] > 30 and hands.page.locator("#undo").is_disabled()
    assert hands.page.locator("#strength").input_value() == "100"
    hands.keys("Control+Shift+z")
    hands.rendered(revision)
    assert abs(hands.added()[PATCH[::-1]]) < 6
    assert hands.page.locator("#steps .undone").count() == 2


def test_a_drag_of_the_strength_is_one_step(hands):
    revision = hands.rendered()
    box = hands.page.locator("#strength").bounding_box()
    y = box["y"] + box["height"] / 2
    hands.page.mouse.move(box["x"] + box["width"] - 7, y)
    hands.page.mouse.down()
    for share in (0.9, 0.7, 0.5):
        hands.page.mouse.move(box["x"] + share * box["width"], y)
    hands.page.mouse.up()
    hands.rendered(revision)
    assert len(hands.steps()) == 2 and hands.steps()[1].startswith("Strength 5")
    assert hands.added()[MOLE[::-1]] == pytest.approx(30, abs=6)


def test_the_restore_brush_takes_protection_back(hands):
    revision = hands.rendered()
    hands.keys("b")
    hands.page.fill("#radius", "25")
    hands.stroke((PATCH[0] - 4, PATCH[1]), (PATCH[0] + 4, PATCH[1]))
    revision = hands.rendered(revision)
    hands.keys("e")
    hands.page.fill("#radius", "6")
    hands.stroke(PATCH, (PATCH[0] + 1, PATCH[1] + 1))
    hands.rendered(revision)
    added = hands.added()
    assert added[PATCH[::-1]] > 25 and abs(added[PATCH[1], PATCH[0] - 10]) < 8


def test_blemishes_are_walked_by_keys(hands):
    hands.keys("o")
    assert hands.page.locator("#marks .blemish").count() == 3
    revision = hands.rendered()
    hands.keys("n", "n")
    focused = hands.page.locator("#marks .blemish:focus")
    label = focused.get_attribute("aria-label")
    assert label.startswith("Blemish 2 of 3") and focused.get_attribute("aria-checked") == "true"
    hands.keys("Enter")
    hands.rendered(revision)
    focused = hands.page.locator("#marks .blemish:focus")
    assert focused.get_attribute("aria-label").startswith("Blemish 2 of 3")  # the focus stays
    assert focused.get_attribute("aria-checked") == "false"
    hands.keys("p")
    assert hands.page.locator("#marks .blemish:focus").get_attribute("aria-label").startswith("Blemish 1 of 3")


def test_networks_and_overlays(hands):
    revision = hands.rendered()
    hands.page.select_option("#overlay-name", "heat")
    hands.page.wait_for_selector("#overlay img")
    hands.keys("a", "a")
    hands.page.wait_for_function("() => !document.querySelector('#overlay img')")
    hands.page.locator("#networks label", has_text="Other").click()
    hands.rendered(revision)
    assert hands.added()[MOLE[::-1]] == pytest.approx(30, abs=6)
    assert hands.page.locator("#overlay-name option").count() == 1
    recipe = json.loads(hands.download("#save-recipe").read_text())
    assert recipe["network"] == "other"


def test_zooming_shows_the_photo_in_full_resolution(hands):
    hands.keys("g")
    hands.page.wait_for_function("() => document.querySelector('#after-layer .detail').src.startsWith('blob:')")
    box = hands.page.locator("#after-layer .world").bounding_box()
    assert box["width"] > 800
    hands.page.locator("#stage").focus()
    hands.keys("ArrowRight")
    assert hands.page.locator("#after-layer .world").bounding_box()["x"] == pytest.approx(box["x"] - 60, abs=1)
    hands.keys("z")
    hands.page.wait_for_function("() => !document.querySelector('#after-layer .detail').src")


def test_holding_compares(hands):
    clip = "() => getComputedStyle(document.querySelector('#before-layer')).clipPath"
    assert "100%" in hands.page.evaluate(clip)
    hands.page.keyboard.down("c")
    assert "100%" not in hands.page.evaluate(clip)
    hands.page.keyboard.up("c")
    assert "100%" in hands.page.evaluate(clip)


def test_a_face_is_framed_where_none_was_found(hands):
    (hands.files / "wide.png").write_bytes(encoded(pixels()[:, :350]))
    hands.choose("#open", hands.files / "wide.png")
    hands.page.wait_for_selector("#notice[data-kind=error]")
    assert "No face was found" in hands.page.locator("#notice-text").text_content()
    hands.page.click("#notice-action")
    assert hands.page.locator("#stage").get_attribute("data-tool") == "frame"
    revision = hands.rendered()
    box = hands.page.locator("#after-layer .world").bounding_box()
    scale = box["width"] / 350
    hands.page.mouse.move(box["x"] + 120 * scale, box["y"] + 60 * scale)
    hands.page.mouse.down()
    hands.page.mouse.move(box["x"] + 220 * scale, box["y"] + 180 * scale)
    hands.page.mouse.up()
    hands.rendered(revision)
    assert hands.steps()[-1] == "Face framed" and hands.page.locator(".face-chip").count() == 1
    assert "3 of 3" in hands.page.locator("#under").text_content()


def test_a_saved_recipe_is_applied_again(hands):
    revision = hands.rendered()
    hands.page.locator("#sizes label", has_text="Medium").click()
    hands.rendered(revision)
    recipe = hands.download("#save-recipe")
    hands.choose("#open", hands.files / "anna.png")
    hands.page.wait_for_function("() => document.querySelectorAll('#steps button').length === 1")
    hands.choose("#open-recipe", recipe)
    hands.page.wait_for_function("() => document.querySelectorAll('#steps button').length === 2")
    hands.rendered()
    assert abs(hands.added()[MOLE[::-1]]) < 6


def test_it_fits_small_windows_and_tablets(hands):
    for size in ({"width": 1280, "height": 720}, {"width": 1024, "height": 768}, {"width": 900, "height": 700}):
        hands.page.set_viewport_size(size)
        wide = hands.page.evaluate(
            "[...document.querySelectorAll('body, .panel, .bar')].map((e) => e.scrollWidth - e.clientWidth)"
        )
        assert max(wide) <= 0
        assert hands.page.locator("#stage").bounding_box()["width"] >= 400


@pytest.mark.parametrize("outlined", [False, True])
def test_axe_finds_nothing(hands, outlined):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    if outlined:
        hands.keys("o", "?")
    results = axe.run(hands.page)
    assert results.violations_count == 0, results.generate_report()
