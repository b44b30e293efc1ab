// Move a Gaussian q(z|x) over the exact posterior of a two-dimensional latent and watch both terms of the ELBO.

// What E_q[f] gives to each point of a regular axis when q = N(mu, sigma²): q itself at the points where it is wide
// (the trapezoidal rule), else Gauss–Hermite nodes, each spread over the four points of a cubic interpolation.
function weigh({ step, size }, low, nodes, weights, mu, sigma) {
  const at = (mu - low) / step, s = sigma / step, out = new Float64Array(size);
  if (s < 0.8) {
    nodes.forEach((node, k) => {
      const place = Math.min(size - 2.000001, Math.max(1, at + s * node)), i = Math.floor(place), t = place - i;
      [-t * (t - 1) * (t - 2) / 6, (t + 1) * (t - 1) * (t - 2) / 2, -(t + 1) * t * (t - 2) / 2, (t + 1) * t * (t - 1) / 6]
        .forEach((share, r) => { out[i - 1 + r] += weights[k] * share; });
    });
    return out;
  }
  let sum = 0;
  for (let i = 0; i < size; i++) sum += out[i] = Math.exp(-0.5 * ((i - at) / s) ** 2);
  return out.map((w) => w / sum);
}

// E_q[f] for q = N(mu, diag sigma²) and f on the finest of the square grids, from fine to coarse, that holds all of q.
function expectation(grids, nodes, weights, mu, sigma) {
  const holds = ({ low, step, size }) => low.every((l, k) => mu[k] - 4.5 * sigma[k] >= l
    && mu[k] + 4.5 * sigma[k] <= l + step * (size - 1));
  const grid = grids.find(holds) || grids[grids.length - 1], { size, low, values } = grid;
  const [first, second] = low.map((l, k) => weigh(grid, l, nodes, weights, mu[k], sigma[k]));
  let sum = 0;
  for (let i = 0; i < size; i++) if (first[i] !== 0) {
    let row = 0;
    for (let j = 0; j < size; j++) row += second[j] * values[i * size + j];
    sum += first[i] * row;
  }
  return sum;
}

// Both terms in nats: { reconstruction: E_q[log p(x|z)], kl: KL(q || N(0, I)) } from log p(x, z) on grids.
function terms(grids, nodes, weights, mu, sigma) {
  const square = mu.reduce((sum, m, k) => sum + m * m + sigma[k] * sigma[k], 0);
  const logPrior = -0.5 * square - Math.log(2 * Math.PI);
  const kl = 0.5 * square - 1 - Math.log(sigma[0]) - Math.log(sigma[1]);
  return { reconstruction: expectation(grids, nodes, weights, mu, sigma) - logPrior, kl };
}

