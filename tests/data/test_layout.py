from pathlib import Path

from sbirlib.data.layout import from_folders, from_manifest


def test_folders_and_manifest_of_real_shoes_agree(data_folder: Path) -> None:
    """The file names pair every sketch with the photo that the manifest says."""

    def groups(found: list[tuple[str, int, str, str]]) -> set[frozenset[str]]:
        instances: dict[str, set[str]] = {}
        for path, _, _, instance in found:
            instances.setdefault(instance, set()).add(path)
        return {frozenset(paths) for paths in instances.values()}

    by_name = groups([tuple(e) for e in from_folders(data_folder / "shoe304")])
    assert len(by_name) == 304
    assert by_name == groups([tuple(e) for e in from_manifest(data_folder / "shoe304")])
