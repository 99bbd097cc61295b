"""Files and folders that appear as a whole or not at all."""

from __future__ import annotations

import pytest

from rimsim.files import draft_file, draft_folder, remove_drafts


def contents(folder):
    """Relative path → text of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


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


@pytest.mark.parametrize(
    ("existing", "left"), [("replace", {"new": "2"}), ("keep", {"old": "1"}), ("refuse", {"old": "1"})]
)
def test_a_folder_that_is_there_already(tmp_path, existing, left):
    """It is replaced as a whole, or kept, or the draft is refused; no draft stays."""
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "old").write_text("1")

    def write():
        with draft_folder(tmp_path / "place", existing=existing) as draft:
            (draft / "new").write_text("2")

    if existing == "refuse":
        with pytest.raises(OSError, match="place"):
            write()
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
