"""Who may do what: bearer tokens from a file or the environment.

A list of tokens is YAML, in a file or in METACROSS_TOKENS:

    - {name: ana, token: "<16-or-more-characters>", may: [tag, read_examples, write_examples]}

Log lines, metrics and messages have a token's name, never the token.

Without such a list everybody may do everything. On loopback the service does so unasked. On any other address it must
be told to (`serve.auth: none`), since something else has to keep strangers out then.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, get_args

import yaml
from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.datastructures import Headers

from metacross.errors import UserError
from metacross.yaml_nodes import read_yaml
from serve.web.problems import ProblemError

VARIABLE = "METACROSS_TOKENS"
OPEN = "none"
Grant = Literal["tag", "read_examples", "write_examples", "read_metrics"]
_BEARER = HTTPBearer(auto_error=False)  # refuses nothing; it only puts into the document that a token is needed


class Token(BaseModel):
    """A token, whose it is, and what it grants.

    Tokens of the same name are one client's: what it may ask for is counted together, so a token can be replaced.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._@-]{0,63})?$")] = ""
    token: Annotated[str, Field(min_length=16, pattern=r"^[\x21-\x7e]+$", repr=False)]
    may: Annotated[frozenset[Grant], Field(min_length=1)]


def read_tokens(setting: str) -> list[Token] | None:
    """Reads the tokens that serve.auth names.

    Args:
        setting: serve.auth: a file, or `environment` for the variable METACROSS_TOKENS; "" or `none` for no tokens.

    Returns:
        The tokens; None where everybody may do everything. One without a name is called token-N, by its place.

    Raises:
        UserError: the list cannot be read, or is not a list of tokens; the message shows no token.
    """
    if setting in ("", OPEN):
        return None
    if setting == "environment":
        text = os.environ.get(VARIABLE, "")
        if not text:
            raise UserError(f"serve.auth=environment, but {VARIABLE} is not set. Set it, or name a file.")
        data, source = yaml.safe_load(text), VARIABLE
    else:
        data, source = read_yaml(Path(setting)), setting
    try:
        tokens = TypeAdapter(list[Token]).validate_python(data)
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg'].lower()}" for e in error.errors()[:3])
        raise UserError(
            f"{source}: no list of tokens ({where}). Expected, for example: "
            '- {token: "<16-or-more-characters>", may: [tag, read_examples, write_examples]}'
        ) from None
    if not tokens:
        raise UserError(f"{source}: the list of tokens is empty. Add one, or leave serve.auth empty.")
    return [
        token if token.name else token.model_copy(update={"name": f"token-{i}"}) for i, token in enumerate(tokens, 1)
    ]


def refuse_open_door(setting: str, host: str | None) -> None:
    """Refuses to answer others without tokens, unless the setting says so.

    Args:
        setting: serve.auth.
        host: the address that HTTP is answered on; None is every address.

    Raises:
        UserError: others can reach the service, and serve.auth says nothing.
    """
    if setting or is_loopback(host):
        return
    raise UserError(
        f"serve.auth is empty, but the service answers on {host or 'every address'}, where others can reach it. Name "
        f"tokens (serve.auth=FILE or serve.auth=environment), let it answer on 127.0.0.1, or, where something else "
        f"keeps strangers out, say serve.auth={OPEN}."
    )


def is_loopback(host: str | None) -> bool:
    """Whether only this machine reaches what answers on a host; None is every address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False


def _anybody(request: Request) -> None:
    """The check of a service without tokens."""


def token_of(headers: Headers, tokens: Sequence[Token]) -> Token | None:
    """The token that a request comes with; None where it has none of these.

    It is compared with all of them, each in constant time, so that the time taken reveals nothing.
    """
    scheme, _, given = headers.get("authorization", "").partition(" ")
    found = None
    for token in tokens:
        if hmac.compare_digest(given.encode("utf-8", "replace"), token.token.encode()):
            found = token
    return found if scheme.lower() == "bearer" else None


def needs(tokens: list[Token] | None, grant: Grant) -> Callable[..., None]:
    """A FastAPI dependency that lets a request pass if its token has this grant."""
    if tokens is None:
        return _anybody

    def check(request: Request, documented: Annotated[object, Depends(_BEARER)] = None) -> None:
        grants = grants_of(tokens, request)
        if grant not in grants:
            raise ProblemError(403, f"This token may {', '.join(sorted(grants))}; it needs {grant}.")

    return check


def grants_of(tokens: list[Token] | None, request: Request) -> frozenset[str]:
    """What a request may do. ProblemError 401 where a token is needed and none of them comes with it."""
    if tokens is None:
        return frozenset(get_args(Grant))
    token = token_of(request.headers, tokens)
    if token is None:
        raise ProblemError(
            401,
            "A token is needed: send the header Authorization: Bearer TOKEN.",
            headers={"WWW-Authenticate": 'Bearer realm="metacross"'},
        )
    return token.may
