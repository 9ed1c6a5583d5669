"""Growing never changes the function: that is what makes a warm start one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests_helpers import trained_looking

from wg.errors import UserError
from wg.flow import FlowConfig, WaveGlow
from wg.flow.grow import load_donor, sleep, starting_flows, wake

CONFIG = FlowConfig(n_flows=6, n_early_every=4, n_layers=2, n_channels=8)


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(5)
    return torch.randn(2, 80, 4), 0.1 * torch.randn(2, 1024)


def test_starting_flows_are_the_last_of_each_stage_and_nested() -> None:
    assert starting_flows(CONFIG, 2) == [3, 5]
    previous: set[int] = set()
    for n in range(2, 7):
        on = starting_flows(CONFIG, n)
        assert len(on) == n
        assert previous <= set(on)
        previous = set(on)
    with pytest.raises(UserError, match="between 2"):
        starting_flows(CONFIG, 1)


def test_a_sleeping_flow_may_be_computed_or_skipped() -> None:
    model = trained_looking(CONFIG)
    sleep(model, [0, 1, 4])
    mel, audio = inputs()
    with torch.no_grad():
        skipped = model(mel, audio)
        model.active = [True] * 6
        computed = model(mel, audio)
    assert torch.allclose(skipped.z, computed.z, atol=1e-6)
    assert torch.allclose(skipped.log_s, computed.log_s, atol=1e-4)


@pytest.mark.parametrize("actnorm", [False, True])
@pytest.mark.parametrize("order", [[2, 1, 0, 4], [0, 1, 2, 4], [4, 1, 0, 2]])
def test_waking_keeps_z_and_the_likelihood(order: list[int], actnorm: bool) -> None:
    model = trained_looking(replace(CONFIG, actnorm=actnorm))
    for norm in model.actnorm if actnorm else []:
        torch.nn.init.normal_(norm.offset, std=0.3)
        torch.nn.init.normal_(norm.log_scale, std=0.3)
    sleep(model, [0, 1, 2, 4])
    mel, audio = inputs()
    with torch.no_grad():
        before = model(mel, audio)
        speech = model.infer(mel, z=before.z)
        wake(model, order, torch.Generator().manual_seed(0))
        after = model(mel, audio)
        again = model.infer(mel, z=before.z)
    assert all(model.active)
    assert torch.allclose(before.z, after.z, atol=1e-5)
    assert torch.allclose(before.log_s, after.log_s, atol=1e-3)
    assert torch.isclose(before.log_det_W, after.log_det_W, atol=1e-5)
    assert torch.allclose(speech, again, atol=1e-5)
    # The new flows mix channels: they are no copies of their neighbour's split.
    assert not torch.allclose(model.convinv[0].matrix, torch.eye(8), atol=0.1)


@pytest.mark.parametrize(
    "donor_size",
    [
        {"n_flows": 3, "n_early_every": 4},  # one stage: the target's second stage is all new
        {"n_flows": 4, "n_early_every": 2},  # a stage of 2 and a stage of 2
        {"n_flows": 6, "n_early_every": 4},  # its own size
    ],
)
@pytest.mark.parametrize("actnorm", [False, True])
def test_a_donor_keeps_its_function(donor_size: dict[str, int], actnorm: bool) -> None:
    config = replace(CONFIG, actnorm=actnorm)
    donor = trained_looking(FlowConfig(**{**config.to_dict(), **donor_size}), seed=7)
    for norm in donor.actnorm if actnorm else []:
        torch.nn.init.normal_(norm.offset, std=0.3)
        torch.nn.init.normal_(norm.log_scale, std=0.3)
    model = WaveGlow(config)
    load_donor(model, donor.config, donor.state_dict(), torch.Generator().manual_seed(0))
    mel, audio = inputs()
    with torch.no_grad():
        a, b = donor(mel, audio), model(mel, audio)
        assert torch.allclose(a.z, b.z, atol=1e-5)
        assert torch.allclose(a.log_s, b.log_s, atol=1e-3)
        assert torch.allclose(donor.infer(mel, z=a.z), model.infer(mel, z=a.z), atol=1e-5)
    assert all(model.active)


def test_a_donor_of_another_width_is_refused() -> None:
    donor = WaveGlow(FlowConfig(**{**CONFIG.to_dict(), "n_channels": 16}))
    with pytest.raises(UserError, match="n_channels is 16"):
        load_donor(WaveGlow(CONFIG), donor.config, donor.state_dict(), torch.Generator())


def test_a_donor_whose_halves_would_change_places_is_refused() -> None:
    """glow_old changes the other half in every second flow: a flow keeps its meaning only where
    it moves by an even number."""
    old = replace(CONFIG, n_flows=2, n_early_every=8, swap_odd_halves=True)
    donor = trained_looking(old)
    with pytest.raises(UserError, match="an even number more"):
        load_donor(WaveGlow(replace(old, n_flows=3)), old, donor.state_dict(), torch.Generator())
    model = WaveGlow(replace(old, n_flows=4))
    load_donor(model, old, donor.state_dict(), torch.Generator().manual_seed(0))
    mel, audio = inputs()
    with torch.no_grad():
        assert torch.allclose(donor(mel, audio).z, model(mel, audio).z, atol=1e-5)


def test_a_deeper_donor_is_refused() -> None:
    donor = WaveGlow(FlowConfig(**{**CONFIG.to_dict(), "n_flows": 8}))
    with pytest.raises(UserError, match="at most as many"):
        load_donor(WaveGlow(CONFIG), donor.config, donor.state_dict(), torch.Generator())
