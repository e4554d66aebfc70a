"""The Retouch tool in headless Chromium, by what a person does; a stand-in is the network."""

import json

import numpy as np
import pytest
from drawn_network import HEIGHT, MOLE, PATCH, SPOT, WIDTH, DrawnNetwork, decoded, encoded, pixels
from retouch_common.inference.recipe import Recipe, apply_recipe
from retouch_common.testing.studio import ToolPage, chromium, open_tool, serve


class RetouchPage(ToolPage):
    name, size = "retouch", (WIDTH, HEIGHT)

    def shown(self, which="#after"):
        """The whole photo at its size."""
        return self.pixels(which, self.size)

    def added(self):
        return (self.shown() - self.shown("#before"))[..., 0]

    def steps(self):
        return self.page.locator("#steps button").all_text_contents()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def retouch_page(browser, app, tmp_path):
    """The page with anna.png open."""
    photo = tmp_path / "anna.png"
    photo.write_bytes(encoded(pixels()))
    with serve(app) as address, open_tool(RetouchPage, browser, address, photo) as page:
        yield page


def test_a_retouch_from_opening_to_the_bytes_of_the_command(retouch_page):
    """Open, bring one mole back, protect a scar, compare, export, replay the recipe."""
    added = retouch_page.added()
    assert added[MOLE[::-1]] > 45 and added[PATCH[::-1]] > 30
    assert "3 of 3 blemishes removed" in retouch_page.page.locator("#status-text").text_content()
    retouch_page.keys("o")
    revision = retouch_page.rendered()
    retouch_page.page.mouse.click(*retouch_page.at(*MOLE))
    revision = retouch_page.rendered(revision)
    added = retouch_page.added()
    assert abs(added[MOLE[::-1]]) < 6 and added[PATCH[::-1]] > 30
    assert "2 of 3" in retouch_page.page.locator("#status-text").text_content()
    retouch_page.keys("b")
    retouch_page.page.fill("#radius", "20")
    retouch_page.stroke((PATCH[0] - 4, PATCH[1]), (PATCH[0] + 4, PATCH[1]))
    retouch_page.rendered(revision)
    assert abs(retouch_page.added()[PATCH[::-1]]) < 6
    assert retouch_page.steps() == ["As found", "Blemish brought back", "Protected"]
    divider = retouch_page.page.locator("#divider")
    divider.focus()
    retouch_page.keys("ArrowRight")
    assert divider.get_attribute("aria-valuenow") == "5"
    exported, recipe = retouch_page.download("#export"), retouch_page.download("#save-recipe")
    assert (exported.name, recipe.name) == ("anna.retouched.png", "anna.recipe.json")
    replayed = retouch_page.folder / "replayed.png"
    apply_recipe(Recipe.read(recipe), DrawnNetwork("cpu"), retouch_page.folder / "anna.png", replayed)
    assert replayed.read_bytes() == exported.read_bytes()
    saved = decoded(exported.read_bytes())
    np.testing.assert_allclose(retouch_page.shown(), saved, atol=12)
    assert (saved[MOLE[::-1]] == pixels()[MOLE[::-1]]).all() and (saved[PATCH[::-1]] == pixels()[PATCH[::-1]]).all()
    assert (saved[SPOT[::-1]] != pixels()[SPOT[::-1]]).all()


