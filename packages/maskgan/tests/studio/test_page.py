"""The page in a browser: headless Chromium paints, renders, imports and exports; a stand-in is the network."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from flat_editor import HEIGHT, SIZE, WIDTH, encoded, plain_mask, portrait_pixels
from PIL import Image
from retouch_common.parsing.labels import CLASSES, encode_labels, read_labels
from retouch_common.studio.cli import write_redirect_page
from retouch_common.testing.studio import LONG_NAME, ONE_TIME_TOKEN, TIMEOUT, WINDOWS

SKIN, NOSE, LOWER_LIP, HAIR = (CLASSES.index(name) for name in ("skin", "nose", "lower_lip", "hair"))


def discs(points, diameter):
    """The pixels that discs around the middles of pixels hold: an odd brush, without a word of the page's code."""
    y, x = np.mgrid[:SIZE, :SIZE]
    return np.any([(x - cx) ** 2 + (y - cy) ** 2 <= (diameter / 2) ** 2 for cx, cy in points], axis=0)


def test_a_stroke_changes_exactly_its_pixels_and_the_face(edit_page):
    before, revision = edit_page.pixels(), edit_page.rendered()
    edit_page.brush(5)
    edit_page.keys("9")
    assert edit_page.page.locator("#palette input:checked").get_attribute("value") == str(LOWER_LIP)
    edit_page.stroke((8, 50), (20, 50), (40, 50))
    expected = plain_mask(SIZE)
    expected[discs([(x, 50) for x in range(8, 41)], 5)] = LOWER_LIP
    np.testing.assert_array_equal(edit_page.exported(), expected)
    np.testing.assert_array_equal(edit_page.mask(), expected)
    assert edit_page.rendered(revision) > revision
    after = edit_page.pixels()
    scale = len(after) / SIZE
    changed = np.abs(after - before).max(axis=2) > 3
    assert changed[round(49 * scale) : round(52 * scale), round(9 * scale) : round(14 * scale)].any()
    assert not changed[: round(40 * scale)].any()
    assert re.fullmatch(r"\d+ ms|\d+\.\d s", edit_page.page.locator("#latency").text_content())


def test_a_stroke_is_painted_by_keys_alone(edit_page):
    edit_page.brush(3)
    edit_page.keys("h", "b", "Enter", "ArrowUp", "ArrowUp", "Enter")
    assert edit_page.page.evaluate("document.activeElement.id") == "stage"
    changed = np.argwhere(edit_page.mask() != plain_mask(SIZE))
    assert len(changed) > 3 and (edit_page.mask()[tuple(changed.T)] == HAIR).all()
    assert abs(changed[:, 1].mean() - SIZE / 2) < 3 and changed[:, 0].max() < SIZE / 2 + 3  # up from the centre
    edit_page.keys("Control+z")
    np.testing.assert_array_equal(edit_page.mask(), plain_mask(SIZE))


def test_quick_strokes_have_no_gaps_and_no_mixed_colours(edit_page):
    edit_page.brush(1)
    edit_page.keys("h")
    edit_page.stroke((2, 60), (60, 50))  # one jump of the mouse
    changed = np.argwhere(edit_page.mask() != plain_mask(SIZE))
    line = [(x, round(60 - 10 * (x - 2) / 58)) for x in range(2, 61)]
    drawn = {(x, y) for y, x in changed} | {(x, y) for x, y in line if plain_mask(SIZE)[y, x] == HAIR}
    assert {x for x, _ in drawn} == set(range(2, 61)) and len(drawn) == 59
    assert all(abs(y - (60 - 10 * (x - 2) / 58)) <= 0.51 for x, y in drawn)
    shown = edit_page.page.locator("#labels").evaluate(
        "(c) => { const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);"
        " return new Set(new Uint32Array(data.buffer)).size; }"
    )
    assert shown == len(np.unique(edit_page.mask()))
    assert edit_page.page.locator("#labels").evaluate("(c) => getComputedStyle(c).imageRendering") == "pixelated"


