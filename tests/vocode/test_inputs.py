"""Mels of other houses, and pipes."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file
from vocode_fixtures import MEL, heard

import wg
from wg.errors import UserError
from wg.vocode.mels import read_mel
from wg.vocode.run import vocode

SETTINGS = vars(MEL)


@pytest.fixture
def audio() -> np.ndarray:
    rng = np.random.default_rng(1)
    return (0.1 * rng.standard_normal(9000)).astype(np.float32)


def test_every_file_kind_and_layout_is_the_same_mel(audio: np.ndarray, tmp_path: Path) -> None:
    mel = wg.mel(torch.from_numpy(audio), **SETTINGS)
    torch.save(mel, tmp_path / "nvidia.pt")
    torch.save({"mel": mel, "text": "hello"}, tmp_path / "named.pt")
    torch.save(
        mel[None].half().float(), tmp_path / "batched.pt", _use_new_zipfile_serialization=False
    )
    np.save(tmp_path / "a.npy", mel.numpy())
    np.save(tmp_path / "frames_first.npy", mel.numpy().T)
    save_file({"mel": mel, "f0": torch.zeros(3)}, tmp_path / "a.safetensors")
    (tmp_path / "a.npy").rename(tmp_path / "A.NPY")
    paths = [p for p in tmp_path.iterdir() if p.name != "batched.pt"]
    assert len(paths) == 5
    for path in paths:
        assert torch.equal(read_mel(path, 20), mel), path
    assert torch.equal(read_mel(tmp_path / "batched.pt", 20), mel.half().float())


def test_librosas_mels_become_the_models(audio: np.ndarray, tmp_path: Path) -> None:
    """librosa's magnitude mel is NVIDIA's to rounding; its power mel only nearly."""
    wanted = wg.mel(torch.from_numpy(audio), **SETTINGS)
    for power in (1.0, 2.0):
        theirs = librosa.feature.melspectrogram(
            y=audio, sr=16000, n_fft=1024, hop_length=256, n_mels=20, fmin=0, fmax=8000,
            power=power, pad_mode="reflect",
        )  # fmt: skip
        np.save(tmp_path / f"{power:.0f}.npy", theirs)
    np.save(tmp_path / "db.npy", librosa.power_to_db(theirs))
    magnitude = read_mel(tmp_path / "1.npy", 20, "magnitude")
    assert float((magnitude - wanted).abs().max()) < 1e-4
    power_mel = read_mel(tmp_path / "2.npy", 20, "power")
    # The root of a sum of squares is not the sum; the order of magnitude is.
    assert 0.01 < float((power_mel - wanted).abs().mean()) < 1.5
    assert float((read_mel(tmp_path / "db.npy", 20, "db") - power_mel).abs().max()) < 1e-3


class Evil:
    def __reduce__(self) -> tuple:
        return os.system, ("touch ran",)


def test_what_is_no_mel_is_refused(audio: np.ndarray, tmp_path: Path) -> None:
    def save(name: str, values: object) -> Path:
        np.save(tmp_path / name, values, allow_pickle=True)
        return tmp_path / name

    rng = np.random.default_rng(0)
    cases = [
        (save("shape.npy", -rng.random((19, 7))), "auto", r"shape \(19, 7\).*takes mels of \(20, "),
        (save("positive.npy", rng.random((20, 7))), "auto", "--mel-scale magnitude"),
        (save("db.npy", -80 * rng.random((20, 7))), "auto", "--mel-scale db"),
        (save("nan.npy", np.full((20, 7), np.nan)), "auto", "not finite"),
        (save("log.npy", -rng.random((20, 7))), "power", "leave out --mel-scale"),
        (save("object.npy", np.array([Evil()], dtype=object)), "auto", "cannot be read as a mel"),
    ]
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00")
    torch.save({"a": torch.zeros(2), "b": torch.zeros(3)}, tmp_path / "two.pt")
    (tmp_path / "empty.npy").write_bytes(b"")
    np.savez(tmp_path / "zip", a=np.zeros(3))
    (tmp_path / "zip.npz").rename(tmp_path / "zip.npy")
    claims = (tmp_path / "shape.npy").read_bytes().replace(b"(19, 7)", b"(9999999999, 9)")
    (tmp_path / "huge.npy").write_bytes(claims)
    for name in ("empty.npy", "zip.npy", "huge.npy"):
        cases.append((tmp_path / name, "auto", "cannot be read as a mel"))
    cases.append((save("complex.npy", np.zeros((20, 7), complex)), "auto", "is complex"))
    cases.append((save("loud.npy", 90 * rng.random((20, 7)) - 9), "auto", "ends below 6"))
    cases += [
        (tmp_path / "evil.pt", "auto", "evil.pt"),
        (tmp_path / "cut.safetensors", "auto", "cannot be read as a mel"),
        (tmp_path / "two.pt", "auto", "not one mel"),
    ]
    for path, scale, message in cases:
        with pytest.raises(UserError, match=message):
            read_mel(path, 20, scale)  # type: ignore[arg-type]
    assert not Path("ran").exists()
    with pytest.raises(UserError, match="--mel-scale bark is unknown"):
        read_mel(tmp_path / "log.npy", 20, "bark")  # type: ignore[arg-type]


def test_a_mel_and_its_recording_sound_alike(
    audio: np.ndarray, model_dir: Path, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "x.flac", audio, 16000, subtype="PCM_24")
    mel = wg.mel(
        torch.from_numpy(soundfile.read(tmp_path / "x.flac", dtype="float32")[0]), **SETTINGS
    )
    torch.save(mel, tmp_path / "x.pt")
    for name in ("flac", "pt"):
        vocode(model_dir, [tmp_path / f"x.{name}"], tmp_path / name, sigma=0.3, say=lambda _: None)
    recording, from_mel = heard(tmp_path / "flac" / "x.wav"), heard(tmp_path / "pt" / "x.wav")
    assert len(recording) == 9000
    assert len(from_mel) == 36 * 256
    assert np.abs(recording.astype(int) - from_mel[:9000]).max() <= 1


def _pipe(model: Path, data: bytes, out: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "wg", "vocode", str(model), "-", "-o", out, "--sigma", "0.3"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as here: sums depend on how many
    return subprocess.run(
        command, input=data, capture_output=True, cwd=cwd, timeout=120, env=one_thread
    )


def test_a_pipe_is_a_file(audio: np.ndarray, model_dir: Path, tmp_path: Path) -> None:
    pcm = np.round(audio * 32767).astype("<i2")
    soundfile.write(tmp_path / "stdin.wav", pcm, 16000)
    vocode(model_dir, [tmp_path / "stdin.wav"], tmp_path / "file", sigma=0.3, say=lambda _: None)
    wanted = heard(tmp_path / "file" / "stdin.wav")
    piped = _pipe(model_dir, pcm.tobytes(), "-", tmp_path)
    assert piped.returncode == 0, piped.stderr
    assert np.array_equal(np.frombuffer(piped.stdout, "<i2"), wanted)
    filed = _pipe(model_dir, pcm.tobytes(), "out", tmp_path)
    assert filed.returncode == 0, filed.stderr
    assert np.array_equal(heard(tmp_path / "out" / "stdin.wav"), wanted)
    for data, message in ((b"", b"was empty"), (b"\x00\x01\x02", b"middle of a sample")):
        refused = _pipe(model_dir, data, "nothing", tmp_path)
        assert refused.returncode == 2
        assert message in refused.stderr
        assert b"Traceback" not in refused.stderr


def test_a_reader_that_goes_away_is_no_error(model_dir: Path, tmp_path: Path) -> None:
    """`wg vocode ... -o - | head -c 100`"""
    command = f"{sys.executable} -m wg vocode {model_dir} - -o - | head -c 100 | wc -c"
    noise = np.random.default_rng(0).integers(-3000, 3000, 16000 * 20).astype("<i2").tobytes()
    done = subprocess.run(
        command, shell=True, input=noise, capture_output=True, cwd=tmp_path, timeout=120
    )
    assert done.stdout.strip() == b"100"
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr


def test_first_audio_after_one_block(model_dir: Path, tmp_path: Path) -> None:
    """A live source hears an answer while it still speaks."""
    command = [sys.executable, "-m", "wg", "vocode", str(model_dir), "-", "-o", "-"]
    pcm = np.random.default_rng(0).integers(-3000, 3000, (128 + 16) * 256).astype("<i2").tobytes()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        deadline = threading.Timer(60, process.kill)
        deadline.start()
        process.stdin.write(pcm)
        process.stdin.flush()
        first = process.stdout.read(1000)  # would wait for ever if it waited for the end
        process.stdin.close()
        rest = process.stdout.read()
        deadline.cancel()
    assert len(first) + len(rest) == len(pcm)


def test_an_audio_file_in_the_pipe_is_no_pcm(
    audio: np.ndarray, model_dir: Path, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "x.wav", audio, 16000)
    refused = _pipe(model_dir, (tmp_path / "x.wav").read_bytes(), "out", tmp_path)
    assert refused.returncode == 2
    assert b"is an audio file, not raw 16-bit mono PCM" in refused.stderr
    assert not (tmp_path / "out").exists()
