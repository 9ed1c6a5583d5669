"""``wg plan``: composes as ``wg train`` does, starts nothing, says its assumptions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from wg.cli import cli
from wg.errors import UserError
from wg.forecast.energy import Energy
from wg.forecast.here import Here, solved
from wg.sweep.compose import beside, configurations


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    # A machine of known speed: tests time nothing.
    machine = Here("cpu", 1, "cpu", 1e11, 0.5, 1e10, [])
    monkeypatch.setattr("wg.forecast.run.here", lambda *a: machine)


def test_a_sweep_is_what_train_would_run() -> None:
    runs = configurations(["+sweep=demo"], sweep=True)
    assert [(r["arm"], r["seed"]) for r in runs] == [
        (arm, seed) for seed in (0, 1) for arm in ("nvidia", "whiten", "fast", "grow")
    ]
    more = configurations(["model=tiny,small", "strategy=[],[bf16]", "seed=3"], sweep=True)
    assert [r["arm"] for r in more] == [
        f"nvidia{s} model={m}" for m in ("tiny", "small") for s in ("", " +[bf16]")
    ]


@pytest.mark.parametrize(
    ("overrides", "sweep", "sentence"),
    [
        (["seed=0,1"], False, "needs -m"),
        (["modle=tiny"], False, "there is no"),
        (["model=tinny"], True, "did you mean 'tiny'"),
        (["hydra/sweeper=list"], True, "there is no hydra/sweeper 'list'"),
    ],
)
def test_mistakes_are_one_sentence(overrides: list[str], sweep: bool, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as e:
        configurations(overrides, sweep)
    assert "\n" not in str(e.value)


def test_the_tables_and_the_json(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli,
        ["plan", "model=tiny", "--gpus", "1,8", "--hardware", "h100,a100", "--price", "2",
         "--json", "plan.json"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    for words in ("8 x a100", "NOT modelled", "an assumption", "https://", "stated; --measure"):
        assert words in done.output
    found = json.loads((tmp_path / "plan.json").read_text())
    (arm,) = found["arms"]
    assert found["format"] == "wg-plan/1"
    assert [(f["hardware"], f["gpus"]) for f in arm["forecasts"]] == [
        ("h100", 1), ("h100", 8), ("a100", 1), ("a100", 8),
    ]  # fmt: skip
    assert arm["model_flops"] == arm["steps"] * arm["model_flops_a_step"]
    assert arm["forecasts"][0]["money"] == pytest.approx(2 * arm["forecasts"][0]["gpu_hours"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plan.json"]  # nothing was started


def planned(monkeypatch: pytest.MonkeyPatch, energy: Energy, *more: str) -> tuple[str, Any]:
    """The output of a sweep of two seeds on a machine with this energy, and its JSON."""
    machine = Here("cpu", 1, "cpu", 1e11, 0.5, 1e10, [], energy)
    monkeypatch.setattr("wg.forecast.run.here", lambda *a: machine)
    done = CliRunner().invoke(
        cli, ["plan", "-m", "model=tiny", "seed=0,1", "--json", "plan.json", *more]
    )
    assert done.exit_code == 0, done.output
    return done.output, json.loads(Path("plan.json").read_text())


def test_energy_and_money_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Joules and money of a second of the clock, whatever the named GPUs cost."""
    energy = Energy(72.0, True, "1 CPU package, with all processes on them")
    said, found = planned(monkeypatch, energy, "--price", "2", "--price-here", "36")
    (arm,) = found["arms"]
    assert arm["kwh_here"] == pytest.approx(arm["seconds_here"] * 72 / 3.6e6)
    assert arm["money_here"] == pytest.approx(arm["seconds_here"] / 100)
    assert arm["forecasts"][0]["money"] == pytest.approx(2 * arm["forecasts"][0]["gpu_hours"])
    assert found["here"]["energy"] == {
        "a_second": 72.0, "metered": True, "of": "1 CPU package, with all processes on them",
    }  # fmt: skip
    assert "kWh here: 72 J a CPU second while steps are made (1 CPU package," in said
    assert "Money:" not in said
    lines = said.splitlines()
    assert " ".join(lines[0].split()).endswith(
        "CPU hours a run here kWh a run here money a run here"
    )
    (total,) = [line.split() for line in lines if line.startswith("all")]
    kwh, money = float(total[-2]), float(total[-1])
    assert kwh == pytest.approx(2 * arm["kwh_here"], rel=0.05)
    assert money == pytest.approx(2 * arm["money_here"], rel=0.05)


