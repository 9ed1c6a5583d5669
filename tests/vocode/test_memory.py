"""Long audio: what the process holds does not grow with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

CODE = """
import sys
from pathlib import Path
from wg.vocode.run import vocode

def peak():
    line = next(l for l in open("/proc/self/status") if l.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

model, folder = Path(sys.argv[1]), Path(sys.argv[2])
peaks = []
for name in ("short", "long"):
    vocode(model, [folder / f"{name}.wav"], folder / "out", denoise=0.1, say=lambda _: None)
    peaks.append(peak())
print(*peaks)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_two_minutes_take_the_memory_of_ten_seconds(model_dir: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, seconds in (("short", 10), ("long", 120)):
        samples = (3000 * rng.standard_normal(16000 * seconds)).astype(np.int16)
        soundfile.write(tmp_path / f"{name}.wav", samples, 16000)
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(model_dir), str(tmp_path)],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    short, long = (float(v) for v in done.stdout.split())
    assert soundfile.info(tmp_path / "out" / "long.wav").frames == 1_920_000
    # Whole, its upsampled mel alone would take 154 MB.
    assert long - short < 25, (short, long)
