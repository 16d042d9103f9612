"""Files are written beside and renamed, and never over what is needed."""

import os

import pytest

from costmodels.errors import InputError
from costmodels.files import cache_folder, check_can_be_written, write_atomically


def test_what_a_link_points_to_is_replaced(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_pipes_and_files_of_the_input_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="must be a regular file or a new one"):
        check_can_be_written(tmp_path / "pipe")
    (tmp_path / "mine").write_bytes(b"mine")
    for needed in (tmp_path / "mine", tmp_path):
        with pytest.raises(InputError, match="got one of the input: give another path"):
            check_can_be_written(tmp_path / "mine", needed=[needed])
    check_can_be_written(tmp_path / "new", needed=[tmp_path, tmp_path / "missing"])


def test_a_user_without_a_home_has_a_cache(monkeypatch):
    def refuse():
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", refuse)
    assert cache_folder("networks").parts[-2:] == ("costmodels", "networks")
