"""Names of files as answers show them: none of them tells where something is on the server."""

from __future__ import annotations

from functools import lru_cache
from pathlib import PurePath

from metacross.corpora.formats.hub import PREFIX


@lru_cache(maxsize=1 << 15)  # the explanation of a long text names thousands of places, many of them often
def shown_place(place: str, corpora: tuple[str, ...]) -> str:
    """The place of a labelled sentence: its file's name, or its path within a corpus that is a directory, and its line.

    Args:
        place: "file:line" where training read the sentence, or what else says where it is from.
        corpora: files and directories of the bundle's source corpora, as the bundle's configuration names them.

    >>> shown_place("/home/ana/en/train.conll:7", ("/home/ana/en/train.conll",))
    'train.conll:7'
    >>> shown_place("/home/ana/brat/1998/viaje.ann:3", ("/home/ana/brat/",))
    '1998/viaje.ann:3'
    >>> shown_place("example 5", ("train.conll",)), shown_place("hf:conll/2003:17", ("hf:conll/2003",))
    ('example 5', 'hf:conll/2003:17')
    """
    if not place or place.startswith(PREFIX):  # a dataset's name is no path
        return place
    file = PurePath(place)
    for corpus in corpora:
        if file.is_relative_to(corpus):
            return str(file.relative_to(corpus))
    return file.name


def shown_encoder(encoder: str) -> str:
    """An encoder as its users know it: its name, without the directories of a path.

    >>> [shown_encoder(name) for name in ("/models/xlm-r", "./xlm-r", "~/xlm-r", "intfloat/multilingual-e5-small")]
    ['xlm-r', 'xlm-r', 'xlm-r', 'intfloat/multilingual-e5-small']
    """
    is_path = encoder.startswith(("/", ".", "~")) or encoder.count("/") > 1
    return PurePath(encoder).name if is_path else encoder
