"""Adaptation of an index to its users: a linear head on the queries of its frozen encoder, learnt from their judgements of results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sbirlib.data.judgements import Judgement, read_judgements
from sbirlib.data.strokes import render
from sbirlib.encoders.query_head import QueryHead, headed
from sbirlib.errors import InputError
from sbirlib.opening import load
from sbirlib.pipeline import Pipeline, build
from sbirlib.progress import track
from sbirlib.retrieval.indexes.base import Index, read_index
from sbirlib.retrieval.indexes.manifest import read_manifest
from sbirlib.retrieval.paired import Difference, paired

ENOUGH = 20  # photos that were meant: some are held out, and of fewer no difference is significant
FOLDS = 5
OTHERS = 512  # photos that no one meant, of a step of learning
RANK = 64  # of A, at most: the directions in which the drawings differ most
TEMPERATURE = 0.07  # of the softmax over photos (van den Oord et al. 2018, eq. 4)
DECAY, STEPS, RATE = 0.05, 60, 0.02  # a smaller decay learns more of what was drawn, at the cost of what was not

Head = tuple[Tensor, Tensor]  # A [V, V] and b [V]


@dataclass(frozen=True)
class Answer:
    """A photo that a drawing meant: the drawing's vectors [S, V], the photo's path, and the photos that it did not mean."""

    query: Tensor
    right: str
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class Adaptation:
    """Share of the wrong photos of a drawing that rank below the right one (bpref, Buckley and Voorhees 2004), before and after.

    Each right photo is ranked by a head that learnt from answers about other photos. Judged photos are those that the former ranking showed first,
    which alone lets any other ranking look better; so the head is also held against `control`, one that learnt from the same photos with the
    drawings exchanged.
    """

    answers: int
    before: float
    control: float
    after: float
    over_before: Difference
    over_control: Difference

    @property
    def helps(self) -> bool:
        """Whether the 95 % intervals of both differences are above zero."""
        return self.over_before.low > 0 and self.over_control.low > 0


def adapt(index: str | Path, feedback: str | Path, *, seed: int = 0, progress: bool = True) -> Adaptation:
    """Learn a head from the judgements that `sbirlib serve --feedback` kept, and save the index under it where it helps.

    No photo is encoded: the vectors stay, and a running server takes the head up. A head that is there already is learnt anew, from all
    judgements. Raises InputError where there are too few judgements of photos in the index; where the head does not help, nothing is changed.
    """
    about = read_manifest(index)
    if about.model is None:
        raise InputError(f"{index} holds no encoder, whose queries could be adapted")
    store, pipeline = read_index(index), _without_head(load(Path(index) / about.model))
    answers = _answers(pipeline, store, read_judgements(feedback))
    gallery = _Gallery(store, answers, seed)
    shares = {name: np.zeros(len(answers)) for name in ("before", "control", "after")}
    folds = _folds(answers, seed)
    for held_out in track(folds, total=len(folds), label="learning from other photos") if progress else folds:
        rest = [answer for i, answer in enumerate(answers) if i not in set(held_out)]
        heads = {"before": None, "control": fit(gallery.table(_exchanged(rest, seed))), "after": fit(gallery.table(rest))}
        for name, head in heads.items():
            shares[name][held_out] = [gallery.share_below(answers[i], head) for i in held_out]
    groups = {path: number for number, path in enumerate(dict.fromkeys(answer.right for answer in answers))}
    photo = [groups[answer.right] for answer in answers]
    over = {name: paired({0: shares["after"].tolist()}, {0: shares[name].tolist()}, photo) for name in ("before", "control")}
    before, control, after = (float(values.mean()) for values in shares.values())
    result = Adaptation(len(answers), before, control, after, over["before"], over["control"])
    if result.helps:
        _save(index, store, _with_head(pipeline, fit(gallery.table(answers))))
    return result


@dataclass(frozen=True)
class Table:
    """Answers as tensors: queries [N, S, V], right photos [N, V], wrong ones [W, V] with the answer `of` [W] each is of, and others [O, V]."""

    queries: Tensor
    right: Tensor
    wrong: Tensor
    of: Tensor
    others: Tensor


def fit(table: Table) -> Head:
    """The head that minimises the loss and the decay of A and b, by Adam from zero: A [V, V], of rank `RANK` at most, and b [V]."""
    width = table.queries.shape[-1]
    rows = table.queries.flatten(0, 1)
    directions = torch.linalg.svd(rows - rows.mean(0), full_matrices=False).Vh[:RANK]  # [r, V]
    factor, bias = torch.zeros(width, len(directions), requires_grad=True), torch.zeros(width, requires_grad=True)
    optimizer = torch.optim.Adam([factor, bias], RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        penalty = factor.square().sum() + bias.square().sum()
        (loss(headed(table.queries, factor @ directions, bias), table) + DECAY * penalty).backward()
        optimizer.step()
    return (factor @ directions).detach(), bias.detach()


def loss(queries: Tensor, table: Table) -> Tensor:
    """Mean over answers of -log of the right photo's share of a softmax over it, the wrong ones and the others: a scalar [].

    The score of a photo is the largest inner product with the queries [N, S, V], over the temperature and the queries' length.
    """
    scale = TEMPERATURE * queries.norm(dim=-1).mean()
    right = torch.einsum("nsv,nv->ns", queries, table.right).amax(1) / scale
    others = torch.einsum("nsv,ov->nso", queries, table.others).amax(1) / scale
    wrong = torch.einsum("wsv,wv->ws", queries[table.of], table.wrong).amax(1) / scale
    largest = torch.cat([right[:, None], others], 1).amax(1).detach()
    against = (others - largest[:, None]).exp().sum(1).index_add(0, table.of, (wrong - largest[table.of]).exp())
    own = right - largest
    mean: Tensor = ((own.exp() + against).log() - own).mean()
    return mean


class _Gallery:
    """Vectors of the judged photos, and of a sample of the others."""

    def __init__(self, store: Index, answers: Sequence[Answer], seed: int) -> None:
        judged = sorted({path for answer in answers for path in (answer.right, *answer.wrong)})
        self._row, self._vectors = {path: i for i, path in enumerate(judged)}, store.vectors(judged)
        right = {answer.right for answer in answers}
        paths = [path for path in store.paths() if path not in right]
        self._others = store.vectors([paths[i] for i in np.random.default_rng(seed).permutation(len(paths))[:OTHERS]])

    def table(self, answers: Sequence[Answer]) -> Table:
        """Answers as tensors."""
        wrong = [(i, self._row[path]) for i, answer in enumerate(answers) for path in answer.wrong]
        of, rows = torch.tensor(wrong, dtype=torch.int64).reshape(-1, 2).unbind(1)
        right = torch.tensor([self._row[answer.right] for answer in answers])
        return Table(torch.stack([answer.query for answer in answers]), self._vectors[right], self._vectors[rows], of, self._others)

    def share_below(self, answer: Answer, head: Head | None) -> float:
        """Share of the wrong photos that score less than the right one; equal scores count a half."""
        query = answer.query if head is None else headed(answer.query, *head)
        right, *wrong = (self._vectors[[self._row[path] for path in (answer.right, *answer.wrong)]] @ query.T).amax(1).tolist()
        below: float = sum((score < right) + (score == right) / 2 for score in wrong) / len(wrong)
        return below


def _exchanged(answers: Sequence[Answer], seed: int) -> list[Answer]:
    """The same photos, each with the drawing of another answer."""
    order = np.random.default_rng(seed).permutation(len(answers))
    return [replace(answer, query=answers[i].query) for answer, i in zip(answers, order, strict=True)]


def _answers(pipeline: Pipeline, store: Index, judgements: Sequence[Judgement]) -> list[Answer]:
    """The photos of the index that drawings meant, of drawings that did not mean others; the last judgement of a drawing and a photo counts."""
    present = set(store.paths())
    of_index = [judgement for judgement in judgements if judgement.path in present]
    verdicts: defaultdict[str, dict[str, str]] = defaultdict(dict)
    drawings = {}
    for judgement in of_index:
        key = judgement.drawing.model_dump_json()
        drawings[key] = judgement.drawing
        verdicts[key][judgement.path] = judgement.answer
    judged = []
    for key, own in verdicts.items():
        right, wrong = ([path for path, verdict in own.items() if verdict == word] for word in ("yes", "no"))
        judged += [(key, path, tuple(wrong)) for path in right if wrong]
    if (count := len({path for _, path, _ in judged})) < ENOUGH:
        raise InputError(
            f"of {len(judgements)} judgements, {len(of_index)} are about photos of this index; those of drawings with a yes and a no name {count} "
            f"right photos, and {ENOUGH} are needed to learn from some and to test on others: collect more"
        )
    used = list(dict.fromkeys(key for key, _, _ in judged))
    queries = pipeline.encode_images([render(drawings[key], pipeline.transform) for key in used], side="query")
    by_key = dict(zip(used, queries, strict=True))
    return [Answer(by_key[key], path, wrong) for key, path, wrong in judged]


def _folds(answers: Sequence[Answer], seed: int) -> list[list[int]]:
    """Positions of the answers in `FOLDS` parts; all answers about one photo are in one part."""
    paths = list(dict.fromkeys(answer.right for answer in answers))
    order = np.random.default_rng(seed).permutation(len(paths))
    part = {paths[i]: number % FOLDS for number, i in enumerate(order)}
    return [[i for i, answer in enumerate(answers) if part[answer.right] == fold] for fold in range(FOLDS)]


def _with_head(pipeline: Pipeline, head: Head) -> Pipeline:
    tables = pipeline.recipe.tables()
    adapted = build({**tables, "encoder": {"name": "query_head", "encoder": tables["encoder"], "width": len(head[1])}})
    _describe(adapted, pipeline)
    encoder = adapted.encoder
    assert isinstance(encoder, QueryHead)
    encoder.encoder.load_state_dict(pipeline.encoder.state_dict())
    encoder.weight.copy_(head[0])
    encoder.bias.copy_(head[1])
    return adapted


def _without_head(pipeline: Pipeline) -> Pipeline:
    """The pipeline whose queries no head changes."""
    encoder = pipeline.encoder
    if not isinstance(encoder, QueryHead):
        return pipeline
    tables = pipeline.recipe.tables()
    plain = build({**tables, "encoder": tables["encoder"]["encoder"]})
    _describe(plain, pipeline)
    plain.encoder.load_state_dict(encoder.encoder.state_dict())
    return plain


def _describe(pipeline: Pipeline, as_of: Pipeline) -> None:
    for name in ("categories", "chosen", "data", "stroke_width"):
        setattr(pipeline, name, getattr(as_of, name))


def _save(folder: str | Path, store: Index, pipeline: Pipeline) -> None:
    pipeline.search_index(store).save(folder)


def reset(index: str | Path) -> bool:
    """Take the head of an index away; False where there is none."""
    about = read_manifest(index)
    pipeline = load(Path(index) / about.model) if about.model else None
    if pipeline is None or not isinstance(pipeline.encoder, QueryHead):
        return False
    _save(index, read_index(index), _without_head(pipeline))
    return True
