"""Batches that go wrong on purpose, and stand-ins for NVIDIA's apex."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from apex_releases import RELEASES

from wg.train.data import SegmentStream

Poison = Callable[[Callable[[int], bool]], AbstractContextManager[None]]


@pytest.fixture
def poison() -> Poison:
    """``with poison(lambda step: step >= 3):`` the last segment of such steps holds a sample that
    is no number, as no file of 16 bits can."""

    @contextmanager
    def poisoned(bad: Callable[[int], bool]) -> Iterator[None]:
        batch = SegmentStream.batch

        def spoilt(self: SegmentStream, step: int, *args: Any) -> Any:
            mel, audio = batch(self, step, *args)
            if bad(step):
                audio = audio.clone()
                audio[-1, 17] = torch.nan
            return mel, audio

        with pytest.MonkeyPatch.context() as m:
            m.setattr(SegmentStream, "batch", spoilt)
            yield

    return poisoned


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """``install("25.07")`` puts such a release first on the import path."""

    def put(release: str) -> None:
        if release == "none" and importlib.util.find_spec("apex") is not None:
            pytest.skip("an apex is installed here")
        for folder, text in RELEASES[release].items():
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / "__init__.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()

    yield put
    for name in [n for n in sys.modules if n.split(".")[0] in ("apex", "amp_C")]:
        del sys.modules[name]
