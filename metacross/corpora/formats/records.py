"""Reads records (JSON objects, rows of tables) as sentences of words with tags, or as texts with entities.

JSON lines, Arrow files and Hugging Face datasets hold the same kinds of records. What a record is shows in its keys:

    words     "tokens" or "words": a list of strings; with "text" also a list of {"text", "start", "end"} (Prodigy)
    tags      "ner_tags", "tags", "labels" or "ner": strings, or integers whose names are known
    text      "text", or "data" (older versions of doccano)
    entities  "entities", "spans", "label" or "labels", in the shapes of `formats.entity_shapes`

GLiNER's training data is {"tokenized_text": words, "ner": [[first, last, type], ...]}, an entity's last word included.

Words with tags win over a text with entities, since `metacross tag` writes both for given words. Other keys carry no
entities and are ignored. Sources: the documentation of doccano, Prodigy, GLiNER and Hugging Face's
`datasets`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

from metacross.corpora.formats.entity_shapes import RecordError, read_entities
from metacross.corpora.raw import Document, Marked, Oddities, Problems, RawSentence, ReadOptions, Row, shortened
from metacross.corpora.words import join_words
from metacross.errors import UserError
from metacross.wording import counted

_GLINER_WORDS = "tokenized_text"
_GLINER_ENTITIES = "ner"
WORD_KEYS = ("tokens", "words", _GLINER_WORDS)
TAG_KEYS = ("ner_tags", "tags", "labels", "ner")
TEXT_KEYS = ("text", "data")
ENTITY_KEYS = ("entities", "spans", "label", "labels")
LABEL_NAMES = "label_names"
ANSWER = "answer"
_NER_KEY = re.compile(r"(?:.*_)?ner(?:_.*)?")  # fine_ner_tags, ner_tags_nested
_NOT_ACCEPTED = ("reject", "ignore")  # Prodigy's answers to an annotation that is not right, or was passed over
_EXPECTED = (
    'expected words with tags such as {"tokens": ["Rome"], "ner_tags": ["B-LOC"]}, or a text with entities such as '
    '{"text": "Rome", "entities": [[0, 4, "LOC"]]}. If the tags have another key, give its name as tag_column.'
)


class RecordReader:
    """Reads the records of one file."""

    def __init__(
        self,
        path: str,
        options: ReadOptions,
        oddities: Oddities,
        names: Mapping[str, Sequence[str]] | None = None,
        default_names: Sequence[str] | None = None,
    ) -> None:
        """Begins to read a file.

        Args:
            path: its name in messages.
            options: what the user says about it.
            oddities: gets what is unusual in it.
            names: for keys of integer tags, the names of the integers in order.
            default_names: names for all other keys; a record's `label_names` replaces them from there on.
        """
        self._path = path
        self._options = options
        self._oddities = oddities
        self._names = dict(names or {})
        self._default_names = default_names
        self._problems = Problems("correct the file there.")
        self._known_keys: set[tuple[str, ...]] = set()  # of records whose choice of keys has been noted

    def items(self, records: Iterable[tuple[int, object]]) -> Iterator[RawSentence | Document]:
        """Reads records one by one. Those without words or text are left out unless they are to be tagged.

        Args:
            records: numbers, for messages, and records.

        Raises:
            UserError: at the end, for all records that could not be read. It comes at the first one if the records are
                to be tagged, because answers are written as they are found.
        """
        for number, record in records:
            try:
                item = self._item(record, number)
            except RecordError as error:
                self.add_problem(number, str(error))
            else:
                if item is not None:
                    yield item
        self._problems.refuse()

    def add_problem(self, number: int, problem: str) -> None:
        """Remembers that a record cannot be read; see `items`."""
        self._problems.add(self._place(number), problem)
        if not self._options.labelled:
            self._problems.refuse()

    def _place(self, number: int) -> str:
        return f"{self._path}:{number}"

    def _item(self, record: object, number: int) -> RawSentence | Document | None:
        """The record's sentence or text; None if it has none to read."""
        if not isinstance(record, dict):
            raise RecordError(f"found {shortened(record)}; expected a JSON object, in braces")
        if record.get(LABEL_NAMES) is not None:
            self._default_names = _strings(record[LABEL_NAMES], LABEL_NAMES, "a list of strings")
        # To be tagged, a text is as good as any, whatever was thought of its old annotation.
        if self._options.labelled and record.get(ANSWER) in _NOT_ACCEPTED:
            self._oddities.count(f'records with "answer": "{record[ANSWER]}" left out', self._place(number))
            return None
        words_key = next((key for key in WORD_KEYS if isinstance(record.get(key), list)), None)
        text_key = next((key for key in TEXT_KEYS if isinstance(record.get(key), str)), None)
        if words_key is not None and text_key is not None and not _has_first(record[words_key], str, dict):
            words_key = None  # no words at all, or the numbers of a model's word pieces
        if words_key is None and text_key is None:
            if record.keys() == {LABEL_NAMES}:
                return None
            raise UserError(f"{self._place(number)}: found the keys {sorted(map(str, record))}; {_EXPECTED}")
        if words_key is None:
            return self._document(record, str(text_key), None, number)
        return self._words(record, words_key, text_key, number)

    # --- words -------------------------------------------------------------------------------------------------------

    def _words(
        self, record: dict[str, Any], words_key: str, text_key: str | None, number: int
    ) -> RawSentence | Document | None:
        tokens = record[words_key]
        are_objects = bool(tokens) and isinstance(tokens[0], dict)
        words = _strings(_texts(tokens) if are_objects else tokens, words_key, "a list of strings")
        tags_key = self._tags_key(record, len(words))
        # Without tags, the entities of the text say more than words alone. Words to be tagged stay words.
        if text_key is not None and tags_key is None and (are_objects or self._options.labelled):
            return self._document(record, text_key, tokens, number)
        if tags_key is None and words and words_key == _GLINER_WORDS and self._options.labelled:
            return self._document_of_words(record, words, number)
        if tags_key is None and self._options.tag_column is None:  # none fits: the message is about the first
            tags_key = next((key for key in TAG_KEYS if isinstance(record.get(key), list)), None)
        if not words and not self._options.labelled:
            return Document("", words=(), place=self._place(number), record=record)
        tags = self._tags(record, tags_key, words, words_key, number)
        rows = list(map(Row, words, tags, repeat(number)))
        return RawSentence(rows, record, words_key) if rows else None

    def _tags_key(self, record: Mapping[str, Any], n_words: int) -> str | None:
        """The key of the tags: the user's, or the first with as many strings or integers as there are words."""
        if self._options.tag_column is not None:
            return self._given_key(record)
        first = next((key for key in TAG_KEYS if _are_tags(record.get(key), n_words)), None)
        keys = tuple(record)
        if first is not None and keys not in self._known_keys:
            self._known_keys.add(keys)
            others = [
                key
                for key, value in record.items()
                if key != first and (key in TAG_KEYS or _NER_KEY.fullmatch(key)) and _are_tags(value, n_words)
            ]
            self._note_choice("tags", first, others)
        return first

    def _given_key(self, record: Mapping[str, Any]) -> str | None:
        key = str(self._options.tag_column)
        return key if record.get(key) is not None else None

    def _note_choice(self, what: str, key: str, others: Sequence[str]) -> None:
        if others:
            self._oddities.note(f"the keys {', '.join([key, *others])} hold {what}: {key} was read")

    def _tags(
        self, record: Mapping[str, Any], key: str | None, words: Sequence[str], words_key: str, number: int
    ) -> Iterable[str]:
        """As many tags as words, as the record has them; empty ones for words to be tagged that have none."""
        try:
            if key is None:
                raise self._no_annotation(record, number)
            tags = self._named(record[key], key, number)
            if len(words) != len(tags):
                raise RecordError(
                    f"found {len(words)} in {words_key} and {len(tags)} in {key}; expected as many of both"
                )
            return tags
        except (RecordError, UserError):
            # What looks like tags by its key may be something else; words can be tagged without them.
            if self._options.labelled:
                raise
            return repeat("")

    def _named(self, tags: object, key: str, number: int) -> Sequence[str]:
        """The tags as strings; integers by their names."""
        if not isinstance(tags, list) or not tags or set(map(type, tags)) != {int}:
            return _strings(tags, key, "a list of strings (or integers)")
        names = self._names.get(key, self._default_names)
        if names is None:
            raise UserError(
                f"{self._place(number)}: found integers in {key}, but not what they mean; expected tags such as B-PER. "
                'Put their names, in order, into the first line of a JSON lines file: {"label_names": ["O", "B-PER", '
                '"I-PER"]}; or into a column label_names of a table.'
            )
        for tag in (min(tags), max(tags)):
            if not 0 <= tag < len(names):
                raise RecordError(
                    f"found {tag} in {key}; expected 0 to {len(names) - 1}, the numbers of "
                    f"{counted(len(names), 'names')}"
                )
        return [names[tag] for tag in tags]

    def _no_annotation(self, record: Mapping[str, Any], number: int) -> UserError:
        """The error of a record whose words or text have no annotation.

        It is raised at once and not gathered, since most often no record of the file has one under a known key.
        """
        expected = _EXPECTED
        if self._options.tag_column is not None:
            expected = f"expected the key {str(self._options.tag_column)!r} in every record, as tag_column says."
        return UserError(f"{self._place(number)}: found the keys {sorted(map(str, record))}; {expected}")

    # --- text --------------------------------------------------------------------------------------------------------

    def _document(
        self, record: Mapping[str, Any], text_key: str, tokens: Sequence[Any] | None, number: int
    ) -> Document | None:
        text = record[text_key]
        place = self._place(number)
        if not text and self._options.labelled:
            return None
        words = _word_spans(tokens, text) if tokens else None
        if tokens and words is None:
            self._oddities.count("records with words that do not stand in the text; words are found anew", place)
        return Document(text, self._marked(record, text, words, number), words, place, record)

    def _document_of_words(self, record: Mapping[str, Any], words: Sequence[str], number: int) -> Document:
        """A record of GLiNER's; as a text, since its entities may overlap."""
        text, spans = join_words(words)
        place = self._place(number)
        key = self._options.tag_column or _GLINER_ENTITIES
        given = record.get(str(key))
        if not isinstance(given, list) or not all(isinstance(entity, list) and len(entity) == 3 for entity in given):
            raise RecordError(f"found {shortened(given)} in {key}; expected a list of [first word, last word, type]")
        by_words = [dict(zip(("token_start", "token_end", "label"), entity, strict=True)) for entity in given]
        return Document(text, read_entities(by_words, text, spans, place, self._oddities), spans, place, record)

    def _marked(
        self, record: Mapping[str, Any], text: str, words: Sequence[tuple[int, int]] | None, number: int
    ) -> tuple[Marked, ...] | None:
        key = self._entities_key(record)
        if key is None:
            # Prodigy leaves "spans" out where nothing was marked. With "label" a text as such was classified.
            if record.get(ANSWER) == "accept" and "label" not in record and self._options.tag_column is None:
                return ()
            if self._options.labelled:
                raise self._no_annotation(record, number)
            return None
        try:
            return read_entities(record[key], text, words, self._place(number), self._oddities)
        except RecordError:
            if self._options.labelled:
                raise
            return None

    def _entities_key(self, record: Mapping[str, Any]) -> str | None:
        if self._options.tag_column is not None:
            return self._given_key(record)
        # Lists of strings under these keys classify a text.
        candidates = [
            key
            for key in ENTITY_KEYS
            if isinstance(value := record.get(key), dict) or value == [] or _has_first(value, list, tuple, dict)
        ]
        if not candidates:
            return None
        self._note_choice("entities", candidates[0], candidates[1:])
        return candidates[0]


