"""Corpora that can be read, but are of no use: without entities, or with types that a tagger does not know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from metacross.corpora.reader import Corpus
from metacross.corpora.schemes import types_of
from metacross.corpora.sentence import entities
from metacross.corpora.types import same_type
from metacross.errors import UserError
from metacross.wording import counted


def require_entities(corpus: Corpus) -> None:
    """Refuses a corpus without any entity, since nothing can be learned from it or measured on it.

    Raises:
        UserError: there is none; the message says whether the file has none or the tag map dropped them all.
    """
    if corpus.counts:
        return
    problem = f"{corpus.path}: found {counted(len(corpus.sentences), 'sentences')}, but no entities"
    if corpus.dropped:
        types = ", ".join(corpus.dropped)
        raise UserError(f"{problem} but those that the tag map drops ({types}); keep at least one of them in tag_map.")
    raise UserError(f"{problem}: every tag is O; expected tags such as B-PER. Give a corpus that has been annotated.")


def refuse_unknown_types(corpus: Corpus, tags: Iterable[str], *, tag_map: Mapping[str, str]) -> None:
    """Refuses a corpus with entity types that a tagger was not trained on.

    Args:
        corpus: the corpus, read with `tag_map`.
        tags: the tags that the tagger knows.
        tag_map: the tag map; the message shows it with the additions that make the corpus fit.

    Raises:
        UserError: there are such types; the message names them, the first place, and the setting that drops them.
    """
    known = types_of(tags)
    unknown = [kind for kind in corpus.counts if kind not in known]
    if not unknown:
        return
    proposed = {**tag_map, **{kind: same_type(kind, known) or "O" for kind in unknown}}
    first = next(s.place for s in corpus.sentences if any(e.type in unknown for e in entities(s.tags or ())))
    raise UserError(
        f"{first}: entity type {', '.join(unknown)}, which the tagger does not know; it knows {', '.join(known)}. Give "
        f"what it finds the name that it knows, and drop what it cannot find: {override(proposed)}"
    )


def override(tag_map: Mapping[str, str]) -> str:
    """Writes a tag map as it is given on a command line.

    >>> override({"OTH": "O", "PERSON": "PER"})
    "'data.tag_map={OTH: O, PERSON: PER}'"
    """
    pairs = ", ".join(f"{old}: {new or 'O'}" for old, new in tag_map.items())
    return f"'data.tag_map={{{pairs}}}'"
