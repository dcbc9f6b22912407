"""docs/benchmarks.svg: capacity relative to nginx, one group of bars per kind of work."""

from dataclasses import dataclass

from bench.metrics import METRICS, Metric
from bench.options import PEERS
from bench.targets import REFERENCE, Figures

SHOWN = {
    "poll_cpu": "small polls",
    "upload_cpu": "100 MB uploads",
    "download_cpu": "50 MB downloads",
    "handshake_cpu": "full handshakes",
    "mixed_p99": "polls beside uploads (p99)",
}
COLOURS = dict(zip(PEERS, ("#1f6feb", "#7d8590", "#57606a", "#b8bec5", "#d9b36c", "#6cb6a5"), strict=True))
LEFT, TOP, BAR, GAP, SCALE, MAX = 190, 60, 16, 18, 220, 2.5
HALO = "<style>text { paint-order: stroke; stroke: #ffffff; stroke-width: 3px }</style>"
FONT = ' font-family="sans-serif" font-size="12"'


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: whose, how long, how far down."""

    peer: str
    x: float
    top: int

    def draw(self) -> str:
        """The bar and its number; a bar beyond the scale is cut, its number is not."""
        width = min(self.x, MAX) * SCALE
        return (
            f'<rect x="{LEFT}" y="{self.top}" width="{width:.0f}" height="{BAR - 3}" fill="{COLOURS[self.peer]}"/>'
            f'<text x="{LEFT + width + 6:.0f}" y="{self.top + 10}">{self.x:.2f}</text>'
        )


def group(metric: Metric, row: dict[str, float], top: int) -> tuple[list[str], int]:
    """The bars of one kind of work, and where the next group begins."""
    bars = [Bar(peer, x, 0) for peer in PEERS if peer in row and (x := metric.x(row[peer], row[REFERENCE]))]
    placed = [Bar(bar.peer, bar.x, top + number * BAR) for number, bar in enumerate(bars)]
    middle = top + len(bars) * BAR // 2 + 3
    label = f'<text x="{LEFT - 12}" y="{middle}" text-anchor="end">{SHOWN[metric.key]}</text>'
    return [label, *(bar.draw() for bar in placed)], top + len(bars) * BAR + GAP


def legend() -> list[str]:
    """Whose colour is whose."""
    parts = []
    for number, peer in enumerate(PEERS):
        x = LEFT + number * 95
        parts.append(f'<rect x="{x}" y="34" width="11" height="11" fill="{COLOURS[peer]}"/>')
        parts.append(f'<text x="{x + 17}" y="44">{peer}</text>')
    return parts


def draw(figures: Figures) -> str:
    """The whole chart."""
    body, top = legend(), TOP
    for metric in METRICS:
        row = figures.get(metric.key, {})
        if metric.key in SHOWN and REFERENCE in row:
            parts, top = group(metric, row, top)
            body += parts
    width, one = LEFT + int(MAX * SCALE) + 60, LEFT + SCALE
    line = (
        f'<line x1="{one}" y1="{TOP - 6}" x2="{one}" y2="{top - GAP + 4}" stroke="#57606a" stroke-dasharray="3 3"/>'
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}"{FONT}>'
    title = (
        f'<text x="{LEFT}" y="20" font-size="14">Capacity relative to nginx (dashed line: 1); more is better</text>'
    )
    back = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return "\n".join([head, HALO, back, title, line, *body, "</svg>", ""])
