"""Arguments of public functions that take texts or sentences: a wrong type is told by what was expected.

A string is a sequence of strings, too, so what Python itself would do with a wrong type is often to answer nonsense.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metacross.corpora.sentence import Sentence


def refuse_no_texts(texts: Any, *, or_one: bool) -> None:
    """Raises TypeError for what is no list of texts.

    Args:
        texts: what a caller gave.
        or_one: whether one text may stand in place of a list.
    """
    if or_one and isinstance(texts, str):
        return
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Sequence):
        one = "a text (str) or " if or_one else ""
        raise TypeError(f"expected {one}a list of texts, found {_described(texts)}")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"expected a list of texts (str), found {_described(text)} at {number}")


def refuse_no_item(item: Any, number: int) -> None:
    """Raises TypeError for what is neither a text nor a list of words.

    Args:
        item: one of many that a caller gave.
        number: which of them, counted from 0.
    """
    if not isinstance(item, str) and not _are_words(item):
        raise TypeError(f"expected texts (str) or lists of words (str), found {_described(item)} at {number}")


def refuse_no_words(sentences: Any) -> None:
    """Raises TypeError for what is no list of sentences, each a list of words."""
    if isinstance(sentences, (str, bytes)) or not isinstance(sentences, Sequence):
        raise TypeError(f"expected a list of sentences, each a list of words, found {_described(sentences)}")
    for number, words in enumerate(sentences):
        if not _are_words(words):
            raise TypeError(f"expected a list of words (str) for each sentence, found {_described(words)} at {number}")


def refuse_no_sentences(sentences: Any) -> None:
    """Raises TypeError for what is no list of sentences as `read_corpus` gives them."""
    if isinstance(sentences, (str, bytes)) or not isinstance(sentences, Sequence):
        raise TypeError(f"expected a list of sentences (Sentence), found {_described(sentences)}")
    for number, sentence in enumerate(sentences):
        if not isinstance(sentence, Sentence):
            raise TypeError(f"expected a list of sentences (Sentence), found {_described(sentence)} at {number}")


def _are_words(value: Any) -> bool:
    is_list = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    return is_list and all(isinstance(word, str) for word in value)


def _described(value: Any) -> str:
    name = type(value).__name__
    if isinstance(value, bytes):
        return "bytes; decode them first, as in data.decode('utf-8')"
    if isinstance(value, (list, tuple)):
        return f"a {name} of {', '.join(sorted({type(item).__name__ for item in value})) or 'nothing'}"
    return name
