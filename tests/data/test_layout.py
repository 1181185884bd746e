"""Layouts of real data: file names and manifest agree on the pairs."""

from pathlib import Path

from sbirlib.data.layout import Entry, from_folders, from_manifest


def test_folders_and_manifest_of_real_shoes_agree(data_folder: Path) -> None:
    """The file names pair every sketch with the photo that the manifest says."""

    def groups(entries: list[Entry]) -> set[frozenset[str]]:
        instances: dict[str, set[str]] = {}
        for entry in entries:
            instances.setdefault(entry.instance, set()).add(entry.path)
        return {frozenset(paths) for paths in instances.values()}

    by_name = groups(from_folders(data_folder / "shoe304"))
    assert len(by_name) == 304
    assert by_name == groups(from_manifest(data_folder / "shoe304"))
