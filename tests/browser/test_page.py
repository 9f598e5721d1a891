"""The page in a browser: opened from disk, searched, opened up, sorted and used by keyboard, in headless Chromium.

No test may see an error on the console or a request for anything but the page itself.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.views.test_html import HOSTILE, failed, hostile, nested
from tests.views.traces import cnn, module, operation, trace
from tracecall.calls import Call, Prediction, Trace
from tracecall.views.html import page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: apt-get install chromium")

Opened = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Opened]:
    """Opens the page of a Trace; afterwards nothing was said on the console, and nothing was asked for."""
    said: list[str] = []
    asked: list[str] = []
    contexts: list[Any] = []

    def open_page(made: Trace, **options: Any) -> Any:
        file = tmp_path / "report.html"
        file.write_text(page(made), encoding="utf-8")
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        shown = context.new_page()
        shown.on("console", lambda message: said.append(message.text))
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.on("dialog", lambda dialog: said.append(f"a dialog: {dialog.message}"))
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto(file.as_uri())
        return shown

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.endswith("/report.html")] == []


def seen(shown: Any) -> list[str]:
    """The names in the tree that are not inside something closed."""
    return shown.locator("#tree .row:visible .call").all_inner_texts()


def blocks(number: int) -> Trace:
    """A model of `number` blocks of nine submodules each; no two blocks are of one type, so that none repeat."""
    made = []
    for block in range(number):
        inner = [
            module(f"fc{i}", "Linear", (2, 8), (2, 8 + i), us=1 + i, line=10, path=f"blocks.{block}.fc{i}")
            for i in range(9)
        ]
        made.append(
            module(
                f"blocks.{block}",
                f"Block{block}",
                (2, 8),
                (2, 8),
                *inner,
                us=50 + block % 7,
                line=5,
                path=f"blocks.{block}",
            )
        )
    return trace(module("Net", "Net", (2, 8), (2, 8), *made, us=60 * number, path=""))


def layers(number: int, *more: Call) -> Trace:
    """A model of `number` equal layers of two submodules each."""
    made = []
    for i in range(number):
        inner = [
            module(f"layers.{i}.{name}", "Linear", (2, 8), (2, 8), us=3, line=10, path=f"layers.{i}.{name}")
            for name in ("up", "down")
        ]
        made.append(module(f"layers.{i}", "Layer", (2, 8), (2, 8), *inner, us=10 + i % 3, line=5, path=f"layers.{i}"))
    return trace(module("Net", "Net", (2, 8), (2, 8), *made, *more, us=20 * number, path=""))


def test_layers_that_repeat_share_a_line_that_opens_to_all_of_them(opened: Opened) -> None:
    """Closed at first; search, the table and the chart have every call, and lead to it."""
    head = module("head", "Linear", (2, 8), (2, 4), us=5)
    shown = opened(layers(24, head))
    assert seen(shown)[3:5] == ["layers.0 … layers.23 ×24", "head"]
    line = shown.locator("#tree summary", has_text="×24")
    assert line.locator(".time").inner_text() == "264.0"
    line.click()
    shown.locator("#tree .row .call", has_text="layers.23").nth(1).wait_for()
    assert seen(shown)[4:28] == [f"layers.{i}" for i in range(24)]
    assert "each 11.0 (10.0–12.0) µs" in shown.locator("#details").inner_text()
    assert "264.0 µs, 55.0 % of the run" in shown.locator("#details").inner_text()
    assert shown.locator('#chart .bar[aria-label^="layers."]').count() == 24 * 3
    shown.fill("#search", "layer")
    playwright.expect(shown.locator("#count")).to_have_text(re.compile("^72 of 74 calls"))
    assert "×24" not in shown.locator("#results").inner_text()
    shown.fill("#search", "")
    line.click()
    shown.locator("#tree .row .call", has_text=re.compile("^layers.7$")).wait_for(state="hidden")
    shown.locator('#chart .bar[aria-label^="layers.7.down"]').click()
    assert shown.locator("#tree .row[aria-current] .call").inner_text() == "layers.7.down"
    assert shown.locator("#tree .row[aria-current]").is_visible()
    shown.get_by_role("button", name="layers.20", exact=True).click()
    assert shown.locator("#tree .row[aria-current] .call").inner_text() == "layers.20"


def test_open_all_opens_what_repeats(opened: Opened) -> None:
    shown = opened(layers(24))
    shown.click("#open-all")
    playwright.expect(shown.locator("#tree .row")).to_have_count(4 + 1 + 24 * 3)


@pytest.mark.parametrize("width", [1160, 1280, 1600])
def test_shapes_are_not_cut(opened: Opened, width: int) -> None:
    """What goes in and what comes out stand below each other where both have no room in one line."""
    ways = [((2, 16, 64), (2, 16, 64)), ((2, 128, 16, 64, 64), (2, 128, 16, 64, 64))]
    made = [
        module(f"encoder.layers.{i}.attention", f"TransformerEncoderLayer{i}", *way, us=5, line=1234)
        for i, way in enumerate(ways)
    ]
    shown = opened(
        trace(module("Net", "Net", (2, 16), (2, 16), *made, us=50, path="")), viewport={"width": width, "height": 900}
    )
    cut = shown.locator("#tree .shapes").evaluate_all(
        "all => all.filter((one) => one.scrollWidth > one.clientWidth).length"
    )
    assert cut == 0
    assert shown.evaluate("document.documentElement.scrollWidth") <= width


def test_the_tree_is_open_as_far_as_it_fits(opened: Opened) -> None:
    """Of a small model every call is seen at once, in call order."""
    names = seen(opened(cnn()))
    assert names[:4] == ["CNN.__call__", "forward pre-hooks", "forward", "conv1"]
    assert names[-2:] == ["fc2", "forward hooks"]


def test_a_call_opens_and_closes(opened: Opened) -> None:
    """With a click on its line, which is a <summary>; what is inside is made only then."""
    shown = opened(blocks(100))
    assert "fc3" not in seen(shown)
    line = shown.locator("summary", has_text="blocks.4").first
    inside = shown.locator("#tree .row .call", has_text="fc3")
    line.click()
    inside.wait_for()  # a browser tells of a <details> that opened a moment later
    assert "fc3" in seen(shown)
    assert "blocks.4" in shown.locator("#details").inner_text()
    line.click()
    inside.wait_for(state="hidden")
    assert "fc3" not in seen(shown)


def test_predictions_beyond_the_first_few_open(opened: Opened) -> None:
    """With a click on how many there are."""
    made = cnn()
    made.prediction = [Prediction(f"out[{i}]", made.prediction[0].tensor, [1]) for i in range(30)]
    shown = opened(made)
    tensors = shown.locator("section[aria-labelledby=prediction-title] dt:visible")
    assert tensors.count() == 4
    shown.get_by_text("the next 20 tensors").click()
    assert tensors.count() == 24
    assert shown.get_by_text("and 6 more tensors").is_visible()


def test_search_finds_paths_types_and_shapes(opened: Opened) -> None:
    """Every word must be found; the number is said; emptied, the tree is back with the call that was chosen."""
    shown = opened(blocks(20))
    for words, number in (
        ("blocks.3.fc", 9),
        ("linear", 180),
        ("[2, 8] → [2, 12]", 20),
        ("block 2,16", 20),
        ("nothing", 0),
    ):
        shown.fill("#search", words)
        playwright.expect(shown.locator("#count")).to_have_text(re.compile(f"^{number} of 201 calls"))
        assert shown.locator("#results .row").count() == number, words
    shown.fill("#search", "blocks.7.fc5")
    shown.wait_for_selector("#results .row")
    shown.press("#search", "Enter")
    shown.keyboard.press("Enter")
    assert shown.locator("#tree .row[aria-current] .call").inner_text() == "fc5"
    assert shown.input_value("#search") == ""
    assert "blocks.7.fc5" in shown.locator("#details").inner_text()


def test_modules_are_sorted_by_the_title_that_is_pressed(opened: Opened) -> None:
    """By time at first; a second press turns the order around, and assistive technology is told."""
    shown = opened(cnn())

    def column() -> list[str]:
        return shown.locator("#modules tbody th").all_inner_texts()

    assert column()[:3] == ["CNN", "conv2", "conv1"]
    title = shown.get_by_role("button", name="parameters")
    title.click()
    assert column()[:3] == ["CNN", "fc1", "conv2"]
    assert shown.locator("th[aria-sort=descending]").inner_text().startswith("parameters")
    title.click()
    assert column()[-2:] == ["fc1", "CNN"]


def test_the_chart_and_the_tree_follow_each_other(opened: Opened) -> None:
    """A bar that is pressed selects its call in the tree, opening what is around it; a call in the tree its bar."""
    shown = opened(blocks(10))
    bar = shown.locator('#chart .bar[aria-label^="fc8"]').first
    bar.click()
    assert shown.locator("#tree .row[aria-current] .call").inner_text() == "fc8"
    shown.locator("#tree .row", has_text="blocks.2").first.click()
    assert (shown.locator("#chart .bar[aria-current=true]").get_attribute("aria-label") or "").startswith("blocks.2")
    widths = shown.locator("#chart .bar").evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().width)")
    assert widths[0] == max(widths)
    shown.hover('#chart .bar[aria-label^="blocks.1,"]')
    assert shown.locator("#tree .row.hovered .call").inner_text() == "blocks.1"


def test_a_narrow_call_can_be_widened(opened: Opened) -> None:
    """The selected call fills the chart, and the whole run comes back."""
    shown = opened(blocks(10))
    shown.locator("#tree .row", has_text="blocks.2").first.click()
    shown.click("#zoom")
    first = shown.locator("#chart .bar").first
    assert (first.get_attribute("aria-label") or "").startswith("blocks.2")
    shown.click("#whole")
    assert (first.get_attribute("aria-label") or "").startswith("Net.__call__")


def test_the_device_clock_can_be_chosen_where_it_was_measured(opened: Opened) -> None:
    made = blocks(4)
    assert opened(made).locator("#clocks").is_hidden()
    for _, call in made.walk():
        call.device_ns = (call.host_ns or 0) // 2
    shown = opened(made)
    shown.get_by_label("device", exact=True).check()
    assert shown.locator("#chart .bar").first.get_attribute("aria-label") == "Net.__call__, 120.0 µs"
    assert "device time" in shown.locator("body").inner_text() or shown.locator("#tree .time").count()


def test_a_keyboard_is_enough(opened: Opened) -> None:
    """Tab reaches the tree once; arrows walk it, open and close; "/" searches; the chart is walked by arrows too."""
    shown = opened(blocks(100))
    shown.keyboard.press("/")
    assert shown.evaluate("document.activeElement.id") == "search"
    shown.keyboard.press("ArrowDown")
    for _ in range(3):
        shown.keyboard.press("ArrowDown")
    focused = "document.activeElement.querySelector('.call').textContent"
    assert shown.evaluate(focused) == "blocks.0"
    shown.keyboard.press("ArrowRight")
    shown.keyboard.press("ArrowRight")
    assert shown.evaluate(focused) == "fc0"
    shown.keyboard.press("ArrowLeft")
    assert shown.evaluate(focused) == "blocks.0"
    shown.keyboard.press("ArrowLeft")
    assert "fc0" not in seen(shown)
    shown.locator("#chart .bar[tabindex='0']").focus()
    shown.keyboard.press("ArrowRight")
    assert shown.locator("#tree .row[aria-current] .call").inner_text() == "blocks.1"
    assert shown.locator("#tree .row[tabindex='0']").count() == 1


def test_everything_that_can_be_pressed_has_a_name(opened: Opened) -> None:
    """Buttons, fields and the region that scrolls tell assistive technology what they are."""
    shown = opened(blocks(3))
    for one in shown.locator("button:visible, input:visible, summary:visible, [tabindex='0']:visible").all():
        label = one.evaluate(
            "e => e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || (e.labels?.[0] ?? e).textContent"
        )
        assert label.strip()


def test_hostile_names_run_nothing(opened: Opened) -> None:
    """Whatever a module, a type, a file or a message is called, it is shown as it is."""
    shown = opened(hostile())
    shown.click("#open-all")
    for row in shown.locator("#tree div.row").all():
        row.click()
    shown.fill("#search", "img")
    shown.wait_for_selector("#results .row")
    assert shown.evaluate("window.ran") is None
    assert shown.locator("img, b").count() == 0
    assert HOSTILE[1] in shown.locator("#results").inner_text()


def test_the_policy_stops_what_is_not_the_pages_own(browser: Any, tmp_path: Path) -> None:
    """A script put into the file by hand does not run: the policy names the page's own script alone."""
    file = tmp_path / "changed.html"
    file.write_text(page(cnn()).replace("</main>", "<script>window.ran = 1</script><img src=x onerror='ran=2'></main>"))
    context = browser.new_context()
    shown = context.new_page()
    shown.goto(file.as_uri())
    assert shown.evaluate("window.ran") is None
    assert shown.locator("#tree .row").count() > 5
    context.close()


