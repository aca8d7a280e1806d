"""The page in a real browser: everything that one does there, by mouse and by keyboard, and what goes wrong."""

from __future__ import annotations

import csv
import io
import json
import threading
from dataclasses import replace
from importlib import resources

import numpy as np
import page_runs
import pytest

import circuitsketch as cs
from circuitsketch.attribution.calibrate import choose_subsets
from circuitsketch.estimators.interactions import fitting
from circuitsketch.page.static_page import write_static_page
from circuitsketch.page.view import View

Z = [i for i, word in enumerate(page_runs.words()) if "z" in word.lower()]


@pytest.fixture(scope="module")
def queries():
    return page_runs.measured()


@pytest.fixture
def view(queries):
    calibrated = View(queries, title="rude.sketch", about=[("sketch", "of 40 examples")])
    calibrated.calibrate(24, largest=8)
    return calibrated


@pytest.fixture
def page(view, serve, open_page):
    with serve(view) as server:
        tab = open_page(server.address)
        tab.server = server
        yield tab


@pytest.fixture
def expect(browser):
    from playwright.sync_api import expect

    return expect


def pick(tab, ids):
    """Pick examples by their ids, nothing else."""
    tab.get_by_role("button", name="Clear").click()
    tab.get_by_label("Ids").fill(",".join(map(str, ids)))
    tab.get_by_role("button", name="Pick ids").click()


def table(tab, name):
    """The rows of a table, as texts."""
    return [row.locator("th, td").all_inner_texts() for row in tab.locator(f"#{name} tbody tr").all()]


def number(text):
    return float(text.replace("\u2212", "-").split(" ")[0])


def retrained(ids, measure=page_runs.loss):
    run = page_runs.make()
    return float(np.ravel(measure(run.params(run.retrain(ids))))[0])


def test_it_says_what_it_is_before_it_answers(page):
    text = page.locator("header").inner_text()
    assert "rude.sketch" in text and "24 random subsets of 2 to 8 examples" in text and "of 40 examples" in text
    assert "its loss counts 0 times" in text and [row[0] for row in table(page, "worth")] == ["loss", "margin"]
    assert "as trained" in page.locator("#headline").inner_text()
    warnings = page.server.view.effect_warnings
    assert page.locator("#effect-warnings").inner_text() == " ".join(f"Warning: {text}." for text in warnings)


def test_a_search_is_picked_and_answered_with_its_interval(page, view, expect):
    page.get_by_label("Search").fill("Z")
    expect(page.locator("#rows tbody tr")).to_have_count(len(Z))
    page.get_by_role("button", name="Pick all shown").click()
    expect(page.locator("#headline")).to_contain_text(f"without {len(Z)} examples")
    answer = view.ask(Z)
    for row, value in zip(table(page, "numbers"), answer["values"], strict=True):
        assert number(row[1]) == pytest.approx(value["value"], rel=1e-5)
        assert [number(end) for end in row[2].split(" to ")] == pytest.approx([value["low"], value["high"]], rel=1e-5)
    assert page.locator("#warnings li").all_inner_texts() == [f"Warning: {text}" for text in answer["warnings"]]
    points = page.locator("#curve polyline").get_attribute("points").split()
    assert len(points) == len(answer["strengths"]) and page.locator("#curve polygon").count() == 1
    page.get_by_text("Terms of the series").click()
    terms = [number(row[1]) for row in table(page, "terms")]
    assert terms == pytest.approx([term["term"] for term in answer["values"][0]["terms"]], rel=1e-5)
    assert len(table(page, "pairs")) == len(answer["values"][0]["pairs"]) == 8
    page.get_by_role("button", name="Drop all shown").click()
    expect(page.locator("#headline")).to_contain_text("as trained")


