"""What the page asks for and what it gives away: problems, tokens, links, code, files, in a real browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import expect

from metacross.corpora.reader import read_corpus
from tests.helpers.page_service import LONGEST, PageService
from tests.helpers.pages import OpenPage, marks, settled, tag

pytestmark = pytest.mark.browser


def test_the_page_of_the_api_sends_requests_and_loads_nothing_from_elsewhere(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("link", name="API docs").click()
    page.locator("#operations-default-model_v1_model_get").get_by_role("button").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table")).to_contain_text("5f0c2a91be77")


def test_problems_name_the_field(open_page: OpenPage) -> None:
    page = open_page()
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
    assert marks(page.locator("#after")) == ["Quito place"]
    assert len(service.requests) == 2
    service.busy = 5
    page.get_by_role("button", name="Tag", exact=True).click()
    expect(page.locator("#problem")).to_contain_text("The service asks for a wait of 1 s.")
    assert len(service.requests) == 4


def test_without_a_connection(open_page: OpenPage) -> None:
    page = open_page()
    tag(page, "Quito.")
    page.context.set_offline(True)
    expect(page.locator("#offline")).to_contain_text("You are offline.")
    page.get_by_role("button", name="Tag", exact=True).click()
    expect(page.locator("#problem")).to_contain_text("Try again when there is a connection.")
    assert marks(page.locator("#after")) == ["Quito place"]
    page.context.set_offline(False)
    expect(page.locator("#offline")).to_be_empty()
    tag(page, "Quito.")
    expect(page.locator("#problem")).to_be_empty()


def test_a_token_is_asked_for_and_kept_in_memory_only(open_page: OpenPage, service: PageService) -> None:
    service.token = "right"
    page = open_page(settle=False)
    dialog = page.get_by_role("dialog", name="This service knows its users")
    expect(dialog).to_contain_text("Whoever runs this service has given its users an access token")
    page.get_by_role("textbox", name="Access token").fill("wrong")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("That was not the right word.")
    page.get_by_role("textbox", name="Access token").fill("right")
    page.keyboard.press("Enter")
    settled(page)
    tag(page, "Quito.")
    assert marks(page.locator("#after")) == ["Quito place"]
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    page.get_by_role("button", name="As curl").click()
    expect(page.locator("#code")).to_contain_text("$METACROSS_TOKEN")
    expect(page.locator("#code")).not_to_contain_text("right")
    page.reload()
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.locator("#problem")).to_contain_text("Send Authorization: Bearer TOKEN.")


@pytest.mark.parametrize("may", [("tag",), ("tag", "read_examples")])
def test_what_a_token_may_not_do_is_not_shown(open_page: OpenPage, service: PageService, may: tuple[str, ...]) -> None:
    service.may = may
    service.add("Amazon hired in Seattle.", {"Seattle": "LOC"})
    page = open_page()
    expect(page.locator("#lesson")).to_be_hidden()
    expect(page.get_by_role("button", name="Add an example")).to_have_count(0)
    tag(page, "Amazon hired.")
    expect(page.locator("#support .badge")).to_have_text("Your example 1")
    expect(page.locator("#examples-section")).to_be_visible(visible="read_examples" in may)
    expect(page.get_by_role("button", name=re.compile("Delete|Edit|Import"))).to_have_count(0)
    page.locator("#after mark").first.click()
    window = page.get_by_role("dialog", name="Amazon")
    expect(window).to_contain_text("What moved it")
    expect(window.get_by_role("button")).to_have_count(0)


run = partial(subprocess.run, capture_output=True, text=True, timeout=60, check=True)


def test_an_answer_can_be_taken_away(open_page: OpenPage, service: PageService) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    tag(page, "It's Amazon.\nSeattle, 𝒳 🚀 Quito")
    clipboard = "navigator.clipboard.readText()"
    page.get_by_role("button", name="Copy JSON").click()
    expect(page.locator("#news")).to_contain_text("JSON copied.")
    copied = json.loads(page.evaluate(clipboard))
    assert [e["text"] for e in copied["entities"]] == ["Amazon", "Seattle", "Quito"]
    assert copied["support"][0]["influences"]
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download JSONL").first.click()
    line = json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))
    assert [line["text"][start:end] for start, end, _ in line["label"]] == ["Amazon", "Seattle", "Quito"]
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download CoNLL").first.click()
    columns = Path(saved.value.path()).read_text(encoding="utf-8")
    assert columns == ("It's\tO\nAmazon\tB-ORG\n.\tO\n\nSeattle\tB-LOC\n,\tO\n𝒳\tO\n🚀\tO\nQuito\tB-LOC\n")
    page.get_by_role("button", name="As curl").click()
    page.get_by_role("dialog").get_by_role("button", name="Copy").click()
    answer = subprocess.run(
        page.evaluate(clipboard), shell=True, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(answer.stdout)["results"][0]["text"] == copied["text"]
    page.get_by_role("button", name="As Python").click()
    page.get_by_role("dialog").get_by_role("button", name="Copy").click()
    ran = run([sys.executable, "-c", page.evaluate(clipboard)])
    printed = [line.split()[:2] for line in ran.stdout.splitlines()]
    assert printed == [["ORG", "Amazon"], ["LOC", "Seattle"], ["LOC", "Quito"]]


def test_a_link_reproduces_the_answer_and_is_sent_to_nobody(open_page: OpenPage, service: PageService) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    tag(page, "Amazon & Seattle: Quito = 50 %?")
    page.get_by_text("Options").click()
    page.get_by_role("checkbox", name="organisation").uncheck()
    page.get_by_label("Scores from").fill("93")
    page.get_by_label("Sentences to learn from").fill("3")
    page.keyboard.press("Tab")
    settled(page)
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#news")).to_contain_text("Link copied.")
    link = page.evaluate("navigator.clipboard.readText()")
    again = open_page(at=link.removeprefix(service.address), settle=False)
    settled(again)
    assert marks(again.locator("#after")) == marks(page.locator("#after")) == ["Seattle place new"]
    expect(again.get_by_label("Text to tag")).to_have_value("Amazon & Seattle: Quito = 50 %?")
    assert {body["text"] for _, body in service.requests} == {"Amazon & Seattle: Quito = 50 %?"}
    assert service.requests[-1][1]["neighbours"] == 3


FILES = {
    "texts.txt": "\n".join(f"Amazon left Quito {i} times." for i in range(40)),
    "texts.jsonl": "\n".join(json.dumps({"text": f"Amazon left Quito {i} times."}) for i in range(40)),
    "words.jsonl": "\n".join(
        json.dumps({"tokens": ["Amazon", "left", "Quito"], "ner_tags": ["O"] * 3}) for _ in range(40)
    ),
    "words.conll": "-DOCSTART- -X- O\n\n" + "Amazon NNP B-ORG\nleft VB O\nQuito NNP B-LOC\n\n" * 40,
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_tagged_in_parts_and_its_answers_saved(
    open_page: OpenPage, service: PageService, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    page = open_page()
    page.locator("#open-file").set_input_files(tmp_path / name)
    expect(page.locator("#file-said")).to_have_text(re.compile(r"^40 texts of 40 tagged in"))
    assert len(service.requests) == 3, "16 texts a request"
    assert page.locator("#file-progress").evaluate("bar => bar.value / bar.max") == 1
    expect(page.locator("#file-names tbody tr").filter(has_text="Quito")).to_have_text(re.compile("^Quitoplace40"))
    with page.expect_download() as saved:
        page.locator("#file").get_by_role("button", name="Download CoNLL").click()
    sentences = read_corpus(saved.value.path()).sentences
    assert len(sentences) == 40
    assert sentences[0].words[:3] == ("Amazon", "left", "Quito")
    assert sentences[0].tags[:3] == ("B-ORG", "O", "B-LOC")


def test_a_file_can_be_stopped_dropped_or_refused(open_page: OpenPage, service: PageService, tmp_path: Path) -> None:
    page = open_page()
    (tmp_path / "paper.pdf").write_bytes(b"%PDF-1.7 ...")
    page.locator("#open-file").set_input_files(tmp_path / "paper.pdf")
    expect(page.locator("#problem")).to_contain_text("The page reads no PDF. Save it as plain text")
    (tmp_path / "bad.jsonl").write_text('{"text": "Quito."}\n{"txet": "Quito."}\n', encoding="utf-8")
    page.locator("#open-file").set_input_files(tmp_path / "bad.jsonl")
    expect(page.locator("#problem")).to_contain_text("Line 2 is no JSON object with text, tokens or words.")
    (tmp_path / "short.txt").write_text("Nairobi.\n", encoding="utf-8")
    page.locator("#open-file").set_input_files(tmp_path / "short.txt")
    expect(page.get_by_label("Text to tag")).to_have_value("Nairobi.")
    page.evaluate(
        """content => {
      const files = new DataTransfer();
      files.items.add(new File([content], "dropped.txt"));
      dispatchEvent(new DragEvent("drop", { dataTransfer: files, cancelable: true }));
    }""",
        FILES["texts.txt"],
    )
    expect(page.locator("#file-said")).to_have_text(re.compile("^40 texts of 40 tagged"))
    service.hold.clear()
    (tmp_path / "texts.txt").write_text(FILES["texts.txt"], encoding="utf-8")
    page.locator("#open-file").set_input_files(tmp_path / "texts.txt")
    expect(page.get_by_role("heading", name="texts.txt")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    service.hold.set()
    expect(page.locator("#file-said")).to_have_text(re.compile("^Stopped: 0 texts of 40"))
