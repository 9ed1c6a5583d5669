"""What comes out is as long as what went in, the same in any company, and never wraps."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tests_helpers import trained_looking
from vocode_fixtures import CONFIG, MEL, heard

import wg
from wg.errors import UserError
from wg.flow.denoiser import Denoiser, silence_of
from wg.vocode.backends import Voice
from wg.vocode.noise import Noise
from wg.vocode.run import Vocoded, vocode


def run(model: Path, inputs: list[Path], out: Path, **options: Any) -> list[Vocoded]:
    options = {"device": "cpu", "say": lambda _: None, **options}
    return vocode(model, inputs, out, **options)


def test_every_file_of_its_length_and_place(clips: Path, model_dir: Path, tmp_path: Path) -> None:
    (clips / "song.mp3").write_text("not read")
    (clips / "notes.txt").write_text("not audio")
    said: list[str] = []
    out = tmp_path / "out"
    rows = run(model_dir, [clips], out, say=said.append)
    lengths = {row.output: len(heard(out / row.output)) for row in rows}
    assert lengths == {"a.wav": 4000, "b.wav": 50001, "sub/a.wav": 3001, "tiny.wav": 7}
    assert any("left out 1: neither recordings nor mels" in line for line in said)
    assert "clipped" in said[-1]
    assert "real time" in said[-1]


def test_it_is_the_models_own_inference(clips: Path, model_dir: Path, tmp_path: Path) -> None:
    run(model_dir, [clips / "b.flac"], tmp_path / "out", sigma=0.5, seed=3)
    model = wg.load(model_dir)
    audio = torch.from_numpy(soundfile.read(clips / "b.flac", dtype="float32")[0])
    mel = wg.mel(audio, **model.meta["mel"])[None]
    z = Noise(3, "b.wav", 8)(0, mel.shape[2] * 32)[None]
    with torch.inference_mode():
        wanted = model.infer(mel, 0.5, z=z)[0, : len(audio)].numpy() * 32768
    wanted = np.clip(wanted, -32768, 32767)
    assert np.abs(heard(tmp_path / "out" / "b.wav") - wanted).max() < 0.55  # half a step: rounding


def test_the_noise_of_an_utterance_is_one_sequence_of_unit_gaussians() -> None:
    whole = Noise(1, "a", 8)(0, 5000)
    assert whole.shape == (8, 5000)
    again = Noise(1, "a", 8)
    for first, stop in ((0, 3), (1000, 1100), (1023, 1025), (500, 4000), (4999, 5000), (7, 7)):
        assert torch.equal(again(first, stop), whole[:, first:stop])
    assert abs(float(whole.mean())) < 0.02
    assert abs(float(whole.std()) - 1) < 0.02
    assert not torch.equal(whole[:, :1024], whole[:, 1024:2048])
    assert not torch.equal(Noise(2, "a", 8)(0, 10), whole[:, :10])
    assert not torch.equal(Noise(1, "b", 8)(0, 10), whole[:, :10])


def test_neither_order_company_nor_batch_changes_a_bit(
    clips: Path, model_dir: Path, tmp_path: Path
) -> None:
    a, b = clips / "a.wav", clips / "b.flac"

    def one(name: str, files: list[Path], **options: Any) -> np.ndarray:
        run(model_dir, files, tmp_path / name, block=16, **options)
        return heard(tmp_path / name / "a.wav")

    first = one("1", [a, b])
    assert np.array_equal(first, one("2", [b, a]))
    assert np.array_equal(first, one("3", [a]))
    assert np.array_equal(first, one("4", [clips], batch=3))
    assert np.array_equal(heard(tmp_path / "1" / "b.wav"), heard(tmp_path / "4" / "b.wav"))
    assert not np.array_equal(first, one("5", [a], seed=1))
    assert not np.array_equal(first[:100], heard(tmp_path / "1" / "b.wav")[:100])


def test_the_block_is_only_a_matter_of_rounding(
    clips: Path, model_dir: Path, tmp_path: Path
) -> None:
    for block in (5, 16, 400):
        run(model_dir, [clips / "b.flac"], tmp_path / str(block), block=block, sigma=0.3)
    a, b, c = (heard(tmp_path / str(n) / "b.wav").astype(int) for n in (5, 16, 400))
    assert np.abs(a - b).max() <= 1
    assert np.abs(a - c).max() <= 1
    assert np.mean(a != c) < 0.01


def test_loud_audio_is_clipped_never_wrapped(clips: Path, model_dir: Path, tmp_path: Path) -> None:
    def one(sigma: float) -> tuple[np.ndarray, Vocoded, str]:
        said: list[str] = []
        rows = run(
            model_dir, [clips / "a.wav"], tmp_path / str(sigma), sigma=sigma, say=said.append
        )
        assert any("to clipping: a smaller --sigma" in line for line in said) == (sigma > 1)
        return heard(tmp_path / str(sigma) / "a.wav").astype(int), rows[0], said[-1]

    quiet, row, table = one(0.05)
    assert np.abs(quiet).max() < 32767
    assert row.clipped == 0
    assert "0.0000%" in table
    loud, row, table = one(50.0)
    assert loud.max() == 32767
    assert loud.min() == -32768
    # A wrapped signal would spread over all values; a clipped one sits at the two ends.
    at_the_ends = np.isin(loud, (32767, -32768)).mean()
    assert at_the_ends > 0.8
    assert row.clipped == pytest.approx(at_the_ends, abs=1e-3)
    assert f"{at_the_ends:.2%}"[:4] in table


def test_denoising_is_nvidias(clips: Path, model_dir: Path, tmp_path: Path) -> None:
    for batch in (1, 2):
        out = tmp_path / f"d{batch}"
        run(model_dir, [clips], out, sigma=0.1, denoise=0.3, batch=batch)
    run(model_dir, [clips / "b.flac"], tmp_path / "plain", sigma=0.1)
    plain, denoised = heard(tmp_path / "plain" / "b.wav"), heard(tmp_path / "d1" / "b.wav")
    assert np.array_equal(denoised, heard(tmp_path / "d2" / "b.wav"))
    assert len(denoised) == 50001
    model = wg.load(model_dir)
    audio = torch.from_numpy(soundfile.read(clips / "b.flac", dtype="float32")[0])
    mel = wg.mel(audio, **model.meta["mel"])[None]
    with torch.inference_mode():
        z = Noise(0, "b.wav", 8)(0, mel.shape[2] * 32)[None]
        wanted = Denoiser(silence_of(model), 0.3)(model.infer(mel, 0.1, z=z))[0, :50001]
    assert np.abs(denoised - wanted.numpy() * 32768).max() < 0.6
    assert np.abs(denoised.astype(int) - plain).max() > 100


def test_what_was_interrupted_goes_on(clips: Path, model_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def stop(text: str) -> None:
        if text.startswith("2/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(model_dir, [clips], out, say=stop)
    made = {p: p.stat().st_mtime_ns for p in out.rglob("*.wav")}
    assert len(made) == 2
    assert not list(out.rglob("*.tmp"))
    said: list[str] = []
    assert len(run(model_dir, [clips], out, say=said.append)) == 2
    assert "2 of 4 are in" in said[0]
    assert {p: p.stat().st_mtime_ns for p in made} == made
    assert run(model_dir, [clips], out) == []
    # Another seed is another result, a changed source another input, a lost file is made again.
    assert len(run(model_dir, [clips], out, seed=5)) == 4
    soundfile.write(clips / "a.wav", np.zeros(3000), 16000)
    (out / "b.wav").unlink()
    assert sorted(r.output for r in run(model_dir, [clips], out, seed=5)) == ["a.wav", "b.wav"]


def test_what_decides_the_sound_decides_what_is_done(clips: Path, tmp_path: Path) -> None:
    """The same weights read in another way, or with other mels, are another model."""
    from wg.checkpoint.weights import save_weights

    made = []
    for config, mel in (
        (CONFIG, MEL),
        (replace(CONFIG, swap_odd_halves=True), MEL),
        (CONFIG, replace(MEL, f_max=7000.0)),
    ):
        folder = tmp_path / f"model{len(made)}"
        meta = {"sampling_rate": 16000, "mel": vars(mel), "sigma": 0.8}
        save_weights(folder, trained_looking(CONFIG).state_dict(), config, meta)
        assert len(run(folder, [clips / "a.wav"], tmp_path / "out")) == 1, config
        made.append(heard(tmp_path / "out" / "a.wav"))
    assert not np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def test_nobodys_files_are_overwritten(clips: Path, model_dir: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    original = 0.1 * np.ones(3000)
    soundfile.write(corpus / "b.wav", original, 16000)
    before = (corpus / "b.wav").read_bytes()
    with pytest.raises(UserError, match=r"b\.wav exists and `wg vocode` did not write it"):
        run(model_dir, [clips / "b.flac"], corpus)
    # The file of another input, in the same call.
    for path in (tmp_path / "q" / "sub" / "z.flac", tmp_path / "qo" / "sub" / "z.wav"):
        path.parent.mkdir(parents=True)
        soundfile.write(path, original, 16000)
    with pytest.raises(UserError, match=r"z\.wav is an input and would be overwritten"):
        run(model_dir, [tmp_path / "q", tmp_path / "qo" / "sub" / "z.wav"], tmp_path / "qo")
    assert (corpus / "b.wav").read_bytes() == before
    assert [p.name for p in corpus.iterdir()] == ["b.wav"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "vocode.jsonl").write_text('{"mine": 1}')
    with pytest.raises(UserError, match=r"vocode\.jsonl is not the record of a vocoding"):
        run(model_dir, [clips / "a.wav"], tmp_path / "mine")
    with pytest.raises(UserError, match="is a file; -o names a folder"):
        run(model_dir, [clips / "a.wav"], corpus / "b.wav")


def test_a_model_that_has_diverged_writes_nothing(clips: Path, tmp_path: Path) -> None:
    from wg.vocode import run as module

    class Broken:
        def push(self, mel: torch.Tensor, z: torch.Tensor, last: bool = False) -> torch.Tensor:
            return torch.full((1, mel.shape[2] * 256), float("nan"))

    voice = Voice("broken", CONFIG, MEL, 1.0, "x", torch.device("cpu"), True, lambda *_: Broken())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "open_voice", lambda *_: voice)
        with pytest.raises(UserError, match="is not finite"):
            run(tmp_path, [clips / "a.wav"], tmp_path / "out")
    assert not list(tmp_path.glob("out/**/*.wav"))


def test_hidden_files_and_odd_names(clips: Path, model_dir: Path, tmp_path: Path) -> None:
    (clips / "._a.wav").write_bytes(b"macOS")
    (clips / ".cache").mkdir()
    (clips / ".cache" / "c.wav").write_bytes(b"nothing")
    soundfile.write(clips / "an [odd] näme.wav", np.zeros(600), 16000)
    said: list[str] = []
    rows = run(model_dir, [clips], tmp_path / "out", say=said.append)
    assert len(rows) == 5
    assert "an [odd] näme.wav" in said[-1]
    assert any("left out 2: hidden" in line for line in said)
    (clips / os.fsdecode(b"\xff.wav")).write_bytes((clips / "a.wav").read_bytes())
    with pytest.raises(UserError, match="not valid UTF-8"):
        run(model_dir, [clips], tmp_path / "out2")


def test_nothing_half_written_stays(clips: Path, model_dir: Path, tmp_path: Path) -> None:
    data = bytearray((clips / "b.flac").read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)  # the header is whole, the rest not
    (clips / "b.flac").write_bytes(data)
    with pytest.raises(UserError, match=r"b\.flac cannot be decoded"):
        run(model_dir, [clips / "b.flac"], tmp_path / "out", block=4)
    assert not list((tmp_path / "out").rglob("*"))


def test_mistakes_are_told_before_anything_is_written(
    clips: Path, model_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    (tmp_path / "fake.wav").write_text("not audio at all")
    (tmp_path / "notes.txt").write_text("no")
    soundfile.write(tmp_path / "other.wav", np.zeros(2205), 22050)
    good = clips / "a.wav"
    cases: list[tuple[list[Path], Path, dict[str, Any], str]] = [
        ([], out, {}, "nothing to vocode"),
        ([tmp_path / "empty"], out, {}, "holds nothing to vocode"),
        ([tmp_path / "notes.txt"], out, {}, "neither a recording"),
        ([good, tmp_path / "fake.wav"], out, {}, "is not audio"),
        ([good, tmp_path / "other.wav"], out, {}, "sampled at 22050 Hz .* --resample"),
        ([good, tmp_path / "nowhere.wav"], out, {}, "does not exist"),
        ([good, good], out, {}, "would both be written"),
        ([good], clips, {}, "overwritten"),
        ([clips], clips / "out", {}, "lies inside the input folder"),
        ([clips], Path("-"), {}, "exactly one input"),
        ([good], out, {"sigma": -1.0}, "--sigma -1.0 must be"),
        ([good], out, {"denoise": float("nan")}, "--denoise nan must be"),
        ([good], out, {"batch": 0}, "--batch 0 must be"),
        ([good], out, {"block": 0}, "--block 0 must lie"),
        ([good], out, {"device": "tpu"}, "device=tpu is unknown"),
        ([good], out, {"backend": "onnx"}, "holds no export; make one first"),
        ([good], out, {"backend": "tensorrt"}, "holds no export"),
        ([good], out, {"backend": "jax"}, "--backend jax is unknown"),
    ]
    if not torch.cuda.is_available():
        cases.append(([good], out, {"device": "cuda"}, "no CUDA GPU is visible"))
    for inputs, folder, options, message in cases:
        with pytest.raises(UserError, match=message):
            run(model_dir, inputs, folder, **options)
        assert not out.exists(), message


def test_another_rate_is_converted_when_asked(model_dir: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", 0.1 * np.sin(np.arange(22050 * 3) / 9), 22050)
    run(model_dir, [tmp_path / "x.wav"], tmp_path / "out", resample=True)
    assert len(heard(tmp_path / "out" / "x.wav")) == 48000
    assert MEL.sampling_rate == 16000


def test_a_checkpoint_file_of_another_house(model_dir: Path, clips: Path, tmp_path: Path) -> None:
    """NVIDIA's state dict, straight from the file, sounds like the model it was made from."""
    from wg.checkpoint.convert import convert

    convert(model_dir, tmp_path / "nvidia.pt", to="nvidia")
    run(model_dir, [clips / "a.wav"], tmp_path / "1", sigma=0.5)
    run(tmp_path / "nvidia.pt", [clips / "a.wav"], tmp_path / "2", sigma=0.5)
    # One that does not say its sampling rate is not quoted as if it had.
    tensors = torch.load(tmp_path / "nvidia.pt", weights_only=True)["state_dict"]
    torch.save(tensors, tmp_path / "bare.pt")
    with pytest.raises(UserError, match=r"22050 Hz \(assumed: .* --sampling-rate"):
        run(tmp_path / "bare.pt", [clips / "a.wav"], tmp_path / "3")
    assert np.array_equal(heard(tmp_path / "1" / "a.wav"), heard(tmp_path / "2" / "a.wav"))