def test_undo_and_redo_go_stroke_by_stroke(edit_page):
    states = [plain_mask(SIZE)]
    for row, key in ((6, "1"), (12, "6"), (18, "e")):
        edit_page.keys("b", key)
        edit_page.stroke((5, row), (50, row))
        states.append(edit_page.mask())
    assert all((a != b).any() for a, b in pairwise(states))
    for state in reversed(states[:-1]):
        edit_page.keys("Control+z")
        np.testing.assert_array_equal(edit_page.mask(), state)
    assert edit_page.page.locator("#undo").is_disabled()
    for state in states[1:]:
        edit_page.keys("Control+Shift+z")
        np.testing.assert_array_equal(edit_page.mask(), state)
    assert edit_page.page.locator("#redo").is_disabled()
    edit_page.page.click("#undo")
    edit_page.keys("1")
    edit_page.stroke((30, 60), (31, 60))
    assert edit_page.page.locator("#redo").is_disabled()  # a new stroke ends what could be redone


def test_fill_pick_and_painting_over_one_class_only(edit_page):
    original = plain_mask(SIZE)
    edit_page.keys("i")
    edit_page.click(32, 14)
    assert edit_page.page.locator("#palette input:checked").get_attribute("value") == str(HAIR)
    assert edit_page.page.locator("input[name=tool]:checked").get_attribute("value") == "brush"
    edit_page.keys("g")
    edit_page.click(32, 35)  # the nose
    filled = np.where(original == NOSE, HAIR, original)
    np.testing.assert_array_equal(edit_page.mask(), filled)
    edit_page.keys("Control+z")
    edit_page.page.select_option("#over", str(SKIN))
    edit_page.keys("b")
    edit_page.brush(8)
    edit_page.stroke((5, 30), (60, 30))
    mask = edit_page.mask()
    changed = mask != original
    assert changed.any() and (original[changed] == SKIN).all() and (mask[changed] == HAIR).all()
    edit_page.keys("g")
    edit_page.click(2, 2)
    assert "limited to skin" in edit_page.notice()
    np.testing.assert_array_equal(edit_page.mask(), mask)
    edit_page.page.mouse.move(*edit_page.at(32, 14))
    edit_page.keys("l")
    assert edit_page.page.locator("#over").input_value() == ""
    edit_page.keys("l")
    assert edit_page.page.locator("#over").input_value() == str(HAIR)


def test_painting_hits_its_pixels_zoomed_and_moved(edit_page):
    edit_page.page.mouse.move(*edit_page.at(10, 40))
    edit_page.page.mouse.wheel(0, -400)
    stage, world = (edit_page.page.locator(name).bounding_box() for name in ("#stage", "#world"))
    assert world["width"] > stage["width"]
    edit_page.page.keyboard.down(" ")
    edit_page.stroke((12, 40), (9, 38))
    edit_page.page.keyboard.up(" ")
    edit_page.brush(1)
    edit_page.keys("h")
    edit_page.click(12, 42)
    expected = plain_mask(SIZE)
    expected[42, 12] = HAIR
    np.testing.assert_array_equal(edit_page.mask(), expected)
    edit_page.keys("z")
    world = edit_page.page.locator("#world").bounding_box()
    assert world["width"] < stage["width"] and world["height"] < stage["height"]


def test_fingers_paint_and_two_of_them_move_the_view(edit_page):
    touches = edit_page.page.context.new_cdp_session(edit_page.page)

    def touch(kind, *points):
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    edit_page.brush(1)
    edit_page.keys("h")
    touch("touchStart", edit_page.at(10, 60))
    touch("touchMove", edit_page.at(20, 60))
    touch("touchEnd")
    expected = plain_mask(SIZE)
    expected[60, 10:21] = HAIR
    np.testing.assert_array_equal(edit_page.mask(), expected)
    width = edit_page.page.locator("#world").bounding_box()["width"]
    (x0, y0), (x1, y1) = edit_page.at(20, 30), edit_page.at(40, 30)
    touch("touchStart", (x0, y0))
    touch("touchMove", (x0 + 30, y0 + 30))  # begins to paint, which the second finger takes back
    touch("touchStart", (x0, y0), (x1, y1))
    touch("touchMove", (x0 - 80, y0), (x1 + 80, y1))
    touch("touchEnd")
    assert edit_page.page.locator("#world").bounding_box()["width"] > 1.3 * width
    np.testing.assert_array_equal(edit_page.mask(), expected)


