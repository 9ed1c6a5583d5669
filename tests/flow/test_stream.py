"""Pieces equal the whole: whatever their size, and whatever stands beside them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests_helpers import trained_looking

from wg.flow import FlowConfig
from wg.flow.grow import sleep
from wg.flow.stream import (
    AudioStream,
    InverseStream,
    OverlapStream,
    SideBySide,
    reach_frames,
    wn_reach,
)

TINY = FlowConfig(n_mels=6, n_flows=6, n_layers=3, n_channels=12)
SIZES = {
    "early outputs": TINY,
    "one stage": FlowConfig(n_mels=6, n_flows=3, n_layers=3, n_channels=12),
    "swapped halves": replace(TINY, swap_odd_halves=True),
    "wide kernel": FlowConfig(n_mels=6, n_flows=2, n_layers=2, n_channels=8, kernel_size=5),
    "short upsampling": replace(TINY, n_flows=2, upsample_kernel=400),
}


def _inputs(config: FlowConfig, frames: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(frames)
    groups = frames * config.upsample_stride // config.n_group
    return torch.randn(batch, config.n_mels, frames) - 4, torch.randn(batch, config.n_group, groups)


def _stream(
    stream: AudioStream, mel: torch.Tensor, z: torch.Tensor, piece: int
) -> list[torch.Tensor]:
    frames, per = mel.shape[2], z.shape[2] // mel.shape[2]
    out = []
    for i in range(0, frames, piece):
        noise = z[:, :, i * per : (i + piece) * per]
        out.append(stream.push(mel[:, :, i : i + piece], noise, i + piece >= frames))
    return out


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(
    ("frames", "piece", "block"), [(61, 7, 8), (61, 61, 16), (5, 1, 4), (1, 1, 2)]
)
def test_pieces_equal_the_whole(name: str, frames: int, piece: int, block: int) -> None:
    model = trained_looking(SIZES[name]).eval()
    mel, z = _inputs(model.config, frames)
    with torch.no_grad():
        whole = model.infer(mel, 0.8, z=z)
    streamed = torch.cat(_stream(InverseStream(model, 0.8, block), mel, z, piece), dim=1)
    assert streamed.shape == whole.shape
    assert float((streamed - whole).abs().max()) <= 1e-6 * float(whole.abs().max())


def test_neither_the_pieces_nor_an_empty_end_change_a_bit() -> None:
    model = trained_looking(TINY).eval()
    mel, z = _inputs(TINY, 50)
    reference = torch.cat(_stream(InverseStream(model, 1.0, 8), mel, z, 50), dim=1)
    for piece in (1, 3, 8, 49):
        again = torch.cat(_stream(InverseStream(model, 1.0, 8), mel, z, piece), dim=1)
        assert torch.equal(again, reference), piece
    stream = InverseStream(model, 1.0, 8)  # a pipe: the end is only known afterwards
    parts = [stream.push(mel, z), stream.push(mel[:, :, :0], z[:, :, :0], last=True)]
    assert torch.equal(torch.cat(parts, dim=1), reference)


def test_first_audio_after_one_block_and_memory_that_does_not_grow() -> None:
    config = FlowConfig(n_mels=4, n_flows=4, n_layers=4, n_channels=8)
    block = 4 * wn_reach(config) // (config.upsample_stride // config.n_group) + 1
    stream = InverseStream(trained_looking(config).eval(), 1.0, block)
    mel, z = _inputs(config, 20 * block)
    per = z.shape[2] // mel.shape[2]
    kept = []
    for n, i in enumerate(range(0, mel.shape[2], block)):
        audio = stream.push(mel[:, :, i : i + block], z[:, :, i * per : (i + block) * per])
        assert audio.shape[1] > 0, f"no audio after block {n}"
        tapes = [stream._mel, stream._grouped, stream._z, *stream._inputs.values()]
        kept.append(sum(t.end - t.start for t in tapes))
    assert max(kept[1:]) == kept[1]


def test_items_of_a_batch_are_what_they_are_alone() -> None:
    model = trained_looking(TINY).eval()
    frames = [33, 20, 2]
    mel, z = _inputs(TINY, 33, batch=3)  # beyond an item's end there is something, not silence
    per = z.shape[2] // 33
    batched = {
        "side by side": SideBySide([InverseStream(model, 0.7, 8, [n]) for n in frames]),
        "together": InverseStream(model, 0.7, 8, frames),
    }
    for name, stream in batched.items():
        audio = torch.cat(_stream(stream, mel, z, 5), dim=1)
        for b, n in enumerate(frames):
            one = InverseStream(model, 0.7, 8)
            alone = torch.cat(_stream(one, mel[b : b + 1, :, :n], z[b : b + 1, :, : n * per], 8), 1)
            item = audio[b : b + 1, : n * 256]
            if name == "side by side":
                assert torch.equal(item, alone), (name, b)
            assert float((item - alone).abs().max()) <= 1e-6 * float(alone.abs().max()), (name, b)


def test_what_lies_beyond_an_end_may_be_infinite() -> None:
    model = trained_looking(TINY).eval()
    mel, z = _inputs(TINY, 40, batch=2)
    clean = torch.cat(_stream(InverseStream(model, 1.0, 8, [40, 9]), mel, z, 40), dim=1)[
        1, : 9 * 256
    ]
    z[1, :, 9 * 32 :] = float("inf")
    mel[1, :, 9:] = float("nan")
    poisoned = torch.cat(_stream(InverseStream(model, 1.0, 8, [40, 9]), mel, z, 40), dim=1)
    assert torch.equal(poisoned[1, : 9 * 256], clean)


def test_sleeping_flows_are_skipped() -> None:
    model = trained_looking(TINY).eval()
    sleep(model, [0, 2, 5])
    mel, z = _inputs(TINY, 20)
    with torch.no_grad():
        whole = model.infer(mel, 1.0, z=z)
    streamed = torch.cat(_stream(InverseStream(model, 1.0, 8), mel, z, 3), dim=1)
    assert float((streamed - whole).abs().max()) <= 1e-6 * float(whole.abs().max())
    sleep(model, range(6))
    with torch.no_grad():
        whole = model.infer(mel, 1.0, z=z)
    assert torch.equal(torch.cat(_stream(InverseStream(model, 1.0, 8), mel, z, 3), 1), whole)


@pytest.mark.parametrize("frames", [1, 3, 40, 41])
def test_overlapping_windows_for_a_backend_without_state(frames: int) -> None:
    model = trained_looking(TINY).eval()
    before, after = reach_frames(TINY)
    mel, z = _inputs(TINY, frames)
    calls: list[int] = []

    def run(m: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        calls.append(m.shape[2])
        return model.infer(m, 1.0, z=n)

    with torch.no_grad():
        whole = model.infer(mel, 0.8, z=z)
    for piece in (1, 6, 41):
        stream = OverlapStream(run, TINY, 0.8, window=before + 6 + after, shortest=2)
        audio = torch.cat(_stream(stream, mel, z, piece), dim=1)
        assert audio.shape == whole.shape
        if frames > 1:  # one that is continued for the backend's sake sees no silence at its end
            assert float((audio - whole).abs().max()) <= 1e-6 * float(whole.abs().max())
    assert max(calls) <= before + 6 + after
    assert min(calls) >= 2


def test_the_stated_reach_is_enough_and_needed() -> None:
    """Audio of a frame depends on mel and z exactly as far as ``reach_frames`` says."""
    model = trained_looking(TINY).double().eval()
    before, after = reach_frames(TINY)
    n = before + 1 + after
    mel, z = _inputs(TINY, n + 4)
    mel, z = mel.double(), z.double()
    at = slice((before + 2) * 256, (before + 3) * 256)
    with torch.no_grad():
        reference = model.infer(mel, 1.0, z=z)[:, at]
        far = z.clone()
        far[:, :, : 2 * 32] += 1
        far[:, :, (n + 2) * 32 :] += 1
        assert torch.equal(model.infer(mel, 1.0, z=far)[:, at], reference)
        near = z.clone()
        near[:, :, (before + 3) * 32 : (before + 4) * 32] += 1
        assert not torch.equal(model.infer(mel, 1.0, z=near)[:, at], reference)
