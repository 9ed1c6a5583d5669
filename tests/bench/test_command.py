"""``wg bench step`` from the outside: the table, the files, interrupts, refusals."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from wg.bench import run
from wg.bench.measure import compare
from wg.bench.out import check_target, write
from wg.bench.show import markdown, ordered
from wg.bench.variants import Sizes, combination, plain
from wg.errors import UserError

TINY = Sizes("tiny", 2, 2048, 1, "cpu")
ROOT = Path(__file__).resolve().parents[2]


def test_the_command(wg: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    sizes = ("--model", "tiny", "--segment", "2048", "--repeats", "2", "--device", "cpu")
    asked = ("--only", "--strategy", "ddp")
    done = wg("bench", "step", *sizes, *asked, "-o", "b/step.json")
    assert done.returncode == 0, done.stderr
    assert "written: b/step.json and b/step.md" in done.stdout
    found = json.loads((tmp_path / "b" / "step.json").read_text())
    assert found["complete"]
    assert found["command"].startswith("wg bench step --model tiny")
    assert (found["machine"]["threads"], found["machine"]["torch"]) == (1, torch.__version__)
    assert found["date"].endswith("+00:00")
    rows = {r["name"]: r for r in found["rows"]}
    assert [r["verdict"] for r in found["rows"]] == ["same", "refused"]
    assert "2 processes share a step" in rows["ddp"]["note"]
    assert rows["plain"]["agreement"]["gradients"] == 0.0
    assert rows["plain"]["peak_bytes"] > 1e6
    assert 0 < rows["plain"]["gemm_share"] < 1
    page = (tmp_path / "b" / "step.md").read_text()
    assert page.count("\n| ") == 3
    assert "| ddp | system | - |" in page
    again = wg("bench", "step", "--only", "-o", "b/step.json")
    assert again.returncode == 2
    assert "--only leaves nothing" in again.stderr
    alone = wg("bench", "step", "--against", "peer", "-o", "b/step.json")
    assert alone.returncode == 2
    assert "--against peer needs one: add --peer DIR" in alone.stderr
    assert json.loads((tmp_path / "b" / "step.json").read_text()) == found


def test_an_interrupt_keeps_what_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    variants = [plain(TINY), combination(TINY, "bf16"), combination(TINY, "tf32")]
    timed = compare(variants[0], variants[0], 1, lambda done: None)
    done: list[str] = []

    def one(task: dict[str, Any], bar: Any) -> dict[str, Any]:
        if task["variant"]["name"] == "tf32":
            raise KeyboardInterrupt
        done.append(task["what"])
        return timed if task["what"] == "compare" else {"peak_bytes": 1, "of": "tests"}

    monkeypatch.setattr(run, "_in_a_process", one)
    kept: list[list[str]] = []
    findings, complete = run.bench_step(
        variants, 1, "wg bench step", lambda text: None,
        lambda found: kept.append([r["name"] for r in found["rows"]]),
    )  # fmt: skip
    assert not complete
    assert kept == [["plain"], ["plain", "bf16"]]
    assert done == ["compare", "memory"] * 2
    assert [r["name"] for r in findings["rows"]] == ["plain", "bf16"]
    assert "INTERRUPTED" in markdown(findings)
    write(tmp_path / "x.json", findings)
    check_target(tmp_path / "x.json")  # its own file may be replaced


def test_an_interrupt_ends_the_child() -> None:
    """Ctrl-C while a child measures: nothing of it is left."""
    code = (
        "import os, signal, sys, threading, subprocess\n"
        # Started in the background by a shell without job control, it would ignore Ctrl-C.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from wg.bench import run\n"
        "from wg.bench.variants import Sizes, plain\n"
        "children = []\n"
        "class Popen(subprocess.Popen):\n"
        "    def __init__(self, command, *a, **k):\n"
        "        if 'wg.bench.measure' not in command:\n"
        "            super().__init__(command, *a, **k); return\n"
        # One that never ends by itself, however busy the machine is.
        "        endless = [sys.executable, '-c', 'import time; time.sleep(100)']\n"
        "        super().__init__(endless, *a, **k); children.append(self)\n"
        "        threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "run.subprocess.Popen = Popen\n"
        "tiny = plain(Sizes('tiny', 1, 2048, 1, 'cpu'))\n"
        "found, complete = run.bench_step([tiny], 9, 'c', print)\n"
        "assert not complete and found['rows'] == []\n"
        "assert children[0].poll() is not None\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "interrupted: what was measured so far is kept" in done.stdout


def test_files_of_others_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"format": "another"}')
    with pytest.raises(UserError, match="was not written by `wg bench step`"):
        check_target(tmp_path / "a.json")
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.md exists and would be replaced"):
        check_target(tmp_path / "notes.json")
    with pytest.raises(UserError, match=r"must end in \.json"):
        check_target(tmp_path / "step.txt")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written below"):
        check_target(tmp_path / "file" / "step.json")
    check_target(tmp_path / "new" / "deeper" / "step.json")
    (tmp_path / "earlier.json").write_text('{"format": "wg-bench-step/1"}')
    check_target(tmp_path / "earlier.json")


def test_the_order_of_rows() -> None:
    def made(name: str, verdict: str, median: float | None) -> dict[str, Any]:
        return {"name": name, "verdict": verdict, "ratio": median and {"median": median}}

    rows = [
        made("plain", "same", 1.0),
        made("slow", "same", 0.9),
        made("none", "refused", None),
        made("lie", "WRONG", 9.0),
        made("other", "other", 3.0),
        made("fast", "same", 1.5),
    ]
    names = [r["name"] for r in ordered({"rows": rows})]
    assert names == ["plain", "fast", "slow", "other", "lie", "none"]
    assert ordered({"rows": []}) == []


def test_bench_is_a_group_that_names_its_benches() -> None:
    group = importlib.import_module("wg.cli_bench").bench
    assert list(group.commands) == ["step", "arms"]
