// A lattice on its way through the layers of a flow: slide the way, pick a point.

function render({ model, el }) {
  const { colour, clamp } = course;
  const data = model.get("data"), side = data.side, n = side * side;
  const flows = data.flows.map((f) => ({ ...f, points: course.array(f.points), log_det: course.array(f.log_det) }));
  const root = course.card(el);
  let own = flows[0];
  const asked = course.question(root, {
    ask: "Guess first: two points end at the same distance from the centre of the noise, one from where data are, one from a gap. Which was squeezed more?",
    options: ["the one from the data", "the one from the gap"], right: 1,
    answer: "log p(x) = log N(z) + log|det|. At equal distance log N(z) is equal, so the point with the smaller p has the smaller log|det|: "
      + "it is bluer. A wide gap has to fit into a narrow seam of the Gaussian. Nothing is torn, so the seam never closes.",
  });
  const row = course.choices(flows.map((f) => f.name), (i) => { own = flows[i]; paint.again(); }, 0);
  if (flows.length > 1) root.append(row);
  const body = course.node("div", { class: "columns" });
  root.append(body);
  const left = course.node("div", { style: { flex: "1 1 400px", "max-width": "440px" } });
  const right = course.node("div", { style: { flex: "1 1 180px" } });
  body.append(left, right);
  const size = 440, end = 5, stage = course.stage(left, size, size, "The lattice, coloured by log|det| so far");
  const bars = course.node("div", { class: "bars" }), told = course.node("p", { class: "note" });
  course.legend(right, { "squeezed, log|det| −3": "rgb(59,76,192)", "as it was, 0": "rgb(221,221,221)", "stretched, +3": "rgb(180,4,38)" });
  right.append(told, bars);
  root.append(course.node("div", { class: "row", style: { margin: "8px 0 0" } },
    course.button("one layer back", () => step(-1)), course.button("one layer on", () => step(1)),
    course.button("reset", () => { asked.reset(); own = flows[0]; row.mark(0); course.reset(model); paint.again(); }),
    course.node("span", { class: "note", style: { margin: "0" }, text: "Drag the black point, or click: the line is its way from x to z." })));
  function step(by) { course.set(model, { way: (Math.round(model.get("way") * own.layers) + by) / own.layers }); }

  const X = (v) => size * (v + end) / (2 * end), Y = (v) => size * (end - v) / (2 * end);
  const now = new Float32Array(2 * n), volume = new Float32Array(n);
  function place(way) {
    const at = way * own.layers, k = Math.min(Math.floor(at), own.layers - 1), part = at - k, a = 2 * n * k, b = a + 2 * n;
    for (let i = 0; i < 2 * n; i++) now[i] = (1 - part) * own.points[a + i] + part * own.points[b + i];
    for (let i = 0; i < n; i++) volume[i] = (1 - part) * own.log_det[n * k + i] + part * own.log_det[n * (k + 1) + i];
  }
  const nearest = (x, y) => {
    let best = 0, least = Infinity;
    for (let i = 0; i < n; i++) { const d = (X(now[2 * i]) - x) ** 2 + (Y(now[2 * i + 1]) - y) ** 2; if (d < least) { least = d; best = i; } }
    return best;
  };
  // From blue over grey to red, as matplotlib's coolwarm does about.
  const ends = [[59, 76, 192], [221, 221, 221], [180, 4, 38]];
  const tint = (v) => {
    const t = clamp(v / 3, -1, 1), [a, b] = t < 0 ? [ends[1], ends[0]] : [ends[1], ends[2]], s = Math.abs(t);
    return `rgb(${a.map((c, i) => Math.round(c + s * (b[i] - c))).join()})`;
  };
  const shades = Array.from({ length: 61 }, (_, i) => tint((i - 30) / 10));
  const knob = course.handle(stage, { label: "the point that is followed", c: colour.ink, range: course.range(model, "picked"),
    drag: (x, y) => course.set(model, { picked: nearest(x, y) }),
    key: (dx, dy) => course.set(model, { picked: clamp(Math.round(model.get("picked")) + dx * side + dy, 0, n - 1) }) });
  stage.canvas.addEventListener("click", (event) => course.set(model, { picked: nearest(...stage.position(event)) }));

  const paint = course.painter(model, root, ({ way, picked }) => {
    const { ctx } = stage, p = Math.round(picked);
    stage.clear();
    place(way);
    ctx.fillStyle = "#fafbfc"; ctx.fillRect(0, 0, size, size);
    ctx.strokeStyle = "rgba(95,107,118,.25)"; ctx.lineWidth = 0.7; ctx.beginPath();
    for (let i = 0; i < side; i += 4) for (let j = 0; j < side; j++) for (const [a, b] of [[i * side + j, 1], [j * side + i, side]]) {
      if (j === side - 1) continue;
      ctx.moveTo(X(now[2 * a]), Y(now[2 * a + 1])); ctx.lineTo(X(now[2 * (a + b)]), Y(now[2 * (a + b) + 1]));
    }
    ctx.stroke();
    for (let i = 0; i < n; i++) {
      ctx.fillStyle = shades[Math.round(10 * clamp(volume[i], -3, 3)) + 30];
      ctx.fillRect(X(now[2 * i]) - 1.7, Y(now[2 * i + 1]) - 1.7, 3.4, 3.4);
    }
    ctx.strokeStyle = colour.ink; ctx.lineWidth = 1.5; ctx.beginPath();
    for (let k = 0; k <= own.layers; k++) {
      const x = X(own.points[2 * (n * k + p)]), y = Y(own.points[2 * (n * k + p) + 1]);
      if (k) ctx.lineTo(x, y); else ctx.moveTo(x, y);
    }
    ctx.stroke();
    ctx.font = `600 13px ${course.font}`; ctx.fillStyle = colour.ink; ctx.textAlign = "left";
    course.write(ctx, `after ${(way * own.layers).toFixed(1)} of ${own.layers} layers`, 10, 18);
    knob.place(clamp(X(now[2 * p]), 4, size - 4), clamp(Y(now[2 * p + 1]), 4, size - 4), `point ${p + 1} of ${n}`, p);
    const at = (k) => `(${own.points[2 * (n * k + p)].toFixed(2)}, ${own.points[2 * (n * k + p) + 1].toFixed(2)})`;
    const x = own.points.slice(2 * (n * own.layers + p), 2 * (n * own.layers + p) + 2), whole = own.log_det[n * own.layers + p];
    const base = -0.5 * (x[0] ** 2 + x[1] ** 2) - Math.log(2 * Math.PI);
    told.textContent = `x = ${at(0)} becomes z = ${at(own.layers)}. log N(z) ${base.toFixed(2)} + log|det| ${whole.toFixed(2)} = log p(x) ${(base + whole).toFixed(2)} nats. Here log|det| so far is ${volume[p].toFixed(2)}.`;
  });
  return paint.stop;
}

export default { render };
