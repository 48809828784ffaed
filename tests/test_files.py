import os
import stat

import pytest

from keras_resnet import files


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


def test_the_temporary_file_keeps_the_suffix(tmp_path):
    with files.replacing(tmp_path / "model.keras") as temporary:
        assert temporary.suffix == ".keras"
        assert temporary.parent == tmp_path


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
