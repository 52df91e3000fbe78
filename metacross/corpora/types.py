"""Names of entity types: which of them mean the same in different corpora."""

from __future__ import annotations

from collections.abc import Collection

# The names of one meaning, without case, signs and spaces. A tagger's types are mostly the first of each line.
# Sources: CoNLL-2002 and -2003, OntoNotes 5's 18 types, WNUT-17's 6, GMB (geo, gpe, per, org, tim, art, eve, nat),
# GermEval 2014, HIPE 2020, SoNaR-1 (Dutch), MultiNERD.
_SAME = (
    "per pers person persons people human personname "
    "personen personenname persoon personaje persona personne pessoa persone osoba",
    "loc location locations place places geo gpe fac facility geoloc geolocation city country address street "
    "ort orte ortsname locatie plaats lieu lugar ubicacion local localizacao luogo misto lokalita",
    "org organization organisation organizations corporation company corp group institution government "
    "organisatie organisationen firma unternehmen organizacion organizacao organizzazione organizace institute",
    "misc miscellaneous norp other oth sonstiges overig autre otros outro",
    "date dat day datum fecha data",
    "time tim zeit tijd hora heure",
    "money currency mon geld",
    "percent percentage prozent",
    "product prod pro produkt creativework art workofart",
    "event eve evt ereignis gebeurtenis evenement evento",
    "language lang sprache taal langue",
    "law gesetz wet loi ley",
    "number num cardinal zahl",
)
_MEANINGS = [frozenset(line.split()) for line in _SAME]


def same_type(kind: str, known: Collection[str]) -> str | None:
    """The known type that most likely means the same as another corpus' type; None if there is none.

    It is a proposal for a person to look at, not a fact: only the guidelines of both corpora can tell.

    >>> same_type("person", ["LOC", "ORG", "PER"])
    'PER'
    >>> same_type("DATE", ["LOC", "ORG", "PER"]) is None
    True
    """
    name = _bare(kind)
    for type_ in known:
        if _bare(type_) == name:
            return type_
    for names in _MEANINGS:
        if name in names:
            return next((type_ for type_ in known if _bare(type_) in names), None)
    return None


def _bare(kind: str) -> str:
    return "".join(filter(str.isalnum, kind.casefold()))
