"""Quickstart: a small MATHM, trained on the synthetic set for a minute, and a search of the unseen photos with a sketch."""

from sbirlib import build, synthetic

dataset = synthetic(categories=40, unseen=8, instances=20)
print(dataset.describe())

pipeline = build(
    "mathm",
    encoder={"backbone": "resnet10t", "pretrained": False, "dim": 64, "timm_options": {"stem_type": "", "channels": [32, 64, 128, 256]}},
    transform={"size": 48},
    sampler={"categories": 16, "per_modality": 2},
    phases=[{"steps": 100, "optimizer": {"lr": 3e-3}, "schedule": {"warmup": 10}, "parameters": []}],
)
print("before", pipeline.evaluate(dataset))
pipeline.fit(dataset)
print("after ", pipeline.evaluate(dataset))

unseen = dataset.test
index = pipeline.index(unseen.photos)
sketch, category = unseen.sketches.read(0), unseen.categories[unseen.sketches.category[0]]
for hit in index.search(sketch, k=5):
    print(f"{hit.rank}  {hit.score:.3f}  {hit.path}  {'right' if hit.category == category else 'wrong'}")
