r"""Writing sentences as columns: a word and its tag a line, CoNLL-2003's four columns, and CoNLL-U.

- Two columns, separated by a tab: a word may have spaces in it.
- CoNLL-2003 (Tjong Kim Sang and De Meulder 2003): word, part of speech, chunk and tag, separated by single spaces. Part
  of speech and chunk are not known, and are written -X-, as that corpus has them in its -DOCSTART- lines.
- CoNLL-U (universaldependencies.org, "CoNLL-U Format"): ten columns, the tag in the last one, MISC, as name=B-PER, as
  DaNE has it, the Danish treebank with entities. Every word has this key, since DaNE's loader expects it.
  SpaceAfter=No, and UDPipe's SpacesBefore and SpacesAfter with its escapes (\s \t \r \n \p \\), keep the text between
  words.

What such a line cannot hold is refused. Whether a complete file reads back the same depends on all of its lines, since
a reader finds the columns by them; `corpora.conversion` checks that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO

from metacross.corpora.characters import visible
from metacross.corpora.raw import Oddities
from metacross.corpora.sentence import Sentence
from metacross.errors import UserError

_ESCAPES = str.maketrans({" ": "\\s", "\t": "\\t", "\r": "\\r", "\n": "\\n", "|": "\\p", "\\": "\\\\"})
_UNKNOWN = " -X- -X- "


def write_conll(sentences: Iterable[Sentence], file: IO[bytes], oddities: Oddities) -> None:
    """Writes two columns, the word and its tag, separated by a tab; an empty line ends a sentence.

    Raises:
        UserError: a word or tag that cannot stand in a column, or a sentence without tags.
    """
    _write_columns(sentences, file, oddities, "\t", forbidden="\t\n\r")


def write_conll_2003(sentences: Iterable[Sentence], file: IO[bytes], oddities: Oddities) -> None:
    """Writes CoNLL-2003's four columns, separated by single spaces; an empty line ends a sentence.

    Raises:
        UserError: as `write_conll`; here a word cannot have spaces in it either.
    """
    _write_columns(sentences, file, oddities, _UNKNOWN, forbidden=" \t\n\r")


def write_conllu(sentences: Iterable[Sentence], file: IO[bytes], oddities: Oddities) -> None:
    """Writes CoNLL-U, with the tags in the column MISC.

    Raises:
        UserError: as `write_conll`; and an entity type with |, which separates the parts of MISC.
    """
    for number, sentence in enumerate(sentences, 1):
        gaps = _gaps(sentence, oddities)
        text = " ".join(sentence.text.splitlines())
        lines = [f"# sent_id = {number}", f"# text = {text}"]
        for index, (word, tag, gap) in enumerate(zip(sentence.words, _tags(sentence), gaps, strict=True), 1):
            _check(sentence, word, "\t\n\r")
            _check(sentence, tag, "\t\n\r |")
            lines.append(f"{index}\t{word}\t_\t_\t_\t_\t_\t_\t_\tname={tag}{gap}")
        file.write(_encoded(sentence, lines))


def _write_columns(
    sentences: Iterable[Sentence], file: IO[bytes], oddities: Oddities, between: str, forbidden: str
) -> None:
    for sentence in sentences:
        lines = []
        for word, tag in zip(sentence.words, _tags(sentence), strict=True):
            _check(sentence, word, forbidden)
            _check(sentence, tag, "\t\n\r ")
            if word.startswith("-DOCSTART-"):
                raise _refused(sentence, word, "begins a new document in columns", "conllu")
            if any(character.isspace() and character not in " \t" for character in word):
                oddities.count("words with white space inside, at which some programs may cut", sentence.place)
            lines.append(f"{word}{between}{tag}")
        file.write(_encoded(sentence, lines))


def _tags(sentence: Sentence) -> tuple[str, ...]:
    if sentence.tags is None:
        raise UserError(f"{sentence.place}: found no tags; expected a sentence that has been annotated.")
    return sentence.tags


def _check(sentence: Sentence, value: str, forbidden: str) -> None:
    """Refuses a word or tag that would read back as something else."""
    for character in forbidden:
        if character in value:
            raise _refused(sentence, value, f"has {character!r} in it, which ends a column there", "jsonl")
    if visible(value) != value or not value:
        raise UserError(
            f"{sentence.place}: found {value!r}, which begins or ends with an invisible character; readers take it off."
        )


def _encoded(sentence: Sentence, lines: Iterable[str]) -> bytes:
    try:
        return "".join(f"{line}\n" for line in (*lines, "")).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise _refused(sentence, half, "is half a character (a lone surrogate), which UTF-8 has not", "jsonl") from None


def _refused(sentence: Sentence, value: str, why: str, other: str) -> UserError:
    return UserError(f"{sentence.place}: {value!r} {why}. Write another format, which can hold it: --to {other}")


def _gaps(sentence: Sentence, oddities: Oddities) -> Iterator[str]:
    """What MISC has to say about the text around each word; "" where one space follows."""
    text, spans = sentence.text, sentence.spans
    for i, (start, end) in enumerate(spans):
        last = i + 1 == len(spans)
        after = text[end:] if last else text[end : spans[i + 1][0]]
        before = text[:start] if i == 0 else ""
        if visible(before) or visible(after):
            oddities.count("parts of texts between words, which CoNLL-U has in a comment only", sentence.place)
            before, after = "", " "
        note = f"|SpacesBefore={before.translate(_ESCAPES)}" if before else ""
        if not after and not last:
            note += "|SpaceAfter=No"
        elif after not in ("", " "):
            note += f"|SpacesAfter={after.translate(_ESCAPES)}"
        yield note
