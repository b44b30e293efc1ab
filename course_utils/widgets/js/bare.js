// The least a demo can do: a handle, its number in a frame, and one byte from the kernel. The latency benchmark measures
// it beside the real demos, because what it takes is the browser's, Jupyter's and the machine's.

function render({ model, el }) {
  const root = course.card(el), stage = course.stage(root, 300, 60, "A handle and nothing else");
  const knob = course.handle(stage, { label: "x", c: course.colour.blue, range: course.range(model, "x"),
    drag: (x) => course.set(model, { x: x / 300 }), key: (dx) => course.set(model, { x: model.get("x") + dx / 300 }) });
  const ask = model.get("data").asks && course.asker(model, (_, values) => { root.dataset.answered = JSON.stringify(values); });
  const paint = course.painter(model, root, (values) => {
    knob.place(300 * values.x, 30, `${values.x}`, values.x);
    if (ask) ask(values);
  });
  return () => { paint.stop(); if (ask) ask.stop(); };
}

export default { render };
