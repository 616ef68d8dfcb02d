"""The page of the demo in a real Chromium: drawn on with mouse, finger, pen and keyboard."""

import copy
import functools
import http.server
import os
import shutil
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from drawing import STROKES
from torch import nn

from model import DigitCNN
from own_digits.demo_page import build_page, check_can_show, network_of
from own_digits.reader import DIGITS
from training.run_files import load_weights

api = pytest.importorskip("playwright.sync_api", reason="wants Playwright: pip install -e .[browser]")


class OtherNetwork(nn.Sequential):
    """Three convolutions of other sizes, one fully connected layer, twelve classes."""

    def __init__(self):
        super().__init__(
            *(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 7, (3, 5)), nn.ReLU()),
            *(
                nn.MaxPool2d(2),
                nn.Dropout(0.5),
                nn.Conv2d(7, 8, 2, padding=(1, 0), bias=False),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ),
            *(nn.Flatten(), nn.Linear(48, 12)),
        )

    def forward(self, images):
        return super().forward((images - 0.1307) / 0.3081)


@pytest.fixture(scope="module")
def other() -> nn.Module:
    torch.manual_seed(0)
    return OtherNetwork().eval()


@pytest.fixture(scope="module")
def page_file(reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "demo.html"
    path.write_text(build_page([network_of("of </script> <a test>", reference, DIGITS)]), encoding="utf-8")
    return path


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


SCREENS = {
    "light": {},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1920, "height": 1080}},
    "phone": {
        "viewport": {"width": 360, "height": 740},
        "device_scale_factor": 2,
        "has_touch": True,
        "is_mobile": True,
    },
    "landscape": {"viewport": {"width": 740, "height": 360}, "has_touch": True, "is_mobile": True},
}


@contextmanager
def opened(chromium, address: str, kind: str = "light"):
    """Open a page; it must load nothing else, and raise no error."""
    context = chromium.new_context(**SCREENS[kind])
    page, problems = context.new_page(), []
    page.on("request", lambda request: request.url == address or problems.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text))
    page.goto(address)
    yield page
    context.close()
    assert problems == []


@pytest.fixture(params=["light", *(pytest.param(kind, marks=pytest.mark.exhaustive) for kind in ("dark", "phone"))])
def page(request, chromium, page_file):
    with opened(chromium, page_file.as_uri(), request.param) as page:
        yield page


@pytest.fixture
def phone(chromium, page_file):
    with opened(chromium, page_file.as_uri(), "phone") as page:
        yield page


def points(page, digit: int, height: float = 0.7, centre=(0.5, 0.5)) -> list[list[tuple[float, float]]]:
    """Return the strokes of a digit in pixels of the page, over its drawing area."""
    box = page.locator("#drawing").bounding_box()
    return [
        [
            tuple(
                box[side] + box["width"] * (middle + height * (v - 0.5))
                for side, middle, v in zip("xy", centre, point, strict=True)
            )
            for point in stroke
        ]
        for stroke in STROKES[digit]
    ]


def draw_with_mouse(page, digit: int, **options) -> None:
    for first, *rest in points(page, digit, **options):
        page.mouse.move(*first)
        page.mouse.down()
        for point in rest:
            page.mouse.move(*point)
        page.mouse.up()


def number(page) -> str:
    return page.text_content("#number")


def bars(page) -> list[str]:
    return page.locator("td.percent").all_text_contents()


