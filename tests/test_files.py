import concurrent.futures
import errno
import os
import pathlib
import re
import stat
import subprocess
import sys
import tempfile

import pytest

from keras_resnet import files, locks, training
from keras_resnet.errors import NoRoom


def test_a_file_appears_whole_and_alone(tmp_path):
    files.write_text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path):
    files.write_text(tmp_path / "a.txt", "earlier")

    def half(path):
        path.write_text("ha")
        raise RuntimeError("the writer failed")

    with pytest.raises(RuntimeError, match="the writer failed"):
        files.write_atomically(tmp_path / "a.txt", half)
    assert (tmp_path / "a.txt").read_text() == "earlier"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("ha")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("text", ["cat.png", "-2", "+1.5", "1e3", ""])
def test_names_and_numbers_stay_as_they_are_in_a_table(text):
    assert files.plain_cell(text) == text


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "-cmd", "+a", "\t=1", "=HYPERLINK(0)"])
def test_what_a_program_for_tables_would_compute_is_a_text_there(text):
    assert files.plain_cell(text) == "'" + text


def test_the_temporary_file_keeps_the_suffix(tmp_path):
    with files.replacing(tmp_path / "model.keras") as temporary:
        assert temporary.suffix == ".keras"
        assert temporary.parent == tmp_path


@pytest.mark.parametrize("system_says_it", [True, False])
def test_threads_that_write_at_once_leave_the_mask_of_the_process(monkeypatch, system_says_it):
    if not system_says_it:
        monkeypatch.setattr(files, "open", lambda *_, **__: next(iter(())), raising=False)
    previous, interval = os.umask(0o027), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            masks = set(pool.map(lambda _: files.umask(), range(4000)))
        assert masks == {0o027} and os.umask(0o027) == 0o027
    finally:
        sys.setswitchinterval(interval)
        os.umask(previous)


def test_the_file_gets_ordinary_permissions(tmp_path):
    previous = os.umask(0o027)
    try:
        files.write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_a_missing_folder_is_made_and_a_file_in_its_place_is_an_error(tmp_path):
    files.write_text(tmp_path / "none" / "at all" / "a.txt", "x")
    assert (tmp_path / "none" / "at all" / "a.txt").read_text() == "x"
    files.check_parent(tmp_path / "new" / "b.txt")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="lies below .*a.txt', which is a file"):
        files.check_parent(tmp_path / "none" / "at all" / "a.txt" / "b.txt")


FULL = """
import resource, sys
from keras_resnet import files
from keras_resnet.errors import NoRoom
path = sys.argv[1]
files.write_text(path, "earlier")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    files.write_text(path, "x" * 1_000_000)
except NoRoom as error:
    print(error)
"""


@pytest.mark.slow
def test_no_room_says_what_was_written_and_what_is_free_and_keeps_the_earlier_file(tmp_path):
    path = tmp_path / "a.txt"
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True)
    assert re.search(r"a.txt' could not be written: .* after 0.1 MiB. [\d.]+ MiB are free", done.stdout), done.stderr
    assert path.read_text() == "earlier" and os.listdir(tmp_path) == ["a.txt"]


LOCKED = """
import os, sys
from keras_resnet import locks
os.setgid(65534)
os.setuid(65534)
try:
    locks.acquire(sys.argv[1], timeout=1)
except locks.NoLock as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_folder_that_may_not_be_written_is_named_by_its_lock():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        done = subprocess.run(
            [sys.executable, "-c", LOCKED, f"{folder}/.lock"], capture_output=True, text=True, cwd="/"
        )
    assert ".lock' could not be locked: Permission denied. A folder is needed" in done.stdout, done.stderr


def test_a_disk_that_answers_with_an_error_is_named_by_its_lock(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("fcntl.flock", fail)
    with pytest.raises(locks.NoLock, match="could not be locked: Input/output error"):
        locks.acquire(tmp_path / ".lock", timeout=0)


def test_what_a_library_says_of_a_full_disk_is_understood(tmp_path):
    def write(path):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(NoRoom, match="Make room, and go on"):
        files.write_atomically(tmp_path / "a.txt", write)
    assert os.listdir(tmp_path) == []


KILLED = """
import os, sys, time
from keras_resnet import locks
with locks.temporary_folder(sys.argv[1]) as folder:
    (folder / "half").write_text("x")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_what_a_killed_process_left_is_removed_and_what_is_in_use_is_not(tmp_path):
    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "model")], stdout=subprocess.PIPE, text=True
        )
        return process, pathlib.Path(process.stdout.readline().strip())

    killed, left = start()
    killed.kill()
    killed.communicate()
    alive, used = start()
    with locks.temporary_folder(tmp_path / "model") as folder:
        assert not left.exists() and (used / "half").exists() and folder.is_dir()
    assert not folder.exists() and used.exists()
    alive.kill()
    alive.communicate()
    (tmp_path / ".note.txt.abcd1234.txt").write_text("half")
    (tmp_path / ".other.txt.abcd1234.txt").write_text("of the user's")
    files.remove_unfinished(tmp_path, ("note.txt",))
    assert not (tmp_path / ".note.txt.abcd1234.txt").exists() and (tmp_path / ".other.txt.abcd1234.txt").exists()


def test_a_file_that_quotes_a_mark_is_the_users(tmp_path):
    for name, text in {
        "a.html": f"<!DOCTYPE html>\n<html><head></head><body><pre>{files.HTML_MARK}</pre></body></html>",
        "b.html": f"<!-- {files.HTML_MARK} -->",
        "c.md": f"The page begins with {files.HTML_MARK}, the recipe with {files.TOML_MARK}.",
        "d.svg": f"notes on {files.SVG_MARK}",
        "e.csv": f"x,{','.join(files.LR_CSV_HEADER)}",
    }.items():
        (tmp_path / name).write_text(text)
        assert not files.is_replaceable(tmp_path / name), name
        with pytest.raises(ValueError, match="keras_resnet did not write it, or it was edited since"):
            files.check_replaceable(tmp_path / name)


def test_a_recipe_that_was_edited_is_the_users(tmp_path):
    recipe = training.Recipe.load("quick")
    recipe.save(tmp_path / "a.toml")
    recipe.save(tmp_path / "a.toml")
    text = (tmp_path / "a.toml").read_text()
    (tmp_path / "a.toml").write_text(text.replace("batch_size = 32", "batch_size = 16  # mine"))
    assert (tmp_path / "a.toml").read_text() != text
    with pytest.raises(ValueError, match="edited since"):
        recipe.save(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_text(text.replace(text.splitlines()[0], files.TOML_MARK))  # as earlier versions wrote
    recipe.save(tmp_path / "b.toml")