def test_a_label_with_markup_is_a_text_that_selects(page, expect):
    page.locator("#label").select_option(label="<b>user</b>")
    expect(page.locator("#shown")).to_contain_text("10 of 40")
    page.get_by_role("button", name="Pick all shown").click()
    expect(page.locator("#headline")).to_contain_text("without 10 examples")
    assert page.locator("main img, main b, td script").count() == 0
    page.locator("#label").select_option(label="any")
    text = page.locator("#rows").inner_text()
    assert page_runs.MARKUP in text and page_runs.CLOSING in text and "zoë \U0001f9e1" in text
    assert page.title() == "rude.sketch: without them"


def test_the_table_sorts_by_every_column(page):
    for column, at in (("Id", 1), ("Item", 2), ("Label", 3)):
        page.locator(f"[data-key={column.lower()}]").click()
        shown = [row[at] for row in table(page, "rows")]
        shown = [int(text) for text in shown] if column == "Id" else shown
        assert shown == sorted(shown)
        heading = page.locator(f"#rows th:nth-child({at + 1})").first
        assert heading.get_attribute("aria-sort") == "ascending"
        page.locator(f"[data-key={column.lower()}]").click()
        assert heading.get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="Change without it").click()
    changes = [abs(number(row[4])) for row in table(page, "rows")]
    assert changes == sorted(changes, reverse=True)


def test_picked_examples_come_first_if_asked_for(page, expect):
    page.locator("#rows input").nth(7).click()
    chosen = table(page, "rows")[7][1]
    page.get_by_role("button", name="Pick", exact=True).click()
    assert table(page, "rows")[0][1] == chosen
    expect(page.locator("#shown")).to_contain_text("1 picked")
    expect(page.locator("#headline")).to_contain_text("without 1 example:")


def test_what_matters_most_is_ranked_for_each_value(page, view, expect):
    for i, value in enumerate(view.values):
        page.locator("#value").select_option(label=value.name)
        effects = view.effects[:, i]
        for name, order in (("raises", np.argsort(-effects)), ("lowers", np.argsort(effects))):
            shown = page.locator(f"#{name} text").all_text_contents()[1::2]
            expected = [effects[k] for k in order[:10] if (effects[k] > 0) == (name == "raises") and effects[k]]
            assert [number(text) for text in shown] == pytest.approx(expected, rel=5e-3)
        assert page.locator("#raises .whisker").count() > 0
        expect(page.locator("#headline")).to_contain_text(value.name)


def test_training_again_puts_the_truth_into_picture_and_calibration(page, expect):
    pick(page, [4, 9, 17])
    expect(page.locator("#headline")).to_contain_text("without 3")
    assert page.locator("#curve circle").count() == page.locator("#agreement rect").count() == 0
    page.get_by_role("button", name="Train again to check").click()
    expect(page.locator("#headline")).to_contain_text("Trained again")
    truth = number(page.locator("#headline").inner_text().split("Trained again: ")[1].rstrip("."))
    assert truth == pytest.approx(retrained([4, 9, 17]), rel=1e-5)
    expect(page.locator("#agreement rect")).to_have_count(1)
    assert page.locator("#curve circle").count() == 4
    assert "25 subsets of the calibration" in page.locator("#coverage").inner_text()
    assert "1 checked here" in page.locator("#trust").inner_text()
    assert number(table(page, "numbers")[1][3]) == pytest.approx(retrained([4, 9, 17], page_runs.margins), rel=1e-5)


def test_a_training_shows_its_progress_and_other_questions_are_answered_meanwhile(page, expect, monkeypatch):
    release = threading.Event()
    retrain = page.server.view.check
    monkeypatch.setattr(page.server.view, "check", lambda ids: release.wait(60) and retrain(ids))
    pick(page, [4, 9])
    expect(page.locator("#headline")).to_contain_text("without 2")
    button = page.get_by_role("button", name="Train again to check")
    button.click()
    expect(page.get_by_role("progressbar", name="Training again")).to_be_visible()
    expect(page.locator("#checking")).to_contain_text("training again: ")
    expect(button).to_be_disabled()
    pick(page, [5])
    expect(page.locator("#headline")).to_contain_text("without 1 example:")
    release.set()
    expect(page.locator("#checking")).to_contain_text("Trained again without 2 examples.")
    expect(page.get_by_role("progressbar")).to_be_hidden()
    expect(button).to_be_enabled()
    assert "Trained again" not in page.locator("#headline").inner_text()  # which is of another subset by now
    questions = table(page, "questions")  # of three values each
    assert [row[0] for row in questions] == ["question 3 (2)"] * 3 + ["question 2 (1)"] * 3 and questions[0][4] != ""


