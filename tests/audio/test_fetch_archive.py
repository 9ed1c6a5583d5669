"""Which archives ``wg data fetch`` removes: what it downloaded itself, and nothing else."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from audio.archives import Log, archive, names, source
from audio.local_server import serve

from wg.audio.fetch.fetch import fetch
from wg.errors import UserError


@pytest.mark.parametrize("keep", [False, True])
def test_an_archive_that_was_there_before_stays(tmp_path: Path, keep: bool) -> None:
    content, say = archive(), Log()
    mine = tmp_path / "corpus.tar.bz2"
    mine.write_bytes(content)
    assert fetch(source(content), tmp_path, keep=keep, say=say).is_dir()
    assert mine.read_bytes() == content
    assert keep or "which was there before" in say[-1]


def test_the_own_part_is_removed_also_after_an_interrupted_extraction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = archive()

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with serve(content) as served:
        monkeypatch.setattr(tarfile.TarFile, "extractfile", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(source(content), tmp_path, url=served.url, say=Log())
        monkeypatch.undo()
        fetch(source(content), tmp_path, url=served.url, say=Log())
        assert served.requests == [None]
    assert names(tmp_path) == ["LJ"]


def test_a_given_archive_stays_whatever_its_name(tmp_path: Path) -> None:
    content = archive()
    given = tmp_path / "corpus.tar.bz2.part"
    given.write_bytes(content)
    assert fetch(source(content), tmp_path, file=given, say=Log()).is_dir()
    assert given.read_bytes() == content
    with pytest.raises(UserError, match="File name too long"):
        fetch(source(content), tmp_path / "other", file=tmp_path / ("x" * 300), say=Log())
