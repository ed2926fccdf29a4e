"""What a sweep works on: the fingerprints, geometries and windows of its models and texts.

Planning asks here and nowhere else, so it needs neither torch nor transformers. What is not
present is planned all the same, under a fingerprint that says so and a note.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, cast

from methods.names import Swap
from methods.registry import create
from simulator import Geometry, Storage, weight_bytes
from sweep.downstream.cards import asked, card, ensure
from sweep.downstream.task import DownstreamTask
from sweep.errors import InputError
from sweep.inputs import coded, model_sizes, model_trial, ready, text_files, texts
from sweep.inputs import model_ref as weights
from sweep.keys import digest
from sweep.plan.excluded_points import check_each
from sweep.plan.point import Point
from sweep.plan.sizes import check_experts, difference, groupby_model, planned_sizes, sparse_note
from sweep.spec.entries import Sweep

if TYPE_CHECKING:
    from methods.static.coded import Coded

CALIBRATION_WINDOWS = 4
"""Windows of the calibration text from which the order of units is taken."""

_BEGINNINGS = {
    "each-window": "each window begins with the BOS that the tokenizer puts before a text.",
    "first-window": "the first window alone begins with the BOS that the tokenizer puts before a"
    " text, as in the GPTQ protocol; a perplexity can be much higher than with one in each.",
    "none": "no window begins with the BOS that the tokenizer puts before a text; a perplexity can"
    " be much higher than with one.",
}

FEW = 3
"""So many windows claim nothing about the rest of a text: they are its first, as a plain loop that
tries a model would take them."""


def spread(count: int, seed: int) -> list[int]:
    """The windows of a text in an order that looks random and that the seed alone fixes.

    By their hashes: the same in every release of Python and NumPy.
    """
    return sorted(range(count), key=lambda w: hashlib.sha256(f"{seed} {w}".encode()).digest())


class Materials:
    """Models and texts of one sweep; each is looked at once."""

    def __init__(self, sweep: Sweep, downstream: bool = False) -> None:
        """With `downstream`, the tasks of the sweep are among what it works on."""
        self.sweep = sweep
        self.asked = asked(sweep) if downstream else ()
        self.models = tuple(dict.fromkeys(entry.model for entry in sweep.models))
        """Those that are planned with; of the sweep's, some may be excluded."""
        self.notes: list[str] = []
        self.complete = True
        """Whether all that was asked for is present, so that keys and shards are final."""
        self._memory: dict[tuple[Any, ...], Any] = {}
        if text_files.fingerprint(sweep.text) == text_files.fingerprint(sweep.calibration, True):
            raise InputError(
                f"{sweep.source}: sweeps.{sweep.name}: text {sweep.text} and calibration "
                f"{sweep.calibration} are the same words; what is reported must not be tuned on"
            )

    def fetch(
        self, points: Iterable[Point], calibration: bool, notify: Callable[[str], None]
    ) -> None:
        """Make models and texts present and tokenised, the calibration text only if it is used.

        Raises InputError or ResourceError.
        """
        size, bos = self.sweep.window_tokens, self.sweep.bos
        every = list(points)
        neurons = (point for point in every if not point.traits.routes)
        pruned = {point.model for point in neurons if point.traits.groups or point.swap}
        models = dict.fromkeys(point.model for point in every)

        def make_ready(model: str) -> None:
            ready.ensure(model, notify, model in pruned)

        check_each({model: model for model in models}, make_ready, self.sweep.name)
        for model in models:
            texts.count(self.sweep.text, model, size, make=True, bos=bos)
            if calibration:
                texts.count(self.sweep.calibration, model, size, True, make=True, bos=bos)
        cards = [card(task) for task in self.asked]
        if ensure(self.asked, notify) != cards:
            self.complete = False  # shards are other than planned, or not planned yet

    # -- models ------------------------------------------------------------------------------

    def weights(self, model: str) -> str:
        """Fingerprint of a model's weights, configuration and tokenizer, hashed together."""
        return self._once(("weights", model), self._weights, model)

    def _weights(self, model: str) -> str:
        mark = weights.fingerprint(model)
        if mark.startswith("unfetched:"):
            self._note(f"model {model} is not present; keys are final once it is fetched")
            return mark
        return digest([mark, weights.tokenizer_fingerprint(model)])

    def generation(self, model: str) -> str:
        """Fingerprint of a model's generation settings; empty where it has none."""
        return self._once(("generation", model), weights.generation_fingerprint, model)

    def geometry(self, point: Point) -> Geometry:
        """Sizes from the sweep file, the built-in table, or the model's own files.

        Raises InputError where they are not those of a decoder with gated MLPs of one width.
        """
        geometry = point.geometry or self._sizes(point.model)
        check_experts(point, geometry)
        return geometry

    def _sizes(self, model: str) -> Geometry:
        geometry = next((m.load_geometry() for m in self.sweep.models if m.model == model), None)
        return geometry or self._once(("geometry", model), model_sizes.geometry, model)

    def storage(self, point: Point) -> Storage:
        """How the point's weights are stored: where it asks for that, with the bits of the files.

        Raises InputError where these cannot be told; of files that are not here the bits are as
        if they were none of their own, under the note that says so.
        """
        if not (point.quant.of_file or point.traits.coded):
            return point.storage
        stored = self._stored(point.model) if point.quant.of_file else None
        plain = replace(point.storage, file=stored and stored.bits)
        if point.traits.coded:
            identity = ("coded", point.model, point.method, plain)
            stored = self._once(identity, self._coded, point, plain)
        if stored is None:
            self._note(f"model {point.model} is not present; its bits are known once it is fetched")
            return point.storage
        return replace(plain, file=stored.bits)

    def _coded(self, point: Point, plain: Storage) -> model_sizes.Stored | None:
        return coded.stored(point.model, cast("Coded", create(point.method)), plain)

    def _stored(self, model: str) -> model_sizes.Stored | None:
        return self._once(("stored", model), model_sizes.stored, model)

    def _file_bytes(self, model: str) -> float | None:
        """Bytes of the weights in the model's files; None where that is not known."""
        try:
            stored = self._stored(model)
        except InputError:  # of a model whose sizes the sweep file gives
            return None
        return stored and stored.bytes

    def compare_sizes(self, points: Iterable[Point]) -> None:
        """Note where the bytes that are simulated are not those of the model's files, and where
        weights arrive sparse."""
        for model, of_model in groupby_model(points).items():
            if sparse := self._arrives_sparse(model):
                self.notes.append(sparse)
            in_files = self._file_bytes(model)
            for point in of_model if in_files else ():
                counted = sum(weight_bytes(self.geometry(point), self.storage(point)).values())
                text = difference(model, counted, float(in_files or 0), point.quant)
                if text and text not in self.notes:
                    self.notes.append(text)

    def _arrives_sparse(self, model: str) -> str:
        """The note of a model whose weights arrive sparse; empty if it was made or is not called
        for."""
        glance = coded.sparsity_at_a_glance(model)
        if glance is None or glance[1] < coded.SPARSE:
            return ""
        note = sparse_note(model, *glance)
        return "" if note in self.notes else note

    def where(self, point: Point, role: str) -> dict[str, str]:
        """Where a worker finds the model and the text, and how many windows it runs at once."""
        batch = {"batch": str(self.sweep.batch)} if self.sweep.batch else {}
        return batch | {
            "model": self._once(("place", point.model), weights.locate, point.model),
            "sizes": self._once(("sizes", point.model), planned_sizes, self.geometry(point)),
            "text_name": text_files.locate(getattr(point.accuracy, role)),
        }

    def title(self, model: str, swap: Swap | None = None) -> str:
        """The model's name in reports."""
        plain = self._once(("title", model), self._title, model)
        return f"{plain} {swap.title}" if swap else plain

    def _title(self, model: str) -> str:
        title = next((m.title for m in self.sweep.models if m.model == model), "")
        return title or model_sizes.title(model)

    # -- texts -------------------------------------------------------------------------------

    @property
    def text_title(self) -> str:
        """The name of the evaluated text in reports."""
        return self.sweep.text_title or PurePath(self.sweep.text).name

    def text(self, point: Point, role: str) -> str:
        """Fingerprint of the `text` or `calibration` text."""
        name, calibration = getattr(point.accuracy, role), role == "calibration"
        return self._once(("text", name, role), text_files.fingerprint, name, calibration)

    def shards(self, point: Point) -> list[tuple[int, ...]]:
        """Windows to evaluate, cut into shards of `shard_windows`; InputError if too few."""
        accuracy = point.accuracy
        self._once(("positions", point.model), self._check_positions, point.model)
        have = self._windows(point.model, calibration=False)
        limit = accuracy.windows
        if have is not None and limit is not None and limit > have:
            raise InputError(
                f"{self.sweep.source}: sweeps.{self.sweep.name}.windows: {limit} windows of "
                f"{accuracy.window_tokens} tokens are asked for; text {accuracy.text} has {have}"
            )
        if limit is None and have is None:
            self._note(f"text {accuracy.text} is not present: one window stands for all of them")
        count, size = limit or have or 1, accuracy.shard_windows
        chosen = range(count)
        few = limit is None or have is None or limit <= FEW
        if not few and accuracy.window_order == "spread":
            chosen = spread(have or count, accuracy.seed)[:count]
        return [tuple(chosen[i : i + size]) for i in range(0, count, size)]

    def bos(self, point: Point) -> str:
        """As `bos_of`; empty, too, where windows are those of the text tokenised once, so that
        keys are those of releases that knew no other."""
        bos = self.bos_of(point.model)
        return "" if bos == texts.FIRST_WINDOW else bos

    def bos_of(self, model: str) -> str:
        """Which windows begin with what the tokenizer puts before a text; empty where it puts
        nothing there."""
        before = self._once(("before", model), texts.kept_before_text, model)
        self.complete = self.complete and before is not None
        return "" if before is None or not len(before) else self.sweep.bos

    def _check_positions(self, model: str) -> None:
        model_trial.check_positions(model, self.sweep.window_tokens)

    def calibration_windows(self, point: Point) -> int:
        """How many windows of the calibration text are used."""
        have = self._windows(point.model, calibration=True)
        return CALIBRATION_WINDOWS if have is None else min(have, CALIBRATION_WINDOWS)

    def training_windows(self, point: Point, limit: int) -> int:
        """How many windows of the calibration text a training gets that can use `limit`."""
        have = self._windows(point.model, calibration=True)
        return limit if have is None else min(have, limit)

    def text_windows(self, model: str) -> int | None:
        """Windows that the evaluated text has for a model; None if that is not known yet."""
        return self._windows(model, calibration=False)

    def _windows(self, model: str, calibration: bool) -> int | None:
        """Windows that a text has for a model's tokenizer; None if that is not known yet."""
        name, size = self._text_name(calibration), self.sweep.window_tokens
        identity = ("windows", model, calibration)
        bos = self.sweep.bos
        have = self._once(identity, texts.count, name, model, size, calibration, False, bos)
        self.complete = self.complete and have is not None
        return have

    def _text_name(self, calibration: bool) -> str:
        return self.sweep.calibration if calibration else self.sweep.text

    # -- downstream tasks --------------------------------------------------------------------

    def tasks(self) -> list[tuple[DownstreamTask, dict[str, Any]]]:
        """The tasks of the sweep with what is known of them; without those not looked at yet."""
        return self._once(("tasks",), self._tasks)

    def _tasks(self) -> list[tuple[DownstreamTask, dict[str, Any]]]:
        pairs = []
        for task in self.asked:
            task_card = card(task)
            if task_card is None:
                self._note(f"task {task.name} was not looked at yet: its shards are not planned")
            else:
                pairs.append((task, task_card))
        return pairs

    # -- for the report ----------------------------------------------------------------------

    def describe_models(self) -> dict[str, dict[str, Any]]:
        """Fingerprint and geometry of each model, for the provenance."""
        return {
            model: {
                "weights": weights.fingerprint(model),
                "geometry": self._sizes(model).to_mapping(),
            }
            for model in self.models
        }

    def describe_texts(self) -> dict[str, dict[str, Any]]:
        """Fingerprint of each text, for the provenance."""
        roles = {"evaluation": False, "calibration": True}
        return {
            f"{self._text_name(calibration)} ({role})": {
                "fingerprint": text_files.fingerprint(self._text_name(calibration), calibration)
            }
            for role, calibration in roles.items()
        }

    def caveats(self) -> list[str]:
        """What a reader of the report should know about these models and texts."""
        every = self.models
        begun = [f"{model}: {_BEGINNINGS[bos]}" for model in every if (bos := self.bos_of(model))]
        begun += [note for model in every if (note := model_trial.note(model))]
        small = [model for model in every if self._parameters(model) < 1e9]
        if not small:
            return begun
        names = ", ".join(map(self.title, small))
        relative = [f"+{b[:-1]} %" for b in self.sweep.budgets if b.endswith("%")]
        read = f"; read the relative budgets ({', '.join(relative)})" if relative else ""
        caveat = "a small model loses more perplexity at a given density than those of the paper"
        return [*begun, f"{names}: {caveat}{read}."]

    def _parameters(self, model: str) -> float:
        return self._sizes(model).weights

    # -- helpers -----------------------------------------------------------------------------

    def _note(self, text: str) -> None:
        self.complete = False
        if text not in self.notes:
            self.notes.append(text)

    def _once(self, identity: tuple[Any, ...], make: Callable[..., Any], *arguments: Any) -> Any:
        if identity not in self._memory:
            self._memory[identity] = make(*arguments)
        return self._memory[identity]
