"""The demo in a real Chromium: drawn on with mouse, finger and keyboard."""

import os
import re
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import REPOSITORY, serving
from drawing import STROKES

from model import DigitCNN
from own_digits.digit_image import views
from training.run_files import load_weights

api = pytest.importorskip("playwright.sync_api", reason="wants Playwright: pip install -e .[browser]")


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


@contextmanager
def opened(chromium, server, kind: str):
    """Open the demo's page, empty; it must ask for nothing but the server's routes, without errors."""
    phone = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
    options = {"color_scheme": "dark" if "dark" in kind else "light", **(phone if "phone" in kind else {})}
    address = f"http://127.0.0.1:{server.server_port}"
    routes = {f"{address}{path}" for path in (*server.contents, *server.models)}
    context = chromium.new_context(**options)
    page, problems = context.new_page(), []
    page.on("request", lambda request: request.url in routes or problems.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    # Of the first points of a stroke there may be nothing to read yet: 422. And the tests read canvases.
    expected = ("422", "willReadFrequently")
    page.on("console", lambda message: any(e in message.text for e in expected) or problems.append(message.text))
    page.goto(address)
    page.wait_for_function("() => weights.length > 0")
    yield page
    context.close()
    assert problems == []


KINDS = ["light", *(pytest.param(kind, marks=pytest.mark.exhaustive) for kind in ("dark", "phone", "dark phone"))]


@pytest.fixture(params=["light", *(pytest.param(kind, marks=pytest.mark.exhaustive) for kind in ("dark", "phone"))])
def page(request, chromium, server):
    with opened(chromium, server, request.param) as page:
        yield page


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


def unfold(page) -> None:
    """Open the part of the page that is folded away on a phone."""
    if not page.locator("#layers").is_visible():
        page.get_by_text("Inside the network").click()


def bars(page) -> list[float]:
    """Return the lengths of the ten bars, as fractions of the longest that they can have."""
    return page.eval_on_selector_all(
        "td.bar", "bars => bars.map(bar => bar.firstChild.clientWidth / (bar.clientWidth - 8))"
    )


def shown(page, canvases: str, colours: str) -> np.ndarray:
    """Return the pixels of each canvas, (N, pixels): the places of their colours, 0 to 255, among the 256 colours."""
    pixels = page.eval_on_selector_all(
        canvases,
        "all => all.map(one => [...one.getContext('2d').getImageData(0, 0, one.width, one.height).data])",
    )
    pixels, colours = np.array(pixels), np.array(page.evaluate(colours))  # (N, 4 * pixels), (256, 4)
    distances = np.abs(pixels.reshape(len(pixels), -1, 1, 4) - colours).max(axis=-1)
    assert distances.min(axis=-1).max() <= 0.5  # to which colours are rounded
    return distances.argmin(axis=-1)


def expected_activations(model, image: np.ndarray) -> dict[str, np.ndarray]:
    """Return, of each layer, (maps, cells): what the textbook network makes of an image, (784,) from 0 to 255."""
    x = (torch.from_numpy(image).float().view(1, 1, 28, 28) / 255 - 0.1307) / 0.3081
    with torch.inference_mode():
        first = F.max_pool2d(F.relu(F.conv2d(x, model.conv1.weight, model.conv1.bias, padding=1)), 2)
        second = F.max_pool2d(F.relu(F.conv2d(first, model.conv2.weight, model.conv2.bias, padding=1)), 2)
        units = F.relu(model.fc1(second.reshape(500)))
    layers = {"conv1": first.view(10, 169), "conv2": second.view(20, 25), "fc1": units.view(50, 1)}
    return {layer: values.numpy() for layer, values in layers.items()}


def expect_activations(page, model) -> None:
    """Check what the page shows of each layer against a forward pass for the image that it shows."""
    expected = expected_activations(model, shown(page, "#image", "GREYS")[0])
    for layer, values in expected.items():
        scale = values.max()
        pixels = scale / 255 * shown(page, f"#{layer} canvas", "GLOW")
        np.testing.assert_allclose(pixels, values, rtol=0, atol=scale / 255)  # half of it is the rounding to bytes
        assert page.text_content(f"#{layer} .scale") == f"0{scale:.1f}"


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
def test_second_finger_does_not_end_the_stroke_of_the_first(page):
    session = page.context.new_cdp_session(page)
    box = page.locator("#drawing").bounding_box()

    def touch(kind, *fingers):
        points = [{"id": number, "x": box["x"] + x, "y": box["y"] + y} for number, x, y in fingers]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (0, 50, 50))
    touch("touchMove", (0, 60, 60))
    touch("touchStart", (0, 60, 60), (1, 150, 150))
    touch("touchEnd", (1, 150, 150))
    touch("touchMove", (0, 80, 80))
    touch("touchEnd")
    page.wait_for_function("() => pointerId === null")
    assert page.evaluate("strokes.map((stroke) => stroke.points.length)") == [3]


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
    for _ in range(8):  # from the drawing area on, where the mouse was; of a layer's maps, one is a stop
        element = "document.activeElement"
        names.append(page.evaluate(f"{element}.ariaLabel || {element}.labels?.[0]?.innerText || {element}.innerText"))
        if page.evaluate(f"{element}.localName") == "summary" and not page.locator("#layers").is_visible():
            page.keyboard.press("Enter")
        page.keyboard.press("Tab")
    stops = ["Drawing area", "Thick", "Undo", "Clear", "Inside the network", "Map 1", "Map 1", "Unit 1"]
    assert [name.strip() for name in names] == stops
    assert page.get_by_role("img", name="as the network sees it").count() == 1
    assert page.get_by_role("table", name="Probability of each digit").get_by_role("row").count() == 10