def probabilities_of(model: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return what PyTorch finds in images, (N, 784) from 0 to 255, in float64: (N, classes)."""
    with torch.inference_mode():
        return (
            copy.deepcopy(model)
            .double()(torch.from_numpy(images).double().view(-1, 1, 28, 28) / 255)
            .softmax(1)
            .numpy()
        )


@pytest.mark.parametrize("name", ["reference", "other"])
def test_network_in_javascript_is_that_of_pytorch(name, chromium, tmp_path, reference, other, data):
    model, classes = (reference, DIGITS) if name == "reference" else (other, list("ABCDEFGHIJKL"))
    path = tmp_path / "page.html"
    path.write_text(build_page([network_of(name, model, classes)]))
    noise = np.random.default_rng(0).integers(0, 256, (200, 784))
    images = np.concatenate([data.test.tensors[0].numpy().reshape(-1, 784), noise])
    assert len(images) == 500
    with opened(chromium, path.as_uri()) as page:
        found = page.evaluate(
            "images => images.map((image) => [...run(network(), image).probabilities])", images.tolist()
        )
        draw_with_mouse(page, 3)
        assert len(bars(page)) == len(classes)
    np.testing.assert_allclose(found, probabilities_of(model, images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("pen", ["Thin", "Thick"])
def test_digits_drawn_with_the_mouse_are_read(page, digits, pen):
    page.get_by_label(pen, exact=True).check()
    for digit in digits:
        draw_with_mouse(page, digit)
        assert number(page) == str(digit)
        assert page.text_content("tr.best th") == str(digit)
        assert page.text_content("#message") == f"{digit} (probability {page.text_content('tr.best .percent')})"
        page.get_by_role("button", name="Clear").click()
        assert number(page) == ""
        assert set(bars(page)) == {"–"}


@pytest.mark.exhaustive
def test_59_of_60_drawings_of_many_sizes_and_places_are_read_within_50_ms(page):
    wrong, times = [], []
    places = [(0.1, (0.1, 0.1)), (0.15, (0.9, 0.85)), (0.25, (0.5, 0.5)), (0.4, (0.25, 0.7)), (0.7, (0.5, 0.5))]
    for digit in range(10):
        for at, (height, centre) in enumerate([*places, (0.95, (0.5, 0.5))]):
            page.get_by_label(["Thin", "Thick"][(digit + at) % 2 if height > 0.2 else 0], exact=True).check()
            draw_with_mouse(page, digit, height=height, centre=centre)
            if number(page) != str(digit):
                wrong.append((digit, height))
            times.append(
                page.evaluate("() => { const start = performance.now(); read(); return performance.now() - start }")
            )
            page.evaluate("clear()")
    print(f"wrong: {wrong}; 95 of 100 answers within {np.quantile(times, 0.95):.1f} ms")
    assert len(wrong) <= 1


def test_image_has_the_size_place_and_stroke_width_of_mnist(page):
    for digit, height in [(0, 0.7), (4, 0.2), (7, 0.9)]:
        draw_with_mouse(page, digit, height=height)
        image = np.array(page.evaluate("[...answers[0].image]")).reshape(28, 28)
        rows, columns = np.nonzero(image > 127)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(20, abs=1)
        centre = [np.average(np.arange(28), weights=image.sum(axis=axis)) for axis in (0, 1)]
        assert np.abs(np.array(centre) - 14).max() < 0.55  # as it is moved by whole pixels
        page.evaluate("clear()")
    draw_with_mouse(page, 1)
    length = 17.5 * np.hypot(0.13, 0.96) / 0.96  # of its line, which is 2.5 pixels wide and has round ends
    area = page.evaluate("answers[0].image.reduce((sum, ink) => sum + ink)") / 255
    assert area == pytest.approx(2.5 * length + np.pi * 1.25**2, rel=0.05)


def test_several_digits_are_read_from_left_to_right(page, reference):
    for digit, x in [(8, 0.8), (3, 0.2), (4, 0.5)]:
        draw_with_mouse(page, digit, height=0.25, centre=(x, 0.5))
    assert number(page) == "348"
    assert page.text_content("#message").startswith("348 (probability ")
    pressed = page.locator("#number [aria-pressed=true]")
    assert pressed.text_content() == "4"  # the digit of the last stroke
    page.locator("#number button").first.click()
    assert pressed.text_content() == page.text_content("tr.best th") == "3"
    image = np.array(page.evaluate("[...answers[chosen].image]"))
    with torch.inference_mode():
        expected = reference.probabilities(torch.from_numpy(image).float().view(1, 1, 28, 28) / 255)[0, 3].item()
    assert float(page.text_content("tr.best .percent")[:-1]) == pytest.approx(100 * expected, abs=0.011)  # rounded down


def test_what_is_no_digit_is_said_in_words(page):
    box = page.locator("#drawing").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.up()
    assert page.text_content("#message") == "A dot isn't a digit: draw a line."
    page.evaluate("clear()")
    rng = np.random.default_rng(1)
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    for x, y in rng.uniform(20, box["width"] - 20, (40, 2)):
        page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.up()
    assert number(page) == "?"
    assert page.text_content("#message").startswith("This doesn't look like anything that the network knows.")


def test_undo_redo_and_clear(page):
    draw_with_mouse(page, 4)  # two strokes
    button = {name: page.get_by_role("button", name=name) for name in ("Undo", "Redo", "Clear")}
    button["Clear"].click()
    assert page.evaluate("strokes().length") == 0
    assert page.evaluate("document.activeElement.id") == "drawing"  # as the button is disabled now
    assert number(page) == ""
    button["Undo"].click()
    assert number(page) == "4"
    page.keyboard.press("Control+z")
    assert page.evaluate("strokes().length") == 1
    page.keyboard.press("Control+y")
    assert number(page) == "4"
    button["Redo"].click()
    assert number(page) == ""
    assert button["Redo"].is_disabled()
    page.keyboard.press("Control+z")
    draw_with_mouse(page, 1, height=0.2, centre=(0.9, 0.2))
    assert button["Redo"].is_disabled()  # after a new stroke
    page.keyboard.press("Control+z")
    assert number(page) == "4"


def test_stroke_that_is_undone_while_it_is_drawn_is_gone(page):
    draw_with_mouse(page, 1)
    before = page.evaluate("strokes()[0].points.length")
    box = page.locator("#drawing").bounding_box()
    page.mouse.move(box["x"] + 30, box["y"] + 30)
    page.mouse.down()
    page.keyboard.press("Control+z")
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.up()
    assert page.evaluate("strokes().map((stroke) => stroke.points.length)") == [before]


def test_right_button_draws_nothing(page):
    box = page.locator("#drawing").bounding_box()
    page.mouse.move(box["x"] + 30, box["y"] + 30)
    page.mouse.down(button="right")
    page.mouse.up(button="right")
    assert page.evaluate("strokes().length") == 0


def dispatch(page, kind: str, pointer: str, number: int, x: float, y: float) -> None:
    box = page.locator("#drawing").bounding_box()
    page.evaluate(
        """([kind, pointerType, pointerId, clientX, clientY]) => {
            canvas.setPointerCapture = () => {};
            canvas.dispatchEvent(new PointerEvent(kind, {pointerType, pointerId, clientX, clientY, button: 0}));
        }""",
        [kind, pointer, number, box["x"] + x, box["y"] + y],
    )


def test_pen_takes_over_from_the_palm(page):
    dispatch(page, "pointerdown", "touch", 1, 300, 300)
    dispatch(page, "pointermove", "touch", 1, 310, 310)
    dispatch(page, "pointerdown", "pen", 2, 50, 50)
    dispatch(page, "pointermove", "touch", 1, 320, 320)
    dispatch(page, "pointermove", "pen", 2, 60, 60)
    dispatch(page, "lostpointercapture", "pen", 2, 60, 60)
    assert page.evaluate("strokes().map((stroke) => stroke.points.length)") == [2]
    assert page.evaluate("strokes()[0].points[0][0]") < 100


def test_second_finger_does_not_end_the_stroke_of_the_first(phone):
    for kind, finger, place in [("down", 0, 50), ("move", 0, 60), ("down", 1, 150), ("move", 1, 160), ("move", 0, 80)]:
        dispatch(phone, f"pointer{kind}", "touch", finger, place, place)
    assert phone.evaluate("strokes().map((stroke) => stroke.points.length)") == [3]


def test_digit_drawn_with_a_finger_is_read_and_scrolls_nothing(phone):
    session = phone.context.new_cdp_session(phone)
    for stroke in points(phone, 3):
        for kind, (x, y) in zip(["touchStart", *["touchMove"] * (len(stroke) - 1)], stroke, strict=True):
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    phone.wait_for_function("() => byId('number').textContent === '3'")
    assert phone.evaluate("scrollY") == 0
    assert phone.locator("#message").bounding_box()["y"] < 700  # in sight


def test_digit_drawn_with_the_keyboard_is_read_and_spoken(page):
    page.get_by_role("application", name="Drawing area").focus()
    for key, times in [("ArrowLeft", 5), (" ", 1), ("ArrowRight", 10), ("ArrowDown", 14), (" ", 1)]:
        for _ in range(times):
            page.keyboard.press(key)
    assert number(page) == "7"
    assert page.text_content("#announcement") == f"Pen up. {page.text_content('#message')}"
    page.keyboard.press("Backspace")
    assert number(page) == ""


def test_probability_is_never_rounded_up_to_100_percent(page):
    shown = page.evaluate("[0.99999, 0.9999, 1, 0.5, 0].map(percent)")
    assert shown == ["99.99%", "99.99%", "100.00%", "50.00%", "0.00%"]


def layers(page, model: DigitCNN) -> list[np.ndarray]:
    """Return what the page shows of the three hidden layers, and check them against the textbook network."""
    image = torch.tensor(page.evaluate("[...answers[chosen].image]")).float().view(1, 1, 28, 28) / 255
    with torch.inference_mode():
        first = nn.functional.max_pool2d(model.conv1((image - 0.1307) / 0.3081).relu(), 2)
        second = nn.functional.max_pool2d(model.conv2(first).relu(), 2)
        units = model.fc1(second.flatten(1)).relu()
    shown = page.evaluate("[0, 1, 2].map((layer) => [...volumeAfter(layer).values])")
    for values, expected in zip(shown, (first, second, units), strict=True):
        np.testing.assert_allclose(values, expected.flatten().numpy(), rtol=0, atol=1e-4)
    return [np.array(values) for values in shown]


def test_layers_are_those_of_the_answer(page, reference):
    draw_with_mouse(page, 3, centre=(0.62, 0.5))
    layers(page, reference)
    image = np.array(page.evaluate("[...answers[chosen].image]"))
    with torch.inference_mode():
        expected = reference.probabilities(torch.from_numpy(image).float().view(1, 1, 28, 28) / 255)[0]
    assert page.text_content("tr.best th") == str(expected.argmax().item())
    assert page.evaluate("[...answers[chosen].probabilities]") == pytest.approx(expected.tolist(), abs=1e-5)


def test_cell_that_is_clicked_is_followed_from_patch_to_value_and_stays(page, reference):
    draw_with_mouse(page, 3)
    values = layers(page, reference)[0].reshape(10, 13, 13)
    channel, y, x = np.unravel_index(values.argmax(), values.shape)
    left, top = page.evaluate(
        "cell => placeOf(cell, [10, 13, 13])", {"channel": int(channel), "y": int(y), "x": int(x)}
    )
    canvas = page.locator(".layer canvas").first
    box = canvas.bounding_box()
    cell = box["width"] / (5 * 14 - 1)  # five maps in a row, with gaps of one cell between
    canvas.click(position={"x": (left + 0.5) * cell, "y": (top + 0.5) * cell})
    place = f"Convolution 1: map {channel + 1}, row {y + 1}, column {x + 1}"
    assert page.text_content("#detail-title") == place
    value = values[channel, y, x]
    text = page.text_content("#detail-text")
    assert text.endswith(f"ReLU makes it {value:.2f}.")
    patch = page.evaluate("patchOf(pinned)")
    assert patch["sum"] == pytest.approx(value, abs=1e-9)
    products = np.array(patch["patches"][0]) * np.array(patch["kernels"][0])
    assert products.sum() + reference.conv1.bias[channel].item() == pytest.approx(value, abs=1e-6)
    page.evaluate("clear()")
    assert page.text_content("#detail-text") == "Draw something to see its value."
    draw_with_mouse(page, 7)
    assert page.text_content("#detail-title") == place
    page.get_by_role("button", name="Close").click()
    assert page.text_content("#detail-title") == "How a value is computed"


def test_unit_that_the_keyboard_reaches_shows_what_it_adds_to_each_output(page, reference):
    draw_with_mouse(page, 3)
    units = layers(page, reference)[2]
    page.locator(".layer canvas").last.focus()
    unit = int(units.argmax())
    for key, times in [("ArrowLeft", 10), ("ArrowRight", unit % 10), ("ArrowDown", unit // 10), ("Enter", 1)]:
        for _ in range(times + (key == "ArrowLeft")):  # once more: the first key starts in the first cell
            page.keyboard.press(key)
    spoken = page.text_content("#announcement")
    named = int(spoken.split(":")[0].split()[1]) - 1
    assert spoken == f"Unit {named + 1}: {units[named]:.2f}"
    assert page.text_content("#detail-title") == f"Fully connected 1: unit {named + 1}"
    terms = page.locator("#terms figure").all_text_contents()
    expected = units[named] * reference.fc2.weight[:, named].detach().numpy()
    assert [float(term.split("=")[1].replace("−", "-")) for term in terms] == pytest.approx(expected, abs=0.0051)


def test_what_would_change_its_mind_is_the_worst_of_all_blobs(page, reference):
    draw_with_mouse(page, 4, height=0.3)
    draw_with_mouse(page, 1, height=0.1, centre=(0.52, 0.3))
    page.wait_for_function("() => effects?.isDone", timeout=60_000)
    image = np.array(page.evaluate("[...answers[chosen].image]")).reshape(28, 28)
    y, x = np.mgrid[:28, :28]
    changed = []
    for row in range(28):
        for column in range(28):
            blob = np.round(255 * (2.25 - np.hypot(x - column, y - row)).clip(0, 1))
            changed += [np.maximum(image, blob), np.minimum(image, 255 - blob)]
    with torch.inference_mode():
        answers = reference.probabilities(torch.from_numpy(np.stack([image, *changed])).float().unsqueeze(1) / 255)
    best = int(answers[0].argmax())
    drops = (answers[0, best] - answers[1:, best]).clamp(min=0).view(784, 2).numpy()
    for at, name in enumerate(["more", "less"]):
        np.testing.assert_allclose(page.evaluate(f"[...effects.{name}]"), drops[:, at], rtol=0, atol=1e-5)
    worst = page.evaluate("effects.worst")
    assert drops[28 * worst["y"] + worst["x"], int(not worst["isInk"])] == pytest.approx(drops.max(), abs=1e-5)
    is_same = worst["name"] == str(best)
    assert f"would {'still ' * is_same}be {worst['name']} " in page.text_content("#doubt")
    draw_with_mouse(page, 1, height=0.1, centre=(0.48, 0.7))
    assert page.evaluate("effects") is None  # until the pen has rested


def test_checkpoints_are_stepped_through_played_and_compared(chromium, reference, tmp_path):
    load_weights(REPOSITORY / "results" / "default" / "weights.pt", default := DigitCNN().eval())
    networks = [network_of("1.pt", default, DIGITS), network_of("2.pt", reference, DIGITS)]
    (tmp_path / "page.html").write_text(build_page(networks))
    with opened(chromium, (tmp_path / "page.html").as_uri()) as page:
        draw_with_mouse(page, 3, height=0.2)
        slider = page.get_by_role("slider", name="Checkpoint")
        slider.focus()
        for key, name, model in [("ArrowRight", "2.pt", reference), ("ArrowLeft", "1.pt", default)]:
            page.keyboard.press(key)
            assert page.text_content("#weights-name") == name == slider.get_attribute("aria-valuetext")
            layers(page, model)
        page.get_by_label("Compare with").select_option("2.pt")
        widths = page.eval_on_selector_all("tr.best td.bar div", "all => all.map((bar) => parseFloat(bar.style.width))")
        image = torch.tensor(page.evaluate("[...answers[0].image]")).float().view(1, 1, 28, 28) / 255
        expected = [100 * model.probabilities(image)[0, 3].item() for model in (default, reference)]
        assert widths == pytest.approx(expected, abs=0.01)
        draw_with_mouse(page, 1, height=0.2, centre=(0.8, 0.5))
        page.locator("#number button").first.click()
        page.get_by_role("button", name="Play").click()
        page.wait_for_function("() => byId('weights-name').textContent === '2.pt'")
        page.get_by_role("button", name="Play").wait_for()  # it has stopped at the end
        assert page.evaluate("chosen") == 0  # still the digit that was clicked, not the last one


@pytest.mark.parametrize("kind", SCREENS)
def test_all_fits_on_the_screen_and_has_a_name(chromium, page_file, kind):
    with opened(chromium, page_file.as_uri(), kind) as page:
        draw_with_mouse(page, 3)
        width, height = page.viewport_size["width"], page.viewport_size["height"]
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for part in ("#drawing", "#number", "#message", "#clear"):
            box = page.locator(part).bounding_box()
            assert box["y"] + box["height"] <= height
        for canvas in page.locator("canvas").all():
            assert canvas.get_attribute("aria-label") or canvas.get_attribute("aria-hidden")
        page.locator(".layer canvas").first.click(position={"x": 20, "y": 20})
        box = page.locator("#detail-title").bounding_box()
        assert 0 <= box["y"] <= height - box["height"]  # in sight without scrolling
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_bars_are_seen_in_forced_colours(page):
    page.emulate_media(forced_colors="active")
    draw_with_mouse(page, 1)
    colours = [
        page.eval_on_selector(place, "element => getComputedStyle(element).backgroundColor")
        for place in ("tr.best td.bar div", "body")
    ]
    assert colours[0] != colours[1]


def test_page_works_from_a_web_server(chromium, page_file):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=page_file.parent)
    handler.log_message = lambda *args: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            with opened(chromium, f"http://127.0.0.1:{server.server_port}/demo.html") as page:
                draw_with_mouse(page, 3)
                assert number(page) == "3"
                assert page.text_content("#weights-name") == "of </script> <a test>"
        finally:
            server.shutdown()


def test_other_sizes_can_be_shown_and_another_formula_cannot(other):
    from common.command_line import UserError

    check_can_show(other)
    for change in [nn.Tanh(), nn.ELU()]:
        different = OtherNetwork().eval()
        different[1] = change
        with pytest.raises(UserError, match="computes something else"):
            check_can_show(different)
