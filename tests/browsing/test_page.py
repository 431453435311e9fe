"""The page in a real browser (Chromium), by clicks, choices and keys: what people see, and what never happens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from aipo_lab.browsing.entries import Entry
from aipo_lab.browsing.server import serving

from .chromium import PROGRAM, Chromium
from .entry_files import INJECTION, all_entries, compared_entries, micro_entries, turn, write_entry

pytest.importorskip("aiohttp", reason="aiohttp drives the browser")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no chromium on this machine: apt-get install chromium")

LIST = "#questions .id"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium") / "profile") as browser:
        browser.resize(1280, 900)
        yield browser


@pytest.fixture
def entries(tmp_path: Path) -> list[Entry]:
    return all_entries(tmp_path)


@pytest.fixture
def address(entries: list[Entry]) -> Iterator[str]:
    with serving(entries, "sweep <i>small</i>") as address:
        yield address


@pytest.fixture
def page(browser: Chromium, address: str) -> Iterator[Chromium]:
    """The page with the micro benchmark's two entries; in the end, nothing was logged or sent elsewhere."""
    show(browser, address)
    yield browser
    assert browser.get("window.hacked === undefined")
    assert browser.problems == []
    assert {url.split("/")[2] for url in browser.requested if not url.startswith("data:")} == {address.split("/")[2]}


def show(browser: Chromium, address: str) -> None:
    browser.open(address)
    settled(browser)


def settled(browser: Chromium) -> None:
    browser.wait("document.querySelector('main').children.length && !document.body.hasAttribute('aria-busy')")


def choose(page: Chromium, control: str, value: str) -> None:
    page.choose(f"#{control}", value)
    settled(page)


def search(page: Chromium, text: str, found: list[str]) -> None:
    page.get("document.querySelector('#search').select()")
    page.type(text)
    page.wait(f"[...document.querySelectorAll('{LIST}')].map(e => e.innerText).join() === '{','.join(found)}'")


def in_hash(page: Chromium) -> dict[str, str]:
    hash_ = urlsplit(str(page.get("location.href"))).fragment
    return {name: values[0] for name, values in parse_qs(hash_).items()}


def test_both_answers_with_lengths_and_verdicts(page: Chromium) -> None:
    assert page.get("document.title") == "sweep <i>small</i>" == page.text("h1")
    assert page.text(".prompt .text") == "name a colour"
    assert page.texts(".answer .text") == ["blue", "blue, which is a colour"]
    assert page.texts(".answer .length") == [
        "= tie 2 tokens (−5) · 4 characters (−19)",
        "▲ win 7 tokens (+5) · 23 characters (+19)",
    ]
    assert page.texts(".outcome") == ["= judge: tie = truth: tie", "▲ judge: win ▲ truth: win"]
    assert page.texts(".quality") == ["true quality 0.50, baseline 0.50", "true quality 0.75, baseline 0.50"]


def test_choosing_entries_and_benchmark(page: Chromium) -> None:
    choose(page, "left", "dpo-b0.1, iteration 1")
    assert page.texts(".answer .text") == ["blue, which is a colour"] * 2
    choose(page, "right", "base model")
    assert page.texts(".answer .text") == ["blue, which is a colour", "blue"]
    page.click("#swap")
    settled(page)
    assert page.texts(".answer .text") == ["blue", "blue, which is a colour"]
    choose(page, "benchmark", "mt_bench")
    assert page.texts("#left option") == ["base model", "aipo, iteration 2"] == page.texts("#right option")
    assert page.texts(".prompt .text") == ["first of 81", "then of 81"]
    assert page.texts(".answer .text") == [
        *("one by base model", "one by aipo, iteration 2"),
        *("two by base model", "two by aipo, iteration 2"),
    ]


def test_clicking_a_question_shows_it(page: Chromium) -> None:
    page.click("#questions button", 2)
    assert page.text("main h2 .id") == "000002" == page.text("#questions [aria-current] .id")
    assert page.texts(".answer .cut") == ["✂ truncated", "✂ truncated: the token limit was reached here"]
    assert page.texts(".outcome")[1] == "▲ judge: win ▼ truth: loss ≠ judge against truth"


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("all", ["000000", "000001", "000002", "000003"]),
        ("disagreements", ["000000", "000002"]),
        ("left-loses", []),
        ("right-loses", ["000001"]),
        ("truncated", ["000002"]),
        ("misjudged", ["000002"]),
    ],
)
def test_filters(page: Chromium, name: str, ids: list[str]) -> None:
    choose(page, "show", name)
    assert page.texts(LIST) == ids
    assert page.text("#count") == f"{len(ids)} of 4 questions"
    assert page.text("main h2 .id" if ids else "main") == (ids[0] if ids else "No question passes the filters.")


