"""Entities with the keys of Hugging Face's token classification pipeline: what a call of a tagger gives.

Everything else that metacross gives has the keys of the HTTP interface.
"""

from __future__ import annotations

from typing import Any

from metacross.tagging.answers import SupportSentence, TaggedEntity, TaggedText


def entity_keys(entity: TaggedEntity) -> dict[str, Any]:
    """entity_group, score (where there is one), word, start and end."""
    score = {} if entity.score is None else {"score": entity.score}
    return {"entity_group": entity.label, **score, "word": entity.text, "start": entity.start, "end": entity.end}


def support_keys(support: SupportSentence) -> dict[str, Any]:
    """similarity, text and entities of a labelled sentence, and the window it shaped where that is known.

    One whose words voted on the tags of an entity has voted besides.
    A sentence of an adopted language also has language; a machine-labelled one has confidence and uncertain besides:
    where the words stand that had no influence.
    """
    window = {} if support.window is None else {"window": support.window}
    entities = [entity_keys(entity) for entity in support.entities]
    language = {"language": support.language} if support.language else {}
    machine = {} if support.confidence is None else _machine_keys(support)
    voted = {"voted": True} if support.voted else {}
    return {
        "similarity": support.similarity,
        "text": support.text,
        "entities": entities,
        **window,
        **language,
        **machine,
        **voted,
    }


def _machine_keys(support: SupportSentence) -> dict[str, Any]:
    uncertain = [{"start": start, "end": end} for start, end in support.uncertain]
    return {"confidence": support.confidence, "uncertain": uncertain}


def explained_entities(tagged: TaggedText) -> list[dict[str, Any]]:
    """The entities of a text, each with `plain`, its label without adaptation (None: not found), and `support`.

    That are the labelled sentences that its sentence's weights were adapted to, and those whose words voted on it.
    """
    found = []
    for sentence, offset in zip(tagged.sentences, tagged.offsets, strict=True):
        plain = {(entity.start, entity.end): entity.label for entity in sentence.plain or ()}
        for e in sentence.entities:
            support = [support_keys(s) for s in sentence.support if s.start <= e.start and e.end <= s.end]
            found.append({**entity_keys(e.moved(offset)), "plain": plain.get((e.start, e.end)), "support": support})
    return found
