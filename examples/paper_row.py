"""From two rows of a paper's table to a paired difference: MATHM with and without its triplets (Huang et al. 2022, table 3).

On the embedded set, with a small network and few steps: it shows the way, and decides nothing. `docs/claims.md` has what was decided.
"""

from sbirlib import build, synthetic
from sbirlib.retrieval.exact.evaluate import evaluate_queries
from sbirlib.retrieval.paired import paired

SEEDS = (0, 1)
ROWS = {"with": "mathm", "without": "mathm-ce"}
SMALL = {
    "encoder.backbone": "test_resnet",
    "encoder.pretrained": False,
    "encoder.dim": 32,
    "transform.size": 48,
    "sampler": {"categories": 8, "per_modality": 2},
    "phases.0.steps": 60,
    "phases.0.optimizer.lr": 3e-3,
    "phases.0.schedule.warmup": 10,
    "phases.0.parameters": [],
}

dataset = synthetic(categories=24, unseen=8, instances=8, size=48)
values: dict[str, dict[int, list[float]]] = {name: {} for name in ROWS}
for name, recipe in ROWS.items():
    for seed in SEEDS:  # the same batches for both rows
        pipeline = build(recipe, seed=seed, **SMALL).fit(dataset)
        queries, gallery = pipeline.encode(dataset)
        result = evaluate_queries(queries.vectors, gallery.vectors, queries.category, gallery.category, metrics=["mAP@all"])
        values[name][seed] = result.values["mAP@all"].tolist()
        print(name, "seed", seed, result.means)

difference = paired(values["with"], values["without"], queries.category.tolist(), over="classes")
print(f"with - without: {difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})")
print(f"the smallest difference that these classes and seeds would show: {difference.detectable:.3f}")
