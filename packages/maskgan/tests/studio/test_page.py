"""The page in a browser: headless Chromium paints, renders, imports and exports; a stand-in is the network."""

from itertools import pairwise

import numpy as np
import pytest
from asking import SINGLE
from desk import PATIENCE
from flat_editor import HEIGHT, SIZE, WIDTH, encoded, plain_mask, portrait_pixels
from PIL import Image
from retouch_common.parsing.labels import CLASSES, encode_labels, read_labels
from retouch_common.studio.cli import write_entrance

SKIN, NOSE, LOWER_LIP, HAIR = (CLASSES.index(name) for name in ("skin", "nose", "lower_lip", "hair"))


def discs(points, diameter):
    """The pixels that discs around the middles of pixels hold: an odd brush, without a word of the page's code."""
    y, x = np.mgrid[:SIZE, :SIZE]
    return np.any([(x - cx) ** 2 + (y - cy) ** 2 <= (diameter / 2) ** 2 for cx, cy in points], axis=0)


def test_a_stroke_changes_exactly_its_pixels_and_the_face(desk):
    before, revision = desk.shown(), desk.rendered()
    desk.brush(5)
    desk.keys("9")
    assert desk.page.locator("#palette input:checked").get_attribute("value") == str(LOWER_LIP)
    desk.stroke((8, 50), (20, 50), (40, 50))
    expected = plain_mask(SIZE)
    expected[discs([(x, 50) for x in range(8, 41)], 5)] = LOWER_LIP
    np.testing.assert_array_equal(desk.exported(), expected)
    np.testing.assert_array_equal(desk.mask(), expected)
    assert desk.rendered(revision) > revision
    after = desk.shown()
    scale = len(after) / SIZE
    changed = np.abs(after - before).max(axis=2) > 3
    assert changed[round(49 * scale) : round(52 * scale), round(9 * scale) : round(14 * scale)].any()
    assert not changed[: round(40 * scale)].any()
    assert desk.page.locator("#latency").text_content().endswith(" ms")


def test_quick_strokes_have_no_gaps_and_no_mixed_colours(desk):
    desk.brush(1)
    desk.keys("h")
    desk.stroke((2, 60), (60, 50))  # one jump of the mouse
    changed = np.argwhere(desk.mask() != plain_mask(SIZE))
    line = [(x, round(60 - 10 * (x - 2) / 58)) for x in range(2, 61)]
    drawn = {(x, y) for y, x in changed} | {(x, y) for x, y in line if plain_mask(SIZE)[y, x] == HAIR}
    assert {x for x, _ in drawn} == set(range(2, 61)) and len(drawn) == 59
    assert all(abs(y - (60 - 10 * (x - 2) / 58)) <= 0.51 for x, y in drawn)
    shown = desk.page.locator("#labels").evaluate(
        "(c) => { const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);"
        " return new Set(new Uint32Array(data.buffer)).size; }"
    )
    assert shown == len(np.unique(desk.mask()))
    assert desk.page.locator("#labels").evaluate("(c) => getComputedStyle(c).imageRendering") == "pixelated"


def test_undo_and_redo_go_stroke_by_stroke(desk):
    states = [plain_mask(SIZE)]
    for row, key in ((6, "1"), (12, "6"), (18, "e")):
        desk.keys("b", key)
        desk.stroke((5, row), (50, row))
        states.append(desk.mask())
    assert all((a != b).any() for a, b in pairwise(states))
    for state in reversed(states[:-1]):
        desk.keys("Control+z")
        np.testing.assert_array_equal(desk.mask(), state)
    assert desk.page.locator("#undo").is_disabled()
    for state in states[1:]:
        desk.keys("Control+Shift+z")
        np.testing.assert_array_equal(desk.mask(), state)
    assert desk.page.locator("#redo").is_disabled()
    desk.page.click("#undo")
    desk.keys("1")
    desk.stroke((30, 60), (31, 60))
    assert desk.page.locator("#redo").is_disabled()  # a new stroke ends what could be redone


