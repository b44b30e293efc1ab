// One image, one fixed noise, any time: x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps.

function render({ model, el }) {
  const { colour } = course, data = model.get("data");
  const images = course.array(data.images), noise = course.array(data.noise), curves = course.array(data.curves);
  const [, rows, columns] = images.shape, last = curves.shape[1] - 1, hues = [colour.blue, colour.orange, colour.green];
  const alpha = (which, t) => curves[which * (last + 1) + t];
  const root = course.card(el);
  let which = 0, image = 0;
  const asked = course.question(root, data.question);
  const pick = course.choices(data.names, (i) => { which = i; paint.again(); }, 0);
  const next = course.button("another image", () => { image = (image + 1) % images.shape[0]; paint.again(); });
  root.append(pick);
  const body = course.node("div", { class: "columns" });
  root.append(body);
  const left = course.node("div", { style: { flex: "1 1 220px", "max-width": "250px" } });
  const right = course.node("div", { style: { flex: "1 1 320px", "max-width": "400px" } });
  body.append(left, right);
  const picture = course.stage(left, 250, 250 * rows / columns, "The image under noise");
  const chart = course.stage(right, 400, 220, "Alpha-bar over time, with a cursor");
  const bars = course.node("div", { class: "bars" });
  right.append(bars);
  const signal = course.bar(bars, "signal √ᾱ", colour.blue, 1, 3), size = course.bar(bars, "noise √(1−ᾱ)", colour.red, 1, 3);
  const note = course.node("p", { class: "note", style: { "margin-top": "6px" } });
  root.append(note, course.node("div", { class: "row" },
    course.button("reset", () => { which = image = 0; pick.mark(0); asked.reset(); course.reset(model); paint.again(); }), next));
  const bitmap = course.bitmap(rows, columns);
  const X = (t) => 40 + t / last * 345, Y = (a) => 185 - a * 165;
  const knob = course.handle(chart, { label: "time t", c: colour.orange, range: course.range(model, "t"),
    drag: (px) => course.set(model, { t: (px - 40) / 345 * last }),
    key: (dx, dy) => course.set(model, { t: model.get("t") + (dx + dy) * course.range(model, "t").step }) });
  const paint = course.painter(model, root, ({ t: wanted }) => {
    const t = Math.min(last, Math.round(wanted)), a = alpha(which, t), s = Math.sqrt(a), e = Math.sqrt(1 - a), { ctx } = chart;
    picture.clear();
    bitmap(picture.ctx, 0, 0, 250, (j) => {
      const g = 255 * (0.5 - course.clamp(s * images[image * rows * columns + j] + e * noise[j], -2.5, 2.5) / 5);
      return [g, g, g];
    });
    chart.clear();
    ctx.strokeStyle = colour.soft; ctx.fillStyle = colour.soft; ctx.lineWidth = 1; ctx.textAlign = "center";
    ctx.beginPath(); ctx.moveTo(40, 12); ctx.lineTo(40, 185); ctx.lineTo(390, 185); ctx.stroke();
    for (const tick of course.ticks(0, last, 5)) ctx.fillText(tick, X(tick), 201);
    ctx.fillText("t", 388, 216); ctx.textAlign = "right";
    for (const tick of [0, 0.5, 1]) ctx.fillText(tick, 35, Y(tick) + 4);
    ctx.textAlign = "left"; ctx.fillText("ᾱ", 46, 18);
    data.names.forEach((_, k) => {
      ctx.strokeStyle = hues[k % 3]; ctx.lineWidth = k === which ? 3 : 1.2; ctx.beginPath();
      for (let i = 0; i <= 200; i++) { const at = Math.round(i / 200 * last); ctx.lineTo(X(at), Y(alpha(k, at))); }
      ctx.stroke();
    });
    ctx.strokeStyle = colour.soft; ctx.lineWidth = 1; ctx.beginPath(); ctx.moveTo(X(t), 12); ctx.lineTo(X(t), 185); ctx.stroke();
    knob.place(X(t), Y(a), `time ${t}`, t);
    signal.show(s); size.show(e);
    const snr = a / (1 - a);
    note.textContent = `t = ${t}, ᾱ = ${a.toFixed(4)}, SNR = ${snr > 1e4 ? "∞" : snr.toPrecision(3)}`
      + `${snr > 0 && snr < 1e4 ? `, log SNR = ${Math.log(snr).toFixed(2)}` : ""}. The noise is the same at every t.`;
  });
  return paint.stop;
}

export default { render };
