"""Fetching a corpus: whole, cut and resumed, changed, damaged, refused; against a server here."""

from __future__ import annotations

import errno
import shutil
import tarfile
from pathlib import Path

import pytest
from audio.archives import Log, archive, names, source
from audio.local_server import serve

from wg.audio.fetch import download, unpack
from wg.audio.fetch import fetch as fetch_module
from wg.audio.fetch.fetch import MARK, fetch
from wg.audio.fetch.sources import SOURCES
from wg.errors import UserError


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BACKOFF", 0.001)
    monkeypatch.setattr(download, "CHUNK", 1000)


def test_the_table() -> None:
    for name, row in SOURCES.items():
        assert row.name == name
        assert len(bytes.fromhex(row.sha256)) == 32
        assert row.url.startswith("http")
        assert row.file in row.url
        assert min(row.size, row.unpacked) > 1e6
    lj = SOURCES["ljspeech"]
    assert (lj.file, lj.folder, lj.size) == ("LJSpeech-1.1.tar.bz2", "LJSpeech-1.1", 2_748_572_632)


def test_whole_and_then_already_there(tmp_path: Path) -> None:
    content, say = archive(), Log()
    with serve(content) as served:
        folder = fetch(source(content), tmp_path / "data", url=served.url, say=say)
        assert folder == tmp_path / "data" / "LJ"
        assert names(folder) == [MARK, "metadata.csv", "wavs"]
        assert (folder / "metadata.csv").read_text() == "a|A|A\n"
        assert names(tmp_path / "data") == ["LJ"]  # no archive, no .part, nothing half made
        fetch(source(content), tmp_path / "data", url=served.url, say=say)
        assert "already there" in say[-1]
        assert served.requests == [None]


def test_a_cut_connection_is_taken_up_again(tmp_path: Path) -> None:
    content, say = archive(), Log()
    with serve(content, cuts=[5000, 3000, None]) as served:
        fetch(source(content), tmp_path, url=served.url, keep=True, say=say)
        assert served.requests == [None, "bytes=5000-", "bytes=8000-"]
    assert (tmp_path / "corpus.tar.bz2").read_bytes() == content
    assert names(tmp_path) == ["LJ", "corpus.tar.bz2"]
    assert "trying again" in say.text


def test_the_next_command_goes_on_where_the_last_one_gave_up(tmp_path: Path) -> None:
    content, say = archive(), Log()
    part = tmp_path / "corpus.tar.bz2.part"
    with serve(content, cuts=[7000] + [0] * 9) as served:
        with pytest.raises(UserError, match=r"cannot be fetched .*keeps 7000 of \d+ bytes"):
            fetch(source(content), tmp_path, url=served.url, say=say)
        assert part.read_bytes() == content[:7000]
        assert len(served.requests) == 1 + download.RETRIES
        served.cuts = []
        fetch(source(content), tmp_path, url=served.url, say=say)
        assert served.requests[-1] == "bytes=7000-"
    assert "going on at" in say.text


@pytest.mark.parametrize("validator", ["etag", "date", "weak", "none"])
def test_resuming_with_every_kind_of_validator(tmp_path: Path, validator: str) -> None:
    how = {
        "etag": {},
        "date": {"etag": None, "modified": "Sat, 01 Jul 2017 00:00:00 GMT"},
        "weak": {"etag": 'W/"x"', "modified": "Sat, 01 Jul 2017 00:00:00 GMT"},
        "none": {"etag": None},
    }[validator]
    content = archive()
    with serve(content, cuts=[5000], **how) as served:
        fetch(source(content), tmp_path, url=served.url, say=Log())
        assert served.requests == [None, "bytes=5000-"]


def test_a_server_without_ranges_starts_again(tmp_path: Path) -> None:
    content, say = archive(), Log()
    with serve(content, ranges=False, cuts=[5000, None]) as served:
        fetch(source(content), tmp_path, url=served.url, say=say)
        assert served.requests == [None, "bytes=5000-"]
    assert "from the start: it cannot resume" in say.text
    assert (tmp_path / "LJ" / "metadata.csv").exists()


def test_a_file_that_changed_in_between_is_not_continued(tmp_path: Path) -> None:
    content, say = archive(), Log()
    other = content[:4000][::-1] + content[4000:]
    with serve(other, etag='"old"', cuts=[5000] + [0] * 9) as served:
        with pytest.raises(UserError, match="keeps 5000"):
            fetch(source(content), tmp_path, url=served.url, say=say)
        served.content, served.etag, served.cuts = content, '"new"', []
        fetch(source(content), tmp_path, url=served.url, say=say)
    assert "from the start: its file has changed" in say.text


@pytest.mark.parametrize("resumed", [False, True])
def test_a_file_of_another_size_is_refused_at_once(tmp_path: Path, resumed: bool) -> None:
    content = archive()
    part = tmp_path / "corpus.tar.bz2.part"
    if resumed:
        part.write_bytes(content[:100])
    with (
        serve(content + b"more") as served,
        pytest.raises(UserError, match=r"has \d+ bytes where \d+ are expected.*--file"),
    ):
        fetch(source(content), tmp_path, url=served.url, say=Log())
    assert not part.exists() or part.stat().st_size == 100
    part.write_bytes(content[:500])
    with serve(content[:400]) as served, pytest.raises(UserError, match="another file"):
        fetch(source(content), tmp_path, url=served.url, say=Log())


