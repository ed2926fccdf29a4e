"""Requests through a sparse model: every request is a session of its own, whatever is shared.

Of a selector without state, requests are packed into passes and common beginnings are computed
once; of a cache-aware one, each request runs alone from the start state. Either way a request gets
the logits, and is counted with the tokens and units, that it would alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from methods.density import mlp_density
from sweep.downstream import generation
from sweep.downstream.packed import ROWS, PackedModel, Past, Segment, packs
from sweep.downstream.prefixes import Item, Node, share
from sweep.selectors import CacheAwareSelector, Reads, Selector

PASS_ROWS = 1024
"""Tokens of a pass at which no more requests are put into it; bounds memory, not the result."""


@dataclass(slots=True)
class Counts:
    """Tokens, and of each group the used units and hits over all layers of these tokens."""

    tokens: int = 0
    places: dict[str, int] = field(default_factory=dict)
    """Units that there were: tokens times layers times units."""
    used: dict[str, int] = field(default_factory=dict)
    hits: dict[str, int] = field(default_factory=dict)

    def add(self, other: Counts, times: int = 1) -> None:
        self.tokens += times * other.tokens
        for mine, theirs in ((self.places, other.places), (self.used, other.used)):
            for group, n in theirs.items():
                mine[group] = mine.get(group, 0) + times * n
        for group, n in other.hits.items():
            self.hits[group] = self.hits.get(group, 0) + times * n

    def to_json(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "places": self.places,
            "used": self.used,
            "hits": self.hits,
        }

    def mlp_density(self) -> float:
        """Mean over tokens and layers of the MLP's weights that were used; 1 for no tokens."""
        return mlp_density({g: self.used[g] / n for g, n in self.places.items() if n})


@dataclass(slots=True)
class Prompt:
    """Token ids, how many of the last logits are wanted, and for how many equal requests."""

    tokens: tuple[int, ...]
    outputs: int = 1
    times: int = 1