def test_an_answer_that_comes_late_does_not_replace_a_newer_one(page, expect, monkeypatch):
    release, ask = threading.Event(), page.server.view.ask
    monkeypatch.setattr(page.server.view, "ask", lambda ids: (ids != [4, 9] or release.wait(60)) and ask(ids))
    with page.expect_request(lambda request: request.post_data == '{"ids":[4,9]}'):
        pick(page, [4, 9])
    pick(page, [5, 6, 7])
    expect(page.locator("#headline")).to_contain_text("without 3")
    with page.expect_response(lambda response: response.request.post_data == '{"ids":[4,9]}'):
        release.set()
    expect(page.locator("#headline")).to_contain_text("without 3")
    assert [row[0] for row in table(page, "questions")] == ["question 1 (3)"] * 3


def test_a_training_that_diverges_is_told_and_the_page_goes_on(page, expect):
    pick(page, page_runs.DIVERGES)
    expect(page.locator("#headline")).to_contain_text("without 5")
    page.get_by_role("button", name="Train again to check").click()
    expect(page.locator("#message")).to_contain_text("Training again failed: training diverged")
    pick(page, [4])
    expect(page.locator("#headline")).to_contain_text("without 1 example")
    expect(page.locator("#message")).to_be_hidden()


def test_a_calibration_of_which_a_training_diverges_starts_and_is_told(queries, serve, open_page, expect, monkeypatch):
    def draw(*arguments, **options):
        subsets = choose_subsets(*arguments, **options)
        subsets.rows[5, page_runs.DIVERGES] = 1.0
        return subsets

    monkeypatch.setattr("circuitsketch.page.view.choose_subsets", draw)
    calibrated = View(queries)
    calibrated.calibrate(24, largest=8)
    with serve(calibrated) as server:
        tab = open_page(server.address)
        text = tab.locator("#trust").inner_text()
        assert "23 random subsets" in text and "Warning: 1 subset is left out, because training" in text
        pick(tab, [4])
        expect(tab.locator("#headline")).to_contain_text("95 % from")


def test_two_subsets_are_compared(page, view, expect):
    pick(page, [4, 9])
    page.get_by_label("Name").fill("first two")
    page.get_by_role("button", name="Save this subset").click()
    pick(page, [5, 6, 7])
    page.locator("#second").select_option(label="first two")
    expect(page.locator("#differences tbody td:nth-child(2)").first).to_contain_text(
        f"{view.ask([5, 6, 7])['values'][0]['value']:.5f}"[:6]
    )
    row = table(page, "differences")[0]
    one, other = (view.ask(ids)["values"][0]["value"] for ids in ([5, 6, 7], [4, 9]))
    assert [number(row[1]), number(row[2])] == pytest.approx([one, other], rel=1e-5)
    assert number(row[3]) == pytest.approx(other - one, rel=1e-4)
    assert page.locator("#compared polyline").count() == 2 and "first two" in page.locator("#compared").inner_text()
    legend = page.locator("#compared text", has_text="first two").bounding_box()
    curve = page.locator("#compared polyline").first.bounding_box()
    assert legend["y"] + legend["height"] <= curve["y"]
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert "first two" in page.locator("#first").inner_text()  # saved for the next time
    page.locator("#first").select_option(label="first two")
    page.get_by_role("button", name="Pick the first").click()
    expect(page.locator("#headline")).to_contain_text("without 2 examples")
    page.get_by_role("button", name="Delete the first").click()
    expect(page.locator("#first option")).to_have_count(1)