def test_a_wrong_checksum_deletes_nothing(tmp_path: Path) -> None:
    content = archive()
    damaged = content[:300] + bytes([content[300] ^ 1]) + content[301:]
    part = tmp_path / "corpus.tar.bz2.part"
    with serve(damaged) as served:
        for _ in range(2):
            with pytest.raises(UserError, match=r"\.part has the SHA-256 .*delete it and fetch"):
                fetch(source(content), tmp_path, url=served.url, say=Log())
            assert part.read_bytes() == damaged
        assert len(served.requests) == 1
        part.unlink()
        served.content = content
        assert fetch(source(content), tmp_path, url=served.url, say=Log()).is_dir()


@pytest.mark.parametrize("status", [404, 403, 410])
def test_no_such_file(tmp_path: Path, status: int) -> None:
    with (
        serve(b"", statuses=[status]) as served,
        pytest.raises(UserError, match=rf"answers {status} .*--url.*--file"),
    ):
        fetch(source(archive()), tmp_path, url=served.url, say=Log())


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    content, say = archive(), Log()
    with serve(content, statuses=[503, 429]) as served:
        fetch(source(content), tmp_path, url=served.url, say=say)
    assert "answers 503" in say.text
    assert (tmp_path / "LJ").is_dir()


def test_no_network(tmp_path: Path) -> None:
    say = Log()
    with pytest.raises(UserError, match=r"no connection, Connection refused.*--file"):
        fetch(source(archive()), tmp_path, say=say)
    assert len([line for line in say if "trying again" in line]) == download.RETRIES_AT_FIRST
    with pytest.raises(UserError, match="no address"):
        fetch(source(archive()), tmp_path, url="corpus.tar.bz2", say=say)


def test_too_little_room_is_told_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        fetch_module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 9)
    )
    with pytest.raises(UserError, match=r"GB free and .* GB are needed.*-o"):
        fetch(source(archive()), tmp_path, say=Log())
    assert names(tmp_path) == []


def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    content = archive()
    monkeypatch.setattr(fetch_module, "unpack_tar", full)
    with serve(content) as served:
        with pytest.raises(UserError, match=r"is full: make room"):
            fetch(source(content), tmp_path, url=served.url, say=Log())
        assert names(tmp_path) == ["corpus.tar.bz2.part"]
        monkeypatch.undo()
        assert fetch(source(content), tmp_path, url=served.url, say=Log()).is_dir()
        assert len(served.requests) == 1


@pytest.mark.parametrize("where", ["download", "extraction"])
def test_interrupted_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    content, say = archive(), Log()

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with serve(content, cuts=[4000] if where == "download" else []) as served:
        if where == "download":
            monkeypatch.setattr(download.time, "sleep", interrupt)
        else:
            monkeypatch.setattr(tarfile.TarFile, "extractfile", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(source(content), tmp_path, url=served.url, say=say)
        assert "is kept, and the same command" in say[-1]
        assert not (tmp_path / "LJ").exists()
        assert not (tmp_path / ".LJ.extracting").exists()
        monkeypatch.undo()
        assert fetch(source(content), tmp_path, url=served.url, say=say).is_dir()
        assert served.requests == ([None, "bytes=4000-"] if where == "download" else [None])


def test_a_copy_that_is_here_already(tmp_path: Path) -> None:
    content = archive()
    copy = tmp_path / "mine.tar.bz2"
    copy.write_bytes(content)
    assert fetch(source(content), tmp_path / "data", file=copy, say=Log()).is_dir()
    assert copy.read_bytes() == content
    copy.write_bytes(content[:-1])
    with pytest.raises(UserError, match=r"mine.*bytes where lj has"):
        fetch(source(content), tmp_path / "other", file=copy, say=Log())
    with pytest.raises(UserError, match=r"--file=.* is not a file"):
        fetch(source(content), tmp_path / "other", file=tmp_path / "none", say=Log())


def test_what_is_not_ours_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "LJ").mkdir()
    (tmp_path / "LJ" / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="was not made by `wg data fetch`"):
        fetch(source(archive()), tmp_path, say=Log())
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        fetch(source(archive()), tmp_path / "file", say=Log())


def test_only_one_at_a_time(tmp_path: Path) -> None:
    with (
        fetch_module._only_one(tmp_path),
        pytest.raises(UserError, match="another `wg data fetch`"),
    ):
        fetch(source(archive()), tmp_path, say=Log())


@pytest.mark.parametrize(
    ("members", "attributes"),
    [
        ({"../outside.txt": b"x"}, {}),
        ({"/tmp/wg-outside.txt": b"x"}, {}),
        ({"LJ/link": b""}, {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ({"LJ/device": b""}, {"type": tarfile.CHRTYPE}),
    ],
)
def test_nothing_is_extracted_outside(
    tmp_path: Path, members: dict[str, bytes], attributes: dict
) -> None:
    copy = tmp_path / "evil.tar.bz2"
    copy.write_bytes(archive(members, **attributes))
    row = source(copy.read_bytes())
    with pytest.raises(UserError, match="cannot be extracted"):
        fetch(row, tmp_path / "data", file=copy, say=Log())
    assert names(tmp_path / "data") == []
    assert names(tmp_path) == ["data", "evil.tar.bz2"]


def test_archives_that_hold_something_else(tmp_path: Path) -> None:
    copy = tmp_path / "a.tar.bz2"
    copy.write_bytes(archive({"other/a.wav": b"x"}))
    with pytest.raises(UserError, match="no folder LJ"):
        fetch(source(copy.read_bytes()), tmp_path / "data", file=copy, say=Log())
    copy.write_bytes(archive()[:9000])
    with pytest.raises(UserError, match="cannot be extracted"):
        unpack.unpack_tar(copy, tmp_path)