def test_image_that_the_network_sees_is_shown(page):
    with page.expect_request("**/answer/0") as asked:
        draw_with_mouse(page, 0)
    expect_answer(page, 0)
    assert asked.value.post_data_buffer.startswith(b"\x89PNG")
    image = shown(page, "#image", "GREYS")[0].reshape(28, 28)
    assert 20 < np.count_nonzero(image > 127) < 300
    assert image[12:16, 13:15].max() == 0  # the middle of the 0


def uploaded(page) -> np.ndarray:
    """Return where the picture that the server got has ink, (96, 96) bool."""
    page.wait_for_function("() => !isAsking")
    alpha = "[...upload.getContext('2d').getImageData(0, 0, 96, 96).data].filter((_, i) => i % 4 === 3)"
    return np.array(page.evaluate(alpha)).reshape(96, 96) > 127


@pytest.mark.parametrize("height", [0.2, pytest.param(0.5, marks=pytest.mark.exhaustive)])
def test_small_digit_is_sent_as_large_as_a_big_one(page, height):
    draw_with_mouse(page, 4, height=height)
    expect_answer(page, 4)
    rows, columns = np.nonzero(uploaded(page))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(96 / 1.5, abs=2)  # pixels, for the pen's soft edge


def test_stroke_out_of_the_drawing_area_is_sent_as_far_as_it_is_seen(page):
    box = page.locator("#drawing").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] - 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.up()
    ink = uploaded(page)
    assert ink[:, 0].any() and not ink[:, -1].any()
    x, y, side = page.evaluate("squareAround()")
    assert x == 0 and y > 0 and side < 392


def test_dot_is_no_digit_which_is_said_when_the_stroke_has_ended(page):
    box = page.locator("#drawing").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    with page.expect_response("**/answer/0") as asked:
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


@pytest.mark.parametrize("page", KINDS, indirect=True)
def test_maps_of_each_layer_light_up_as_in_a_forward_pass(page, reference):
    assert all(shown(page, f"#{layer} canvas", "GLOW").max() == 0 for layer in ("conv1", "conv2", "fc1"))
    draw_with_mouse(page, 3)
    expect_answer(page, 3)
    expect_activations(page, reference)
    of_the_three = shown(page, "#conv1 canvas", "GLOW")
    page.get_by_role("button", name="Clear").click()
    expect_answer(page, "")
    assert shown(page, "#conv1 canvas", "GLOW").max() == 0
    draw_with_mouse(page, 1)
    expect_answer(page, 1)
    expect_activations(page, reference)
    of_the_one = shown(page, "#conv1 canvas", "GLOW")
    assert (of_the_one != of_the_three).any(axis=1).sum() > 5  # of ten; a map that answers to neither stays dark


