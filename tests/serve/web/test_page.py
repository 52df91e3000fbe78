"""The page, in a real browser against a small service with the same contract."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, expect, sync_playwright

from tests.helpers.needs import missing
from tests.helpers.page_service import LONGEST, NEIGHBOURS, PageService, running

pytestmark = pytest.mark.browser

PATIENCE = 30_000  # ms: machines are shared
OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        missing("needs Chromium (Debian and Ubuntu: apt-get install chromium)")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"], timeout=4 * PATIENCE
        )
        yield browser
        browser.close()


@pytest.fixture
def service() -> Iterator[PageService]:
    with running(PageService()) as service:
        yield service


@pytest.fixture
def open_page(browser: Browser, service: PageService) -> Iterator[OpenPage]:
    """Opens the page with a context's options; afterwards nothing may have gone elsewhere, or failed."""
    asked: list[str] = []
    complaints: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    def listen(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "Trusted" in message.text:
            complaints.append(message.text)

    def open_(**options: Any) -> Page:
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE)
        context.on("request", note)
        context.on("console", listen)
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        page = context.new_page()
        page.goto(service.address)
        return page

    yield open_
    for context in browser.contexts:
        context.close()
    assert any(url.endswith("/v1/model") for url in asked)
    assert [url for url in asked if not url.startswith((f"{service.address}/", "data:"))] == []
    assert complaints == []


def tag(page: Page, text: str) -> None:
    page.get_by_label("Text to tag").fill(text)
    page.get_by_role("button", name="Tag", exact=True).click()
    settled(page)


def settled(page: Page) -> None:
    expect(page.locator("#ask")).to_have_attribute("aria-busy", "false")
    expect(page.locator("#panes")).to_be_visible()


def marks(pane: Locator) -> list[str]:
    """Entities of a text as a person sees them, such as 'Quito LOC'."""
    shown = pane.locator("mark").evaluate_all(
        "marks => marks.map(mark => mark.firstChild.data + ' ' + mark.querySelector('.tag').innerText)"
    )
    return [re.sub(r"[\s()]+", " ", re.sub(r", score \d+ %", "", one)).strip() for one in shown]


def named(text: str, label: str) -> str:
    """An entity as the page's sentences name it: its text is isolated, because it may run from right to left."""
    return f"\u2068{text}\u2069 ({label})"


def tab_to(page: Page, wanted: str) -> None:
    """Presses Tab until what a CSS selector names has the focus, as a keyboard user does."""
    for _ in range(40):
        if page.evaluate("wanted => document.activeElement.matches(wanted)", wanted):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {wanted}")