def test_ratings_disagree_from_two_points_on(page: Chromium) -> None:
    choose(page, "benchmark", "mt_bench")
    assert page.texts("#questions .chip .hidden ~ span") == ["★"] * 4
    for name, ids in {"disagreements": ["81"], "left-loses": ["81"], "right-loses": ["121"]}.items():
        choose(page, "show", name)
        assert page.texts(LIST) == ids
    assert "misjudged" not in page.get("[...document.querySelector('#show').options].map(o => o.value)")


def test_categories(page: Chromium) -> None:
    assert page.get("document.querySelector('#category-label').hidden")
    choose(page, "benchmark", "mt_bench")
    assert page.texts("#category option") == ["all categories", "writing", "coding"]
    choose(page, "category", "coding")
    assert page.texts(LIST) == ["121"]


def test_search_looks_in_prompts_and_answers_of_both_sides(page: Chromium) -> None:
    everything = ["000000", "000001", "000002", "000003"]
    page.click("#search")
    search(page, "A RIVER", ["000001"])
    search(page, "hammer", ["000002"])
    search(page, "a", everything)
    search(page, "<img src", ["000003"])
    search(page, "zebra", [])
    assert page.text("main") == "No question passes the filters." and page.text("#summary") == ""


def test_means_are_of_what_is_shown(page: Chromium) -> None:
    def cells() -> list[list[str]]:
        return [row.replace("\n", "").split("\t") for row in page.texts("#summary tr")]

    head, left, right = cells()
    assert head[1:] == [
        "answers",
        "tokens",
        "characters",
        "truncated",
        "win rate by length-biased judge",
        "win rate by true quality",
        "true quality",
    ]
    assert left == ["left base model", "4", "2.0", "5", "0", "50.0 %", "50.0 %", "0.50"]
    assert right[1:] == ["4", "11.0", "29", "1", "62.5 %", "37.5 %", "0.44"]
    choose(page, "show", "disagreements")
    assert cells()[2][1:] == ["2", "6.5", "21", "1", "100.0 %", "50.0 %", "0.50"]
    choose(page, "benchmark", "mt_bench")
    choose(page, "show", "all")
    assert [row[1:] for row in cells()] == [
        ["answers", "tokens", "characters", "truncated", "rating"],
        ["2", "30.0", "34", "0", "5.50"],
        ["2", "30.0", "48", "0", "6.75"],
    ]


def test_keys(page: Chromium) -> None:
    def after(key: str) -> str:
        page.press(key)
        return page.text("main h2 .id")

    assert [after(key) for key in ("j", "ArrowRight", "k", "ArrowLeft", "k")] == [
        *("000001", "000002", "000001", "000000", "000000"),
    ]
    page.click("#questions button", 0)
    assert [after(key) for key in ("ArrowDown", "ArrowDown", "ArrowUp")] == ["000001", "000002", "000001"]
    assert page.get("document.activeElement.querySelector('.id').innerText") == "000001"
    page.press("/")
    assert page.get("document.activeElement.id") == "search" and page.get("search.value") == ""
    assert after("j") == "000001", "a letter typed into the search moves nothing"


def test_the_judges_words_unfold_and_stay_unfolded(page: Chromium) -> None:
    choose(page, "benchmark", "mt_bench")
    assert page.texts("details summary") == ["turn 1 5", "turn 2 5", "turn 1 8", "turn 2 8"]
    assert not page.get("document.querySelector('.judge-text').checkVisibility()")
    page.click("details summary", 3)
    page.wait("document.querySelectorAll('.judge-text')[3].checkVisibility()")
    assert page.texts("details[open] .judge-text") == ["words on turn 2"]
    page.press("j")
    assert page.text("main h2 .id") == "121"
    assert page.texts("details[open] summary") == ["turn 2 6", "turn 2 5.5"]


def test_an_address_restores_the_view_and_back_goes_back(page: Chromium, address: str) -> None:
    choose(page, "show", "disagreements")
    page.click("#questions button", 1)
    page.click("#search")
    search(page, "hammer", ["000002"])
    page.wait("location.hash.includes('search=hammer')")
    view = str(page.get("location.href"))
    assert in_hash(page) == {
        "benchmark": "micro",
        "left": "base model",
        "right": "dpo-b0.1, iteration 1",
        "show": "disagreements",
        "search": "hammer",
        "question": "000002",
    }
    show(page, address)
    assert page.text("main h2 .id") == "000000"
    show(page, view)
    assert (page.texts(LIST), page.get("search.value"), page.get("show.value")) == (
        ["000002"],
        "hammer",
        "disagreements",
    )
    choose(page, "benchmark", "mt_bench")
    page.get("history.back()")
    page.wait("document.querySelector('main h2 .id').innerText === '000002'")
    assert page.get("document.querySelector('#benchmark').value") == "micro"


