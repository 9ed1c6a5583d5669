"""Make the demo corpus from Asterisk's core sounds; it is already made and packaged here.

    python -m wg.audio.demo.make EXTRACTED_SOUNDS_DIR

EXTRACTED_SOUNDS_DIR holds the .g722 prompts of Debian's asterisk-core-sounds-en-g722
1.6.1-1, extracted with ``dpkg -x``. Needs ffmpeg. The same prompts give the same samples
(``pcm_sha256``) everywhere, and the same files (``sha256``) wherever libFLAC is the same.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import soundfile

from wg.audio.fetch.asterisk import RATE, check_ffmpeg, decode_g722
from wg.errors import EXIT_USER_ERROR, UserError

HERE = Path(__file__).parent
SHORTEST, LONGEST = 1.5, 12.0  # seconds, any clip
HELD_OUT_SHORTEST, HELD_OUT_LONGEST = 2.5, 8.0  # seconds, a held-out clip
HELD_OUT_SECONDS, TRAIN_SECONDS = 60, 300

# Folders of silence, single letters, digits and code words; and one prompt of monkeys.
NOT_SPEECH_FOLDERS = {"silence", "letters", "digits", "phonetic"}
NOT_SPEECH = {"tt-monkeys"}


def decode(path: Path) -> np.ndarray:
    """A G.722 prompt -> int16 (T,) at 16 kHz."""
    return decode_g722(path.read_bytes(), str(path))


def usable(samples: np.ndarray) -> bool:
    """Of the right length, neither clipped nor silent."""
    if not SHORTEST * RATE <= len(samples) <= LONGEST * RATE:
        return False
    level = np.sqrt(np.mean((samples / 32768) ** 2))
    return bool(np.abs(samples.astype(np.int32)).max() < 32000 and level > 0.01)


def read_prompts(sounds: Path) -> dict[str, np.ndarray]:
    """Usable speech prompts by name (path below the voice's folder, without suffix)."""
    files = sorted(sounds.rglob("*.g722"))
    if not files:
        raise UserError(f"no .g722 prompts below {sounds}: extract the package with dpkg -x first")
    # The voice's folder is the nearest one that holds them all.
    root = min((f.parent for f in files), key=lambda folder: len(folder.parts))
    prompts = {}
    for file in files:
        name = file.relative_to(root).with_suffix("").as_posix()
        if name.split("/")[0] in NOT_SPEECH_FOLDERS or name in NOT_SPEECH:
            continue
        samples = decode(file)
        if usable(samples):
            prompts[name] = samples
    return prompts


def take(names: list[str], prompts: dict[str, np.ndarray], seconds: int) -> list[str]:
    """The first names that reach ``seconds`` together."""
    taken: list[str] = []
    total = 0
    for name in names:
        if total >= seconds * RATE:
            break
        taken.append(name)
        total += len(prompts[name])
    return taken


def choose(prompts: dict[str, np.ndarray]) -> dict[str, str]:
    """Name -> split. Held out: by SHA-256 of the name; train: the longest of the rest."""
    middle = [
        name
        for name, samples in prompts.items()
        if HELD_OUT_SHORTEST * RATE <= len(samples) <= HELD_OUT_LONGEST * RATE
    ]
    middle.sort(key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    held_out = take(middle, prompts, HELD_OUT_SECONDS)
    rest = sorted(prompts.keys() - set(held_out), key=lambda name: (-len(prompts[name]), name))
    train = take(rest, prompts, TRAIN_SECONDS)
    return dict.fromkeys(train, "train") | dict.fromkeys(held_out, "held_out")


def make(sounds: Path, out: Path = HERE) -> None:
    """Write ``out/flac/SPLIT/*.flac`` and ``out/manifest.json``."""
    check_ffmpeg()
    prompts = read_prompts(sounds)
    flac = out / "flac"
    shutil.rmtree(flac, ignore_errors=True)
    for split in ("train", "held_out"):
        (flac / split).mkdir(parents=True)
    rows = []
    for name, split in sorted(choose(prompts).items()):
        samples = prompts[name]
        ident = name.replace("/", "_")
        file = flac / split / f"{ident}.flac"
        soundfile.write(str(file), samples, RATE, format="FLAC", subtype="PCM_16")
        rows.append(
            {
                "id": ident,
                "split": split,
                "samples": len(samples),
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                "pcm_sha256": hashlib.sha256(samples.tobytes()).hexdigest(),
            }
        )
    manifest = {"name": "demo", "sampling_rate": RATE, "utterances": rows}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        make(Path(sys.argv[1]))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
