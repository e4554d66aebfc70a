"""The Retouch tool in headless Chromium, by what a person does; a stand-in is the network."""

import json

import numpy as np
import pytest
from drawn_network import HEIGHT, MOLE, OUTSIDE, PATCH, SPOT, WIDTH, DrawnNetwork, decoded, encoded, pixels
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from retouch_common.inference.recipe import Recipe
from retouch_common.inference.recipe_retouching import apply_recipe
from retouch_common.studio import views
from retouch_common.testing.studio import LONG_NAME, WINDOWS, ToolPage, chromium, open_tool, serve


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
    assert retouch_page.page.locator("#status-text").text_content() == "3 places changed"
    retouch_page.keys("o")
    revision = retouch_page.rendered()
    retouch_page.page.mouse.click(*retouch_page.at(*MOLE))
    revision = retouch_page.rendered(revision)
    added = retouch_page.added()
    assert abs(added[MOLE[::-1]]) < 6 and added[PATCH[::-1]] > 30
    assert retouch_page.page.locator("#status-text").text_content() == "2 of 3 places changed"
    retouch_page.keys("b")
    retouch_page.page.fill("#radius", "20")
    retouch_page.stroke((PATCH[0] - 4, PATCH[1]), (PATCH[0] + 4, PATCH[1]))
    retouch_page.rendered(revision)
    assert abs(retouch_page.added()[PATCH[::-1]]) < 6
    assert retouch_page.steps() == ["As found", "Medium place 1 brought back", "Protected"]
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
    assert retouch_page.steps() == ["As found", "Bring back large places", "Strength 99 %", "Face 1 off"]
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
    assert label.startswith("Place 2 of 3") and focused.get_attribute("aria-checked") == "true"
    retouch_page.keys("Enter")
    retouch_page.rendered(revision)
    focused = retouch_page.page.locator("#marks .blemish:focus")
    assert focused.get_attribute("aria-label").startswith("Place 2 of 3")  # the focus stays
    assert focused.get_attribute("aria-checked") == "false"
    retouch_page.keys("p")
    assert retouch_page.page.locator("#marks .blemish:focus").get_attribute("aria-label").startswith("Place 1 of 3")


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


def test_nothing_lies_over_the_photo_while_comparing(retouch_page):
    page = retouch_page.page
    retouch_page.keys("o")
    retouch_page.keys("n")
    opacities = "['#marks', '#chips', '#strokes'].map((name) => getComputedStyle(document.querySelector(name)).opacity)"
    assert page.evaluate(opacities) == ["1"] * 3
    page.keyboard.down("c")
    assert page.evaluate(opacities) == ["0"] * 3
    page.keyboard.up("c")
    assert page.locator("#marks .blemish:focus").count() == 1
    page.locator("#hold").hover()
    page.mouse.down()
    assert page.evaluate(opacities) == ["0"] * 3
    page.mouse.up()
    assert page.evaluate(opacities) == ["1"] * 3


@pytest.mark.parametrize("width", [WIDTH, WIDTH - 10])  # with a face, and without
def test_of_two_dropped_files_the_one_that_was_taken_is_named(retouch_page, width):
    retouch_page.page.evaluate(
        """([names, bytes]) => { const data = new DataTransfer();
        for (const name of names) data.items.add(new File([new Uint8Array(bytes)], name));
        document.querySelector('#stage').dispatchEvent(
          new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })); }""",
        [["ben.png", "carl.png"], list(encoded(pixels()[:, :width]))],
    )
    retouch_page.page.locator("#notice-text", has_text="Of the 2 files, only ben.png was taken").wait_for()
    assert "ben.png" in retouch_page.page.locator("#photo-name").text_content()
    assert ("No face was found" in retouch_page.page.locator("#notice-text").text_content()) == (width != WIDTH)


def test_an_outline_is_hit_within_12_pixels(retouch_page):
    retouch_page.keys("o")
    x, y = retouch_page.at(*SPOT)
    outline = retouch_page.page.locator("#marks .blemish[aria-label*=small]").bounding_box()
    assert outline["width"] < 20
    target = retouch_page.page.locator("#marks .target").first
    assert target.evaluate("(e) => [getComputedStyle(e).stroke, getComputedStyle(e).fill]") == ["none", "none"]
    retouch_page.page.mouse.click(x + 11, y)
    retouch_page.page.locator("#marks .blemish[aria-label*=small][aria-checked=false]").wait_for()