def _has_first(value: object, *types: type) -> bool:
    """Whether the value is a list whose first item is of one of these types."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], types)


def _are_tags(value: object, n_words: int) -> bool:
    return isinstance(value, list) and len(value) == n_words and (not value or isinstance(value[0], str | int))


def _texts(tokens: Sequence[Any]) -> list[Any]:
    return [token.get("text") if isinstance(token, dict) else token for token in tokens]


def _word_spans(tokens: Sequence[Any], text: str) -> tuple[tuple[int, int], ...] | None:
    """Start and end of each word in the text; None if the words are not there, one after the other.

    Args:
        tokens: strings, or objects with "text" and, in Prodigy's files, "start" and "end".
        text: the text.
    """
    spans = []
    at = 0
    for token in tokens:
        word, start = (token, None) if isinstance(token, str) else (token["text"], token.get("start"))
        if start is None:
            start = text.find(word, at)
        if type(start) is not int or start < at or text[start : start + len(word)] != word:
            return None
        at = start + len(word)
        spans.append((start, at))
    return tuple(spans)


def _strings(value: object, key: str, expected: str) -> list[str]:
    """The value, which has to be a list of strings.

    Raises:
        RecordError: it is something else.
    """
    # A set of types, since a generator over the words would take most of the time that reading takes.
    if isinstance(value, list) and set(map(type, value)) <= {str}:
        return value
    raise RecordError(f"found {shortened(value)} in {key}; expected {expected}")