def test_an_address_that_is_out_of_date_still_shows_something(page: Chromium, address: str) -> None:
    show(page, f"{address}#benchmark=gone&left=gone&right=%3Cb%3E&category=x&show=toString&question=9")
    assert page.text("main h2 .id") == "000000" and len(page.texts(LIST)) == 4


def test_markup_in_an_answer_is_text(page: Chromium) -> None:
    page.click("#questions button", 3)
    assert page.texts(".answer .text")[1] == INJECTION
    assert page.get("document.querySelectorAll('main script, main img').length") == 0


def test_markup_anywhere_is_text(browser: Chromium, tmp_path: Path) -> None:
    answers = [{"id": INJECTION, "category": INJECTION, "turns": [turn(INJECTION, INJECTION, 1, INJECTION)]}]
    answers.append({"id": "other", "category": "constructor", "turns": [turn("__proto__", "‮ \x00 \t", 1)]})
    verdict = {"name": INJECTION, "verdict": INJECTION, "text": INJECTION}
    judgments = [{"id": INJECTION, "preference": 0.5, "score": None, "verdicts": [verdict]}]
    entry = write_entry(tmp_path, INJECTION, INJECTION, answers, judgments)
    with serving([entry], INJECTION) as address:
        show(browser, address)
        browser.click("details summary")
        browser.wait("document.querySelector('.judge-text').checkVisibility()")
        assert browser.text("h1") == browser.text("main h2 .id") == browser.text(".category") == INJECTION
        assert browser.text(".prompt .text") == browser.text(".judge-text") == INJECTION
        assert browser.get("document.querySelectorAll('img, main script, header script').length") == 0
        browser.click("#questions button", 1)
        assert browser.text("main h2 .id") == "other"
        assert browser.get("window.hacked === undefined") and browser.problems == []


def test_what_is_missing_is_said(page: Chromium) -> None:
    choose(page, "benchmark", "alpaca_eval")
    assert page.texts("#right option") == ["from files", "unjudged (1 of 2 answers, not judged)"]
    assert page.texts(".answer .length") == ["▲ win 5 characters (±0)", "5 characters (±0)"]
    assert page.texts(".outcome") == ["▲ win preference 0.83"] and page.text(".verdict") == "annotation 0.830"
    assert page.texts(".judgment .missing") == ["not judged"]
    assert "truncated" not in page.text("#summary") and "tokens" not in page.text("#summary")
    page.press("j")
    assert page.texts(".missing") == ["no answer to this question", "no answer to judge"]
    assert page.texts(".outcome") == ["– no verdict"]


def test_a_damaged_file_is_reported_beside_what_is_left(browser: Chromium, tmp_path: Path) -> None:
    entries = micro_entries(tmp_path)
    good = entries[1].answers.read_text()
    entries[1].answers.write_text(good + '{"id": "x", <b>')
    with serving(entries, "t") as address:
        show(browser, address)
        error = browser.text("#errors p")
        assert error.startswith("dpo-b0.1, iteration 1: ") and "answers.jsonl, line 5: not JSON" in error
        assert browser.texts(".answer .text") == ["blue"] and len(browser.texts(LIST)) == 4
        entries[1].answers.write_text(good)
        browser.click("#errors button")
        browser.wait("document.querySelectorAll('.answer .text').length === 2")
        assert browser.text("#errors") == ""


