// A noisy point and what it may have been: everything about a mixture of Gaussians under noise is known.

// For x_t = cos x_0 + sin eps: log p_t, the responsibilities, the mean and the total variance of x_0 given x_t.
function inspect({ weights, means, variances }, x, cos, sin) {
  const a = cos * cos, noise = sin * sin, logs = [], centres = [], left = [];
  for (let k = 0; k < weights.length; k++) {
    let log = Math.log(weights[k]);
    for (let d = 0; d < 2; d++) {
      const v = variances[2 * k + d], total = a * v + noise, off = x[d] - cos * means[2 * k + d];
      log -= 0.5 * (off * off / total + Math.log(2 * Math.PI * total));
      centres.push(means[2 * k + d] + cos * v / total * off);
      left.push(v - a * v * v / total);
    }
    logs.push(log);
  }
  const top = Math.max(...logs), sum = logs.reduce((s, l) => s + Math.exp(l - top), 0);
  const shares = logs.map((l) => Math.exp(l - top) / sum), mean = [0, 0];
  let second = 0;
  shares.forEach((r, k) => { for (let d = 0; d < 2; d++) mean[d] += r * centres[2 * k + d]; });
  shares.forEach((r, k) => { for (let d = 0; d < 2; d++) second += r * (left[2 * k + d] + (centres[2 * k + d] - mean[d]) ** 2); });
  return { logp: top + Math.log(sum), shares, mean, variance: second, centres, left };
}

function render({ model, el }) {
  const { colour } = course, data = model.get("data"), reach = data.reach, n = 60, side = 320;
  const world = { weights: course.array(data.weights), means: course.array(data.means), variances: course.array(data.variances) };
  const root = course.card(el);
  const asked = course.question(root, {
    ask: "Guess first: with much noise, where does the arrow of the score point?",
    options: ["to the nearest cluster", "to the middle of all clusters, shrunk", "away from the clusters"], right: 1,
    answer: "Under much noise x_t says little about x_0, so every cluster stays possible and their mean is the middle. With "
      + "little noise only the nearest cluster is possible, and the arrow points into it.",
  });
  const body = course.node("div", { class: "columns" });
  root.append(body);
  const boxes = [0, 1].map(() => course.node("div", { style: { flex: "1 1 300px", "max-width": "320px" } }));
  body.append(...boxes);
  const titles = ["noisy: p_t, the point x_t, the arrow of the score", "clean: p(x₀ | x_t) and its mean ✕"];
  boxes.forEach((box, i) => box.append(course.node("p", { class: "note", text: titles[i] })));
  const left = course.stage(boxes[0], side, side, "The noisy density and the point x_t");
  const right = course.stage(boxes[1], side, side, "Density of the clean point given x_t");
  const X = (x) => (x + reach) / (2 * reach) * side, Y = (y) => (reach - y) / (2 * reach) * side;
  const from = (px) => px / side * 2 * reach - reach;
  const knob = course.handle(left, { label: "noisy point x_t", c: colour.orange, range: course.range(model, "x"),
    drag: (px, py) => course.set(model, { x: from(px), y: -from(py) }),
    key: (dx, dy) => course.set(model, { x: model.get("x") + dx * 0.02, y: model.get("y") + dy * 0.02 }) });
  left.canvas.addEventListener("pointerdown", (event) => {
    const [px, py] = left.position(event);
    course.set(model, { x: from(px), y: -from(py) });
  });
  const bars = course.node("div", { class: "bars", style: { "margin-top": "8px" } });
  root.append(bars);
  const rows = Array.from(world.weights, (_, k) => course.bar(bars, `cluster ${k + 1}`, course.classes[k], 1, 3));
  const spread = course.bar(bars, "variance of x₀ given x_t", colour.soft, 2.5, 3);
  const note = course.node("p", { class: "note", style: { "margin-top": "6px" } });
  root.append(note, course.node("div", { class: "row", style: { margin: "6px 0 0" } },
    course.button("reset", () => { asked.reset(); course.reset(model); paint.again(); }),
    course.node("span", { class: "note", style: { margin: "0" }, text: "Click or drag in the left map. Arrow keys move the point." })));
  const bitmap = course.bitmap(n, n), shade = (p) => [255 - 200 * p, 255 - 140 * p, 255 - 60 * p];
  const heat = (stage, f) => {
    const values = new Float64Array(n * n);
    let top = 0;
    for (let j = 0; j < n * n; j++) {
      const x = ((j % n) + 0.5) / n * 2 * reach - reach, y = reach - (Math.floor(j / n) + 0.5) / n * 2 * reach;
      values[j] = f([x, y]); top = Math.max(top, values[j]);
    }
    stage.clear();
    bitmap(stage.ctx, 0, 0, side, (j) => shade(values[j] / top));
  };
  const paint = course.painter(model, root, ({ angle, x, y }) => {
    const cos = Math.cos(angle * Math.PI / 180), sin = Math.sin(angle * Math.PI / 180);
    const { shares, mean, variance, centres, left: spreads } = inspect(world, [x, y], cos, sin);
    heat(left, (p) => Math.exp(inspect(world, p, cos, sin).logp));
    heat(right, (p) => shares.reduce((sum, r, k) => {
      const [v, w] = [spreads[2 * k], spreads[2 * k + 1]];
      return sum + r / Math.sqrt(v * w) * Math.exp(-0.5 * ((p[0] - centres[2 * k]) ** 2 / v + (p[1] - centres[2 * k + 1]) ** 2 / w));
    }, 0));
    const { ctx } = left, tip = [X(cos * mean[0]), Y(cos * mean[1])], foot = [X(x), Y(y)];
    const turn = Math.atan2(tip[1] - foot[1], tip[0] - foot[0]);
    ctx.strokeStyle = ctx.fillStyle = colour.red; ctx.lineWidth = 3;
    ctx.beginPath(); ctx.moveTo(...foot); ctx.lineTo(...tip); ctx.stroke();
    ctx.beginPath(); ctx.moveTo(...tip);
    for (const s of [-1, 1]) ctx.lineTo(tip[0] - 11 * Math.cos(turn + s * 0.45), tip[1] - 11 * Math.sin(turn + s * 0.45));
    ctx.closePath(); ctx.fill();
    knob.place(...foot, `x_t at ${x.toFixed(2)}, ${y.toFixed(2)}`, x);
    const cross = right.ctx, [mx, my] = [X(mean[0]), Y(mean[1])];
    for (const [c, width] of [["#fff", 6], [colour.red, 3]]) {
      cross.strokeStyle = c; cross.lineWidth = width; cross.beginPath();
      cross.moveTo(mx - 7, my - 7); cross.lineTo(mx + 7, my + 7); cross.moveTo(mx + 7, my - 7); cross.lineTo(mx - 7, my + 7);
      cross.stroke();
    }
    shares.forEach((r, k) => rows[k].show(r));
    spread.show(variance);
    note.textContent = `ᾱ = ${(cos * cos).toFixed(3)}. The arrow is (1 − ᾱ) times the score: it ends at √ᾱ times the mean, `
      + `(${(cos * mean[0]).toFixed(2)}, ${(cos * mean[1]).toFixed(2)}). The bars are p(cluster | x_t).`;
  });
  return paint.stop;
}

export { inspect };
export default { render };
