"""Support of a tagger's answers: looked up in the bundle's source sentences and the added examples, as trunk states.

Shapes: B windows looked up, K neighbours, H vector size, T word pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from cachetools import LRUCache
from torch import Tensor

from metacross.encoder.windows import Window, tag_ids
from metacross.errors import UserError
from metacross.retrieval.index import Vectors
from metacross.retrieval.pools import FIRST_EXAMPLE, Candidate, ExamplePool, Neighbour, Pool
from metacross.wording import counted


class SupportLookup:
    """Finds support in a tagger's two pools and gives its trunk states. Not thread-safe.

    Trunk states are cached, and the least recently used are dropped first. They stay valid: the trunk never changes,
    and a number always names the same window.

    Args:
        source: the bundle's source sentences.
        examples: sentences that were added later.
        tags: the tag set, IOB2.
        trunk: runs windows through the frozen trunk and returns each one's states (T, H).
        budget_mb: memory for the cache, in MiB.
    """

    def __init__(
        self,
        source: Pool,
        examples: ExamplePool,
        *,
        tags: Sequence[str],
        trunk: Callable[[Sequence[Window]], list[Tensor]],
        budget_mb: int,
    ) -> None:
        self.source, self.examples = source, examples
        self._tag_index = {tag: i for i, tag in enumerate(tags)}
        self._trunk = trunk
        # States and tag ids by window number; tag ids take next to no memory.
        self._cache: LRUCache[int, tuple[Tensor, Tensor]] = LRUCache(budget_mb << 20, lambda pair: pair[0].nbytes)

    def __len__(self) -> int:
        return len(self.source) + len(self.examples)

    def search(self, vectors_BH: Vectors, k: int) -> list[list[Neighbour]]:
        """For each vector the K most similar windows of both pools, best first; an IVF index may find fewer than K.

        Raises:
            UserError: there are fewer than K windows.
        """
        if k > len(self):
            raise UserError(
                f"support_size={k} but the index holds {counted(len(self), 'sentences')}. "
                "Lower episodes.support_size (or --neighbours), or index more sentences."
            )
        # FAISS refuses to look for no neighbour, so an empty pool is not asked.
        found = [pool.search(vectors_BH, min(k, len(pool))) for pool in (self.source, self.examples) if len(pool)]
        both = ([n for row in rows for n in row] for rows in zip(*found, strict=True))
        return [sorted(row, key=lambda n: (-n.similarity, n.number))[:k] for row in both]

    def candidates(self, numbers: Sequence[int]) -> list[Candidate]:
        """The windows with these numbers, in the same order."""
        in_source = [number for number in numbers if number < FIRST_EXAMPLE]
        # One request for all of them: the source pool may be behind a connection.
        found = dict(zip(in_source, self.source.candidates(in_source), strict=True)) if in_source else {}
        return [found[i] if i in found else self.examples.candidates([i])[0] for i in numbers]

    def support(self, rows: Sequence[Sequence[int]]) -> list[list[tuple[Tensor, Tensor]]]:
        """Trunk states (T, H) and tag ids (T,) of each row's windows, as `rows.pack` takes them."""
        wanted = sorted({i for row in rows for i in row})
        found = {i: self._cache[i] for i in wanted if i in self._cache}
        missing = [i for i in wanted if i not in found]
        if missing:
            candidates = self.candidates(missing)
            states = self._trunk([candidate.window for candidate in candidates])
            for i, candidate, state in zip(missing, candidates, states, strict=True):
                found[i] = state, tag_ids(candidate.window, candidate.sentence, self._tag_index)
                with suppress(ValueError):  # larger than the whole cache
                    self._cache[i] = found[i]
        return [[found[i] for i in row] for row in rows]
