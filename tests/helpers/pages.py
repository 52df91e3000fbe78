"""What tests do with the service's page in a browser, and what they see of it."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

OpenPage = Callable[..., Page]


def tag(page: Page, text: str) -> None:
    """Writes a text and has it tagged."""
    page.get_by_label("Text to tag").fill(text)
    page.get_by_role("button", name="Tag", exact=True).click()
    settled(page)


def settled(page: Page) -> None:
    """Waits for the answer to the last request."""
    expect(page.locator("#ask")).to_have_attribute("aria-busy", "false")
    expect(page.locator("#panes")).to_be_visible()


def marks(pane: Locator) -> list[str]:
    """Entities of a text as a person sees them, such as 'Quito place'."""
    shown = pane.locator("mark").evaluate_all(
        "marks => marks.map(mark => mark.firstChild.data + ' ' + mark.querySelector('.tag').innerText)"
    )
    return [re.sub(r"[\s()]+", " ", re.sub(r", score \d+\s%", "", one)).strip() for one in shown]


def named(text: str, kind: str) -> str:
    """An entity as the page's sentences name it: its text is isolated, because it may run from right to left."""
    return f"\u2068{text}\u2069 ({kind})"


def tab_to(page: Page, wanted: str) -> None:
    """Presses Tab until what a CSS selector names has the focus, as a keyboard user does."""
    for _ in range(60):
        if page.evaluate("wanted => document.activeElement.matches(wanted)", wanted):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {wanted}")
