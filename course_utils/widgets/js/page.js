// The front end of the self-contained form: stands where a widget manager would be, inside one iframe. `render` is the
// demo's own function, joined in front of this text by Python; the page holds what Python sent as JSON.

const page = (() => {
  // Bytes travel compressed and as base64 here, the first bytes of all numbers, then the second ones, and so on; demos
  // expect a DataView, as they get it from a kernel.
  async function unpack(value) {
    if (Array.isArray(value)) return Promise.all(value.map(unpack));
    if (!value || typeof value !== "object") return value;
    if (typeof value.base64 === "string") {
      const packed = Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0)), size = value.planes;
      const inflated = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
      const planes = new Uint8Array(await new Response(inflated).arrayBuffer()), raw = new Uint8Array(planes.length);
      const count = planes.length / size;
      for (let k = 0; k < size; k++) for (let i = 0; i < count; i++) raw[i * size + k] = planes[k * count + i];
      return { dtype: value.dtype, shape: value.shape, bytes: new DataView(raw.buffer) };
    }
    const entries = Object.entries(value).map(async ([key, inner]) => [key, await unpack(inner)]);
    return Object.fromEntries(await Promise.all(entries));
  }

  function makeModel(state) {
    const listeners = {};
    return {
      get: (name) => state[name],
      set(name, value) {
        if (Object.is(state[name], value)) return;
        state[name] = value;
        for (const listener of [...(listeners[`change:${name}`] ?? [])]) listener();
      },
      save_changes() {},
      on(event, listener) { (listeners[event] ??= new Set()).add(listener); },
      off(event, listener) { listeners[event]?.delete(listener); },
    };
  }

  function slider(model, { name, label, low, high, step, digits }) {
    const input = course.node("input", { type: "range", min: low, max: high, step, name, "aria-label": label });
    const number = course.node("output", {});
    const show = () => {
      input.value = model.get(name);
      number.textContent = model.get(name).toFixed(digits);
      input.setAttribute("aria-valuetext", number.textContent);
    };
    input.addEventListener("input", () => { model.set(name, input.valueAsNumber); });
    model.on(`change:${name}`, show);
    show();
    return course.node("label", {}, course.node("span", { text: label }), input, number);
  }

  async function start() {
    const state = await unpack(JSON.parse(document.getElementById("state").textContent));
    const model = makeModel(state);
    const el = document.getElementById("demo");
    render({ model, el });
    document.getElementById("sliders").append(...state.sliders.map((s) => slider(model, s)));
    // Take the place of the static picture, and the height that the content needs. Where the frame is not allowed to see
    // its parent, it tells what it needs; who does not listen shows picture and demo one above the other.
    const height = () => Math.ceil(document.body.getBoundingClientRect().height);
    let fit = () => parent.postMessage({ height: height() }, "*");
    try {
      const frame = window.frameElement;
      frame.previousElementSibling.style.display = "none";
      fit = () => { frame.style.height = `${height()}px`; };
    } catch { /* a frame by itself */ }
    new ResizeObserver(fit).observe(document.body);
    fit();
    window.model = model;
  }
  return { start };
})();
page.start();