class RequestRunner:
    """A model with a method applied, and the selector of that method (None for a dense one)."""

    def __init__(self, model: Any, selector: Selector | None, share: bool = True) -> None:
        self.model = model
        self.selector = selector
        self.alone = isinstance(selector, CacheAwareSelector)
        """Whether the selector has a state, so that no two requests may share anything."""
        self.share = share and not self.alone
        self.prefill = Counts()
        self.decode = Counts()
        self._packed = PackedModel(model) if packs(model) else None

    @contextmanager
    def open(self) -> Iterator[RequestRunner]:
        """Takes the place of the model's attention, where it can be."""
        with self._packed or nullcontext():
            yield self

    # -- scores ------------------------------------------------------------------------------

    def score(self, prompts: Sequence[Prompt], take: Callable[[int, Tensor], None]) -> None:
        """Give `take` the place of each prompt and its logits [outputs, vocabulary], float32."""
        if self._packed is None or self.alone:
            for i, prompt in enumerate(prompts):
                take(i, self._scored_alone(prompt))
            return
        batch = _Batch(self, prompts, take)
        self._walk(self._tree(prompts), Past(), Counts(), batch.add)
        batch.flush()

    def _tree(self, prompts: Sequence[Prompt]) -> Node:
        items = [
            Item(i, p.tokens, len(p.tokens) - max(p.outputs, ROWS) if self.share else 0)
            for i, p in enumerate(prompts)
        ]
        return share(items)

    def _walk(
        self, node: Node, past: Past, counts: Counts, leaf: Callable[[Item, Past, Counts], None]
    ) -> None:
        """Compute the beginnings of the tree, and hand on its leaves with what comes before."""
        for item in node.leaves:
            leaf(item, past, counts)
        for child in node.children:
            longer, all_counts = Past(), Counts()
            rest = child.tokens[past.tokens :]
            _, reads = self.run([Segment(rest, past, keep=longer)])
            all_counts.add(counts)
            all_counts.add(reads[0])
            self._walk(child, longer, all_counts, leaf)

    def run(
        self, segments: Sequence[Segment], head_rows: int = ROWS
    ) -> tuple[list[Tensor], list[Counts]]:
        """A pass of segments of a stateless selector: their logits, and what each of them read."""
        assert self._packed is not None
        lengths = [len(segment.tokens) for segment in segments]
        if self.selector:
            self.selector.begin_window(sum(lengths))
        logits = self._packed.forward(segments, head_rows)
        return logits, self._drained(lengths)

    def _scored_alone(self, prompt: Prompt) -> Tensor:
        if self.selector:
            self.selector.begin_window(len(prompt.tokens))
        if self._packed is not None:
            segment = Segment(prompt.tokens, outputs=prompt.outputs)
            (logits,) = self._packed.forward([segment])
        else:
            logits = self.model(input_ids=self._ids(prompt.tokens)).logits
            logits = logits[0, -prompt.outputs :].float()
        self.prefill.add(self._drained([len(prompt.tokens)])[0], prompt.times)
        return logits

    # -- generation --------------------------------------------------------------------------

    def generate(
        self,
        prompts: Sequence[Prompt],
        most: Sequence[int],
        ended: Callable[[int, list[int]], bool],
        take: Callable[[int, list[int]], None],
    ) -> None:
        """Greedy continuation of each prompt, token by token with the sparse model.

        A prompt ends with the token after which `ended(place, tokens)` is true, or after `most`.
        """

        def leaf(item: Item, past: Past, counts: Counts) -> None:
            prompt = Past()
            rest = item.tokens[past.tokens :]
            logits, (read,) = self.run([Segment(rest, past, prompt, outputs=1)], head_rows=1)
            self.prefill.add(counts)
            self.prefill.add(read)
            take(item.index, self._continued(item.index, logits[0], prompt, most, ended))

        if self._packed is None or generation.asked(self.model):
            generation.check(self.model)
            with self._packed.aside() if self._packed else nullcontext():
                for i, prompt in enumerate(prompts):
                    take(i, self._generated_by_transformers(i, prompt, most, ended))
        else:
            self._walk(self._tree(prompts), Past(), Counts(), leaf)

    def _continued(
        self,
        index: int,
        logits: Tensor,
        past: Past,
        most: Sequence[int],
        ended: Callable[[int, list[int]], bool],
    ) -> list[int]:
        assert self._packed is not None
        generated: list[int] = []
        while True:
            generated.append(int(logits[-1].argmax()))
            if len(generated) >= most[index] or ended(index, generated):
                break
            (logits,) = self._packed.forward([Segment(generated[-1:], past, past, outputs=1)], 1)
        self._count_decoded(len(generated) - 1)
        return generated

    def _generated_by_transformers(
        self,
        index: int,
        prompt: Prompt,
        most: Sequence[int],
        ended: Callable[[int, list[int]], bool],
    ) -> list[int]:
        """With the model's own attention and cache, called as `generate` calls it.

        A pass of several tokens after the first is the past, computed anew: it counts as prefill.
        """
        if self.selector:
            self.selector.begin_window(len(prompt.tokens))
        generated, lengths = generation.continued(
            self.model, prompt.tokens, most[index], partial(ended, index)
        )
        reads = self._drained(lengths)
        for i, (length, read) in enumerate(zip(lengths, reads, strict=True)):
            (self.prefill if i == 0 or length > 1 else self.decode).add(read)
        return generated

    def _count_decoded(self, tokens: int) -> None:
        if tokens:
            self.decode.add(self._drained([tokens])[0])

    # -- counts ------------------------------------------------------------------------------

    def _drained(self, lengths: Sequence[int]) -> list[Counts]:
        """What the segments of the last pass, or passes, have read."""
        reads = self.selector.drain() if self.selector else {}
        counts, begin = [], 0
        for length in lengths:
            counts.append(self._counts(reads, begin, begin + length))
            begin += length
        return counts

    def _counts(self, reads: Mapping[str, Reads], begin: int, end: int) -> Counts:
        counts = Counts(end - begin)
        for group, read in reads.items():
            assert self.selector is not None
            used = read.used[:, begin:end]
            counts.places[group] = used.size * self.selector.units[group]
            counts.used[group] = int(used.sum())
            if read.hits is not None:
                counts.hits[group] = int(read.hits[:, begin:end].sum())
        return counts

    def _ids(self, tokens: Sequence[int]) -> Tensor:
        device = next(self.model.parameters()).device
        return torch.tensor([list(tokens)], device=device)


class _Batch:
    """Leaves that wait until they fill a pass."""

    def __init__(
        self,
        runner: RequestRunner,
        prompts: Sequence[Prompt],
        take: Callable[[int, Tensor], None],
    ) -> None:
        self.runner, self.prompts, self.take = runner, prompts, take
        self._waiting: list[tuple[Item, Past, Counts]] = []
        self._rows = 0

    def add(self, item: Item, past: Past, counts: Counts) -> None:
        self._waiting.append((item, past, counts))
        self._rows += len(item.tokens) - past.tokens
        if self._rows >= PASS_ROWS:
            self.flush()

    def flush(self) -> None:
        """A request of fewer than `ROWS` tokens has a pass to itself, as it would have alone."""
        long = [w for w in self._waiting if len(w[0].tokens) >= ROWS]
        for batch in (long, *([w] for w in self._waiting if len(w[0].tokens) < ROWS)):
            if batch:
                self._pass(batch)
        self._waiting, self._rows = [], 0

    def _pass(self, batch: list[tuple[Item, Past, Counts]]) -> None:
        segments = [
            Segment(item.tokens[past.tokens :], past, outputs=self.prompts[item.index].outputs)
            for item, past, _ in batch
        ]
        logits, read = self.runner.run(segments)
        for (item, _, before), counts, values in zip(batch, read, logits, strict=True):
            times = self.prompts[item.index].times
            self.runner.prefill.add(before, times)
            self.runner.prefill.add(counts, times)
            self.take(item.index, values)
