"""What is checked of a request before its body is read: its token, its parameters, and of what kind its body is.

FastAPI reads a body before it looks at the dependencies of a route, so strangers could make it read all that a body may
have. Parameters of a query that it does not know, and the kind of a body that is read as it is, it does not look at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from serve.web.problems import ProblemError

_JSON = re.compile(r"application/([\w.+-]+\+)?json")
# A form has its fields' names around the text; of other kinds that are no text, the reader of the file says what it is.
_FORM = re.compile(r"multipart/.*|application/x-www-form-urlencoded")


class EarlyChecks(APIRoute):
    """A route whose dependencies, which look at headers alone, are also called before the body is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        handle = super().get_route_handler()
        checks = [dependency.dependency for dependency in self.dependencies]
        parameters = _query_parameters(self)

        async def checked(request: Request) -> Response:
            for check in checks:
                if check is not None:
                    check(request)
            if self.path.startswith("/v1/"):
                _refuse_unknown_parameters(request, parameters)
            _refuse_wrong_body(request, is_json=self.body_field is not None)
            return await handle(request)

        return checked


def _query_parameters(route: APIRoute) -> list[str]:
    names: list[str] = []
    for parameter in route.dependant.query_params:
        model: Any = parameter.field_info.annotation
        is_model = isinstance(model, type) and issubclass(model, BaseModel)
        names += model.model_fields if is_model else [parameter.alias]
    return sorted(names)


def _refuse_unknown_parameters(request: Request, known: list[str]) -> None:
    for name in request.query_params:
        if name not in known:
            expected = f"expected one of {', '.join(known)}" if known else "there are none here"
            raise ProblemError(422, f"{name[:100]!r} is no parameter of this address; {expected}.", field=name[:100])


def _refuse_wrong_body(request: Request, *, is_json: bool) -> None:
    """Raises ProblemError 415 for a body that is compressed or of a kind that is not read here."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ProblemError(415, "The body is compressed. Send it as it is, without Content-Encoding.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if is_json and not _JSON.fullmatch(kind):
        said = f"The body is said to be {kind[:100]}" if kind else "Nothing says of what kind the body is"
        raise ProblemError(415, f"{said}. Send a JSON object, with the header content-type: application/json.")
    if _FORM.fullmatch(kind):
        raise ProblemError(
            415,
            f"The body is said to be a form ({kind[:100]}). Send the text or lines alone, with the header "
            "content-type: text/plain or application/x-ndjson (curl: -H 'content-type: ...' --data-binary @FILE).",
        )
