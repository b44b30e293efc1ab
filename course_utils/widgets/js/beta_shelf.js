// One trained VAE per β: what its latent plane draws, and where it stands between rate and distortion.

function render({ model, el }) {
  const { colour } = course;
  const data = model.get("data"), [rows, columns] = data.size, logs = data.betas.map(Math.log10);
  const sheets = course.array(data.sheets), { rate, distortion } = data, many = logs.length;
  const root = course.card(el);
  const asked = course.question(root, {
    ask: "Guess first: β multiplies the KL. What happens to the pictures of the latent plane as β grows?",
    options: ["they sharpen", "they grow alike, then all equal", "they turn to noise"], right: 1,
    answer: "A large β makes every nat in the code expensive. The encoder says less and less about x, and the decoder answers "
      + "with averages. In the end q(z|x) is the prior for every x: the latent has collapsed.",
  });
  const body = course.node("div", { class: "columns" });
  root.append(body);
  const left = course.node("div", { style: { flex: "1 1 320px", "max-width": "340px" } });
  const right = course.node("div", { style: { flex: "1 1 280px" } });
  body.append(left, right);
  const sheet = course.stage(left, 340, 340 * rows / columns, "Images decoded on a grid over the latent plane");
  const chart = course.stage(right, 310, 220, "Rate against distortion, one dot per β");
  const title = course.node("p", { class: "note", style: { "margin-top": "6px" } });
  const bars = course.node("div", { class: "bars" });
  right.append(title, bars);
  const full = Math.max(...rate.map((r, i) => r + distortion[i]));
  const rows3 = [["distortion", colour.red], ["rate", colour.blue], ["sum = −ELBO", colour.orange]]
    .map(([label, c]) => course.bar(bars, label, c, full, 1));
  root.append(course.node("div", { class: "row", style: { margin: "8px 0 0" } },
    course.button("reset", () => { asked.reset(); course.reset(model); paint.again(); }),
    course.node("span", { class: "note", style: { margin: "0" }, text: "Move the slider, or drag the orange dot along the curve." })));

  const most = (values) => [Math.min(...values), Math.max(...values)];
  const [rLow, rHigh] = most(rate), [dLow, dHigh] = most(distortion);
  const X = (r) => 46 + (r - rLow) / Math.max(1e-9, rHigh - rLow) * 244, Y = (d) => 180 - (d - dLow) / Math.max(1e-9, dHigh - dLow) * 160;
  const nearest = (target, list) => list.reduce((best, v, i) => (Math.abs(v - target) < Math.abs(list[best] - target) ? i : best), 0);
  const knob = course.handle(chart, { label: "β along the curve", c: colour.orange,
    range: course.range(model, "log_beta"), drag: (x) => course.set(model, { log_beta: logs[nearest(x, rate.map(X))] }),
    key: (dx, dy) => course.set(model, { log_beta: logs[Math.min(many - 1, Math.max(0, nearest(model.get("log_beta"), logs) + Math.sign(dx + dy)))] }) });

  const bitmap = course.bitmap(rows, columns);
  const paint = course.painter(model, root, ({ log_beta: at }) => {
    const k = nearest(at, logs), { ctx } = chart;
    sheet.clear();
    bitmap(sheet.ctx, 0, 0, 340, (j) => { const g = 255 - sheets[k * rows * columns + j]; return [g, g, g]; });
    chart.clear();
    ctx.strokeStyle = colour.soft; ctx.lineWidth = 1; ctx.fillStyle = colour.soft; ctx.textAlign = "center";
    ctx.beginPath(); ctx.moveTo(40, 10); ctx.lineTo(40, 188); ctx.lineTo(300, 188); ctx.stroke();
    for (const r of course.ticks(rLow, rHigh, 5)) ctx.fillText(r, X(r), 203);
    ctx.fillText("rate, nats", 170, 218); // KL(q‖prior); distortion is −E[log p(x|z)]
    ctx.textAlign = "right";
    for (const d of course.ticks(dLow, dHigh, 5)) ctx.fillText(d, 36, Y(d) + 4);
    ctx.textAlign = "left"; ctx.fillText("distortion, nats", 62, 14);
    ctx.strokeStyle = colour.sky; ctx.lineWidth = 2; ctx.beginPath();
    rate.forEach((r, i) => (i ? ctx.lineTo(X(r), Y(distortion[i])) : ctx.moveTo(X(r), Y(distortion[i]))));
    ctx.stroke();
    rate.forEach((r, i) => {
      ctx.fillStyle = colour.blue; ctx.beginPath(); ctx.arc(X(r), Y(distortion[i]), 4, 0, 7); ctx.fill();
    });
    knob.place(X(rate[k]), Y(distortion[k]), `beta ${data.betas[k]}`, at);
    title.textContent = `β = ${data.betas[k]}: a code costs ${rate[k].toFixed(1)} nats (${(rate[k] / Math.LN2).toFixed(1)} bits).`;
    rows3[0].show(distortion[k]); rows3[1].show(rate[k]); rows3[2].show(rate[k] + distortion[k]);
  });
  return paint.stop;
}

export default { render };
