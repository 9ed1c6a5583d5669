"""Copy-synthesis: what comes out is as long as what went in, repeatable, and never wraps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from wg.errors import UserError
from wg.export.vocode import vocode


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, n in (("a.wav", 4000), ("b.flac", 5001), ("sub/a.ogg", 3001), ("tiny.wav", 7)):
        soundfile.write(folder / name, 0.1 * rng.standard_normal(n), 16000)
    return folder


def _read(path: Path) -> np.ndarray:
    data, rate = soundfile.read(path, dtype="int16")
    assert rate == 16000
    assert soundfile.info(path).subtype == "PCM_16"
    return data


def test_every_file_of_its_length_and_place(clips: Path, model_dir: Path, tmp_path: Path) -> None:
    (clips / "notes.txt").write_text("not audio")
    said: list[str] = []
    out = tmp_path / "out"
    paths = vocode(model_dir, [clips], out, device="cpu", say=said.append)
    lengths = {str(p.relative_to(out)): len(_read(p)) for p in paths}
    assert lengths == {"a.wav": 4000, "b.wav": 5001, "sub/a.wav": 3001, "tiny.wav": 7}
    assert any("left out 1 file" in line for line in said)
    assert "clipped" in said[-1]
    assert "real time" in said[-1]


def test_neither_order_nor_company_changes_a_file(
    clips: Path, model_dir: Path, tmp_path: Path
) -> None:
    a, b = clips / "a.wav", clips / "b.flac"

    def run(name: str, files: list[Path], seed: int = 0) -> np.ndarray:
        vocode(model_dir, files, tmp_path / name, seed=seed, device="cpu", say=lambda _: None)
        return _read(tmp_path / name / "a.wav")

    first = run("1", [a, b])
    assert np.array_equal(first, run("2", [b, a]))
    assert np.array_equal(first, run("3", [a]))
    assert np.array_equal(first, run("4", [clips]))
    assert not np.array_equal(first, run("5", [a], seed=1))
    assert not np.array_equal(
        _read(tmp_path / "1" / "a.wav")[:100], _read(tmp_path / "1" / "b.wav")[:100]
    )


def test_loud_audio_is_clipped_never_wrapped(clips: Path, model_dir: Path, tmp_path: Path) -> None:
    def run(sigma: float) -> tuple[np.ndarray, str]:
        said: list[str] = []
        paths = vocode(
            model_dir, [clips / "a.wav"], tmp_path / str(sigma), sigma=sigma, say=said.append
        )
        return _read(paths[0]).astype(int), said[-1]

    quiet, table = run(0.05)
    assert np.abs(quiet).max() < 32767
    assert "0.0000%" in table
    loud, table = run(50.0)
    assert loud.max() == 32767
    assert loud.min() == -32768
    # A wrapped signal would spread over all values; a clipped one sits at the two ends.
    at_the_ends = np.isin(loud, (32767, -32768)).mean()
    assert at_the_ends > 0.8
    assert f"{at_the_ends:.2%}"[:4] in table


def test_mistakes_are_told_before_anything_is_written(
    clips: Path, model_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    (tmp_path / "fake.wav").write_text("not audio at all")
    soundfile.write(tmp_path / "other.wav", np.zeros(2205), 22050)
    good = clips / "a.wav"
    cases = [
        ([], out, "nothing to vocode"),
        ([tmp_path / "empty"], out, "holds no audio"),
        ([good, tmp_path / "fake.wav"], out, "is not audio"),
        ([good, tmp_path / "other.wav"], out, "sampled at 22050 Hz .* --resample"),
        ([good, tmp_path / "nowhere.wav"], out, "does not exist"),
        ([good, good], out, "would both be written"),
        ([good], clips, "overwritten"),
        ([clips], clips / "out", "lies inside the input folder"),
    ]
    for inputs, folder, message in cases:
        with pytest.raises(UserError, match=message):
            vocode(model_dir, inputs, folder, say=lambda _: None)
        assert not out.exists()
    with pytest.raises(UserError, match="device=tpu is unknown"):
        vocode(model_dir, [good], out, device="tpu", say=lambda _: None)  # type: ignore[arg-type]


def test_another_rate_is_converted_when_asked(model_dir: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", 0.1 * np.sin(np.arange(2205) / 9), 22050)
    paths = vocode(
        model_dir, [tmp_path / "x.wav"], tmp_path / "out", resample=True, say=lambda _: None
    )
    assert len(_read(paths[0])) == 1600
