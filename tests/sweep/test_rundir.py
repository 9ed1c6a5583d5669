"""Run directories: named by what determines the result, and by nothing else."""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wg.errors import UserError
from wg.plan import StrategyConflict
from wg.sweep import rundir
from wg.sweep.launch import _FOREIGN, launch
from wg.sweep.planned import FILE, note_planned, read_planned
from wg.sweep.rundir import arm_name, check_overrides, prepare, runs_in
from wg.train.run import read_settings

Config = Callable[..., dict[str, Any]]


def test_the_id_hashes_the_result_and_nothing_else(tiny_config: Config, tmp_path: Path) -> None:
    first = prepare(tiny_config(), [])
    assert prepare(tiny_config(logger={"name": "wandb"}, target={"name": "x"}), []) == first
    assert prepare(tiny_config(out=str(tmp_path / "other")), []).name == first.name
    names = {first.name}
    for change in (
        {"seed": 1},
        {"budget": {"audio_seconds": 5.0}},
        {"strategy": {"ema": {}}},
        {"threads": 2},
        {"model": {"n_channels": 8}},
    ):
        names.add(prepare(tiny_config(**change), []).name)
    assert len(names) == 6


def test_a_run_is_found_however_its_settings_are_spelt(tiny_config: Config) -> None:
    """Recipes left to their defaults what they spell out today: the same run all the same."""
    first = prepare(tiny_config(strategy={"clip": {}, "ema": {"decay": 0.9}}), [])
    spelt = {"clip": {"max_norm": 10}, "ema": {"decay": 0.9}}
    assert prepare(tiny_config(strategy=spelt), []) == first
    assert prepare(tiny_config(strategy={**spelt, "clip": {"max_norm": 9}}), []) != first
    assert prepare(tiny_config(strategy=spelt, seed=1), []) != first