@pytest.mark.parametrize("page", KINDS, indirect=True)
def test_all_maps_are_seen_and_fold_away_on_a_phone(page):
    width = page.viewport_size["width"]
    maps = page.locator("#inside label canvas")
    draw_with_mouse(page, 3)
    expect_answer(page, 3)
    if width == 360:
        assert not maps.first.is_visible()
        unfold(page)
    boxes = [canvas.bounding_box() for canvas in maps.all()]
    assert len(boxes) == 10 + 20 + 50
    for box in boxes:
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width
        assert box["width"] >= (24 if width == 360 else 18)  # pixels: 24 are enough for a finger
        assert box["height"] == pytest.approx(box["width"], abs=0.1)
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_kernel_of_a_map_is_shown_to_the_keyboard(page, reference):
    unfold(page)
    page.locator("summary").focus()
    for key, times, name, weights in [
        ("Tab", 1, "Map 1, first convolution", reference.conv1.weight[0]),
        ("ArrowRight", 2, "Map 3, first convolution", reference.conv1.weight[2]),
        ("Tab", 1, "Map 1, second convolution", reference.conv2.weight[0]),
        ("ArrowLeft", 1, "Map 20, second convolution", reference.conv2.weight[19]),
        ("Tab", 1, "Unit 1, fully connected layer", reference.fc2.weight[:, 0]),
        ("ArrowDown", 7, "Unit 8, fully connected layer", reference.fc2.weight[:, 7]),
        ("Shift+Tab", 1, "Map 20, second convolution", reference.conv2.weight[19]),
    ]:
        for _ in range(times):
            page.keyboard.press(key)
        assert page.text_content("#kernel-name") == name
        expected = weights.detach().reshape(len(weights), -1).numpy()
        largest = np.abs(expected).max()
        pixels = largest * (shown(page, "#weights canvas", "SIGNED") / 127.5 - 1)
        # A pixel is rounded by half of 1/127.5 of the largest weight, and weights are sent with three decimals.
        np.testing.assert_allclose(pixels, expected, rtol=0, atol=0.51 / 127.5 * largest + 0.002)
        focused = page.evaluate("document.activeElement.parentElement.className")
        assert focused == "shown" and page.locator("label.shown").count() == 1
    spoken = page.text_content("#kernel-text")
    assert "above all in maps" in spoken
    named = [int(number) - 1 for number in re.findall(r"\d+", spoken)]
    norms = reference.conv2.weight[19].detach().flatten(1).norm(dim=1)
    # Of 25 weights with an error of 0.0005 each, the norm has an error of 0.0025 at most.
    assert norms[named].tolist() == pytest.approx(norms.topk(3).values.tolist(), abs=0.005)


def test_kernel_of_a_map_is_shown_to_the_mouse(page, reference):
    unfold(page)
    page.locator("#fc1 label").nth(7).hover()
    assert page.text_content("#kernel-name") == "Unit 8, fully connected layer"
    votes = reference.fc2.weight[:, 7].argsort().tolist()
    text = page.text_content("#kernel-text")
    assert text.endswith("votes most for {} and {}, and most against {} and {}.".format(*votes[:-3:-1], *votes[:2]))
    page.locator("#conv1 label").nth(3).hover()
    assert page.text_content("#kernel-name") == "Map 4, first convolution"
    pattern = page.evaluate("kernel => aboutPattern([kernel])", reference.conv1.weight[3].flatten().tolist())
    assert pattern in page.text_content("#kernel-text")


