"""W&B mirrors the record: read back from what W&B itself wrote, offline."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wandb_stub import serve

from wg.measure.mirror import WandbMirror, rebuild
from wg.measure.record import read_events, train_curve
from wg.sweep.rundir import prepare
from wg.train.run import _run

Config = Callable[..., dict[str, Any]]
WANDB = shutil.which("wandb", path=str(Path(sys.executable).parent)) or shutil.which("wandb")


def read_back(run_dir: Path) -> list[dict[str, Any]]:
    """Records of the newest offline file, through W&B's own reader."""
    assert WANDB is not None
    files = sorted((run_dir / "wandb").glob("offline-run-*/*.wandb"))
    text = subprocess.run(
        [WANDB, "leet", "inspect", "--json", str(files[-1])], capture_output=True, text=True
    ).stdout
    return [json.loads(line) for line in text.splitlines()]


def history(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [r["history"] for r in records if r["type"] == "history"]


@pytest.fixture
def run_dir(tiny_config: Config, tmp_path: Path) -> Path:
    target = {"name": "easy", "conditions": {"nats_per_sample": 100.0}}
    config = tiny_config(logger={"name": "wandb", "mode": "offline", "project": "t"}, target=target)
    path = prepare({**config, "arm": "plain"}, ["recipe=nvidia"])
    assert _run(path, 0) == 0
    return path


@pytest.mark.skipif(WANDB is None, reason="needs the wandb command, which reads offline runs")
def test_one_wandb_run_with_axes_audio_and_time_to_target(run_dir: Path) -> None:
    records = read_back(run_dir)
    text = json.dumps(records)
    (run,) = [r["run"] for r in records if r["type"] == "run"]
    identity = json.loads((run_dir / "run.json").read_text())
    assert run["run_id"] == identity["wandb_id"]
    assert identity["wandb_id"].startswith(run_dir.name)
    assert run["run_group"] == "plain"
    assert set(run["tags"]) == {"nvidia", "noise"}
    assert run["config"]["update"]["segment_length"] == 4096
    rows = history(records)
    items = json.dumps(rows)
    for name in (
        "train/loss", "eval/nats_per_sample", "eval/pesq_wb", "held_out/log_mel_l1",
        "samples_seen", "audio_seconds", "train_seconds", "cpu_seconds",
    ):  # fmt: skip
        assert name in items, name
    assert items.count("train/loss") == len(train_curve(read_events(run_dir)))
    assert "audio-file" in items
    assert "image-file" in items
    assert "time_to_target" in text
    assert "train_seconds" in json.dumps([r for r in records if r["type"] == "metric"])
    media = list((run_dir / "wandb").glob("offline-run-*/files/media/**/*.*"))
    assert {p.suffix for p in media} >= {".wav", ".png"}


@pytest.mark.skipif(WANDB is None, reason="needs the wandb command, which reads offline runs")
def test_it_can_be_rebuilt_from_the_record(run_dir: Path) -> None:
    first = history(read_back(run_dir))
    shutil.rmtree(run_dir / "wandb")
    identity = json.loads((run_dir / "run.json").read_text())
    n = rebuild(run_dir, {"name": "wandb", "mode": "offline", "project": "t"}, identity)
    assert n == len(read_events(run_dir))
    assert len(history(read_back(run_dir))) == len(first)


def test_online_needs_nothing_but_a_login(
    wg: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, corpus_dir: Path
) -> None:
    """Against a server on the loopback interface: the run, its group, its rows, its media."""
    with serve() as server:
        done = wg(
            "train", "model=tiny", "+debug=smoke", "out=runs/t", "arm=plain", "data=folder",
            f"data.path={corpus_dir}", "data.sampling_rate=16000", "data.held_out=2",
            "logger.mode=${oc.env:WANDB_MODE,offline}",  # +debug=smoke turned it off
            env={
                "WANDB_MODE": "online",
                "WANDB_BASE_URL": server.url,
                "WANDB_API_KEY": "local-" + "0" * 40,
            },
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (run_dir,) = (p.parent for p in tmp_path.glob("runs/t/*/run.json"))
    upsert = next(v for name, v in server.queries if name == "UpsertBucket")
    assert upsert["name"].startswith(run_dir.name)
    assert upsert["groupName"] == "plain"
    rows = server.streams["wandb-history.jsonl"]
    curve = train_curve(read_events(run_dir))
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert losses == pytest.approx([e["loss"] for e in curve])
    judged = [row for row in rows if "eval/nats_per_sample" in row]
    assert judged
    # Every row carries the axes that its charts are drawn against.
    assert all({"audio_seconds", "train_seconds"} <= row.keys() for row in judged)
    assert {Path(name).suffix for name in server.uploads} >= {".wav", ".png"}


def test_trouble_with_wandb_never_stops_a_run(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError("no room")

    monkeypatch.setattr(WandbMirror, "_start", fail)
    config = tiny_config(
        logger={"name": "wandb"}, budget={"audio_seconds": 1.0}, snapshots={"every": 1.0}
    )
    assert _run(prepare(config, []), 0) == 0
    assert "W&B is off for this run (OSError: no room)" in capsys.readouterr().out
