"""Labelled sentences that are added while the service runs, and texts to be labelled, in a database.

Modules:
    store     the examples: added, corrected, deleted, found
    texts     texts that nobody labelled, queued until a tagger has
    changes   how labelled sentences become examples, one for each sentence
    stored    examples as they are kept and told of
    filters   which examples are meant
    requests  requests that may be sent again
    uses      how often examples shape answers
    database  how the database is opened, read and changed
    upgrades  tables made, and those of earlier versions upgraded
    tables    the tables
"""

from serve.examples.requests import KeyUsed, RequestKey
from serve.examples.store import ExampleStore, Said, SentenceTaken
from serve.examples.stored import Addition, StoredExample

__all__ = ["Addition", "ExampleStore", "KeyUsed", "RequestKey", "Said", "SentenceTaken", "StoredExample"]