def test_steps_are_undone_redone_and_gone_back_to(retouch_page):
    revision = retouch_page.rendered()
    retouch_page.page.locator("#sizes label", has_text="Large").click()
    revision = retouch_page.rendered(revision)
    retouch_page.page.locator("#strength").focus()
    retouch_page.keys("ArrowLeft")
    revision = retouch_page.rendered(revision)
    retouch_page.page.locator("#faces label").click()
    revision = retouch_page.rendered(revision)
    assert retouch_page.steps() == ["As found", "Bring back large blemishes", "Strength 99 %", "Face 1 off"]
    assert not (abs(retouch_page.added()) > 6).any()
    retouch_page.keys("Control+z")
    revision = retouch_page.rendered(revision)
    assert retouch_page.added()[MOLE[::-1]] > 45 and abs(retouch_page.added()[PATCH[::-1]]) < 6
    assert retouch_page.page.locator("#faces input").is_checked()
    retouch_page.page.locator("#steps button").first.click()
    revision = retouch_page.rendered(revision)
    assert retouch_page.added()[PATCH[::-1]] > 30 and retouch_page.page.locator("#undo").is_disabled()
    assert retouch_page.page.locator("#strength").input_value() == "100"
    retouch_page.keys("Control+Shift+z")
    retouch_page.rendered(revision)
    assert abs(retouch_page.added()[PATCH[::-1]]) < 6
    assert retouch_page.page.locator("#steps .undone").count() == 2


def test_a_drag_of_the_strength_is_one_step(retouch_page):
    revision = retouch_page.rendered()
    box = retouch_page.page.locator("#strength").bounding_box()
    y = box["y"] + box["height"] / 2
    retouch_page.page.mouse.move(box["x"] + box["width"] - 7, y)
    retouch_page.page.mouse.down()
    for share in (0.9, 0.7, 0.5):
        retouch_page.page.mouse.move(box["x"] + share * box["width"], y)
    retouch_page.page.mouse.up()
    retouch_page.rendered(revision)
    assert len(retouch_page.steps()) == 2 and retouch_page.steps()[1].startswith("Strength 5")
    assert retouch_page.added()[MOLE[::-1]] == pytest.approx(30, abs=6)


def test_the_restore_brush_takes_protection_back(retouch_page):
    revision = retouch_page.rendered()
    retouch_page.keys("b")
    retouch_page.page.fill("#radius", "25")
    retouch_page.stroke((PATCH[0] - 4, PATCH[1]), (PATCH[0] + 4, PATCH[1]))
    revision = retouch_page.rendered(revision)
    retouch_page.keys("e")
    retouch_page.page.fill("#radius", "6")
    retouch_page.stroke(PATCH, (PATCH[0] + 1, PATCH[1] + 1))
    retouch_page.rendered(revision)
    added = retouch_page.added()
    assert added[PATCH[::-1]] > 25 and abs(added[PATCH[1], PATCH[0] - 10]) < 8


def test_blemishes_are_walked_by_keys(retouch_page):
    retouch_page.keys("o")
    assert retouch_page.page.locator("#marks .blemish").count() == 3
    revision = retouch_page.rendered()
    retouch_page.keys("n", "n")
    focused = retouch_page.page.locator("#marks .blemish:focus")
    label = focused.get_attribute("aria-label")
    assert label.startswith("Blemish 2 of 3") and focused.get_attribute("aria-checked") == "true"
    retouch_page.keys("Enter")
    retouch_page.rendered(revision)
    focused = retouch_page.page.locator("#marks .blemish:focus")
    assert focused.get_attribute("aria-label").startswith("Blemish 2 of 3")  # the focus stays
    assert focused.get_attribute("aria-checked") == "false"
    retouch_page.keys("p")
    assert retouch_page.page.locator("#marks .blemish:focus").get_attribute("aria-label").startswith("Blemish 1 of 3")


def test_networks_and_overlays(retouch_page):
    revision = retouch_page.rendered()
    retouch_page.page.select_option("#overlay-name", "heat")
    retouch_page.page.wait_for_selector("#overlay img")
    retouch_page.keys("a", "a")
    retouch_page.page.wait_for_function("() => !document.querySelector('#overlay img')")
    retouch_page.page.locator("#networks label", has_text="Other").click()
    retouch_page.rendered(revision)
    assert retouch_page.added()[MOLE[::-1]] == pytest.approx(30, abs=6)
    assert retouch_page.page.locator("#overlay-name option").count() == 1
    recipe = json.loads(retouch_page.download("#save-recipe").read_text())
    assert recipe["network"] == "other"


