"""A replay from beginning to end: probes and points in turn on one image, and what came out.

Between the points the same reader does reads of single sizes, as many in flight, so that a disk
that changes its mind shows it. Time in which threads only wait for each other is measured too, and
added to each prediction: it is the reader's, and no storage's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from reports.reading.stopwatch import NOT_MEASURABLE
from sweep.errors import InputError, ResourceError
from sweep.probe import replay, system
from sweep.probe.grid import KIB
from sweep.probe.image import Image, check_folder, image
from sweep.replay import multiply
from sweep.replay.multiply import Multiplied, Work
from sweep.replay.points import Replayable
from sweep.replay.predict import Models, models

PROBED = tuple(KIB << step for step in range(1, 11))
"""Sizes of the probes, 2 KiB to 1 MiB; those that the disk cannot read directly are left out."""
PROBE_PHASES, PROBE_READS = 6, 4
"""Phases of a probe at least, and reads of each of its threads in one."""
PROBE_SECONDS = 0.1
"""Of a probe, about what the tokens of a point take: a shorter one sees the storage at a moment,
and differs from the next by more than points do."""
MOST_PHASES = 5_000
"""Of a probe, however fast the storage is."""
LEAST_IMAGE = 64 << 20
MODELS = ("paper", "affine", "curve")
MOST_WAITED = 0.5
"""Share of the time in which threads may wait for each other: it is in what is measured and in what
is predicted, so where it is most of both they agree whatever the storage does."""


@dataclass(frozen=True, slots=True)
class Line:
    """A point: per token its reads, bytes and seconds of Flash, predicted and measured."""

    point_key: str
    label: str
    tokens: int
    reads_per_token: float
    bytes_per_token: float
    meeting_s: float
    """Seconds in which threads waited for each other; in all that follow."""
    paper_s: float
    affine_s: float
    curve_s: float
    measured_s: float
    measured_low_s: float
    measured_high_s: float
    valid: bool
    reason: str
    products: Products | None = None
    """Of a replay that multiplies."""

    def error(self, model: str) -> float:
        """Relative error of a model's prediction."""
        return float(getattr(self, f"{model}_s")) / self.measured_s - 1


