"""Documents with marked entities become sentences with words and tags, and nothing of an entity is lost or invented."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metacross.corpora.characters import INVISIBLE, visible
from metacross.corpora.raw import Document, Marked, Oddities
from metacross.corpora.sentence import Sentence, sentence_from_words, tags_of
from metacross.corpora.spans import document_of, sentences_of
from tests.helpers.corpora import ANY_TEXT, entity_texts, tagged


def document(text: str, *entities: str, words: Sequence[str] | None = None) -> Document:
    """A document; an entity is written "PER:Ana", and is the first occurrence behind the one before."""
    marked, end = [], 0
    for entity in entities:
        kind, _, part = entity.partition(":")
        start = text.index(part, end)
        marked.append(Marked(start, start + len(part), kind))
        end = start + 1
    spans = None if words is None else tuple(match.span() for match in re.finditer("|".join(words), text))
    return Document(text, tuple(marked), spans, "file:7")


def split(item: Document) -> tuple[list[Sentence], list[str]]:
    oddities = Oddities()
    return sentences_of(item, oddities=oddities), oddities.lines()


def test_sentences_and_words_are_found_and_the_text_is_kept() -> None:
    sentences, odd = split(document("Ana Gil lives  in Lima. She left 北京。", "PER:Ana Gil", "LOC:Lima", "LOC:北京"))
    assert [sentence.text for sentence in sentences] == ["Ana Gil lives  in Lima.", "She left 北京。"]
    assert sentences[0].words == ("Ana", "Gil", "lives", "in", "Lima", ".")
    assert sentences[0].tags == ("B-PER", "I-PER", "O", "O", "B-LOC", "O")
    assert entity_texts(sentences[1]) == [("LOC", "北京")]
    assert {sentence.place for sentence in sentences} == {"file:7"}
    assert not any(sentence.presplit for sentence in sentences)
    assert odd == []


def test_no_sentence_ends_inside_an_entity() -> None:
    text = "They saw Who Is Next? The Return. Then they left."
    assert len(split(document(text))[0]) == 3
    sentences, _ = split(document(text, "WORK:Who Is Next? The Return"))
    assert [sentence.text for sentence in sentences] == ["They saw Who Is Next? The Return.", "Then they left."]
    assert entity_texts(sentences[0]) == [("WORK", "Who Is Next? The Return")]


def test_an_edge_inside_a_word_cuts_it() -> None:
    sentences, odd = split(document("Das Berlinbuch. Ja.", "LOC:Berlin"))
    assert sentences[0].words == ("Das", "Berlin", "buch", ".")
    assert sentences[0].tags == ("O", "B-LOC", "O", "O")
    assert [sentence.presplit for sentence in sentences] == [True, False]
    assert odd == ["1 entity with an end inside a word, which was cut there (first at file:7: 'Berlin')"]


def test_given_words_are_kept_and_cut_as_well() -> None:
    item = document("pre-Inca gold", "MISC:Inca", words=["pre-Inca", "gold"])
    (sentence,), odd = split(item)
    assert (sentence.words, sentence.tags) == (("pre-", "Inca", "gold"), ("O", "B-MISC", "O"))
    assert sentence.presplit
    assert len(odd) == 1


def test_an_entity_without_words_of_the_file_gets_words() -> None:
    item = document("Ana (Gil Paz) left", "PER:Ana (Gil Paz", words=["Ana", "Paz", "left"])
    (sentence,), odd = split(item)
    assert sentence.words == ("Ana", "(", "Gil", "Paz", "left")
    assert entity_texts(sentence) == [("PER", "Ana (Gil Paz")]
    assert odd == [
        "2 words added where an entity has text that is in no word of the file (first at file:7)",
        "1 part of texts in no word of the file, left without tags (first at file:7)",
    ]


def test_text_that_is_in_no_word_of_the_file_is_counted() -> None:
    sentences, odd = split(document("Ana left. And came​ back. Why?", words=["left", "And", "back", "[?]"]))
    assert [sentence.words for sentence in sentences] == [("left",), ("And", "back"), ("?",)]
    assert odd == ["5 parts of texts in no word of the file, left without tags (first at file:7)"]


def test_words_of_white_space_are_none_and_impossible_ones_are_counted() -> None:
    item = Document("Ana  left", (), ((0, 3), (3, 5), (5, 9), (5, 9), (9, 12)), "file:7")
    (sentence,), odd = split(item)
    assert sentence.words == ("Ana", "left")
    assert odd == ["2 words left out for overlapping the one before or lying outside of the text (first at file:7)"]


def test_of_overlapping_entities_the_longest_is_kept() -> None:
    text = "Bank of New York paid"
    marked = (Marked(8, 16, "LOC"), Marked(0, 16, "ORG"), Marked(0, 16, "ORG"), Marked(0, 16, "LOC"))
    (sentence,), odd = split(Document(text, marked, place="file:7"))
    assert entity_texts(sentence) == [("ORG", "Bank of New York")]
    assert odd == [
        "1 entity marked twice, the second left out (first at file:7, characters 0 to 16)",
        "2 entities left out for overlapping one at least as long (first at file:7, characters 0 to 16)",
    ]


@pytest.mark.parametrize(
    ("marked", "what"),
    [
        (Marked(2, 2, "PER"), "entity left out for being empty or outside of the text"),
        (Marked(5, 90, "PER"), "entity left out for being empty or outside of the text"),
        (Marked(-3, 3, "PER"), "entity left out for being empty or outside of the text"),
        (Marked(3, 4, "PER"), "entity without visible text"),
        (Marked(0, 3, "O"), "entity whose type means that there is none"),
    ],
)
def test_entities_that_mark_nothing_are_left_out(marked: Marked, what: str) -> None:
    (sentence,), odd = split(Document("Ana left.", (marked,), place="file:7"))
    assert set(sentence.tags or ()) == {"O"}
    assert len(odd) == 1 and odd[0].startswith(f"1 {what}")


def test_edges_move_off_invisible_characters_and_types_lose_white_space() -> None:
    (sentence,), odd = split(Document("An \ufeffAna\xa0 left", (Marked(2, 8, "First name"),), place="file:7"))
    assert entity_texts(sentence) == [("First_name", "Ana")]
    assert odd == [
        "1 entity with invisible characters at an end, which were left out (first at file:7, characters 2 to 8)",
        "1 entity whose type has white space, written _ in tags (first at file:7, characters 2 to 8)",
    ]


def test_a_text_that_nobody_annotated_has_no_tags() -> None:
    (sentence,) = split(Document("Ana left."))[0]
    assert sentence.tags is None
    assert document_of(sentence).marked is None
    assert split(Document(" \n "))[0] == []


@st.composite
def documents(draw: st.DrawFn) -> Document:
    text = draw(ANY_TEXT)
    edge = st.integers(-1, len(text) + 1)
    marked = draw(st.none() | st.lists(st.builds(Marked, edge, edge, st.sampled_from(["PER", "LOC", "a b", "O"]))))
    words = draw(st.none() | st.lists(st.tuples(edge, edge)).map(sorted))
    return Document(text, None if marked is None else tuple(marked), None if words is None else tuple(words))


@given(documents())
def test_nothing_of_an_entity_is_lost_or_invented(item: Document) -> None:
    sentences, _ = split(item)
    found = []
    end = 0
    for sentence in sentences:
        assert sentence.words == tuple(sentence.text[a:b] for a, b in sentence.spans)
        end = item.text.index(sentence.text, end) + len(sentence.text)
        found += [(kind.replace("_", " "), text) for kind, text in entity_texts(sentence)]
    written = {
        (entity.type, visible(item.text[entity.start : entity.end]))
        for entity in item.marked or ()
        if 0 <= entity.start < entity.end <= len(item.text)
    }
    assert set(found) <= written
    alone = [entity for entity in written if entity[0] != "O" and entity[1]]
    assert len(found) == 1 or len(alone) != 1
    if item.words is None:  # every visible character is in a word
        visible_text = [c for c in item.text if c not in INVISIBLE]
        assert [c for s in sentences for word in s.words for c in word if c not in INVISIBLE] == visible_text


words = ANY_TEXT.map(visible).filter(bool)


@given(st.data())
def test_sentences_come_back_from_their_documents(data: st.DataObject) -> None:
    spans, n_words = data.draw(tagged())
    chosen = data.draw(st.lists(words, min_size=max(n_words, 1), max_size=max(n_words, 1)))
    sentence = sentence_from_words(chosen, tags_of(spans, len(chosen)), place="file:1")
    oddities = Oddities()
    back = sentences_of(document_of(sentence), oddities=oddities)
    assert tuple(word for part in back for word in part.words) == sentence.words
    assert tuple(tag for part in back for tag in part.tags or ()) == sentence.tags
    assert oddities.lines() == []