def test_fingers_have_large_targets(browser, app, tmp_path):
    photo = tmp_path / "anna.png"
    photo.write_bytes(encoded(pixels()))
    with serve(app) as address, open_tool(RetouchPage, browser, address, photo, mobile=True) as retouch_page:
        page = retouch_page.page
        assert page.evaluate("matchMedia('(pointer: coarse)').matches")
        small = page.evaluate(
            "[...document.querySelectorAll('button, .segments label, .check, .list label, select, input[type=range]')]"
            ".filter((e) => e.offsetParent && Math.min(e.offsetHeight, e.offsetWidth) < 32).map((e) => e.outerHTML)"
        )
        assert small == []
        for size in WINDOWS:
            retouch_page.require_fit(*size, "#export", "#save-recipe", ".result-panel", "#zoom-full")


def test_the_outlines_of_faces_are_switched_off(retouch_page):
    page = retouch_page.page
    over = [page.locator(name) for name in ("#marks .face", "#chips button")]
    assert all(mark.is_visible() for mark in over)
    page.get_by_label("Outline the faces").uncheck()
    assert not any(mark.is_visible() for mark in over)
    assert page.locator("#faces input").count() == 1  # its switch stays


def test_a_scar_is_protected_by_keys_alone(retouch_page):
    page, revision = retouch_page.page, retouch_page.rendered()
    box = page.locator("#stage").bounding_box()
    x, y = retouch_page.at(*PATCH)
    right, down = round(x - box["x"] - box["width"] / 2), round(y - box["y"] - box["height"] / 2)
    page.fill("#radius", "18")
    retouch_page.keys("b")
    assert page.evaluate("document.activeElement.id") == "stage"
    for distance, key, other in ((right, "ArrowRight", "ArrowLeft"), (down, "ArrowDown", "ArrowUp")):
        steps, small = divmod(abs(distance), 10)
        name = key if distance > 0 else other
        retouch_page.keys(*steps * [name], *small * [f"Shift+{name}"])
    retouch_page.keys("Enter", "Enter")
    retouch_page.rendered(revision)
    assert retouch_page.steps() == ["As found", "Protected"] and abs(retouch_page.added()[PATCH[::-1]]) < 6


def test_a_stroke_by_keys_is_cancelled_by_escape(retouch_page):
    retouch_page.keys("b", "Enter", "ArrowRight", "Escape", "Enter", "ArrowRight", "ArrowRight", "Enter")
    retouch_page.page.wait_for_function("() => document.querySelectorAll('#steps button').length > 1")
    assert retouch_page.steps() == ["As found", "Protected"]


def test_a_face_is_framed_by_keys_alone(retouch_page):
    revision = retouch_page.rendered()
    retouch_page.keys("f", "Enter", *8 * ["ArrowRight"], *8 * ["ArrowDown"], "Enter")
    retouch_page.rendered(revision)
    assert retouch_page.steps()[-1] == "Face framed" and retouch_page.page.locator(".face-chip").count() == 2


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
    assert retouch_page.page.locator("#status-text").text_content() == "3 places changed"


def test_the_whole_photo_is_retouched_and_its_recipe_replayed(retouch_page):
    page, revision = retouch_page.page, retouch_page.rendered()
    assert abs(retouch_page.added()[OUTSIDE[::-1]]) < 6
    page.locator("#regions label", has_text="Whole photo").click()
    revision = retouch_page.rendered(revision)
    assert retouch_page.added()[OUTSIDE[::-1]] > 45 and retouch_page.steps() == ["As found", "Whole photo"]
    assert page.locator("#status-text").text_content() == "4 places changed" and page.locator(".face-chip").count() == 0
    exported, recipe = retouch_page.download("#export"), retouch_page.download("#save-recipe")
    replayed = retouch_page.folder / "replayed.png"
    apply_recipe(Recipe.read(recipe), DrawnNetwork("cpu"), retouch_page.folder / "anna.png", replayed)
    assert replayed.read_bytes() == exported.read_bytes()
    page.locator("#networks label", has_text="Other").click()  # it retouches faces only
    revision = retouch_page.rendered(revision)
    assert retouch_page.steps()[-2:] == ["Faces only", "Network Other"]
    assert page.locator("#regions input[value=photo]").is_disabled()
    assert abs(retouch_page.added()[OUTSIDE[::-1]]) < 6 and page.locator(".face-chip").count() == 1


