// Particles from noise to a mixture, by the exact velocity and score: the ODE, or an SDE with the same marginals.

// E[x_0 | x_t] on the straight path x_t = t x_0 + (1 - t) eps, in the plane.
function cleanMean({ weights, means, variances }, x, y, t) {
  const a = t * t, noise = (1 - t) * (1 - t), logs = [];
  for (let k = 0; k < weights.length; k++) {
    const vx = a * variances[2 * k] + noise, vy = a * variances[2 * k + 1] + noise;
    const dx = x - t * means[2 * k], dy = y - t * means[2 * k + 1];
    logs.push(Math.log(weights[k]) - 0.5 * (dx * dx / vx + dy * dy / vy + Math.log(vx * vy)));
  }
  const top = Math.max(...logs);
  let sum = 0, mx = 0, my = 0;
  logs.forEach((log, k) => {
    const r = Math.exp(log - top), vx = variances[2 * k], vy = variances[2 * k + 1];
    sum += r;
    mx += r * (means[2 * k] + t * vx / (a * vx + noise) * (x - t * means[2 * k]));
    my += r * (means[2 * k + 1] + t * vy / (a * vy + noise) * (y - t * means[2 * k + 1]));
  });
  return [mx / sum, my / sum];
}

// All particles after a share of the steps; whole steps only.
function walk(world, start, shakes, steps, noise, share) {
  const points = Float64Array.from(start), n = points.length / 2;
  const done = share < 1 ? Math.round(share * steps + 1e-9 - 0.5) : steps;
  for (let k = 0; k < done; k++) {
    const t = k / steps, h = 1 / steps, shake = Math.sqrt(2 * noise * (1 - t) * h);
    for (let i = 0; i < n; i++) {
      const x = points[2 * i], y = points[2 * i + 1], clean = cleanMean(world, x, y, t);
      [x, y].forEach((at, d) => {
        const eps = (at - t * clean[d]) / (1 - t);
        points[2 * i + d] = at + h * (clean[d] - eps) - h * noise * eps + shake * shakes[2 * n * k + 2 * i + d];
      });
    }
  }
  return points;
}

function render({ model, el }) {
  const { colour } = course, data = model.get("data"), reach = data.reach, grid = 60, side = 360;
  const world = { weights: course.array(data.weights), means: course.array(data.means), variances: course.array(data.variances) };
  const start = course.array(data.start), shakes = course.array(data.shakes), n = start.length / 2;
  const root = course.card(el);
  const asked = course.question(root, {
    ask: "Guess first: with four steps, what is wrong with the crowd of the ODE (noise 0)?",
    options: ["it is spread too widely", "it is too narrow", "one cluster stays empty"], right: 1,
    answer: "Each step replaces what is not known yet by its mean, and a mean varies less than what it is the mean of. Few "
      + "steps keep less variance than the truth has: watch the last bar rise towards 1 as you add steps.",
  });
  const body = course.node("div", { class: "columns" });
  root.append(body);
  const left = course.node("div", { style: { flex: "1 1 320px", "max-width": "360px" } });
  const right = course.node("div", { style: { flex: "1 1 240px" } });
  body.append(left, right);
  const stage = course.stage(left, side, side, "Particles over the density they should have at the end");
  const bars = course.node("div", { class: "bars" });
  right.append(course.node("p", { class: "note", text: "Share of particles by nearest cluster; the mark is the truth." }), bars);
  const rows = Array.from(world.weights, (_, k) => course.bar(bars, `cluster ${k + 1}`, course.classes[k], 1, 2));
  const spread = course.bar(bars, "variance / truth", colour.red, 1.5, 2);
  const note = course.node("p", { class: "note", style: { "margin-top": "8px" } });
  let timer = 0;
  const stop = () => { clearInterval(timer); timer = 0; play.textContent = "play"; };
  const play = course.button("play", () => {
    if (timer) return stop();
    let share = 0;
    play.textContent = "stop";
    timer = setInterval(() => { course.set(model, { share }); share += 0.02; if (share > 1.0001) stop(); }, 60);
  });
  right.append(note, course.node("div", { class: "row" }, play,
    course.button("reset", () => { stop(); asked.reset(); course.reset(model); paint.again(); })));
  const truth = Array.from({ length: world.weights.length }, (_, k) => world.weights[k]);
  truth.forEach((w, k) => rows[k].mark(w));
  spread.mark(1);
  const density = new Float64Array(grid * grid);
  let top = 0;
  for (let j = 0; j < grid * grid; j++) {
    const x = ((j % grid) + 0.5) / grid * 2 * reach - reach, y = reach - (Math.floor(j / grid) + 0.5) / grid * 2 * reach;
    truth.forEach((w, k) => {
      const vx = world.variances[2 * k], vy = world.variances[2 * k + 1];
      density[j] += w / Math.sqrt(vx * vy) * Math.exp(-0.5 * ((x - world.means[2 * k]) ** 2 / vx + (y - world.means[2 * k + 1]) ** 2 / vy));
    });
    top = Math.max(top, density[j]);
  }
  const bitmap = course.bitmap(grid, grid);
  const X = (x) => (x + reach) / (2 * reach) * side, Y = (y) => (reach - y) / (2 * reach) * side;
  const paint = course.painter(model, root, ({ steps, noise, share }) => {
    const points = walk(world, start, shakes, steps, noise, share), { ctx } = stage;
    stage.clear();
    bitmap(ctx, 0, 0, side, (j) => { const p = density[j] / top; return [255 - 150 * p, 255 - 100 * p, 255 - 40 * p]; });
    ctx.fillStyle = colour.red;
    const counts = truth.map(() => 0), sums = [0, 0, 0, 0];
    for (let i = 0; i < n; i++) {
      const x = points[2 * i], y = points[2 * i + 1];
      ctx.beginPath(); ctx.arc(X(x), Y(y), 2, 0, 7); ctx.fill();
      let best = 0, least = Infinity;
      truth.forEach((_, k) => {
        const far = (x - world.means[2 * k]) ** 2 + (y - world.means[2 * k + 1]) ** 2;
        if (far < least) { least = far; best = k; }
      });
      counts[best] += 1 / n;
      sums[0] += x / n; sums[1] += y / n; sums[2] += x * x / n; sums[3] += y * y / n;
    }
    counts.forEach((c, k) => rows[k].show(c));
    spread.show((sums[2] + sums[3] - sums[0] ** 2 - sums[1] ** 2) * n / (n - 1) / data.variance);
    note.textContent = `${n} particles, the same first noise each time. ${noise > 0 ? `SDE with s = ${noise.toFixed(1)}` : "ODE"}, `
      + `${steps} steps. With ${n} particles a share is off by ±0.03 by chance.`;
  });
  return () => { stop(); paint.stop(); };
}

export { walk };
export default { render };