def test_the_divider_shows_before_and_after(edit_page):
    edit_page.keys("h")
    edit_page.brush(20)
    revision = edit_page.rendered()
    edit_page.stroke((32, 40), (34, 44))
    edit_page.rendered(revision)
    box = edit_page.page.locator("#result").bounding_box()
    x, y = box["x"], box["y"] + box["height"] / 3
    edit_page.page.mouse.move(x + 12, y)
    edit_page.page.mouse.down()
    edit_page.page.mouse.move(x + box["width"] * 0.6, y)
    edit_page.page.mouse.up()
    divider = edit_page.page.locator("#divider")
    assert int(divider.get_attribute("aria-valuenow")) == pytest.approx(60, abs=1)
    clip = edit_page.page.locator("#before").evaluate("(img) => getComputedStyle(img).clipPath")
    right = float(clip.split()[1].rstrip("%"))
    assert right == pytest.approx(40, abs=1)
    divider.focus()
    edit_page.keys("ArrowRight", "ArrowRight")
    assert int(divider.get_attribute("aria-valuenow")) == pytest.approx(70, abs=1)
    assert np.abs(edit_page.pixels("#after") - edit_page.pixels("#before")).max() > 20


def test_another_photo_lends_a_part(edit_page):
    revision = edit_page.rendered()
    edit_page.page.locator("#views label").nth(1).click()  # the network's picture
    revision = edit_page.rendered(revision)
    own = edit_page.pixels()
    edit_page.choose(".slot[data-component=hair] .thumb", edit_page.folder / "ben.png")
    edit_page.page.wait_for_selector(".slot[data-component=hair].assigned")
    revision = edit_page.rendered(revision)
    full = edit_page.pixels()
    hair = plain_mask(SIZE) == HAIR
    assert np.abs(full - own)[hair].max() > 20 and (full == own)[~hair].all()
    edit_page.page.locator(".slot[data-component=hair] input").fill("50")
    edit_page.rendered(revision)
    half = edit_page.pixels()
    np.testing.assert_allclose(half[hair], (full + own)[hair] / 2, atol=1.01)
    assert edit_page.page.locator(".slot[data-component=all] select").input_value() == "mixed"
    edit_page.page.locator(".slot[data-component=all] select").select_option(label="ben.png")
    lent = edit_page.page.locator(".slot.assigned:not([data-component=all])")
    assert lent.count() == 5
    edit_page.page.locator(".slot[data-component=all] select").select_option(label="this photo")
    revision = edit_page.rendered(revision + 1)
    assert lent.count() == 0


def test_masks_come_in_and_go_out(edit_page):
    mask = np.random.default_rng(1).integers(0, 11, (SIZE, SIZE), dtype=np.uint8)
    (edit_page.folder / "noise.png").write_bytes(encode_labels(mask))
    (edit_page.folder / "small.png").write_bytes(encode_labels(mask[:32]))
    edit_page.choose("#import-mask", edit_page.folder / "noise.png")
    edit_page.page.wait_for_selector("#undo:enabled")
    exported = edit_page.download("#export-mask")
    assert exported.name == "anna.mask.png"
    np.testing.assert_array_equal(read_labels(exported), mask)
    assert Image.open(exported).convert("RGB").getextrema() != ((0, 0),) * 3
    edit_page.errors_expected = True
    edit_page.choose("#import-mask", edit_page.folder / "small.png")
    edit_page.page.wait_for_selector("#notice[data-kind=error]")
    assert edit_page.notice() == f"small.png: has {SIZE}x32 pixels; a mask for this page has {SIZE}x{SIZE}"
    np.testing.assert_array_equal(edit_page.mask(), mask)
    edit_page.page.click("#reset-mask")
    np.testing.assert_array_equal(edit_page.mask(), plain_mask(SIZE))


