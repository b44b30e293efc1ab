// What the demos share. Python joins this file in front of a demo's module (course_utils/widgets/demo.py), so a demo
// imports nothing and needs no network.
//
// A demo reads sliders with model.get(name) and constants with model.get("data"); it writes with course.set. It draws in
// one function handed to course.painter, which runs at most once a frame and always with the newest values.

const course = (() => {
  // Okabe & Ito (2008), safe for colour-blind readers, and three greys.
  const colour = {
    blue: "#0072B2", orange: "#E69F00", green: "#009E73", red: "#D55E00", pink: "#CC79A7", sky: "#56B4E9",
    yellow: "#F0E442", ink: "#1f2933", soft: "#5f6b76", line: "#d5dbe1",
  };
  const classes = [colour.blue, colour.orange, colour.green, colour.red, colour.pink, colour.sky, "#b8a900", "#000000",
    "#7a5195", "#8c6d46"];
  const font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
  const css = `
.course-demo { background: #fff; color: ${colour.ink}; font: 14px/1.4 ${font}; max-width: 700px; padding: 12px 14px;
  border: 1px solid ${colour.line}; border-radius: 8px; box-sizing: border-box; }
.course-demo * { box-sizing: border-box; }
.course-demo [hidden] { display: none !important; }
.course-demo .row { display: flex; flex-wrap: wrap; gap: 6px 8px; align-items: center; margin: 0 0 8px; }
.course-demo .columns { display: flex; flex-wrap: wrap; gap: 14px; align-items: flex-start; }
.course-demo .note { color: ${colour.soft}; font-size: 13px; margin: 0 0 6px; }
.course-demo .question { font-weight: 600; margin: 0 0 6px; }
.course-demo .answer { background: #f3f7fa; border-left: 3px solid ${colour.blue}; padding: 6px 10px; margin: 0 0 8px; }
.course-demo button { font: inherit; font-size: 13px; color: ${colour.ink}; background: #fff; padding: 3px 10px;
  border: 1px solid #aab4bd; border-radius: 6px; cursor: pointer; }
.course-demo button:hover { background: #eef3f7; }
.course-demo button[aria-pressed=true] { background: ${colour.blue}; border-color: ${colour.blue}; color: #fff; }
.course-demo :focus-visible { outline: 3px solid ${colour.sky}; outline-offset: 1px; }
.course-demo .stage { position: relative; touch-action: none; user-select: none; }
.course-demo .stage canvas { display: block; width: 100%; height: auto; }
.course-demo .handle { position: absolute; width: 30px; height: 30px; margin: -15px 0 0 -15px; border-radius: 50%;
  cursor: grab; touch-action: none; }
.course-demo .handle::after { content: ""; position: absolute; inset: 7px; border-radius: 50%; background: var(--c);
  border: 2px solid #fff; box-shadow: 0 0 0 1px rgba(0,0,0,.45); }
.course-demo .handle:active { cursor: grabbing; }
.course-demo .handle.quiet::after { display: none; }
.course-demo .legend { display: inline-flex; align-items: center; gap: 5px; white-space: nowrap; font-size: 13px; }
.course-demo .legend i { width: 12px; height: 12px; border-radius: 2px; background: var(--c); }
.course-demo .bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: 4px 10px; align-items: center; }
.course-demo .track { position: relative; height: 14px; background: #eef1f4; border-radius: 3px; }
.course-demo .fill { position: absolute; inset: 0 auto 0 0; border-radius: 3px; background: var(--c); }
.course-demo .tick { position: absolute; top: -2px; bottom: -2px; width: 2px; background: ${colour.ink}; }
.course-demo .number { font-variant-numeric: tabular-nums; text-align: right; min-width: 5.5em; }
.course-demo img, .course-demo .pixels { image-rendering: pixelated; }
@media (max-width: 480px) { .course-demo { padding: 10px; } .course-demo .columns { gap: 8px; }
  .course-demo .columns > * { flex: 1 1 100% !important; max-width: 100% !important; } }
`;

  // ---- elements -------------------------------------------------------------------------------------------------------
  // node("button", { text: "reset", onclick }, child, …): the two or three things one needs of a document.
  function node(tag, { text, style, ...attributes } = {}, ...children) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (style) for (const [name, value] of Object.entries(style)) made.style.setProperty(name, value);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  function card(el) {
    const root = node("div", { class: "course-demo" }, node("style", { text: css }));
    el.append(root);
    // Jupyter takes arrow keys for itself unless the focused element carries this mark: give it to the ipywidgets sliders
    // beside us too. The box around us is known once we are in the page, which is when we first have a size.
    new ResizeObserver((_, watcher) => {
      root.closest(".widget-vbox")?.addEventListener("focusin", (event) => {
        event.target.setAttribute("data-lm-suppress-shortcuts", "true");
      });
      watcher.disconnect();
    }).observe(root);
    return root;
  }

  function button(text, onclick, attributes = {}) {
    // Without the second attribute JupyterLab takes the keys for itself.
    return node("button", { text, onclick, type: "button", "data-lm-suppress-shortcuts": "true", ...attributes });
  }

  // A row of buttons of which one is chosen. choose(i) runs on a click; call .mark(i) to show another choice.
  function choices(labels, choose, chosen = -1) {
    const buttons = labels.map((label, i) => button(label, () => { mark(i); choose(i); }));
    const row = node("div", { class: "row", role: "group" }, ...buttons);
    const mark = (i) => buttons.forEach((b, k) => b.setAttribute("aria-pressed", String(k === i)));
    mark(chosen);
    return Object.assign(row, { mark });
  }

  // Predict, then look: a question, its possible answers, and what is told after the guess.
  function question(root, { ask, options, answer, right, told = () => {} }) {
    const reply = node("p", { class: "answer", hidden: "", "aria-live": "polite" });
    const row = choices([...options, "just show me"], (i) => {
      const verdict = i === right ? "Yes. " : i < options.length ? `Not quite: it is ${options[right]}. ` : "";
      reply.textContent = verdict + answer;
      reply.hidden = false;
      told();
    });
    const asked = node("div", { class: "asked" }, node("p", { class: "question", text: ask }), row, reply);
    root.append(asked);
    return { node: asked, reset() { row.mark(-1); reply.hidden = true; } };
  }

  // Which colour means what: legend({ name: colour, … }).
  function legend(parent, entries) {
    const row = node("div", { class: "row", style: { margin: "6px 0" } });
    for (const [text, c] of Object.entries(entries)) {
      row.append(node("span", { class: "legend" }, node("i", { style: { "--c": c } }), node("span", { text })));
    }
    parent.append(row);
  }

  // A labelled bar with its number: bar.show(value). `full` is the value that fills the track.
  function bar(grid, label, c, full, digits = 3) {
    const fill = node("div", { class: "fill", style: { "--c": c } });
    const tick = node("div", { class: "tick", hidden: "" });
    const number = node("div", { class: "number" });
    grid.append(node("div", { text: label }), node("div", { class: "track" }, fill, tick), number);
    return {
      number,
      mark(value) { tick.hidden = value === null; if (value !== null) tick.style.left = `${100 * Math.min(1, value / full)}%`; },
      show(value, unit = "") {
        fill.style.width = `${100 * clamp(value / full || 0, 0, 1)}%`;
        const written = Number.isFinite(value) ? value.toFixed(digits) : "∞";
        number.textContent = Number.isNaN(value) ? "–" : written + unit;
      },
    };
  }

  // ---- numbers from Python --------------------------------------------------------------------------------------------
  function float16(bits) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  // An array packed by Python (demo.pack) as a typed array with a .shape; float16 is widened to float32, bool to bytes.
  function array({ dtype, shape, bytes }) {
    // The view need not start at a multiple of the item size: copy it.
    const raw = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    const kinds = { float64: Float64Array, float32: Float32Array, uint8: Uint8Array, int32: Int32Array };
    let values;
    if (dtype === "float16") {
      const half = new Uint16Array(raw), table = new Map();
      values = Float32Array.from(half, (bits) => {
        let value = table.get(bits);
        if (value === undefined) table.set(bits, value = float16(bits));
        return value;
      });
    } else if (dtype === "bool") {
      const packed = new Uint8Array(raw);
      values = Uint8Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => (packed[i >> 3] >> (7 - i % 8)) & 1);
    } else values = new kinds[dtype](raw);
    return Object.assign(values, { shape });
  }

  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  // ---- values and frames ----------------------------------------------------------------------------------------------
  const names = (model) => model.get("sliders").map((s) => s.name);
  const values = (model) => Object.fromEntries(names(model).map((name) => [name, model.get(name)]));
  const range = (model, name) => model.get("sliders").find((s) => s.name === name);

  // Write slider values, kept in their range and on their steps, so that slider and picture agree to the last digit. The
  // picture does not wait for the kernel, and the kernel hears of it when the hand rests (painter).
  function set(model, changes) {
    for (const [name, value] of Object.entries(changes)) {
      const { low, high, step } = range(model, name);
      const snapped = low + Math.round((value - low) / step) * step;
      model.set(name, clamp(Number(snapped.toFixed(6)), low, high));
    }
  }

  const reset = (model) => set(model, Object.fromEntries(model.get("sliders").map((s) => [s.name, s.value])));

  // An ipywidgets slider tells the kernel of every step of a drag, and so does the trait joined to it. The kernel says to
  // each that it is busy and that it is idle again, and a picture from Python has to wait in that queue. Keep the models
  // that Python lists in "quiet" from telling; returns the function that lets them tell what has changed.
  function quieten(model) {
    const held = [], [own] = model.get("quiet") ?? [];
    // The page that waits for the kernel's end lies beside us. JupyterLab hides it by its style (demo.py), others do not.
    if (own) setTimeout(() => { const still = document.getElementById(`still-${own}`); if (still) still.hidden = true; }, 1000);
    for (const id of model.get("quiet") ?? []) {
      model.widget_manager.get_model(id).then((own) => { own.save_changes = () => {}; held.push(own); });
    }
    return () => { for (const own of held) Object.getPrototypeOf(own).save_changes.call(own); };
  }

  // Run draw(values) once a frame while something changes. Returns { again, stop }: ask for a frame; end for good.
  // Python is told the result when the hand has rested for 150 ms, through the trait "settled".
  function painter(model, root, draw) {
    let frame = 0, timer = 0, stopped = false;
    const tell = quieten(model);
    const paint = () => {
      frame = 0;
      const now = values(model);
      draw(now);
      root.dataset.shown = JSON.stringify(now); // what the frame shows, for tests and the latency benchmark
    };
    const again = () => { if (!frame && !stopped) frame = requestAnimationFrame(paint); };
    const changed = () => {
      again();
      clearTimeout(timer);
      timer = setTimeout(() => { model.set("settled", values(model)); model.save_changes(); tell(); }, 150);
    };
    for (const name of names(model)) model.on(`change:${name}`, changed);
    let wide = 0; // letters follow the width
    const watcher = new ResizeObserver(() => { if (root.clientWidth !== wide) { wide = root.clientWidth; again(); } });
    watcher.observe(root);
    root.model = model; // what was asked for, to compare with what is shown
    paint();
    return {
      again,
      stop() {
        stopped = true;
        watcher.disconnect();
        cancelAnimationFrame(frame);
        clearTimeout(timer);
        for (const name of names(model)) model.off(`change:${name}`, changed);
      },
    };
  }

  // Pictures that only Python can compute: ask(question) sends it, heard(bytes, question) gets the answer. At most three
  // questions are under way, and of those that wait the newest wins. ask.stop() ends it. Null where no kernel listens.
  function asker(model, heard) {
    if (!model.send) return null;
    const id = Math.random(), sent = new Map(); // number -> when
    let number = 0, latest = 0, waiting = null;
    const send = (question) => {
      sent.set(++number, performance.now());
      try { model.send({ ask: [id, number], question }); } catch { /* the kernel is gone: no answer will come */ }
    };
    const listen = ({ answer: [whose, at] = [], question }, buffers) => {
      if (whose !== id || !sent.delete(at)) return; // every view of a demo gets every answer
      if (waiting) { send(waiting); waiting = null; }
      if (at > latest) { latest = at; heard(buffers[0], question); }
    };
    model.on("msg:custom", listen);
    const ask = (question) => {
      for (const [key, when] of sent) if (performance.now() - when > 3000) sent.delete(key); // lost, as after a restart
      if (sent.size < 3) send(question); else waiting = question;
    };
    return Object.assign(ask, { stop: () => model.off("msg:custom", listen) });
  }

  // ---- drawing and dragging -------------------------------------------------------------------------------------------
  // A canvas of width × height drawing units which shrinks with its column, and room for handles on top of it.
  function stage(parent, width, height, label) {
    const scale = Math.max(2, globalThis.devicePixelRatio || 1);
    const canvas = node("canvas", { width: width * scale, height: height * scale, role: "img", "aria-label": label });
    const layer = node("div", { class: "stage", style: { width: "100%", "max-width": `${width}px` } }, canvas);
    parent.append(layer);
    const ctx = canvas.getContext("2d");
    ctx.scale(scale, scale);
    const position = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) * width / box.width, (event.clientY - box.top) * height / box.height];
    };
    // On a narrow screen the drawing shrinks; its letters shrink less, so that they stay readable. zoom: by how much a
    // drawing unit is smaller than a pixel, at most 2; the demo paints again when its width changes (painter).
    const made = { layer, canvas, ctx, width, height, position, zoom: 1, clear() {
      ctx.clearRect(0, 0, width, height); ctx.font = letters;
    } };
    let letters = `13px ${font}`;
    new ResizeObserver(() => {
      made.zoom = clamp(width / (canvas.clientWidth || width), 1, 2);
      letters = `${Math.round(13 * made.zoom)}px ${font}`;
    }).observe(canvas);
    return made;
  }

  // While the left button is down on `target`, call moved(x, y, start) in the stage's units.
  function draggable(stage, target, moved, pressed = () => {}) {
    let start = null;
    target.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      target.setPointerCapture(event.pointerId);
      start = pressed(...stage.position(event)) ?? stage.position(event);
      event.stopPropagation();
      if (event.target === target) target.focus({ preventScroll: true });
    });
    target.addEventListener("pointermove", (event) => { if (start) moved(...stage.position(event), start); });
    for (const end of ["pointerup", "pointercancel"]) target.addEventListener(end, () => { start = null; });
  }

  // A round handle on a stage that a mouse, a finger or the arrow keys move.
  //   range: that of the slider it moves.  drag(x, y): in the stage's units.  key(dx, dy): arrow keys as steps of ±1
  //   (±10 with shift).
  // The painter calls handle.place(x, y, spoken, now) with what it shows; now is that slider's value.
  function handle(stage, { label, c, range: { low, high }, drag, key }) {
    const knob = node("div", { class: "handle", role: "slider", tabindex: "0", "aria-label": label,
      "aria-valuemin": low, "aria-valuemax": high, "data-lm-suppress-shortcuts": "true", style: { "--c": c } });
    stage.layer.append(knob);
    // Keep the distance between pointer and centre, so that the handle does not jump when it is taken at its rim.
    draggable(stage, knob, (x, y, [dx, dy]) => drag(x - dx, y - dy), (x, y) => [x - knob.at[0], y - knob.at[1]]);
    knob.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const size = event.shiftKey ? 10 : 1;
      key(step[0] * size, step[1] * size);
    });
    knob.place = (x, y, spoken, now) => {
      knob.at = [x, y];
      knob.style.left = `${100 * x / stage.width}%`;
      knob.style.top = `${100 * y / stage.height}%`;
      knob.setAttribute("aria-valuetext", spoken);
      knob.setAttribute("aria-valuenow", now);
    };
    return knob;
  }

  // A small image, enlarged without smoothing: paint(ctx, x, y, width, rgb) with rgb(pixel) = [red, green, blue].
  function bitmap(rows, columns) {
    const canvas = node("canvas", { width: columns, height: rows }), own = canvas.getContext("2d");
    const pixels = own.createImageData(columns, rows);
    return (ctx, x, y, width, rgb) => {
      for (let j = 0; j < rows * columns; j++) {
        const [r, g, b] = rgb(j);
        pixels.data[4 * j] = r; pixels.data[4 * j + 1] = g; pixels.data[4 * j + 2] = b; pixels.data[4 * j + 3] = 255;
      }
      own.putImageData(pixels, 0, 0);
      ctx.imageSmoothingEnabled = false;
      ctx.drawImage(canvas, x, y, width, width * rows / columns);
      ctx.strokeStyle = colour.line; ctx.lineWidth = 1;
      ctx.strokeRect(x, y, width, width * rows / columns);
    };
  }

  // Round numbers between low and high for an axis.
  function ticks(low, high, about = 7) {
    const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((m) => m * power >= rough);
    const out = [];
    for (let k = Math.ceil(low / step); k * step <= high + 1e-9 * step; k++) out.push(Number((k * step).toPrecision(12)));
    return out;
  }

  // Text with a white rim, readable on top of curves.
  function write(ctx, text, x, y) {
    ctx.save();
    ctx.lineWidth = 4; ctx.lineJoin = "round"; ctx.strokeStyle = "rgba(255,255,255,.9)";
    ctx.strokeText(text, x, y);
    ctx.restore();
    ctx.fillText(text, x, y);
  }

  return { colour, classes, font, node, card, button, choices, question, legend, bar, array, float16, clamp, values, range, set,
    reset, painter, asker, stage, draggable, handle, bitmap, ticks, write };
})();
