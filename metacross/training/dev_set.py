"""Development sentences, prepared once and tagged at every measurement."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from metacross.algorithm import InnerLoop, adapt
from metacross.corpora.sentence import Sentence
from metacross.encoder.model import TagModel
from metacross.encoder.rows import pack, trunk_states
from metacross.encoder.sentence_encoder import SentenceEncoder
from metacross.encoder.windows import PieceEncoder, Window
from metacross.retrieval.index import VectorIndex
from metacross.retrieval.source import Source
from metacross.tagging.adaptation import Adaptation, tag_windows
from metacross.tagging.calibration import LabelledChains
from metacross.tagging.decoding import tagged_words
from metacross.tagging.tag_sequences import TagChains
from metacross.training.team import Team


class DevSet:
    """Development sentences, cut into windows and looked up once, since neither changes while theta is trained.

    Every worker takes some of the sentences; each of them calls `tag` at the same time.

    Args:
        sentences: labelled, of one language.
        tags: the tag set, IOB2.
        pieces: cuts sentences into windows.
        model: theta; its frozen trunk runs here already.
        sentence_encoder: makes the vectors that neighbours are found by.
        source: the labelled source sentences, which may become support.
        index: of the source sentences' vectors.
        support_size: neighbours that a window is adapted to.
        batch_pieces: bound on the word pieces of one forward.
        team: the workers among which the sentences are shared out.
    """

    def __init__(
        self,
        sentences: Sequence[Sentence],
        tags: Sequence[str],
        *,
        pieces: PieceEncoder,
        model: TagModel,
        sentence_encoder: SentenceEncoder,
        source: Source,
        index: VectorIndex,
        support_size: int,
        batch_pieces: int,
        team: Team,
    ) -> None:
        self._gold = [list(s.tags or ()) for s in sentences]
        self._tags = tags
        self._model = model
        self._source = source
        self._batch_pieces = batch_pieces
        self._team = team
        self._windows: list[Window] = [w for w in pieces.windows(sentences) if w.sentence % team.size == team.rank]
        self._states, vectors = trunk_states(
            model, self._windows, batch_pieces=batch_pieces, sentence_encoder=sentence_encoder
        )
        self._neighbours: list[list[int]] = []
        if vectors is not None:  # None: no window is this worker's
            _, neighbours = index.search(vectors.cpu().numpy(), support_size)
            # An IVF index may find fewer than asked for; it fills up with -1.
            self._neighbours = [[i for i in row if i >= 0] for row in neighbours.tolist()]

    def tag(self, inner: InnerLoop | None) -> LabelledChains:
        """All sentences, of all workers, tagged by theta (None) or by weights adapted with `inner`."""
        adaptation = None
        if inner is not None:
            adaptation = Adaptation(
                self._neighbours,
                [self._source.pieces(row) for row in self._neighbours],
                lambda groups: [adapt(self._model, pack(self._source.support(rows)), inner) for rows in groups],
            )
        probabilities = tag_windows(
            self._model, self._windows, self._states, batch_pieces=self._batch_pieces, adaptation=adaptation
        )
        by_sentence: dict[int, list[tuple[Window, Tensor]]] = {}
        for window, probabilities_WC in zip(self._windows, probabilities, strict=True):
            by_sentence.setdefault(window.sentence, []).append((window, probabilities_WC))
        own = {i: tagged_words(windows) for i, windows in by_sentence.items()}
        words = {i: tagged for part in self._team.gather(own) for i, tagged in part.items()}
        chains = TagChains([words.get(i, tagged_words([])) for i in range(len(self._gold))], self._tags)
        return LabelledChains(chains, self._gold)