def test_a_failed_run_opens_at_the_call_that_failed(opened: Opened) -> None:
    shown = opened(failed())
    assert shown.locator("#tree .row[aria-current] .call").inner_text() == "x.view"
    assert shown.locator("#chart").count() == 0
    assert "there is no chart" in shown.locator("#chart-section").inner_text()


def test_operations_inside_torch_nn_are_shown_when_asked_for(opened: Opened) -> None:
    inside = operation("F.linear", "aten.linear", (2, 8), (2, 8), us=5, internal=True, path="fc")
    shown = opened(
        trace(
            module("Net", "Net", (2, 8), (2, 8), module("fc", "Linear", (2, 8), (2, 8), inside, us=9), us=20, path="")
        )
    )
    assert "F.linear" not in seen(shown)
    shown.get_by_label("operations inside torch.nn").check()
    assert "F.linear" in seen(shown)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_system_and_can_be_read(opened: Opened, scheme: str) -> None:
    """Text stands out from the page by 4.5 to 1 or more, as WCAG 2.2 has it, in light and dark."""
    shown = opened(cnn(), color_scheme=scheme)

    def colour(selector: str, what: str) -> tuple[float, ...]:
        text = shown.locator(selector).first.evaluate(f"e => getComputedStyle(e).{what}")
        return tuple(float(part) for part in re.findall(r"[\d.]+", text)[:3])

    paper = luminance(colour("html", "backgroundColor"))
    assert (paper > 0.5) == (scheme == "light")
    for selector in (
        "h1",
        ".row .shapes",
        ".row .type",
        ".row .time",
        ".quiet",
        "button:not(:disabled)",
        "#modules th",
    ):
        ink = luminance(colour(selector, "color"))
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5, selector


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    red, green, blue = (
        part / 255 / 12.92 if part / 255 <= 0.04045 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_on_a_telephone_nothing_is_cut_off(opened: Opened) -> None:
    """At 400 px the page itself does not scroll sideways, and names and times are there."""
    shown = opened(cnn(), viewport={"width": 400, "height": 800})
    assert shown.evaluate("document.documentElement.scrollWidth") <= 400
    assert shown.locator("#tree .row", has_text="conv1").first.locator(".time").is_visible()


def test_without_scripts_the_tree_is_still_there(opened: Opened) -> None:
    shown = opened(cnn(), java_script_enabled=False)
    assert shown.locator("noscript .tree summary").first.is_visible()
    assert shown.locator("noscript .tree .operation:visible").all_inner_texts().count("F.relu") == 3


def test_it_can_be_printed(opened: Opened) -> None:
    """On paper there are no buttons, and calls that were closed are open."""
    shown = opened(blocks(12))
    shown.pdf(path="/dev/null")
    assert "fc3" in seen(shown)
    shown.emulate_media(media="print")
    assert shown.locator("button:not(.bar):visible, #search:visible").count() == shown.locator("table button").count()


def test_a_thousand_nested_calls_open(opened: Opened) -> None:
    """All of them at once, and closed again; the innermost is reached by search."""
    shown = opened(nested(1000))
    shown.click("#open-all")
    assert shown.locator("#tree .row").count() == 1004
    shown.locator("#tree summary").nth(100).click()
    playwright.expect(shown.locator("#tree .row")).to_have_count(103)
    shown.click("#close-all")
    playwright.expect(shown.locator("#tree .row")).to_have_count(63)
    shown.fill("#search", "inner")
    shown.wait_for_selector("#results .row")
    for _ in range(3):
        shown.locator("#results .more").click()
    shown.locator("#results .row").last.dblclick()
    assert shown.locator("#tree .row[aria-current]").count() == 1
    assert shown.locator("#tree .row[aria-current] .name").inner_text() == "1000 inner"


def test_ten_thousand_calls_open_quickly(opened: Opened) -> None:
    """No time is demanded, since machines differ; it is printed."""
    made = blocks(1000)
    begun = time.perf_counter()
    shown = opened(made)
    shown.wait_for_selector("#tree .row")
    ready = time.perf_counter() - begun
    shown.fill("#search", "blocks.999.fc8")
    shown.wait_for_selector("#results .row")
    found = time.perf_counter() - begun - ready
    shown.locator("#results .row").dblclick()
    assert shown.locator("#tree .row[aria-current] .call").inner_text() == "fc8"
    timing = shown.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    print(
        f"10,001 calls: written and open in {ready:.2f} s, of that {timing / 1000:.2f} s in Chromium; found in {found:.2f} s"
    )
