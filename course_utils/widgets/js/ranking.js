// Weights for what matters; a bar for each family, made of what each criterion adds, the highest on top.

function render({ model, el }) {
  const { colour } = course, data = model.get("data"), { names, criteria, scores } = data;
  const hues = [colour.blue, colour.orange, colour.green, colour.red, colour.pink, colour.sky, colour.yellow, "#000000"];
  const root = course.card(el);
  const asked = course.question(root, data.question);
  course.legend(root, Object.fromEntries(criteria.map((name, k) => [name, hues[k]])));
  const row = 34, chart = course.stage(root, 660, row * names.length + 26, "A bar for each family, the highest score on top");
  const note = course.node("p", { class: "note", "aria-live": "polite" });
  root.append(note, course.node("div", { class: "row" },
    course.button("reset", () => { asked.reset(); course.reset(model); paint.again(); }),
    ...criteria.map((name, k) => course.button(`only ${name}`, () => {
      course.set(model, Object.fromEntries(criteria.map((_, j) => [`w${j}`, j === k ? 1 : 0])));
    }))));
  const left = 170, wide = 430;
  const paint = course.painter(model, root, (values) => {
    const weights = criteria.map((_, k) => values[`w${k}`]), sum = Math.max(1e-9, weights.reduce((a, b) => a + b, 0));
    const parts = scores.map((one) => one.map((s, k) => s * weights[k] / sum));
    const total = parts.map((one) => one.reduce((a, b) => a + b, 0));
    const order = names.map((_, i) => i).sort((a, b) => total[b] - total[a] || b - a);
    const { ctx } = chart;
    chart.clear();
    order.forEach((i, place) => {
      const y = place * row + 6;
      let x = left;
      ctx.textAlign = "right"; ctx.fillStyle = colour.ink; ctx.fillText(names[i], left - 8, y + 16);
      ctx.fillStyle = "#eef1f4"; ctx.fillRect(left, y, wide, row - 12);
      parts[i].forEach((part, k) => { ctx.fillStyle = hues[k]; ctx.fillRect(x, y, part * wide, row - 12); x += part * wide; });
      ctx.textAlign = "left"; ctx.fillStyle = colour.ink; ctx.fillText(total[i].toFixed(2), left + wide + 8, y + 16);
    });
    ctx.textAlign = "center"; ctx.fillStyle = colour.soft;
    ctx.fillText("score: 0 means last in all that counts, 1 first in all", left + wide / 2, row * names.length + 18);
    root.dataset.first = names[order[0]];
    const tied = order.filter((i) => Math.abs(total[i] - total[order[0]]) < 1e-9).map((i) => names[i]);
    note.textContent = sum < 1e-6 ? "Nothing counts: there is no ranking." : `First: ${tied.join(", ")}.`;
  });
  return paint.stop;
}

export default { render };
