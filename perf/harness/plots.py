# SPDX-License-Identifier: MIT
"""
plots.py: the report's pictures, each one SVG text that can stand in a page beside the others.

Knows how things are drawn, not what they mean: it gets numbers that summary.py has made. Needs
matplotlib. Text stays text in the SVG, so that it can be searched and is sharp at any size.
"""
import dataclasses
import html
import io
import logging
import math
import re

import matplotlib
matplotlib.use("svg")  # no display is needed, nor looked for
from matplotlib import ticker
from matplotlib.figure import Figure

# Colours of Okabe and Ito, told apart by colour-blind readers too; the markers tell them apart in grey.
STYLES = {
    "apmalloc": ("#D55E00", "o"), "glibc": ("#000000", "s"), "jemalloc": ("#0072B2", "^"),
    "tcmalloc": ("#009E73", "D"), "mimalloc": ("#E69F00", "v"), "tbbmalloc": ("#CC79A7", "P"),
    "scudo": ("#56B4E9", "X"), "first_apmalloc": ("#8A8A8A", "h"),
}
SPARE_STYLES = (("#6A3D9A", "<"), ("#B15928", ">"), ("#4D4D00", "*"), ("#F0E442", "p"))
WIDE, HALF = 11.4, 5.6  # inches: the page's width, and half of it
MIB = 1 << 20

SETTINGS = {
    "svg.fonttype": "none", "text.parse_math": False, "font.size": 9, "axes.titlesize": 10,
    "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "grid.color": "#E4E4E4",
    "legend.frameon": False, "legend.fontsize": 9, "axes.edgecolor": "#808080",
}
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)


@dataclasses.dataclass
class Plot:
    """name: unique, good for a file's name and an id; svg: the element, without XML prolog."""
    name: str
    title: str
    svg: str


def style(allocator):
    """(colour, marker) of an allocator, the same in all plots."""
    return STYLES.setdefault(allocator, SPARE_STYLES[len(STYLES) % len(SPARE_STYLES)])


def ordered(allocators):
    """The allocators in the order of all plots and tables, which is that of STYLES."""
    allocators = set(allocators)
    for allocator in sorted(allocators - set(STYLES)):
        style(allocator)
    return [allocator for allocator in STYLES if allocator in allocators]


def shortened(name, most=34):
    return name if len(name) <= most else name[:most - 1] + "…"


def line_style(allocator):
    """Keywords for a curve of the allocator; apmalloc's lies above the others and is thicker."""
    colour, marker = style(allocator)
    ours = allocator == "apmalloc"
    return {"color": colour, "marker": marker, "label": allocator, "zorder": 4 if ours else 3,
            "linewidth": 2.4 if ours else 1.3, "markersize": 6.5 if ours else 5}


def drawn(name, title, figure):
    """The figure as a Plot. Its ids get the plot's name, as ids must be unique in a page."""
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg"):], flags=re.DOTALL)

    def renamed(tag):
        text = re.sub(r'(\sid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", tag.group())
        return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)
    return Plot(name, title, re.sub(r"<[^>]+>", renamed, svg))


def legend_above(axes, columns):
    """A legend above the axes, where it can cover no data."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncol=columns, borderaxespad=0.3, borderpad=0.2,
                handletextpad=0.4, handlelength=1.7, columnspacing=1.1)


def ratio_ticks(low, high):
    """Ticks for a logarithmic axis: the finest steps that leave room for the labels."""
    powers = [10.0 ** power for power in range(-6, 9)]
    for steps in ([step / 10 for step in range(1, 40)], [step / 5 for step in range(1, 20)],
                  *([factor * power for power in powers for factor in factors]
                    for factors in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5)))):
        ticks = [tick for tick in steps if low <= tick <= high]
        room = 0.045 * math.log(high / low)
        if high < 2 * steps[-1] and all(math.log(b / a) > room for a, b in zip(ticks, ticks[1:])):
            return ticks
    return [power for power in powers if low <= power <= high]


def ratio_dots(name, title, axis, groups, ratios, failed):
    """
    A row a test, a marker an allocator, on a logarithmic axis; 1 is the best rival.
    groups: {group: tests}; ratios: {(test, allocator): ratio}; failed: {test: allocators}.
    """
    rows = []
    for group, tests in groups.items():
        tests = [test for test in tests if test in failed or any(test == t for t, _ in ratios)]
        rows += [(group, None)] + [(group, test) for test in tests] if tests else []
    allocators = ordered(allocator for _, allocator in ratios)
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDE, 1.1 + 0.38 * len(rows)), layout="constrained")
        axes = figure.add_subplot(xscale="log", xlabel=axis)
        row_of = {test: row for row, (_, test) in enumerate(rows) if test is not None}
        for row in list(row_of.values())[::2]:
            axes.axhspan(row - 0.5, row + 0.5, color="#F5F5F5", zorder=0, linewidth=0)
        for place, allocator in enumerate(allocators):
            # Each allocator has its own height in a row: equal ratios do not hide each other.
            points = [(ratio, row_of[test]) for (test, a), ratio in ratios.items() if a == allocator]
            shift = 0.72 * ((place + 0.5) / len(allocators) - 0.5)
            colour, marker = style(allocator)
            ours = allocator == "apmalloc"
            axes.scatter([x for x, _ in points], [row + shift for _, row in points], color=colour,
                         marker=marker, s=75 if ours else 44, linewidths=0.8 if ours else 0.4,
                         edgecolors="black" if ours else "white", zorder=4 if ours else 3, label=allocator)
        for test, names in failed.items():
            axes.text(1.01, row_of[test], "✗ " + ", ".join(names), va="center", fontsize=8,
                      color="#B00000", transform=axes.get_yaxis_transform())
        axes.axvline(1, color="#404040", linewidth=1, zorder=1)
        low = min([*ratios.values(), 0.95]) / 1.06
        high = max([*ratios.values(), 1.05]) * 1.06
        axes.set_xlim(low, high)
        ticks = ratio_ticks(low, high)
        axes.xaxis.set_major_locator(ticker.FixedLocator(ticks))
        axes.set_xticklabels([f"{tick:g}×" for tick in ticks])
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), [shortened(test or group) for group, test in rows])
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        for label, (_, test) in zip(axes.get_yticklabels(), rows):
            label.set_fontweight("normal" if test else "bold")
        legend_above(axes, len(allocators))
        return drawn(name, title, figure)


def _plain_x(axes, values):
    """A logarithmic axis of base 2 with a tick at each value and nowhere else."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(values), [f"{value:g}" for value in sorted(values)])
    axes.xaxis.set_minor_locator(ticker.NullLocator())


