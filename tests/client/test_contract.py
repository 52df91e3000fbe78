"""The answers' types: what is sent, what is read, and what the OpenAPI document says of both."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from pydantic import TypeAdapter

import metacross.client
from metacross.client import contract
from metacross.client.contract import AddedExample, AddedTexts, Entity, Example, Model, Result, Support

TYPES = [kind for kind in vars(contract).values() if is_dataclass(kind)]
RESULT = TypeAdapter(Result)
FOUND = {"start": 0, "end": 3, "text": "Ada", "label": "PER", "score": 0.5}
LABELLED = {"start": 0, "end": 3, "text": "Bob", "label": "PER"}


def test_what_is_none_is_left_out_or_null() -> None:
    plain = Result("Ada", (Entity(0, 3, "Ada", "PER", 0.5),), 1, True)
    sent: dict[str, Any] = {"text": "Ada", "entities": [FOUND], "windows": 1, "adapted": True}
    assert RESULT.dump_python(plain, mode="json") == sent
    support = Support(0.75, "Bob", (Entity(0, 3, "Bob", "PER"),), 0, 3, "en.conll:1")
    explained = Result("Ada", plain.entities, 1, True, (support,), ())
    told = {"similarity": 0.75, "text": "Bob", "entities": [LABELLED], "start": 0, "end": 3, "place": "en.conll:1"}
    assert RESULT.dump_python(explained, mode="json") == {**sent, "support": [{**told, "example": None}], "plain": []}
    for result in (plain, explained):
        assert RESULT.validate_json(RESULT.dump_json(result)) == result


def test_unknown_keys_are_passed_over_and_missing_ones_have_a_default() -> None:
    read = RESULT.validate_python({"text": "Ada", "entities": [{**LABELLED, "new": 1}], "new": {}})
    assert read == Result("Ada", (Entity(0, 3, "Bob", "PER"),))
    assert TypeAdapter(Model).validate_python({"bundle": "b", "method": "base"}) == Model("b", "base")
    assert TypeAdapter(Example).validate_python({"id": 1, "text": "", "entities": []}) == Example(1, "", ())


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_the_document_says_what_is_sent(kind: type) -> None:
    schema = TypeAdapter(kind).json_schema(mode="serialization")
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    assert list(schema["properties"]) == names
    machine = ["confidence", "uncertain"]
    example = ["changed", "last_used", *machine, "labelled_by", "from_text"]
    omitted = {
        AddedExample: [*example, "before"],
        AddedTexts: ["labelled", "reason"],
        Entity: ["score"],
        Example: example,
        Result: ["support", "plain", "missing_shards"],
        Support: [*machine, "language", "voted", "influences"],
    }.get(kind, [])
    assert schema["required"] == [name for name in names if name not in omitted]
    assert not [name for name, field in schema["properties"].items() if "default" in field]
    assert all("anyOf" not in schema["properties"][name] for name in omitted), "never null"


def test_an_entity_that_was_found_has_a_score() -> None:
    properties = RESULT.json_schema(mode="serialization")["properties"]
    for name in ("entities", "plain"):
        assert properties[name]["items"] == {"$ref": "#/$defs/Entity", "required": ["score"]}


def test_the_public_names_need_neither_torch_nor_fastapi() -> None:
    heavy = "{'torch', 'transformers', 'ray', 'numpy', 'fastapi'}"
    code = f"import sys; from metacross.client import *; print(sorted({heavy} & set(sys.modules)), Client, Entity)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.startswith("[] <class"), done.stderr
    assert {"AsyncClient", "Client", "Entity", "RequestRefused"} <= set(metacross.client.__all__)