def test_pattern_that_a_kernel_answers_to_is_put_in_words(page):
    y, x = np.mgrid[-2:3, -2:3]
    rng = np.random.default_rng(0)
    for kernel, words in [
        (x > 0, "an edge: ink at the right, none at the left (correlation 0.87)"),
        (y < 0, "an edge: ink at the top, none at the bottom (correlation 0.87)"),
        (x + y < 0, "an edge: ink at the top left, none at the bottom right"),
        (x == 0, "a vertical line of ink"),
        (x != y, "a falling gap between ink"),
        (x == -y, "a rising line of ink"),
        (abs(x) + abs(y) == 2, "a pattern that has no simple name"),
    ]:
        values = kernel + rng.uniform(0, 0.001, (5, 5))
        text = page.evaluate("kernel => aboutPattern([kernel])", values.flatten().tolist())
        assert words in text
    correlation = np.corrcoef(x.flatten(), (x > 0).flatten())[0, 1]
    assert f"{correlation:.2f}" == "0.87"


def test_frame_is_around_the_pixels_that_the_strongest_cell_of_a_map_sees(page, reference):
    draw_with_mouse(page, 3)
    expect_answer(page, 3)
    unfold(page)
    expected = expected_activations(reference, shown(page, "#image", "GREYS")[0])
    for layer, index in [("conv1", 2), ("conv1", 9), ("conv2", 3), ("conv2", 13)]:
        page.locator(f"#{layer} label").nth(index).hover()
        frame, image = (page.locator(place).bounding_box() for place in ("#spot", "#image"))
        # With positive kernels and average pooling, the pixels that a cell sees are those with a gradient.
        pixels = torch.zeros(1, 1, 28, 28, requires_grad=True)
        maps = F.avg_pool2d(F.conv2d(pixels, torch.ones(10, 1, 5, 5), padding=1), 2)
        if layer == "conv2":
            maps = F.avg_pool2d(F.conv2d(maps, torch.ones(20, 10, 5, 5), padding=1), 2)
        maps[0, index].flatten()[expected[layer][index].argmax()].backward()
        rows, columns = pixels.grad[0, 0].nonzero().T
        for side, length, seen in [("x", "width", columns), ("y", "height", rows)]:
            start = (frame[side] - image[side] - 1) / 3  # after the border, in pixels of 3 by 3
            assert max(round(start), 0) == seen.min()
            assert min(round(start + frame[length] / 3), 28) == seen.max() + 1


def test_one_steps_through_checkpoints_with_the_keyboard(chromium, reference):
    names = ["1.pt (epoch 1, mnist)", "3.pt (epoch 3, mnist)"]
    load_weights(REPOSITORY / "results" / "default" / "weights.pt", other := DigitCNN().eval())
    models = {names[0]: other, names[1]: reference}
    with serving(models) as server, opened(chromium, server, "light") as page:
        slider = page.get_by_role("slider", name="Checkpoint")
        draw_with_mouse(page, 3)
        page.wait_for_function("() => !isAsking && byId('announcement').textContent")
        for key, name in [("Home", names[0]), ("ArrowRight", names[1]), ("ArrowLeft", names[0])]:
            model = models[name]
            slider.focus()
            page.keyboard.press(key)
            page.wait_for_function("() => !isAsking && byId('announcement').textContent")
            assert page.text_content("#step-name") == name == slider.get_attribute("aria-valuetext")
            image = shown(page, "#image", "GREYS")[0]
            with torch.inference_mode():
                probabilities = model.probabilities(views(torch.from_numpy(image).float().view(28, 28) / 255)).mean(
                    dim=0
                )
            assert page.evaluate("answer.probabilities") == pytest.approx(probabilities.tolist(), abs=1e-6)
            expect_activations(page, model)
            kernel = model.conv1.weight[0].detach().flatten()
            assert shown(page, "#weights canvas", "SIGNED")[0].argmax() == kernel.argmax()


def test_of_one_checkpoint_its_name_alone_is_seen(page):
    assert not page.locator("#step").is_visible()
    assert page.get_by_text("Weights: of <a test>").is_visible()