function render({ model, el }) {
  const { colour, clamp } = course;
  const data = model.get("data"), [channels, rows, columns] = data.shape, n = rows * columns;
  const decode = network(data.layers), images = course.array(data.images);
  const guess = course.array(data.guess), evidence = data.windows.map((w) => w.log_evidence);
  const square = ({ centre, half, step, size, log_joint }) => ({
    centre, half, step, size, low: centre.map((c) => c - half), values: course.array(log_joint),
  });
  const grids = data.windows.map(square), planes = data.planes.map(square);
  const draws = 5;
  let which = 0, eps = [];
  const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  const redraw = () => { eps = Array.from({ length: draws }, () => [normal(), normal()]); };
  redraw();

  const root = course.card(el);
  const asked = course.question(root, {
    ask: "Guess first: make q very narrow at the best place. Does the ELBO reach log p(x)?",
    options: ["yes, no noise is left", "no, it falls without limit"], right: 1,
    answer: "The picture gets a little better, but KL(q‖prior) contains −log σ: every halving of σ costs 0.69 nats per "
      + "latent. The best q is as wide as the posterior itself; the gap that stays is KL(q‖posterior).",
  });
  const start = course.array(data.start);
  const go = (to) => course.set(model, Object.fromEntries(["mu1", "mu2", "s1", "s2"].map((name, k) => [name, to[which * 4 + k]])));
  const pick = course.choices(data.names, (i) => {
    which = i; heat(); go(start); paint.again();
  }, 0);
  root.append(pick);
  const body = course.node("div", { class: "columns" });
  root.append(body);
  const left = course.node("div", { style: { flex: "1 1 320px", "max-width": "340px" } });
  const right = course.node("div", { style: { flex: "1 1 260px" } });
  body.append(left, right);
  const stage = course.stage(left, 340, 340, "The posterior of the image over the latent plane, and the ellipse of q");
  course.legend(left, { "posterior p(z|x)": colour.blue, "q(z|x)": colour.orange, "encoder's q": colour.ink });
  const gap = 6, small = (306 - gap * (draws - 2)) / 3.4;
  const pictures = course.stage(right, 306, 20 + 92 * rows / columns + 22 + 56 * rows / columns,
    "The image, its reconstruction at the centre of q, and at random places of q");
  const bars = course.node("div", { class: "bars" });
  right.append(bars);
  const full = 1.6 * Math.max(...evidence.map((v) => -v));
  const lost = course.bar(bars, "−E[log p(x|z)]", colour.red, full, 1), paid = course.bar(bars, "KL(q‖prior)", colour.pink, full, 2);
  const total = course.bar(bars, "−ELBO", colour.orange, full, 1), over = course.bar(bars, "KL(q‖posterior)", colour.blue, 20, 2);
  const note = course.node("p", { class: "note", style: { "margin-top": "6px" } });
  right.append(note);
  root.append(course.node("div", { class: "row", style: { margin: "6px 0 0" } },
    course.button("encoder's q", () => go(guess)), course.button("resample ε", () => { redraw(); paint.again(); }),
    course.button("reset", () => { which = 0; pick.mark(0); asked.reset(); heat(); redraw(); course.reset(model); paint.again(); }),
    course.node("span", { class: "note", style: { margin: "0" }, text: "Drag the ellipse by its centre or its two rims." })));

  // The stage shows the window around the posterior; a small map in its corner shows the whole plane.
  const unit = () => 170 / grids[which].half, X = (z) => 170 + (z - grids[which].centre[0]) * unit();
  const Y = (z) => 170 - (z - grids[which].centre[1]) * unit();
  const Z1 = (x) => grids[which].centre[0] + (x - 170) / unit(), Z2 = (y) => grids[which].centre[1] - (y - 170) / unit();
  const step = (name) => course.range(model, name).step;
  const move = (x, y) => course.set(model, { mu1: Z1(x), mu2: Z2(y) });
  const add = (name, by) => course.set(model, { [name]: model.get(name) + by * step(name) });
  course.draggable(stage, stage.canvas, (x, y) => move(x, y), (x, y) => { move(x, y); });
  const centre = course.handle(stage, { label: "mean of q", c: colour.orange, range: course.range(model, "mu1"),
    drag: move, key: (dx, dy) => { add("mu1", dx); add("mu2", dy); } });
  const wide = course.handle(stage, { label: "standard deviation of q along z1", c: colour.yellow,
    range: course.range(model, "s1"), drag: (x) => course.set(model, { s1: (Z1(x) - model.get("mu1")) / 2 }),
    key: (dx, dy) => add("s1", dx + dy) });
  const tall = course.handle(stage, { label: "standard deviation of q along z2", c: colour.yellow,
    range: course.range(model, "s2"), drag: (x, y) => course.set(model, { s2: (Z2(y) - model.get("mu2")) / 2 }),
    key: (dx, dy) => add("s2", dx + dy) });

  // The posterior as a picture, drawn once per image.
  const cloud = course.node("canvas", { width: grids[0].size, height: grids[0].size });
  function heat() {
    const { values, size } = grids[which], own = cloud.getContext("2d"), pixels = own.createImageData(size, size);
    let top = -Infinity;
    for (const value of values) if (value > top) top = value;
    for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) {
      const p = Math.exp(values[i * size + j] - top), at = 4 * ((size - 1 - j) * size + i);
      pixels.data.set([255 * (1 - p), 255 - 141 * p, 255 - 77 * p, 255], at);
    }
    own.putImageData(pixels, 0, 0);
  }
  heat();

  const bitmap = course.bitmap(rows, columns);
  const grey = (v) => 255 * (1 - clamp(v, 0, 1));
  const show = (x, from, at, y, w) => bitmap(pictures.ctx, at, y, w, (j) => (channels === 1 ? Array(3).fill(grey(x[from + j]))
    : [0, 1, 2].map((c) => 255 * clamp(x[from + c * n + j], 0, 1))));

  const paint = course.painter(model, root, ({ mu1, mu2, s1, s2 }) => {
    const { ctx } = stage;
    stage.clear();
    ctx.imageSmoothingEnabled = true;
    ctx.drawImage(cloud, 0, 0, 340, 340);
    ctx.strokeStyle = colour.soft; ctx.fillStyle = colour.soft; ctx.lineWidth = 1; ctx.textAlign = "center";
    ctx.strokeRect(0.5, 0.5, 339, 339);
    for (const [axis, at] of [[0, X], [1, Y]]) {
      const { centre: c, half } = grids[which];
      for (const tick of course.ticks(c[axis] - half, c[axis] + half, 4)) {
        const place = at(tick);
        if (place < 25 || place > (axis === 0 ? 300 : 315)) continue;
        ctx.beginPath();
        if (axis === 0) { ctx.moveTo(place, 340); ctx.lineTo(place, 334); ctx.fillText(tick, place, 329); }
        else { ctx.moveTo(0, place); ctx.lineTo(6, place); ctx.fillText(tick, 22, place + 4); }
        ctx.stroke();
      }
    }
    ctx.fillText("z1", 325, 329); ctx.fillText("z2", 16, 18);
    ctx.strokeStyle = colour.ink; ctx.lineWidth = 2;
    const [gx, gy] = [X(guess[which * 4]), Y(guess[which * 4 + 1])];
    ctx.beginPath(); ctx.moveTo(gx - 6, gy - 6); ctx.lineTo(gx + 6, gy + 6); ctx.moveTo(gx + 6, gy - 6); ctx.lineTo(gx - 6, gy + 6);
    ctx.stroke();
    ctx.strokeStyle = "#b37a00"; ctx.fillStyle = "rgba(230,159,0,.18)";
    for (const r of [1, 2]) {
      ctx.beginPath(); ctx.ellipse(X(mu1), Y(mu2), r * s1 * unit(), r * s2 * unit(), 0, 0, 7); ctx.fill(); ctx.stroke();
    }
    ctx.fillStyle = colour.ink;
    for (const [a, b] of eps) { ctx.beginPath(); ctx.arc(X(mu1 + s1 * a), Y(mu2 + s2 * b), 2.5, 0, 7); ctx.fill(); }
    const map = (z) => 338 - 42 + z / data.reach * 40, mapY = (z) => 2 + 42 - z / data.reach * 40, { centre: c, half } = grids[which];
    ctx.fillStyle = "rgba(255,255,255,.9)"; ctx.fillRect(254, 2, 84, 84);
    ctx.strokeStyle = colour.line; ctx.lineWidth = 1; ctx.strokeRect(254, 2, 84, 84);
    for (const r of [1, 2, 3]) { ctx.beginPath(); ctx.arc(map(0), mapY(0), r / data.reach * 40, 0, 7); ctx.stroke(); }
    ctx.strokeStyle = colour.blue; ctx.lineWidth = 1.5;
    const side = Math.max(2, 2 * half / data.reach * 40);
    ctx.save(); ctx.beginPath(); ctx.rect(254, 2, 84, 84); ctx.clip();
    ctx.strokeRect(map(c[0]) - side / 2, mapY(c[1]) - side / 2, side, side);
    ctx.fillStyle = "#b37a00"; ctx.beginPath(); ctx.arc(map(mu1), mapY(mu2), 2, 0, 7); ctx.fill();
    ctx.restore();
    const inside = (v) => clamp(v, 8, 332); // a handle of an ellipse that is larger than the pad stays in reach
    const spoken = `${mu1.toFixed(2)}, ${mu2.toFixed(2)}`;
    centre.place(inside(X(mu1)), inside(Y(mu2)), `mean ${spoken}`, mu1);
    wide.place(inside(X(mu1 + 2 * s1)), inside(Y(mu2)), `standard deviation ${s1.toFixed(2)}`, s1);
    tall.place(inside(X(mu1)), inside(Y(mu2 + 2 * s2)), `standard deviation ${s2.toFixed(2)}`, s2);

    pictures.clear();
    const write = (text, x, y) => { pictures.ctx.fillStyle = colour.soft; pictures.ctx.fillText(text, x, y); };
    write("x", 0, 13); write("decoded at μ", 104, 13);
    show(images, which * channels * n, 0, 20, 92);
    show(decode([mu1, mu2]), 0, 104, 20, 92);
    const below = 20 + 92 * rows / columns;
    write("decoded at μ + σε", 0, below + 16);
    eps.forEach(([a, b], k) => show(decode([mu1 + s1 * a, mu2 + s2 * b]), 0, k * 62, below + 22, 56));

    const { reconstruction, kl } = terms([grids[which], planes[which]], data.nodes, data.weights, [mu1, mu2], [s1, s2]);
    lost.show(-reconstruction); paid.show(kl); total.show(kl - reconstruction);
    total.mark(-evidence[which]);
    const remains = evidence[which] - reconstruction + kl;
    over.show(remains > -0.05 ? Math.max(0, remains) : remains); // the grids' error may be below 0, but only a little
    note.textContent = `Nats. The mark on −ELBO is −log p(x) = ${(-evidence[which]).toFixed(1)}, by brute force on a grid: `
      + "the bar can touch it, never pass it.";
  });
  return paint.stop;
}

export { terms };
export default { render };
