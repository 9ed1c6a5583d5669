"""The two classical failures of training WaveGlow, reproduced in plain PyTorch, then survived.

What draws silent segments again (data.silence_db) is tested with the data, in test_data.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from wg.checkpoint.weights import load_model, read_weights, save_weights
from wg.flow import WaveGlow
from wg.flow.config import FlowConfig
from wg.flow.waveglow import nll
from wg.measure.record import Event, read_events, status, train_curve
from wg.sweep.rundir import prepare
from wg.train.build import build
from wg.train.guard import MAX_STREAK, Guard
from wg.train.run import _run
from wg.train.settings import Settings

Config = Callable[..., dict[str, Any]]
SIZE = FlowConfig(
    n_mels=16, n_flows=4, n_early_every=2, n_layers=2, n_channels=4, upsample_kernel=512
)
# At this step size exp overflows within some sixty steps on silence; on audio it trains.
LR = 0.03


@pytest.fixture(autouse=True)
def _no_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wg.train.run._score", lambda *a, **k: None)


def ended(run_dir: Path) -> tuple[Event, Event]:
    """The last rollback and the last end of a run that diverged."""
    events = read_events(run_dir)
    assert status(events) == "failed"
    return [e for e in events if e["event"] == "rollback"][-1], events[-1]


def finite(weights: dict[str, torch.Tensor]) -> bool:
    return all(bool(w.isfinite().all()) for w in weights.values())


# -- fp16: the loss scale falls to zero -----------------------------------------------------------


def plain_fp16(batches: list[torch.Tensor]) -> Iterator[tuple[float, torch.Tensor, torch.Tensor]]:
    """The loop of PyTorch's AMP examples: (scale, a copy of the weight, its gradient) a step."""
    model = torch.nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu")
    for x in batches:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = model(x).float().square().mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        assert model.weight.grad is not None
        gradient = model.weight.grad.clone()
        scaler.step(optimizer)
        scaler.update()
        yield scaler.get_scale(), model.weight.detach().clone(), gradient


def test_plain_fp16_falls_to_scale_zero_and_takes_the_weights_along() -> None:
    """Every bad batch halves the scale, whether or not scale was the matter. At 0 the scaled
    gradients are 0, which passes for finite, and the scale's inverse is infinite: the first good
    batch after that unscales to 0 times infinity and leaves no weights."""
    torch.manual_seed(0)
    good = torch.randn(8, 4)
    bad = torch.full((8, 4), 1e6)  # beyond fp16
    steps = list(plain_fp16([good, *[bad] * 166, good]))
    scales = [s for s, _, _ in steps]
    assert scales[:18] == [65536.0, *[2.0**n for n in range(15, -2, -1)]]
    assert scales[-2] == 0.0
    assert all(torch.equal(w, steps[0][1]) for _, w, _ in steps[:-1])
    assert bool(steps[-1][2].isnan().all())
    assert bool(steps[-1][1].isnan().all())
    # Among good batches too: one bad one in a hundred outweighs a doubling every 2,000 steps.
    *_, (scale, _, _) = plain_fp16(([good] * 99 + [bad]) * 20)
    assert scale == 65536.0 / 2**20


def donor(folder: Path, spoil: Callable[[WaveGlow], None]) -> dict[str, Any]:
    """Settings of a warm start from weights that are fine in fp32 and not in fp16."""
    torch.manual_seed(0)
    model = WaveGlow(SIZE)
    for wn in model.WN:
        torch.nn.init.normal_(wn.end.weight, std=0.05)
    with torch.no_grad():
        spoil(model)
    save_weights(folder, model.state_dict(), SIZE, {"sampling_rate": 16000})
    return {"warm_start": {"donor": str(folder), "donor_seconds": 0.0}}


def large_activations(model: WaveGlow) -> None:
    model.WN[2].start.weight_g.fill_(1e7)


def large_gradients(model: WaveGlow) -> None:
    model.convinv[3].conv.weight[3:].mul_(1e13)  # half of its channels: WN sees the others


@pytest.mark.parametrize(
    ("spoil", "steps", "words"),
    [
        # The loss itself is not finite, and the scale stays out of it.
        (
            large_activations, MAX_STREAK,
            ["WN.2.start overflowed float16, which ends at 6.55e+04", "8 steps in a row"],
        ),
        # The loss is finite: the scale is lowered, from 2^16 to 2^-8 and no further.
        (
            large_gradients, 25,
            ["the gradient at the output of WN.3.end is not finite",
             "fp16's loss scale fell from 65536 to 0.0039"],
        ),
    ],
    ids=["activations", "gradients"],
)  # fmt: skip
def test_fp16_stops_with_the_cause_and_finite_weights(
    spoil: Callable[[WaveGlow], None], steps: int, words: list[str],
    tiny_config: Config, tmp_path: Path,
) -> None:  # fmt: skip
    strategy = {**donor(tmp_path / "donor", spoil), "fp16": {}}
    budget = {"audio_seconds": 40.0}
    run_dir = prepare(tiny_config(strategy=strategy, budget=budget, log_every=1), [])
    assert _run(run_dir, 0) == 1
    rollback, end = ended(run_dir)
    assert end["reason"].startswith("diverged: ")
    for word in words:
        assert word in end["reason"]
    assert "bf16 in place of fp16" in rollback["mend"]
    assert (rollback["from_step"], rollback["step"]) == (steps, 0)
    assert rollback["skipped_steps"] == steps
    assert finite(read_weights(run_dir / "final")[1])
    # The mend is one: the same weights train in bf16.
    del strategy["fp16"]
    other = prepare(tiny_config(strategy={**strategy, "bf16": {}}), [])
    if spoil is large_activations:
        assert _run(other, 0) == 0


