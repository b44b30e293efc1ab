// Drag the knots of a rising curve z = f(x). The sand of N(0, 1) follows: p(x) = N(f(x)) f'(x), in strips of equal area.

const spline = (() => {
  // The knots with both ends; heights that do not rise are pushed up. Slopes are harmonic means, 1 at the ends.
  function knots({ places, end, gap }, heights) {
    const x = [-end, ...places, end], y = [-end], n = heights.length;
    heights.forEach((h, i) => y.push(Math.min(Math.max(h, y[i] + gap), end - gap * (n - i))));
    y.push(end);
    const steep = x.slice(1).map((v, i) => (y[i + 1] - y[i]) / (v - x[i]));
    const slopes = x.map((_, i) => (i === 0 || i === x.length - 1 ? 1 : 2 * steep[i] * steep[i - 1] / (steep[i] + steep[i - 1])));
    return { x, y, slopes, end };
  }
  // [f(x), f'(x)]
  function at({ x, y, slopes, end }, v) {
    if (Math.abs(v) > end) return [v, 1];
    let k = 0;
    while (k < x.length - 2 && v >= x[k + 1]) k++;
    const width = x[k + 1] - x[k], height = y[k + 1] - y[k], s = height / width, xi = (v - x[k]) / width, mixed = xi * (1 - xi);
    const below = s + (slopes[k] + slopes[k + 1] - 2 * s) * mixed;
    return [y[k] + height * (s * xi * xi + slopes[k] * mixed) / below,
      s * s * (slopes[k + 1] * xi * xi + 2 * s * mixed + slopes[k] * (1 - xi) ** 2) / below ** 2];
  }
  const phi = (z) => Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI);
  // P(Z < z) of N(0, 1), to 1e-7 (Abramowitz & Stegun 7.1.26 on the half line).
  function cdf(z) {
    const t = 1 / (1 + 0.3275911 * Math.abs(z) / Math.SQRT2);
    const erf = 1 - ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t * Math.exp(-z * z / 2);
    return 0.5 * (1 + Math.sign(z) * erf);
  }
  return { knots, at, phi, cdf };
})();

