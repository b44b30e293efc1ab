// Images of a flow for every temperature and every push along a direction, drawn before: the nearest frame is shown.

function render({ model, el }) {
  const data = model.get("data"), [rows, columns] = data.size, { many, temperatures, strengths, names } = data;
  const frames = course.array(data.frames), pixels = rows * columns;
  const root = course.card(el);
  const asked = course.question(root, {
    ask: "Guess first: as the temperature goes to 0, what do the images become?",
    options: ["noise", "all the same image", "blank paper"], right: 1,
    answer: "At T = 0 every draw is the same point, the middle of the base, and a flow is a function: one point, one image. It has the "
      + "highest density on the base, and no sample at T = 1 ever lies near it.",
  });
  const wide = 660, each = Math.floor(wide / many) - 6;
  const stage = course.stage(root, wide, each * rows / columns + 6, "Images drawn by the flow");
  const told = course.node("p", { class: "note", style: { margin: "6px 0 0" } });
  const row = course.choices(names, (i) => course.set(model, { direction: i }), 0);
  if (names.length > 1) root.append(row);
  root.append(told, course.node("div", { class: "row", style: { margin: "8px 0 0" } },
    course.button("reset", () => { asked.reset(); course.reset(model); paint.again(); }),
    course.node("span", { class: "note", style: { margin: "0" }, text: "One slider scales the noise, the other adds the mean difference of two groups of images." })));
  const nearest = (values, wanted) => values.reduce((best, v, i) => (Math.abs(v - wanted) < Math.abs(values[best] - wanted) ? i : best), 0);
  const bitmap = course.bitmap(rows, columns);
  const paint = course.painter(model, root, ({ temperature, strength, direction = 0 }) => {
    const f = Math.round(direction), t = nearest(temperatures, temperature), s = nearest(strengths, strength);
    stage.clear();
    const from = ((f * temperatures.length + t) * strengths.length + s) * many * pixels;
    for (let m = 0; m < many; m++) {
      bitmap(stage.ctx, m * (each + 6) + 3, 3, each, (j) => { const g = 255 - frames[from + m * pixels + j]; return [g, g, g]; });
    }
    row.mark(f);
    told.textContent = `Shown: T = ${temperatures[t].toFixed(2)}, ${strengths[s] >= 0 ? "+" : "−"}${Math.abs(strengths[s]).toFixed(2)} along “${names[f]}”.`;
  });
  return paint.stop;
}

export default { render };
