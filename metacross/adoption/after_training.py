"""The adoption at the end of a training run: of the texts that data.unlabelled names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from metacross.adopted import read_adopted
from metacross.adoption.adopt import adopt, default_out
from metacross.adoption.text import read_texts
from metacross.bundle import bundle_digest, check_bundle
from metacross.config import Config
from metacross.errors import UserError
from metacross.events import Note, Show, ignore
from metacross.storage.addresses import is_address


def refuse_texts(config: Config, place: str | Path) -> None:
    """Refuses what could not be adopted after the training, before it begins.

    Args:
        config: the run's configuration.
        place: the run's directory or address, or train.storage_path.

    Raises:
        UserError: a text cannot be read, or the run is kept at an address.
    """
    files = config.data.unlabelled
    if files and is_address(place):
        raise UserError(
            f"data.unlabelled: a run at an address ({place}) cannot adopt languages. Leave it out, and then run "
            "metacross adopt with the bundle's address and --out DIR."
        )
    read_texts(files, max_words=config.data.max_words, show=ignore)


def adopt_after_training(config: Config, bundle: Path, show: Show) -> Path | None:
    """Adopts the texts of data.unlabelled, unless an earlier call has.

    Args:
        config: the run's configuration.
        bundle: what the run left.
        show: gets events.

    Returns:
        The bundle that has adopted them; None where there are no texts.

    Raises:
        UserError, RunError: as `adopt`.
    """
    files = config.data.unlabelled
    if not files:
        return None
    out = default_out(str(bundle))
    if _has_adopted(out, bundle, files):
        show(Note(f"{out} has adopted {', '.join(files)} already"))
    else:
        adopt(bundle, files, out=out, show=show)
    return out


def _has_adopted(out: Path, bundle: Path, files: Mapping[str, str]) -> bool:
    """Whether a complete bundle at `out` has adopted these files of languages, labelled by this bundle."""
    try:
        check_bundle(out)
    except UserError:
        return False
    records = {record.language: (record.file, record.teachers) for record in read_adopted(out)}
    teachers = (bundle_digest(bundle),)
    return records == {language: (Path(file).name, teachers) for language, file in files.items()}
