"""No photo is lost and no answer is wrong while the index grows and the server is killed, under load: a small run of the benchmark."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conftest import figure

from benchmarks.speed.serve import survival


def test_a_server_that_is_killed_while_photos_come_gives_no_wrong_answer(folder: Path, tmp_path: Path) -> None:
    additions = [tmp_path / f"more{i}" for i in range(2)]
    for i, place in enumerate(additions):
        place.mkdir()
        for j in range(3):
            figure(j, 50 + 10 * i + j, False).save(place / f"more{i}-{j}.png")
    with ThreadPoolExecutor(1) as pool:  # a thread of its own: a browser of other tests leaves a running loop in this one
        numbers = pool.submit(survival, folder, additions, clients=4).result()
    assert numbers["answers"] > 20
    assert numbers["broken"] > 0
    assert {name: numbers[name] for name in ("wrong", "other_status", "backwards", "lost")} == dict.fromkeys(
        ("wrong", "other_status", "backwards", "lost"), 0
    )
    assert numbers["found_after_s"] < 10
