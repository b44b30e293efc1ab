// The front end of the self-contained form: stands where a widget manager would be, inside one iframe. `render` is the
// demo's own function, joined in front of this text by Python; the page holds what Python sent as JSON.

const page = (() => {
  // Bytes travel as base64 here; demos expect a DataView, as they get it from a kernel.
  function unpack(value) {
    if (Array.isArray(value)) return value.map(unpack);
    if (!value || typeof value !== "object") return value;
    if (typeof value.base64 === "string") {
      const raw = Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0));
      return { dtype: value.dtype, shape: value.shape, bytes: new DataView(raw.buffer) };
    }
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, unpack(inner)]));
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

  function start() {
    const state = unpack(JSON.parse(document.getElementById("state").textContent));
    const model = makeModel(state);
    const el = document.getElementById("demo");
    render({ model, el });
    document.getElementById("sliders").append(...state.sliders.map((s) => slider(model, s)));
    // Take the place of the static picture, and the height that the content needs. Both fail quietly where the frame is
    // not allowed to see its parent: then picture and demo stand one above the other.
    try {
      const frame = window.frameElement;
      frame.previousElementSibling.style.display = "none";
      const fit = () => { frame.style.height = `${Math.ceil(document.body.getBoundingClientRect().height)}px`; };
      new ResizeObserver(fit).observe(document.body);
      fit();
    } catch { /* shown beside the picture */ }
    return model;
  }
  return { start };
})();
window.model = page.start();
