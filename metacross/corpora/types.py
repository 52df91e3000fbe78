"""Names of entity types: how users may write them, and which of them mean the same in different corpora."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import chain

# The names of one meaning, without case, signs and spaces: first spellings of one name, each of which stands for the
# others; then names that other guidelines give to what is much the same, which are only proposed. A tagger's types are
# mostly the first of each line.
# Sources: CoNLL-2002 and -2003, OntoNotes 5's 18 types, WNUT-17's 6, GMB (geo, gpe, per, org, tim, art, eve, nat),
# GermEval 2014, HIPE 2020, SoNaR-1 (Dutch), MultiNERD.
_SAME = (
    (
        "per pers person persons people",
        "human personname personen personenname persoon personaje persona personne pessoa persone osoba",
    ),
    (
        "loc location locations place places",
        "geo gpe fac facility geoloc geolocation city country address street "
        "ort orte ortsname locatie plaats lieu lugar ubicacion local localizacao luogo misto lokalita",
    ),
    (
        "org organization organisation organizations organisations",
        "corporation company corp group institution government "
        "organisatie organisationen firma unternehmen organizacion organizacao organizzazione organizace institute",
    ),
    ("misc miscellaneous", "norp other oth sonstiges overig autre otros outro"),
    ("date dates", "dat day datum fecha data"),
    ("time times", "tim zeit tijd hora heure"),
    ("money", "currency mon geld"),
    ("percent percentage", "prozent"),
    ("product products prod", "pro produkt creativework art workofart"),
    ("event events", "eve evt ereignis gebeurtenis evenement evento"),
    ("language languages", "lang sprache taal langue"),
    ("law laws", "gesetz wet loi ley"),
    ("number numbers num", "cardinal zahl"),
)
_SPELLINGS = [frozenset(spellings.split()) for spellings, _ in _SAME]
_MEANINGS = [frozenset(f"{spellings} {others}".split()) for spellings, others in _SAME]


def named_type(name: str, known: Collection[str]) -> str | None:
    """The known type that a name stands for: in whatever case, or another spelling of it; None if there is none.

    >>> [named_type(name, ["LOC", "PER"]) for name in ("PER", "per", "Person", "location", "city")]
    ['PER', 'PER', 'PER', 'LOC', None]
    """
    return name if name in known else _among(name, known, _SPELLINGS)


def spellings(name: str) -> frozenset[str]:
    """How a type may be written that a name stands for, in lower case: as it is, and every other spelling of it.

    >>> sorted(spellings("PER")), sorted(spellings("Work_of_art"))
    (['people', 'per', 'pers', 'person', 'persons'], ['work_of_art'])
    """
    same = next((names for names in _SPELLINGS if _bare(name) in names), frozenset())
    return same | {name.lower()}


def unknown_type(name: str, known: Collection[str]) -> str:
    """What to say of a name that stands for no known type: the types that there are, and the most likely of them.

    >>> unknown_type("city", ["PER", "LOC"])
    "the label 'city'; expected one of LOC, PER. Did you mean LOC?"
    """
    likely = same_type(name, known)
    hint = f" Did you mean {likely}?" if likely else ""
    return f"the label {name[:100]!r}; expected one of {', '.join(sorted(known))}.{hint}"


def same_type(kind: str, known: Collection[str]) -> str | None:
    """The known type that most likely means the same as another corpus' type; None if there is none.

    It is a proposal for a person to look at, not a fact: only the guidelines of both corpora can tell.

    >>> same_type("person", ["LOC", "ORG", "PER"])
    'PER'
    >>> same_type("DATE", ["LOC", "ORG", "PER"]) is None
    True
    """
    return _among(kind, known, _MEANINGS)


def _among(kind: str, known: Collection[str], meanings: Iterable[Collection[str]]) -> str | None:
    """The first known type with the same bare name, or else the first that is among the names of the same meaning."""
    name = _bare(kind)
    same = next((names for names in meanings if name in names), ())
    exact = (type_ for type_ in known if _bare(type_) == name)
    return next(chain(exact, (type_ for type_ in known if _bare(type_) in same)), None)


def _bare(kind: str) -> str:
    return "".join(filter(str.isalnum, kind.casefold()))
