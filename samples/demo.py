"""Train the base tagger and Meta-Cross on the small corpus, compare them in five languages, tag three sentences."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from metacross.tagging.answers import TaggedEntity, TaggedText

ROOT = Path(__file__).parent.parent
FOLDER = Path("runs", "demo")  # below ROOT: a run for each method, and `bundle`, which leads to the last one's
METHODS = {"base": (), "metacross": ("train.plain_steps=170",)}
LANGUAGES = ("es", "nl", "de", "fr", "zh")
SENTENCES = (
    "La ministra Elena Robles viajó de Bogotá a Ginebra para reunirse con la Cruz Roja.",
    "Volgens trainer Joris Vermeulen speelt Ajax zaterdag zonder aanvoerder in Enschede.",
    "张伟明在上海对新华社记者说，华为将在慕尼黑设立研究中心。",
)
NEXT = """\
The tagger stays in {bundle} until the demo runs again. Tag a sentence of your own:

  echo "Angela Merkel besuchte Zürich." | .venv/bin/metacross tag {bundle} --explain

or serve it, and open http://localhost:8000:

  .venv/bin/metacross serve {bundle}
"""
COLOURS = {"PER": "bold cyan", "LOC": "bold green", "ORG": "bold magenta", "MISC": "bold yellow"}


def main() -> None:
    """Run the demo; METACROSS_DEMO_SVG names a file that gets a picture of its output."""
    from metacross import AdaptiveTagger
    from metacross.cli.display import Display
    from metacross.config_loading import load_config
    from metacross.corpora.reader import read_corpus
    from metacross.ray_training.driver import train
    from metacross.tagging.evaluation import evaluate

    os.chdir(ROOT)
    picture = os.environ.get("METACROSS_DEMO_SVG")
    console = Console(record=picture is not None, width=112 if picture else None, highlight=False)
    began = time.monotonic()
    files = [ROOT / "ray_config.yaml", ROOT / "samples" / "demo.yaml"]
    corpora = {language: read_corpus(ROOT / "samples" / language / "test.conll") for language in LANGUAGES}
    results = {}
    clear(FOLDER)
    for method, extra in METHODS.items():
        console.rule(f"training {method} on 460 English sentences")
        overrides = [f"train.method={method}", f"train.storage_path={FOLDER}", f"train.name={method}", *extra]
        with Display(Console(stderr=True)) as show:
            result = train(load_config(files, overrides), show=show)
        if result.stopped or result.bundle is None:
            print("stopped; the next `make demo` begins anew", file=sys.stderr)
            sys.exit(130)
        tagger = AdaptiveTagger.from_pretrained(result.bundle)
        results[method] = evaluate(tagger, corpora)
    bundle = FOLDER / "bundle"
    bundle.symlink_to(Path(method, "bundle"))
    console.print(results_table(results))
    console.rule("three sentences, and the English ones that shaped the answers")
    print_answers(console, tagger.tag_texts(SENTENCES, explain=True))
    console.print(f"Done in {time.monotonic() - began:.0f} s. The corpus is tiny: docs/results.md has real ones.")
    console.print()
    console.print(NEXT.format(bundle=bundle), soft_wrap=True, end="")  # lines stay whole, to be copied
    if picture:
        console.save_svg(picture, title="make demo")


def clear(folder: Path) -> None:
    """Removes what an earlier demo left in `folder`, whole or not, and nothing else.

    Ends the program where the directory is a run of the user's own.
    """
    bundle = folder / "bundle"
    if (folder / "ray_config.yaml").exists() or (bundle.exists() and not bundle.is_symlink()):
        sys.exit(f"error: {folder} is a run of yours, and the demo writes there. Give the run another name.")
    bundle.unlink(missing_ok=True)
    for method in METHODS:
        if (folder / method).exists():
            shutil.rmtree(folder / method)


def results_table(results: dict[str, dict[str, dict[str, dict[str, float]]]]) -> Table:
    """F1 per language of both taggers, without and with adaptation."""
    table = Table(title="entity F1 in unlabelled languages")
    table.add_column("")
    for method in results:
        table.add_column(f"{method}\nplain", justify="right")
        table.add_column(f"{method}\nadapted", justify="right")
    rows = [[results[m][lang][how]["f1"] for m in results for how in ("plain", "adapted")] for lang in LANGUAGES]
    for language, row in zip(LANGUAGES, rows, strict=True):
        table.add_row(language, *(f"{f1:.1f}" for f1 in row))
    table.add_section()
    table.add_row("mean", *(f"{sum(column) / len(column):.1f}" for column in zip(*rows, strict=True)))
    return table


def print_answers(console: Console, answers: Sequence[TaggedText]) -> None:
    """Prints texts with their entities, and below each the labelled sentences that its answer was adapted to."""
    for answer in answers:
        console.print(coloured(answer.text, answer.entities()))
        for support in answer.support():
            similarity = Text(f"   {support.similarity:.3f}  ", style="dim")
            console.print(similarity + coloured(support.text, support.entities))
        console.print()


def coloured(text: str, entities: Sequence[TaggedEntity]) -> Text:
    """The text with its entities coloured and named."""
    out, at = Text(), 0
    for entity in entities:
        out.append(text[at : entity.start])
        out.append(entity.text, style=COLOURS.get(entity.label, "bold"))
        out.append(f" {entity.label}", style="dim")
        at = entity.end
    out.append(text[at:])
    return out


if __name__ == "__main__":
    main()
