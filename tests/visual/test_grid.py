"""The grid's geometry and colours, and writing it."""

import os
from pathlib import Path

import pytest
from PIL import Image, ImageColor

from sbirlib.errors import InputError
from sbirlib.visual.columns import columns
from sbirlib.visual.grid import RIGHT, WRONG, retrieval_grid
from sbirlib.visual.layout import FRAME, GAP, LABEL, LINE, MARGIN, STEP, Cell, layout, save_picture


def colours(image: Image.Image) -> set[tuple[int, ...]]:
    counts = image.getcolors(1 << 20)
    assert counts is not None
    return {colour for _, colour in counts if isinstance(colour, tuple)}


def photo(colour: str = "blue", size: tuple[int, int] = (30, 20)) -> Image.Image:
    return Image.new("RGB", size, colour)


def test_frames_say_right_wrong_or_unknown() -> None:
    right, wrong = ImageColor.getrgb(RIGHT), ImageColor.getrgb(WRONG)
    cases: list[tuple[bool | None, set[tuple[int, ...]]]] = [(True, {right}), (False, {wrong}), (None, set())]
    for mark, frames in cases:
        grid = retrieval_grid([photo("black")], [[photo()]], [[mark]])
        assert colours(grid) & {right, wrong} == frames


def test_every_row_and_column_has_its_place() -> None:
    cell, marks = 40, [[True, False, True], [False, True]]
    shades = [["#0000ff", "#00ffff", "#ff00ff"], ["#ffff00", "#8000ff"]]
    photos = [[photo(shade, (50, 50)) for shade in row] for row in shades]
    plain = retrieval_grid([photo("black")] * 2, photos, marks, cell=cell)
    titled = retrieval_grid([photo("black")] * 2, photos, marks, cell=cell, titles=["ant", "bee"])
    assert titled.height > plain.height
    assert titled.width == plain.width
    places = {}
    for row in shades:
        for shade in row:
            spots = [(x, y) for y in range(plain.height) for x in range(plain.width) if plain.getpixel((x, y)) == ImageColor.getrgb(shade)]
            assert len(spots) == cell * cell
            places[shade] = spots[0]
    step = cell + 2 * FRAME + GAP
    for y, row in enumerate(shades):
        for x, shade in enumerate(row):
            assert places[shade] == (places["#0000ff"][0] + x * step, places["#0000ff"][1] + y * step)
    for (x, y), mark in [
        (places[shade], mark) for row, line in zip(shades, marks, strict=True) for shade, mark in zip(row, line, strict=True)
    ]:
        assert plain.getpixel((x - 1, y + 5)) == ImageColor.getrgb(RIGHT if mark else WRONG)


def test_a_drawing_in_the_alpha_channel_shows_on_white() -> None:
    sketch = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    sketch.paste((0, 0, 0, 255), (5, 5, 15, 15))
    grid = retrieval_grid([sketch], [[photo("white")]], [[None]], cell=40)
    dark = sum(shade < 64 for shade in grid.convert("L").tobytes())
    assert 350 < dark < 450  # a quarter of 40 x 40, give or take the blurred edge


def test_a_picture_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "grid.png"
    save_picture(photo("red"), path)
    assert Image.open(path).getpixel((3, 3)) == (255, 0, 0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match=r"grid\.png' could not be written .No space left"):
        save_picture(photo("green"), path)
    assert Image.open(path).getpixel((3, 3)) == (255, 0, 0)
    assert os.listdir(path.parent) == ["grid.png"]


def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="could not be written"):
        save_picture(photo(), tmp_path / "file" / "grid.png")


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="there is no query to draw"):
        retrieval_grid([], [], [])
    with pytest.raises(InputError, match=r"\{'queries': 1, 'results': 2, 'correct': 1\}"):
        retrieval_grid([photo()], [[photo()], [photo()]], [[True]])
    with pytest.raises(InputError, match="'titles': 2"):
        retrieval_grid([photo()], [[photo()]], [[True]], titles=["a", "b"])
    with pytest.raises(InputError, match="row 0 has 1 photos and 2 marks"):
        retrieval_grid([photo()], [[photo()]], [[True, False]])


def test_headings_titles_labels_and_gaps_take_room_of_their_own() -> None:
    rows = [[Cell(photo()), Cell(photo())], [Cell(photo()), Cell(photo())]]
    plain = layout(rows, cell=40)
    assert plain.size == (2 * MARGIN + 2 * (40 + STEP) - GAP,) * 2
    assert layout(rows, cell=40, apart=1).size == (plain.width + GAP, plain.height)
    assert layout(rows, cell=40, headings=["a", "b"]).size == (plain.width, plain.height + LINE + GAP)
    assert layout(rows, cell=40, titles=["a", "b"]).size == (plain.width, plain.height + 2 * LINE)
    assert layout(rows, cell=40, labels=["a", "b"]).size == (plain.width + LABEL, plain.height)


def test_columns_stand_under_their_names_and_are_of_one_length() -> None:
    picture = columns({"one": [photo("red")], "two": [photo("lime")]}, cell=40)
    assert picture.size == (2 * MARGIN + 2 * (40 + STEP) - GAP, 2 * MARGIN + LINE + GAP + 40 + STEP - GAP)
    assert {(255, 0, 0), (0, 255, 0)} <= colours(picture)
    with pytest.raises(InputError, match=r"columns of equal length were expected, at least one picture each, got \[1, 2\]"):
        columns({"one": [photo()], "two": [photo()] * 2})