def test_a_saved_recipe_is_applied_again(retouch_page):
    revision = retouch_page.rendered()
    retouch_page.page.locator("#sizes label", has_text="Medium").click()
    retouch_page.rendered(revision)
    recipe = retouch_page.download("#save-recipe")
    retouch_page.choose("#open", retouch_page.folder / "anna.png")
    retouch_page.page.wait_for_function("() => document.querySelectorAll('#steps button').length === 1")
    revision = retouch_page.rendered()
    retouch_page.choose("#open-recipe", recipe)
    retouch_page.page.wait_for_function("() => document.querySelectorAll('#steps button').length === 2")
    retouch_page.rendered(revision)
    assert abs(retouch_page.added()[MOLE[::-1]]) < 6


def test_it_fits_small_windows_and_tablets(retouch_page):
    (retouch_page.folder / LONG_NAME).write_bytes(encoded(pixels()))
    retouch_page.choose("#open", retouch_page.folder / LONG_NAME)
    retouch_page.page.locator("#photo-name", has_text=LONG_NAME).wait_for()
    assert retouch_page.page.locator("#photo-name").get_attribute("title") == LONG_NAME
    for width, height in WINDOWS:
        retouch_page.require_fit(width, height, "#export", "#save-recipe", ".result-panel")


def test_times_from_a_second_on_are_in_seconds(retouch_page):
    times = "import('/shell/live.js').then(({ formatTime }) => [7.4, 999, 12077].map(formatTime))"
    assert retouch_page.page.evaluate(times) == ["7 ms", "999 ms", "12.1 s"]


def test_there_is_no_quality_without_loss(retouch_page):
    page = retouch_page.page
    quality, value = page.locator("#quality"), page.locator("#quality-value")
    assert quality.is_disabled() and value.text_content() == "PNG loses nothing"  # as the photo
    page.select_option("#format", "jpg")
    assert quality.is_enabled() and value.text_content() == "95"
    page.select_option("#format", "tif")
    assert quality.is_disabled() and value.text_content() == "TIF loses nothing"


@pytest.mark.parametrize("format", ["jpg", "png", "tif", "webp", "avif"])
def test_the_export_of_every_format_is_what_the_command_replays_by_default(retouch_page, format):
    """The quality is the format's own until the slider is moved."""
    page = retouch_page.page
    page.select_option("#format", format)
    quality = {"jpg": "95", "webp": "95", "avif": "90"}.get(format, f"{format.upper()} loses nothing")
    assert page.locator("#quality-value").text_content() == quality
    exported, recipe = retouch_page.download("#export"), Recipe.read(retouch_page.download("#save-recipe"))
    replayed = retouch_page.folder / f"replayed.{format}"
    apply_recipe(recipe, DrawnNetwork("cpu"), retouch_page.folder / "anna.png", replayed)
    assert replayed.read_bytes() == exported.read_bytes()
    if format == "avif":
        page.fill("#quality", "60")
        assert page.locator("#quality-value").text_content() == "60"
        assert retouch_page.download("#export").stat().st_size < replayed.stat().st_size


def test_what_a_format_cannot_hold_is_converted_when_that_is_chosen(retouch_page):
    page, convert = retouch_page.page, retouch_page.page.locator("#convert")
    page.select_option("#format", "jpg")
    assert not convert.is_visible()  # the photo has 8 bits
    (retouch_page.folder / "deep.png").write_bytes(encoded(pixels().astype(np.uint16) * 257))
    retouch_page.choose("#open", retouch_page.folder / "deep.png")
    page.get_by_label("Convert: round 16 bits to 8").check()
    retouch_page.rendered()
    exported = retouch_page.download("#export")
    assert exported.name == "deep.retouched.jpg" and decoded(exported.read_bytes())[MOLE[::-1]][0] > 130
    page.select_option("#format", "tif")
    assert not convert.is_visible()
    page.select_option("#format", "jpg")
    convert.uncheck()
    retouch_page.errors_expected = True
    page.click("#export")
    page.locator("#notice-text", has_text="the photo has 16 bits per channel").wait_for()


def test_the_page_names_what_an_export_does_not_carry(retouch_page):
    text, page = PngInfo(), retouch_page.page
    text.add_text("Author", "Anna")
    Image.fromarray(pixels()).save(retouch_page.folder / "noted.png", pnginfo=text)
    retouch_page.choose("#open", retouch_page.folder / "noted.png")
    retouch_page.rendered()
    page.select_option("#format", "jpg")
    retouch_page.download("#export")
    page.get_by_text("noted.retouched.jpg does not carry: text (Author)").wait_for()


