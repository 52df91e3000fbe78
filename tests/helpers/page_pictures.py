"""Makes the pictures of docs/page_examples.md, of a running service's page in Chromium.

    metacross serve runs/demo/bundle serve.examples=/tmp/new.db
    python -m tests.helpers.page_pictures http://localhost:8000 docs

The service has to have no examples yet; those that are made stay there. What the sentences show depends on the bundle:
look at the pictures, and at what the document says of them.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from metacross.client import Client
from tests.helpers.pages import settled, tag

FIRST = "Die Pianistin Mara Lindt spielte beim Lucerne Festival."
SECOND = "Die Cellistin Anna Reiter spielte in Graz."
FILE = "Peter\tB-PER\nHandke\tI-PER\nwohnt\tO\nbei\tO\nParis\tI-LOC\n.\tO\n\nWien\tB-LOC\nfeiert\tO\n.\tO\n"
TEXT = "Gestern sprach Klara Weber in Graz mit Reportern. Der Zug nach Wien fiel aus."
PATIENCE = 60_000  # ms
WIDTH = 920  # pixels of the page
MARGIN = 16  # pixels around what is shown


def main(url: str, folder: str) -> None:
    """Makes all pictures.

    Args:
        url: the service's address.
        folder: where they are written.
    """
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 2600}, reduced_motion="reduce")
        page.set_default_timeout(PATIENCE)
        page.goto(url)
        settled(page)
        _correct(page, Path(folder))
        _edit(page, Path(folder))
        _list(page, Path(folder), url)
        _undo(page, Path(folder))
        browser.close()


def _correct(page: Page, folder: Path) -> None:
    """One click on a word that is no name, and the answer to another sentence."""
    tag(page, FIRST)
    page.locator("#after mark", has_text="Pianistin").click()
    page.get_by_role("dialog", name="Pianistin").get_by_role("button", name="no name").click()
    expect(page.locator("#news")).to_contain_text("Kept as example 1.")
    expect(page.locator("#summary")).to_contain_text("With the new example")
    _picture(page, folder / "examples_kept.png", "#answer", "#panes")
    tag(page, SECOND)
    expect(page.locator("#support .badge").first).to_have_text("Your example 1")
    _picture(page, folder / "examples_next.png", "#answer", "#panes")


def _edit(page: Page, folder: Path) -> None:
    """The editor, with two words selected."""
    page.locator("#examples").get_by_role("button", name="Edit example 1").click()
    words = page.locator("#words")
    words.get_by_role("option", name="Lucerne").hover()
    page.mouse.down()
    words.get_by_role("option", name="Festival").hover()
    page.mouse.up()
    _picture(page, folder / "examples_editor.png", "#editor", "#editor")
    page.get_by_role("button", name="Cancel").click()


def _list(page: Page, folder: Path, url: str) -> None:
    """The list, with an example made on the page, a file's and a machine's."""
    with Client(url) as client:
        client.add_texts(TEXT, language="de")
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "more.conll"
        file.write_text(FILE, encoding="utf-8")
        page.get_by_label("Language of the file").select_option("German")
        page.locator("#import-file").set_input_files(file)
        expect(page.locator("#oddities")).to_be_visible()
    page.locator("#news").get_by_role("button", name="Close").click()
    _picture(page, folder / "examples_list.png", "#examples-section", "#examples-section")


def _undo(page: Page, folder: Path) -> None:
    """What is said of an example that was deleted, among those that a search found."""
    page.get_by_label("Words in an example").fill("lucerne")
    page.locator("#examples").get_by_role("button", name="Delete example 1").click()
    expect(page.locator("#news")).to_contain_text("Example 1 is deleted.")
    expect(page.locator("#summary")).to_contain_text("Without the deleted example")
    page.set_viewport_size({"width": WIDTH, "height": 510})  # what is said stands at the bottom
    _picture(page, folder / "examples_deleted.png", "#answer", "#news")


def _picture(page: Page, path: Path, first: str, last: str) -> None:
    """A picture of the page from the begin of an element to the end of another one, in 256 colours."""
    page.mouse.move(0, 0)
    page.locator(first).evaluate(f"element => scrollBy(0, element.getBoundingClientRect().top - {MARGIN})")
    page.wait_for_timeout(500)  # for what fades
    begin, end = page.locator(first).bounding_box(), page.locator(last).bounding_box()
    assert begin and end
    top = begin["y"] - MARGIN
    size = {"width": WIDTH, "height": end["y"] + end["height"] + MARGIN - top}
    content = page.screenshot(clip={"x": 0, "y": top, **size})
    Image.open(BytesIO(content)).convert("RGB").quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
