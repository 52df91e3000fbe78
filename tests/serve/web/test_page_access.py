"""The page for everybody: contrast, widths, roles, names and motion, in a real browser."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.helpers.page_service import PageService
from tests.helpers.pages import OpenPage, tag

pytestmark = pytest.mark.browser


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


@pytest.mark.parametrize("width", [360, 390, 768, 1920])
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


WIDE, NARROW, TWICE = ({"width": width, "height": height} for width, height in ((1280, 900), (390, 844), (640, 450)))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("light", {"viewport": WIDE}),
        ("dark", {"viewport": WIDE, "color_scheme": "dark"}),
        ("390 px", {"viewport": NARROW, "has_touch": True}),
        ("200 %", {"viewport": TWICE, "device_scale_factor": 2}),
    ],
)
def test_axe_finds_nothing(open_page: OpenPage, service: PageService, name: str, options: dict[str, Any]) -> None:
    """The page as a whole, with an answer, with each of its windows open, and with an answer from right to left."""
    service.add("Amazon hired in Seattle.", {"Seattle": "LOC"})
    page = open_page(**options)
    tag(page, "Amazon has built an office in Seattle, said Helena Duarte of Banco Central.")
    for summary in page.locator("summary").all():
        summary.click()
    assert violations(page) == []
    page.locator("#after mark").first.click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    for opener in ["Add an example", "As curl"]:
        page.get_by_role("button", name=opener).click()
        assert violations(page) == []
        page.keyboard.press("Escape")
    page.get_by_role("button", name="العربية").click()
    assert violations(page) == [], "the answer belongs to an older text"
    expect(page.locator("#after .text")).to_have_attribute("lang", "ar")
    assert violations(page) == []


def violations(page: Page) -> list[tuple[str, list[str]]]:
    """What axe-core finds, by rule."""
    found = Axe().run(page).response["violations"]
    return [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found]
