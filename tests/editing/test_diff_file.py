"""Edit objects on disk: what is written is whole, what is read is what was written."""

import errno
import hashlib
import os
import pathlib
import random

import pytest
from torture import FACTOR

from kndb.editing.objects.diff_file import encode, object_path, read, write
from kndb.errors import DiffFileError, StoreError


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "kndb.objects"


@pytest.fixture
def written(make_edit, folder):
    object_hash, path = write(make_edit(), folder)
    return folder / path, path, object_hash


def check_refused(folder, path, object_hash, *words):
    with pytest.raises(DiffFileError) as caught:
        read(folder, path, object_hash)
    for part in (path, "it has", "expected", "db.maintenance.check()", *words):
        assert part in str(caught.value)


def test_written_file_is_named_by_its_hash_and_read_back(make_edit, folder):
    edit = make_edit()
    object_hash, path = write(edit, folder)
    content = (folder / path).read_bytes()
    assert object_hash == hashlib.sha256(content).hexdigest()
    assert path == object_path(object_hash) == f"{object_hash[:2]}/{object_hash}.safetensors"
    assert encode(read(folder, path, object_hash)) == content == encode(edit)
    assert files(folder) == [path]


def test_a_written_file_can_be_read_by_whom_the_umask_allows(make_edit, folder):
    before = os.umask(0o027)
    try:
        _, path = write(make_edit(), folder)
    finally:
        os.umask(before)
    assert (folder / path).stat().st_mode & 0o777 == 0o640


