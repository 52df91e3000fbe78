"""`metacross convert`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metacross.cli.options import Overrides
from metacross.cli.terminal import reporting, say
from metacross.corpora.formats.writing import FolderFormat, Format, FormatName, WordFormat, formats
from metacross.corpora.scheme_writer import Scheme
from metacross.errors import UserError
from metacross.storage.files import temporary_name
from metacross.wording import counted

if TYPE_CHECKING:
    from metacross.corpora.reader import Corpus


@reporting()
def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="A corpus: a file, a folder of BRAT files, or hf:NAME.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="The new file, or folder for brat; - is standard output.")],
    overrides: Overrides = None,
    *,
    to: Annotated[FormatName, typer.Option("--to", help="The format to write.")],
    scheme: Annotated[Scheme, typer.Option(help="How tags are written, in a format of words with tags.")] = "iob2",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that exists.")] = False,
) -> None:
    """Write a corpus in another format.

    What the new format cannot hold is counted or refused. The new file is read back, and kept only if that gives the
    same words and entities.

    \b
    metacross convert samples/en/dev.conll dev.jsonl --to jsonl
    metacross convert samples/en/dev.conll - --to conllu --scheme iobes 'data.tag_map={ORG: O}'
    """  # noqa: D301  # \b keeps the lines apart
    from metacross.config_loading import load_config
    from metacross.corpora.conversion import write_corpus
    from metacross.corpora.from_config import read_configured

    form = formats()[to]
    if scheme != "iob2" and not isinstance(form, WordFormat):
        raise UserError(f"--scheme {scheme}: {to} marks entities in texts and has no tags; leave --scheme out")
    _check_output(source, out, to, form, force=force)
    settings = load_config(None, overrides or ()).data
    corpus = read_configured(source, settings)
    say(f"read {source}: {_description(corpus)}")
    for oddity in corpus.oddities:
        # A format of texts gets the documents, which lost nothing when sentences were made of them.
        if isinstance(form, WordFormat) or oddity not in corpus.sentence_oddities:
            say(f"{source}: {oddity}")
    with _output(out) as path:
        if isinstance(form, FolderFormat):
            path.mkdir()
        written = write_corpus(corpus, path, form, scheme=scheme)
    for oddity in written.oddities:
        say(f"{out}: {oddity}")
    say(f"wrote {out}: {to}, {counted(written.items, written.unit)}, {counted(written.entities, 'entities')}")


def _description(corpus: Corpus) -> str:
    """What was read, in one line."""
    parts = [corpus.format, corpus.scheme, *([counted(len(corpus.documents), "documents")] if corpus.documents else [])]
    parts += [
        counted(len(corpus.sentences), "sentences"),
        *(f"{kind} {number}" for kind, number in corpus.counts.items()),
    ]
    parts += [f"{kind} {number} (dropped)" for kind, number in corpus.dropped.items()]
    return ", ".join(parts)


def _check_output(source: str, out: str, name: str, form: Format, *, force: bool) -> None:
    """Refuses an OUT that would cost the user something, before anything is read."""
    if out == "-":
        if isinstance(form, FolderFormat) or not form.is_text:
            raise UserError(f"OUT is -, but {name} is not written as one text file; name a file or folder")
        return
    path = Path(out)
    if not path.absolute().parent.is_dir():
        raise UserError(f"{out}: {path.absolute().parent} is no directory")
    if not path.exists():
        return
    if Path(source).exists() and path.samefile(source):
        raise UserError(f"{out}: is what is to be converted; give the new file another name")
    if path.is_dir():
        if not isinstance(form, FolderFormat) or any(path.iterdir()):
            raise UserError(f"{out}: is a folder that exists; give a new name")
    elif isinstance(form, FolderFormat):
        raise UserError(f"{out}: is a file, but {name} is written into a folder; give a new name")
    elif path.is_file() and not force:
        raise UserError(f"{out}: exists; give a new name, or --force to write over it")


@contextmanager
def _output(out: str) -> Iterator[Path]:
    """A path to write to. What is there at the end takes the place of `out`; a pipe gets it then, too.

    Raises:
        UserError: nothing can be written there.
    """
    path = Path(out)
    if out == "-" or (path.exists() and not path.is_file() and not path.is_dir()):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder, "out")
            with Path(folder, "out").open("rb") as file:
                if out == "-":
                    shutil.copyfileobj(file, sys.stdout.buffer)
                else:
                    with path.open("wb") as pipe:
                        shutil.copyfileobj(file, pipe)
        return
    temporary = temporary_name(path)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error}); choose another place") from None
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)
