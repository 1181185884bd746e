"""Draw to search, inside a service of your own: `python examples/serve_photos.py INDEX [PORT]`.

INDEX is a folder that `sbirlib index` or `SearchIndex.save` wrote. The page is at /photos, your own routes beside it; `sbirlib serve INDEX` is
the same without them. Needs the extra `sbirlib[serve]`.
"""

import sys

import uvicorn
from fastapi import FastAPI

from sbirlib import open_index
from sbirlib.serve import app

index = open_index(sys.argv[1])
site = FastAPI()


@site.get("/")
def home() -> dict[str, object]:
    """A route of your own."""
    return {"photos": len(index), "draw": "/photos/"}


site.mount("/photos", app(index))
if __name__ == "__main__":
    uvicorn.run(site, host="127.0.0.1", port=int([*sys.argv, "8000"][2]))