def test_fill_pick_and_painting_over_one_class_only(desk):
    original = plain_mask(SIZE)
    desk.keys("i")
    desk.click(32, 14)
    assert desk.page.locator("#palette input:checked").get_attribute("value") == str(HAIR)
    assert desk.page.locator("input[name=tool]:checked").get_attribute("value") == "brush"
    desk.keys("g")
    desk.click(32, 35)  # the nose
    filled = np.where(original == NOSE, HAIR, original)
    np.testing.assert_array_equal(desk.mask(), filled)
    desk.keys("Control+z")
    desk.page.select_option("#over", str(SKIN))
    desk.keys("b")
    desk.brush(8)
    desk.stroke((5, 30), (60, 30))
    mask = desk.mask()
    changed = mask != original
    assert changed.any() and (original[changed] == SKIN).all() and (mask[changed] == HAIR).all()
    desk.keys("g")
    desk.click(2, 2)
    assert "limited to skin" in desk.notice()
    np.testing.assert_array_equal(desk.mask(), mask)
    desk.page.mouse.move(*desk.at(32, 14))
    desk.keys("l")
    assert desk.page.locator("#over").input_value() == ""
    desk.keys("l")
    assert desk.page.locator("#over").input_value() == str(HAIR)


def test_painting_hits_its_pixels_zoomed_and_moved(desk):
    desk.page.mouse.move(*desk.at(10, 40))
    desk.page.mouse.wheel(0, -400)
    stage, world = (desk.page.locator(name).bounding_box() for name in ("#stage", "#world"))
    assert world["width"] > stage["width"]
    desk.page.keyboard.down(" ")
    desk.stroke((12, 40), (9, 38))
    desk.page.keyboard.up(" ")
    desk.brush(1)
    desk.keys("h")
    desk.click(12, 42)
    expected = plain_mask(SIZE)
    expected[42, 12] = HAIR
    np.testing.assert_array_equal(desk.mask(), expected)
    desk.keys("z")
    world = desk.page.locator("#world").bounding_box()
    assert world["width"] < stage["width"] and world["height"] < stage["height"]


def test_fingers_paint_and_two_of_them_move_the_view(desk):
    touches = desk.page.context.new_cdp_session(desk.page)

    def touch(kind, *points):
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    desk.brush(1)
    desk.keys("h")
    touch("touchStart", desk.at(10, 60))
    touch("touchMove", desk.at(20, 60))
    touch("touchEnd")
    expected = plain_mask(SIZE)
    expected[60, 10:21] = HAIR
    np.testing.assert_array_equal(desk.mask(), expected)
    width = desk.page.locator("#world").bounding_box()["width"]
    (x0, y0), (x1, y1) = desk.at(20, 30), desk.at(40, 30)
    touch("touchStart", (x0, y0))
    touch("touchMove", (x0 + 30, y0 + 30))  # begins to paint, which the second finger takes back
    touch("touchStart", (x0, y0), (x1, y1))
    touch("touchMove", (x0 - 80, y0), (x1 + 80, y1))
    touch("touchEnd")
    assert desk.page.locator("#world").bounding_box()["width"] > 1.3 * width
    np.testing.assert_array_equal(desk.mask(), expected)


def test_the_divider_shows_before_and_after(desk):
    desk.keys("h")
    desk.brush(20)
    revision = desk.rendered()
    desk.stroke((32, 40), (34, 44))
    desk.rendered(revision)
    box = desk.page.locator("#result").bounding_box()
    x, y = box["x"], box["y"] + box["height"] / 3
    desk.page.mouse.move(x + 12, y)
    desk.page.mouse.down()
    desk.page.mouse.move(x + box["width"] * 0.6, y)
    desk.page.mouse.up()
    divider = desk.page.locator("#divider")
    assert int(divider.get_attribute("aria-valuenow")) == pytest.approx(60, abs=1)
    clip = desk.page.locator("#before").evaluate("(img) => getComputedStyle(img).clipPath")
    right = float(clip.split()[1].rstrip("%"))
    assert right == pytest.approx(40, abs=1)
    divider.focus()
    desk.keys("ArrowRight", "ArrowRight")
    assert int(divider.get_attribute("aria-valuenow")) == pytest.approx(70, abs=1)
    assert np.abs(desk.shown("#after") - desk.shown("#before")).max() > 20


