"""Chromium, and the page in it against a small service with the same contract."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.needs import missing
from tests.helpers.page_service import PageService, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.helpers.pages import OpenPage

PATIENCE = 30_000  # ms: machines are shared


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

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
    """Opens the page with a context's options and waits for its first answer, unless `settle=False`.

    Afterwards nothing may have gone elsewhere, or failed.
    """
    from tests.helpers.pages import settled

    asked: list[str] = []
    complaints: list[str] = []

    def listen(message: Any) -> None:
        if "Content Security Policy" in message.text or "Trusted" in message.text:
            complaints.append(message.text)

    def open_(*, at: str = "", settle: bool = True, **options: Any) -> Page:
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE)
        context.on("request", lambda request: asked.append(request.url))
        context.on("console", listen)
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        page = context.new_page()
        page.goto(service.address + at)
        if settle:
            settled(page)
            service.requests.clear()
        return page

    yield open_
    for context in browser.contexts:
        context.close()
    assert any(url.endswith("/page/access") for url in asked)
    assert [url for url in asked if not url.startswith((f"{service.address}/", "data:", "blob:"))] == []
    assert complaints == []
