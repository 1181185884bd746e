"""Your own sketches and photos, from a folder to a search: `python examples/your_folder.py FOLDER [RECIPE]`.

FOLDER holds sketch/CLASS/* and photo/CLASS/*. Some classes are kept from training, and the search is among their photos.
"""

import sys

from sbirlib import build, folder, open_index, split

place, recipe = [*sys.argv[1:], "sbirlib"][:2]
dataset = split(folder(place), "seed:0")
print(dataset.describe())

pipeline = build(recipe)
pipeline.fit(dataset, out="runs/mine")  # Ctrl-C stops it, and resume=True goes on
print(pipeline.evaluate(dataset))

pipeline.index(dataset.test.photos).save("my-index")
for hit in open_index("my-index").search(dataset.test.sketches.read(0), k=5):
    print(f"{hit.rank}  {hit.score:.3f}  {hit.path}")
