"""Facts of the published datasets: classes, splits, and their digests."""

import json
from importlib.resources import files

import pytest

from sbirlib.data.published import facts as module
from sbirlib.data.published.facts import digest, facts, letters

SEEN = {
    ("sketchy", "zeroshot1_sake25"): (25, 100),
    ("sketchy", "zeroshot2_yelamarthi21"): (21, 104),
    ("sketchy", "sempcyc25_seed0"): (25, 100),
    ("tuberlin", "zeroshot_sake30"): (30, 220),
    ("tuberlin", "sempcyc30_seed0"): (30, 220),
    ("quickdraw", "d2s30"): (30, 80),
}


@pytest.mark.parametrize(("name", "count"), [("sketchy", 125), ("tuberlin", 250), ("quickdraw", 110)])
def test_there_are_as_many_classes_as_published_and_no_two_look_alike(name: str, count: int) -> None:
    classes = facts(name).classes
    assert len(classes) == len(set(classes)) == count
    assert len({letters(c) for c in classes}) == count


@pytest.mark.parametrize("key", SEEN, ids=lambda key: "/".join(key))
def test_the_unseen_of_a_split_are_classes(key: tuple[str, str]) -> None:
    published = facts(key[0])
    unseen = published.splits[key[1]]["unseen"]
    assert (len(set(unseen)), len(set(published.classes) - set(unseen))) == SEEN[key]


def test_every_split_is_counted_here() -> None:
    table = json.loads((files("sbirlib.data.published") / "splits.json").read_text(encoding="utf-8"))
    assert {(name, split) for name, about in table.items() for split in about["splits"]} == set(SEEN)


def test_two_lists_of_25_classes_of_sketchy_share_four() -> None:
    splits = facts("sketchy").splits
    one, other = splits["zeroshot1_sake25"], splits["sempcyc25_seed0"]
    assert set(one["unseen"]) & set(other["unseen"]) == {"bell", "squirrel", "tank", "wheelchair"}
    assert one["sha256"] != other["sha256"]


def test_a_list_that_was_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    facts("sketchy")
    monkeypatch.setattr(module, "digest", lambda names: digest([*names, "unicorn"]))
    with pytest.raises(ValueError, match="sketchy was changed"):
        facts("sketchy")
