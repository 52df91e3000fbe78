"""The place where a bundle adopts unlabelled text of the target languages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from metacross.errors import UserError


def adopt_texts(bundle: Path, texts: Mapping[str, str], out: Path, *, distillation: bool) -> None:
    """Writes a bundle that has adopted text.

    Args:
        bundle: the bundle that adopts.
        texts: unlabelled text, a file by language.
        out: the new bundle.
        distillation: whether theta is trained to agree with the labels of the text too.

    Raises:
        UserError: always; this version cannot adopt text.
    """
    raise UserError(
        f"{bundle}: this version of metacross cannot adopt text ({', '.join(texts)}). Remove the methods with adoption "
        "from the suite."
    )