function render({ model, el }) {
  const { colour } = course;
  const data = model.get("data"), names = data.places.map((_, i) => `y${i + 1}`);
  const root = course.card(el);
  const asked = course.question(root, {
    ask: "Guess first: make the curve flat around x = 0. What happens to the sand there?",
    options: ["it piles up", "it spreads thin", "nothing"], right: 1,
    answer: "A flat curve sends a wide stretch of x to a narrow stretch of z, which holds little sand. Little sand on a long "
      + "stretch lies thin: p(x) = N(f(x)) f'(x), and f' is small. Where the curve is steep, the sand piles up.",
  });
  const low = -3.7, high = 3.7, side = 300, wide = 330;
  const body = course.node("div", { class: "columns" });
  root.append(body);
  const left = course.node("div", { style: { flex: "1 1 280px", "max-width": `${side}px` } });
  const right = course.node("div", { style: { flex: "1 1 300px", "max-width": `${wide}px` } });
  body.append(left, right);
  const stage = course.stage(left, side, side, "The curve z = f(x) with five knots");
  const sand = course.stage(right, wide, side, "The density of x above, and the Gaussian of z below, in strips of equal area");
  const told = course.node("p", { class: "note", style: { margin: "6px 0 0" } });
  root.append(told, course.node("div", { class: "row", style: { margin: "8px 0 0" } },
    course.button("straight line", () => course.set(model, Object.fromEntries(names.map((n, i) => [n, data.places[i]])))),
    course.button("two bumps", () => course.set(model, { y1: -1, y2: -0.12, y3: 0, y4: 0.12, y5: 1 })),
    course.button("reset", () => { asked.reset(); course.reset(model); paint.again(); }),
    course.node("span", { class: "note", style: { margin: "0" }, text: "Drag the red knots up and down." })));

  const scale = (side - 40) / (high - low);
  const X = (v) => 30 + (v - low) * scale, Y = (v) => side - 26 - (v - low) * scale;
  const knobs = names.map((name, i) => course.handle(stage, { label: `height of the knot at x = ${data.places[i]}`, c: colour.red,
    range: course.range(model, name),
    drag: (_, y) => course.set(model, { [name]: low + (side - 26 - y) / scale }),
    key: (dx, dy) => course.set(model, { [name]: model.get(name) + (dx + dy) * 0.05 }) }));
  const SX = (v) => 24 + (v - low) / (high - low) * (wide - 34);
  const tint = (z) => (Math.min(data.strips - 1, Math.floor(data.strips * spline.cdf(z))) % 2 ? colour.blue : colour.sky);

  function strips(ctx, base, tall, top, density, z) {
    const step = (high - low) / 600;
    for (let i = 0; i < 600; i++) {
      const v = low + (i + 0.5) * step, h = Math.min(tall, density(v) / top * tall);
      ctx.fillStyle = tint(z(v));
      ctx.fillRect(SX(v - step / 2), base - h, (wide - 34) / 600 + 0.4, h);
    }
    ctx.strokeStyle = colour.soft; ctx.lineWidth = 1;
    ctx.beginPath(); ctx.moveTo(24, base); ctx.lineTo(wide - 10, base); ctx.stroke();
    ctx.fillStyle = colour.soft; ctx.textAlign = "center";
    for (const v of [-3, -2, -1, 0, 1, 2, 3]) ctx.fillText(v, SX(v), base + 14);
  }

  const paint = course.painter(model, root, (values) => {
    const curve = spline.knots(data, names.map((n) => values[n])), { ctx } = stage;
    stage.clear();
    ctx.strokeStyle = colour.line; ctx.lineWidth = 1; ctx.fillStyle = colour.soft; ctx.textAlign = "center";
    for (const v of [-3, -2, -1, 0, 1, 2, 3]) {
      ctx.beginPath(); ctx.moveTo(X(v), Y(low)); ctx.lineTo(X(v), Y(high)); ctx.moveTo(X(low), Y(v)); ctx.lineTo(X(high), Y(v)); ctx.stroke();
      ctx.fillText(v, X(v), side - 10);
      ctx.fillText(v, 16, Y(v) + 4);
    }
    ctx.fillText("x", side - 8, side - 10); ctx.fillText("z = f(x)", 56, 14);
    ctx.strokeStyle = colour.blue; ctx.lineWidth = 2.5; ctx.beginPath();
    let total = 0, most = 0;
    for (let i = 0; i <= 1200; i++) {
      const v = low + (high - low) * i / 1200, [f, slope] = spline.at(curve, v), p = spline.phi(f) * slope;
      if (i) ctx.lineTo(X(v), Y(f)); else ctx.moveTo(X(v), Y(f));
      total += p * (high - low) / 1200 * (i === 0 || i === 1200 ? 0.5 : 1); most = Math.max(most, p);
    }
    ctx.stroke();
    total += 2 * spline.cdf(low); // beyond the picture the curve is the identity
    knobs.forEach((knob, i) => knob.place(X(data.places[i]), Y(curve.y[i + 1]), `f(${data.places[i]}) = ${curve.y[i + 1].toFixed(2)}`, values[names[i]]));
    sand.clear();
    strips(sand.ctx, 168, 136, Math.max(0.5, most), (v) => { const [f, slope] = spline.at(curve, v); return spline.phi(f) * slope; }, (v) => spline.at(curve, v)[0]);
    strips(sand.ctx, 280, 62, 0.5, spline.phi, (v) => v);
    sand.ctx.textAlign = "left"; sand.ctx.fillStyle = colour.ink;
    sand.ctx.fillText("p(x)", 26, 20); sand.ctx.fillText("base, over z", 26, 212);
    told.textContent = `${data.strips} strips, each of area 1/${data.strips}, above and below. Total area above: ${total.toFixed(3)}. Highest density: ${most.toFixed(2)}.`;
  });
  return paint.stop;
}

export { spline };
export default { render };
