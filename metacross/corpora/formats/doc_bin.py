"""DocBin, the binary form in which spaCy keeps annotated texts (.spacy): read and written by spaCy itself.

A text comes with spaCy's words. Its entities are those of `doc.ents`; span groups (`doc.spans`) can overlap and are of
any kind, so they are not read.

Source: spaCy's documentation, "DocBin" and "Data formats". A file is a zlib stream of a MessagePack map.
"""

from __future__ import annotations

import gc
import importlib
import zlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import IO, Any

from metacross.corpora.characters import visible_part
from metacross.corpora.raw import Document, Marked, Oddities, Reading, ReadOptions
from metacross.corpora.source import Source
from metacross.corpora.utf8 import without_surrogates
from metacross.corpora.words import split_words
from metacross.errors import UserError, first_line


def looks_like_doc_bin(start: bytes) -> bool:
    """Whether a file's first bytes are a DocBin's."""
    try:
        unpacked = zlib.decompressobj().decompress(start[:4096], 64)
    except zlib.error:
        return False
    return b"\xa7version" in unpacked or b"\xa5attrs" in unpacked  # keys of the map, with their lengths


def _spacy(path: str) -> tuple[Any, Any, Any]:
    """The classes of spaCy: DocBin, Doc and Vocab. They need no model."""
    try:
        tokens = importlib.import_module("spacy.tokens")
        return tokens.DocBin, tokens.Doc, importlib.import_module("spacy.vocab").Vocab
    except ImportError as error:
        raise UserError(f'{path}: spaCy\'s files need spaCy itself ({error}): pip install -e ".[spacy]"') from None


def read_doc_bin(source: Source, options: ReadOptions) -> Reading:
    """Reads a DocBin; every text in it becomes a document with words.

    Args:
        source: the file.
        options: has nothing that this format needs; a text without annotation of entities has None in any case.

    Raises:
        UserError: spaCy is not installed, or cannot read the file.
    """
    if options.tag_column is not None:
        raise UserError(
            f"{source.path}: spaCy's files have no columns; leave out the choice of {options.tag_column!r}."
        )
    return Reading("spacy", _documents(source))


def _documents(source: Source) -> Iterator[Document]:
    doc_bin, _, vocab = _spacy(source.path)
    try:
        docs = doc_bin().from_bytes(source.data()).get_docs(vocab())
        documents = [_document(doc, f"{source.path}: text {n}", source.oddities) for n, doc in enumerate(docs, 1)]
    except UserError:
        raise
    except Exception as error:  # whatever spaCy meets in a damaged file: its readers check nothing
        gc.enable()  # its unpacker (srsly) leaves the collector of garbage off where it fails
        raise UserError(
            f"{source.path}: found no DocBin that spaCy can read ({type(error).__name__}: {first_line(error)}); "
            "write it again with DocBin.to_disk."
        ) from error
    yield from documents


def _document(doc: Any, place: str, oddities: Oddities) -> Document:
    groups = sum(map(len, doc.spans.values()))
    if groups:
        oddities.count("spans in span groups left out", place, groups)
    marked = None
    if doc.has_annotation("ENT_IOB"):
        marked = tuple(Marked(entity.start_char, entity.end_char, entity.label_) for entity in doc.ents)
        missing = sum(token.ent_iob == 0 for token in doc)
        if missing:
            oddities.count("words whose annotation is missing, read as outside of entities", place, missing)
    # spaCy makes words of white space where there is more of it than one space.
    words = tuple((token.idx, token.idx + len(token)) for token in doc if not token.text.isspace())
    return Document(doc.text, marked, words, place)


def write_doc_bin(items: Iterable[Document], file: IO[bytes], oddities: Oddities) -> None:
    """Writes a DocBin. All of it is held in memory until the last text.

    Args:
        items: the texts. One without words gets those that `split_words` finds.
        file: where the DocBin goes.
        oddities: what is counted while writing.

    Raises:
        UserError: spaCy is not installed.
    """
    doc_bin, doc_class, vocab_class = _spacy("DocBin")
    vocab = vocab_class()
    docs = doc_bin()
    for document in items:
        docs.add(_doc(document, doc_class, vocab, oddities))
    file.write(docs.to_bytes())


def _doc(document: Document, doc_class: Any, vocab: Any, oddities: Oddities) -> Any:
    """A text as spaCy's Doc."""
    text = without_surrogates(document.text, document.place, oddities)
    words = document.words if document.words is not None else split_words(text)
    marked = _without_overlaps(document, oddities)
    edges = {edge for word in words for edge in word}
    within = [edge for start, end, _ in marked for edge in (start, end) if edge not in edges]
    if within:
        oddities.count("ends of entities within words, which were cut there", document.place, len(within))
    tokens, spaces = _tokens(text, edges | set(within))
    doc = doc_class(vocab, words=tokens, spaces=spaces)
    if document.marked is not None:
        entities = [doc.char_span(start, end, label=kind) for start, end, kind in marked]
        doc.set_ents(entities, default="outside")
    return doc


def _tokens(text: str, edges: set[int]) -> tuple[list[str], list[bool]]:
    """Tokens that make up a text, and whether a space follows each of them; no other white space can be left out."""
    cuts = sorted({0, len(text), *edges})
    tokens: list[str] = []
    spaces: list[bool] = []
    for start, end in pairwise(cuts):
        piece = text[start:end]
        if piece.startswith(" ") and tokens and not spaces[-1] and piece.isspace():
            spaces[-1] = True
            piece = piece[1:]
        if piece:
            tokens.append(piece)
            spaces.append(False)
    return tokens, spaces


def _without_overlaps(document: Document, oddities: Oddities) -> list[Marked]:
    """The entities that a Doc can hold: of two that overlap the longer one, or else the first."""
    chosen: list[Marked] = []
    for entity in sorted(document.marked or (), key=lambda entity: (entity.start - entity.end, entity.start)):
        inside = 0 <= entity.start < entity.end <= len(document.text)
        start, end = visible_part(document.text, entity.start, entity.end) if inside else (0, 0)
        if start == end:
            oddities.count("entities left out for being empty or outside of the text", document.place)
        elif any(start < other.end and other.start < end for other in chosen):
            oddities.count("entities left out for overlapping another", document.place)
        else:
            chosen.append(Marked(start, end, entity.type))
    return sorted(chosen)
