"""The page teaches: entities are corrected, and examples added, found, changed, deleted and moved, in a browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.helpers.page_service import PageService
from tests.helpers.pages import OpenPage, marks, named, settled, tab_to, tag

pytestmark = pytest.mark.browser


def test_one_click_corrects_an_entity_and_the_next_answer_changes(open_page: OpenPage, service: PageService) -> None:
    page = open_page()
    lesson = page.locator("#lesson")
    expect(lesson).to_contain_text("Teach it.")
    lesson.get_by_role("button", name="Make").click()
    fair = "Feria del Libro de Guadalajara"
    expect(page.locator("#summary")).to_contain_text(
        f"{named('Guadalajara', 'place')} became {named(fair, 'other name')}"
    )
    assert [(e["text"], e["label"]) for e in service.examples[1]["entities"]] == [
        ("Valeria Montoya", "PER"),
        (fair, "MISC"),
    ]
    assert service.examples[1]["language"] == "es"
    lesson.get_by_role("button", name="Try a sentence that nobody labelled").click()
    expect(page.get_by_label("Text to tag")).to_have_value(re.compile("Julián Ferrer"))
    expect(lesson).to_contain_text("Nobody labelled this sentence.")
    expect(page.locator("#support .badge")).to_have_text("Your example 1")
    lesson.get_by_role("button", name="Forget example 1").click()
    expect(page.locator("#news")).to_contain_text("Example 1 is deleted.")
    assert service.examples == {}


def test_an_entity_is_corrected_where_it_stands(open_page: OpenPage, service: PageService) -> None:
    page = open_page()
    tag(page, "It rains.\nAmazon left Ida Holm in Quito.")
    page.locator("#after mark", has_text="Quito").click()
    window = page.get_by_role("dialog", name="Quito")
    expect(window.get_by_role("button", name="place")).to_have_attribute("aria-pressed", "true")
    window.get_by_role("button", name="person").click()
    expect(page.locator("#summary")).to_contain_text(f"{named('Quito', 'place')} became person")
    kept = service.examples[1]
    assert kept["text"] == "Amazon left Ida Holm in Quito.", "its sentence alone is kept"
    assert [(e["text"], e["label"]) for e in kept["entities"]] == [("Amazon", "ORG"), ("Quito", "PER")]
    expect(page.locator("#after mark", has_text="Quito")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="Quito").get_by_role("button", name="no name").click()
    expect(page.locator("#news")).to_contain_text("Example 1 has these labels now.")
    assert [e["text"] for e in service.examples[1]["entities"]] == ["Amazon"], "there is one example for a sentence"
    page.locator("#news").get_by_role("button", name="Undo").click()
    expect(page.locator("#news")).to_contain_text("Example 1 is changed.")
    assert [e["text"] for e in service.examples[1]["entities"]] == ["Amazon", "Quito"]
    page.locator("#after mark", has_text="Amazon").click()
    page.get_by_role("dialog", name="Amazon").get_by_role("button", name="Other words").click()
    expect(page.locator("#words")).to_have_text(re.compile("^Amazon"))


def test_what_options_hide_is_not_lost_to_an_example(open_page: OpenPage, service: PageService) -> None:
    page = open_page()
    tag(page, "Amazon left Ida Holm in Quito.")
    page.get_by_text("Options").click()
    page.get_by_role("checkbox", name="organisation").uncheck()
    assert marks(page.locator("#after")) == ["Quito place"]
    expect(page.locator("#options summary")).to_contain_text("place, other name, person")
    page.locator("#after mark").click()
    page.get_by_role("dialog").get_by_role("button", name="person").click()
    expect(page.locator("#news")).to_contain_text("Kept as example 1.")
    assert [e["text"] for e in service.examples[1]["entities"]] == ["Amazon", "Quito"]


def test_an_example_is_added_by_keyboard_alone_and_counts_at_once(open_page: OpenPage, service: PageService) -> None:
    page = open_page()
    tab_to(page, "#text")
    page.keyboard.press("Control+A")
    page.keyboard.type("The Nordwind laboratory hired Ida Holm in Quito.")
    page.keyboard.press("Control+Enter")
    settled(page)
    assert marks(page.locator("#after")) == ["Quito place"]
    tab_to(page, "#correct")
    page.keyboard.press("Enter")
    expect(page.locator("#words")).to_be_focused()
    for key in ["ArrowRight", "3", *["ArrowRight"] * 3, "Shift+ArrowRight", "4", "End", "ArrowLeft", "Delete"]:
        page.keyboard.press(key)
    expect(page.locator("#words [aria-selected=true]")).to_have_text("Quito")
    expect(page.get_by_role("combobox", name="Language", exact=True)).to_have_value("en")
    expect(page.locator("#guessed")).to_have_text("guessed from the text")
    tab_to(page, "#save")
    page.keyboard.press("Enter")
    expect(page.locator("#news")).to_contain_text("Kept as example 1.")
    expect(page.locator("#summary")).to_contain_text(
        "With the new example, the tagger found 2 entities more: "
        f"{named('Nordwind', 'organisation')}, {named('Ida Holm', 'person')}."
    )
    kept = [(e["text"], e["label"]) for e in service.examples[1]["entities"]]
    assert kept == [("Nordwind", "ORG"), ("Ida Holm", "PER")]
    assert service.examples[1]["language"] == "en"
    expect(page.locator("#support .badge")).to_have_text("Your example 1")
    expect(page.locator("#examples li")).to_contain_text("Ida Holm")
    expect(page.locator("#facts")).to_contain_text("1 example of this service’s users")


def test_words_are_marked_by_mouse_and_escape_keeps_nothing(open_page: OpenPage, service: PageService) -> None:
    page = open_page()
    tag(page, "Yesterday Ida Holm left.")
    page.get_by_role("button", name="Add an example").click()
    words = page.locator("#words")
    words.get_by_role("option", name="Ida").hover()
    page.mouse.down()
    words.get_by_role("option", name="Holm").hover()
    page.mouse.up()
    page.locator("#palette").get_by_role("button", name="person").click()
    expect(words.locator(".entity")).to_have_text("Ida Holmperson")
    expect(words.get_by_role("option", name="Ida, person")).to_be_visible()
    page.locator("#palette").get_by_role("button", name="no name").click()
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
        f"Without the deleted example, the tagger dropped 1 entity: {named('Ida Holm', 'person')}."
    )
    assert service.examples == {}
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_contain_text(f"found 1 entity more: {named('Ida Holm', 'person')}.")
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
    expect(page.locator("#facts")).to_contain_text(
        "1 example of this service’s users + 1 sentence that a machine labelled"
    )
    stored = page.locator("#examples li")
    expect(stored.last).to_contain_text("Labelled by machine, 5f0c2a91be77, 0.93 sure")
    expect(stored.first).not_to_contain_text("by machine")
    tag(page, "Ida Holm left Nordwind.")
    support = page.locator("#support li")
    expect(support.filter(has_text="Nordwind hired")).to_contain_text("Labelled by machine, German, 0.93 sure")
    expect(support.filter(has_text="Your example 2")).not_to_contain_text("by machine")
    stored.last.get_by_role("button", name="Delete example 1").click()
    expect(page.locator("#news")).to_contain_text("Example 1 is deleted.")
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)


def test_stored_examples_come_in_pages_and_are_found(open_page: OpenPage, service: PageService) -> None:
    for number in range(6):
        service.add(f"Sentence {number}.", {})
    service.add("Ida Holm left.", {"Ida Holm": "PER"})
    page = open_page()
    stored = page.locator("#examples li")
    expect(stored).to_have_count(5)
    expect(stored.first).to_contain_text("Ida Holm")
    expect(page.locator("#examples-count")).to_have_text("7 examples")
    previous = page.locator("#pager").get_by_role("button", name="Previous")
    expect(previous).to_be_disabled()
    page.locator("#pager").get_by_role("button", name="Next").click()
    expect(stored).to_have_count(2)
    expect(stored.last).to_contain_text("Sentence 0.")
    stored.last.get_by_role("button", name="Delete").click()
    expect(stored).to_have_count(1)
    stored.last.get_by_role("button", name="Delete").click()
    expect(stored).to_have_count(5)
    expect(page.locator("#pager")).to_be_hidden()
    page.get_by_label("Words in an example").fill("3")
    expect(stored).to_have_count(1)
    expect(stored).to_contain_text("Sentence 3.")
    page.get_by_label("Kind of name").select_option("person")
    expect(stored).to_have_text("None is like that.")
    page.get_by_label("Words in an example").fill("")
    expect(stored).to_contain_text("Ida Holm")


def test_a_stored_example_is_changed_and_that_can_be_undone(open_page: OpenPage, service: PageService) -> None:
    service.add("Nordwind hired Ida Holm.", {"Ida Holm": "PER"}, "de")
    page = open_page()
    tag(page, "Nordwind praised Ida Holm.")
    page.get_by_role("button", name="Edit example 1").click()
    editor = page.get_by_role("dialog", name="Change example 1")
    expect(editor.get_by_label("Language")).to_have_value("de")
    page.keyboard.press("4")
    editor.get_by_role("button", name="Save").click()
    expect(page.locator("#news")).to_contain_text("Example 1 is changed.")
    expect(page.locator("#summary")).to_contain_text(f"found 1 entity more: {named('Nordwind', 'person')}")
    assert [e["text"] for e in service.examples[1]["entities"]] == ["Nordwind", "Ida Holm"]
    page.locator("#news").get_by_role("button", name="Undo").click()
    expect(page.locator("#summary")).to_contain_text(f"dropped 1 entity: {named('Nordwind', 'person')}")
    assert [e["text"] for e in service.examples[1]["entities"]] == ["Ida Holm"]


def test_a_correction_that_replaced_labels_can_be_undone(open_page: OpenPage, service: PageService) -> None:
    service.add("The laboratory hired Ida Holm.", {"Ida Holm": "PER"})
    page = open_page()
    tag(page, "The laboratory hired Ida Holm.")
    page.locator("#after mark").click()
    page.locator("#correction").get_by_role("button", name="organisation").click()
    expect(page.locator("#news")).to_contain_text("Example 1 has these labels now.")
    assert (service.examples[1]["entities"][0]["label"], service.examples[1]["language"]) == ("ORG", "en")
    page.locator("#news").get_by_role("button", name="Undo").click()
    expect(page.locator("#summary")).to_contain_text(
        f"changed 1 entity: {named('Ida Holm', 'organisation')} became person"
    )
    assert (service.examples[1]["entities"][0]["label"], service.examples[1]["language"]) == ("PER", "")


def test_a_machines_labels_that_were_corrected_do_not_come_back(open_page: OpenPage, service: PageService) -> None:
    service.add_by_machine("Nordwind hired Ida Holm.", {"Ida Holm": "PER"})
    page = open_page()
    tag(page, "Nordwind hired Ida Holm.")
    page.locator("#after mark").click()
    page.locator("#correction").get_by_role("button", name="organisation").click()
    expect(page.locator("#news")).to_contain_text("Example 1 has these labels now.")
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)


def test_examples_go_in_and_out_as_files(open_page: OpenPage, service: PageService, tmp_path: Path) -> None:
    page = open_page()
    (tmp_path / "more.txt").write_text("Quito espera.\nNairobi inasubiri.\n", encoding="utf-8")
    page.get_by_label("Language of the file").select_option("Spanish")
    page.locator("#import-file").set_input_files(tmp_path / "more.txt")
    expect(page.locator("#news")).to_contain_text("more.txt: 2 added.")
    expect(page.locator("#oddities")).to_have_text("no tags in line 1")
    assert [example["language"] for example in service.examples.values()] == ["es", "es"]
    with page.expect_download() as saved:
        page.get_by_role("button", name="Export").click()
    assert saved.value.suggested_filename == "examples.jsonl"
    assert Path(saved.value.path()).read_text(encoding="utf-8") == "Quito espera.\nNairobi inasubiri.\n"


def test_offsets_are_code_points(open_page: OpenPage, service: PageService) -> None:
    page = open_page()
    text = "👩‍🔬🎉 Quito, 𝒳 und Ørsted 🚀 Nairobi"
    tag(page, text)
    assert marks(page.locator("#after")) == ["Quito place", "Nairobi place"]
    page.get_by_role("button", name="Add an example").click()
    page.locator("#words").get_by_role("option", name="Ørsted").click()
    page.locator("#palette").get_by_role("button", name="organisation").click()
    page.get_by_role("button", name="Save and tag again").click()
    expect(page.locator("#news")).to_contain_text("Kept as example 1.")
    assert [e["text"] for e in service.examples[1]["entities"]] == ["Quito", "Ørsted", "Nairobi"]
    assert service.examples[1]["text"] == text


def test_scripts_without_spaces_are_marked_by_the_character(open_page: OpenPage, service: PageService) -> None:
    page = open_page()
    page.get_by_role("button", name="中文").click()
    expect(page.locator("#after .text")).to_have_attribute("lang", "zh")
    assert marks(page.locator("#after")) == ["成都 place", "四川大学 organisation new"]
    page.get_by_role("button", name="Add an example").click()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("4")
    page.get_by_role("button", name="Save and tag again").click()
    expect(page.locator("#news")).to_contain_text("Kept as example 1.")
    assert [e["text"] for e in service.examples[1]["entities"]] == ["李文博", "成都", "四川大学"]
    assert service.examples[1]["language"] == "zh"
