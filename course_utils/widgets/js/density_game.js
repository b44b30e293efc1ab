// The adversarial game on a line: drag the fakes q while the best critic answers, then be the critic yourself.

// The value of a critic with logits a(x), by quadrature; both densities are Gaussian, so the sums are exact to 1e-9.
function gameValue({ mean, std }, mu, sigma, logit, n = 1601) {
  const low = mean - 16 * std, step = 32 * std / (n - 1), norm = 0.5 * Math.log(2 * Math.PI);
  const soft = (t) => Math.max(0, t) + Math.log1p(Math.exp(-Math.abs(t))); // log(1 + e^t)
  let value = 0;
  for (let i = 0; i < n; i++) {
    const x = low + i * step;
    const lp = -0.5 * ((x - mean) / std) ** 2 - Math.log(std) - norm, lq = -0.5 * ((x - mu) / sigma) ** 2 - Math.log(sigma) - norm;
    const a = logit(x, lp, lq);
    value -= Math.exp(lp) * soft(-a) + Math.exp(lq) * soft(a);
  }
  return value * step;
}

// [JS, V(D*) + 2 log 2, V(yours) + 2 log 2] in nats.
function game(data, { mu, sigma, level, tilt, bend }) {
  const best = gameValue(data, mu, sigma, (x, lp, lq) => lp - lq) + 2 * Math.LN2;
  const mine = gameValue(data, mu, sigma, (x) => { const u = (x - data.mean) / data.std; return level + tilt * u + bend * u * u; });
  return [best / 2, best, mine + 2 * Math.LN2];
}

