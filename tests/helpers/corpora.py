"""Corpora for tests: files, odd text, and entities with their tags in every scheme."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hypothesis import strategies as st

from metacross.corpora.sentence import EntitySpan, Sentence, entities

CORPORA = Path(__file__).parents[1] / "files" / "corpora"
# Characters that have broken readers before, besides all others.
ODD = "\u0085\u2028\u00a0\u200b\u3000\x1c\x00\ud800'’-.,。ー々ก็가A1\u0301 \n"
ANY_TEXT = st.text(st.one_of(st.sampled_from(ODD), st.characters()))


def write(folder: Path, content: str | bytes, name: str = "corpus") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def entity_texts(sentence: Sentence) -> list[tuple[str, str]]:
    """Entities as (type, text)."""
    return [
        (kind, sentence.text[sentence.spans[start][0] : sentence.spans[end - 1][1]])
        for kind, start, end in entities(sentence.tags or ())
    ]


@st.composite
def tagged(draw: st.DrawFn) -> tuple[list[EntitySpan], int]:
    """Entities side by side or apart, and the number of words they stand in."""
    found: list[EntitySpan] = []
    place = 0
    for gap, length, kind in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(["PER", "LOC", "a-b"])), max_size=6)
    ):
        found.append(EntitySpan(kind, place + gap, place + gap + length))
        place += gap + length
    return found, place + draw(st.integers(0, 2))


def written(found: Sequence[EntitySpan], n_words: int, scheme: str) -> list[str]:
    """The tags of entities in a scheme: the slow, literal inverse of what schemes.py reads."""
    tags = ["O"] * n_words
    for number, (kind, start, end) in enumerate(found):
        touches = number > 0 and found[number - 1].end == start and found[number - 1].type == kind
        letters = "B" + "I" * (end - start - 1)
        if scheme == "IO" or (scheme == "IOB1" and not touches):
            letters = "I" * (end - start)
        elif scheme in ("IOBES", "BILOU", "BMES"):
            letters = "S" if end - start == 1 else "B" + "I" * (end - start - 2) + "E"
        if scheme == "BILOU":
            letters = letters.replace("S", "U").replace("E", "L")
        if scheme == "BMES":
            letters = letters.replace("I", "M")
        tags[start:end] = [f"{letter}-{kind}" for letter in letters]
    return tags
