"""A report that was changed by hand names no winner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wg.errors import UserError
from wg.export.find import find_model
from wg.files import write_json


@pytest.mark.parametrize(
    "results", [{"winner": {"run": 5}}, {"winner": {"run": ["a"]}}, {"winner": {}}, {}, []]
)
def test_a_winner_that_is_no_path(tmp_path: Path, results: Any) -> None:
    write_json(tmp_path / "results.json", results)
    with pytest.raises(UserError, match="names no winner"):
        find_model(tmp_path)