def test_seeds_are_one_arm_in_whatever_order_they_were_asked_for(tiny_config: Config) -> None:
    """Names once kept the order of the command line: an old sweep's spelling stays its arm's."""
    old = ["model=tiny", "data.held_out=2", "strategy=[ema,bf16]"]
    first = prepare(tiny_config(), old)
    about = json.loads((first / "run.json").read_text())
    planned = first.parent / FILE
    renamed = "nvidia model=tiny data.held_out=2 +[ema,bf16]"
    assert about["arm"] == "nvidia +[bf16,ema] data.held_out=2 model=tiny"
    planned.write_text(planned.read_text().replace(about["arm"], renamed))
    second = prepare(tiny_config(seed=1), ["strategy=[bf16,ema]", "model=tiny", "data.held_out=2"])
    assert json.loads((second / "run.json").read_text())["arm"] == renamed
    third = prepare(tiny_config(seed=1), ["strategy=[bf16]", "model=tiny", "data.held_out=2"])
    assert json.loads((third / "run.json").read_text())["arm"] != renamed
    named = prepare(tiny_config(arm="tiny model", seed=2), [])
    assert json.loads((named / "run.json").read_text())["arm"] == "tiny model"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("recipe=[fast,nvidia]", "one recipe: choose one, or .* -m recipe=fast,nvidia"),
        ("model=[tiny,small]", "a run has one model"),
        ("+sweep=[demo,lasting]", "a run has one sweep"),
        ("strategy=[ema,bf16,ema]", "lists strategy 'ema' twice"),
    ],
)
def test_lists_that_mean_nothing_are_refused(
    tiny_config: Config, override: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        prepare(tiny_config(), ["seed=0", override])
    check_overrides(["strategy=[ema,bf16]", "recipe=fast", "~strategy.clip", "snapshots.also=[1]"])


def test_metrics_are_no_part_of_a_run_and_the_newest_list_counts(tiny_config: Config) -> None:
    """They can be added later; a run made before there was such a setting is found, too."""
    first = prepare(tiny_config(), ["recipe=nvidia"])
    metrics = ["nats_per_sample", "stoi", "periodicity"]
    asked = tiny_config(evaluation={"metrics": metrics})
    assert prepare(asked, ["recipe=nvidia", f"evaluation.metrics={metrics}"]) == first
    assert read_settings(first).evaluation.metrics == tuple(metrics)
    assert read_settings(first).evaluation.grid_seconds == 1.0
    other = prepare(tiny_config(evaluation={"metrics": metrics, "sigma": 0.6}), [])
    assert other != first


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evaluation": {"metrics": ["stoi", "pesq"]}}, "evaluation.metrics.*'pesq_wb'"),
        ({"evaluation": {"metrics": []}}, "evaluation.metrics is empty"),
        (
            {
                "evaluation": {"metrics": ["stoi"]},
                "target": {"name": "good", "conditions": {"pesq_wb": 3}},
            },
            "target 'good' is about pesq_wb.*evaluation.metrics",
        ),
    ],
)
def test_metrics_are_checked_before_training(
    tiny_config: Config, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        prepare(tiny_config(**changes), [])


def test_a_metric_that_is_not_installed_is_refused_before_training(
    tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyworld", None)
    with pytest.raises(UserError, match=r"'mcd' needs pyworld.*pip install 'wg\[pitch\]'"):
        prepare(tiny_config(evaluation={"metrics": ["stoi", "mcd"]}), [])


def test_a_config_changed_by_hand_is_refused(tiny_config: Config) -> None:
    run_dir = prepare(tiny_config(), [])
    path = run_dir / "config.yaml"
    path.write_text(path.read_text().replace("log_every: 2", "log_every: 3"))
    with pytest.raises(UserError, match="changed by hand"):
        prepare(tiny_config(), [])


@pytest.mark.parametrize("text", ["a: [1", "", "- a list", "a: \x00"])
def test_a_damaged_config_is_told_and_hinders_no_other_run(tiny_config: Config, text: str) -> None:
    run_dir = prepare(tiny_config(), [])
    (run_dir / "config.yaml").write_text(text)
    for read in (lambda: prepare(tiny_config(), []), lambda: read_settings(run_dir)):
        with pytest.raises(UserError, match=r"config\.yaml.*damaged or not wg's"):
            read()
    assert prepare(tiny_config(sigma=0.7), []) != run_dir  # of the same name but for its hash


@pytest.mark.parametrize(
    ("text", "said"),
    [("seed: 1", "data"), ("strategy: [muon]\ndata: {}", "strategy"), ("data: 3", "data")],
)
def test_a_config_without_what_a_run_needs_is_told(
    tiny_config: Config, text: str, said: str
) -> None:
    run_dir = prepare(tiny_config(), [])
    (run_dir / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        read_settings(run_dir)
    assert prepare(tiny_config(sigma=0.7), []) != run_dir


def test_nothing_is_made_for_a_recipe_that_cannot_be(tiny_config: Config, tmp_path: Path) -> None:
    with pytest.raises(StrategyConflict):
        prepare(tiny_config(strategy={"bf16": {}, "fp16": {}}), [])
    assert not (tmp_path / "runs").exists()


def test_what_is_begun_is_listed_once(tiny_config: Config, tmp_path: Path) -> None:
    for seed in (0, 1, 0):
        prepare(tiny_config(seed=seed, arm="mine"), [])
    rows, damaged = read_planned(tmp_path / "runs")
    assert not damaged
    assert [(r["arm"], r["seed"]) for r in rows] == [("mine", 0), ("mine", 1)]
    assert [r["run"] for r in rows] == [folder.name for folder, _ in runs_in(tmp_path / "runs")]
    # A sweep from before there was a list gets none for what it has.
    (tmp_path / "runs" / FILE).unlink()
    prepare(tiny_config(seed=0, arm="mine"), [])
    assert read_planned(tmp_path / "runs") == ([], [])


def _begin(folder: Path) -> None:
    for seed in range(50):
        note_planned(folder / f"run-{seed}-{multiprocessing.current_process().name}", "a", seed)


def test_many_processes_may_list_their_runs(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_begin, args=(tmp_path,)) for _ in range(3)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
        assert p.exitcode == 0
    rows, damaged = read_planned(tmp_path)
    assert not damaged
    assert len({r["run"] for r in rows}) == len(rows) == 150


def test_what_never_started_is_begun_by_the_code_that_begins_it(
    tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit_after(code: str) -> str:
        monkeypatch.setattr(rundir, "code_commit", lambda: code)
        return str(json.loads((prepare(tiny_config(), []) / "run.json").read_text())["commit"])

    assert commit_after("a" * 40) == "a" * 40
    assert commit_after("b" * 40) == "b" * 40
    run_dir = prepare(tiny_config(), [])
    (run_dir / "events.jsonl").write_text('{"event": "start", "time": 1, "attempt": 1}\n')
    assert commit_after("c" * 40) == "b" * 40


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["recipe=fast", "seed=3", "+sweep=demo", "out=x"], "fast"),
        (["recipe=fast", "strategy=[]"], "fast"),
        (["recipe=fast", "strategy=[bf16,ema]"], "fast +[bf16,ema]"),
        (["recipe=fast", "~strategy.ema"], "fast ~ema"),
        (["recipe=fast", "++strategy={}"], "fast"),
        (
            ["++strategy={clip:{},adamw:{lr:0.0006,beta1:0.8}}"],
            "fast +[clip,adamw(lr=0.0006,beta1=0.8)]",
        ),
        (["recipe=fast", "strategy.adamw.lr=2", "logger.mode=online"], "fast adamw.lr=2"),
        (["segment_length=8000", "target=demo"], "fast segment_length=8000"),
        # One name, whatever the order on the command line.
        (["model=tiny", "strategy=[ema,bf16]"], "fast +[bf16,ema] model=tiny"),
        (["strategy=[bf16,ema]", "model=tiny"], "fast +[bf16,ema] model=tiny"),
        (
            ["strategy.ema.decay=0.9", "data=folder", "+strategy=bf16"],
            "fast data=folder +strategy=bf16 ema.decay=0.9",
        ),
    ],
)
def test_arms_are_named_by_what_changes_the_recipe(overrides: list[str], name: str) -> None:
    assert arm_name({"recipe": "fast"}, overrides) == name
    assert arm_name({"recipe": "fast", "arm": "mine"}, overrides) == "mine"


def test_a_run_inherits_no_ranks(
    tiny_config: Config, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Under an outer launcher's variables a run is still itself: one rank, its own W&B id."""
    for name in _FOREIGN:
        monkeypatch.setenv(name, "3")
    run_dir = prepare(
        tiny_config(budget={"audio_seconds": 1.0}, snapshots={"every": 1.0}, arm="solo"), []
    )
    outcome = launch(run_dir, "solo", 0, ranks=1, threads=1)
    assert outcome.result == "finished", capfd.readouterr()
