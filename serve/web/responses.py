"""The answers that routes may give, for the OpenAPI document: the statuses of their problems, and files."""

from __future__ import annotations

from typing import Any

from metacross.client.contract import Problem
from serve.web.lines import NDJSON
from serve.web.problems import MEDIA_TYPE

REFUSED = (401, 403, 422, 429)  # of every route below /v1
FILE = (408, 413, 415)  # where a body is read
BODY = (400, *FILE)  # where it is read as JSON
WAIT = (503, 504)  # where the backend is asked
STORE = (404, 503)  # where the store is asked; 404: there is none, or no such example

TEXT = {"schema": {"type": "string"}}
LABELLED_FILES = {  # what `metacross tag` writes, and all else that `metacross data` reads as text
    NDJSON: {**TEXT, "example": '{"tokens": ["Quito", "espera"], "ner_tags": ["B-LOC", "O"]}\n'},
    "text/plain": {**TEXT, "example": "Quito\tB-LOC\nespera\tO\n"},
}
RAW_TEXT = {"text/plain": {**TEXT, "example": "Der Zug nach Bern fiel aus.\n"}}


def problems_of(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's `responses`: the problems that it may answer with, and 500, which every route may."""
    problem = {"model": Problem, "content": {MEDIA_TYPE: {}}}
    return {status: problem for status in sorted({*statuses, 500})}
