"""Pictures of directed graphs where Graphviz is not installed: plain, but every node and edge is there.

A node stands one place further along than what leads to it, in columns (or rows); edges are straight lines.
"""

from __future__ import annotations

import io
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

FORMATS = ("bmp", "gif", "jpeg", "jpg", "pdf", "png", "tif", "tiff", "webp")  # what Pillow writes of Graphviz's formats
FONT, MARGIN, ALONG, ACROSS, ARROW = 14, 8, 60, 16, 8  # pixels: letters, in a box, between boxes both ways, arrow head
MOST = 1 << 27  # pixels; a picture of 400 MB is no use to anyone


class Node(NamedTuple):
    """What a node says (lines), its colour, and whether it is round."""

    text: str
    colour: str
    round: bool


def draw(nodes: Mapping[Hashable, Node], edges: Sequence[tuple[Hashable, Hashable, str]], rankdir: str, ext: str) -> bytes:
    """The content of a picture file of type `ext`, one of FORMATS; ValueError for a graph too large for one.

    nodes: in such an order that edges lead forward, but for those that close a circle; edges: from, to, what stands on it.
    rankdir: LR, RL, TB or BT, the way edges lead.
    """
    font = ImageFont.load_default(FONT)
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    sizes = {}
    for key, node in nodes.items():
        left, top, right, bottom = pen.multiline_textbbox((0, 0), node.text, font=font)
        sizes[key] = (right - left + 2 * MARGIN, bottom - top + 2 * MARGIN)
    centres, size = _place(_ranks(nodes, edges), sizes, rankdir)
    if size[0] * size[1] > MOST:
        raise ValueError("a net of %d layers and blobs would be a picture of %d x %d pixels; install Graphviz and draw it "
                         "as .svg or .pdf" % (len(nodes), *size))
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    for source, target, text in edges:
        start, end = centres[source], _border(centres[source], centres[target], sizes[target])
        pen.line([start, end], fill="black")
        pen.polygon(_arrow(start, end), fill="black")
        if text:
            pen.text(((start[0] + end[0]) / 2, (start[1] + end[1]) / 2), text, fill="black", font=font)
    for key, node in nodes.items():
        (x, y), (w, h) = centres[key], sizes[key]
        box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        (pen.rounded_rectangle(box, h / 3, node.colour, "black") if node.round
         else pen.rectangle(box, node.colour, "black"))
        pen.multiline_text((x, y), node.text, fill="black", font=font, anchor="mm", align="center")
    file = io.BytesIO()
    image.save(file, {"jpg": "jpeg", "tif": "tiff"}.get(ext, ext))
    return file.getvalue()


def _ranks(nodes: Mapping[Hashable, Node], edges: Sequence[tuple[Hashable, Hashable, str]]) -> list[list[Hashable]]:
    """The nodes, place by place along the graph."""
    before: dict[Hashable, list[Hashable]] = {key: [] for key in nodes}
    for source, target, _ in edges:
        before[target].append(source)
    rank: dict[Hashable, int] = {}
    for key in nodes:  # what stands later in the order closes a circle and does not count
        rank[key] = 1 + max((rank[source] for source in before[key] if source in rank), default=-1)
    columns: list[list[Hashable]] = [[] for _ in range(1 + max(rank.values(), default=-1))]
    for key, place in rank.items():
        columns[place].append(key)
    return columns


def _place(columns: list[list[Hashable]], sizes: dict[Hashable, tuple[int, int]], rankdir: str
           ) -> tuple[dict[Hashable, tuple[float, float]], tuple[int, int]]:
    """Where each node's centre is, and how large the picture."""
    flat = rankdir in ("LR", "RL")
    along = (lambda key: sizes[key][0]) if flat else (lambda key: sizes[key][1])
    across = (lambda key: sizes[key][1]) if flat else (lambda key: sizes[key][0])
    breadths = [sum(across(key) + ACROSS for key in column) for column in columns]
    total, breadth = MARGIN, int(max(breadths, default=0)) + 2 * MARGIN
    spots = {}
    for column, own in zip(columns, breadths):
        length, at = max(along(key) for key in column), (breadth - own + ACROSS) / 2
        for key in column:
            spots[key] = (total + length / 2, at + across(key) / 2)
            at += across(key) + ACROSS
        total += int(length) + ALONG
    total = int(total) - (ALONG if columns else 0) + MARGIN
    if rankdir in ("RL", "BT"):
        spots = {key: (total - a, b) for key, (a, b) in spots.items()}
    return ({key: (a, b) if flat else (b, a) for key, (a, b) in spots.items()},
            (total, breadth) if flat else (breadth, total))


def _border(start: tuple[float, float], centre: tuple[float, float], size: tuple[int, int]) -> tuple[float, float]:
    """Where a line from `start` to the centre of a box meets the box."""
    dx, dy = start[0] - centre[0], start[1] - centre[1]
    shares = [half / abs(d) for d, half in ((dx, size[0] / 2), (dy, size[1] / 2)) if abs(d) > 0]
    share = min([1.0, *shares])
    return centre[0] + share * dx, centre[1] + share * dy


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """The corners of an arrow head at the end of a line."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    scale = ARROW / max(1e-9, (dx * dx + dy * dy) ** 0.5)
    back = end[0] - dx * scale, end[1] - dy * scale
    return [end, (back[0] - dy * scale / 2, back[1] + dx * scale / 2), (back[0] + dy * scale / 2, back[1] - dx * scale / 2)]