function render({ model, el }) {
  const { colour, clamp } = course;
  const data = model.get("data"), { mean, std } = data;
  const density = (x, m, s) => Math.exp(-0.5 * ((x - m) / s) ** 2) / (s * Math.sqrt(2 * Math.PI));
  const root = course.card(el);
  let critic = false, shown = false;
  const asked = course.question(root, {
    ask: "Guess first: lay the fakes q exactly on the data p. What does the best critic say then?",
    options: ["1: all real", "0: all fake", "½: I cannot tell"], right: 2,
    answer: "Where p and q are equal, real and fake are equally likely, so D* = ½, JS = 0, and the best critic gains nothing over guessing.",
  });
  const roles = course.choices(["you make the fakes", "you are the critic"], (i) => { critic = i === 1; shown = false; paint.again(); }, 0);
  root.append(roles);
  const stage = course.stage(root, 670, 270, "Data p, fakes q and the critic over the line");
  const { ctx, width, height } = stage;
  const [xLow, xHigh] = data.view, base = height - 26, top = 12;
  const yMax = 1.1 * Math.max(1, density(mean, mean, std), density(0, 0, course.range(model, "sigma").low) * 0.75);
  const X = (x) => (x - xLow) / (xHigh - xLow) * width, Y = (y) => base - y / yMax * (base - top);
  const toX = (px) => xLow + px / width * (xHigh - xLow);
  const step = (name) => course.range(model, name).step;
  const centre = course.handle(stage, { label: "centre of the fakes q", c: colour.orange, range: course.range(model, "mu"),
    drag: (px) => course.set(model, { mu: toX(px) }), key: (dx) => course.set(model, { mu: model.get("mu") + dx * step("mu") }) });
  const shoulder = course.handle(stage, { label: "width of the fakes q", c: colour.yellow, range: course.range(model, "sigma"),
    drag: (px) => course.set(model, { sigma: Math.abs(toX(px) - model.get("mu")) }),
    key: (dx, dy) => course.set(model, { sigma: model.get("sigma") + (dx + dy) * step("sigma") }) });
  course.legend(root, { "data p": colour.soft, "fakes q": colour.orange, "best critic D*": colour.blue, "your critic D": colour.red });
  const bars = course.node("div", { class: "bars" });
  root.append(bars);
  const rows = [course.bar(bars, "JS(p, q)", colour.green, Math.LN2), course.bar(bars, "best V + 2 log 2", colour.blue, 2 * Math.LN2),
    course.bar(bars, "your V + 2 log 2", colour.red, 2 * Math.LN2)];
  const reveal = course.button("show D*", () => { shown = true; paint.again(); });
  root.append(course.node("div", { class: "row", style: { margin: "8px 0 0" } }, reveal,
    course.button("reset", () => { critic = false; shown = false; roles.mark(0); asked.reset(); course.reset(model); paint.again(); }),
    course.node("span", { class: "note", style: { margin: "0" },
      text: "As the counterfeiter make JS small. As the critic make your V large with the three D sliders: its logit is a parabola." })));

  function curve(f) {
    ctx.beginPath();
    for (let i = 0; i <= 335; i++) {
      const x = xLow + (xHigh - xLow) * i / 335;
      if (i) ctx.lineTo(X(x), Y(f(x))); else ctx.moveTo(X(x), Y(f(x)));
    }
  }
  function area(f, stroke, fill) {
    curve(f); ctx.lineWidth = 2.5; ctx.strokeStyle = stroke; ctx.stroke();
    ctx.lineTo(X(xHigh), Y(0)); ctx.lineTo(X(xLow), Y(0)); ctx.closePath(); ctx.fillStyle = fill; ctx.fill();
  }

  const paint = course.painter(model, root, (now) => {
    const { mu, sigma, level, tilt, bend } = now;
    stage.clear();
    area((x) => density(x, mean, std), colour.soft, "rgba(95,107,118,.22)");
    area((x) => density(x, mu, sigma), colour.orange, "rgba(230,159,0,.16)");
    ctx.strokeStyle = colour.line; ctx.lineWidth = 1;
    ctx.beginPath(); ctx.moveTo(0, Y(1)); ctx.lineTo(width, Y(1)); ctx.moveTo(0, Y(0.5)); ctx.lineTo(width, Y(0.5)); ctx.stroke();
    if (!critic || shown) {
      ctx.setLineDash([8, 4]);
      curve((x) => 1 / (1 + Math.exp(0.5 * ((x - mean) / std) ** 2 - 0.5 * ((x - mu) / sigma) ** 2 + Math.log(std / sigma))));
      ctx.lineWidth = 2.5; ctx.strokeStyle = colour.blue; ctx.stroke(); ctx.setLineDash([]);
    }
    if (critic) {
      curve((x) => { const u = (x - mean) / std; return 1 / (1 + Math.exp(-(level + tilt * u + bend * u * u))); });
      ctx.lineWidth = 2.5; ctx.strokeStyle = colour.red; ctx.stroke();
    }
    ctx.strokeStyle = colour.soft; ctx.lineWidth = 1; ctx.fillStyle = colour.soft; ctx.textAlign = "center";
    ctx.beginPath(); ctx.moveTo(0, base); ctx.lineTo(width, base); ctx.stroke();
    for (const x of course.ticks(xLow, xHigh)) {
      if (X(x) < 10 || X(x) > width - 24) continue;
      ctx.beginPath(); ctx.moveTo(X(x), base); ctx.lineTo(X(x), base + 5); ctx.stroke(); ctx.fillText(x, X(x), base + 19);
    }
    ctx.fillText("x", width - 8, base + 19);
    ctx.textAlign = "left"; course.write(ctx, "1", 4, Y(1) - 4); course.write(ctx, "½", 4, Y(0.5) - 4);
    centre.place(X(mu), clamp(Y(density(mu, mu, sigma)), 8, base), `centre ${mu.toFixed(2)}`, mu);
    shoulder.place(X(mu + sigma), clamp(Y(density(mu + sigma, mu, sigma)), 8, base), `width ${sigma.toFixed(2)}`, sigma);
    const [js, best, mine] = game(data, now);
    rows[0].show(js, " nats");
    rows[1].show(critic && !shown ? NaN : best, " nats");
    rows[2].show(critic ? mine : NaN, " nats");
    rows[2].mark(critic && shown ? best : null);
    reveal.hidden = !critic;
  });
  return paint.stop;
}

export { game };
export default { render };
