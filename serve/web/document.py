"""The OpenAPI document: what FastAPI makes of the routes, and what it cannot know about requests and answers."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from serve.web import problems
from serve.web.limits import Limits

_TEXT = {"schema": {"type": "string"}}
_ALWAYS = {
    "X-Request-Id": {
        "description": "The id that the request came with, or a new one.",
        "required": True,
        **_TEXT,
    }
}
_LOCATION = {"Location": {"description": "The path of what was made, of the first one.", "required": True, **_TEXT}}
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds to wait.", "required": True, "schema": {"type": "integer", "minimum": 1}}
}
_BY_STATUS = {
    "201": _LOCATION,
    "202": _LOCATION,
    "401": {"WWW-Authenticate": {"description": "How to send a token.", "required": True, **_TEXT}},
    "429": _RETRY_AFTER,
    "503": _RETRY_AFTER,
}
_PROBLEM = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}


class DocumentedAPI(FastAPI):
    """FastAPI whose document also has the media type of problems, the headers of answers, and the limits.

    Args:
        limits: what one request may ask for.
        **settings: keyword arguments of FastAPI.
    """

    def __init__(self, *, limits: Limits, **settings: Any) -> None:
        super().__init__(**settings)
        self._limits = limits

    def openapi(self) -> dict[str, Any]:
        """The document. FastAPI keeps it, so this adds to the same document again, which changes nothing."""
        document = super().openapi()
        for operations in document["paths"].values():
            for operation in operations.values():
                for status, response in operation["responses"].items():
                    response["headers"] = {**_ALWAYS, **_BY_STATUS.get(status, {})}
                    if problems.MEDIA_TYPE in response.get("content", {}):
                        # FastAPI lists the model under the media type of the route's good answers.
                        response["content"] = _PROBLEM
        self._limit(document["components"]["schemas"])
        stream = document["paths"]["/v1/entities:stream"]["post"]
        parameter = next(parameter for parameter in stream["parameters"] if parameter["name"] == "neighbours")
        self._limit_neighbours(parameter, parameter["schema"])
        return document

    def _limit(self, models: dict[str, Any]) -> None:
        entities = models["EntitiesRequest"]["properties"]
        for text in (entities["text"], models["NewExample"]["properties"]["text"]):
            _not_null(text)["maxLength"] = self._limits.characters
        texts, words = _not_null(entities["texts"]), _not_null(entities["words"])
        texts["maxItems"] = words["maxItems"] = self._limits.texts
        new_texts = models["NewTexts"]["properties"]["texts"]
        new_texts["maxItems"] = self._limits.texts
        texts["items"]["maxLength"] = new_texts["items"]["maxLength"] = self._limits.characters
        together = f"At most {self._limits.characters} characters together."
        for field in (entities["texts"], entities["words"], new_texts):
            field["description"] = together
        self._limit_neighbours(entities["neighbours"], entities["neighbours"])

    def _limit_neighbours(self, described: dict[str, Any], schema: dict[str, Any]) -> None:
        """Tells the limits of neighbours, which are a field of a body or a parameter of a query."""
        _not_null(schema)["maximum"] = self._limits.neighbours
        described["description"] = (
            "Sentences to adapt to; null: as in training. Times the characters of the text, or of all texts together, "
            f"at most {self._limits.work}."
        )


def _not_null(field: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field where it is not null."""
    schema: dict[str, Any] = next(case for case in field["anyOf"] if case["type"] != "null")
    return schema
