"""The sentences that adaptation helped and hurt most, on one page that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metacross.corpora.sentence import EntitySpan, entities
from metacross.reproduction.results import read_result
from metacross.reproduction.tables import Results

SHOWN = 10  # sentences a language that were helped, and as many that were hurt
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{ font: 15px/1.6 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #222; }}
article {{ border: 1px solid #ddd; border-radius: 6px; padding: .6rem 1rem; margin: 1rem 0; }}
article.helped {{ border-left: 5px solid #4d9a57; }} article.hurt {{ border-left: 5px solid #b0413e; }}
dl {{ display: grid; grid-template-columns: 6rem 1fr; gap: .2rem .8rem; margin: 0; }}
dt {{ color: #666; }} dd {{ margin: 0; overflow-wrap: anywhere; }}
mark {{ border-radius: 4px; padding: 0 .25em; background: #dce6f4; }}
mark b {{ font-size: .7em; margin-left: .35em; color: #345; }}
mark.PER {{ background: #cfe8f5; }} mark.LOC {{ background: #d5efd3; }}
mark.ORG {{ background: #f5d9ec; }} mark.MISC {{ background: #f8ebc3; }}
p.place {{ color: #666; font-size: .85em; margin: .4rem 0 0; }}
</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
{body}
</body></html>
"""


@dataclass(frozen=True)
class Changed:
    """A sentence that adaptation tags otherwise.

    Attributes:
        saved: errors that adaptation saves; negative where it makes more.
        seed: of the training.
        record: its counts and tags, as the cell has them.
        shown: its words, gold tags and support, as the cell has them.
    """

    saved: int
    seed: int
    record: Mapping[str, Any]
    shown: Mapping[str, Any]


def sentences_page(results: Results) -> str:
    """The page: by language, the sentences of the main method that were helped most, then those that were hurt most."""
    suite = results.comparison.suite
    body = []
    for language in suite.targets:
        found = _changed(results, language)
        helped = sorted((c for c in found if c.saved > 0), key=lambda c: -c.saved)[:SHOWN]
        hurt = sorted((c for c in found if c.saved < 0), key=lambda c: c.saved)[:SHOWN]
        for kind, chosen in (("helped", helped), ("hurt", hurt)):
            body.append(f"<h2>{html.escape(language)}: {kind} most</h2>")
            body += [_article(changed, kind) for changed in chosen] or ["<p>none</p>"]
    summary = (
        f"Method {suite.main}. Of a sentence that several seeds change, the one with the largest effect is shown. "
        "Support: the labelled sentences that the weights were adapted to, with the similarity of each."
    )
    title = f"{suite.name}: what adaptation changes"
    return PAGE.format(title=html.escape(title), summary=html.escape(summary), body="\n".join(body))


def _changed(results: Results, language: str) -> list[Changed]:
    """Every changed sentence once, with the seed of the largest effect."""
    measured = results.by_method.get(results.comparison.suite.main, {}).get(language)
    if measured is None:
        return []
    by_sentence: dict[str, Changed] = {}
    for seed, name in zip(measured.seeds, measured.cells, strict=True):
        cell = read_result(results.comparison.out, name)
        for number, shown in cell["changed"].items():
            record = cell["sentences"][int(number)]
            (found, correct), (plain_found, plain_correct) = record["tagged"], record["plain"]
            saved = (plain_found - 2 * plain_correct) - (found - 2 * correct)
            if number not in by_sentence or abs(saved) > abs(by_sentence[number].saved):
                by_sentence[number] = Changed(saved, seed, record, shown)
    return list(by_sentence.values())


def _article(changed: Changed, kind: str) -> str:
    words, shown = changed.shown["words"], changed.shown
    rows = [
        ("gold", _marked_words(words, shown["gold"])),
        ("plain", _marked_words(words, changed.record["plain_tags"])),
        ("adapted", _marked_words(words, changed.record["tagged_tags"])),
    ]
    for support in shown["support"]:
        rows.append((f"{support['similarity']:.3f}", _marked(support["text"], support["entities"])))
    listed = "".join(f"<dt>{html.escape(name)}</dt><dd>{text}</dd>" for name, text in rows)
    place = html.escape(f"{shown['place'].rsplit('/', 1)[-1]}, seed {changed.seed}")
    return f'<article class="{kind}"><dl>{listed}</dl><p class="place">{place}</p></article>'


def _marked_words(words: Sequence[str], tags: str) -> str:
    """Words with spaces between them, entities marked."""
    return " ".join(_pieces(words, entities(tags.split())))


def _pieces(words: Sequence[str], found: Sequence[EntitySpan]) -> Iterator[str]:
    done = 0
    for kind, start, end in found:
        yield from (html.escape(word) for word in words[done:start])
        yield _mark(" ".join(words[start:end]), kind)
        done = end
    yield from (html.escape(word) for word in words[done:])


def _marked(text: str, found: Sequence[tuple[int, int, str]]) -> str:
    """A text with its entities marked; offsets count code points."""
    parts, done = [], 0
    for start, end, kind in found:
        parts += [html.escape(text[done:start]), _mark(text[start:end], kind)]
        done = end
    return "".join([*parts, html.escape(text[done:])])


def _mark(text: str, kind: str) -> str:
    return f'<mark class="{html.escape(kind)}">{html.escape(text)}<b>{html.escape(kind)}</b></mark>'
