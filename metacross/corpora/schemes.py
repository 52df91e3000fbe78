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
            in IOB1 a B- that is not needed.
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

    If there are E-, S-, L- or U- tags anywhere, the scheme is IOBES or BILOU, and every entity must be complete.
    Otherwise an entity begins at every B- and at every I- that does not continue one of its type. IOB1, IOB2 and IO
    are all read by this rule; they differ only in what counts as a repair.

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
        tags = [_strict(row, name, first, place, s) for s, row in enumerate(split)]
        return Converted(name, tags, 0, "", stray)
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
            "such as B-PER. Correct the tag, or check that the last column holds the tags."
        )
    return match[1], match[2]


def _refuse_two_alphabets(first: dict[str, str]) -> None:
    for one, other in ("EL", "SU"):
        if one in first and other in first:
            raise UserError(
                f"{first[other]}: found a tag {other}-, but {first[one]} has {one}-; expected one scheme in the whole "
                "file: E- and S- (IOBES), or L- and U- (BILOU). Convert one half of the file."
            )


def _strict(row: Sequence[tuple[str, str]], scheme: str, first: dict[str, str], place: Place, s: int) -> list[str]:
    """Converts one sequence from IOBES or BILOU to IOB2; every entity must be S, or B I* E of one type."""
    last_letter, single_letter = ("L", "U") if scheme == "BILOU" else ("E", "S")
    mark = next(letter for letter in "ESLUW" if letter in first)
    tags = []
    inside = ""  # the type of the entity that is open
    for w, (written, kind) in enumerate([*row, ("O", "")]):
        letter = _LETTERS.get(written, "O")
        continues = letter in "IE"
        if continues != bool(inside) or (continues and kind != inside):
            ended = w == len(row)
            found = "the end of the sentence" if ended else f"the tag {written}-{kind}" if kind else "the tag O"
            if inside:
                expected = f"I-{inside} or {last_letter}-{inside}, since an entity is open"
            else:
                expected = f"B-{kind} or {single_letter}-{kind}, since no entity is open"
            raise UserError(
                f"{place(s, w - ended)}: found {found}; expected {expected}: {mark}- at {first[mark]} says that the "
                f"file is {scheme}. Correct the tags here, or there if the file was meant to be IOB2."
            )
        if w < len(row):
            tags.append("O" if letter == "O" else f"{'B' if letter in 'BS' else 'I'}-{kind}")
        inside = kind if letter in "BI" else ""
    return tags


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
