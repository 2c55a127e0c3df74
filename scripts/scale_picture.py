"""Draws docs/scale.svg from the data of scale.py: 50,000 accounts whose trails write their files at the same time.

Needs matplotlib (`make scale`). With a second argument it also writes a PNG there.
"""

import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as pyplot

import scale

COLOURS = ["#1b6ca8", "#c0392b", "#b7791f", "#2e7d32"]
STYLES = ["-", "-", "--", "-"]


def draw(data):
    # Text becomes paths, so that it looks the same everywhere, and equal data give an equal file. The background is opaque, so that the picture reads in dark mode, too.
    matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "scale", "font.size": 10, "font.family": "sans-serif"})
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.9), facecolor="white", layout="constrained")
    for curve, colour, style in zip(data["curves"], COLOURS, STYLES):
        look = {"color": colour, "linestyle": style, "linewidth": 2, "clip_on": False, "label": curve["name"]}
        left.plot(data["seconds"], [count / 1000 for count in curve["waiting"]], **look)
        right.plot(curve["delays"], [share * 100 for share in data["shares"]], **look)
    left.set(title="Notifications that wait", xlabel="seconds since the first file of the burst", ylabel="thousands", xlim=(0, 288), ylim=(0, None))
    right.set(title="Log files handled within a delay", xlabel="seconds from the created file to its alert", ylabel="percent", ylim=(0, 101), xscale="log", xlim=(1, 300))
    right.set_xticks([1, 2, 5, 10, 30, 60, 120, 300], labels=["1", "2", "5", "10", "30", "60", "120", "300"])
    right.minorticks_off()
    for axes in (left, right):
        axes.grid(color="#dddddd", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("50,000 accounts in 3 Regions, whose 150,000 files arrive within 30 seconds")
    figure.legend(handles=left.get_lines(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def main():
    data = scale.picture()
    figure = draw(data)
    path = pathlib.Path(__file__).resolve().parents[1] / "docs/scale.svg"
    figure.savefig(path, metadata={"Date": None, "Creator": None, "Description": f"data: sha256 {scale.digest(data)}"})
    path.write_text("".join(line.rstrip() + "\n" for line in path.read_text().splitlines()))
    if len(sys.argv) == 2:
        figure.savefig(sys.argv[1], dpi=110)


if __name__ == "__main__":
    main()
