"""``wg sweep design``: files that Hydra composes into exactly the rows of a design."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from wg.cli import cli
from wg.errors import UserError
from wg.sweep.design import write_design
from wg.sweep.paths import conf_dir
from wg.sweep.rundir import arm_name
from wg.train.settings import Settings

FAST: dict[str, Any] = {"whiten_init": {}, "adamw": {"lr": 6e-4}, "lr_schedule": {}, "clip": {}}


def rows_of(file: Path, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Arm -> configuration of every job of ``wg train -m +sweep=FILE`` at one seed."""
    conf = tmp_path / "conf"
    shutil.copytree(conf_dir(), conf)
    shutil.copy(file, conf / "sweep" / file.name)
    params = yaml.safe_load(file.read_text())["hydra"]["sweeper"]["params"]
    assert params["seed"] == "0,1,2"
    parsed = OverridesParser.create().parse_override(f"++strategy={params['++strategy']}")
    found = {}
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf), version_base="1.3"):
        for row in parsed.sweep_string_iterator():
            task = [f"+sweep={file.stem}", "seed=1", f"++strategy={row}"]
            config = OmegaConf.to_container(compose("train", task), resolve=True)
            assert isinstance(config, dict)
            plain = {str(k): v for k, v in config.items()}
            Settings.from_config(plain).plan()  # it can be trained
            found[arm_name(plain, task)] = plain
    return found


def write(tmp_path: Path, recipe: str, *options: str) -> tuple[Path, str]:
    out = tmp_path / "x_parts.yaml"
    found = CliRunner().invoke(
        cli, ["sweep", "design", "--recipe", recipe, *options, "-o", str(out)]
    )
    assert found.exit_code == 0, found.exception
    return out, found.output


def test_a_full_design_is_all_subsets_with_the_recipes_settings(tmp_path: Path) -> None:
    out, said = write(tmp_path, "fast")
    rows = rows_of(out, tmp_path)
    expected = [
        {n: FAST[n] for n in FAST if n in chosen}
        for size in range(5)
        for chosen in itertools.combinations(FAST, size)
    ]
    composed = [r["strategy"] for r in rows.values()]
    assert len(rows) == 16
    assert all(e in composed for e in expected)
    assert {r["segment_length"] for r in rows.values()} == {4000}
    assert {r["recipe"] for r in rows.values()} == {"fast-parts"}
    assert rows["fast-parts"]["strategy"] == {}  # the --baseline that its head names
    assert "--baseline fast-parts" in out.read_text()
    assert "16 recipes x 3 seeds = 48 runs" in said


def test_a_fraction_says_what_it_cannot_tell(tmp_path: Path) -> None:
    out, said = write(tmp_path, "fast", "--kind", "fraction")
    rows = {frozenset(r["strategy"]) for r in rows_of(out, tmp_path).values()}
    whole = frozenset(FAST)
    # eight rows in which the product of all four is the same: an even number of them
    assert rows == {frozenset(c) for n in (0, 2, 4) for c in itertools.combinations(whole, n)}
    assert "a fraction of 8 of 16 recipes, resolution IV, 8 recipes x 3 seeds" in said
    assert "whiten_init:adamw with lr_schedule:clip" in said
    head = " ".join(line.lstrip("# ") for line in out.read_text().splitlines())
    assert "whiten_init:adamw with lr_schedule:clip" in head


def test_all_but_one_of_some_strategies_and_one_more(tmp_path: Path) -> None:
    """Strategies that are not named stay; one that the recipe lacks enters with its defaults."""
    out, _ = write(tmp_path, "fast", "--strategies", "clip,ema", "--kind", "leave-one-out")
    rows = rows_of(out, tmp_path)
    kept = {n: FAST[n] for n in ("whiten_init", "adamw", "lr_schedule")}
    assert [r["strategy"] for r in rows.values()] == [
        kept, {**kept, "clip": {}, "ema": {}}, {**kept, "ema": {}}, {**kept, "clip": {}},
    ]  # fmt: skip
    assert next(iter(rows)) == "fast-parts"


def test_lists_among_the_settings(tmp_path: Path) -> None:
    out, _ = write(tmp_path, "grow", "--strategies", "grow_flows,curriculum")
    last = list(rows_of(out, tmp_path).values())[-1]["strategy"]
    assert last["grow_flows"] == {"n_flows": [4, 6], "until": [0.25]}
    assert last["curriculum"] == {"segment_lengths": [2000, 4000], "until": [0.25]}


@pytest.mark.parametrize(
    ("recipe", "strategies", "kind", "runs", "words"),
    [
        ("fats", None, "full", None, "there is no recipe 'fats'; did you mean 'fast'"),
        ("fast", ["clop"], "full", None, "there is no strategy 'clop'; did you mean 'clip'"),
        ("fast", ["muon", "clip"], "full", None, "strategies 'adamw' and 'muon' both set"),
        ("fast", ["clip", "clip"], "full", None, "'clip' is named twice"),
        ("nvidia", None, "full", None, "no strategies to take apart"),
        ("fast", None, "fraction", 6, "runs=6 is not a power of two"),
        ("fast", None, "full", 8, "--kind fraction"),
    ],
)
def test_what_cannot_be_is_refused_before_writing(
    tmp_path: Path, recipe: str, strategies: list[str] | None, kind: Any, runs: int, words: str
) -> None:
    out = tmp_path / "x.yaml"
    with pytest.raises(UserError, match=words):
        write_design(recipe, strategies, kind, runs, out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("strategy: {clipp: {}}", "there is no strategy 'clipp'; did you mean 'clip'"),
        ("defaults: [/strategy/clipp]", "there is no strategy 'clipp'; did you mean 'clip'"),
        ("strategy: {clip: {norm: 1}}", "'clip' has no setting 'norm'"),
    ],
)
def test_a_mistake_in_a_recipe_of_ones_own_is_told(
    recipe: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(conf_dir(), conf)
    (conf / "recipe" / "mine.yaml").write_text(f"# @package _global_\n{recipe}\nrecipe: mine\n")
    for module in ("design", "compose", "app"):
        monkeypatch.setattr(f"wg.sweep.{module}.conf_dir", lambda: conf)
    with pytest.raises(UserError, match=words):
        write_design("mine", None, "full", None, tmp_path / "x.yaml")


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "x.yaml"
    out.write_text("mine")
    with pytest.raises(UserError, match="exists"):
        write_design("fast", None, "full", None, out)
    with pytest.raises(UserError, match="YAML"):
        write_design("fast", None, "full", None, tmp_path / "x.yml")
    assert out.read_text() == "mine"
