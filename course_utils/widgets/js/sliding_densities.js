// Two blurred intervals slide apart; Jensen–Shannon and the Wasserstein distance, live and as functions of the place.

// The standard normal distribution function: series near 0, continued fraction in the tails; error below 1e-12.
function normalCdf(t) {
  if (t < -38) return 0;
  if (t > 38) return 1;
  const a = Math.abs(t), density = Math.exp(-0.5 * a * a) / Math.sqrt(2 * Math.PI);
  let tail;
  if (a < 3) {
    let term = a, sum = a;
    for (let k = 1; k < 80; k++) { term *= a * a / (2 * k + 1); sum += term; }
    tail = 0.5 - density * sum;
  } else {
    let f = 0;
    for (let k = 60; k > 0; k--) f = k / (a + f);
    tail = density / (a + f);
  }
  return t < 0 ? tail : 1 - tail;
}

const interval = (x, centre, blur) => (x < centre
  ? normalCdf((x - centre + 0.5) / blur) - normalCdf((x - centre - 0.5) / blur)
  : normalCdf((centre - x + 0.5) / blur) - normalCdf((centre - x - 0.5) / blur));

// JS in nats by quadrature, as in Python.
function jensenShannon(shift, blur, n = 1601) {
  const low = Math.min(0, shift) - 8, high = Math.max(0, shift) + 8, step = (high - low) / (n - 1);
  let sum = 0;
  for (let i = 0; i < n; i++) {
    const x = low + i * step, p = interval(x, 0, blur), q = interval(x, shift, blur), m = (p + q) / 2;
    if (p > 0) sum += p * Math.log(p / m);
    if (q > 0) sum += q * Math.log(q / m);
  }
  return sum * step / 2;
}

function render({ model, el }) {
  const { colour } = course;
  const reach = model.get("data").reach;
  const root = course.card(el);
  const asked = course.question(root, {
    ask: "Guess first: q lies far to the right of p and may move a little. Which number tells it to go left?",
    options: ["JS", "W₁", "both"], right: 1,
    answer: "Without overlap JS is log 2 wherever q lies: flat, no direction. W₁ is the distance itself, so its slope is 1 everywhere. "
      + "Blur lets the two overlap again, and JS gets a slope back.",
  });
  const upper = course.stage(root, 670, 190, "Data p, fakes q and the best critic over the line");
  const lower = course.stage(root, 670, 160, "JS and the Wasserstein distance as functions of the place of q");
  course.legend(root, { "data p": colour.soft, "fakes q": colour.orange, "best critic D*, where there is anything": colour.blue, "JS": colour.green, "W₁": colour.red });
  const bars = course.node("div", { class: "bars" });
  root.append(bars);
  const rows = [course.bar(bars, "JS(p, q)", colour.green, Math.LN2), course.bar(bars, "W₁(p, q)", colour.red, reach)];
  root.append(course.node("div", { class: "row", style: { margin: "8px 0 0" } },
    course.button("reset", () => { asked.reset(); course.reset(model); paint.again(); }),
    course.node("span", { class: "note", style: { margin: "0" }, text: "Drag the orange knob, or the sliders." })));
  const low = -reach - 1.5, high = reach + 1.5, base = 166, X = (x) => (x - low) / (high - low) * 670, Y = (y) => base - y / 1.25 * (base - 8);
  const knob = course.handle(upper, { label: "place of the fakes q", c: colour.orange, range: course.range(model, "shift"),
    drag: (px) => course.set(model, { shift: low + px / 670 * (high - low) }),
    key: (dx) => course.set(model, { shift: model.get("shift") + dx * course.range(model, "shift").step }) });
  const many = 81;
  let curveBlur = null, curve = [];

  const paint = course.painter(model, root, ({ shift, blur }) => {
    const { ctx } = upper;
    upper.clear();
    const line = (f, stroke, fill) => {
      ctx.beginPath();
      let drawn = false; // a curve pauses where it is not defined
      for (let i = 0; i <= 670; i++) {
        const y = f(low + (high - low) * i / 670);
        if (Number.isNaN(y)) drawn = false;
        else if (drawn) ctx.lineTo(i, Y(y)); else { ctx.moveTo(i, Y(y)); drawn = true; }
      }
      ctx.strokeStyle = stroke; ctx.lineWidth = 2.5; ctx.stroke();
      if (fill) { ctx.lineTo(670, base); ctx.lineTo(0, base); ctx.closePath(); ctx.fillStyle = fill; ctx.fill(); }
    };
    line((x) => interval(x, 0, blur), colour.soft, "rgba(95,107,118,.22)");
    line((x) => interval(x, shift, blur), colour.orange, "rgba(230,159,0,.16)");
    ctx.setLineDash([8, 4]);
    line((x) => { const p = interval(x, 0, blur), q = interval(x, shift, blur); return p + q > 1e-6 ? p / (p + q) : NaN; }, colour.blue);
    ctx.setLineDash([]);
    const axis = (c, y, wide) => {
      c.strokeStyle = colour.soft; c.lineWidth = 1; c.fillStyle = colour.soft; c.textAlign = "center";
      c.beginPath(); c.moveTo(0, y); c.lineTo(wide, y); c.stroke();
    };
    axis(ctx, base, 670);
    for (const x of course.ticks(low, high)) if (X(x) > 10 && X(x) < 650) ctx.fillText(x, X(x), base + 17);
    ctx.fillText("x", 662, base + 17);
    knob.place(X(shift), Y(interval(shift, shift, blur)), `place ${shift.toFixed(2)}`, shift);

    if (curveBlur !== blur) { // the trace changes with the blur only
      curve = Array.from({ length: many }, (_, i) => jensenShannon(-reach + 2 * reach * i / (many - 1), blur, 401));
      curveBlur = blur;
    }
    const c = lower.ctx, floor = 136, full = 1.1, PX = (s) => X(s), PY = (v) => floor - v / full * (floor - 10);
    lower.clear();
    c.lineWidth = 2.5;
    c.strokeStyle = colour.green; c.beginPath();
    curve.forEach((v, i) => { const s = -reach + 2 * reach * i / (many - 1); if (i) c.lineTo(PX(s), PY(v / Math.LN2)); else c.moveTo(PX(s), PY(v / Math.LN2)); });
    c.stroke();
    c.strokeStyle = colour.red; c.beginPath(); c.moveTo(PX(-reach), PY(1)); c.lineTo(PX(0), PY(0)); c.lineTo(PX(reach), PY(1)); c.stroke();
    axis(c, floor, 670);
    c.textAlign = "left"; course.write(c, "each over its largest value here", 8, 20); c.textAlign = "center";
    c.fillText("place of q", 335, floor + 18);
    const js = jensenShannon(shift, blur), w = Math.abs(shift);
    for (const [value, hue] of [[js / Math.LN2, colour.green], [w / reach, colour.red]]) {
      c.fillStyle = hue; c.beginPath(); c.arc(PX(shift), PY(value), 5, 0, 7); c.fill();
    }
    rows[0].show(js, " nats");
    rows[1].show(w);
  });
  return paint.stop;
}

export { jensenShannon, normalCdf };
export default { render };
