"""The demo in a real Chromium: drawn on with mouse, finger and keyboard."""

import os
import shutil

import numpy as np
import pytest
from drawing import STROKES

api = pytest.importorskip("playwright.sync_api", reason="wants Playwright: pip install -r requirements-browser.txt")


@pytest.fixture(scope="module")
def chromium():
    names = ("chromium", "chromium-browser", "google-chrome")
    installed = next(filter(None, map(shutil.which, names)), None)
    with api.sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        try:
            browser = playwright.chromium.launch(executable_path=installed, args=flags)
        except api.Error:
            pytest.skip("wants Chromium: playwright install chromium")
        yield browser
        browser.close()


@pytest.fixture(params=["light", *(pytest.param(kind, marks=pytest.mark.exhaustive) for kind in ("dark", "phone"))])
def page(request, chromium, server):
    """The demo's page, empty; it must have asked for nothing but its own two routes, without errors."""
    phone = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
    options = phone if request.param == "phone" else {"color_scheme": request.param}
    address = f"http://127.0.0.1:{server.server_port}/"
    context = chromium.new_context(**options)
    page, problems = context.new_page(), []
    page.on("request", lambda request: request.url in (address, f"{address}answer") or problems.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    # Of the first points of a stroke there may be nothing to read yet: 422.
    page.on("console", lambda message: "422" in message.text or problems.append(message.text))
    page.goto(address)
    yield page
    context.close()
    assert problems == []


def points(page, digit: int, height: float = 0.7) -> list[list[tuple[float, float]]]:
    """Return the strokes of a digit in pixels of the page, over its drawing area."""
    box = page.locator("#drawing").bounding_box()
    return [
        [tuple(box[side] + box["width"] * (0.5 + height * (v - 0.5)) for side, v in zip("xy", point, strict=True))
         for point in stroke]
        for stroke in STROKES[digit]
    ]  # fmt: skip


def draw_with_mouse(page, digit: int, **options) -> None:
    for first, *rest in points(page, digit, **options):
        page.mouse.move(*first)
        page.mouse.down()
        for point in rest if len(rest) < 10 else [*rest[:-3:3], *rest[-3:]]:
            page.mouse.move(*point)
        page.mouse.up()


def expect_answer(page, digit: object) -> None:
    """Wait until the page has spoken its answer, or has none any more, and asks for no other one."""
    page.wait_for_function(
        """answer => !isAsking && document.getElementById('announcement').textContent.split(',')[0] === answer
            && document.getElementById('digit').textContent === answer""",
        arg=str(digit),
        timeout=10_000,
    )


def bars(page) -> list[float]:
    """Return the lengths of the ten bars, as fractions of the longest that they can have."""
    return page.eval_on_selector_all(
        "td.bar", "bars => bars.map(bar => bar.firstChild.clientWidth / (bar.clientWidth - 8))"
    )


@pytest.mark.parametrize("pen", ["Thin", pytest.param("Thick", marks=pytest.mark.exhaustive)])
def test_digits_drawn_with_the_mouse_are_read(page, digits, pen):
    page.get_by_label(pen).check()
    for digit in digits:
        draw_with_mouse(page, digit)
        expect_answer(page, digit)
        lengths = bars(page)
        assert lengths[digit] == max(lengths) > 0.4
        assert sum(lengths) == pytest.approx(1, abs=0.05)
        page.get_by_role("button", name="Clear").click()
        expect_answer(page, "")
        assert max(bars(page)) == 0


def test_answer_changes_as_one_draws(page):
    (corner, top, foot), = points(page, 7)  # fmt: skip
    page.mouse.move(*top)
    page.mouse.down()
    page.mouse.move(*foot, steps=5)
    page.wait_for_function("() => document.getElementById('digit').textContent === '1'")
    page.mouse.up()
    page.mouse.move(*top)
    page.mouse.down()
    page.mouse.move(*corner, steps=5)
    page.wait_for_function("() => document.getElementById('digit').textContent === '7'")  # before the stroke has ended
    page.mouse.up()


def test_undo_takes_back_one_stroke(page):
    draw_with_mouse(page, 1)
    expect_answer(page, 1)
    box = page.locator("#drawing").bounding_box()
    page.mouse.move(box["x"] + 30, box["y"] + box["height"] - 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 30, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    page.get_by_role("button", name="Undo").click()
    expect_answer(page, 1)
    page.keyboard.press("Control+z")
    expect_answer(page, "")
    assert page.get_by_role("button", name="Undo").is_disabled()
    assert page.get_by_role("button", name="Clear").is_disabled()


def test_stroke_that_is_undone_while_it_is_drawn_is_gone(page):
    draw_with_mouse(page, 1)
    expect_answer(page, 1)
    before = page.evaluate("strokes[0].points.length")
    box = page.locator("#drawing").bounding_box()
    page.mouse.move(box["x"] + 30, box["y"] + 30)
    page.mouse.down()
    page.keyboard.press("Control+z")
    page.keyboard.press(" ")  # which puts down the keyboard's pen, but not in the middle of a stroke
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.up()
    assert page.evaluate("strokes.map(stroke => stroke.points.length)") == [before]
    expect_answer(page, 1)


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_digit_drawn_with_a_finger_is_read_and_scrolls_nothing(page):
    session = page.context.new_cdp_session(page)

    def touch(kind, *places):
        fingers = [{"x": x, "y": y} for x, y in places]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    for first, *rest in points(page, 3):
        touch("touchStart", first)
        for point in rest:
            touch("touchMove", point)
        touch("touchEnd")
    expect_answer(page, 3)
    assert page.evaluate("scrollY") == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_digit_drawn_with_the_keyboard_is_read_and_spoken(page):
    page.get_by_role("application", name="Drawing area").focus()
    for key, times in [("ArrowLeft", 5), (" ", 1), ("ArrowRight", 10), ("ArrowDown", 14), (" ", 1), ("ArrowUp", 2)]:
        for _ in range(times):
            page.keyboard.press(key)
    expect_answer(page, 7)
    spoken, percent = page.evaluate(
        "['#announcement', 'tr.best .percent'].map(at => document.querySelector(at).textContent)"
    )
    assert spoken == f"7, {percent}"
    assert page.text_content("#pen-state") == "Pen up"
    page.keyboard.press("Backspace")
    expect_answer(page, "")


def test_button_that_becomes_disabled_gives_the_focus_back(page):
    for name in ("Undo", "Clear"):
        draw_with_mouse(page, 1)
        page.get_by_role("button", name=name).focus()
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "drawing"


def test_bars_are_seen_in_forced_colours(page):
    page.emulate_media(forced_colors="active")
    draw_with_mouse(page, 1)
    expect_answer(page, 1)
    colours = [page.eval_on_selector(place, "element => getComputedStyle(element).backgroundColor")
               for place in ("tr.best td.bar div", "body")]  # fmt: skip
    assert colours[0] != colours[1]


def test_all_is_reached_by_tab_and_has_a_name(page):
    draw_with_mouse(page, 1)
    names = []
    for _ in range(4):  # from the drawing area on, where the mouse was
        element = "document.activeElement"
        names.append(page.evaluate(f"{element}.ariaLabel || {element}.labels?.[0]?.innerText || {element}.innerText"))
        page.keyboard.press("Tab")
    assert sorted(name.strip() for name in names) == ["Clear", "Drawing area", "Thick", "Undo"]
    assert page.get_by_role("img", name="as the network sees it").count() == 1
    assert page.get_by_role("table", name="Probability of each digit").get_by_role("row").count() == 10


def test_image_that_the_network_sees_is_shown(page):
    with page.expect_request("**/answer") as asked:
        draw_with_mouse(page, 0)
    expect_answer(page, 0)
    shown = page.evaluate("[...imageContext.getImageData(0, 0, 28, 28).data].filter((_, place) => place % 4 === 0)")
    assert asked.value.post_data_buffer.startswith(b"\x89PNG")
    assert 20 < np.count_nonzero(np.array(shown) > 127) < 300
    assert np.array(shown).reshape(28, 28)[12:16, 13:15].max() == 0  # the middle of the 0


def test_dot_is_no_digit_which_is_said_when_the_stroke_has_ended(page):
    box = page.locator("#drawing").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    with page.expect_response("**/answer") as asked:
        page.mouse.down()
    assert asked.value.status == 422
    page.wait_for_function("() => !isAsking")
    assert page.text_content("#error") == ""
    page.mouse.up()
    page.wait_for_function("() => byId('error').textContent === 'there is no digit in the picture'")
    draw_with_mouse(page, 3)
    expect_answer(page, 3)
    assert page.text_content("#error") == ""


def test_end_of_the_program_is_told(page):
    page.evaluate("() => { window.fetch = () => Promise.reject(TypeError()); }")
    draw_with_mouse(page, 1)
    page.get_by_text("is demo.py still running?").wait_for()
