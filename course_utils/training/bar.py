"""Progress, in a notebook and in a terminal."""

import html
import sys
import time


class Bar:
    """A progress bar: an updated HTML display in Jupyter (it survives papermill and saving), a text line elsewhere."""

    def __init__(self, total, description, seconds_between=0.2):
        self.total, self.description, self.seconds_between = total, description, seconds_between
        self.done, self.note, self.ending = 0, lambda: "", ""
        self.start = self.drawn = time.monotonic()

    def __enter__(self):
        self.handle = self.line = None
        if in_jupyter():
            from IPython.display import display

            self.handle = display(self.bundle(), raw=True, display_id=True)
        else:
            from tqdm import tqdm

            often = self.seconds_between if sys.stderr.isatty() else 60
            self.line = tqdm(total=self.total, desc=self.description, mininterval=often, leave=True)
        return self

    def update(self, done, note=lambda: ""):
        """``done`` of ``total`` are finished; ``note()`` gives words, and is called only when the bar is drawn."""
        self.done, self.note = done, note
        now = time.monotonic()
        if now - self.drawn >= self.seconds_between:
            self.drawn = now
            self.draw()

    def stop(self, why):
        """Say on the bar that the work ended before its end."""
        self.ending = why

    def draw(self):
        if self.handle is not None:
            self.handle.update(self.bundle(), raw=True)
        else:
            self.line.set_postfix_str(" · ".join(filter(None, [self.note(), self.ending])), refresh=False)
            self.line.update(self.done - self.line.n)

    def __exit__(self, kind, error, trace):
        if kind is not None and not self.ending:  # a `break` out of the loop closes the generator
            self.ending = "left early" if kind is GeneratorExit else f"stopped by {kind.__name__}"
        self.draw()
        if self.line is not None:
            self.line.close()

    def bundle(self):
        total = "" if self.total is None else f" of {self.total:,}"
        seconds = f"{time.monotonic() - self.start:.1f} s"
        words = " · ".join(filter(None, [f"{self.done:,}{total}", self.note(), seconds, self.ending]))
        text, label = f"{self.description}: {words}", html.escape(self.description)
        amount = f'value="{self.done}" max="{max(self.total, 1)}"' if self.total is not None else ""
        bar = f'<progress {amount} aria-label="{label}" style="width: 16em"></progress>'
        return {"text/plain": text, "text/html": f"<div>{label} {bar} {html.escape(words)}</div>"}


def in_jupyter():
    """Whether this process is a Jupyter kernel."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it; nothing else needs to
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


def progress(iterable, total=None, description="working"):
    """Yield the items of ``iterable`` and show how many are done. total: their number, when ``len`` cannot say it."""
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)
    with Bar(total, description) as bar:
        for done, item in enumerate(iterable, start=1):
            yield item
            bar.update(done)
