"""The routes of texts that nobody labelled: added, looked up, deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from metacross.client.contract import AddedTexts, TextPage
from serve.examples import KeyUsed, RequestKey
from serve.examples.texts import QueueFull, StoredText
from serve.web import example_schemas, repeats, schemas
from serve.web.problems import ProblemError, busy
from serve.web.responses import BODY, FILE, RAW_TEXT, REFUSED, STORE, problems_of
from serve.web.service import Service
from serve.web.text_labelling import TAKEN_SECONDS, TextLabeller
from serve.web.texts import FoundSentences, read_file, read_texts

_DESCRIPTION = (
    "The service finds sentences and labels them, without adaptation. Sentences with certain labels become "
    "machine-labelled examples and shape the next answer; their uncertain words have no influence. Labels by people of "
    "the same sentence are kept in their place, whichever came first. With the header `Prefer: respond-async`, and "
    "where the taggers have no time, the answer comes before: the texts are queued, and labelled as soon as there is "
    "time."
)
_QUEUED: dict[int | str, dict[str, Any]] = {202: {"model": AddedTexts, "description": "The texts are labelled later."}}


@dataclass(frozen=True)
class _Wish:
    """How texts are to be added.

    Attributes:
        waits: until they are labelled.
        key: by which the request is known when it comes again.
    """

    waits: bool
    key: RequestKey | None


def _wish(
    key: repeats.Key,
    prefer: Annotated[
        str, Header(description="respond-async: do not wait until the texts are labelled (RFC 7240).")
    ] = "",
) -> _Wish:
    return _Wish(all(part.strip().lower() != "respond-async" for part in prefer.split(",")), key)


Wish = Annotated[_Wish, Depends(_wish)]


def add_texts(app: FastAPI, service: Service, labeller: TextLabeller) -> None:
    """Adds the routes below /v1/texts."""
    _add_adding(app, service, labeller)
    _add_finding(app, service)
    _add_deleting(app, service)


def _add_adding(app: FastAPI, service: Service, labeller: TextLabeller) -> None:
    may_write = service.may("write_examples")

    @app.post(
        "/v1/texts",
        status_code=201,
        summary="Add texts that nobody labelled",
        description=_DESCRIPTION,
        responses={**problems_of(*REFUSED, *BODY, *STORE), **_QUEUED},
        dependencies=[may_write],
    )
    async def add(new: schemas.NewTexts, response: Response, wish: Wish) -> AddedTexts:
        found = await run_in_threadpool(read_texts, new.texts, service.limits)
        text = await _added(service, labeller, found, new.language, wish)
        return _answer(text, response)

    @app.post(
        "/v1/texts:import",
        status_code=201,
        summary="Add the sentences of a file that nobody labelled",
        description=_DESCRIPTION,
        responses={**problems_of(*REFUSED, *FILE, *STORE), **_QUEUED},
        dependencies=[may_write],
        openapi_extra={"requestBody": {"required": True, "content": RAW_TEXT}},
    )
    async def import_text(
        request: Request, response: Response, language: Annotated[schemas.Language, Query()], wish: Wish
    ) -> AddedTexts:
        found = await run_in_threadpool(read_file, await request.body(), service.limits)
        text = await _added(service, labeller, found, language, wish)
        return _answer(text, response)


async def _added(
    service: Service, labeller: TextLabeller, found: FoundSentences, language: str, wish: _Wish
) -> StoredText:
    """Queues the sentences, and labels them at once if the request waits; they stay queued where that is not possible.

    Raises:
        ProblemError: too many texts wait, or the request's key is that of another one.
    """
    texts = [sentence.text for sentence in found.sentences]
    taken_s = TAKEN_SECONDS if wish.waits else 0.0
    try:
        number, new = await service.stored(
            lambda store: store.texts.queue(
                texts, found=found.found, language=language, seconds=taken_s, request=wish.key
            )
        )
    except KeyUsed as error:
        raise repeats.refusal(error) from None
    except QueueFull:
        raise busy("Too many texts wait to be labelled. Try again later.", seconds=30) from None
    text = None
    if new and wish.waits:
        try:
            text = await labeller.label(number, found.sentences, language)
        except ProblemError:
            labeller.wake()
    elif new:
        labeller.wake()
    return text or await _there(service, number)


def _answer(text: StoredText, response: Response) -> AddedTexts:
    response.headers["Location"] = f"/v1/texts/{text.id}"
    response.status_code = 202 if text.state == "queued" else 201
    return text.as_answer()


def _add_finding(app: FastAPI, service: Service) -> None:
    may_read = service.may("read_examples")

    @app.get("/v1/texts", summary="Find texts", responses=problems_of(*REFUSED, *STORE), dependencies=[may_read])
    async def listed(query: Annotated[example_schemas.TextQuery, Query()]) -> TextPage:
        found, total = await service.stored(
            lambda store: store.texts.page(
                query.after,
                query.limit + 1,
                state=query.state,
                language=query.language,
                newest=query.order == "newest",
            )
        )
        page = found[: query.limit]
        last = page[-1].id if len(found) > len(page) else None
        return TextPage(tuple(text.as_answer() for text in page), next=last, total=total)

    @app.get("/v1/texts/{number}", summary="One text", responses=problems_of(*REFUSED, *STORE), dependencies=[may_read])
    async def one(number: int) -> AddedTexts:
        return (await _there(service, number)).as_answer()


def _add_deleting(app: FastAPI, service: Service) -> None:
    @app.delete(
        "/v1/texts/{number}",
        status_code=204,
        summary="Delete a text",
        responses=problems_of(*REFUSED, *STORE),
        dependencies=[service.may("write_examples")],
    )
    async def delete(
        number: int,
        examples: Annotated[
            bool, Query(description="Delete its machine-labelled examples, too; those that people corrected stay.")
        ] = False,
    ) -> Response:
        if not await service.stored(lambda store: store.texts.delete(number, examples=examples)):
            raise _no_text(number)
        return Response(status_code=204)


async def _there(service: Service, number: int) -> StoredText:
    text = await service.stored(lambda store: store.texts.get(number))
    if text is None:
        raise _no_text(number)
    return text


def _no_text(number: int) -> ProblemError:
    return ProblemError(404, f"There is no text {number}. GET /v1/texts lists them.")
