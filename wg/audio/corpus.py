"""Corpora: which audio files there are, how they are split, and a digest that names them.

A corpus is a list of files; nothing is decoded here (see ``wg.audio.store``).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from wg.audio.bar import LateBar
from wg.audio.cache import FileHashes, default_cache_dir
from wg.audio.config import DataConfig, ShortClips
from wg.audio.fetch.sources import SOURCES
from wg.audio.io import audio_info, check_rate, is_cut, resampled_length
from wg.audio.layout import SUFFIXES, folder_layout, ljspeech_layout, missing_part
from wg.audio.names import check_name, kind_of
from wg.audio.split import held_out_count, hold_out, is_too_short, order
from wg.errors import UserError
from wg.files import sha256_file

__all__ = ["Corpus", "DataConfig", "Utterance", "check_segments", "load_corpus"]

Split = Literal["train", "held_out"]
DEMO = Path(__file__).parent / "demo"


@dataclass(frozen=True)
class Utterance:
    """One audio file; ``n_samples`` counts at the corpus's rate, after any resampling."""

    id: str
    path: Path
    split: Split
    n_samples: int
    sha256: str


@dataclass(frozen=True)
class Corpus:
    """Utterances in two splits. ``sampling_rate`` in Hz.

    ``train`` is sorted by id. ``held_out`` is in an order by hash of the id, so its first k
    are a fixed, unsystematic choice, and a smaller ``data.held_out`` is a prefix of a larger
    (the rule is ``wg.audio.split.RULE``).
    """

    name: str
    sampling_rate: int
    resample: bool
    train: tuple[Utterance, ...]
    held_out: tuple[Utterance, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over the sorted (id, split, SHA-256 of the file's bytes), in hexadecimal."""
        rows = sorted(f"{u.id}\t{u.split}\t{u.sha256}\n" for u in self.train + self.held_out)
        return hashlib.sha256("".join(rows).encode()).hexdigest()

    def seconds(self, split: Split) -> float:
        """Audio of a split in seconds."""
        utterances = self.train if split == "train" else self.held_out
        return sum(u.n_samples for u in utterances) / self.sampling_rate


def load_corpus(cfg: DataConfig, progress: Callable[[int, int], None] | None = None) -> Corpus:
    """The corpus that a config names. ``progress(done, total)`` counts files. WAVs that were cut
    off (``wg.audio.io.is_cut``) are used as far as they go, with a line on stderr.

    Errors: UserError when it is missing, empty, not audio, of other rates (without
    ``resample``), or too small to hold anything out.
    """
    if cfg.kind == "demo":
        return _load_demo(cfg)
    files = _ljspeech_files(cfg) if cfg.kind == "ljspeech" else _folder_files(cfg)
    hashes = FileHashes(default_cache_dir())
    rates: Counter[int] = Counter()
    found, cut = [], []
    try:
        with LateBar(len(files), "hashing files") as bar:
            for done, (ident, path) in enumerate(files.items(), start=1):
                frames, rate = audio_info(path)
                rates[rate] += 1
                if len(rates) == 1:  # several rates are told all together, below
                    check_rate(path, rate, cfg.sampling_rate, cfg.resample)
                n_samples = resampled_length(frames, rate, cfg.sampling_rate)
                found.append(Utterance(ident, path, "train", n_samples, hashes.sha256(path)))
                cut += [path] if is_cut(path) else []
                bar.advance()
                if progress is not None:
                    progress(done, len(files))
    finally:
        hashes.save()  # also when interrupted: the next time goes on from here
    if len(rates) > 1 and not cfg.resample:
        counts = ", ".join(f"{rate} Hz ({n} files)" for rate, n in sorted(rates.items()))
        raise UserError(
            f"{cfg.path} mixes sampling rates, {counts}: set data.resample=true to convert "
            f"all of it to {cfg.sampling_rate} Hz"
        )
    if cut:
        # Not refused: what is there is sound, only the end is missing, and a header may be wrong.
        print(
            f"wg: {len(cut)} of {len(found)} files of {cfg.path} hold less than their headers say, "
            f"the first is {cut[0]}: what there is of them is used; copy them again to have all",
            file=sys.stderr,
            flush=True,
        )
    return _split(cfg, found)


def check_segments(corpus: Corpus, segment_length: int, short_clips: ShortClips) -> Corpus:
    """What becomes of training clips shorter than a segment (in samples).

    'error' refuses them, 'skip' returns the corpus without them, 'pad' leaves them for the
    sampler to continue with zeros.

    Errors: UserError naming the first such clip, or when nothing remains.
    """
    short = [u for u in corpus.train if u.n_samples < segment_length]
    if not short or short_clips == "pad":
        return corpus
    first = short[0]
    if short_clips == "error":
        raise UserError(
            f"{len(short)} of {len(corpus.train)} training clips of {corpus.name} are shorter "
            f"than segment_length={segment_length}, the first is {first.path} with "
            f"{first.n_samples} samples: set segment_length={min(u.n_samples for u in short)} "
            "or lower, or data.short_clips=skip or data.short_clips=pad"
        )
    kept = tuple(u for u in corpus.train if u.n_samples >= segment_length)
    if not kept:
        raise UserError(
            f"all {len(short)} training clips of {corpus.name} are shorter than "
            f"segment_length={segment_length} and data.short_clips=skip leaves none: "
            f"set segment_length={max(u.n_samples for u in short)} or lower, "
            "or data.short_clips=pad"
        )
    return replace(corpus, train=kept)


def _split(cfg: DataConfig, found: list[Utterance]) -> Corpus:
    short = {
        u.id
        for u in found
        if is_too_short(u.n_samples, cfg.sampling_rate, cfg.held_out_min_seconds)
    }
    chosen = hold_out({u.id: u.sha256 for u in found}, cfg.held_out, str(cfg.path), short)
    by_id = {u.id: u for u in found}
    held_out = tuple(replace(by_id[ident], split="held_out") for ident in chosen)
    rest = by_id.keys() - set(chosen)
    train = tuple(by_id[ident] for ident in sorted(rest))
    return Corpus(cfg.name, cfg.sampling_rate, cfg.resample, train, held_out)


def _load_demo(cfg: DataConfig) -> Corpus:
    """The packaged corpus, each file checked against the manifest."""
    manifest = json.loads((DEMO / "manifest.json").read_text())
    rate = int(manifest["sampling_rate"])
    check_rate("the demo corpus", rate, cfg.sampling_rate, cfg.resample)
    utterances = []
    for row in manifest["utterances"]:
        path = DEMO / "flac" / row["split"] / f"{row['id']}.flac"
        if not path.is_file() or sha256_file(path) != row["sha256"]:
            raise UserError(f"demo clip {path} is missing or damaged: reinstall wg")
        n_samples = resampled_length(row["samples"], rate, cfg.sampling_rate)
        utterances.append(Utterance(row["id"], path, row["split"], n_samples, row["sha256"]))
    train = tuple(u for u in utterances if u.split == "train")
    held_out = [u for u in utterances if u.split == "held_out"]
    held_out.sort(key=lambda u: order(u.id), reverse=True)
    wanted = held_out_count(cfg.held_out, len(held_out))
    if wanted > len(held_out):
        raise UserError(
            f"data.held_out={cfg.held_out} is more than the demo corpus holds out: "
            f"its split is fixed, with {len(held_out)} held-out clips, so set that or fewer"
        )
    return Corpus(cfg.name, cfg.sampling_rate, cfg.resample, train, tuple(held_out[:wanted]))


def _root(cfg: DataConfig, example: str) -> Path:
    if not cfg.path:
        raise UserError(f"data={cfg.kind} needs a folder: set data.path={example}")
    check_name(cfg.path)
    try:
        root = Path(cfg.path).expanduser()
    except RuntimeError:  # ~nobody
        raise UserError(f"data.path={cfg.path} names no known user: write it out") from None
    if kind_of(root) != "folder":
        source = next((s for s in SOURCES if cfg.path == f"data/{SOURCES[s].folder}"), None)
        fetch = f"fetch it with `wg data fetch {source}`, or " if source else ""
        raise UserError(f"data.path={cfg.path} is not a folder: {fetch}set data.path={example}")
    return root.resolve()


def _ljspeech_files(cfg: DataConfig) -> dict[str, Path]:
    """Id -> file; every id of metadata.csv must have its file."""
    root = _root(cfg, "/path/to/LJSpeech-1.1")
    part = missing_part(root)
    if part:
        raise UserError(
            f"data.path={cfg.path} has no {part} as LJSpeech-1.1 has: set data.path= to the "
            "folder that holds metadata.csv and wavs/, or use data=folder"
        )
    layout = ljspeech_layout(root)
    if layout.absent:
        raise UserError(
            f"{len(layout.absent)} of the {len(layout.listed)} utterances in metadata.csv have "
            f"no file in {root / 'wavs'}, the first is {layout.absent[0]}.wav: extract the "
            "archive again"
        )
    if not layout.files:
        raise UserError(f"no .wav files in {root / 'wavs'}: extract the archive again")
    return layout.files


def _folder_files(cfg: DataConfig) -> dict[str, Path]:
    layout = folder_layout(_root(cfg, "/path/to/recordings"))
    if not layout.files:
        raise UserError(
            f"data.path={cfg.path} holds no {', '.join(sorted(SUFFIXES))} files: "
            "set data.path= to a folder of recordings"
        )
    return layout.files
