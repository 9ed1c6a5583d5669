"""``wg train`` as its users meet it: a real command line, real processes, real kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wg.checkpoint.weights import read_weights
from wg.cli import main
from wg.measure.clock import headline
from wg.measure.record import (
    last_clock,
    read_events,
    scores,
    snapshots,
    status,
    train_curve,
)

Command = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).resolve().parents[2]
SMOKE = ("model=tiny", "+debug=smoke", "logger=none", "out=runs/t")


def with_corpus(corpus: Path) -> tuple[str, ...]:
    return (
        *SMOKE, "data=folder", f"data.path={corpus}", "data.sampling_rate=16000",
        "data.held_out=2",
    )  # fmt: skip


def run_dirs(folder: Path) -> list[Path]:
    return sorted(p.parent for p in folder.glob("runs/t/*/run.json"))


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """``wg train`` in a process group of its own, to be sent signals."""
    return subprocess.Popen(
        [sys.executable, "-m", "wg", "train", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def kill_all_that_name(path: Path) -> None:
    """kill -9 of every process with ``path`` in its command line."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(path).encode() in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
        except (OSError, ProcessLookupError):
            continue


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def test_a_sweep_with_mixed_ranks_then_skips(wg: Command, tmp_path: Path, corpus_dir: Path) -> None:
    """One rank and two gloo ranks in one multirun: same data, same mathematics, each its own
    process; the same command again does nothing."""
    args = (
        "train", "-m", *with_corpus(corpus_dir), "batch_size=2", "strategy=[],[ddp]", "seed=0,1"
    )  # fmt: skip
    first = wg(*args)
    assert first.returncode == 0, first.stdout + first.stderr
    runs = run_dirs(tmp_path)
    assert len(runs) == 4
    by_ranks: dict[tuple[int, int], Path] = {}
    for run in runs:
        events = read_events(run)
        start = next(e for e in events if e["event"] == "start")
        by_ranks[start["ranks"], start["seed"]] = run
        assert status(events) == "finished"
        assert len(scores(events, "grid")) == len(snapshots(events)) == 4
        assert len(scores(events, "held_out")) == 1
    assert sorted(by_ranks) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    for seed in (0, 1):
        _, one, _ = read_weights(by_ranks[1, seed] / "final")
        _, two, _ = read_weights(by_ranks[2, seed] / "final")
        assert all((one[k] - two[k]).abs().max() < 1e-4 for k in one)
    size = {r: (r / "events.jsonl").stat().st_size for r in runs}
    again = wg(*args)
    assert again.returncode == 0
    assert again.stdout.count("skipped") >= 4
    assert size == {r: (r / "events.jsonl").stat().st_size for r in runs}