def test_the_photo_the_change_and_the_face_are_exported(edit_page):
    edit_page.brush(12)
    edit_page.keys("h")
    edit_page.stroke((20, 40), (44, 40))
    photo = edit_page.download("#export")
    assert photo.name == "anna.edited.png"
    saved = np.array(Image.open(photo)).astype(int)
    assert saved.shape == (HEIGHT, WIDTH, 3)
    changed = (saved != portrait_pixels()).any(axis=2)
    assert changed.any() and not changed[:8].any()
    face = edit_page.download("#export-face")
    assert face.name == "anna.face.png" and Image.open(face).size == (SIZE, SIZE)
    assert edit_page.download("#export-change").name == "anna.change.tif"
    edit_page.page.select_option("#format", "jpg")
    edit_page.page.locator("#provenance").uncheck()
    with edit_page.page.expect_download() as download:
        edit_page.keys("Control+s")
    assert download.value.suggested_filename == "anna.edited.jpg"
    assert b"maskgan" not in Path(download.value.path()).read_bytes()
    assert edit_page.unsaved()  # these files hold no mask
    edit_page.exported()
    assert not edit_page.unsaved()
    edit_page.keys("Control+z")
    assert edit_page.unsaved()


def test_a_mask_that_fits_better_changes_what_the_network_knows(edit_page):
    revision = edit_page.rendered()
    edit_page.page.locator("#views label").nth(1).click()
    revision = edit_page.rendered(revision)
    edit_page.keys("h", "g")
    edit_page.click(2, 2)  # all background becomes hair
    revision = edit_page.rendered(revision)
    before = edit_page.pixels()
    edit_page.page.click("#reencode")
    edit_page.rendered(revision)
    assert "read through this mask" in edit_page.notice()
    assert np.abs(edit_page.pixels() - before)[plain_mask(SIZE) == HAIR].max() > 2  # hair's colour is another mean


def test_dropped_photos_warnings_and_refusals(edit_page):
    edit_page.keys("e")
    edit_page.brush(20)
    edit_page.stroke((26, 45), (38, 45))
    edit_page.page.locator("#warnings li", has_text="mouth").wait_for()
    edit_page.errors_expected = True
    edit_page.page.on("dialog", lambda dialog: dialog.accept())
    drop = """([name, bytes]) => { const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], name));
      document.querySelector('#stage').dispatchEvent(
        new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })); }"""
    edit_page.page.evaluate(drop, ["notes.txt", list(b"no picture at all")])
    edit_page.page.wait_for_selector("#notice[data-kind=error]")
    assert edit_page.notice().startswith("notes.txt: is not a photo")
    assert "anna.png" in edit_page.page.locator("#photo-name").text_content()
    square = encoded(portrait_pixels(7, 100, 100))
    edit_page.page.evaluate(drop, ["face.png", list(square)])
    edit_page.page.wait_for_selector("#notice-action:visible")
    assert "no face was found" in edit_page.notice()
    edit_page.page.click("#notice-action")
    edit_page.page.locator("#photo-name", has_text="face.png").wait_for()
    expected = plain_mask(SIZE)
    np.testing.assert_array_equal(edit_page.mask(), expected)
    edit_page.brush(5)
    edit_page.page.keyboard.down("Shift")
    edit_page.click(32, 14)
    edit_page.page.keyboard.up("Shift")
    expected[discs([(32, 14)], 5)] = 0  # no line from where the other photo's last stroke ended
    np.testing.assert_array_equal(edit_page.mask(), expected)


