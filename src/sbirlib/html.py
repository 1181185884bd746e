"""Pieces of HTML for notebooks: tables, and strips of pictures that the text itself holds."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

from PIL import Image

SIDE = 96  # pixels of a picture


def strip(pictures: Iterable[tuple[Image.Image | None, str]]) -> str:
    """Pictures with a caption each, side by side; None stands for one that is no longer there."""
    cells = "".join(
        f'<figure style="margin:0 6px 6px 0;display:inline-block;width:{SIDE}px;vertical-align:top;font-size:11px">{_picture(picture)}'
        f'<figcaption style="overflow-wrap:anywhere">{escape(caption)}</figcaption></figure>'
        for picture, caption in pictures
    )
    return f"<div>{cells}</div>"


def table(rows: Iterable[Sequence[object]]) -> str:
    """Rows of texts, the first cell of each a heading."""
    lines = ""
    for first, *rest in rows:
        cells = "".join(f'<td style="text-align:left">{escape(str(cell))}</td>' for cell in rest)
        lines += f'<tr><th style="text-align:left">{escape(str(first))}</th>{cells}</tr>'
    return f"<table>{lines}</table>"


def preformatted(text: str) -> str:
    """A text in which lines and spaces count."""
    return f"<pre style='white-space:pre-wrap'>{escape(text)}</pre>"


def _picture(picture: Image.Image | None) -> str:
    if picture is None:
        return f'<div style="width:{SIDE}px;height:{SIDE}px;border:1px dashed">no longer there</div>'
    small = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return f'<img style="max-width:100%;background:white" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
