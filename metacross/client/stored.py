"""What both clients do with the examples and texts that a service stores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Unpack

from metacross.client import example_calls as calls
from metacross.client.contract import AddedExample, AddedTexts, DeletedExamples, Entity, Example, ImportedExamples
from metacross.client.example_calls import ExampleFilters, NewExample, Pages
from metacross.client.wire import Call, T

State = Literal["queued", "labelled", "failed"]
PageCall = Callable[[int | None], Call[Pages[T]]]  # the call for the page after an id; None: for the first one


class StoredThings(ABC):
    """The methods of `Client` for examples and texts. A call that is sent again is done once."""

    def add_examples(self, examples: Iterable[NewExample], *, language: str = "") -> list[AddedExample]:
        """Lets labelled sentences shape answers from now on; they are on the service's disk when this returns.

        Args:
            examples: {"text", "entities": [{"start", "end", "label"}]} or {"words", "tags"} with IOB2 tags, each
                with "language" or not; or a `Result` or an `Example` as it was answered, whose entities may also stand
                in place of those dictionaries; or sentences as `metacross.corpora.reader.read_corpus` gives them.
            language: BCP 47 tag such as pt or pt-BR, for those that do not say theirs.

        Returns:
            An example for each, whose `outcome` says whether it was added, its labels replaced others of the same
            sentence, or it was there.
        """
        return self._send(calls.add_call(examples, language))

    def import_examples(self, file: bytes, *, language: str = "") -> ImportedExamples:
        """Adds the sentences of a file's content, in any format that `metacross data` reads as text."""
        return self._send(calls.import_call(file, language))

    def export_examples(self, form: str = "jsonl", **filters: Unpack[ExampleFilters]) -> bytes:
        """The content of a file with the examples that match; by people, unless `by` is given.

        Args:
            form: a format of `metacross convert` that is text.
            **filters: see `ExampleFilters`.
        """
        return self._send(calls.export_call(form, filters))

    def examples(self, *, newest: bool = False, **filters: Unpack[ExampleFilters]) -> Iterator[Example]:
        """The examples that match, by ascending id or the newest first, page after page; see `ExampleFilters`."""
        return self._all(lambda after: calls.page_call(after, newest, filters))

    def example(self, number: int) -> Example:
        """The example with this id; `RequestRefused` with status 404 where there is none."""
        return self._send(calls.example_call(number))

    def replace_example(self, number: int, example: NewExample, *, language: str = "") -> Example:
        """Gives the example with this id another text, labels and language; arguments as for `add_examples`."""
        return self._send(calls.replace_call(number, example, language))

    def change_example(
        self,
        number: int,
        *,
        entities: Sequence[Mapping[str, Any] | Entity] | None = None,
        tags: Sequence[str] | None = None,
        language: str | None = None,
    ) -> Example:
        """Changes the labels of the example with this id, by entities or by tags, or its language; its words stay."""
        return self._send(calls.change_call(number, {"entities": entities, "tags": tags, "language": language}))

    def delete_example(self, number: int) -> None:
        """Deletes the example with this id; `RequestRefused` with status 404 where there is none."""
        self._send(calls.delete_call(number))

    def delete_examples(self, ids: Iterable[int] | None = None, **filters: Unpack[ExampleFilters]) -> DeletedExamples:
        """Deletes the examples with these ids, or where none are given those that match; without filters all do."""
        return self._send(calls.delete_several_call(ids, filters))

    def add_texts(self, texts: str | Iterable[str], *, language: str, wait: bool = True) -> AddedTexts:
        """Lets text that nobody labelled shape answers: the service labels it and keeps what is certain.

        Args:
            texts: a text or several; one request's, so not more than the service allows (`serve.max_texts`).
            language: BCP 47 tag of all of them, such as de.
            wait: until they are labelled; otherwise that is done later.

        Returns:
            Its id and state, how many sentences were found, kept and left out, and the ids of those kept. Where the
            service has no time the state is queued, although `wait` is true.
        """
        return self._send(calls.add_texts_call(texts, language, wait=wait))

    def texts(
        self, *, state: State | None = None, language: str | None = None, newest: bool = False
    ) -> Iterator[AddedTexts]:
        """The texts in this state and language, by ascending id or the newest first, page after page."""
        return self._all(lambda after: calls.text_page_call(after, newest, {"state": state, "language": language}))

    def text(self, number: int) -> AddedTexts:
        """What became of the text with this id; `RequestRefused` with status 404 where there is none."""
        return self._send(calls.text_call(number))

    def delete_text(self, number: int, *, examples: bool = False) -> None:
        """Deletes the text with this id, and with `examples` those that come from it and that nobody corrected."""
        self._send(calls.delete_text_call(number, examples=examples))

    def _all(self, page_call: PageCall[T]) -> Iterator[T]:
        """What is on all pages, each asked for when it is needed."""
        after: int | None = None
        while True:
            page, after = self._send(page_call(after))
            yield from page
            if after is None:
                return

    @abstractmethod
    def _send(self, call: Call[T]) -> T:
        """What a call is answered."""


