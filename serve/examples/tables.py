"""The tables of the store: examples, texts that are to be labelled, and requests that may be sent again."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

SCHEMA = MetaData()
_NUMBER = BigInteger().with_variant(Integer, "sqlite")

COUNTER = Table("metacross_counter", SCHEMA, Column("version", BigInteger, nullable=False))
EXAMPLES = Table(
    "metacross_examples",
    SCHEMA,
    Column("id", _NUMBER, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False, index=True),
    Column("language", String, nullable=False),
    Column("created", DateTime, nullable=False),  # all times are UTC
    Column("text", Text, nullable=False),
    Column("spans", JSON, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("presplit", Boolean, nullable=False),
    # Columns that may be null are newer than the table, see `serve.examples.upgrades`. Those of machine labels are null
    # for people's.
    Column("confidence", Float),
    Column("uncertain", JSON(none_as_null=True)),  # numbers of words
    Column("labelled_by", String),  # digest of the bundle
    Column("text_id", BigInteger, index=True),  # of the text that it comes from
    Column("sentence_key", String),  # see `key_of`
    Column("folded", Text),  # the text as it is searched, see `folded`
    Column("changed", DateTime),  # null unless it was corrected
    Column("uses", BigInteger),
    Column("last_used", DateTime),
)
# There is one example for a sentence, whoever writes at the same time. Those that are deleted have no key.
ONE_A_SENTENCE = Index("uq_metacross_examples_sentence_key", EXAMPLES.c.sentence_key, unique=True)
STORED = EXAMPLES.c.text != ""
DELETED: dict[str, Any] = {
    **{"language": "", "text": "", "spans": [], "tags": []},
    **dict.fromkeys(("confidence", "uncertain", "labelled_by", "text_id", "sentence_key", "folded")),
    **dict.fromkeys(("changed", "uses", "last_used")),
}

TEXTS = Table(
    "metacross_texts",
    SCHEMA,
    Column("id", _NUMBER, primary_key=True, autoincrement=False),
    Column("language", String, nullable=False),
    Column("created", DateTime, nullable=False),
    Column("state", String, nullable=False, index=True),  # queued, labelled or failed
    Column("found", Integer, nullable=False),
    Column("sentences", JSON, nullable=False),  # texts of the different ones; none once they are labelled
    Column("taken_until", DateTime),  # a replica labels it until then; afterwards another one may
    Column("labelled", DateTime),
    Column("labelled_by", String),  # digest of the bundle
    Column("outcome", JSON(none_as_null=True)),  # what became of the sentences: counts, and ids of those kept
    Column("reason", String),  # why it failed
)

REQUESTS = Table(
    "metacross_requests",
    SCHEMA,
    Column("key", String, primary_key=True),  # what the client named it
    Column("digest", String, nullable=False),  # of what it asked for
    Column("created", DateTime, nullable=False, index=True),
    Column("outcome", JSON, nullable=False),
)


def key_of(words: Iterable[str]) -> str:
    """What two sentences have in common that are the same but for their spaces and the borders of their words."""
    return hashlib.sha256("".join(words).encode()).hexdigest()


def folded(text: str) -> str:
    """A text as it is searched. Databases fold the case of ASCII letters, and of others only in some locales.

    >>> folded("Straße in São Tomé")
    'strasse in são tomé'
    """
    return unicodedata.normalize("NFC", text).casefold()


def bounded(number: int) -> int:
    """A number that databases can hold. No row has a number beyond these bounds."""
    return max(-1, min(number, 2**63 - 1))