def test_another_photo_lends_a_part(desk):
    revision = desk.rendered()
    desk.page.locator("#views label").nth(1).click()  # the network's picture
    revision = desk.rendered(revision)
    own = desk.shown()
    desk.choose(".slot[data-component=hair] .thumb", desk.files / "ben.png")
    desk.page.wait_for_selector(".slot[data-component=hair].lent")
    revision = desk.rendered(revision)
    full = desk.shown()
    hair = plain_mask(SIZE) == HAIR
    assert np.abs(full - own)[hair].max() > 20 and (full == own)[~hair].all()
    desk.page.locator(".slot[data-component=hair] input").fill("50")
    desk.rendered(revision)
    half = desk.shown()
    np.testing.assert_allclose(half[hair], (full + own)[hair] / 2, atol=1.01)
    assert desk.page.locator(".slot[data-component=all] select").input_value() == "mixed"
    desk.page.locator(".slot[data-component=all] select").select_option(label="ben.png")
    lent = desk.page.locator(".slot.lent:not([data-component=all])")
    assert lent.count() == 5
    desk.page.locator(".slot[data-component=all] select").select_option(label="this photo")
    revision = desk.rendered(revision + 1)
    assert lent.count() == 0


def test_masks_come_in_and_go_out(desk):
    mask = np.random.default_rng(1).integers(0, 11, (SIZE, SIZE), dtype=np.uint8)
    (desk.files / "noise.png").write_bytes(encode_labels(mask))
    (desk.files / "small.png").write_bytes(encode_labels(mask[:32]))
    desk.choose("#import-mask", desk.files / "noise.png")
    desk.page.wait_for_selector("#undo:enabled")
    exported = desk.download("#export-mask")
    assert exported.name == "anna.mask.png"
    np.testing.assert_array_equal(read_labels(exported), mask)
    assert Image.open(exported).convert("RGB").getextrema() != ((0, 0),) * 3
    desk.refusals = True
    desk.choose("#import-mask", desk.files / "small.png")
    desk.page.wait_for_selector("#notice[data-kind=error]")
    assert desk.notice() == f"small.png: has {SIZE}x32 pixels; a mask for this page has {SIZE}x{SIZE}"
    np.testing.assert_array_equal(desk.mask(), mask)
    desk.page.click("#reset-mask")
    np.testing.assert_array_equal(desk.mask(), plain_mask(SIZE))


def test_the_photo_and_the_face_are_saved(desk):
    desk.brush(12)
    desk.keys("h")
    desk.stroke((20, 40), (44, 40))
    photo = desk.download("#save-photo")
    assert photo.name == "anna.edited.png"
    saved = np.array(Image.open(photo)).astype(int)
    assert saved.shape == (HEIGHT, WIDTH, 3)
    changed = (saved != portrait_pixels()).any(axis=2)
    assert changed.any() and not changed[:8].any()
    face = desk.download("#save-face")
    assert face.name == "anna.face.png" and Image.open(face).size == (SIZE, SIZE)
    assert desk.unsaved()  # these files hold no mask
    desk.exported()
    assert not desk.unsaved()
    desk.keys("Control+z")
    assert desk.unsaved()


def test_a_mask_that_fits_better_changes_what_the_network_knows(desk):
    revision = desk.rendered()
    desk.page.locator("#views label").nth(1).click()
    revision = desk.rendered(revision)
    desk.keys("h", "g")
    desk.click(2, 2)  # all background becomes hair
    revision = desk.rendered(revision)
    before = desk.shown()
    desk.page.click("#reread")
    desk.rendered(revision)
    assert "read through this mask" in desk.notice()
    assert np.abs(desk.shown() - before)[plain_mask(SIZE) == HAIR].max() > 2  # hair's colour is another mean


def test_dropped_photos_warnings_and_refusals(desk):
    desk.keys("e")
    desk.brush(20)
    desk.stroke((26, 45), (38, 45))
    desk.page.locator("#warnings li", has_text="mouth").wait_for()
    desk.refusals = True
    desk.page.on("dialog", lambda dialog: dialog.accept())
    drop = """([name, bytes]) => { const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], name));
      document.querySelector('#stage').dispatchEvent(
        new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })); }"""
    desk.page.evaluate(drop, ["notes.txt", list(b"no picture at all")])
    desk.page.wait_for_selector("#notice[data-kind=error]")
    assert desk.notice().startswith("notes.txt: is not a photo")
    assert "anna.png" in desk.page.locator("#photo-name").text_content()
    square = encoded(portrait_pixels(7, 100, 100))
    desk.page.evaluate(drop, ["face.png", list(square)])
    desk.page.wait_for_selector("#notice-action:visible")
    assert "no face was found" in desk.notice()
    desk.page.click("#notice-action")
    desk.page.locator("#photo-name", has_text="face.png").wait_for()
    expected = plain_mask(SIZE)
    np.testing.assert_array_equal(desk.mask(), expected)
    desk.brush(5)
    desk.page.keyboard.down("Shift")
    desk.click(32, 14)
    desk.page.keyboard.up("Shift")
    expected[discs([(32, 14)], 5)] = 0  # no line from where the other photo's last stroke ended
    np.testing.assert_array_equal(desk.mask(), expected)


