"""How many segments fit at a time: the search, the rule on a CPU, and that a run stays with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from wg.checkpoint.weights import read_weights
from wg.errors import UserError
from wg.measure.record import Record, read_events
from wg.sweep.rundir import prepare
from wg.train import fit
from wg.train.build import build
from wg.train.memory import available_memory
from wg.train.run import _run
from wg.train.settings import Settings

Config = Callable[..., dict[str, Any]]
RECIPE: dict[str, Any] = {"micro_batch": {}}


@pytest.mark.parametrize(
    ("room", "most", "expected"),
    [(99, 8, 0), (100, 8, 1), (149, 8, 1), (150, 8, 2), (320, 8, 5), (9999, 8, 8), (9999, 1, 1)],
)
def test_the_search_finds_the_largest(room: int, most: int, expected: int) -> None:
    """Of peaks that grow in proportion: 100 for one, 50 for each more; memory ends at the room."""
    tried = []

    def peak(n: int) -> int | None:
        tried.append(n)
        return 50 + 50 * n if 50 + 50 * n <= room else None

    assert fit.largest(peak, room, most) == expected
    assert len(tried) <= 3
    assert max(tried) <= most


def test_the_search_gives_way_where_more_is_needed_than_promised() -> None:
    def peak(n: int) -> int | None:
        return 100 * n + 5 * n * n

    n = fit.largest(peak, 2000, 64)
    assert (peak(n) or 0) <= 2000
    assert n >= 10  # 14 would just fit


def test_on_a_cpu_half_of_what_is_available_is_filled(
    tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = build(Settings.from_config(tiny_config(strategy=RECIPE, batch_size=12)))
    kept = fit.kept_bytes(job, nullcontext)
    # At least, in fp32: a layer's input, tanh, sigmoid and their product, of 4 channels each.
    assert kept > 4 * 2 * 512 * (4 * 4) * 4
    assert fit.most_segments(job) == 12
    # 12 in parts of at most 5: three of 4.
    monkeypatch.setattr(fit, "available_memory", lambda: int(2 * 5.5 * kept))
    assert fit.settle(job, Path("."), None, nullcontext) == 4
    assert job.module.micro_batch == 4
    monkeypatch.setattr(fit, "available_memory", lambda: 0)
    assert fit.settle(job, Path("."), None, nullcontext) == 1
    monkeypatch.setattr(fit, "available_memory", lambda: 1000 * kept)
    assert fit.settle(job, Path("."), None, nullcontext) == 12


def test_kept_memory_is_in_proportion(tiny_config: Config) -> None:
    kept = [
        fit.kept_bytes(build(Settings.from_config(tiny_config(segment_length=T))), nullcontext)
        for T in (2048, 4096)
    ]
    assert kept[1] / kept[0] == pytest.approx(2, rel=0.2)


@pytest.mark.parametrize(
    "growth", [{"grow_flows": {"n_flows": [2, 4]}}, {"grow_width": {"shares": [0.5, 1.0]}}], ids=str
)
def test_what_a_growing_run_ends_with_must_fit(
    growth: dict[str, Any], tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe counts every flow and channel, and leaves the run in its first stage."""
    whole = build(Settings.from_config(tiny_config(strategy=RECIPE)))
    job = build(Settings.from_config(tiny_config(strategy={**RECIPE, **growth})))
    seen = []

    def fitting(job: Any, most: int, autocast: Any) -> int:
        seen.append(fit.kept_bytes(job, autocast))
        return 1

    monkeypatch.setattr(fit, "_fitting", fitting)
    model = job.module.model
    before = list(model.active), model.width
    fit.settle(job, Path("."), None, nullcontext)
    assert (model.active, model.width) == before
    assert seen == [fit.kept_bytes(whole, nullcontext)]
    assert fit.kept_bytes(job, nullcontext) < 0.9 * seen[0]


def test_short_segments_count_by_their_samples(tiny_config: Config) -> None:
    strategy = {"curriculum": {"segment_lengths": [1024, 4096]}, **RECIPE}
    job = build(Settings.from_config(tiny_config(strategy=strategy, batch_size=4)))
    assert fit.most_segments(job) == 4
    strategy["ddp"] = {"ranks": 2}
    job = build(Settings.from_config(tiny_config(strategy=strategy, batch_size=4)))
    assert fit.most_segments(job) == 2


def test_when_not_even_one_fits(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    job = build(Settings.from_config(tiny_config(strategy=RECIPE)))
    monkeypatch.setattr(fit, "_fitting", lambda *a: 0)
    with pytest.raises(UserError, match="not even one segment of 4096 samples fits"):
        fit.settle(job, Path("."), None, nullcontext)


def test_a_resumed_run_keeps_its_number(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: Any
) -> None:
    """Whatever would fit by then; and it ends in the bits of a run that was not interrupted."""
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)
    monkeypatch.setattr(fit, "_fitting", lambda *a: 2)
    ended = []
    for name in ("whole", "parts"):
        config = tiny_config(strategy=RECIPE, batch_size=4, out=str(tmp_path / name))
        run_dir = prepare(config, [])
        if name == "parts":
            with stopped(1):
                assert _run(run_dir, 0) == 130
            monkeypatch.setattr(fit, "_fitting", lambda *a: 4)
        assert _run(run_dir, 0) == 0
        found = [e for e in read_events(run_dir) if e["event"] == "micro_batch"]
        assert [(e["segments"], e["of"]) for e in found] == [(2, 4)]
        ended.append(read_weights(run_dir / "final")[1])
    assert all(torch.equal(w, ended[1][k]) for k, w in ended[0].items())


def test_the_record_says_what_was_found(tiny_config: Config, tmp_path: Path) -> None:
    job = build(Settings.from_config(tiny_config(strategy=RECIPE, batch_size=4)))
    assert fit.settle(job, tmp_path, Record(tmp_path), nullcontext) == 4  # all of it fits here
    job.module.micro_batch = None
    assert fit.settle(job, tmp_path, Record(tmp_path), nullcontext) is None
    assert job.module.micro_batch == 4


def test_available_memory_is_some_and_not_more_than_there_is() -> None:
    assert 2**20 < available_memory() < 2**50