def test_writing_again_leaves_a_sound_file_alone(make_edit, written, folder):
    target, path, object_hash = written
    before = target.stat()
    assert write(make_edit(), folder) == (object_hash, path)
    assert (target.stat().st_ino, target.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_writing_again_mends_a_damaged_file(make_edit, written, folder):
    target, path, object_hash = written
    target.write_bytes(target.read_bytes()[:-1] + b"\xff")
    assert write(make_edit(), folder) == (object_hash, path)
    assert encode(read(folder, path, object_hash)) == encode(make_edit())


@pytest.mark.fault("a link, or a path out of the folder of objects")
def test_writing_replaces_a_link_in_the_files_place(make_edit, written, folder, tmp_path):
    target, path, object_hash = written
    elsewhere = tmp_path / "elsewhere"
    target.rename(elsewhere)
    target.symlink_to(elsewhere)
    write(make_edit(), folder)
    assert not target.is_symlink()
    read(folder, path, object_hash)


@pytest.mark.fault("a link, or a path out of the folder of objects")
@pytest.mark.parametrize("below", [True, False])
def test_writing_goes_through_no_linked_folder(make_edit, folder, tmp_path, below):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = object_path(hashlib.sha256(encode(make_edit())).hexdigest())
    if below:
        folder.mkdir()
        (folder / path).parent.symlink_to(elsewhere)
    else:
        folder.write_text("a file, not a folder")
    with pytest.raises(StoreError, match=r"not a folder|Not a directory"):
        write(make_edit(), folder)
    assert list(elsewhere.iterdir()) == []


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.fault
@pytest.mark.parametrize("seed", range(11, 11 + FACTOR))
def test_a_flipped_byte_is_always_found(written, folder, count_points, seed):
    target, path, object_hash = written
    content = target.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    generator = random.Random(seed)
    places = [*range(header), *generator.choices(range(header, len(content)), k=200)]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << generator.randrange(8)
        target.write_bytes(damaged)
        check_refused(folder, path, object_hash)
    target.write_bytes(content)
    read(folder, path, object_hash)
    count_points("a flipped bit: header of an edit object", header)
    count_points("a flipped bit: payload of an edit object", len(places) - header)


@pytest.mark.fault
def test_a_cut_file_is_always_found(written, folder, count_points):
    target, path, object_hash = written
    content = target.read_bytes()
    count_points("an edit object cut off", len(content))
    for length in range(len(content)):
        target.write_bytes(content[:length])
        check_refused(folder, path, object_hash)
    target.write_bytes(content + b"\0")
    check_refused(folder, path, object_hash, "sha256")


@pytest.mark.fault("a bad edit object")
def test_a_huge_header_is_not_read(written, folder, monkeypatch):
    target, path, object_hash = written
    with target.open("r+b") as file:
        file.write((100 * 2**20).to_bytes(8, "little"))
        file.truncate(200 * 2**20)  # sparse: it takes no space
    monkeypatch.setattr("kndb.editing.objects.object_bytes.hashlib", None)
    check_refused(folder, path, object_hash, "a header of 104857600 bytes", "at most 16777216")


@pytest.mark.fault("a bad edit object")
def test_flaws_are_found_behind_a_right_hash(written, folder):
    content = written[0].read_bytes() + b"\0"
    object_hash = hashlib.sha256(content).hexdigest()
    path = object_path(object_hash)
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_bytes(content)
    check_refused(folder, path, object_hash, "safetensors refuses")


# --- places ---------------------------------------------------------------------------------------


@pytest.mark.fault("a missing edit object")
def test_a_missing_file_or_folder_is_refused(written, folder, tmp_path):
    target, path, object_hash = written
    target.unlink()
    check_refused(folder, path, object_hash, "No such file")
    check_refused(tmp_path / "none", path, object_hash, "No such file")


@pytest.mark.fault("a link, or a path out of the folder of objects")
@pytest.mark.parametrize("path", ["../elsewhere", "ab/../../elsewhere", "/etc/hosts", "", "a//b", "./a", "a\\b"])
def test_a_path_that_may_leave_the_folder_is_refused(written, folder, path):
    (folder.parent / "elsewhere").write_bytes(written[0].read_bytes())
    check_refused(folder, path, written[2], "stays inside the folder")


@pytest.mark.fault("a link, or a path out of the folder of objects")
@pytest.mark.parametrize("path", ["a\0b", "\ud800", "x" * 5000])
def test_a_path_that_no_file_can_have_is_refused(written, folder, path):
    with pytest.raises(DiffFileError, match="it has"):
        read(folder, path, written[2])


@pytest.mark.fault("a link, or a path out of the folder of objects")
def test_links_below_the_folder_are_not_followed(written, folder, tmp_path):
    target, path, object_hash = written
    elsewhere = tmp_path / "elsewhere"
    target.rename(elsewhere)
    target.symlink_to(elsewhere)
    check_refused(folder, path, object_hash, "no symbolic link")
    target.unlink()
    elsewhere.rename(target)
    target.parent.rename(elsewhere)
    (folder / path).parent.symlink_to(elsewhere)
    check_refused(folder, path, object_hash, "no symbolic link")


@pytest.mark.fault("a link, or a path out of the folder of objects")
def test_only_regular_files_are_read(written, folder):
    target, path, object_hash = written
    target.unlink()
    os.mkfifo(target)
    check_refused(folder, path, object_hash, "no regular file")
    target.unlink()
    target.mkdir()
    check_refused(folder, path, object_hash, "regular file")


# --- a disk that fails ----------------------------------------------------------------------------


class FailingDisk:
    """Makes the n-th of the calls that change the disk fail, and writes only a few bytes at a time."""

    def __init__(self, monkeypatch, fail_at, number=errno.ENOSPC):
        self.calls = 0
        for name in ("mkdir", "open", "write", "fsync", "replace"):
            monkeypatch.setattr(os, name, self.shim(name, getattr(os, name), fail_at, number))

    def shim(self, name, real, fail_at, number):
        def call(*arguments, **options):
            self.calls += 1
            if self.calls == fail_at:
                raise OSError(number, os.strerror(number))
            if name == "write":
                descriptor, data = arguments
                return real(descriptor, data[:300])
            return real(*arguments, **options)

        return call


@pytest.mark.fault
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_no_fault_leaves_a_partial_file(make_edit, tmp_path, count_points, number):
    expected = encode(make_edit())
    fail_at, done = 0, False
    while not done:
        fail_at += 1
        folder = tmp_path / f"{fail_at}" / "kndb.objects"
        folder.parent.mkdir()
        with pytest.MonkeyPatch.context() as monkeypatch:
            disk = FailingDisk(monkeypatch, fail_at, number)
            try:
                write(make_edit(), folder)
                done = True
            except StoreError as error:
                assert "can't be written" in str(error)  # noqa: PT017 - the last round raises nothing
        assert not done or disk.calls < fail_at
        left = files(folder)
        assert [name for name in left if name.endswith(".tmp")] == []
        assert [(folder / name).read_bytes() for name in left] == [expected] * len(left)
        object_hash, path = write(make_edit(), folder)
        assert files(folder) == [path]
        assert encode(read(folder, path, object_hash)) == expected
    assert fail_at > 12
    count_points("a failing call: writing an edit object", fail_at - 1)


def test_a_temporary_file_that_stays_is_an_orphan(make_edit, folder, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        patch.setattr(pathlib.Path, "unlink", fail)
        with pytest.raises(StoreError, match=os.strerror(errno.EIO)):
            write(make_edit(), folder)
    assert [name[-4:] for name in files(folder)] == [".tmp"]
    _, path = write(make_edit(), folder)
    assert len(files(folder)) == 2
    assert path in files(folder)


def test_an_interrupt_removes_the_temporary_file(make_edit, folder, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write(make_edit(), folder)
    assert files(folder) == []


def test_a_folder_whose_parent_is_missing_is_not_made(make_edit, tmp_path):
    with pytest.raises(StoreError, match="No such file"):
        write(make_edit(), tmp_path / "none" / "kndb.objects")
    assert list(tmp_path.iterdir()) == []
