"""The routes of stored examples: added, found, corrected, deleted, and as files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from metacross.client.contract import (
    AddedExamples,
    DeletedExamples,
    Example,
    ExamplePage,
    ImportedExamples,
)
from metacross.errors import UserError
from serve.examples import Addition, ExampleStore, KeyUsed, RequestKey, Said, SentenceTaken, StoredExample
from serve.web import example_schemas, repeats, schemas
from serve.web.exports import FILES, ExportedFile
from serve.web.imports import read_examples
from serve.web.labelled_sentences import said_after, said_in
from serve.web.problems import ProblemError
from serve.web.responses import BODY, FILE, LABELLED_FILES, REFUSED, STORE, WAIT, problems_of
from serve.web.service import Service

ODDITIES = "Metacross-Oddities"  # header of an exported file: what the format could not hold
_ADDING = (
    "There is one example for a sentence; spaces and the borders of words make no difference. If the sentence is "
    "there, it gets these labels in place of those that it has, and `outcome` says so."
)
_LINKS = {  # of the answer to new examples: where the first of them is
    method: {
        "operationRef": f"#/paths/~1v1~1examples~1{{number}}/{method}",
        "parameters": {"number": "$response.body#/examples/0/id"},
    }
    for method in ("get", "delete")
}


def add_examples(app: FastAPI, service: Service) -> None:
    """Adds the routes below /v1/examples."""
    _add_adding(app, service)
    _add_importing(app, service)
    _add_finding(app, service)
    _add_exporting(app, service)
    _add_correcting(app, service)
    _add_deleting(app, service)


# --- adding ----------------------------------------------------------------------------------------------------------


def _add_adding(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/examples",
        status_code=201,
        summary="Add examples",
        description=_ADDING,
        responses={**problems_of(*REFUSED, *BODY, *STORE, *WAIT), **_added_as(AddedExamples)},
        dependencies=[service.may("write_examples")],
    )
    async def add(new: schemas.NewExamples, response: Response, key: repeats.Key) -> AddedExamples:
        labels = (await service.model()).labels
        said = [
            said_in(example, labels, service.limits, field=f"examples.{i}") for i, example in enumerate(new.examples)
        ]
        additions = await _put(service, said, key)
        _tell_of_new(response, additions)
        return AddedExamples(**_answer(additions))


def _add_importing(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/examples:import",
        status_code=201,
        summary="Add the sentences of a file",
        description=_ADDING,
        responses={**problems_of(*REFUSED, *FILE, *STORE, *WAIT), **_added_as(ImportedExamples)},
        dependencies=[service.may("write_examples")],
        openapi_extra={"requestBody": {"required": True, "content": LABELLED_FILES}},
    )
    async def import_file(
        request: Request,
        response: Response,
        key: repeats.Key,
        language: Annotated[schemas.LanguageIfKnown, Query()] = "",
    ) -> ImportedExamples:
        labels = (await service.model()).labels
        read = partial(read_examples, await request.body(), labels=labels, language=language, limits=service.limits)
        sentences, oddities = await run_in_threadpool(read)
        said = [Said(sentence, language) for sentence in sentences]
        additions = await _put(service, said, key)
        _tell_of_new(response, additions)
        return ImportedExamples(**_answer(additions), oddities=tuple(oddities))


async def _put(service: Service, said: Sequence[Said], key: RequestKey | None) -> list[Addition]:
    sentences, languages = [one.sentence for one in said], [one.language for one in said]
    try:
        return await service.stored(lambda store: store.add(sentences, languages, request=key))
    except KeyUsed as error:
        raise repeats.refusal(error) from None


def _answer(additions: Sequence[Addition]) -> dict[str, Any]:
    outcomes = [addition.outcome for addition in additions]
    counts = {name: outcomes.count(name) for name in ("added", "replaced", "unchanged")}
    return {"examples": tuple(addition.as_answer() for addition in additions), **counts}


def _tell_of_new(response: Response, additions: Sequence[Addition]) -> None:
    """Says where the first example is, if there are new ones; otherwise nothing was created."""
    if any(addition.outcome == "added" for addition in additions):
        response.headers["Location"] = f"/v1/examples/{additions[0].example.id}"
    else:
        response.status_code = 200


def _added_as(kind: type[AddedExamples]) -> dict[int | str, dict[str, Any]]:
    """The good answers to new examples."""
    return {200: {"model": kind, "description": "All of the sentences were there."}, 201: {"links": _LINKS}}


# --- finding ---------------------------------------------------------------------------------------------------------


def _add_finding(app: FastAPI, service: Service) -> None:
    @app.get(
        "/v1/examples",
        summary="Find examples",
        responses=problems_of(*REFUSED, *STORE),
        dependencies=[service.may("read_examples")],
    )
    async def listed(query: Annotated[example_schemas.ExampleQuery, Query()]) -> ExamplePage:
        wanted, newest = query.filter(), query.order == "newest"
        # One more than asked for says whether there is a next page.
        found, total = await service.stored(
            lambda store: (store.page(query.after, query.limit + 1, wanted=wanted, newest=newest), store.total(wanted))
        )
        page = found[: query.limit]
        last = page[-1].id if len(found) > len(page) else None
        return ExamplePage(tuple(example.as_answer() for example in page), next=last, total=total)

    @app.get(
        "/v1/examples/{number}",
        summary="One example",
        responses=problems_of(*REFUSED, *STORE),
        dependencies=[service.may("read_examples")],
    )
    async def one(number: int) -> Example:
        return _found(number, await service.stored(lambda store: store.get(number)))


def _add_exporting(app: FastAPI, service: Service) -> None:
    @app.get(
        "/v1/examples:export",
        summary="Examples as a file",
        description=(
            "A file has no languages: export one at a time. Labels by a machine count as people's once they are "
            f"imported; `label-studio-predictions` keeps them apart. The header {ODDITIES} lists, as JSON, what the "
            "format could not hold."
        ),
        responses={**problems_of(*REFUSED, *STORE), 200: {"content": FILES, "description": "The file."}},
        dependencies=[service.may("read_examples")],
        response_class=Response,
    )
    async def export(query: Annotated[example_schemas.ExportQuery, Query()]) -> Response:
        file = await service.stored(lambda store: ExportedFile(store, query.filter(), query.format))
        headers = {"Content-Disposition": f'attachment; filename="{file.name}"'}
        if file.oddities:
            headers[ODDITIES] = json.dumps(file.oddities)
        return Response(file.content, media_type=file.media_type, headers=headers)


def _found(number: int, example: StoredExample | None) -> Example:
    if example is None:
        raise _no_example(number)
    return example.as_answer()


def _no_example(number: int) -> ProblemError:
    return ProblemError(404, f"There is no example {number}. GET /v1/examples lists them.")


# --- correcting ------------------------------------------------------------------------------------------------------


def _add_correcting(app: FastAPI, service: Service) -> None:
    may_write = service.may("write_examples")

    @app.put(
        "/v1/examples/{number}",
        summary="Replace an example",
        description="Its labels are people's from now on. Its number and the time when it was added stay.",
        responses=problems_of(*REFUSED, *BODY, *STORE, *WAIT, 409),
        dependencies=[may_write],
    )
    async def replace(number: int, new: schemas.NewExample) -> Example:
        said = said_in(new, (await service.model()).labels, service.limits)
        return await _correct(service, number, lambda old: said)

    @app.patch(
        "/v1/examples/{number}",
        summary="Change an example's labels or its language",
        description="Its labels are people's from now on. Its text and its words stay.",
        responses=problems_of(*REFUSED, *BODY, *STORE, *WAIT),
        dependencies=[may_write],
    )
    async def change(number: int, changed: example_schemas.ExampleChange) -> Example:
        labels = (await service.model()).labels
        return await _correct(service, number, lambda old: said_after(changed, old, labels))


async def _correct(service: Service, number: int, change: Callable[[StoredExample], Said]) -> Example:
    try:
        return _found(number, await service.stored(lambda store: store.correct(number, change)))
    except SentenceTaken as error:
        raise ProblemError(409, str(error)) from None
    except UserError as error:
        raise ProblemError(422, str(error)) from None


# --- deleting --------------------------------------------------------------------------------------------------------


def _add_deleting(app: FastAPI, service: Service) -> None:
    may_write = service.may("write_examples")

    @app.delete(
        "/v1/examples/{number}",
        status_code=204,
        summary="Delete an example",
        responses=problems_of(*REFUSED, *STORE),
        dependencies=[may_write],
    )
    async def delete(number: int) -> Response:
        if not await service.stored(lambda store: store.delete(number)):
            raise _no_example(number)
        return Response(status_code=204)

    @app.post(
        "/v1/examples:delete",
        summary="Delete several examples",
        responses=problems_of(*REFUSED, *BODY, *STORE),
        dependencies=[may_write],
    )
    async def delete_several(which: example_schemas.ExamplesToDelete) -> DeletedExamples:
        return await service.stored(partial(_deleted, which=which))


def _deleted(store: ExampleStore, *, which: example_schemas.ExamplesToDelete) -> DeletedExamples:
    if which.matching is not None:
        return DeletedExamples(store.delete_matching(which.matching.filter()))
    ids = dict.fromkeys(which.ids or ())
    gone = store.delete_ids(list(ids))
    return DeletedExamples(len(gone), tuple(id for id in ids if id not in gone))