def test_the_log_is_downloaded_and_replayed_from_the_command_line(page, expect, tmp_path):
    from circuitsketch.cli.page_command import replay_log
    from circuitsketch.cli.subsets import read_subsets

    pick(page, [4, 9, 10, 11])
    expect(page.locator("#headline")).to_contain_text("without 4")
    page.get_by_label("Name").fill("=HYPERLINK()")
    page.get_by_role("button", name="Save this subset").click()
    assert table(page, "questions")[0][0] == "=HYPERLINK() (4)"
    pick(page, [5])
    expect(page.locator("#headline")).to_contain_text("without 1")
    paths = {}
    for kind in ("JSON", "CSV"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Download {kind}").click()
        paths[kind] = tmp_path / download.value.suggested_filename
        download.value.save_as(paths[kind])
    shown = table(page, "questions")
    assert [row[0] for row in shown] == ["question 2 (1)"] * 3 + ["=HYPERLINK() (4)"] * 3 and shown[3][5] == "4,9-11"
    log = json.loads(paths["JSON"].read_text())
    assert [question["name"] for question in log["questions"]] == ["=HYPERLINK()", "question 2"]
    assert [question["ids"] for question in log["questions"]] == ["4,9-11", "5"] and log["level"] == 0.95
    assert list(read_subsets(paths["JSON"], page_runs.N).values()) == [[4, 9, 10, 11], [5]]
    rows = list(csv.DictReader(io.StringIO(paths["CSV"].read_text())))
    assert [row["value_name"] for row in rows] == ["loss", "margin[0]", "margin[1]"] * 2
    assert not any(cell.startswith("=") for row in rows for cell in row.values())
    for path in paths.values():
        plain, title, _ = replay_log(page.server.view, path, tmp_path)
        assert all(answer["same"] for answer in plain["answers"]) and "6 the same" in title


def test_everything_can_be_done_with_the_keyboard(page, expect):
    keys = page.keyboard
    page.locator("body").focus()
    keys.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the answer"
    page.get_by_label("Search").focus()
    keys.type("z")
    for _ in range(5):
        keys.press("Tab")
    assert page.evaluate("document.activeElement.id") == "drop-shown"
    keys.press("Shift+Tab")
    keys.press("Enter")
    expect(page.locator("#headline")).to_contain_text(f"without {len(Z)} examples")
    page.locator("#rows input").first.focus()
    keys.press("Space")
    keys.press("ArrowDown")
    keys.press("Space")
    expect(page.locator("#headline")).to_contain_text(f"without {len(Z) - 2} examples")
    keys.press("ArrowUp")
    assert page.evaluate("document.activeElement === document.querySelector('#rows input')")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.get_by_label("Ids").focus()
    keys.type("1000")
    keys.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("from 0 to 39")


# All boxes of one moment: the page may still be scrolling, and boxes read one by one would not belong together.
BOXES = "(names) => names.map((name) => document.getElementById(name).getBoundingClientRect().toJSON())"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1600])
def test_it_is_readable_at_every_width_in_light_and_dark(view, serve, open_page, expect, width, scheme):
    with serve(view) as server:
        tab = open_page(server.address, viewport={"width": width, "height": 800}, color_scheme=scheme)
        pick(tab, [4, 9, 17])
        expect(tab.locator("#headline")).to_contain_text("without 3")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        dark = tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 27)"
        assert dark == (scheme == "dark")
        axe = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
        tab.evaluate(axe)  # WCAG: contrast, names, roles, headings, tables
        violations = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in violations] == []
        tab.locator("#influence").scroll_into_view_if_needed()
        tab.mouse.wheel(0, 400)
        examples, influence, answer = tab.evaluate(BOXES, ["examples", "influence", "answer"])
        assert examples["bottom"] <= influence["top"]  # it stays in sight, and covers nothing
        assert (answer["left"] > examples["left"] + 100) == (width == 1600)


