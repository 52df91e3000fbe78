"""Names of files in answers: none tells where something is on the server."""

from __future__ import annotations

import pytest

from serve.places import shown_encoder, shown_place


@pytest.mark.parametrize(
    ("place", "corpora", "expected"),
    [
        ("/home/ana/en/train.conll:7", ["/home/ana/en/train.conll"], "train.conll:7"),
        ("../en/train.conll:7", ["../en/train.conll"], "train.conll:7"),
        ("/home/ana/brat/1998/viaje.txt", ["/home/ana/brat/"], "1998/viaje.txt"),
        ("/home/ana/de.txt:3", ["/home/ana/en/train.conll", "/home/ana/brat"], "de.txt:3"),  # an adopted language
        ("example 5", ["train.conll"], "example 5"),
        ("hf:conll/2003:17", ["hf:conll/2003"], "hf:conll/2003:17"),
        ("", ["."], ""),
    ],
)
def test_a_place_is_a_files_name_or_its_path_within_the_corpus(place: str, corpora: list[str], expected: str) -> None:
    assert shown_place(place, tuple(corpora)) == expected


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        ("/models/xlm-r", "xlm-r"),
        ("./xlm-r", "xlm-r"),
        ("~/models/xlm-r/", "xlm-r"),
        ("models/of/ana/xlm-r", "xlm-r"),
        ("bert-base-multilingual-cased", "bert-base-multilingual-cased"),
        ("intfloat/multilingual-e5-small", "intfloat/multilingual-e5-small"),
    ],
)
def test_an_encoder_is_its_name(encoder: str, expected: str) -> None:
    assert shown_encoder(encoder) == expected
