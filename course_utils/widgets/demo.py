"""One demo, three forms: live widget, self-contained page, still picture.

A demo is an ES module in ``js/`` (``function render({ model, el })`` and ``export default { render }``; no imports, no
network) and a Python function of about ten lines that returns a :class:`Demo`. The front end decides what is shown:

* a person's JupyterLab, Notebook or VS Code gets an anywidget with ipywidgets sliders. Slider and module are joined in
  the browser, so a drag never waits for the kernel. When the notebook is opened again and the kernel is gone, so is the
  widget: then the next form, which lay beside it unseen, takes its place;
* where no widget manager can help (papermill, exported HTML, the book, Colab) the same module runs inside
  ``<div><img><iframe srcdoc></div>``, with the network cut as well;
* where no script may run, the picture in that ``<div>`` stays.
"""

import base64
import html
import io
import json
import sys
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import anywidget
import ipywidgets
import numpy as np
import torch
import traitlets
from IPython import get_ipython
from IPython.display import publish_display_data

JS = Path(__file__).parent / "js"
DTYPES = ("float16", "float32", "float64", "uint8", "int32", "bool")
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>
body {{ margin: 0; background: #fff; font: 14px/1.4 system-ui, 'DejaVu Sans', sans-serif; color: #1f2933; }}
#sliders {{ max-width: 700px; padding: 8px 14px 4px; box-sizing: border-box; display: grid; gap: 2px 24px;
  grid-template-columns: repeat({columns}, minmax(0, 1fr)); }}
