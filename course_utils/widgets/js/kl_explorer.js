// Drag a Gaussian forecast q over a truth p with several bumps and see both KL divergences and Jensen–Shannon.

// All three divergences in nats by quadrature on the grid: log p at low, low + step, …; exact to about 1e-9 because the
// trapezium rule is for smooth functions that vanish at both ends.
function divergences({ low, step, logP }, mu, sigma) {
  const logScale = Math.log(sigma) + 0.5 * Math.log(2 * Math.PI);
  let forward = 0, backward = 0, toMiddle = 0;
  for (let i = 0; i < logP.length; i++) {
    const u = (low + i * step - mu) / sigma;
    const lp = logP[i], lq = -0.5 * u * u - logScale;
    const p = Math.exp(lp), q = Math.exp(lq);
    const lm = Math.max(lp, lq) + Math.log1p(Math.exp(-Math.abs(lp - lq))) - Math.LN2; // log of the middle, no underflow
    if (p > 0) { forward += p * (lp - lq); toMiddle += p * (lp - lm); }
    if (q > 0) { backward += q * (lq - lp); toMiddle += q * (lq - lm); }
  }
  return [forward * step, backward * step, 0.5 * toMiddle * step];
}

function render({ model, el }) {
  const { colour, clamp } = course;
  const data = model.get("data");
  const grid = { low: data.grid[0], step: data.grid[1], logP: course.array(data.log_p) };
  const density = (x, mu, sigma) => Math.exp(-0.5 * ((x - mu) / sigma) ** 2) / (sigma * Math.sqrt(2 * Math.PI));
  const truth = (x) => {
    const at = (x - grid.low) / grid.step, i = clamp(Math.floor(at), 0, grid.logP.length - 2), f = at - i;
    return (1 - f) * Math.exp(grid.logP[i]) + f * Math.exp(grid.logP[i + 1]);
  };

  const labels = ["KL(p‖q)", "KL(q‖p)", "JS(p, q)"], dashes = [[9, 4], [6, 4], [2, 5]], hues = [colour.blue, colour.red, colour.green];
  const root = course.card(el);
  let revealed = false;
  const asked = course.question(root, {
    ask: "Guess first: make one number as small as you can. Which one puts q between the bumps, where p has almost nothing?",
    options: labels.slice(0, 2), right: 0,
    answer: "KL(p‖q) averages over the truth p: wherever p has mass, q must have some, so q stretches over both bumps. "
      + "KL(q‖p) averages over the forecast q: mass of q where p has none is expensive, so q sits on one bump. "
      + "JS compares both with their middle and never exceeds log 2. Dashed: the best q for each number.",
    told() { revealed = true; found.hidden = false; paint.again(); },
  });

  const stage = course.stage(root, 670, 258, "Densities of the truth p and of the Gaussian forecast q");
  const { ctx, width, height } = stage;
  const [xLow, xHigh] = data.view, base = height - 34, top = 8;
  const X = (x) => (x - xLow) / (xHigh - xLow) * width, Y = (y) => base - y / data.y_max * (base - top);
  const toX = (px) => xLow + px / width * (xHigh - xLow);

  const centre = course.handle(stage, {
    label: "centre of the forecast q", c: colour.orange, range: course.range(model, "mu"),
    drag: (px) => course.set(model, { mu: toX(px) }),
    key: (dx) => course.set(model, { mu: model.get("mu") + dx * course.range(model, "mu").step }),
  });
  const shoulder = course.handle(stage, {
    label: "width of the forecast q", c: colour.yellow, range: course.range(model, "sigma"),
    drag: (px) => course.set(model, { sigma: Math.abs(toX(px) - model.get("mu")) }),
    key: (dx, dy) => course.set(model, { sigma: model.get("sigma") + (dx + dy) * course.range(model, "sigma").step }),
  });

  const bars = course.node("div", { class: "bars" });
  root.append(bars);
  const rows = labels.map((label, k) => course.bar(bars, label, hues[k], k === 2 ? Math.LN2 : data.full));

  const found = course.node("div", { class: "row", hidden: "", style: { margin: "10px 0 0" } },
    course.node("span", { class: "note", text: "Go to the best q for", style: { margin: "0" } }));
  const turn = [0, 0, 0];
  labels.forEach((label, k) => found.append(course.button(label, () => {
    const best = data.best[k][turn[k]++ % data.best[k].length]; // two equally good ones take turns
    course.set(model, { mu: best[0], sigma: best[1] });
  })));
  root.append(found, course.node("div", { class: "row", style: { margin: "8px 0 0" } },
    course.button("reset", () => {
      revealed = false; found.hidden = true; asked.reset(); rows.forEach((row) => row.mark(null));
      course.reset(model); paint.again();
    }),
    course.node("span", { class: "note", style: { margin: "0" },
      text: "Drag the orange top to move q, its yellow shoulder to widen it. Arrow keys work on both." })));

  function curve(f, from = xLow, to = xHigh, n = 335) {
    ctx.beginPath();
    for (let i = 0; i <= n; i++) {
      const x = from + (to - from) * i / n;
      if (i) ctx.lineTo(X(x), Y(f(x))); else ctx.moveTo(X(x), Y(f(x)));
    }
  }
  function area(f, stroke, fill) {
    curve(f);
    ctx.lineWidth = 2.5; ctx.strokeStyle = stroke; ctx.stroke();
    ctx.lineTo(X(xHigh), Y(0)); ctx.lineTo(X(xLow), Y(0)); ctx.closePath();
    ctx.fillStyle = fill; ctx.fill();
  }

  const paint = course.painter(model, root, ({ mu, sigma }) => {
    stage.clear();
    area(truth, colour.soft, "rgba(95,107,118,.22)");
    area((x) => density(x, mu, sigma), colour.orange, "rgba(230,159,0,.16)");
    if (revealed) {
      ctx.lineWidth = 2;
      data.best.forEach((those, k) => those.forEach(([m, s]) => {
        ctx.setLineDash(dashes[k]); ctx.strokeStyle = hues[k];
        curve((x) => density(x, m, s), m - 4 * s, m + 4 * s); ctx.stroke();
      }));
      ctx.setLineDash([]);
    }
    ctx.strokeStyle = colour.soft; ctx.lineWidth = 1; ctx.fillStyle = colour.soft; ctx.textAlign = "center";
    ctx.beginPath(); ctx.moveTo(0, base); ctx.lineTo(width, base); ctx.stroke();
    for (const x of course.ticks(xLow, xHigh)) {
      if (X(x) < 10 || X(x) > width - 24) continue;
      ctx.beginPath(); ctx.moveTo(X(x), base); ctx.lineTo(X(x), base + 5); ctx.stroke();
      ctx.fillText(x, X(x), base + 6 + 13 * stage.zoom);
    }
    ctx.fillText("x", width - 8, base + 6 + 13 * stage.zoom);
    ctx.font = `600 ${14 * stage.zoom}px ${course.font}`;
    ctx.fillStyle = colour.soft; course.write(ctx, "truth p", X(data.label_at[0]), Y(data.label_at[1]) - 8);
    const peak = density(mu, mu, sigma);
    ctx.fillStyle = "#9a6a00";
    course.write(ctx, "forecast q", clamp(X(mu), 40 * stage.zoom, width - 40 * stage.zoom), Math.max(14, Y(peak) - 16));

    centre.place(X(mu), Y(peak), `centre ${mu.toFixed(2)}`, mu);
    shoulder.place(X(mu + sigma), Y(density(mu + sigma, mu, sigma)), `width ${sigma.toFixed(2)}`, sigma);
    divergences(grid, mu, sigma).forEach((value, k) => {
      rows[k].show(value, " nats");
      if (revealed) rows[k].mark(data.lowest[k]);
    });
  });
  return paint.stop;
}

export { divergences };
export default { render };