def test_the_page_of_the_api_sends_requests_and_loads_nothing_from_elsewhere(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("link", name="API docs").click()
    page.locator("#operations-default-model_v1_model_get").get_by_role("button").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table")).to_contain_text("5f0c2a91be77")


def test_adaptation_is_shown_and_told(open_page: OpenPage) -> None:
    page = open_page()
    expect(page.locator("#facts")).to_contain_text("5f0c2a91be77")
    expect(page.locator("#facts")).to_contain_text(f"K{NEIGHBOURS}")
    expect(page.get_by_role("link", name="API docs")).to_have_attribute("href", "docs")
    expect(page.locator("#summary")).to_contain_text("Nothing is tagged yet")
    tag(page, "Amazon has built an office in Seattle.")
    expect(page.locator("#summary")).to_have_text(
        f"2 entities. Adaptation found 1 entity more: {named('Seattle', 'LOC')}; "
        f"changed 1 entity: {named('Amazon', 'LOC')} became ORG."
    )
    assert marks(page.locator("#before")) == ["Amazon LOC changed"]
    assert marks(page.locator("#after")) == ["Amazon ORG was LOC", "Seattle LOC new"]
    seattle = page.locator("#after mark").last
    expect(seattle).to_have_attribute("title", "LOC, score 94 %")
    expect(seattle).to_contain_text("(LOC, score 94 %")  # what a screen reader is told
    expect(seattle.locator(".score")).to_be_hidden()
    page.get_by_label("Scores").check()
    expect(seattle.locator(".score")).to_be_visible()
    for view, before, after in [("Before", True, False), ("After", False, True), ("Both", True, True)]:
        page.get_by_role("radio", name=view).check()
        expect(page.locator("#before")).to_be_visible(visible=before)
        expect(page.locator("#after")).to_be_visible(visible=after)


def test_a_sample_is_tagged_by_itself_and_only_the_last_one(open_page: OpenPage, service: PageService) -> None:
    page = open_page()
    page.get_by_role("button", name="Deutsch").click()
    page.get_by_role("button", name="Português").click()
    expect(page.locator("#after mark")).to_have_count(3)
    assert marks(page.locator("#after"))[:2] == ["Helena Duarte PER new", "Banco Central ORG new"]
    assert [body["text"][:11] for _, body in service.requests] == ["Boa notícia"]
    assert service.requests[0][1]["explain"] is True
    expect(page.get_by_role("button", name="Português")).to_have_attribute("aria-pressed", "true")
    assert len(page.locator("#samples button").all()) >= 6


def test_support_sentences_say_what_they_shaped(open_page: OpenPage, service: PageService) -> None:
    page = open_page()
    tag(page, "Bremen lies far away.\nAmazon left Seattle.")
    groups = page.locator("#support .group")
    expect(groups).to_have_count(2)
    expect(groups.first.get_by_role("heading")).to_have_text("For “Bremen lies far away.”")
    expected = service.tagged("Bremen lies far away.\nAmazon left Seattle.", explain=True)["support"]
    assert page.locator("#support .near").all_inner_texts() == [f"{one['similarity']:.2f}" for one in expected]
    shares = page.locator("#support li .bar").evaluate_all(
        "bars => bars.map(b => +b.style.getPropertyValue('--share'))"
    )
    assert shares == [one["similarity"] for one in expected]
    expect(groups.first.locator("li").first).to_contain_text("news.conll:88")
    hue = "node => node.style.getPropertyValue('--h')"
    assert groups.first.locator("mark").first.evaluate(hue) == page.locator("#after mark").first.evaluate(hue)


def test_an_example_is_added_by_keyboard_alone_and_counts_at_once(open_page: OpenPage, service: PageService) -> None:
    page = open_page()
    tab_to(page, "#text")
    page.keyboard.type("The Nordwind laboratory hired Ida Holm in Quito.")
    page.keyboard.press("Control+Enter")
    settled(page)
    assert marks(page.locator("#after")) == ["Quito LOC"]
    tab_to(page, "#correct")
    page.keyboard.press("Enter")
    expect(page.locator("#words")).to_be_focused()
    for key in ["ArrowRight", "3", *["ArrowRight"] * 3, "Shift+ArrowRight", "4", "End", "ArrowLeft", "Delete"]:
        page.keyboard.press(key)
    expect(page.locator("#words [aria-selected=true]")).to_have_text("Quito")
    tab_to(page, "#language")
    page.keyboard.type("en")
    tab_to(page, "#save")
    page.keyboard.press("Enter")
    expect(page.locator("#news")).to_have_text("Example 1 is kept.")
    expect(page.locator("#summary")).to_contain_text(
        "With the new example, the tagger found 2 entities more: "
        f"{named('Nordwind', 'ORG')}, {named('Ida Holm', 'PER')}."
    )
    kept = [(e["text"], e["label"]) for e in service.examples[1]["entities"]]
    assert kept == [("Nordwind", "ORG"), ("Ida Holm", "PER")]
    assert service.examples[1]["language"] == "en"
    expect(page.locator("#support .badge")).to_have_text("Your example 1")
    expect(page.locator("#examples li")).to_contain_text("Ida Holm")
    expect(page.locator("#facts")).to_contain_text("1 yours")


def test_words_are_marked_by_mouse_and_escape_keeps_nothing(open_page: OpenPage, service: PageService) -> None:
    page = open_page()
    tag(page, "Yesterday Ida Holm left.")
    page.get_by_role("button", name="Add an example").click()
    words = page.locator("#words")
    words.get_by_role("option", name="Ida").hover()
    page.mouse.down()
    words.get_by_role("option", name="Holm").hover()
    page.mouse.up()
    page.get_by_role("button", name="PER").click()
    expect(words.locator(".entity")).to_have_text("Ida HolmPER")
    expect(words.get_by_role("option", name="Ida, PER")).to_be_visible()
    page.get_by_role("button", name="No entity").click()
    expect(words.locator(".entity")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Add an example")).to_be_focused()
    assert service.examples == {}


def test_deleting_an_example_is_felt_and_can_be_undone(open_page: OpenPage, service: PageService) -> None:
    service.add("Nordwind hired Ida Holm.", {"Ida Holm": "PER"})
    page = open_page()
    tag(page, "Nordwind praised Ida Holm.")
    page.locator("#support").get_by_role("button", name="Delete example 1").click()
    expect(page.locator("#summary")).to_contain_text(
        f"Without the deleted example, the tagger dropped 1 entity: {named('Ida Holm', 'PER')}."
    )
    assert service.examples == {}
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_contain_text(f"found 1 entity more: {named('Ida Holm', 'PER')}.")
    assert [e["text"] for e in service.examples[2]["entities"]] == ["Ida Holm"]
    # The page may still be reading its list of examples: an example that is gone before that never gets a button.
    expect(page.locator("#examples").get_by_role("button", name="Delete example 2")).to_be_visible()
    del service.examples[2]  # by someone else
    page.locator("#examples").get_by_role("button", name="Delete example 2").click()
    expect(page.locator("#examples-problem")).to_contain_text("There is no example 2.")


def test_examples_that_a_machine_labelled_say_so(open_page: OpenPage, service: PageService) -> None:
    service.add_by_machine("Nordwind hired Ida Holm.", {"Ida Holm": "PER"})
    service.add("Ida Holm left.", {"Ida Holm": "PER"})
    page = open_page()
    expect(page.locator("#facts")).to_contain_text("1 yours + 1 by machine")
    stored = page.locator("#examples li")
    expect(stored.first).to_contain_text("Machine label (5f0c2a91be77), 0.93")
    expect(stored.last).not_to_contain_text("Machine label")
    tag(page, "Ida Holm left Nordwind.")
    support = page.locator("#support li")
    expect(support.filter(has_text="Nordwind hired")).to_contain_text("Machine label (de), 0.93")
    expect(support.filter(has_text="Your example 2")).not_to_contain_text("Machine label")
    stored.first.get_by_role("button", name="Delete example 1").click()
    expect(page.locator("#news")).to_have_text("Example 1 is deleted.")
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)


def test_stored_examples_come_in_pages(open_page: OpenPage, service: PageService) -> None:
    for number in range(6):
        service.add(f"Sentence {number}.", {})
    page = open_page()
    stored = page.locator("#examples li")
    expect(stored).to_have_count(5)
    expect(page.get_by_role("button", name="Previous")).to_be_disabled()
    page.get_by_role("button", name="Next").click()
    expect(stored).to_have_count(1)
    expect(stored).to_contain_text("Sentence 5.")
    page.get_by_role("button", name="Delete example 6").click()
    expect(stored).to_have_count(5)
    expect(page.locator("#pager")).to_be_hidden()


def test_problems_name_the_field(open_page: OpenPage) -> None:
    page = open_page()
    tag(page, "Quito.")
    page.get_by_role("button", name="Add an example").click()
    page.locator("#language").fill("Spanish")
    page.get_by_role("button", name="Save and tag again").click()
    alert = page.get_by_role("dialog").get_by_role("alert")
    expect(alert).to_contain_text("examples.0.language: two letters, such as pt")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_label("Text to tag").fill("x" * (LONGEST + 1))
    page.keyboard.press("Control+Enter")
    problem = page.locator("#problem")
    for words in [
        "Unprocessable Content",
        "A text is too long. Send it in parts.",
        f"text: more than {LONGEST}",
        "r-17",
    ]:
        expect(problem).to_contain_text(words)
    expect(page.get_by_label("Text to tag")).to_have_attribute("aria-invalid", "true")
    tag(page, "Quito.")
    expect(problem).to_be_empty()
    expect(page.get_by_label("Text to tag")).to_have_attribute("aria-invalid", "false")
    page.get_by_label("Text to tag").fill("  ")
    page.get_by_role("button", name="Tag", exact=True).click()
    expect(page.locator("#status")).to_contain_text("There is no text yet")


def test_a_busy_service_is_asked_once_more(open_page: OpenPage, service: PageService) -> None:
    page = open_page()
    service.busy = 1
    page.get_by_label("Text to tag").fill("Quito.")
    page.get_by_role("button", name="Tag", exact=True).click()
    expect(page.locator("#status")).to_have_text("The service is busy. Trying again in 1 s.")
    settled(page)
    assert marks(page.locator("#after")) == ["Quito LOC"]
    assert len(service.requests) == 2
    service.busy = 5
    page.get_by_role("button", name="Tag", exact=True).click()
    expect(page.locator("#problem")).to_contain_text("The service asks for a wait of 1 s.")
    assert len(service.requests) == 4


def test_a_newer_request_takes_the_place_of_a_slow_one(open_page: OpenPage, service: PageService) -> None:
    page = open_page()
    service.hold.clear()
    page.get_by_label("Text to tag").fill("Quito.")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#ask")).to_have_attribute("aria-busy", "true")
    expect(page.locator("#status")).to_have_text("Tagging …")
    page.get_by_label("Text to tag").fill("Nairobi.")
    page.keyboard.press("Control+Enter")
    service.hold.set()
    settled(page)
    assert marks(page.locator("#after")) == ["Nairobi LOC"]
    expect(page.locator("#status")).to_be_empty()


def test_without_a_connection(open_page: OpenPage) -> None:
    page = open_page()
    tag(page, "Quito.")
    page.context.set_offline(True)
    expect(page.locator("#offline")).to_contain_text("You are offline.")
    page.get_by_role("button", name="Tag", exact=True).click()
    expect(page.locator("#problem")).to_contain_text("Try again when there is a connection.")
    assert marks(page.locator("#after")) == ["Quito LOC"]
    page.context.set_offline(False)
    expect(page.locator("#offline")).to_be_empty()
    tag(page, "Quito.")
    expect(page.locator("#problem")).to_be_empty()


def test_a_token_is_asked_for_and_kept_in_memory_only(open_page: OpenPage, service: PageService) -> None:
    service.token = "right"
    page = open_page()
    dialog = page.get_by_role("dialog", name="A token is needed")
    expect(dialog).to_be_visible()
    page.get_by_role("textbox", name="Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("That token was not accepted.")
    page.get_by_role("textbox", name="Token").fill("right")
    page.keyboard.press("Enter")
    expect(page.locator("#facts")).to_contain_text("metacross")
    tag(page, "Quito.")
    assert marks(page.locator("#after")) == ["Quito LOC"]
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    page.reload()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.locator("#problem")).to_contain_text("Send Authorization: Bearer TOKEN.")


def test_offsets_are_code_points(open_page: OpenPage, service: PageService) -> None:
    page = open_page()
    text = "👩‍🔬🎉 Quito, 𝒳 und Ørsted 🚀 Nairobi"
    tag(page, text)
    assert marks(page.locator("#after")) == ["Quito LOC", "Nairobi LOC"]
    page.get_by_role("button", name="Add an example").click()
    page.locator("#words").get_by_role("option", name="Ørsted").click()
    page.get_by_role("button", name="ORG").click()
    page.get_by_role("button", name="Save and tag again").click()
    expect(page.locator("#news")).to_have_text("Example 1 is kept.")
    assert [e["text"] for e in service.examples[1]["entities"]] == ["Quito", "Ørsted", "Nairobi"]
    assert service.examples[1]["text"] == text


def test_scripts_without_spaces_are_marked_by_the_character(open_page: OpenPage, service: PageService) -> None:
    page = open_page()
    page.get_by_role("button", name="中文").click()
    settled(page)
    assert marks(page.locator("#after")) == ["成都 LOC", "四川大学 ORG new"]
    page.get_by_role("button", name="Add an example").click()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("4")
    page.get_by_role("button", name="Save and tag again").click()
    expect(page.locator("#news")).to_have_text("Example 1 is kept.")
    assert [e["text"] for e in service.examples[1]["entities"]] == ["李文博", "成都", "四川大学"]
    assert service.examples[1]["language"] == "zh"


def test_text_from_right_to_left(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("button", name="العربية").click()
    settled(page)
    direction = "node => getComputedStyle(node).direction"
    for shown in [page.get_by_label("Text to tag"), page.locator("#after .text"), page.locator("#before .text")]:
        assert shown.evaluate(direction) == "rtl"
    assert page.locator("#after .tag").first.evaluate(direction) == "ltr"
    assert marks(page.locator("#after")) == ["جامعة القاهرة ORG was LOC", "تونس LOC"]
    page.get_by_role("button", name="Add an example").click()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#words [aria-selected=true]")).to_have_text("الباحثة")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#words [aria-selected=true]")).to_have_text("زارت")


def test_markup_in_texts_stays_text(open_page: OpenPage, service: PageService) -> None:
    attack = '<img src=x onerror="window.caught=1"><script>window.caught=1</script> Quito'
    service.store({"text": attack, "entities": [{"start": 0, "end": 4, "label": "<b>X</b>"}], "language": "<i>"})
    page = open_page()
    tag(page, attack)
    assert marks(page.locator("#after")) == ["<img <b>X</b> new", "Quito LOC"]
    expect(page.locator("#after .text")).to_contain_text(
        'src=x onerror="window.caught=1"><script>window.caught=1</script>'
    )
    expect(page.locator("#examples .text")).to_contain_text("<script>window.caught=1</script>")
    page.get_by_role("button", name="Add an example").click()
    expect(page.locator("#words")).to_contain_text("window.caught=1")
    expect(page.locator("#palette")).to_contain_text("<b>X</b>")
    assert page.locator("main img, main script, main b, main i, dialog img, dialog script, dialog b").count() == 0
    assert page.evaluate("window.caught") is None


CONTRAST = """() => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = rgba(getComputedStyle(node).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const texts = [...document.querySelectorAll("body *")].filter((node) => node.checkVisibility() && !node.disabled
    && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()) && node.tagName !== "SCRIPT");
  return texts.map((node) => {
    const [high, low] = [light(rgba(getComputedStyle(node).color)), light(behind(node))].sort((a, b) => b - a);
    return [node.tagName + " " + node.className + " " + node.textContent.slice(0, 30), (high + 0.05) / (low + 0.05)];
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_have_contrast(open_page: OpenPage, service: PageService, scheme: str) -> None:
    service.add("Amazon hired in Seattle.", {"Seattle": "LOC"})
    page = open_page(color_scheme=scheme, viewport={"width": 1400, "height": 900})
    tag(page, "Amazon has built an office in Seattle, said Helena Duarte of Banco Central.")
    brightness = page.evaluate("+getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
    assert (brightness > 200) if scheme == "light" else (brightness < 40)
    page.get_by_role("button", name="Add an example").click()
    page.keyboard.press("Shift+ArrowRight")
    ratios = page.evaluate(CONTRAST)
    assert len(ratios) > 60
    assert [(what, ratio) for what, ratio in ratios if ratio < 4.5] == []


@pytest.mark.parametrize("width", [360, 768, 1920])
def test_nothing_is_wider_than_the_window(open_page: OpenPage, service: PageService, width: int) -> None:
    service.add("Donaudampfschifffahrtsgesellschaft" * 4, {})
    page = open_page(viewport={"width": width, "height": 740}, has_touch=True)
    tag(page, "Amazon und die " + "Donaudampfschifffahrtsgesellschaft" * 4 + " in Seattle.")
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0
    page.get_by_role("button", name="Add an example").tap()
    words = page.locator("#words")
    words.get_by_role("option", name="und").tap()  # a finger taps the first word, then the last
    words.get_by_role("option", name="die").tap()
    expect(words.locator("[aria-selected=true]")).to_have_text(["und", "die"])
    assert page.evaluate(overflow) == 0
    assert page.evaluate(
        "document.querySelector('#editor').scrollWidth <= document.querySelector('#editor').clientWidth"
    )


def test_roles_names_and_motion(open_page: OpenPage, service: PageService) -> None:
    service.add("Amazon hired in Seattle.", {"Seattle": "LOC"})
    page = open_page(reduced_motion="reduce")
    tag(page, "Amazon has built an office in Seattle.")
    page.get_by_role("button", name="Add an example").click()
    nameless = page.evaluate("""() => [...document.querySelectorAll(
      "button, input, textarea, a, [role=listbox], dialog")].filter((node) => {
        const by = node.getAttribute("aria-labelledby");
        const words = [node.ariaLabel, by && document.getElementById(by)?.textContent,
          ...[...(node.labels ?? [])].map((label) => label.textContent), node.value === undefined && node.textContent,
          node.tagName === "BUTTON" && node.textContent];
        return !words.some((one) => one && one.trim());
      }).map((node) => node.outerHTML)""")
    assert nameless == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
    assert len(ids) == len(set(ids))
    referred = page.evaluate("""[...document.querySelectorAll("*")].flatMap((node) => ["aria-labelledby", "for",
      "aria-describedby", "aria-activedescendant"].map((name) => node.getAttribute(name))).filter(Boolean)""")
    assert set(referred) <= set(ids)
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((node) => +node.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    children = page.evaluate("[...document.querySelectorAll('#words > *')].map((node) => node.getAttribute('role'))")
    assert set(children) == {"option", "none"}
    live = "[...document.querySelectorAll('[role=status], [role=alert]')].map((node) => node.id)"
    assert {"status", "summary", "problem", "news", "offline", "editor-problem"} <= set(page.evaluate(live))
    assert page.evaluate("[document.documentElement.lang, document.title]") == ["en", "metacross"]
    page.keyboard.press("Escape")
    service.hold.clear()
    page.get_by_role("button", name="Tag", exact=True).click()
    expect(page.locator("#ask")).to_have_attribute("aria-busy", "true")
    assert page.evaluate("getComputedStyle(document.querySelector('#ask'), '::before').animationName") == "none"
    focus = "getComputedStyle(document.activeElement).outlineStyle"
    page.keyboard.press("Tab")
    assert page.evaluate(focus) == "solid"
