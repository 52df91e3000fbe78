"""Tagging schemes: finding out which one a file uses, and converting its tags to IOB2.

The letter before a tag's hyphen says where in an entity the word is: B first, I inside (M in Chinese corpora), E or L
last, S, U or W the only word.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from metacross.corpora.raw import Problems
from metacross.errors import UserError

_TAG = re.compile(r"([BIMELSUW])-(\S+)")
_LOOSE_TAG = re.compile(r"([BIMELSUW])[-_](\S.*)", re.IGNORECASE)  # b-per, B_PER, B-natural event
_BARE = re.compile(r"[^\W\d_].*")  # a type without a letter and a hyphen: PER
_NO_TYPE = re.compile(r"[BIMELSUW][-_]?")
_LETTERS = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S"}
_NO_ENTITY = frozenset({"O", "-", "_"})  # as a tag or as a type these mean that nothing is marked
_SURELY_O = frozenset({"", "0", "o"})  # where the other tags are tags, these can mean nothing but O
_EXPECTED = (
    "expected O or a letter (B, I, E, S, L, U, M), a hyphen and a type, such as B-PER. Correct the tags, or check "
    "which column holds them (data.tag_column)."
)

Place = Callable[[int, int], str]
"""Where word `w` of sequence `s` is, for messages: place(s, w) -> "file:line"."""


class _Meaning(NamedTuple):
    """What a tag means.

    Attributes:
        letter: as it was written, but upper case; "O" outside of entities.
        type: "" outside of entities.
        oddity: how it is reported, if it is not written as usual.
    """

    letter: str
    type: str
    oddity: str = ""


@dataclass(frozen=True)
class Converted:
    """What `to_iob2` found.

    Attributes:
        scheme: IOB1, IOB2, IOBES, BILOU or IO; "none" where every tag is O.
        tags: the IOB2 tags, shaped as the input.
        repaired: number of tags that broke the scheme's rule and were corrected: in IOB2 an I- that begins an entity,
            in IOB1 a B- that is not needed, in IOBES and BILOU the ends of entities that are not complete.
        first_repair: the place of the first such tag, or "".
        read_as: how tags were read that are not written as usual (`-`, `B-O`, `PER`, `b-per`), with their number.
    """

    scheme: str
    tags: list[list[str]]
    repaired: int
    first_repair: str
    read_as: Mapping[str, int] = field(default_factory=dict)


def is_tag(tag: str) -> bool:
    """Whether this is a tag as it is usually written, in any known scheme."""
    return tag in _NO_ENTITY or _TAG.fullmatch(tag) is not None


def types_of(tags: Iterable[str]) -> tuple[str, ...]:
    """The entity types of a tag set, in its order.

    >>> types_of(["O", "B-LOC", "I-LOC", "B-PER", "I-PER"])
    ('LOC', 'PER')
    """
    return tuple(tag[2:] for tag in tags if tag.startswith("B-"))


def to_iob2(sequences: Sequence[Sequence[str]], place: Place, *, named: Collection[str] = ()) -> Converted:
    """Recognises the scheme of all sequences together and converts them to IOB2.

    An entity begins at every B- and S- (U-), and at every I- or E- (L-) that does not continue one of its type; it ends
    where the next tag does not continue it. All schemes are read by this rule. They differ only in what counts as a
    repair: in IOBES and BILOU, which a file is in if it has E-, S-, L- or U- tags anywhere, every entity should be
    complete.

    Args:
        sequences: the tags of each sentence, or of longer stretches of text.
        place: names a tag's place in messages.
        named: types that the user names. A type called O, - or _ counts only if it is one of them.

    Raises:
        UserError: tags that mean nothing, all with their places, or tags of two schemes in one file.
    """
    number = Counter(chain.from_iterable(sequences))
    meanings = _meanings(number, named)
    if len(meanings) < len(number):
        _refuse_meaningless(sequences, meanings, place)
    read_as: Counter[str] = Counter()
    for tag, meaning in meanings.items():
        if meaning.oddity:
            read_as[meaning.oddity] += number[tag]
    split = [[meanings[tag] for tag in sequence] for sequence in sequences]
    letters = {meaning.letter for meaning in meanings.values()}
    if letters & set("ESLUW"):
        first = _first_places(split, place)
        _refuse_two_alphabets(first)
        return _bracketed(split, "BILOU" if letters & set("LU") else "IOBES", read_as, place)
    return _lenient(split, read_as, place)


def _meanings(tags: Iterable[str], named: Collection[str]) -> dict[str, _Meaning]:
    """What each of a file's tags means; the tags together decide how they are written.

    Tags that mean nothing are missing from the result.
    """
    parts = {part for tag in tags for part in tag.split("|")}
    usual = {part: match for part in parts if (match := _TAG.fullmatch(part))}
    others = [part for part in parts if part not in usual and part not in _NO_ENTITY | _SURELY_O]
    types = {match[2] for match in usual.values()}
    loose = {tag: match for tag in others if (match := _LOOSE_TAG.fullmatch(tag))}
    if usual or len(loose) < len(others):  # e-mail is a type, where not all tags begin like that
        loose = {tag: match for tag, match in loose.items() if match[2].upper() in types or match[2] in types}
    # Types without letters; but a file of B and I, without types, has lost what matters.
    bare = not usual and not loose and not any(map(_NO_TYPE.fullmatch, others)) and all(map(_BARE.fullmatch, others))

    def meaning(tag: str) -> _Meaning | None:
        if tag == "O":
            return _Meaning("O", "")
        if tag in _NO_ENTITY | _SURELY_O:
            return _Meaning("O", "", f"tags {tag} read as O" if tag else "empty tags read as O")
        match = usual.get(tag)
        if match and match[2] in _NO_ENTITY and match[2] not in named:
            hint = f"; data.tag_map={{{match[2]}: NAME}} makes it a type" if match[2] == "O" else ""
            return _Meaning("O", "", f"tags {tag} read as O{hint}")
        if match:
            return _Meaning(match[1], match[2])
        if match := loose.get(tag):
            kind = match[2].upper() if match[2].upper() in types else "_".join(match[2].split())
            return _Meaning(match[1].upper(), kind, f"tags {tag} read as {match[1].upper()}-{kind}")
        if "|" in tag:
            outer = next((part for part in map(meaning, tag.split("|")) if part and part.type), _Meaning("O", ""))
            read = f"{outer.letter}-{outer.type}" if outer.type else "O"
            return outer._replace(oddity=f"tags {tag} read as {read}")
        if bare or tag in types:
            kind = "_".join(tag.split())
            return _Meaning("I", kind, f"tags {tag} read as I-{kind}")
        return None

    found = {tag: meaning(tag) for tag in tags}
    return {tag: known for tag, known in found.items() if known}


def _refuse_meaningless(sequences: Sequence[Sequence[str]], meanings: Mapping[str, _Meaning], place: Place) -> None:
    problems = Problems(_EXPECTED)
    for s, sequence in enumerate(sequences):
        for w, tag in enumerate(sequence):
            if tag not in meanings:
                problems.add(place(s, w), f"found the tag {tag!r}")
    problems.refuse()


def _first_places(split: Sequence[Sequence[_Meaning]], place: Place) -> dict[str, str]:
    """Each letter's first place."""
    first: dict[str, str] = {}
    for s, row in enumerate(split):
        for w, meaning in enumerate(row):
            if meaning.letter not in first:
                first[meaning.letter] = place(s, w)
    return first


