"""`course gallery`: the README's picture, cut from the figures of an executed run."""

import base64
import io
import json
from pathlib import Path

import click
from PIL import Image

# One figure of each chapter, named by how its alternative text begins.
FIGURES = {
    "01": "The classifier's confidence on digits, letters",
    "02": "Four half-hidden digits",
    "03": "Four rows: noisy digits",
    "04": "Left: codes around the origin",
    "05": "Four rows of ten images; in each column",
    "06": "Four densities: the truth",
    "07": "Four rows of the ten digits",
    "08": "Four rows: pictures from new sides",
    "09": "The sample wall: twelve samples",
}
WIDTH, GAP = 620, 24  # pixels of one column, and between pictures


def find(notebook, alt):
    """The picture in an executed notebook whose alternative text begins with ``alt``."""
    for cell in json.loads(notebook.read_text())["cells"]:
        for output in cell.get("outputs", []):
            said = output.get("metadata", {}).get("image/png", {}).get("alt", "")
            if said.startswith(alt):
                return Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"]))).convert("RGB")
    raise click.ClickException(f"{notebook} has no figure whose alternative text begins with {alt!r}")


def sheet(pictures):
    """Pictures in two columns, each as wide as its column, filled one after the other into the shorter column."""
    scaled = [p.resize((WIDTH, round(p.height * WIDTH / p.width)), Image.LANCZOS) for p in pictures]
    columns, heights = ([], []), [0, 0]
    for picture in scaled:
        column = 0 if heights[0] <= heights[1] else 1
        columns[column].append(picture)
        heights[column] += picture.height + GAP
    page = Image.new("RGB", (2 * WIDTH + GAP, max(heights) - GAP), "white")
    for column, x in zip(columns, (0, WIDTH + GAP), strict=True):
        y = 0
        for picture in column:
            page.paste(picture, (x, y))
            y += picture.height + GAP
    return page


@click.command(help=__doc__)
@click.option("--run", "folder", type=click.Path(path_type=Path), default=Path("build/run"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("notebooks/gallery.png"), show_default=True)
def main(folder, out):
    pictures = []
    for number, alt in FIGURES.items():
        notebooks = sorted(folder.glob(f"{number}_*.ipynb"))
        if not notebooks:
            raise click.ClickException(f"no executed chapter {number} in {folder}: run `course run` first")
        pictures.append(find(notebooks[0], alt))
    buffer = io.BytesIO()
    sheet(pictures).quantize(128).save(buffer, format="png", optimize=True)
    out.write_bytes(buffer.getvalue())
    click.echo(f"{out}: {len(pictures)} pictures, {len(buffer.getvalue()) // 1024} KB")