def test_bad_batches_leave_the_scale_alone(
    tiny_config: Config, poison: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of them bad would take a plain scaler to zero; here good steps go on to be made."""
    scales = []
    judge = Guard.judge

    def spy(self: Guard, optimizer: Any, loss: Any, scaler: Any) -> Any:
        scales.append(scaler.get_scale())
        return judge(self, optimizer, loss, scaler)

    monkeypatch.setattr(Guard, "judge", spy)
    budget = {"audio_seconds": 20.0}
    run_dir = prepare(tiny_config(strategy={"fp16": {}}, budget=budget), [])
    with poison(lambda step: step % 2 == 1):
        assert _run(run_dir, 0) == 0
    assert len(scales) == 40
    assert set(scales) == {65536.0}
    assert train_curve(read_events(run_dir))[-1]["skipped_steps"] == 20


# -- digital silence: the likelihood has no bound -------------------------------------------------


@pytest.fixture
def silence(tmp_path: Path) -> dict[str, Any]:
    """Settings of a corpus of zeros. Of unequal lengths: copies are counted once."""
    folder = tmp_path / "silence"
    folder.mkdir()
    for i in range(6):
        soundfile.write(folder / f"{i}.wav", np.zeros(16000 + 256 * i), 16000, subtype="PCM_16")
    return {"path": str(folder), "name": "silence"}


def test_plain_training_on_silence_ends_in_nan() -> None:
    """Every log_s that grows lowers the loss, until exp overflows and 0 times infinity is NaN;
    the step after has no weights any more."""
    torch.manual_seed(0)
    model = WaveGlow(SIZE)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    mel, audio = torch.full((2, 16, 3), math.log(1e-5)), torch.zeros(2, 512)
    losses = []
    for _ in range(100):
        loss = nll(model(mel, audio))
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    first = next(i for i, x in enumerate(losses) if math.isnan(x))
    assert losses[first - 1] < -11  # below what 16 bits can mean: ln(1/65536) = -11.1
    assert all(math.isnan(x) for x in losses[first:])
    assert all(p.isnan().any() for p in model.WN[0].parameters())


def on_silence(tiny_config: Config, silence: dict[str, Any], **strategies: Any) -> dict[str, Any]:
    return tiny_config(
        data=silence, strategy={"adamw": {"lr": LR}, **strategies}, segment_length=512,
        budget={"audio_seconds": 9.6}, snapshots={"every": 0.64}, log_every=5,
    )  # fmt: skip


def test_on_silence_it_rolls_back_and_says_so(
    tiny_config: Config, silence: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = prepare(on_silence(tiny_config, silence), [])
    assert _run(run_dir, 0) == 1
    rollback, end = ended(run_dir)
    assert "overflowed exp (max " in rollback["cause"]
    assert "in 2 of 2 segments (digital silence)" in rollback["cause"]
    assert f"{MAX_STREAK} steps in a row were not finite" in rollback["cause"]
    assert "data.silence_db" in rollback["mend"]
    assert "strategy dequantize" in rollback["mend"]
    assert end["step"] == rollback["from_step"] < 150
    assert rollback["skipped_steps"] == rollback["nonfinite_steps"] == MAX_STREAK
    # The state before the first step that failed: on the grid of 10 steps.
    assert rollback["step"] == (rollback["from_step"] - MAX_STREAK) // 10 * 10
    assert finite(read_weights(run_dir / "final")[1])
    out = capsys.readouterr().out
    assert "is skipped: its loss is not finite" in out
    assert end["reason"] in out
    assert f"its last good weights: {run_dir / 'final'}" in out


def test_dequantised_silence_trains_on(tiny_config: Config, silence: dict[str, Any]) -> None:
    """Same model, seed, step size and steps; the noise bounds the likelihood."""
    run_dir = prepare(on_silence(tiny_config, silence, dequantize={}), [])
    assert _run(run_dir, 0) == 0
    curve = train_curve(read_events(run_dir))
    assert curve[-1]["step"] == 150
    assert curve[-1]["skipped_steps"] == 0
    assert all(e["loss"] > -12 for e in curve)
    assert finite(read_weights(run_dir / "final")[1])
    noisy = next(iter(build(Settings.from_config(on_silence(tiny_config, silence, dequantize={})))
                      .data.train_dataloader()))[1]  # fmt: skip
    assert noisy.abs().max() <= 0.5 / 32768
    assert noisy.std() == pytest.approx(1 / 32768 / math.sqrt(12), rel=0.1)


def test_the_last_good_weights_of_a_diverged_run_are_a_model(
    tiny_config: Config, silence: dict[str, Any]
) -> None:
    from wg.export.find import find_model

    run_dir = prepare(on_silence(tiny_config, silence), [])
    assert _run(run_dir, 0) == 1
    model, meta = load_model(find_model(run_dir))
    assert meta["run"] == run_dir.name
    audio = model.infer(torch.full((1, 16, 4), math.log(1e-5)), sigma=0.6)
    assert audio.shape == (1, 1024)
    assert bool(audio.isfinite().all())