def test_everything_can_be_named_and_reached_by_keys(desk):
    desk.keys("?")
    assert desk.page.locator("#help-dialog").is_visible()
    assert "straight line" in desk.page.locator("#help-dialog").text_content()
    desk.keys("Escape")
    assert not desk.page.locator("#help-dialog").is_visible()
    nameless = desk.page.evaluate(
        """() => [...document.querySelectorAll('button:not([hidden]), input:not([type=file]), select, [role=slider]')]
          .filter((e) => !(e.textContent.trim() || e.ariaLabel || e.labels?.[0]?.textContent.trim()))
          .map((e) => e.outerHTML)"""
    )
    assert nameless == []
    for key, tool in (("e", "eraser"), ("g", "fill"), ("i", "pick"), ("v", "hand"), ("b", "brush")):
        desk.keys(key)
        assert desk.page.locator("input[name=tool]:checked").get_attribute("value") == tool
    desk.keys("1", "2", "x")
    assert desk.page.locator("#palette input:checked").get_attribute("value") == "1"
    desk.brush(7)
    for key, size in (("]", 8), ("]", 10), ("[", 8), ("[", 6)):
        desk.keys(key)
        assert desk.page.locator("#size-value").text_content() == f"{size} px"
    desk.keys("m")
    assert desk.page.locator("#labels").evaluate("(c) => c.style.opacity") == "0"


def test_the_page_fits_narrow_windows(desk):
    for size in ({"width": 1280, "height": 800}, {"width": 900, "height": 700}):
        desk.page.set_viewport_size(size)
        wide = desk.page.evaluate(
            "[...document.querySelectorAll('body, .panel, .bar')].map((e) => e.scrollWidth - e.clientWidth)"
        )
        assert max(wide) <= 0
        box = desk.page.locator("#stage").bounding_box()
        assert box["width"] >= 400 and box["height"] >= 400


def test_the_network_is_adapted_with_progress_and_what_is_painted_stays(desk, editor):
    desk.keys("h")
    desk.stroke((5, 50), (20, 50))
    painted, before, revision = desk.mask(), desk.shown(), desk.rendered()
    desk.page.click("#adapt")
    desk.page.wait_for_function("() => document.querySelector('#adapted').value > 0.2")
    assert desk.page.locator("#adapt").text_content() == "Cancel"
    assert "adapted to this face" in desk.notice()
    desk.rendered(revision)
    assert (desk.mask() == painted).all() and np.abs(desk.shown() - before).max() > 30
    assert desk.page.locator("#adapt").text_content() == "Adapt to this face"
    assert desk.page.locator("#adapted").is_hidden()


def test_an_adaptation_is_cancelled(desk, editor):
    before = desk.shown()
    desk.page.click("#adapt")
    desk.page.wait_for_function("() => document.querySelector('#adapted').value > 0")
    desk.page.click("#adapt")
    desk.page.wait_for_selector("#adapted", state="hidden")
    taken = editor.taken
    desk.page.wait_for_timeout(500)
    assert editor.taken <= taken + 2 and taken < 80
    assert (desk.shown() == before).all()


def test_the_browsers_file_leads_to_the_page(browser, address, tmp_path):
    """As the command opens it; chromium counts the file as another page."""
    entrance = write_entrance(tmp_path, f"{address}/?token={SINGLE}")
    context = browser.new_context()
    page = context.new_page()
    page.goto(entrance.as_uri())
    page.wait_for_url(f"{address}/edit/", timeout=PATIENCE)
    page.wait_for_selector("html[data-ready]", timeout=PATIENCE)
    context.close()


def test_axe_finds_nothing(desk):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    results = axe.run(desk.page)
    assert results.violations_count == 0, results.generate_report()