CUT_OFF = """() => [...document.querySelectorAll("svg text")].filter((text) => {
  const [inner, outer] = [text.getBoundingClientRect(), text.ownerSVGElement.getBoundingClientRect()];
  return inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.top < outer.top - 1
    || inner.bottom > outer.bottom + 1;
}).map((text) => text.textContent)"""


@pytest.mark.parametrize("width", [360, 1600])
def test_no_text_of_a_chart_is_cut_off_and_charts_follow_the_width(view, serve, open_page, expect, width):
    view.values[0] = replace(view.values[0], name="the loss of a model with a name that goes on and on and on and on")
    with serve(view) as server:
        tab = open_page(server.address, viewport={"width": width, "height": 800})
        pick(tab, [4, 9])
        tab.get_by_role("textbox", name="Name").fill("w" * 80)
        tab.get_by_role("button", name="Save this subset").click()
        pick(tab, [5, 6, 7])
        expect(tab.locator("#headline")).to_contain_text("without 3")
        expect(tab.locator("#compared polyline")).to_have_count(2)
        assert tab.locator("svg").count() == 5 and tab.evaluate(CUT_OFF) == []
        assert tab.locator("#curve text", has_text="share removed").text_content().endswith("deleted)")
        before = tab.locator("#agreement svg").bounding_box()["width"]
        tab.set_viewport_size({"width": 700, "height": 800})
        expect(tab.locator("#agreement svg")).not_to_have_attribute("width", f"{before:g}")
        assert tab.locator("#agreement svg").bounding_box()["width"] == pytest.approx(652, abs=30)


def test_digits_tell_a_value_from_what_it_was_and_the_ends_of_its_interval_apart(page):
    shown = page.evaluate("""() => {
      const v = { value: 0.1050061234567, low: 0.1050061, high: 0.1050062, change: -2e-5 };
      const flat = { value: 3.5, low: 3.5, high: 3.5, change: 0 };
      const unknown = { value: 2 / 3, low: null, high: null, change: 0.1 };
      return [valueOf(v), intervalOf(v), valueOf(flat), valueOf(unknown), textsOf([0.1050061, 0.1050062]).join(" ")];
    }""")
    assert shown == ["0.105006123", "0.1050061 to 0.1050062", "3.5", "0.666667", "0.1050061 0.1050062"]


def test_two_tabs_do_not_disturb_each_other(page, open_page, view, expect):
    other = open_page(page.server.address)
    pick(page, [4, 9])
    pick(other, [5])
    expect(page.locator("#headline")).to_contain_text("without 2")
    expect(other.locator("#headline")).to_contain_text("without 1")
    page.get_by_role("button", name="Train again to check").click()
    expect(page.locator("#headline")).to_contain_text("Trained again")
    assert "Trained again" not in other.locator("#headline").inner_text()
    pick(other, [4, 9])
    expect(other.locator("#headline")).to_contain_text("Trained again")


def test_a_wrong_token_shows_why(page, open_page):
    open_page.expected.append("403 (Forbidden)")
    tab = open_page(page.server.address.replace("token=", "token=x"), ready=False)
    assert "lacks the right token" in tab.locator("body").inner_text()


def test_a_server_that_has_ended_is_told(view, serve, open_page, expect):
    open_page.expected.append("ERR_CONNECTION_REFUSED")
    with serve(view) as server:
        tab = open_page(server.address)
    pick(tab, [4])
    expect(tab.get_by_role("alert")).to_contain_text("is circuitsketch page still running?")


def test_a_sketch_that_disappears_is_told(queries, serve, open_page, expect, tmp_path):
    path = tmp_path / "a.sketch"
    cs.sketch(page_runs.make(), 8, order=2, per_example="series", path=path)
    view = View({"loss": cs.open_sketch(path).measure(page_runs.loss)})
    view.ask([0])
    with serve(view, store=path) as server:
        tab = open_page(server.address)
        path.rename(tmp_path / "elsewhere")
        pick(tab, [4])
        expect(tab.locator("#headline")).to_contain_text("without 1 example:")
        expect(tab.locator("#warnings")).to_contain_text("has disappeared")
        expect(tab.get_by_role("button", name="Train again to check")).to_be_hidden()