def test_everything_can_be_named_and_reached_by_keys(edit_page):
    edit_page.keys("?")
    assert edit_page.page.locator("#help-dialog").is_visible()
    assert "straight line" in edit_page.page.locator("#help-dialog").text_content()
    edit_page.keys("Escape")
    assert not edit_page.page.locator("#help-dialog").is_visible()
    nameless = edit_page.page.evaluate(
        """() => [...document.querySelectorAll('button:not([hidden]), input:not([type=file]), select, [role=slider]')]
          .filter((e) => !(e.textContent.trim() || e.ariaLabel || e.labels?.[0]?.textContent.trim()))
          .map((e) => e.outerHTML)"""
    )
    assert nameless == []
    for key, tool in (("e", "eraser"), ("g", "fill"), ("i", "pick"), ("v", "hand"), ("b", "brush")):
        edit_page.keys(key)
        assert edit_page.page.locator("input[name=tool]:checked").get_attribute("value") == tool
    edit_page.keys("1", "2", "x")
    assert edit_page.page.locator("#palette input:checked").get_attribute("value") == "1"
    edit_page.brush(7)
    for key, size in (("]", 8), ("]", 10), ("[", 8), ("[", 6)):
        edit_page.keys(key)
        assert edit_page.page.locator("#size-value").text_content() == f"{size} px"
    edit_page.keys("m")
    assert edit_page.page.locator("#labels").evaluate("(c) => c.style.opacity") == "0"


def visit_another_tool(page):
    """Follow the tabs to the second tool and back."""
    for name in ("second", "edit"):
        page.page.click(f"#tabs a[href*='/{name}/']")  # a warning before leaving would keep the page
        page.page.wait_for_url(f"**/{name}/?file=*")
        page.page.wait_for_selector("html[data-ready]")
    page.rendered()


def test_what_was_painted_is_there_again_after_a_visit_of_another_tool(edit_page_of_two):
    page = edit_page_of_two
    page.choose(".slot[data-component=hair] .thumb", page.folder / "ben.png")
    page.page.wait_for_selector(".slot[data-component=hair].assigned")
    revision = page.rendered()
    page.keys("h")
    page.stroke((5, 50), (20, 50))
    page.rendered(revision)
    painted, face = page.mask(), page.pixels()
    assert page.unsaved()
    visit_another_tool(page)
    np.testing.assert_array_equal(page.mask(), painted)
    np.testing.assert_array_equal(page.pixels(), face)
    assert page.page.locator(".slot[data-component=hair].assigned").count() == 1
    assert page.unsaved()
    visit_another_tool(page)  # what came back is kept in its turn
    assert page.page.locator(".slot[data-component=hair].assigned").count() == 1
    page.page.click("#reset-mask")
    np.testing.assert_array_equal(page.mask(), plain_mask(SIZE))


def test_a_mask_is_there_again_if_the_server_has_closed_the_photo(edit_page_of_two):
    page = edit_page_of_two
    page.errors_expected = True
    page.keys("h")
    page.stroke((5, 50), (20, 50))
    painted = page.mask()
    assert (painted != plain_mask(SIZE)).any()
    page.page.route("**/edit/**/labels", lambda route: route.fulfill(status=404, json={"error": "closed"}), times=1)
    visit_another_tool(page)
    np.testing.assert_array_equal(page.mask(), painted)


def test_it_fits_small_windows_and_tablets(edit_page):
    (edit_page.folder / LONG_NAME).write_bytes(encoded(portrait_pixels()))
    edit_page.choose("#open", edit_page.folder / LONG_NAME)
    edit_page.page.locator("#photo-name", has_text=LONG_NAME).wait_for()
    edit_page.choose(".slot[data-component=hair] .thumb", edit_page.folder / LONG_NAME)
    edit_page.page.wait_for_selector(".slot[data-component=hair].assigned")
    for width, height in WINDOWS:
        edit_page.require_fit(width, height, "#export", ".result-panel")