def test_zooming_shows_the_photo_in_full_resolution(retouch_page):
    retouch_page.keys("g")
    retouch_page.page.wait_for_function("() => document.querySelector('#after-layer .detail').src.startsWith('blob:')")
    box = retouch_page.page.locator("#after-layer .world").bounding_box()
    assert box["width"] > 800
    retouch_page.page.locator("#stage").focus()
    retouch_page.keys("ArrowRight")
    assert retouch_page.page.locator("#after-layer .world").bounding_box()["x"] == pytest.approx(box["x"] - 60, abs=1)
    retouch_page.keys("z")
    retouch_page.page.wait_for_function("() => !document.querySelector('#after-layer .detail').src")


def test_holding_compares(retouch_page):
    clip = "() => getComputedStyle(document.querySelector('#before-layer')).clipPath"
    assert "100%" in retouch_page.page.evaluate(clip)
    retouch_page.page.keyboard.down("c")
    assert "100%" not in retouch_page.page.evaluate(clip)
    retouch_page.page.keyboard.up("c")
    assert "100%" in retouch_page.page.evaluate(clip)


def test_a_face_is_framed_where_none_was_found(retouch_page):
    (retouch_page.folder / "wide.png").write_bytes(encoded(pixels()[:, :350]))
    retouch_page.choose("#open", retouch_page.folder / "wide.png")
    retouch_page.page.wait_for_selector("#notice[data-kind=error]")
    assert "No face was found" in retouch_page.page.locator("#notice-text").text_content()
    retouch_page.page.click("#notice-action")
    assert retouch_page.page.locator("#stage").get_attribute("data-tool") == "frame"
    revision = retouch_page.rendered()
    box = retouch_page.page.locator("#after-layer .world").bounding_box()
    scale = box["width"] / 350
    retouch_page.page.mouse.move(box["x"] + 120 * scale, box["y"] + 60 * scale)
    retouch_page.page.mouse.down()
    retouch_page.page.mouse.move(box["x"] + 220 * scale, box["y"] + 180 * scale)
    retouch_page.page.mouse.up()
    retouch_page.rendered(revision)
    assert retouch_page.steps()[-1] == "Face framed" and retouch_page.page.locator(".face-chip").count() == 1
    assert "3 of 3" in retouch_page.page.locator("#status-text").text_content()


def test_a_saved_recipe_is_applied_again(retouch_page):
    revision = retouch_page.rendered()
    retouch_page.page.locator("#sizes label", has_text="Medium").click()
    retouch_page.rendered(revision)
    recipe = retouch_page.download("#save-recipe")
    retouch_page.choose("#open", retouch_page.folder / "anna.png")
    retouch_page.page.wait_for_function("() => document.querySelectorAll('#steps button').length === 1")
    retouch_page.choose("#open-recipe", recipe)
    retouch_page.page.wait_for_function("() => document.querySelectorAll('#steps button').length === 2")
    retouch_page.rendered()
    assert abs(retouch_page.added()[MOLE[::-1]]) < 6


def test_it_fits_small_windows_and_tablets(retouch_page):
    for size in ({"width": 1280, "height": 720}, {"width": 1024, "height": 768}, {"width": 900, "height": 700}):
        retouch_page.page.set_viewport_size(size)
        wide = retouch_page.page.evaluate(
            "[...document.querySelectorAll('body, .panel, .bar')].map((e) => e.scrollWidth - e.clientWidth)"
        )
        assert max(wide) <= 0
        assert retouch_page.page.locator("#stage").bounding_box()["width"] >= 400


@pytest.mark.parametrize("outlined", [False, True])
def test_axe_finds_nothing(retouch_page, outlined):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    if outlined:
        retouch_page.keys("o", "?")
    results = axe.run(retouch_page.page)
    assert results.violations_count == 0, results.generate_report()