def scaling_curves(name, test, x_label, curves):
    """curves: {allocator: [(x, nanoseconds per operation), ...]}"""
    times = [time for points in curves.values() for _, time in points]
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(HALF, 3.9), layout="constrained")
        axes = figure.add_subplot(xlabel=x_label, ylabel="ns per operation")
        for allocator in ordered(curves):
            axes.plot(*zip(*curves[allocator]), **line_style(allocator))
        _plain_x(axes, {x for points in curves.values() for x, _ in points})
        if min(times) > 0 and max(times) > 10 * min(times):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
            axes.yaxis.set_minor_formatter(ticker.NullFormatter())
            axes.set_ylabel("ns per operation (logarithmic)")
        else:
            axes.set_ylim(bottom=0)
        legend_above(axes, 4)
        return drawn(name, test, figure)


def memory_over_time(name, test, live, resident, idle=False):
    """live: [(seconds, bytes), ...]; resident: {allocator: the same}; idle: nothing happens from 0 on."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(HALF, 3.7), layout="constrained")
        axes = figure.add_subplot(xlabel="seconds since the program fell idle" if idle else "seconds",
                                  ylabel="MiB resident (grey: live)")
        if idle:
            axes.axvline(0, color="#404040", linewidth=1, zorder=2)
        if live:
            axes.fill_between([time for time, _ in live], [size / MIB for _, size in live],
                              color="#D4D4D4", linewidth=0, zorder=1)
        for allocator in ordered(resident):
            looks = {**line_style(allocator), "marker": None}
            axes.plot([time for time, _ in resident[allocator]],
                      [size / MIB for _, size in resident[allocator]], **looks)
        axes.set_ylim(bottom=0)
        legend_above(axes, 4)
        return drawn(name, test, figure)


def instruction_bars(name, title, counts):
    """counts: {test: {allocator: instructions per operation}}; a block of bars a test."""
    allocators = ordered(allocator for values in counts.values() for allocator in values)
    bars, middles, at = [], [], 0
    for test, values in counts.items():
        names = [allocator for allocator in allocators if allocator in values]
        bars += [(at + place, allocator, values[allocator]) for place, allocator in enumerate(names)]
        middles.append((at + (len(names) - 1) / 2, shortened(test)))
        at += len(names) + 1
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDE, 1 + 0.165 * at), layout="constrained")
        axes = figure.add_subplot(xlabel="instructions per operation")
        for allocator in allocators:
            own = [(place, value) for place, who, value in bars if who == allocator]
            drawn_bars = axes.barh([place for place, _ in own], [value for _, value in own], height=0.86,
                                   color=style(allocator)[0], label=allocator)
            axes.bar_label(drawn_bars, fmt="%.1f", padding=3, fontsize=7.5,
                           fontweight="bold" if allocator == "apmalloc" else "normal")
        axes.set_yticks([place for place, _ in middles], [test for _, test in middles])
        axes.set_ylim(at - 1.2, -0.8)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        legend_above(axes, len(allocators))
        return drawn(name, title, figure)


def contention_curves(name, title, panels):
    """panels: {y label: {test: [(shards, per 1000 operations), ...]}}, side by side."""
    tests = list(dict.fromkeys(test for curves in panels.values() for test in curves))
    colours = matplotlib.colormaps["viridis"]
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDE, 3.7 + 0.2 * (len(tests) // 3)), layout="constrained")
        for axes, (label, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
            axes.set(xlabel="shards", ylabel=label)
            for test, points in curves.items():
                place = tests.index(test)
                axes.plot(*zip(*points), color=colours(0.9 * place / max(1, len(tests) - 1)),
                          marker="os^DvPX"[place % 7], label=shortened(test, 26))
            _plain_x(axes, {x for points in curves.values() for x, _ in points})
            axes.set_ylim(bottom=0)
            legend_above(axes, 2)
        return drawn(name, title, figure)
