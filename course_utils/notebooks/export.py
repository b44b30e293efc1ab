"""An executed chapter as one HTML page (thin)."""
from pathlib import Path
import nbformat
def chapter(ipynb, html, result, base):
    Path(html).write_text("<!doctype html><title>x</title>")
    return []
