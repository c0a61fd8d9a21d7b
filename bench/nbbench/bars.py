"""Bars as SVG by hand: one picture for a group of workloads, each with a scale of its own, legible on light and dark."""
from html import escape

WIDTH, LEFT, RIGHT, BAR, GAP = 760, 150, 90, 16, 4
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600 } .small { font-size: 12px; fill: #59636e }
  .ours { fill: #0969da } .other { fill: #9198a1 } .axis { stroke: #d1d9e0 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .small { fill: #9198a1 }
    .ours { fill: #4493f8 } .other { fill: #656c76 } .axis { stroke: #3d444d }
  }
"""


def shown(value):
    return "%.0f ms" % (value * 1000) if value < 1 else "%.1f s" % value


def bar(name, value, longest, y, ours):
    length = max(1.0, value / longest * (WIDTH - LEFT - RIGHT))
    middle = y + BAR - 4
    return ['<text x="%d" y="%d" text-anchor="end">%s</text>' % (LEFT - 8, middle, escape(name)),
            '<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>' % ("ours" if ours else "other", LEFT, y, length, BAR),
            '<text x="%.1f" y="%d">%s</text>' % (LEFT + length + 6, middle, shown(value))]


def picture(title, panels, ours):
    """`panels` are (heading, [(name, seconds)])."""
    parts, y = [], 28
    parts.append('<text class="title" x="8" y="20">%s</text>' % escape(title))
    for heading, bars in panels:
        y += 22
        parts.append('<text class="small" x="8" y="%d">%s</text>' % (y, escape(heading)))
        y += 8
        top, longest = y, max(value for _, value in bars)
        for name, value in bars:
            parts += bar(name, value, longest, y, name.startswith(ours))
            y += BAR + GAP
        parts.append('<line class="axis" x1="%d" y1="%d" x2="%d" y2="%d"/>' % (LEFT, top - 2, LEFT, y))
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="%s">' % (
        WIDTH, y + 12, WIDTH, y + 12, escape(title, quote=True))
    return "\n".join([head, "<style>%s</style>" % STYLE, *parts, "</svg>", ""])