@dataclass(frozen=True, slots=True)
class Products:
    """A token's reads and products together, measured, and predicted by the curve and one rate of
    products for all points: of each phase the longer of the two. `computing_s` is of products
    alone, with every unit in memory."""

    used_bytes_per_token: float
    computing_s: float
    predicted_s: float
    measured_s: float
    measured_low_s: float
    measured_high_s: float
    valid: bool

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted_s / self.measured_s - 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a replay showed."""

    depth: int
    lines: tuple[Line, ...]
    spread: float
    noisy: bool
    latency_us: float
    gbps: float
    curve: tuple[tuple[float, float], ...]
    file_system: str

    @property
    def verdict(self) -> str:
        """One sentence or two: how near the curve and the paper's model came."""
        valid = [line for line in self.lines if line.valid]
        if why := self._refusal(valid):
            return f"{NOT_MEASURABLE}: {why}."
        texts = []
        for name, words in (("curve", "The curve"), ("paper", "bytes over bandwidth")):
            errors = [abs(line.error(name)) for line in valid]
            texts.append(f"{words} is off by {_spread(errors)}")
        sentence = f"{texts[0]}; {texts[1]}."
        timed = [line.products for line in valid if line.products and line.products.valid]
        if not timed:
            return sentence
        return (
            f"{sentence} With products, the longer of the curve and of compute is off by "
            f"{_spread([abs(one.error) for one in timed])}."
        )

    def _refusal(self, valid: Sequence[Line]) -> str:
        """Why nothing can be measured here; empty if it can."""
        if self.noisy:
            return f"probes of one size differ by {self.spread:.0%}"
        if not valid:
            return "no valid row"
        waited = median(line.meeting_s / line.measured_s for line in valid)
        if waited > MOST_WAITED:
            return f"threads wait for each other for {waited:.0%} of the time"
        return ""

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a file of the run folder."""
        return {**asdict(self), "verdict": self.verdict}


def _spread(errors: Sequence[float]) -> str:
    return f"{median(errors):.0%} in the median, {max(errors):.0%} at worst"


def run(
    folder: Path,
    points: Sequence[Replayable],
    depth: int,
    repeats: int,
    say: Callable[[str], None],
    products: bool = False,
) -> Outcome:
    """Replay points on an image in a folder, with `products` multiplying what is read, too. Raises
    InputError and ResourceError; the image is gone then, too."""
    if depth < 1 or repeats < 1:
        raise InputError(f"--depth {depth}, --repeats {repeats}: 1 or more are expected")
    check_folder(folder)
    size = max(LEAST_IMAGE, *(_region(point) for point in points))
    say(f"writes an image of {size / 1e6:.0f} MB, reads it and removes it")
    with image(folder, size, pieces=replay.content) as made:
        made.descriptor("direct")  # raises where direct reads are refused
        probes = _probes(made, depth)
        rounds = [_probed(made, probes, depth)]
        bridge = models(rounds).affine
        bridge_bytes = bridge.latency_us * bridge.gbps * 1e3
        replayed: list[tuple[replay.Plan, replay.Replayed]] = []
        timed: list[tuple[Work, Multiplied]] = []
        held = multiply.resident(made) if products else None
        for number, point in enumerate(points, 1):
            say(f"{number} of {len(points)}: {point.label}")
            wanted = _plan(point, made.align, bridge_bytes)
            replayed.append((wanted, replay.replay(made, wanted, depth, repeats)))
            if held is not None:
                columns = _work(point, wanted, made.align)
                done = multiply.multiply(made, wanted, columns, held, depth, repeats)
                timed.append((columns, done))
            rounds.append(_probed(made, probes, depth))
        known = models(rounds)
        lines = [_line(p, *one, known) for p, one in zip(points, replayed, strict=True)]
        lines = _with_products(lines, replayed, timed, known) if timed else lines
        law = known.affine
        return Outcome(
            depth,
            tuple(lines),
            known.spread,
            known.noisy,
            law.latency_us,
            law.gbps,
            known.curve.rows,
            system.file_system(folder),
        )


def _region(point: Replayable) -> int:
    """Bytes that the groups of a point take in an image, with room for alignment."""
    sizes = (phases.missed.shape[1] * phases.unit_bytes for phases in point.phases)
    return sum(-(-size // 4096) * 4096 for size in sizes)


def _plan(point: Replayable, align: int, bridge_bytes: float) -> replay.Plan:
    reads = [replay.runs(p.missed, p.unit_bytes, align, bridge_bytes) for p in point.phases]
    missed, sizes = [p.missed for p in point.phases], [p.unit_bytes for p in point.phases]
    return replay.plan(missed, sizes, reads, align)


def _work(point: Replayable, wanted: replay.Plan, align: int) -> Work:
    used, missed = [p.used for p in point.phases], [p.missed for p in point.phases]
    return multiply.work(wanted, used, missed, [p.unit_bytes for p in point.phases], align)


def _with_products(
    lines: Sequence[Line],
    replayed: Sequence[tuple[replay.Plan, replay.Replayed]],
    timed: Sequence[tuple[Work, Multiplied]],
    known: Models,
) -> list[Line]:
    """The lines with what multiplying took; its rate is the median of all points."""
    rates = [
        columns.used_bytes(wanted.phases).sum()
        / max(1e-9, wanted.tokens * (done.computing_s - seen.meeting_s))
        for (wanted, seen), (columns, done) in zip(replayed, timed, strict=True)
    ]
    rate = median(rates)
    return [
        replace(line, products=_products(wanted, seen, columns, done, known, rate))
        for line, (wanted, seen), (columns, done) in zip(lines, replayed, timed, strict=True)
    ]


def _products(
    wanted: replay.Plan,
    seen: replay.Replayed,
    columns: Work,
    done: Multiplied,
    known: Models,
    rate: float,
) -> Products:
    used = columns.used_bytes(wanted.phases)
    costs = np.concatenate([[0.0], np.cumsum(known.curve(wanted.lengths))])
    reading = np.diff(costs[wanted.phases])
    seconds = float(np.maximum(reading, used / rate).sum()) / wanted.tokens
    times = (done.both_s, done.both_low_s, done.both_high_s)
    sums = (float(used.sum()) / wanted.tokens, done.computing_s, seconds + seen.meeting_s)
    return Products(*sums, *times, done.valid)


def _line(point: Replayable, wanted: replay.Plan, seen: replay.Replayed, known: Models) -> Line:
    predicted: Mapping[str, float] = known.seconds(wanted.lengths)
    middle, low, high = seen.seconds_per_token
    return Line(
        point.key,
        point.label,
        wanted.tokens,
        wanted.reads_per_token,
        wanted.bytes_per_token,
        seen.meeting_s,
        *(predicted[name] / wanted.tokens + seen.meeting_s for name in MODELS),
        measured_s=middle,
        measured_low_s=low,
        measured_high_s=high,
        valid=seen.valid,
        reason="; ".join(dict.fromkeys(reason for reason in seen.reasons if reason)),
    )


def _probes(made: Image, depth: int) -> dict[int, replay.Plan]:
    """Reads of each size all over the disk, as many as take `PROBE_SECONDS`."""
    plans: dict[int, replay.Plan] = {}
    for size in PROBED:
        if size % made.align or size * depth * PROBE_READS > made.size:
            continue
        short = _probe(made, size, depth, PROBE_PHASES)
        took = replay.replay(made, short, depth).seconds_per_token[0]  # of a phase
        phases = min(MOST_PHASES, math.ceil(PROBE_SECONDS / max(took, 1e-6)))
        plans[size] = _probe(made, size, depth, max(PROBE_PHASES, phases))
    if len(plans) < 2:
        raise ResourceError("this disk reads too few sizes directly for a curve")
    return plans


def _probe(made: Image, size: int, depth: int, phases: int) -> replay.Plan:
    count = depth * PROBE_READS * phases
    offsets = np.random.default_rng(depth).integers(0, made.size // size, count) * size
    ends = np.arange(0, count + 1, depth * PROBE_READS)
    return replay.Plan(offsets, np.full(count, size, np.int64), ends, 1, made.size)


def _probed(made: Image, probes: Mapping[int, replay.Plan], depth: int) -> dict[int, float]:
    """Seconds of a read by its bytes, with `depth` reads in flight."""
    return {size: _seconds(made, plan, depth) for size, plan in probes.items()}


def _seconds(made: Image, probe: replay.Plan, depth: int) -> float:
    """Of one read of a probe, without the time in which threads wait for each other."""
    seen = replay.replay(made, probe, depth)
    middle = seen.seconds_per_token[0] - seen.meeting_s
    return max(middle * probe.tokens, 1e-9) / len(probe.lengths)
