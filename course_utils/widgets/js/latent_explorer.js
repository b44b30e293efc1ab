// Move through the latent space of one or more decoders: a slider per latent, a pad with the encoded data, a live picture.

function render({ model, el }) {
  const { colour, clamp } = course;
  const data = model.get("data"), names = model.get("sliders").map((s) => s.name);
  const [channels, rows, columns] = data.shape, n = rows * columns;
  const labels = course.array(data.labels);
  const models = data.models.map((m) => ({
    ...m, decode: m.layers && network(m.layers), frames: m.frames && course.array(m.frames), codes: course.array(m.codes), shift: course.array(m.shift), scale: course.array(m.scale),
  }));
  const many = labels.length, all = models[0].codes.shape[1], shown = data.latents;
  // Codes are drawn and dragged in the units of the sliders: u = (z − shift) / scale; a VAE's prior needs neither.
  for (const m of models) {
    m.points = new Float32Array(many * all);
    for (let i = 0; i < many; i++) for (let l = 0; l < all; l++) {
      m.points[i * all + l] = (m.codes[i * all + l] - m.shift[l]) / m.scale[l];
    }
    m.jumps = data.classes.map((_, k) => nearestToMean(m.points, k));
  }
  let which = 0, rest = Float32Array.from(data.start), pair = 0;
  const turn = data.classes.map(() => 0);

  // The five codes of class k that lie nearest to their mean, as points.
  function nearestToMean(points, k) {
    const mine = [], mean = new Float32Array(all);
    for (let i = 0; i < many; i++) if (labels[i] === k) mine.push(i);
    for (const i of mine) for (let l = 0; l < all; l++) mean[l] += points[i * all + l] / mine.length;
    const far = (i) => { let d = 0; for (let l = 0; l < all; l++) d += (points[i * all + l] - mean[l]) ** 2; return d; };
    return mine.sort((i, j) => far(i) - far(j)).slice(0, 5).map((i) => points.slice(i * all, (i + 1) * all));
  }

  const root = course.card(el);
  const asked = course.question(root, data.question);
  const pick = course.choices(models.map((m) => m.name), (i) => { which = i; repaintDots(); paint.again(); }, 0);
  pick.prepend(course.node("span", { class: "note", style: { margin: "0" }, text: "Decoder" }));
  if (models.length > 1) root.append(pick);
  const body = course.node("div", { class: "columns" });
  root.append(body);
  const left = course.node("div", { style: { flex: "1 1 320px", "max-width": "340px" } });
  const right = course.node("div", { style: { flex: "1 1 240px", "max-width": "300px" } });
  body.append(left, right);
  const stage = course.stage(left, 340, 340, "Encoded images as dots, coloured by class, in two latent directions");
  const picture = course.stage(right, 240, Math.round(240 * rows / columns), "The decoded image");
  const place = course.node("p", { class: "note", style: { "margin-top": "6px" } });
  const warning = course.node("p", { class: "note" });
  right.append(place, warning);
  if (data.classes.length) course.legend(left, Object.fromEntries(data.classes.map((c, k) => [c, course.classes[k % 10]])));

  const jump = course.node("div", { class: "row", style: { margin: "8px 0" } },
    course.node("span", { class: "note", style: { margin: "0" }, text: models.some((m) => m.drawn) ? "Go to a code that gives" : "Go to an encoded" }));
  data.classes.forEach((name, k) => jump.append(course.button(name, () => {
    const found = models[which].jumps[k];
    if (found.length) goTo(found[turn[k]++ % found.length]);
  }, { "aria-label": `go to ${models.some((m) => m.drawn) ? "a code that gives" : "an encoded"} ${name}` })));
  const pairs = [];
  for (let k = 0; k < shown.length - 1 || k === shown.length - 1 && shown.length % 2; k += 2) {
    pairs.push(k + 1 < shown.length ? [k, k + 1] : [k - 1, k]);
  }
  const axes = course.choices(pairs.map(([a, b]) => `${data.labels_of[a]}, ${data.labels_of[b]}`),
    (i) => { pair = i; repaintDots(); paint.again(); }, 0);
  if (data.classes.length) root.append(jump);
  if (pairs.length > 1) root.append(course.node("div", { class: "row", style: { margin: "0" } },
    course.node("span", { class: "note", text: "The pad shows" }), axes));
  root.append(course.node("div", { class: "row", style: { margin: "4px 0 0" } },
    course.button("random code", () => goTo(Float32Array.from({ length: all }, normal))),
    course.button("reset", () => {
      which = 0; pair = 0; pick.mark(0); axes.mark(0); asked.reset(); rest = Float32Array.from(data.start); turn.fill(0);
      repaintDots(); course.reset(model); paint.again();
    }),
    course.node("span", { class: "note", style: { margin: "0" }, text: "Drag in the pad, or use the sliders or arrow keys." })));

  const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  function goTo(point) {
    rest = Float32Array.from(point);
    course.set(model, Object.fromEntries(names.map((name, k) => [name, point[shown[k]]])));
    paint.again();
  }

  // The pad: `reach` slider units to each side.
  const reach = data.reach, size = stage.width;
  const X = (u) => size / 2 + u / reach * size / 2, Y = (u) => size / 2 - u / reach * size / 2;
  const U = (x) => (x - size / 2) / (size / 2) * reach;
  const move = (x, y) => course.set(model, { [names[pairs[pair][0]]]: U(x), [names[pairs[pair][1]]]: -U(y) });
  const step = () => course.range(model, names[0]).step;
  const knob = course.handle(stage, {
    label: "place in latent space", c: colour.ink, range: course.range(model, names[0]), drag: move,
    key: (dx, dy) => {
      const [a, b] = pairs[pair];
      course.set(model, { [names[a]]: model.get(names[a]) + dx * step(), [names[b]]: model.get(names[b]) + dy * step() });
    },
  });
  course.draggable(stage, stage.canvas, (x, y) => move(x, y), (x, y) => { move(x, y); });

  // Dots and rings do not change while one drags: drawn once, then copied.
  const dots = course.node("canvas", { width: stage.canvas.width, height: stage.canvas.height });
  function repaintDots() {
    const own = dots.getContext("2d"), { points, prior, drawn } = models[which], [a, b] = pairs[pair].map((k) => shown[k]);
    own.setTransform(1, 0, 0, 1, 0, 0);
    own.clearRect(0, 0, dots.width, dots.height);
    own.scale(dots.width / size, dots.height / size);
    own.fillStyle = "#fafbfc"; own.fillRect(0, 0, size, size);
    own.globalAlpha = 0.65;
    let outside = 0;
    for (let i = 0; i < many; i++) {
      outside += Math.max(Math.abs(points[i * all + a]), Math.abs(points[i * all + b])) > reach;
      own.fillStyle = course.classes[labels[i] % 10];
      own.beginPath(); own.arc(X(points[i * all + a]), Y(points[i * all + b]), 1.9, 0, 7); own.fill();
    }
    own.globalAlpha = 1;
    own.strokeStyle = colour.line; own.lineWidth = 1;
    own.beginPath(); own.moveTo(X(0), 0); own.lineTo(X(0), size); own.moveTo(0, Y(0)); own.lineTo(size, Y(0)); own.stroke();
    own.font = `12px ${course.font}`; own.fillStyle = colour.soft; own.strokeStyle = colour.soft;
    if (prior && !drawn) for (const r of [1, 2, 3]) {
      own.setLineDash([4, 4]); own.beginPath(); own.arc(X(0), Y(0), r / reach * size / 2, 0, 7); own.stroke();
      own.setLineDash([]);
      own.textAlign = "left"; course.write(own, r === 1 ? "prior: 1σ" : `${r}σ`, X(r * 0.71) + 2, Y(r * 0.71) - 2);
    }
    if (outside) {
      own.textAlign = "right";
      course.write(own, `${(100 * outside / many).toFixed(1)} % of the codes lie outside`, size - 4, size - 6);
    }
    own.textAlign = "right"; course.write(own, data.labels_of[pairs[pair][0]], size - 4, Y(0) - 5);
    own.textAlign = "left"; course.write(own, data.labels_of[pairs[pair][1]], X(0) + 5, 13);
  }

  // Distance to the nearest encoded image, and how far apart encoded images usually are.
  function nearest(m, point) {
    let best = Infinity;
    for (let i = 0; i < many; i++) {
      let d = 0;
      for (let l = 0; l < all; l++) d += (m.points[i * all + l] - point[l]) ** 2;
      if (d < best) best = d;
    }
    return Math.sqrt(best);
  }

  // A decoder that only Python can run: ask it, and show its last answer, which follows a drag by a few frames. Where
  // an answer has not come for a second, or there is no Python, show the nearest baked frame.
  const ask = course.asker(model, (bytes, question) => {
    const place = `${question.model} ${question.point}`;
    models[question.model].answer = { place, pixels: new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
    clearTimeout(patience);
    patience = place === asked_for ? 0 : wait();
    silent = false;
    root.dataset.answered = JSON.stringify(question.values); // for tests and the latency benchmark
    paint.again();
  });
  let asked_for = "", patience = 0, silent = false;
  const wait = () => setTimeout(() => { silent = true; paint.again(); }, 1000);
  function fromPython(m, point, values) {
    const here = `${which} ${point}`;
    if (ask && here !== asked_for) {
      patience ||= wait();
      ask({ model: which, point: [...point], values });
    }
    asked_for = here;
    const side = m.frames.shape[0] ** 0.5, length = channels * n;
    const at = [0, 1].map((k) => clamp(Math.round((point[shown[k]] + data.reach) / (2 * data.reach) * (side - 1)), 0, side - 1));
    const from = (at[0] * side + at[1]) * length;
    const known = m.answer && (!silent || m.answer.place === here);
    return Float32Array.from(known ? m.answer.pixels : m.frames.subarray(from, from + length), (v) => v / 255);
  }

  const bitmap = course.bitmap(rows, columns), point = new Float32Array(all), z = new Float32Array(all);
  const grey = (v) => 255 * (1 - clamp(v, 0, 1));
  const paint = course.painter(model, root, (values) => {
    const m = models[which];
    point.set(rest);
    names.forEach((name, k) => { point[shown[k]] = values[name]; });
    for (let l = 0; l < all; l++) z[l] = m.shift[l] + m.scale[l] * point[l];
    const x = m.decode ? m.decode(z) : fromPython(m, point, values);
    picture.clear();
    bitmap(picture.ctx, 0, 0, picture.width, channels === 1 ? (j) => { const g = grey(x[j]); return [g, g, g]; }
      : (j) => [255 * clamp(x[j], 0, 1), 255 * clamp(x[n + j], 0, 1), 255 * clamp(x[2 * n + j], 0, 1)]);
    stage.clear();
    stage.ctx.drawImage(dots, 0, 0, size, size);
    const [a, b] = pairs[pair], away = nearest(m, point), far = away > 4 * m.typical;
    knob.place(X(values[names[a]]), Y(values[names[b]]),
      `${data.labels_of[a]} ${values[names[a]].toFixed(2)}, ${data.labels_of[b]} ${values[names[b]].toFixed(2)}`, values[names[a]]);
    const norm = Math.hypot(...point);
    place.textContent = m.drawn ? "Each dot is a code that was drawn, its colour the class read in its image."
      : m.prior ? `‖z‖ = ${norm.toFixed(2)}; under the prior most codes have ‖z‖ near ${Math.sqrt(Math.max(all - 1, 1)).toFixed(1)}.`
      : `${m.name} has no prior: units are standard deviations of its codes.`;
    warning.textContent = m.drawn ? "No image was ever encoded here: there is no encoder." : `Nearest encoded image: ${away.toFixed(2)} away (usual: ${m.typical.toFixed(2)}).`
      + (far && !m.drawn ? " A hole: nothing was encoded near here." : "");
    warning.style.color = far && !m.drawn ? "#b34700" : "";
  });
  repaintDots();
  paint.again();
  return () => { paint.stop(); clearTimeout(patience); if (ask) ask.stop(); };
}

export default { render };