#sliders label {{ display: grid; grid-template-columns: {label}em 1fr 3.5em; gap: 10px; align-items: center; }}
#sliders input {{ width: 100%; accent-color: #0072B2; }} #sliders output {{ text-align: right; }}
@media (max-width: 480px) {{
  #sliders {{ grid-template-columns: minmax(0, 1fr); }}
  #sliders label {{ grid-template-columns: 1fr 3.5em; gap: 0 10px; }}
  #sliders input {{ grid-area: 2 / 1 / 3 / 3; margin: 4px 0 8px; }}
}}
</style><div id="demo"></div><div id="sliders"></div><script type="application/json" id="state">{state}</script>
<script type="module">{module}</script></html>"""

# Of the two outputs of a demo with a kernel, the widget and the page, JupyterLab and Notebook 7 show one: the widget if
# it is alive, else the page. The page waits half a second, so that it does not flash before the widget stands there.
ONE_OF_TWO = """<style>
.jp-OutputArea-child:not(:has(.course-demo)):has(+ .jp-OutputArea-child .course-still),
.jp-OutputArea-child:has(.course-demo) + .jp-OutputArea-child:has(.course-still) { display: none; }
.course-still { animation: course-still 0s 0.5s backwards; }
@keyframes course-still { from { opacity: 0; } }
</style>"""


@dataclass(frozen=True)
class Slider:
    """A number the hand moves: a trait of the widget, a ``FloatSlider``, and ``model.get(name)`` in the module.

    It stands on steps counted from ``low``; ``value`` is moved to the nearest one, as every slider would do.
    """

    name: str
    label: str
    low: float
    high: float
    value: float
    step: float = 0.01

    def __post_init__(self):
        if not self.low <= self.value <= self.high or self.low >= self.high or self.step <= 0:
            raise ValueError(f"slider {self.name}: expected low ≤ value ≤ high and a step above 0, got {self}")
        steps = round((self.value - self.low) / self.step)
        object.__setattr__(self, "value", max(self.low, min(round(self.low + steps * self.step, 6), self.high)))

    @property
    def digits(self):
        """Decimals worth showing for this step."""
        return max(0, -int(np.floor(np.log10(self.step) + 1e-9)))


def pack(array):
    """An array or tensor as ``{"dtype", "shape", "bytes"}``, which ``course.array`` in JavaScript turns back."""
    array = array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
    if array.dtype.name not in DTYPES:
        raise ValueError(f"JavaScript reads arrays of {', '.join(DTYPES)}; got {array.dtype}: convert it first")
    sent = np.packbits(array) if array.dtype == bool else np.ascontiguousarray(array)  # eight truths to a byte
    return {"dtype": array.dtype.name, "shape": list(array.shape), "bytes": sent.tobytes()}


def module_text(name, needs=()):
    """The ES module of a demo: the shared helpers, those it ``needs`` besides, then ``js/<name>.js``."""
    return "\n".join((JS / f"{part}.js").read_text("utf-8") for part in ("common", *needs, name))


def front_end():
    """``"widgets"`` where a person's front end can draw ipywidgets, else ``"page"``.

    Papermill, nbclient and nbval say that nobody is there to answer ``input()``; a person's front end never does. Colab
    draws widgets with scripts from other hosts and delays kernel messages, so it gets the page too.
    """
    kernel = getattr(get_ipython(), "kernel", None)
    attended = getattr(kernel, "_allow_stdin", False)
    return "widgets" if attended and "google.colab" not in sys.modules else "page"


# The kernel does not send slider values back to the browser, as it does by default: the value at which the hand rested
# would undo a newer one, if the hand has moved on since.
SYNCED = {"sync": True, "echo_update": False}


class Knob(ipywidgets.FloatSlider):
    """A slider whose value the kernel hears of and does not send back."""

    value = traitlets.CFloat(0.0).tag(**SYNCED)


class Demo:
    """What a notebook shows when the last line of a cell is a demo.

    ``module``: name of the file in ``js/``. ``sliders``: :class:`Slider`, in the order they are drawn. ``data``:
    constants for the module; numbers, strings, lists, dicts, arrays. ``picture(values)``: a matplotlib figure of the
    same thing for given slider values, drawn without any browser. ``alt``: one sentence for a reader who cannot see it.
    ``needs``: further files of ``js/`` that the module builds on, such as ``"network"``. ``answer(question)``: an array
    for what the module asks with ``course.asker``, for pictures that JavaScript cannot compute.
    """

    def __init__(self, module, *, sliders, data, picture, alt, height=520, needs=(), answer=None):
        self.needs, self.answer = tuple(needs), answer
        self.module, self.sliders, self.data = module, tuple(sliders), _packed(data)
        self.picture, self.alt, self.height = picture, alt, height
        self._live = self._view = None

    # ---- the live widget ---------------------------------------------------------------------------------------------
    @property
    def live(self):
        """The anywidget: one Float trait per slider, and ``settled``, the values after 150 ms of rest."""
        if self._live is None:
            self._live = self._make_live()
        return self._live

    @property
    def view(self):
        """The widget with its sliders below it; each slider moves its trait in the browser, without the kernel.

        Python hears of slider values when the hand has rested for 150 ms.
        """
        if self._view is None:
            columns = f"repeat({self._columns()}, minmax(0, 1fr))"
            knobs = ipywidgets.GridBox([self._knob(slider) for slider in self.sliders],
                                       layout={"grid_template_columns": columns})
            self.live.quiet = [widget.model_id for widget in (self.live, *knobs.children)]
            self._view = ipywidgets.VBox([self.live, knobs], layout={"max_width": "700px"})
        return self._view

    @property
    def values(self):
        """The slider values as Python last heard them."""
        return {s.name: getattr(self._live, s.name) if self._live else s.value for s in self.sliders}

    def observe(self, callback):
        """Call ``callback(values)`` whenever the hand has rested for 150 ms.

        Without a front end nobody moves a slider: then the callback is tried once at the low end, the middle and the
        high end of the sliders, so that a callback that raises stops an unattended run.
        """
        if front_end() == "widgets":
            self.live.observe(lambda change: callback(dict(change.new)), names="settled")
        else:
            for values in self.rehearsal():
                callback(values)

    def rehearsal(self):
        """The slider values at their low end, in the middle and at their high end."""
        return [{s.name: s.low + f * (s.high - s.low) for s in self.sliders} for f in (0.0, 0.5, 1.0)]

    def _make_live(self):
        synced = {s.name: traitlets.Float(s.value).tag(**SYNCED) for s in self.sliders}
        synced["data"] = traitlets.Dict(self.data).tag(sync=True)
        synced["sliders"] = traitlets.List(self._slider_state()).tag(sync=True)
        synced["quiet"] = traitlets.List().tag(sync=True)  # ids of the models that the drag keeps from the kernel
        synced["settled"] = traitlets.Dict({s.name: s.value for s in self.sliders}).tag(**SYNCED)
        live = type(self.module, (anywidget.AnyWidget,), {"_esm": module_text(self.module, self.needs), **synced})()
        if self.answer is not None:
            live.on_msg(self._reply)
        return live

    def _reply(self, live, message, _):
        answer = np.ascontiguousarray(self.answer(message["question"]))
        live.send({"answer": message["ask"], "question": message["question"]}, buffers=[answer.tobytes()])

    def _columns(self):
        """Many sliders with short names stand in two columns."""
        return 2 if len(self.sliders) > 4 and self._label_width() < 5 else 1

    def _label_width(self):
        """Room for the longest label, in em."""
        return 1 + 0.6 * max(len(slider.label) for slider in self.sliders)

    def _knob(self, slider):
        knob = Knob(
            value=slider.value, min=slider.low, max=slider.high, step=slider.step, description=slider.label,
            readout_format=f".{slider.digits}f", layout={"width": "auto"},
            style={"description_width": f"{self._label_width()}em"})
        knob.link = ipywidgets.jslink((knob, "value"), (self.live, slider.name))
        return knob

    # ---- the self-contained page -------------------------------------------------------------------------------------
    def _slider_state(self):
        return [{**asdict(s), "digits": s.digits} for s in self.sliders]

    def page(self):
        """The demo as one HTML document that asks for nothing from anywhere."""
        state = {s.name: s.value for s in self.sliders}
        state |= {"data": _as_text(self.data, deflated), "sliders": self._slider_state(), "settled": {}}
        module = module_text(self.module, self.needs) + "\n" + (JS / "page.js").read_text("utf-8")
        state = json.dumps(state, allow_nan=False).replace("<", "\\u003c")
        return PAGE.format(title=html.escape(self.alt), columns=self._columns(), label=self._label_width(), state=state,
                           module=module.replace("</script", "<\\/script"))

    def png(self):
        """The still picture at the first slider values, as PNG bytes."""
        buffer = io.BytesIO()
        self.picture({s.name: s.value for s in self.sliders}).savefig(
            buffer, format="png", dpi=100, facecolor="white", metadata={"Software": None})
        return buffer.getvalue()

    def html(self, source=None):
        """Picture and page in one ``<div>``: the page hides the picture when its scripts run.

        ``source``: the still picture as base64, where it has been drawn already.
        """
        source = source or base64.b64encode(self.png()).decode()
        alt = html.escape(self.alt, quote=True)
        return (f'<div style="max-width:700px"><img alt="{alt}" style="max-width:100%" '
                f'src="data:image/png;base64,{source}"><iframe title="{alt}" loading="lazy" '
                f'style="width:100%;height:{self.height}px;border:0" '
                f'srcdoc="{html.escape(self.page(), quote=True)}"></iframe></div>')

    # ---- what Jupyter asks -------------------------------------------------------------------------------------------
    def _repr_mimebundle_(self, include=None, exclude=None):
        source = base64.b64encode(self.png()).decode()
        bundle = {"text/html": self.html(source), "image/png": source, "text/plain": repr(self)}
        return bundle, {"image/png": {"alt": self.alt}}

    def _ipython_display_(self):
        bundle, metadata = self._repr_mimebundle_()
        if front_end() == "widgets":
            # By hand, because ipywidgets 7 (which Colab still has) cannot be asked for it. Nothing stands beside it: so
            # nothing is shown of it where a notebook is not trusted, or widgets are unknown.
            view = {"version_major": 2, "version_minor": 0, "model_id": self.view.model_id}
            publish_display_data({"application/vnd.jupyter.widget-view+json": view})
            still = f'<div class="course-still" id="still-{self.live.model_id}">{bundle["text/html"]}</div>'
            bundle["text/html"] = ONE_OF_TWO + still
        publish_display_data(bundle, metadata)

    def __repr__(self):
        return f"Demo({self.module}: {', '.join(s.name for s in self.sliders)})"


def _packed(value):
    """Arrays anywhere inside dicts and lists, packed."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return pack(value)
    if isinstance(value, dict):
        return {key: _packed(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_packed(inner) for inner in value]
    return value


def _as_text(value, sent=lambda packed: {"base64": base64.b64encode(packed["bytes"]).decode()}):
    """Packed arrays with text in the place of bytes, so that JSON can hold them."""
    if isinstance(value, dict) and "bytes" in value:
        return {"dtype": value["dtype"], "shape": value["shape"], **sent(value)}
    if isinstance(value, dict):
        return {key: _as_text(inner, sent) for key, inner in value.items()}
    return [_as_text(inner, sent) for inner in value] if isinstance(value, list) else value


def deflated(packed):
    """The bytes of a packed array as text, compressed, without loss.

    First bytes of all numbers together, then second bytes, and so on: exponents are alike, so that they compress.
    """
    raw, size = packed["bytes"], 1 if packed["dtype"] == "bool" else np.dtype(packed["dtype"]).itemsize
    planes = b"".join(raw[k::size] for k in range(size))
    return {"planes": size, "base64": base64.b64encode(zlib.compress(planes, 9)).decode()}