def test_deleted_files_and_a_stopped_server_leave_no_blank_page(browser: Chromium, tmp_path: Path) -> None:
    entries = compared_entries(tmp_path)
    entries[0].answers.unlink()
    entries[1].answers.unlink()
    with serving(entries, "t") as address:
        show(browser, address)
        assert [("No such file" in error) for error in browser.texts("#errors p")] == [True, True]
        assert browser.text("main") == "There are no answers to show."
        assert browser.texts("#left option")[0] == "from files (unreadable)"
    browser.click("#errors button")
    browser.wait("document.querySelector('#errors').innerText.includes('no answer from the server')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_in_a_narrow_window(page: Chromium, scheme: str) -> None:
    page.prefer(scheme)
    try:
        for width in (1280, 700, 360):
            page.resize(width, 800)
            assert page.get("document.documentElement.scrollWidth <= innerWidth"), width
        page.resize(700, 800)
        tops = page.get("[...document.querySelectorAll('.answer')].map(e => e.getBoundingClientRect().top)")
        assert tops[0] == tops[1], "side by side at 700 pixels"
        lightness = page.get("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (max(lightness) < 64) == (scheme == "dark")
    finally:
        page.resize(1280, 900)
        page.prefer("light")


HOSTILE = "<b onclick=x>bold</b> ![i](http://example.com/x.png)"
MARKDOWN = f"# Title\n\n- one\n- **two**\n\n{HOSTILE} [go](javascript:alert(1))"


def iterations(folder: Path, texts: list[str], model: str = "aipo") -> list[Entry]:
    """A base model and a trial with an entry an iteration; one question."""
    answers = [[{"id": "0", **turn("ask", text, len(text.split()))}] for text in texts]
    base = write_entry(folder, "micro", "base model", answers[0], None)
    return [base] + [
        replace(write_entry(folder, "micro", f"{model}, iteration {t}", rows, None), model=model, iteration=t)
        for t, rows in enumerate(answers[1:], 1)
    ]


def test_markdown_is_laid_out_and_sanitised(browser: Chromium, tmp_path: Path) -> None:
    with serving(iterations(tmp_path, ["plain", MARKDOWN]), "t") as address:
        show(browser, address)
        assert browser.texts(".answer .markdown li") == ["one", "two"]
        assert browser.texts(".answer .markdown strong") == ["two"]
        assert HOSTILE in browser.texts(".answer .text")[1]
        assert browser.get("document.querySelectorAll('main img, main b, main [onclick], main a[href]').length") == 0
        choose(browser, "as", "raw")
        assert browser.texts(".answer .text")[1] == MARKDOWN
        assert in_hash(browser)["as"] == "raw"


def test_words_that_the_other_side_does_not_have_are_marked(browser: Chromium, tmp_path: Path) -> None:
    with serving(iterations(tmp_path, ["a small red fox", "a very red fox"]), "t") as address:
        show(browser, address)
        choose(browser, "as", "differences")
        assert browser.texts(".answer .text") == ["a small red fox", "a very red fox"]
        assert (browser.texts("del"), browser.texts("ins")) == (["small"], ["very"])


def test_long_answers_are_folded_until_asked_for(browser: Chromium, tmp_path: Path) -> None:
    with serving(iterations(tmp_path, ["short", "word " * 1000]), "t") as address:
        show(browser, address)
        assert browser.texts("button.fold") == ["show all 5,000 characters"]
        height = "document.querySelectorAll('.answer .text')[1].getBoundingClientRect().height"
        before = float(browser.get(height))
        browser.click("button.fold")
        assert float(browser.get(height)) > before + 50
        choose(browser, "as", "raw")
        assert browser.texts("button.fold") == ["fold"]


def test_a_trial_and_an_iteration_are_picked_apart(browser: Chromium, tmp_path: Path) -> None:
    with serving(iterations(tmp_path, ["b", "one", "two", "three"]), "t") as address:
        show(browser, address)
        assert browser.texts("#right option") == ["base model (not judged)", "aipo"]
        assert browser.get("document.querySelector('#left-iteration').hidden")
        choose(browser, "right-iteration", "aipo, iteration 2")
        assert browser.texts(".answer .text") == ["b", "two"]
        choose(browser, "left", "aipo")
        assert browser.texts(".answer .text") == ["three", "two"]


def test_one_question_through_the_iterations(browser: Chromium, tmp_path: Path) -> None:
    with serving(iterations(tmp_path, ["b", "one", "two", "three"]), "t") as address:
        show(browser, address)
        choose(browser, "view", "path")
        browser.wait("document.querySelectorAll('.path .answer').length === 4")
        assert browser.texts(".path .text") == ["b", "one", "two", "three"]
        assert browser.texts(".path h3") == ["base model", *(f"aipo, iteration {t}" for t in (1, 2, 3))]
        choose(browser, "as", "differences")
        browser.wait("document.querySelectorAll('ins').length === 3")


def test_questions_in_another_order(page: Chromium) -> None:
    choose(page, "order", "gap")
    assert page.texts(LIST)[0] == "000003", "the injected markup is by far the longest"
    choose(page, "order", "preference")
    assert page.texts(LIST)[0] == "000000"
    choose(page, "order", "")
    assert page.texts(LIST) == ["000000", "000001", "000002", "000003"]


def test_what_could_not_be_shown_is_said(browser: Chromium, tmp_path: Path) -> None:
    with serving(iterations(tmp_path, ["b", "one"]), "t", notes=["no <b>baseline</b> here"]) as address:
        show(browser, address)
        assert browser.text("#notes") == "no <b>baseline</b> here"