def test_twenty_thousand_examples(serve, open_page, expect, monkeypatch):
    n = 20_000
    monkeypatch.setattr(fitting, "find_shortage", lambda nbytes: "29 GB of memory, but only 20 GB are available")
    run = cs.Training(
        lambda s, x, keep: 0.9 * s + (keep * x).mean(),
        np.zeros(()),
        np.sin(np.arange(n)).reshape(10, -1),
        np.arange(n).reshape(10, -1),
        items=[f"text {i}" for i in range(n)],
        labels=[f"user {-i % 700}" for i in range(n)],
    )
    view = View({"square": cs.sketch(run, 16, order=2, per_example="series").measure(lambda s: s * s)})
    view.ask([0])
    with serve(view) as server:
        tab = open_page(server.address)
        expect(tab.locator("#shown")).to_contain_text("20,000 of 20,000 examples shown")
        assert tab.locator("#rows tbody tr").count() == 50
        tab.get_by_label("Search").fill("text 1999")
        expect(tab.locator("#shown")).to_contain_text("11 of 20,000")
        tab.get_by_role("button", name="Pick all shown").click()
        expect(tab.locator("#headline")).to_contain_text("without 11 examples")
        expect(tab.locator("#words")).to_contain_text("interactions from 16 directions")
        assert "without knowing which of them are alike: that takes 29 GB" in tab.locator("#trust").inner_text()
        tab.get_by_label("Search").fill("")
        tab.get_by_role("button", name="Next").click()
        expect(tab.locator("#page-number")).to_have_text("page 2 of 400")
        second = table(tab, "rows")[0][1]
        tab.get_by_role("button", name="Previous").click()
        expect(tab.locator("#page-number")).to_have_text("page 1 of 400")
        labels = tab.locator("#label option").all_inner_texts()
        assert labels == ["any", *(f"user {i}" for i in range(700))]
        tab.evaluate("listLabels(Array.from({ length: 5003 }, (_, i) => `user ${i}`))")
        last = tab.locator("#label option").last
        assert last.inner_text() == "3 more: search for them" and last.is_disabled()
        assert table(tab, "rows")[0][1] != second
        tab.get_by_role("button", name="Pick all shown").click()
        expect(tab.locator("#headline")).to_contain_text("without 20,000 examples")


def test_a_page_in_a_file_does_the_same_without_a_server(view, open_page, expect, tmp_path):
    write_static_page(view, tmp_path / "page.html")
    tab = open_page((tmp_path / "page.html").as_uri())
    assert not tab.locator("#check").is_visible() and "24 random subsets" in tab.locator("#trust").inner_text()
    tab.get_by_label("Search").fill("z")
    tab.get_by_role("button", name="Pick all shown").click()
    expect(tab.locator("#headline")).to_contain_text(f"without {len(Z)} examples")
    assert "24 subsets of the calibration" in tab.locator("#coverage").inner_text()
    assert tab.locator("#curve polygon").count() == 1
    tab.get_by_label("Name").fill("z")
    tab.get_by_role("button", name="Save this subset").click()
    assert "z" in tab.locator("#first").inner_text()


def test_small_images_are_pictures(open_page, tmp_path):
    items = [np.random.default_rng(i).random((8, 8)) for i in range(page_runs.N)]
    run = page_runs.make(items=items)
    view = View({"loss": cs.sketch(run, 0, order=1, per_example="series").measure(page_runs.loss)})
    write_static_page(view, tmp_path / "page.html")
    tab = open_page((tmp_path / "page.html").as_uri())
    pictures = tab.locator("#rows img")
    assert pictures.count() == page_runs.N and pictures.first.get_attribute("alt") == "image of 8 x 8"
    assert tab.evaluate("[...document.images].every((one) => one.naturalWidth === 8)")
