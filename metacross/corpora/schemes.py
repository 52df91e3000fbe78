"""Tagging schemes: finding out which one a file uses, and converting its tags to IOB2.

The letter before a tag's hyphen says where in an entity the word is: B first, I inside (M in Chinese corpora), E or L
last, S, U or W the only word.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from metacross.errors import UserError

_TAG = re.compile(r"([BIMELSUW])-(\S+)")
_LETTERS = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S"}
_NOTHING = frozenset({"O", "-", "_"})  # as a tag or as a type these mean that nothing is marked

Place = Callable[[int, int], str]
"""Where word `w` of sequence `s` is, for messages: place(s, w) -> "file:line"."""


@dataclass(frozen=True)
class Converted:
    """What `to_iob2` found.

    Attributes:
        scheme: IOB1, IOB2, IOBES, BILOU or IO; "none" where every tag is O.
        tags: the IOB2 tags, shaped as the input.
        repaired: number of tags that broke the scheme's rule and were corrected: in IOB2 an I- that begins an entity,
            in IOB1 a B- that is not needed, in IOBES and BILOU the ends of entities that are not complete.
        first_repair: the place of the first such tag, or "".
        stray: tags that mean nothing (`-`, `_`, `B-O`) and became O, with counts.
    """

    scheme: str
    tags: list[list[str]]
    repaired: int
    first_repair: str
    stray: Counter[str]


def is_tag(tag: str) -> bool:
    """Whether this is a tag in any known scheme."""
    return tag in _NOTHING or _TAG.fullmatch(tag) is not None


def types_of(tags: Iterable[str]) -> tuple[str, ...]:
    """The entity types of a tag set, in its order.

    >>> types_of(["O", "B-LOC", "I-LOC", "B-PER", "I-PER"])
    ('LOC', 'PER')
    """
    return tuple(tag[2:] for tag in tags if tag.startswith("B-"))


def to_iob2(sequences: Sequence[Sequence[str]], place: Place) -> Converted:
    """Recognises the scheme of all sequences together and converts them to IOB2.

    An entity begins at every B- and S- (U-), and at every I- or E- (L-) that does not continue one of its type; it ends
    where the next tag does not continue it. All schemes are read by this rule. They differ only in what counts as a
    repair: in IOBES and BILOU, which a file is in if it has E-, S-, L- or U- tags anywhere, every entity should be
    complete.

    Args:
        sequences: the tags of each sentence, or of longer stretches of text.
        place: names a tag's place in messages.

    Raises:
        UserError: an unknown form of tag, or tags of two schemes in one file.
    """
    stray: Counter[str] = Counter()
    split = [
        [_split(tag, stray, place, s, w) for w, tag in enumerate(sequence)] for s, sequence in enumerate(sequences)
    ]
    first: dict[str, str] = {}  # letter as written -> place of its first use
    for s, row in enumerate(split):
        for w, (written, _) in enumerate(row):
            if written not in first:
                first[written] = place(s, w)
    if set("ESLUW") & set(first):
        name = "BILOU" if set("LU") & set(first) else "IOBES"
        _refuse_two_alphabets(first)
        return _bracketed(split, name, stray, place)
    return _lenient(split, stray, place)


def _split(tag: str, stray: Counter[str], place: Place, s: int, w: int) -> tuple[str, str]:
    """Tag -> (letter as written, type); ("O", "") outside entities. Counts stray tags."""
    match = _TAG.fullmatch(tag)
    if tag == "O":
        return "O", ""
    if tag in _NOTHING or (match and match[2] in _NOTHING):
        stray[tag] += 1
        return "O", ""
    if not match:
        raise UserError(
            f"{place(s, w)}: found the tag {tag!r}; expected O or a letter (B, I, E, S, L, U, M), a hyphen and a type, "
            "such as B-PER. Correct the tag, or check which column holds the tags."
        )
    return match[1], match[2]


def _refuse_two_alphabets(first: dict[str, str]) -> None:
    for one, other in ("EL", "SU"):
        if one in first and other in first:
            raise UserError(
                f"{first[other]}: found a tag {other}-, but {first[one]} has {one}-; expected one scheme in the whole "
                "file: E- and S- (IOBES), or L- and U- (BILOU). Convert one half of the file."
            )


def _bracketed(split: Sequence[Sequence[tuple[str, str]]], scheme: str, stray: Counter[str], place: Place) -> Converted:
    """Converts IOBES or BILOU to IOB2. An entity that is not S, or B I* E of one type, is kept and counted."""
    result = []
    wrong: list[tuple[int, int]] = []
    for s, row in enumerate(split):
        tags = []
        inside = ""  # the type of the entity that is open
        for w, (written, kind) in enumerate(row):
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
    return Converted(scheme, result, len(wrong), place(*wrong[0]) if wrong else "", stray)


def _lenient(split: Sequence[Sequence[tuple[str, str]]], stray: Counter[str], place: Place) -> Converted:
    """Converts IOB1, IOB2 and IO to IOB2."""
    # Where entities begin: with I-; with a B- for which IOB1 would have I-; and with a B- that IOB1 needs as well.
    begun: dict[str, list[tuple[int, int]]] = {"I": [], "B": [], "needed B": []}
    result = []
    for s, row in enumerate(split):
        tags = []
        before = ""  # the type of the word before
        for w, (written, kind) in enumerate(row):
            begins = bool(kind) and (written == "B" or kind != before)
            tags.append(f"{'B' if begins else 'I'}-{kind}" if kind else "O")
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
    return Converted(scheme, result, len(wrong), place(*wrong[0]) if wrong else "", stray)