class AsyncStoredThings(ABC):
    """`StoredThings` for asyncio: the same arguments, methods and errors."""

    async def add_examples(self, examples: Iterable[NewExample], *, language: str = "") -> list[AddedExample]:
        """As `Client.add_examples`."""
        return await self._send(calls.add_call(examples, language))

    async def import_examples(self, file: bytes, *, language: str = "") -> ImportedExamples:
        """As `Client.import_examples`."""
        return await self._send(calls.import_call(file, language))

    async def export_examples(self, form: str = "jsonl", **filters: Unpack[ExampleFilters]) -> bytes:
        """As `Client.export_examples`."""
        return await self._send(calls.export_call(form, filters))

    def examples(self, *, newest: bool = False, **filters: Unpack[ExampleFilters]) -> AsyncGenerator[Example]:
        """As `Client.examples`."""
        return self._all(lambda after: calls.page_call(after, newest, filters))

    async def example(self, number: int) -> Example:
        """As `Client.example`."""
        return await self._send(calls.example_call(number))

    async def replace_example(self, number: int, example: NewExample, *, language: str = "") -> Example:
        """As `Client.replace_example`."""
        return await self._send(calls.replace_call(number, example, language))

    async def change_example(
        self,
        number: int,
        *,
        entities: Sequence[Mapping[str, Any] | Entity] | None = None,
        tags: Sequence[str] | None = None,
        language: str | None = None,
    ) -> Example:
        """As `Client.change_example`."""
        return await self._send(calls.change_call(number, {"entities": entities, "tags": tags, "language": language}))

    async def delete_example(self, number: int) -> None:
        """As `Client.delete_example`."""
        await self._send(calls.delete_call(number))

    async def delete_examples(
        self, ids: Iterable[int] | None = None, **filters: Unpack[ExampleFilters]
    ) -> DeletedExamples:
        """As `Client.delete_examples`."""
        return await self._send(calls.delete_several_call(ids, filters))

    async def add_texts(self, texts: str | Iterable[str], *, language: str, wait: bool = True) -> AddedTexts:
        """As `Client.add_texts`."""
        return await self._send(calls.add_texts_call(texts, language, wait=wait))

    def texts(
        self, *, state: State | None = None, language: str | None = None, newest: bool = False
    ) -> AsyncGenerator[AddedTexts]:
        """As `Client.texts`."""
        return self._all(lambda after: calls.text_page_call(after, newest, {"state": state, "language": language}))

    async def text(self, number: int) -> AddedTexts:
        """As `Client.text`."""
        return await self._send(calls.text_call(number))

    async def delete_text(self, number: int, *, examples: bool = False) -> None:
        """As `Client.delete_text`."""
        await self._send(calls.delete_text_call(number, examples=examples))

    async def _all(self, page_call: PageCall[T]) -> AsyncGenerator[T]:
        """As `StoredThings._all`."""
        after: int | None = None
        while True:
            page, after = await self._send(page_call(after))
            for one in page:
                yield one
            if after is None:
                return

    @abstractmethod
    async def _send(self, call: Call[T]) -> T:
        """What a call is answered."""
