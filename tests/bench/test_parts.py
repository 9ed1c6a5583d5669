"""The bench's yardsticks: FLOPs, ratios, batches, and what passes for the same step."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from wg.audio.mel import MelConfig
from wg.bench.agree import BITS_7, BITS_10, EXACT, STEPS, Agreement, agreement, tolerance, trace
from wg.bench.batch import make_batch
from wg.measure.ratio import paired_ratio


def test_the_interval_of_a_median_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for n in (6, 9, 15, 40):
        inside, stated = 0, 0.0
        for _ in range(4000):
            # Skewed and heavy-tailed, as times are; the true median ratio is 1.3.
            x = 1.3 * np.exp(rng.standard_t(2, n))
            found = paired_ratio(list(x), [1.0] * n)
            inside += found.low <= 1.3 <= found.high
            stated = found.coverage
            assert found.low <= found.median <= found.high
        assert stated >= 0.95
        assert inside / 4000 == pytest.approx(stated, abs=0.015)


def test_few_pairs_say_how_little_they_cover() -> None:
    three = paired_ratio([2.0, 4.0, 9.0], [1.0, 1.0, 3.0])
    assert (three.low, three.median, three.high, three.n) == (2.0, 3.0, 4.0, 3)
    assert three.coverage == 0.75
    assert paired_ratio([1.0], [2.0]).coverage == 0.0


def test_a_batch_sounds_like_speech_to_the_model() -> None:
    mel = MelConfig(16000)
    batch = make_batch(mel, 3, 16000)
    assert batch.mel.shape == (3, 80, 63)
    assert batch.samples == 48000
    assert batch.audio.abs().max() < 1
    level = 10 * math.log10(float(batch.audio.square().mean()))
    assert -25 < level < -19
    assert not (batch.audio == 0).any()
    # Voiced: low bands above high ones. Syllables: the level comes and goes.
    assert batch.mel[:, 5:20].mean() > batch.mel[:, 60:].mean() + 1
    frames = batch.audio[:, : 62 * 256].reshape(3, 62, 256).square().mean(2).sqrt()
    assert (frames.amin(1) < 0.2 * frames.amax(1)).all()
    assert torch.equal(make_batch(mel, 3, 16000).audio, batch.audio)
    assert not torch.equal(make_batch(mel, 3, 16000, seed=1).audio, batch.audio)
    assert not torch.equal(batch.audio[0], batch.audio[1])


def test_tolerances_follow_the_arithmetic() -> None:
    assert tolerance("32-true", "highest") == EXACT
    assert tolerance("32-true", "high") == BITS_10
    assert tolerance("16-mixed", "highest") == BITS_10
    assert tolerance("bf16-mixed", "highest") == BITS_7
    assert tolerance("bf16-mixed", "high") == BITS_7


class Toy:
    """A step on one weight: the loss (w - 3)^2."""

    def __init__(self, **faults: Any) -> None:
        self.w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        self.optimizer = torch.optim.SGD([self.w], lr=0.1)
        self.faults = SimpleNamespace(**{"scale": 1.0, "offset": 0.0, "lazy": False, **faults})

    def use(self) -> None: ...

    def backward(self) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = (self.w - 3).square().sum()
        (loss * self.faults.scale).backward()
        return loss.detach() + self.faults.offset

    def update(self) -> None:
        if not self.faults.lazy:
            self.optimizer.step()

    def gradients(self) -> dict[str, torch.Tensor]:
        assert self.w.grad is not None
        return {"w": self.w.grad}


def judged(allowed: Any = EXACT, **faults: Any) -> Agreement:
    return agreement(trace(Toy()), trace(Toy(**faults)), allowed)  # type: ignore[arg-type]


def test_a_fast_wrong_step_is_found_out() -> None:
    assert judged().same is True
    assert judged().gradients == 0.0
    assert judged(offset=0.1).same is False  # another loss
    assert judged(scale=1.001).same is False  # other gradients
    assert judged(scale=1.001, allowed=BITS_10).same is True
    lazy = judged(lazy=True)  # right in all, but learns nothing
    assert (lazy.loss, lazy.gradients, lazy.same) == (0.0, 0.0, False)
    assert judged(scale=float("nan")).same is False
    assert judged(offset=float("nan")).same is False
    assert judged(None, offset=1.0).same is None  # nothing was promised
    assert len(trace(Toy()).losses) == STEPS  # type: ignore[arg-type]


def test_other_parameters_are_no_agreement() -> None:
    one, other = trace(Toy()), trace(Toy())  # type: ignore[arg-type]
    renamed = type(other)(other.losses, {"v": other.gradients["w"]})
    found = agreement(one, renamed, EXACT)
    assert (found.gradients, found.same) == (None, False)
