"""Markdown of rows: columns of n and of spread, and what is marked."""

from __future__ import annotations

from wg.measure.coverage_tables import joined, pivot, share


def test_columns_are_every_spread_with_every_n() -> None:
    rows = [
        {"sd": 0.35, "n": 3, "arm": "a", "x": 1.5},
        {"sd": 0.15, "n": 5, "arm": "a", "x": 2.5},
        {"sd": 0.15, "n": 5, "arm": "b", "x": 3.5},
    ]
    assert pivot(rows, ("arm",), lambda r: str(r["x"])).splitlines() == [
        "| arm | sd 0.15, n = 5 | sd 0.35, n = 3 |",
        "| --- | --- | --- |",
        "| a | 2.5 | 1.5 |",
        "| b | 3.5 | - |",
    ]


def test_without_a_spread_columns_are_n_alone() -> None:
    table = pivot([{"n": 3, "k": 0.123456}, {"n": 3, "k": None}], ("k",), lambda r: "x")
    assert table == "| k | n = 3 |\n| --- | --- |\n| 0.123 | x |\n| - | x |"


def test_what_lies_outside_is_marked() -> None:
    assert share(0.95) == "95.0%"
    assert share(0.929, "2.00", "") == "92.9% (2.00) *"
    assert share(0.98, wanted=(0.9, 1)) == "98.0%"
    assert share(None) == "-"
    assert joined("a", "b") == "a\n\nb\n"
