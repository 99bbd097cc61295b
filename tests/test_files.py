"""Files and folders that appear as a whole or not at all."""

from pathlib import Path

import pytest
from kit import cases, refused

from rimsim.system import draft_content, draft_file, draft_folder, remove_drafts


def contents(folder):
    """Relative path → text of every file below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_a_file_appears_when_the_block_ends(tmp_path):
    """Until then the old content stands; afterwards the new one and no draft; folders above are made."""
    path = tmp_path / "a" / "b.txt"
    for content in ("old", "new"):
        before = contents(tmp_path)
        with draft_file(path) as draft:
            draft.write_text(content)
            assert draft.suffix == ".txt"
            assert contents(tmp_path) == {**before, f"a/{draft.name}": content}
        assert contents(tmp_path) == {"a/b.txt": content}


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_what_fails_leaves_everything_as_it_was(tmp_path, error):
    """An error or an interruption inside the block leaves the old file and the old folder, and no draft."""
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "part").write_text("old")
    before = contents(tmp_path)

    def half(writer, name):
        with writer as draft:
            (draft / name).write_text("half")
            raise error

    with pytest.raises(type(error)):
        half(draft_file(tmp_path / "file"), "")
    with pytest.raises(type(error)):
        half(draft_folder(tmp_path / "folder"), "part")
    assert contents(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@cases("existing left", ("replace", {"new": "2"}), ("keep", {"old": "1"}), ("refuse", {"old": "1"}))
def test_a_folder_that_is_there_already(tmp_path, existing, left):
    """It is replaced as a whole, or kept, or the draft is refused; no draft stays."""
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "old").write_text("1")

    def write():
        with draft_folder(tmp_path / "place", existing=existing) as draft:
            (draft / "new").write_text("2")

    if existing == "refuse":
        refused(OSError, "place", write)
    else:
        write()
    assert contents(tmp_path / "place") == left
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_drafts_of_a_killed_process_are_removed(tmp_path):
    """Files and folders that were being written go, also in folders below; everything else stays."""
    writers = [draft_file(tmp_path / "one.txt"), draft_folder(tmp_path / "below" / "two")]
    for number, writer in enumerate(writers):  # entered and never left, as when the process dies
        draft = writer.__enter__()
        (draft / "part" if number else draft).write_text("half")
    (tmp_path / "below" / "kept").write_text("whole")
    remove_drafts(tmp_path)
    assert contents(tmp_path) == {"below/kept": "whole"}
    assert [path.name for path in (tmp_path / "below").iterdir()] == ["kept"]


def test_content_comes_into_a_folder_as_a_whole(tmp_path, monkeypatch):
    """The named file is moved last, what had the same name is replaced, the rest stays; an error leaves nothing."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "old.png").write_text("")
    (tmp_path / "stays").write_text("")

    def write(error=None):
        with draft_content(tmp_path, "config") as draft:
            for name in ("config", "table"):
                (draft / name).write_text(name)
            (draft / "pictures").mkdir()
            (draft / "pictures" / "new.png").write_text("")
            assert not (tmp_path / "table").exists()
            if error is not None:
                raise error

    with pytest.raises(KeyboardInterrupt):
        write(KeyboardInterrupt())
    assert {path.name for path in tmp_path.iterdir()} == {"pictures", "stays"}
    moved, plainly = [], Path.replace

    def replace(path, target):
        moved.append(path.name)
        return plainly(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    write()
    assert moved == ["pictures", "table", "config"]
    assert {path.name for path in tmp_path.iterdir()} == {"pictures", "stays", "config", "table"}
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["new.png"]
    assert (tmp_path / "config").read_text() == "config"