def test_the_network_is_adapted_with_progress_and_what_is_painted_stays(edit_page, editor):
    edit_page.keys("h")
    edit_page.stroke((5, 50), (20, 50))
    painted, before, revision = edit_page.mask(), edit_page.pixels(), edit_page.rendered()
    edit_page.page.click("#adapt")
    edit_page.page.wait_for_function("() => document.querySelector('#adapted').value > 0.2")
    assert edit_page.page.locator("#adapt").text_content() == "Cancel"
    assert "adapted to this face" in edit_page.notice()
    edit_page.rendered(revision)
    assert (edit_page.mask() == painted).all() and np.abs(edit_page.pixels() - before).max() > 30
    assert edit_page.page.locator("#adapt").text_content() == "Adapt to this face"
    assert edit_page.page.locator("#adapted").is_hidden()


def test_an_adaptation_is_cancelled(edit_page, editor):
    before = edit_page.pixels()
    edit_page.page.click("#adapt")
    edit_page.page.wait_for_function("() => document.querySelector('#adapted').value > 0")
    edit_page.page.click("#adapt")
    edit_page.page.wait_for_selector("#adapted", state="hidden")
    taken = editor.taken
    edit_page.page.wait_for_timeout(500)
    assert editor.taken <= taken + 2 and taken < 80
    assert (edit_page.pixels() == before).all()


def test_another_photo_cancels_an_adaptation(edit_page, editor):
    edit_page.page.click("#adapt")
    edit_page.page.wait_for_function("() => document.querySelector('#adapted').value > 0")
    edit_page.choose("#open", edit_page.folder / "ben.png")
    edit_page.page.locator("#photo-name", has_text="ben.png").wait_for()
    edit_page.page.wait_for_selector("#adapted", state="hidden")
    taken = editor.taken
    edit_page.page.wait_for_timeout(500)
    assert editor.taken <= taken + 2 and taken < 80


def test_the_browsers_file_leads_to_the_page(browser, address, tmp_path):
    """As the command opens it; chromium counts the file as another page."""
    entrance = write_redirect_page(tmp_path, f"{address}/?token={ONE_TIME_TOKEN}")
    context = browser.new_context()
    page = context.new_page()
    page.goto(entrance.as_uri())
    page.wait_for_url(f"{address}/edit/", timeout=TIMEOUT)
    page.wait_for_selector("html[data-ready]", timeout=TIMEOUT)
    context.close()


def test_axe_finds_nothing(edit_page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    results = axe.run(edit_page.page)
    assert results.violations_count == 0, results.generate_report()


def test_a_face_of_several_is_chosen_by_keys_and_named_for_screen_readers(edit_page, files, two_faces):
    page = edit_page.page
    assert page.locator("#faces").is_hidden()  # anna.png was opened with one face
    edit_page.choose("#open", files / "anna.png")
    page.wait_for_selector("#faces", state="visible")
    revision = edit_page.rendered()
    first = edit_page.pixels("#face")
    page.get_by_role("group", name="Face", exact=True).get_by_role("radio", name="Face 1 of 2").focus()
    edit_page.keys("ArrowRight")
    edit_page.rendered(revision)
    second = page.get_by_role("radio", name="Face 2 of 2")
    assert second.is_checked() and second.evaluate("(radio) => radio === document.activeElement")
    assert first.shape != edit_page.pixels("#face").shape or (first != edit_page.pixels("#face")).any()

    edit_page.keys("h")
    edit_page.stroke((8, 50), (40, 50))
    painted = edit_page.mask()
    asked = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    with page.expect_event("dialog"):
        edit_page.keys("n")
    assert "has not been saved" in asked[0] and second.is_checked()
    np.testing.assert_array_equal(edit_page.mask(), painted)
    page.once("dialog", lambda dialog: dialog.accept())
    edit_page.keys("n")
    page.wait_for_function("() => document.querySelector('#faces input').checked")
    edit_page.rendered()
    np.testing.assert_array_equal(edit_page.mask(), plain_mask(SIZE))
    np.testing.assert_array_equal(edit_page.pixels("#face"), first)