def _refuse_two_alphabets(first: dict[str, str]) -> None:
    for one, other in ("EL", "SU"):
        if one in first and other in first:
            raise UserError(
                f"{first[other]}: found a tag {other}-, but {first[one]} has {one}-; expected one scheme in the whole "
                "file: E- and S- (IOBES), or L- and U- (BILOU). Convert one half of the file."
            )


def _bracketed(split: Sequence[Sequence[_Meaning]], scheme: str, read_as: Mapping[str, int], place: Place) -> Converted:
    """Converts IOBES or BILOU to IOB2. An entity that is not S, or B I* E of one type, is kept and counted."""
    result = []
    wrong: list[tuple[int, int]] = []
    for s, row in enumerate(split):
        tags = []
        inside = ""  # the type of the entity that is open
        for w, (written, kind, _) in enumerate(row):
            letter = _LETTERS.get(written, "O")
            continues = letter in "IE" and kind == inside
            if inside and not continues:
                wrong.append((s, w - 1))  # the entity before has no end
            elif letter in "IE" and not inside:
                wrong.append((s, w))  # this one has no beginning
            tags.append("O" if letter == "O" else f"{'I' if continues else 'B'}-{kind}")
            inside = kind if letter in "BI" else ""
        if inside:
            wrong.append((s, len(row) - 1))
        result.append(tags)
    wrong = list(dict.fromkeys(wrong))  # a tag can lack a beginning and an end
    return Converted(scheme, result, len(wrong), place(*wrong[0]) if wrong else "", read_as)


def _lenient(split: Sequence[Sequence[_Meaning]], read_as: Mapping[str, int], place: Place) -> Converted:
    """Converts IOB1, IOB2 and IO to IOB2."""
    # Where entities begin: with I-; with a B- for which IOB1 would have I-; and with a B- that IOB1 needs as well.
    begun: dict[str, list[tuple[int, int]]] = {"I": [], "B": [], "needed B": []}
    result = []
    for s, row in enumerate(split):
        tags = ["O"] * len(row)
        before = ""  # the type of the word before
        for w, (written, kind, _) in enumerate(row):
            if kind:
                begins = written == "B" or kind != before
                tags[w] = f"{'B' if begins else 'I'}-{kind}"
                if begins:
                    begun["I" if written != "B" else "needed B" if kind == before else "B"].append((s, w))
            before = kind
        result.append(tags)
    wrong: list[tuple[int, int]] = []
    if not any(begun.values()):
        scheme = "none"
    elif not begun["B"] and not begun["needed B"]:
        scheme = "IO"
    elif len(begun["I"]) > len(begun["B"]):
        scheme, wrong = "IOB1", begun["B"]
    else:
        scheme, wrong = "IOB2", begun["I"]
    return Converted(scheme, result, len(wrong), place(*wrong[0]) if wrong else "", read_as)