def test_what_is_not_known_here_is_said_in_one_phrase(monkeypatch: pytest.MonkeyPatch) -> None:
    none = Energy(None, False, "the CPU's energy, since /sys is for root alone")
    said, found = planned(monkeypatch, none)
    assert said.count("kWh here") == 1
    assert "kWh here: none, for want of a meter (the CPU's energy, since /sys is for" in said
    assert said.count("Money:") == 1
    assert (
        "Money: none without --price, of an hour of a named GPU; or without --price-here, of a "
        "CPU hour here." in said
    )
    assert "a run here" in said
    assert "kWh a run here" not in said
    assert (found["arms"][0]["kwh_here"], found["arms"][0]["money_here"]) == (None, None)
    said, _ = planned(monkeypatch, Energy(None, True, "1 GPU, with all processes on them"))
    assert "kWh here: none until --measure reads the meter over a few steps (1 GPU" in said
    said, _ = planned(monkeypatch, none, "--hardware", "none")
    assert "Money: none without --price-here, of a CPU hour here." in said


def test_a_machine_whose_clock_is_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Here("cuda", 1, "wall", 1e13, 0.4, 1e12, [], Energy(650.0, True, "1 GPU"))
    monkeypatch.setattr("wg.forecast.run.here", lambda *a: machine)
    done = CliRunner().invoke(cli, ["plan", "model=tiny", "--hardware", "none"])
    assert "kWh here: 650 W while steps are made (1 GPU)." in done.output
    assert "of an hour here." in done.output


def test_runs_of_a_sweep_are_summed() -> None:
    done = CliRunner().invoke(
        cli, ["plan", "-m", "model=tiny", "recipe=nvidia,fast", "seed=0,1,2", "--hardware", "none"]
    )
    assert done.exit_code == 0, done.output
    rows = {line.split()[0]: line.split() for line in done.output.splitlines() if line.strip()}
    assert rows["all"][1] == "6"
    assert "GPUs" not in done.output


@pytest.mark.parametrize(
    "arguments",
    [["--gpus", "0"], ["--gpus", "1,2048"], ["--hardware", "h101"], ["--efficiency", "2"],
     ["--hardware", "none", "--price", "2"], ["--price-here", "-1"],
     ["batch_size=0"], ["model=none"]],
)  # fmt: skip
def test_a_users_mistake_ends_with_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from wg.cli import main

    monkeypatch.setattr("sys.argv", ["wg", "plan", "model=tiny", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("wg: ")
    assert said.count("\n") == 1


def test_two_steps_tell_two_rates() -> None:
    """Of 1e11 FLOP/s products at 80% and 5e9 bytes a second."""
    steps = [
        {"flops": f, "moved": m, "seconds": f / 0.8e11 + m / 5e9}
        for f, m in ((4e10, 9e8), (1e10, 6e8))
    ]
    efficiency, bandwidth = solved(steps, 1e11, 1e10)
    assert (efficiency, bandwidth) == (pytest.approx(0.8), pytest.approx(5e9))
    # Noise made the short step slower than the long one: the bandwidth is the copy's.
    steps[1]["seconds"] = 2.0
    efficiency, bandwidth = solved(steps, 1e11, 1e10)
    assert bandwidth == 1e10
    assert efficiency == pytest.approx(4e10 / 1e11 / (steps[0]["seconds"] - 0.09))


def test_recipes_of_ones_own_are_planned_and_taken_apart(tmp_path: Path) -> None:
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - /strategy/clip\n  - _self_\nrecipe: mine\n"
    )
    found = configurations(["recipe=mine", "model=tiny", *beside(tmp_path)])[0]
    assert (found["arm"], list(found["strategy"])) == ("mine model=tiny", ["clip"])
    done = CliRunner().invoke(cli, ["plan", "recipe=mine", "model=tiny", "--hardware", "none"])
    assert "there is no recipe 'mine'" in str(done.exception)
    out = tmp_path / "parts.yaml"
    told = CliRunner().invoke(
        cli, ["sweep", "design", "--recipe", "mine", "-o", str(out), "--strategies", "clip,ema",
              "--config-dir", str(tmp_path)],
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    assert "4 recipes x 3 seeds" in told.output
    with pytest.raises(UserError, match="nowhere is no directory"):
        beside(tmp_path / "nowhere")