def test_more_than_the_proxy_is_shown_where_the_screen_has_room(request, monkeypatch):
    monkeypatch.setattr(views, "PROXY_SIDE", WIDTH // 4)
    page = request.getfixturevalue("retouch_page").page
    page.wait_for_function(f"() => document.querySelector('#after-layer .detail').naturalWidth === {WIDTH}")
    assert page.locator("#after").evaluate("(image) => image.naturalWidth") == WIDTH // 4


def test_an_empty_page_shows_neither_zoom_nor_steps(retouch_page):
    shown = ("#zoom", "#steps button")
    assert all(retouch_page.page.locator(name).is_visible() for name in shown)
    page = retouch_page.page.context.new_page()
    page.goto(retouch_page.page.url)
    page.wait_for_selector("html[data-ready]")
    assert not any(page.locator(name).is_visible() for name in shown)


@pytest.mark.parametrize("outlined", [False, True])
def test_axe_finds_nothing(retouch_page, outlined):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    if outlined:
        retouch_page.keys("o", "?")
    results = axe.run(retouch_page.page)
    assert results.violations_count == 0, results.generate_report()


def test_changes_of_the_network_are_undone_and_redone(retouch_page):
    page, revision = retouch_page.page, retouch_page.rendered()
    page.locator("#regions label", has_text="Whole photo").click()
    revision = retouch_page.rendered(revision)
    page.locator("#networks label", has_text="Other").click()  # it retouches faces only
    revision = retouch_page.rendered(revision)
    assert retouch_page.steps() == ["As found", "Whole photo", "Faces only", "Network Other"]
    assert abs(retouch_page.added()[OUTSIDE[::-1]]) < 6 and retouch_page.added()[MOLE[::-1]] == pytest.approx(30, abs=6)
    retouch_page.keys("Control+z")
    revision = retouch_page.rendered(revision)
    assert page.locator("#networks input:checked").get_attribute("value") == "drawn"
    assert abs(retouch_page.added()[OUTSIDE[::-1]]) < 6 and retouch_page.added()[MOLE[::-1]] > 45
    retouch_page.keys("Control+z")
    revision = retouch_page.rendered(revision)
    assert retouch_page.added()[OUTSIDE[::-1]] > 45
    assert page.locator('input[name="region"]:checked').get_attribute("value") == "photo"
    page.locator("#steps button").last.click()
    retouch_page.rendered(revision)
    assert page.locator("#networks input:checked").get_attribute("value") == "other"
    recipe = json.loads(retouch_page.download("#save-recipe").read_text())
    assert recipe["network"] == "other" and [step["step"] for step in recipe["steps"]] == ["region", "region"]


@pytest.fixture
def second_tool(tmp_path, app, retouching, context):
    """The application with another tool, whose page is empty."""
    from retouch_common.studio.retouch.server import create_tool
    from retouch_common.studio.server import create_app
    from retouch_common.studio.tools import Tool
    from retouch_common.testing.studio import TOKEN

    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "main.js").write_text("")
    second = Tool(name="second", title="Second", page=folder, routes=[])
    return create_app([create_tool(retouching, context), second], context, TOKEN)


@pytest.mark.parametrize("with_recipe", [False, True])
def test_the_steps_are_there_again_after_a_visit_of_another_tool(browser, second_tool, tmp_path, with_recipe):
    photo = tmp_path / "anna.png"
    photo.write_bytes(encoded(pixels()))
    with serve(second_tool) as address, open_tool(RetouchPage, browser, address, photo) as retouch_page:
        page, revision = retouch_page.page, retouch_page.rendered()
        page.locator("#sizes label", has_text="Medium").click()
        if with_recipe:
            recipe = retouch_page.download("#save-recipe")
            retouch_page.choose("#open-recipe", recipe)
            page.locator("#notice-text", has_text="is applied").wait_for()
        page.locator("#networks label", has_text="Other").click()
        retouch_page.rendered(revision)
        retouch_page.keys("Control+z")
        tab = page.get_by_role("link", name="Second")
        query = tab.get_attribute("href").partition("?")[2]
        tab.click()
        page.wait_for_url(f"{address}/second/?{query}")
        page.goto(f"{address}/retouch/?{query}")
        page.wait_for_selector("html[data-ready]")
        retouch_page.rendered()
        assert retouch_page.steps() == ["As found", "Bring back medium places", "Network Other"]
        assert page.locator("#steps .undone").count() == 1 and page.locator("#redo").is_enabled()
        assert abs(retouch_page.added()[MOLE[::-1]]) < 6
