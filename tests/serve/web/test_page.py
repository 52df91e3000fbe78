"""The page's answers in a real browser: before and after adaptation, what shaped them, texts of all kinds."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.helpers.page_service import NEIGHBOURS, PageService
from tests.helpers.pages import OpenPage, marks, named, settled, tab_to, tag

pytestmark = pytest.mark.browser


def test_adaptation_is_shown_and_told(open_page: OpenPage) -> None:
    page = open_page()
    facts = page.locator("#facts")
    for words in [
        "5f0c2a91be77",
        f"by the {NEIGHBOURS} labelled sentences",
        "14,041 labelled English",
        "F1 72.4 %",
        "German",
    ]:
        expect(facts).to_contain_text(words)
    expect(page.get_by_role("link", name="API docs")).to_have_attribute("href", "docs")
    tag(page, "Amazon has built an office in Seattle.")
    expect(page.locator("#summary")).to_have_text(
        f"2 entities. Adaptation found 1 entity more: {named('Seattle', 'place')}; "
        f"changed 1 entity: {named('Amazon', 'place')} became organisation."
    )
    expect(page.locator("#status")).to_have_text(re.compile(r"^Answered in \d+ ms$"))
    assert marks(page.locator("#before")) == ["Amazon place changed"]
    assert marks(page.locator("#after")) == ["Amazon organisation was place", "Seattle place new"]
    seattle = page.locator("#after mark").last
    expect(seattle).to_contain_text("(place, score 94\u00a0%")  # what a screen reader is told
    expect(seattle.locator(".score")).to_be_hidden()
    page.get_by_label("Scores", exact=True).check()
    expect(seattle.locator(".score")).to_be_visible()
    for view, before, after in [("Before", True, False), ("After", False, True), ("Both", True, True)]:
        page.get_by_role("radio", name=view).check()
        expect(page.locator("#before")).to_be_visible(visible=before)
        expect(page.locator("#after")).to_be_visible(visible=after)


def test_one_pane_is_enough_where_nothing_changed(open_page: OpenPage) -> None:
    page = open_page()
    tag(page, "Quito.")
    expect(page.locator("#summary")).to_have_text("1 entity. Adaptation changed nothing.")
    expect(page.locator("#before")).to_be_hidden()
    expect(page.get_by_role("heading", name="With and without adaptation")).to_be_visible()
    expect(page.locator("#view")).to_be_hidden()


def test_a_sample_is_tagged_by_itself_and_only_the_last_one(open_page: OpenPage, service: PageService) -> None:
    page = open_page()
    page.get_by_role("button", name="Deutsch").click()
    page.get_by_role("button", name="Português").click()
    expect(page.locator("#after mark")).to_have_count(3)
    assert marks(page.locator("#after"))[:2] == ["Helena Duarte person new", "Banco Central organisation new"]
    assert [body["text"][:11] for _, body in service.requests] == ["Boa notícia"]
    assert service.requests[0][1]["explain"] is True
    expect(page.get_by_role("button", name="Português")).to_have_attribute("aria-pressed", "true")
    assert len(page.locator("#samples button").all()) >= 6
    assert page.locator("#before .text").get_attribute("lang") == "pt"


def test_the_answer_to_an_older_text_says_so(open_page: OpenPage) -> None:
    page = open_page()
    tag(page, "Quito.")
    old = page.get_by_text("This is the answer to an older text.")
    expect(old).to_be_hidden()
    page.get_by_label("Text to tag").fill("Nairobi.")
    expect(old).to_be_visible()
    page.get_by_role("button", name="Tag the new one").click()
    expect(old).to_be_hidden()
    assert marks(page.locator("#after")) == ["Nairobi place"]


def test_what_is_pointed_at_lights_up_what_moved_it(open_page: OpenPage) -> None:
    page = open_page()
    tag(page, "Bremen lies on a river; Amazon built an office in Seattle.")
    page.locator("#after mark", has_text="Seattle").hover()
    lit = page.locator("#support .lit")
    expect(lit).to_have_count(NEIGHBOURS)
    ranks = dict(zip(lit.locator(".text").all_inner_texts(), lit.locator(".rank").all_inner_texts(), strict=True))
    first = next(text for text, rank in ranks.items() if rank.startswith("1 "))
    assert "first office" in first, "the sentence that has Seattle raised it most"
    assert re.fullmatch(r"1 \+\d+(\.\d)?\s%", ranks[first])
    assert sorted(int(rank.split()[0]) for rank in ranks.values()) == list(range(1, NEIGHBOURS + 1))
    lights = """[...CSS.highlights].map(([name, ranges]) => [name, [...ranges].map(String)]).sort()"""
    up = dict(page.evaluate(lights))
    assert up["moved-up-3"] == ["Seattle"]
    assert set(up) == {"moved-up-3", "moved-down-1"}, "the others lowered it a little"
    page.locator("#support li", has_text="river Weser").hover()
    expect(page.locator("#after mark.lit")).to_have_count(3)
    assert page.locator("#after mark", has_text="Bremen").get_attribute("data-moved").startswith("+")
    assert page.locator("#after mark", has_text="Seattle").get_attribute("data-moved") == "−1.0\u00a0%"
    page.get_by_role("heading", name="Sentences that shaped it").hover()
    expect(page.locator(".lit, .unlit")).to_have_count(0)
    assert page.evaluate("CSS.highlights.size") == 0


def test_labelled_words_that_voted_light_up_too(open_page: OpenPage, service: PageService) -> None:
    service.voters = [("Seattle is rainy.", {"Seattle": "LOC"})]
    page = open_page()
    tag(page, "Amazon left Seattle.")
    voter = page.locator("#support li", has_text="rainy")
    expect(voter).to_contain_text("Its words voted on \u2068Seattle\u2069")
    page.locator("#after mark", has_text="Seattle").hover()
    expect(voter.locator(".rank")).to_contain_text("voted")
    page.locator("#after mark", has_text="Amazon").hover()
    expect(voter).to_have_class("item unlit")


def test_entities_are_reached_and_explained_by_keyboard(open_page: OpenPage) -> None:
    page = open_page()
    tag(page, "Amazon left Seattle for Bremen.")
    tab_to(page, "#after mark")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#after mark").last).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    window = page.get_by_role("dialog", name="Amazon")
    expect(window).to_contain_text("organisation")
    expect(window).to_contain_text("Score 93\u00a0%")
    expect(window.get_by_role("listitem").first).to_contain_text("Seattle is where Amazon built its first office.")
    page.keyboard.press("Escape")
    expect(window).to_be_hidden()
    expect(page.locator("#after mark").first).to_be_focused()


def test_a_long_text_stays_in_its_box_with_a_table_and_pages(open_page: OpenPage, service: PageService) -> None:
    page = open_page(viewport={"width": 1200, "height": 800})
    lines = [f"Number {i}: Amazon left Seattle for Bremen." for i in range(40)]
    tag(page, "\n".join(lines))
    for box in ["#text", "#after .scroll"]:
        height, scrolled = page.locator(box).evaluate("node => [node.clientHeight, node.scrollHeight]")
        assert height < 0.65 * 800 < scrolled
    expect(page.locator("#after .scroll")).to_have_attribute("tabindex", "0")
    page.get_by_text("Table of 120 entities").click()
    rows = page.locator("#table tbody tr")
    expect(rows).to_have_count(25)
    expect(rows.first).to_have_text("Amazonorganisation93\u00a0%place10–16")
    page.locator("#table").get_by_role("button", name="Next").click()
    expect(page.locator("#table")).to_contain_text("26 to 50 of 120")
    sentences = page.locator("#support li .text").all_inner_texts()
    assert len(sentences) == len(set(sentences)), "each labelled sentence stands once"
    expect(page.locator("#support li").first).to_contain_text("and 36 others")


def test_support_sentences_say_what_they_shaped(open_page: OpenPage, service: PageService) -> None:
    page = open_page()
    text = "Bremen lies far away.\nAmazon left Seattle."
    tag(page, text)
    expected: dict[str, float] = {}
    for one in service.tagged(text, explain=True)["support"]:
        expected[one["text"]] = max(one["similarity"], expected.get(one["text"], 0))
    nearest = sorted(expected.values(), reverse=True)[:6]
    assert page.locator("#support .near").all_inner_texts() == [f"{one:.2f}" for one in nearest]
    bars = page.locator("#support li .bar").evaluate_all("bars => bars.map(b => +b.style.getPropertyValue('--share'))")
    assert bars == nearest
    bremen = page.locator("#support li", has_text="river Weser")
    expect(bremen).to_contain_text("news.conll:88")
    expect(bremen).to_contain_text("Shaped “\u2068Bremen lies far away.\u2069”")
    expect(bremen).to_contain_text("Moved \u2068Bremen\u2069 +")
    hue = "node => node.style.getPropertyValue('--h')"
    assert bremen.locator("mark").first.evaluate(hue) == page.locator("#after mark").first.evaluate(hue)


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
    assert marks(page.locator("#after")) == ["Nairobi place"]
    expect(page.locator("#status")).to_contain_text("Answered in")


def test_text_from_right_to_left(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("button", name="العربية").click()
    expect(page.locator("#after .text")).to_have_attribute("lang", "ar")
    direction = "node => getComputedStyle(node).direction"
    for shown in [page.get_by_label("Text to tag"), page.locator("#after .text"), page.locator("#before .text")]:
        assert shown.evaluate(direction) == "rtl"
    assert page.locator("#after .tag").first.evaluate(direction) == "ltr"
    assert marks(page.locator("#after")) == ["جامعة القاهرة organisation was place", "تونس place"]
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
    assert marks(page.locator("#after")) == ["<img <b>X</b> new", "Quito place"]
    expect(page.locator("#after .text")).to_contain_text(
        'src=x onerror="window.caught=1"><script>window.caught=1</script>'
    )
    expect(page.locator("#examples .text").first).to_contain_text("<script>window.caught=1</script>")
    page.get_by_role("button", name="Add an example").click()
    expect(page.locator("#words")).to_contain_text("window.caught=1")
    expect(page.locator("#palette")).to_contain_text("<b>X</b>")
    assert page.locator("main img, main script, main b, main i, dialog img, dialog script, dialog b").count() == 0
    assert page.evaluate("window.caught") is None
