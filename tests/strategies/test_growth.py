"""Flows that wake while others train: with whatever else is in the recipe."""

from __future__ import annotations

import re

import pytest
import torch
from contract import Config, composes
from strategies_table import ROWS, TRAINED

from wg.flow import WaveGlow
from wg.flow.waveglow import nll
from wg.train.build import build
from wg.train.prepare import prepare
from wg.train.settings import Settings


@pytest.mark.parametrize("partner", [n for n in TRAINED if n != "grow_flows"])
def test_growth_changes_no_function_whatever_it_is_combined_with(
    partner: str, tiny_config: Config
) -> None:
    """The trained model's and the judged weights' likelihood, before and after flows wake up."""
    if not composes(["grow_flows", partner]):
        pytest.skip(f"grow_flows and {partner} refuse each other")
    names = ["grow_flows", partner]
    config = tiny_config(strategy={n: ROWS[n] for n in names}, log_every=1)
    job = build(Settings.from_config(config))
    module, model = job.module, job.module.model
    prepare(model, job.plan, job.data.stream())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for n, p in model.named_parameters():
            k = re.match(r"(?:WN|convinv|actnorm)\.(\d+)\.", n)
            if k is None or model.active[int(k[1])]:
                p.add_(0.05 * torch.randn(p.shape, generator=generator))
    module.on_train_start()
    mel, audio = job.data.stream().batch(0, 4096, 2)

    def likelihoods() -> list[float]:
        found = []
        for weights in (model.state_dict(), module.eval_weights()):
            judge = WaveGlow(model.config)
            judge.load_state_dict(weights)
            judge.active = list(model.active)
            with torch.no_grad():
                found.append(float(nll(judge(mel, audio))))
        return found

    if module.average is not None:
        for _ in range(3):
            module.average.update(model, 0.45)
    before = likelihoods()
    module.grow_to(1.0)
    assert all(model.active)
    if module.average is not None:
        module.average.update(model, 0.55)
    after = likelihoods()
    assert after == pytest.approx(before, abs=2e-3)


def test_whitening_survives_growth(tiny_config: Config) -> None:
    """With sleeping flows in front, the first computed flow whitens; waking them keeps that."""
    config = tiny_config(
        strategy={"whiten_init": {}, "grow_flows": {"n_flows": [2, 4], "until": [0.5]}}
    )
    job = build(Settings.from_config(config))
    assert job.plan.init is not None
    model = job.module.model
    assert model.active == [False, True, False, True]
    job.plan.init(model, job.store)
    audio = torch.cat([job.store.audio(i) for i in job.store.train])
    audio = audio[: len(audio) // 256 * 256][None]
    mel = torch.zeros(1, 16, audio.shape[1] // 256)
    for wake in (False, True):
        if wake:
            job.module._grow(4)
            assert all(model.active)
        with torch.no_grad():
            z = model(mel, audio).z[0]
        # As built, the couplings are identities: z is the audio, rotated and whitened.
        second_moment = z @ z.T / z.shape[1]
        assert torch.allclose(second_moment, torch.eye(8), atol=0.02)
