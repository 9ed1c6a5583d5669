"""Tables of runs and strategies: names are shown as they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from wg.cli import cli
from wg.errors import UserError
from wg.plan import SLOTS, Base, Plan, StrategyConflict
from wg.strategies import Strategy, all_strategies, make_plan
from wg.sweep.listing import show_card, show_runs, show_strategies
from wg.sweep.pairs import all_pairs, column_keys, reasons, show_pairs, triangle


def test_names_of_runs_are_not_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("c [bold] :smile:", os.fsdecode(b"d\xff")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    show_runs(tmp_path)
    said = capsys.readouterr().out
    for name in ("c [bold] :smile:", "d\\xff"):
        assert name in said


def test_a_folder_without_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no runs"):
        show_runs(tmp_path)


def test_the_table_shows_every_strategy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")  # so that no cell is folded
    show_strategies()
    said = capsys.readouterr().out
    lines = {line.split()[0]: line for line in said.splitlines() if line.strip()}
    for name, s in all_strategies().items():
        for part in (s.kind, ", ".join(s.sets()), ", ".join(s.refuses)):
            assert part in lines[name]
    assert "wg strategies --pairs" in said
    show_card("ddp")
    assert "Source:" in capsys.readouterr().out


def test_the_matrix_of_pairs_is_what_recipes_meet() -> None:
    """Said to compose: a recipe of the two is accepted. Said to conflict: it is refused, for the
    reason that is told."""
    known = all_strategies()
    pairs = all_pairs(known)
    assert len(pairs) == len(known) * (len(known) - 1) // 2
    for p in pairs:
        assert p.a < p.b
        for both in ((p.a, p.b), (p.b, p.a)):
            try:
                make_plan(Base(), dict.fromkeys(both))
                met = ""
            except StrategyConflict as conflict:
                met = str(conflict)
            assert bool(met) == (p.how != "composes"), (p, met)
            if p.how == "slot":
                assert any(f"both set {slot} (" in met for slot in p.slots)
            if p.how == "refusal":
                assert p.why.partition(": ")[2] in met
    assert {p.how for p in pairs} >= {"composes", "slot"}


def made(name: str, *slots: str, refuses: dict[str, str] | None = None) -> Strategy:
    def apply(plan: Plan) -> None:
        for slot in slots:
            setattr(plan, slot, None)

    return Strategy(name, "system", apply, refuses or {})


KNOWN = {
    s.name: s
    for s in (
        made("adam", "optimizer"),
        made("bits", "precision", refuses={"wide": "one is enough"}),
        made("cool", "optimizer", "lr_schedule"),
        made("dip", "lr_schedule"),
        made("wide", "shape"),
    )
}


def test_the_triangle_and_its_reasons() -> None:
    pairs = all_pairs(KNOWN)
    assert triangle(list(KNOWN), pairs, 80) == [
        "        a b c d",
        "a  adam",
        "b  bits .",
        "c  cool x .",
        "d  dip  . . x",
        "e  wide . ! . .",
    ]
    assert triangle(list(KNOWN), pairs, 12)[-1] == "e  wide .!.."
    assert reasons(pairs) == [
        ". compose in any order   x set the same slot   ! one refuses the other   (7 of 10 pairs "
        "compose, as they are by default; what other settings refuse stands on their cards)",
        f"x optimizer ({SLOTS['optimizer']}), one of: adam, cool",
        f"x lr_schedule ({SLOTS['lr_schedule']}), one of: cool, dip",
        "! bits refuses wide: one is enough",
    ]


def test_a_hundred_strategies_keep_different_columns() -> None:
    for n in (0, 1, 52, 53, 100):
        keys = column_keys(n)
        assert len(set(keys)) == len(keys) == n
    many = {
        f"s{k:02d}": made(f"s{k:02d}", *(["shape"] if k in (3, 97) else [])) for k in range(100)
    }
    lines = triangle(list(many), all_pairs(many), 80)
    assert len(lines) == 2 + 100  # the keys' two letters below each other
    assert len({line[:2] for line in lines[2:]}) == 100
    assert sum(line.count("x") for line in (line[8:] for line in lines[2:])) == 1
    assert lines[2 + 97][8 + 3] == "x"
    assert "".join(head[8 + 3] for head in lines[:2]) == lines[2 + 3][:2]


def test_the_pairs_on_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    show_pairs()
    said = capsys.readouterr().out
    for name in all_strategies():
        assert f"  {name}" in said
    assert "pairs compose, as they are by default" in " ".join(said.split())
    assert "! apex refuses fused_optimizer" in said
    both = CliRunner().invoke(cli, ["strategies"]).output
    assert "Two strategies that set the same slot conflict" in both
    assert "pairs compose, as they are by default" in " ".join(both.split())
    assert "! apex refuses" not in both  # the words are --pairs'
    asked = CliRunner().invoke(cli, ["strategies", "bf16", "--pairs"])
    assert isinstance(asked.exception, UserError)
