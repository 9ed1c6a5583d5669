"""The store: what was put in comes out, once built, whole or rebuilt, also at once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from wg.audio import fill as fill_module
from wg.audio import store as store_module
from wg.audio.corpus import Corpus, DataConfig, load_corpus
from wg.audio.mel import MelConfig, MelSpectrogram
from wg.audio.split import order
from wg.audio.store import Store, default_cache_dir
from wg.errors import UserError

MEL = MelConfig(sampling_rate=16000)
LENGTHS = [300, 9000, 5000, 16000, 4097]
Make = Callable[..., Path]


@pytest.fixture
def corpus(recordings: Make) -> Corpus:
    return small_corpus(recordings(LENGTHS))


def small_corpus(folder: Path, resample: bool = False) -> Corpus:
    values = {"name": "t", "kind": "folder", "path": str(folder), "sampling_rate": 16000}
    return load_corpus(DataConfig.from_dict({**values, "held_out": 2, "resample": resample}))


def test_contents(corpus: Corpus, private_cache: Path) -> None:
    store = Store.prepare(corpus, MEL)
    assert store.path.parent.parent == private_cache == default_cache_dir()
    utterances = [*corpus.train, *corpus.held_out]
    assert store.ids == [u.id for u in utterances]
    assert [store.ids[i] for i in store.train] == [u.id for u in corpus.train]
    assert [store.ids[i] for i in store.held_out] == [u.id for u in corpus.held_out]
    spectrogram = MelSpectrogram(MEL)
    for i, utterance in enumerate(utterances):
        pcm = soundfile.read(utterance.path, dtype="float32")[0]
        audio = store.audio(i)
        assert audio.dtype == torch.float32
        np.testing.assert_array_equal(audio.numpy(), pcm)
        assert store.n_samples(i) == len(pcm)
        mel = store.mel(i)
        assert mel.shape == (80, store.n_frames(i)) == (80, 1 + len(pcm) // 256)
        torch.testing.assert_close(mel, spectrogram(audio[None])[0], atol=1e-5, rtol=1e-5)


def test_slices(corpus: Corpus) -> None:
    store = Store.prepare(corpus, MEL)
    i = store.ids.index("003.wav")
    assert torch.equal(store.audio(i, 256, 5000), store.audio(i)[256:5000])
    assert store.audio(i, 15000, 99999).shape == (1000,)
    part = store.mel(i, 3, 20)
    assert torch.equal(part, store.mel(i)[:, 3:23])
    assert part.is_contiguous()
    assert store.mel(i, 60, 20).shape == (80, 3)


def test_many_small_batches_give_the_same(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Store.prepare(corpus, MEL)
    monkeypatch.setattr(fill_module, "BATCH_SAMPLES", 1)
    single = Store.prepare(corpus, MEL, tmp_path / "other")
    for i in range(len(whole)):
        torch.testing.assert_close(whole.mel(i), single.mel(i), atol=1e-5, rtol=1e-5)


def test_second_time_is_instant_and_other_mels_are_other_stores(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Store.prepare(corpus, MEL)
    other = Store.prepare(corpus, MelConfig(sampling_rate=16000, n_mels=40))
    assert other.path != first.path
    monkeypatch.setattr(store_module, "fill", None)
    assert Store.prepare(corpus, MEL).path == first.path


@pytest.mark.parametrize("damage", ["truncated", "edited index", "no index", "no mel"])
def test_damage_is_found_and_mended(corpus: Corpus, damage: str) -> None:
    store = Store.prepare(corpus, MEL)
    mel, index = store.mel(1), store.path / "index.json"
    if damage == "truncated":
        os.truncate(store.path / "audio.i16", 1000)
    elif damage == "edited index":
        index.write_text(json.dumps({**json.loads(index.read_text()), "ids": ["x"] * 5}))
    else:
        (index if damage == "no index" else store.path / "mel.f32").unlink()
    with pytest.raises(ValueError, match="store"):
        Store(store.path)
    again = Store.prepare(corpus, MEL)
    assert torch.equal(again.mel(1), mel)
    assert [p.name for p in store.path.parent.iterdir()] == [store.path.name]


def test_a_copy_maps_the_files(corpus: Corpus) -> None:
    store = Store.prepare(corpus, MEL)
    data = pickle.dumps(store)
    assert len(data) < 1000
    assert torch.equal(pickle.loads(data).mel(2), store.mel(2))


def _prepare(folder: Path, barrier: object, queue: object) -> None:
    torch.set_num_threads(1)
    corpus = small_corpus(folder)
    filled = []

    def slowly(*args: Any) -> None:
        filled.append(args)
        time.sleep(0.5)  # for the others to come in the meantime
        fill_module.fill(*args)

    store_module.fill = slowly  # in this process
    barrier.wait()  # type: ignore[attr-defined]
    store = Store.prepare(corpus, MEL)
    queue.put((str(store.path), float(store.mel(3).sum()), len(filled)))  # type: ignore[attr-defined]


def test_several_processes_at_once(corpus: Corpus) -> None:
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(3), context.Queue()
    folder = corpus.train[0].path.parent
    workers = [context.Process(target=_prepare, args=(folder, barrier, queue)) for _ in range(3)]
    for worker in workers:
        worker.start()
    results = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(timeout=60)
    assert len({(path, total) for path, total, _ in results}) == 1
    assert sum(filled for _, _, filled in results) == 1, "one builds, the others wait for it"
    assert len(list((default_cache_dir() / "store").iterdir())) == 1


def test_resampled(recordings: Make) -> None:
    store = Store.prepare(small_corpus(recordings([22050] * 4, rate=22050), resample=True), MEL)
    assert {store.n_samples(i) for i in range(4)} == {16000}


def as_flac(wav: Path, held_out: bool) -> Path:
    """The same samples in other bytes, under a name that the rule holds out, or does not."""
    samples, rate = soundfile.read(wav, dtype="int16")
    name = (max if held_out else min)((f"copy{k}.flac" for k in range(100)), key=order)
    soundfile.write(wav.with_name(name), samples, rate, subtype="PCM_16")
    return wav.with_name(name)


def test_a_leak_in_other_bytes_is_refused(recordings: Make) -> None:
    folder = recordings(LENGTHS)
    before = Store.prepare(small_corpus(folder), MEL)
    held = folder / before.ids[before.held_out[0]]
    copy = as_flac(held, held_out=False)
    corpus = small_corpus(folder)
    split = {u.path: u.split for u in (*corpus.train, *corpus.held_out)}
    assert (split[held], split[copy]) == ("held_out", "train")
    with pytest.raises(UserError, match="hold the same audio and would be held out and") as e:
        Store.prepare(corpus, MEL)
    assert str(held) in str(e.value)
    assert str(copy) in str(e.value)
    assert not list((default_cache_dir() / "store").glob(".build-*"))
    copy.unlink()
    assert Store.prepare(small_corpus(folder), MEL).path == before.path


def test_copies_that_are_both_held_out_are_refused(recordings: Make) -> None:
    folder = recordings(LENGTHS)
    held = small_corpus(folder).held_out[0].path
    copy = as_flac(held, held_out=True)
    corpus = small_corpus(folder)
    assert {u.path for u in corpus.held_out} == {held, copy}
    with pytest.raises(UserError, match="both held out"):
        Store.prepare(corpus, MEL)


def test_copies_among_the_training_files_are_no_leak(recordings: Make) -> None:
    folder = recordings(LENGTHS)
    corpus = small_corpus(folder)
    as_flac(corpus.train[0].path, held_out=False)
    again = small_corpus(folder)
    assert {u.id for u in corpus.held_out} == {u.id for u in again.held_out}
    assert len(Store.prepare(again, MEL)) == len(LENGTHS) + 1


def test_mels_of_another_device_are_another_store(corpus: Corpus) -> None:
    keys = {store_module._key(corpus, MEL, device) for device in ("cpu", "cuda")}
    assert len(keys) == 2
    # Caches of the CPU's mels stay valid: this is the key that they have always had.
    parts = [1, corpus.digest, dataclasses.asdict(MEL)]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    assert Store.prepare(corpus, MEL).path.name == f"t-{digest[:16]}"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_mels_on_a_gpu_that_is_not_there(corpus: Corpus) -> None:
    with pytest.raises(UserError, match=r"data\.mel_device=cuda, but .* no GPU"):
        Store.prepare(corpus, MEL, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_mels_on_a_gpu_are_the_same_up_to_rounding(corpus: Corpus) -> None:
    torch.set_float32_matmul_precision("high")  # a recipe's TF32 must not reach them
    try:
        gpu = Store.prepare(corpus, MEL, device="cuda")
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    cpu = Store.prepare(corpus, MEL)
    assert gpu.path != cpu.path
    for i in range(len(cpu)):
        torch.testing.assert_close(gpu.mel(i), cpu.mel(i), atol=1e-4, rtol=1e-4)


def test_a_recipes_matmul_does_not_reach_the_mels(corpus: Corpus) -> None:
    seen = []

    class Watched(MelSpectrogram):
        def batch(self, clips: list[torch.Tensor]) -> list[torch.Tensor]:
            seen.append(torch.get_float32_matmul_precision())
            return super().batch(clips)

    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fill_module, "MelSpectrogram", Watched)
            Store.prepare(corpus, MEL)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) == {"highest"}


def test_old_litter_is_removed(corpus: Corpus) -> None:
    cache = default_cache_dir() / "store"
    old, young = cache / ".build-old", cache / ".build-young"
    for path in (old, young):
        path.mkdir(parents=True)
    os.utime(old, (time.time() - 1e6,) * 2)
    Store.prepare(corpus, MEL)
    assert not old.exists()
    assert young.exists()


def test_mistakes(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sampling_rate"):
        Store.prepare(corpus, MelConfig())
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="WG_CACHE_DIR"):
        Store.prepare(corpus, MEL, tmp_path / "file")
