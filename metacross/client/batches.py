"""Any number of texts, in requests of bounded size, and what is answered by a stream that may break off.

Fewer texts than a request may have are one POST /v1/entities: all are answered by one checkpoint, or none is. More go
through POST /v1/entities:stream, request after request. Its limits hold for each line, what was answered before a
failure is kept, and a service with rates slows it down in place of refusing it. httpx reads no answer before it has
sent the whole body, so a body has to be small enough to be sent while nobody reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import httpx
from pydantic import TypeAdapter

from metacross.client.contract import FieldError, Problem, Result
from metacross.client.wire import PROBLEM, Call, encoded
from metacross.corpora.arguments import refuse_no_item

Words = Sequence[str]
ItemT = TypeVar("ItemT", str, Words)

BATCH_TEXTS = 64  # a request has at most so many texts
BATCH_CHARACTERS = 1 << 15  # a request has at most so many; a longer text is a request by itself

_RESULT, _PROBLEM = TypeAdapter(Result), TypeAdapter(Problem)


@dataclass(frozen=True)
class Batch(Generic[ItemT]):
    """Texts that are sent in one request.

    Attributes:
        items: texts, or lists of words.
        first: the number of the first one among all that the caller gave.
        is_all: whether the caller gave no others.
    """

    items: Sequence[ItemT]
    first: int
    is_all: bool


class Batches(Generic[ItemT]):
    """Collects items until they fill a request."""

    def __init__(self) -> None:
        self._held: list[ItemT] = []
        self._characters = self._first = 0

    def add(self, item: ItemT) -> Iterator[Batch[ItemT]]:
        """Adds an item; gives the requests that are then full. TypeError for what is neither text nor words."""
        refuse_no_item(item, self._first + len(self._held))
        characters = len(item) if isinstance(item, str) else sum(map(len, item)) + len(item)
        if self._held and self._characters + characters > BATCH_CHARACTERS:
            yield self._take()
        self._held.append(item)
        self._characters += characters
        if len(self._held) >= BATCH_TEXTS or self._characters >= BATCH_CHARACTERS:
            yield self._take()

    def rest(self) -> Iterator[Batch[ItemT]]:
        """The last request, where something is left for it."""
        if self._held:
            is_all = self._first == 0
            yield replace(self._take(), is_all=is_all)

    def _take(self) -> Batch[ItemT]:
        batch = Batch(self._held, self._first, is_all=False)
        self._held, self._characters, self._first = [], 0, self._first + len(self._held)
        return batch


class Streamed(Generic[ItemT]):
    """A batch that is sent to :stream, and its answers as far as they came. It sends nothing itself.

    Args:
        batch: what is sent.
        options: as `wire.tag_options` gives them.
    """

    def __init__(self, batch: Batch[ItemT], options: Mapping[str, Any]) -> None:
        self._batch: Batch[ItemT] = batch
        self._query = {name: _in_query(value) for name, value in options.items() if value is not None}
        self._results: list[Result | None] = [None] * len(batch.items)
        self._rest = b""  # of a line that is not complete
        self._unreadable: bytes | None = None  # the first line that is no answer
        self._problems: list[Problem] = []

    @property
    def answered(self) -> int:
        """How many texts are answered."""
        return sum(result is not None for result in self._results)

    @property
    def is_complete(self) -> bool:
        """Whether all of them are."""
        return None not in self._results

    def call(self) -> Call[tuple[int, Result | Problem]]:
        """POST /v1/entities:stream with those texts that are not answered; what was begun before is forgotten."""
        self._rest, self._unreadable, self._problems = b"", None, []
        lines = [
            encoded({"id": number, "text" if isinstance(item, str) else "words": item}) + b"\n"
            for number, (item, result) in enumerate(zip(self._batch.items, self._results, strict=True))
            if result is None
        ]
        headers = {"content-type": "application/x-ndjson"}
        return Call("POST", "v1/entities:stream", self._read, b"".join(lines), self._query, headers)

    def take(self, piece: bytes) -> None:
        """Takes a piece of the answer's body; each line that it completes answers a text, or says why it cannot."""
        # Not httpx's lines: these also end at U+2028 and others that JSON holds as they are.
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            try:
                number, answer = self._read(json.loads(line))
            except (ValueError, RecursionError):
                self._unreadable = self._unreadable or line
                continue
            if isinstance(answer, Result):
                self._results[number] = answer
            else:
                self._problems.append(self._of_field(number, answer))

    def outcome(self, response: httpx.Response) -> httpx.Response | httpx.RequestError:
        """How a request ended whose answer was read: as the same would end if each line were a request of its own."""
        if response.status_code != httpx.codes.OK or self.is_complete:
            return response
        if self._unreadable is not None:
            return httpx.Response(response.status_code, headers=_named(response), content=self._unreadable)
        if not self._problems:
            return httpx.RemoteProtocolError("the answer ended before its last line")
        problem = min(self._problems, key=lambda problem: problem.status)  # one that is refused, if there is one
        headers = {**_named(response), "content-type": PROBLEM}
        return httpx.Response(problem.status, headers=headers, content=_PROBLEM.dump_json(problem))

    def results(self, otherwise: Callable[[], object]) -> Iterator[Result]:
        """The answers in the order of the texts; at the first text that has none, calls `otherwise`, which raises."""
        for result in self._results:
            if result is None:
                otherwise()
                return
            yield result

    def _read(self, line: Any) -> tuple[int, Result | Problem]:
        """The number of a text in the batch, and its answer or why there is none. ValueError for anything else."""
        number = line.get("id") if isinstance(line, dict) else None
        if not isinstance(number, int) or not 0 <= number < len(self._results):
            raise ValueError(f"a line with the id {number!r}, which is none of those sent")
        if "error" in line:
            return number, _PROBLEM.validate_python(line["error"])
        return number, _RESULT.validate_python(line.get("result"))

    def _of_field(self, number: int, problem: Problem) -> Problem:
        """A line's problem, which names the text as the caller counts."""
        name = "texts" if isinstance(self._batch.items[number], str) else "words"
        return replace(problem, errors=(FieldError(f"{name}.{self._batch.first + number}", problem.detail),))


def _in_query(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _named(response: httpx.Response) -> dict[str, str]:
    """The header by which the service's log knows the request."""
    name = response.headers.get("x-request-id")
    return {"x-request-id": name} if name else {}
