"""All targets, by name."""

from __future__ import annotations

from tests.fuzz.targets import commands, datasets, indexes, models, packs, pictures, texts

TARGETS = {
    target.name: target
    for targets in (pictures.TARGETS, datasets.TARGETS, texts.TARGETS, commands.TARGETS, models.TARGETS, indexes.TARGETS, packs.TARGETS)
    for target in targets
}
