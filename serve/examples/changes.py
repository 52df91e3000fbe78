"""How labelled sentences become examples: of each sentence there is one, and people's labels come before a machine's.

All of it happens in a transaction of `Database.changing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, bindparam, insert, select, update

from metacross.corpora.sentence import Sentence
from serve.examples.stored import AddedLabels, Addition, StoredExample, example_of, keys_of, values_of
from serve.examples.tables import DELETED, EXAMPLES


def put_by_people(
    connection: Connection, version: int, sentences: Sequence[Sentence], languages: Sequence[str]
) -> list[Addition]:
    """Stores what people say of sentences; what is said later, also within the same request, corrects what was said.

    Args:
        connection: of the transaction.
        version: the store's after it; it was raised by the number of sentences.
        sentences: with IOB2 tags.
        languages: for each sentence a code, or "": that of the example that is there.
    """
    keys = keys_of(sentences)
    there = examples_by_key(connection, keys)
    before = dict(there)
    additions: list[Addition] = []
    for number, (key, sentence, language) in enumerate(
        zip(keys, sentences, languages, strict=True), version - len(sentences) + 1
    ):
        if key not in there:
            there[key] = StoredExample.new(number, sentence, language)
            additions.append(Addition(there[key], "added"))
        elif there[key].says(sentence, language):
            additions.append(Addition(there[key], "unchanged"))
        else:
            old = there[key]
            there[key] = old.corrected(sentence, language or old.language)
            additions.append(Addition(there[key], "replaced", before=old))
    write_new(connection, [example for key, example in there.items() if key not in before])
    write_corrected(connection, [there[key] for key in before if there[key] is not before[key]], version)
    return additions


def put_by_machine(
    connection: Connection, version: int, sentences: Sequence[Sentence], *, bundle: str, text_id: int | None
) -> AddedLabels:
    """Stores sentences that a tagger labelled, but for those that are stored with better or the same labels.

    Labels by another bundle make way.

    Args:
        connection: of the transaction.
        version: the store's after it; it was raised by the number of sentences.
        sentences: with `machine`; all different.
        bundle: digest of the bundle that labelled them.
        text_id: of the text that they come from.
    """
    keys = keys_of(sentences)
    there = examples_by_key(connection, keys)
    by_people = {key for key, example in there.items() if example.labelled_by is None}
    stored = {key for key, example in there.items() if example.labelled_by == bundle}
    old = [example.id for key, example in there.items() if key not in by_people | stored]
    delete_ids(connection, old, version)
    added = [
        StoredExample.new(
            number, sentence, sentence.machine.language if sentence.machine else "", labelled_by=bundle, text_id=text_id
        )
        for number, (key, sentence) in enumerate(zip(keys, sentences, strict=True), version - len(sentences) + 1)
        if key not in by_people | stored
    ]
    write_new(connection, added)
    return AddedLabels(added, len(by_people), len(stored), len(old))


def examples_by_key(connection: Connection, keys: Sequence[str]) -> dict[str, StoredExample]:
    """The examples of the sentences with these keys."""
    rows = connection.execute(select(EXAMPLES).where(EXAMPLES.c.sentence_key.in_(keys)))
    return {row.sentence_key: example_of(row) for row in rows}


def write_new(connection: Connection, examples: Sequence[StoredExample]) -> None:
    """Adds rows; an example that was never corrected has its own number as version."""
    if examples:
        rows = [{"id": example.id, **values_of(example, version=example.id)} for example in examples]
        connection.execute(insert(EXAMPLES), rows)


def write_corrected(connection: Connection, examples: Sequence[StoredExample], version: int) -> None:
    """Changes the rows of examples."""
    _update(connection, {example.id: values_of(example, version=version) for example in examples})


def delete_ids(connection: Connection, ids: Sequence[int], version: int) -> None:
    """Deletes examples, and what they held."""
    _update(connection, {id: {"version": version, **DELETED} for id in ids})


def _update(connection: Connection, values: Mapping[int, Mapping[str, object]]) -> None:
    if values:
        rows = [{"row": id, **of_row} for id, of_row in values.items()]
        connection.execute(update(EXAMPLES).where(EXAMPLES.c.id == bindparam("row")), rows)
