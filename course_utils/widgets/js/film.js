// Frames drawn beforehand, under a slider: sheets of images side by side.

function render({ model, el }) {
  const data = model.get("data"), sheets = course.array(data.sheets), [many, panels, rows, columns, channels] = sheets.shape;
  const root = course.card(el);
  const asked = data.question ? course.question(root, data.question) : null;
  const title = course.node("p", { class: "question" });
  const body = course.node("div", { class: "columns" });
  root.append(title, body);
  const width = Math.floor((670 - 14 * (panels - 1)) / panels), height = width * rows / columns;
  const stages = data.names.map((name) => {
    const box = course.node("div", { style: { flex: `1 1 ${Math.min(width, 200)}px`, "max-width": `${width}px` } });
    box.append(course.node("p", { class: "note", text: name }));
    body.append(box);
    return course.stage(box, width, height, name);
  });
  root.append(course.node("div", { class: "row", style: { margin: "8px 0 0" } },
    course.button("reset", () => { asked?.reset(); course.reset(model); paint.again(); }),
    course.button("‹", () => course.set(model, { moment: model.get("moment") - 1 }), { "aria-label": "frame before" }),
    course.button("›", () => course.set(model, { moment: model.get("moment") + 1 }), { "aria-label": "next frame" })));
  const bitmap = course.bitmap(rows, columns);
  const paint = course.painter(model, root, ({ moment }) => {
    const k = course.clamp(Math.round(moment), 0, many - 1);
    title.textContent = `${data.axis} = ${data.values[k]}`;
    stages.forEach((stage, p) => {
      const first = (k * panels + p) * rows * columns * channels;
      stage.clear();
      bitmap(stage.ctx, 0, 0, width, (j) => {
        const at = first + channels * j;
        if (channels === 3) return [sheets[at], sheets[at + 1], sheets[at + 2]];
        const grey = 255 - sheets[at];                             // one channel is ink on paper
        return [grey, grey, grey];
      });
    });
  });
  return paint.stop;
}

export default { render };