def test_two_ranks_grow_average_and_ramp_like_one(
    wg: Command, tmp_path: Path, corpus_dir: Path
) -> None:
    """Parameters that wake, shapes that change, an average of the weights: on two ranks too."""
    recipe = "grow_flows,ema,curriculum"
    done = wg(
        "train", "-m", *with_corpus(corpus_dir), "batch_size=2",
        f"strategy=[{recipe}],[{recipe},ddp]", "++strategy.curriculum.segment_lengths=[2048,4096]",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = (read_weights(r / "final")[1] for r in run_dirs(tmp_path))
    assert all((one[k] - two[k]).abs().max() < 1e-4 for k in one)


@pytest.mark.parametrize("strategy", ["[]", "[ddp]"])
def test_kill_9_resumes_to_the_same_weights_and_stays_charged(
    strategy: str, wg: Command, tmp_path: Path, corpus_dir: Path
) -> None:
    """Bit for bit, on one rank and on two."""
    args = [
        *with_corpus(corpus_dir), "budget.audio_seconds=40", "snapshots.every=4", "batch_size=2",
        f"strategy={strategy}",
    ]  # fmt: skip
    process = start(tmp_path, *args)

    def third_snapshot() -> bool:
        return any(len(snapshots(read_events(r))) >= 3 for r in run_dirs(tmp_path))

    wait_for(third_snapshot)
    (run,) = run_dirs(tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    kill_all_that_name(run)  # torchrun's workers have process groups of their own
    process.communicate()
    killed = read_events(run)
    assert status(killed) == "running"
    charged = last_clock(killed)
    assert charged is not None
    done = wg("train", *args)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resuming from" in done.stdout
    events = read_events(run)
    resumed = [e for e in events if e["attempt"] == 2]
    first = next(e for e in resumed if "clock" in e)
    assert headline(first["clock"], "cpu") >= headline(charged, "cpu")
    whole = wg("train", *args, "out=runs/whole")
    assert whole.returncode == 0, whole.stdout + whole.stderr
    (other,) = sorted((tmp_path / "runs/whole").glob("*/final"))
    assert (other / "model.safetensors").read_bytes() == (
        run / "final" / "model.safetensors"
    ).read_bytes()


def test_a_rank_that_dies_fails_the_run(wg: Command, tmp_path: Path, corpus_dir: Path) -> None:
    """Whether the other rank meets a closed connection first or torchrun's signal, which is the
    one that a user would have sent."""
    args = [
        *with_corpus(corpus_dir), "budget.audio_seconds=2000", "snapshots.every=4", "batch_size=2",
        "strategy=[ddp]",
    ]  # fmt: skip
    process = start(tmp_path, *args)
    wait_for(lambda: any(len(snapshots(read_events(r))) >= 2 for r in run_dirs(tmp_path)))
    (run,) = run_dirs(tmp_path)
    for entry in Path("/proc").iterdir():
        try:
            named = str(run).encode() in (entry / "cmdline").read_bytes()
            if named and b"\0RANK=1\0" in (entry / "environ").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
        except (OSError, ValueError):
            continue
    said, wrong = process.communicate(timeout=120)
    assert process.returncode == 1, said + wrong  # 130 would be an interrupt
    assert status(read_events(run)) != "finished"


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_interrupting_saves_and_says_how_to_go_on(
    launcher: str, wg: Command, tmp_path: Path, corpus_dir: Path
) -> None:
    """Ctrl-C, as a terminal sends it: to the whole group. Runs end at a step with their state
    saved, also those of workers that a launcher kills; the rest of the sweep does not start."""
    process = start(
        tmp_path, "-m", *with_corpus(corpus_dir), f"hydra/launcher={launcher}", "seed=0,1,2",
        "budget.audio_seconds=2000", "snapshots.every=500",
        *(["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []),
    )  # fmt: skip
    running = 2 if launcher == "joblib" else 1

    def training() -> bool:
        events = [read_events(r) for r in run_dirs(tmp_path)]
        return sum(any(e["event"] == "train" for e in es) for es in events) == running

    wait_for(training)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "goes on where it stopped" in out
    assert out.count("not started") == 3 - running
    assert "Traceback" not in out + err
    for run in run_dirs(tmp_path):
        events = read_events(run)
        assert status(events) == "interrupted"
        step = train_curve(events)[-1]["step"]
        (saved,) = (run / "checkpoint").glob("step-*")
        assert int(saved.name.removeprefix("step-")) >= step


def test_one_bad_arm_does_not_stop_the_others(
    wg: Command, tmp_path: Path, corpus_dir: Path
) -> None:
    done = wg("train", "-m", *with_corpus(corpus_dir), "strategy=[bf16,fp16],[]")
    assert done.returncode == 2
    assert "strategies 'bf16' and 'fp16' both set precision" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert [status(read_events(r)) for r in run_dirs(tmp_path)] == ["finished"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["recipe=nvida"], "there is no recipe 'nvida'; did you mean 'nvidia'?"),
        (["strategy=[whiten]"], "or 'whiten_init'?"),
        (
            ["strategy.adamw.lr=1"],
            "strategy 'adamw' is not in the recipe that strategy.adamw.lr would change",
        ),
        (["seeed=1"], "did you mean 'seed'"),
        (["strategy=[bf16"], "cannot read 'strategy=[bf16'"),
        (["data=folder", "data.path=nowhere"], "nowhere"),
        (["data=folder"], "data.path="),
        (["recipe=fast,nvidia"], "a sweep over several values needs -m"),
        (["recipe=fast", "~strategy.ema"], "there is no strategy 'ema' in this recipe"),
        (["lr=3e-4"], "strategy.adamw.lr"),
        (["device=tpu"], "device='tpu' must be"),
        (["+sweep=dem"], "did you mean 'demo'"),
        (["out=/dev/null/x"], "out=/dev/null/x cannot be written"),
        (
            ["recipe=fast", "strategy.adamw=1e-3"],
            "strategy.adamw=0.001 must be a group of settings",
        ),
        (["data.mel=5"], "data.mel=5 must be a group of settings"),
        (["++target.conditions.pesq=3"], "names no metric 'pesq'"),
        (["logger.name=wnadb"], "logger.name='wnadb' must be"),
        (["strategy=[grow_flows]", "strategy.grow_flows.n_flows=[]"], "names no number of flows"),
        (["-m", "hydra/launcher=submitit_slurm"], "pip install 'wg[slurm]'"),
    ],
)
def test_mistakes_get_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Through the command's own entry point; capfd hears the run's process too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = ["wg", "train", "model=tiny", "logger=none", "out=runs/t", *arguments]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as exit_:
        main()
    out, err = capfd.readouterr()
    assert exit_.value.code == 2, out + err
    assert sentence in err
    assert "Traceback" not in out + err
    assert len([line for line in err.splitlines() if line.startswith("wg: ")]) == 1


@pytest.mark.parametrize("kind", ["empty", "not audio", "rate", "short"])
def test_bad_audio_gets_one_sentence(
    kind: str, wg: Command, tmp_path: Path, corpus_dir: Path
) -> None:
    folder = tmp_path / "audio"
    folder.mkdir()
    extra: list[str] = []
    if kind == "not audio":
        (folder / "x.wav").write_text("hello")
    elif kind != "empty":
        for wav in corpus_dir.glob("*.wav"):
            (folder / wav.name).write_bytes(wav.read_bytes())
    rate = 22050 if kind == "rate" else 16000
    if kind == "short":
        extra = ["segment_length=64000", "budget.audio_seconds=60"]
    done = wg(
        "train", *SMOKE, "data=folder", f"data.path={folder}", f"data.sampling_rate={rate}",
        "data.held_out=2", *extra,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    expected = {
        "empty": "no ", "not audio": "x.wav", "rate": "data.resample=true",
        "short": "shorter than segment_length=64000",
    }  # fmt: skip
    assert expected[kind] in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_mistake_under_ddp_is_told_once(wg: Command, tmp_path: Path, corpus_dir: Path) -> None:
    """torchrun turns its workers' exit codes into its own."""
    done = wg(
        "train", *with_corpus(corpus_dir), "batch_size=2", "strategy=[ddp]",
        "strategy.ddp.backend=nccl", "device=cpu",
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("wg: strategy.ddp.backend=nccl needs GPUs") == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "ChildFailedError" not in done.stderr


def test_flags_of_one_run_are_told_to_a_sweep(wg: Command) -> None:
    done = wg("train", "-m", "recipe=fast,nvidia", *SMOKE, "--cfg", "job")
    assert done.returncode == 2
    assert done.stderr == "wg: --cfg and --info are of one run and go without -m: leave -m out.\n"


@pytest.mark.parametrize("module", [["wg.train"], ["wg.train.torchrun", "2"]])
def test_ctrl_c_while_modules_are_imported_ends_in_no_traceback(
    tmp_path: Path, module: list[str]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", *module, "nowhere"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )  # fmt: skip
    assert done.returncode == -signal.SIGINT
    assert done.stderr == ""


def test_a_corrupt_checkpoint_is_told_and_nothing_is_lost(
    wg: Command, tmp_path: Path, corpus_dir: Path
) -> None:
    from wg.train.checkpoint import newest

    args = [*with_corpus(corpus_dir)]
    done = wg("train", *args)
    assert done.returncode == 0
    (run,) = run_dirs(tmp_path)
    # As if killed before the end: a record without its last events, and a damaged checkpoint.
    events = [e for e in read_events(run) if e["event"] in ("start", "train")]
    (run / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    (run / "final").unlink()
    broken = run / "checkpoint" / "step-000000004"
    broken.mkdir(parents=True)
    (broken / "checkpoint.json").write_text("{}")
    again = wg("train", *args)
    assert again.returncode == 2, again.stdout + again.stderr
    assert "step-000000004 is corrupt" in again.stderr
    assert "delete" in again.stderr
    assert "Traceback" not in again.stdout + again.stderr
    assert newest(run / "checkpoint") == broken


def test_doctor_and_listings_run(wg: Command) -> None:
    assert "PyTorch" in wg("doctor").stdout
    listing = wg("strategies").stdout
    for name in ("bf16", "whiten_init", "curriculum"):
        assert name in listing
    assert "Source:" in wg("strategies", "ema").stdout
    unknown = wg("strategies", "emma")
    assert unknown.returncode == 2
    assert "did you mean 'ema'" in unknown.stderr
