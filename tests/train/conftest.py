"""Batches that go wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch

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
