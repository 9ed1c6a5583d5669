"""A peer's own code beside ours: a stand-in made here, and the real one where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from wg.bench import measure
from wg.bench.measure import compare
from wg.bench.peer import PeerStep, import_glow
from wg.bench.step import settings_of
from wg.bench.variants import PEER, Sizes, Variant, combination, plain
from wg.errors import UserError

# What NVIDIA's glow.py offers, made of wg's own parts.
STAND_IN = """
import torch
from wg.flow import WaveGlow as Ours
from wg.flow.config import FlowConfig
from wg.flow.waveglow import nll

class WaveGlow(Ours):
    def __init__(self, n_mels, n_flows, n_group, n_early_every, n_early_size, wn):
        super().__init__(FlowConfig(n_mels, n_flows, n_group, n_early_every, n_early_size, **wn))
    def forward(self, both):
        return super().forward(*both)

class WaveGlowLoss(torch.nn.Module):
    def __init__(self, sigma):
        super().__init__()
        self.sigma = sigma
    def forward(self, output):
        return nll(output, self.sigma)
"""
SMALL = Sizes("small", 1, 1024, 1, "cpu")


def peer_of(folder: Path, sizes: Sizes = SMALL) -> Variant:
    return Variant("NVIDIA/waveglow", PEER, plain(sizes).config, str(folder))


def test_a_peer_beside_ours(tmp_path: Path) -> None:
    (tmp_path / "glow.py").write_text(STAND_IN)
    found = compare(plain(SMALL), peer_of(tmp_path), 1, lambda done: None)
    assert found["agreement"]["same"] is True
    assert found["agreement"]["gradients"] < 1e-6
    (tmp_path / "glow.py").write_text(STAND_IN.replace("return nll(", "return 1.01 * nll("))
    found = compare(plain(SMALL), peer_of(tmp_path), 1, lambda done: None)
    assert found["agreement"]["same"] is False


def test_ours_against_a_peer(tmp_path: Path) -> None:
    """Inner gradients are there to be compared: the peer's couplings do not start as identities."""
    (tmp_path / "glow.py").write_text(STAND_IN)
    fused = combination(SMALL, "[fused_wn]")
    found = compare(peer_of(tmp_path), fused, 1, lambda done: None)
    assert found["agreement"]["same"] is True
    assert found["agreement"]["gradients"] < 1e-5
    (tmp_path / "glow.py").write_text(STAND_IN.replace("return nll(", "return 1.01 * nll("))
    assert compare(peer_of(tmp_path), fused, 1, lambda _: None)["agreement"]["same"] is False


@pytest.mark.skipif(
    not os.environ.get("WG_PEER_WAVEGLOW"),
    reason="set WG_PEER_WAVEGLOW to a checkout of NVIDIA/waveglow",
)
def test_the_peer_itself() -> None:
    found = compare(plain(SMALL), peer_of(Path(os.environ["WG_PEER_WAVEGLOW"])), 1, lambda _: None)
    assert found["agreement"]["same"] is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import torch\ntorch.rfft_of_old(1)", r"does not import here \(AttributeError: "),
        ("x = 1", "has no WaveGlow"),
        (STAND_IN.replace("super().__init__(F", "old.__init__(F"), "does not build here"),
        (STAND_IN.replace("return super().forward", "return torch.rfft"), "does not run here"),
        (
            STAND_IN + "\nWaveGlow.__init__.__globals__['Ours'] = None\n"
            "old = WaveGlow.load_state_dict\n"
            "def load(self, w): return old(self, {k + '.v1': v for k, v in w.items()})\n"
            "WaveGlow.load_state_dict = load",
            "has other parameters than the published network",
        ),
    ],
)
def test_peers_that_do_not_run(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "glow.py").write_text(text)
    with pytest.raises(UserError, match=words):
        compare(plain(SMALL), peer_of(tmp_path), 1, lambda done: None)


def test_peers_of_other_sizes_and_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no glow\.py"):
        import_glow(tmp_path)
    settings = settings_of(plain(Sizes("tiny", 1, 1024, 1, "cpu")).config)
    batch = measure.batch_of(settings)
    with pytest.raises(UserError, match="upsampling of 1024/256"):
        PeerStep(tmp_path, settings.model, 1.0, torch.device("cpu"), batch)
