// An image painted pixel by pixel in a model's order: what the current pixel may look at, what is predicted, what it costs.

function render({ model, el }) {
  const { colour, clamp } = course;
  const data = model.get("data");
  const [rows, columns] = data.size, levels = data.levels, n = rows * columns;
  const image = course.array(data.image);
  const views = data.views.map((view) => {
    const order = course.array(view.order), rank = new Int32Array(n);
    order.forEach((pixel, i) => { rank[pixel] = i; });
    const p = course.array(view.probabilities);
    const bits = Float32Array.from(order, (pixel) => -Math.log2(Math.max(1e-6, p[pixel * levels + image[pixel]])));
    const total = new Float32Array(n + 1);
    bits.forEach((b, i) => { total[i + 1] = total[i] + b; });
    return { name: view.name, order, rank, p, bits, total, context: course.array(view.context) };
  });
  const leaks = ({ context, rank }) => context.some((seen, k) => seen && rank[k % n] >= rank[Math.floor(k / n)]);
  let view = views[0], hovered = -1;

  const root = course.card(el);
  const asked = course.question(root, {
    ask: data.question.ask, options: data.question.options, right: data.question.right, answer: data.question.answer,
  });
  const pick = course.choices(views.map((v) => v.name), (i) => { view = views[i]; paint.again(); }, 0);
  if (views.length > 1) root.append(pick);

  const body = course.node("div", { class: "columns" });
  root.append(body);
  const left = course.node("div", { style: { flex: "1 1 330px", "max-width": "340px" } });
  const right = course.node("div", { style: { flex: "1 1 260px" } });
  body.append(left, right);

  const cell = 340 / Math.max(rows, columns);
  const stage = course.stage(left, columns * cell, rows * cell, "The image, painted up to the current pixel");
  const chart = course.stage(right, 300, 130, "Predicted probabilities of the current pixel");
  const lines = ["where", "sees", "cost", "sum"].map(() => course.node("p", { class: "note" }));
  right.append(...lines);
  course.legend(left, { "looked at": colour.sky, "earlier, never seen": colour.red, "not painted": "#dfe4e8",
    ...(views.some(leaks) && { "a leak: not earlier": colour.pink }) });
  const price = course.node("p", { class: "note", style: { margin: "8px 0 0" } });
  root.append(price);
  const strip = course.stage(root, 670, 50, "Bits each pixel costs, in the order of painting");
  root.append(course.node("div", { class: "row", style: { margin: "6px 0 0" } },
    course.button("reset", () => { view = views[0]; pick.mark(0); asked.reset(); course.reset(model); paint.again(); }),
    course.node("span", { class: "note", style: { margin: "0" },
      text: "Point at a pixel to see what it may look at; click it, or use the arrow keys, to go there." })));

  const pixelAt = (x, y) => clamp(Math.floor(y / cell), 0, rows - 1) * columns + clamp(Math.floor(x / cell), 0, columns - 1);
  const goTo = (pixel) => course.set(model, { painted: view.rank[pixel] });
  stage.layer.addEventListener("pointermove", (event) => { hovered = pixelAt(...stage.position(event)); paint.again(); });
  stage.layer.addEventListener("pointerleave", () => { hovered = -1; paint.again(); });
  course.draggable(stage, stage.canvas, (x, y) => goTo(pixelAt(x, y)), (x, y) => { goTo(pixelAt(x, y)); });
  const cursor = course.handle(stage, {
    label: "current pixel", c: colour.yellow, range: course.range(model, "painted"),
    drag: (x, y) => goTo(pixelAt(x, y)),
    key: (dx, dy) => {
      const now = current(model.get("painted"));
      const row = clamp(Math.floor(now / columns) - dy, 0, rows - 1), column = clamp(now % columns + dx, 0, columns - 1);
      goTo(row * columns + column);
    },
  });
  cursor.classList.add("quiet"); // the frame around the pixel shows where it is
  const along = (x) => course.set(model, { painted: Math.floor(x / strip.width * n) });
  course.draggable(strip, strip.canvas, along, (x) => { along(x); });
  const current = (painted) => view.order[clamp(Math.round(painted), 0, n - 1)];

  const ink = (value) => { const g = Math.round(255 * (1 - value / (levels - 1))); return `rgb(${g},${g},${g})`; };

  function drawImage(painted, pixel) {
    const { ctx } = stage, { rank, context } = view;
    stage.clear();
    for (let j = 0; j < n; j++) {
      const x = (j % columns) * cell, y = Math.floor(j / columns) * cell;
      ctx.fillStyle = rank[j] < painted ? ink(image[j]) : "#dfe4e8";
      ctx.fillRect(x, y, cell + 0.5, cell + 0.5);
      const seen = context[pixel * n + j], earlier = rank[j] < rank[pixel];
      if (!seen && !earlier) continue;
      ctx.globalAlpha = seen && !earlier ? 0.9 : 0.5;
      ctx.fillStyle = seen ? (earlier ? colour.sky : colour.pink) : colour.red;
      ctx.fillRect(x, y, cell + 0.5, cell + 0.5);
      ctx.globalAlpha = 1;
    }
    ctx.strokeStyle = "rgba(31,41,51,.10)"; ctx.lineWidth = 1;
    ctx.beginPath();
    for (let k = 0; k <= columns; k++) { ctx.moveTo(k * cell, 0); ctx.lineTo(k * cell, rows * cell); }
    for (let k = 0; k <= rows; k++) { ctx.moveTo(0, k * cell); ctx.lineTo(columns * cell, k * cell); }
    ctx.stroke();
    ctx.strokeStyle = colour.ink; ctx.lineWidth = 2;
    ctx.strokeRect((pixel % columns) * cell, Math.floor(pixel / columns) * cell, cell, cell);
  }

  function drawChart(pixel) {
    const { ctx, width, height } = chart, base = height - 20;
    chart.clear();
    const wide = (width - 30) / levels;
    ctx.textAlign = "center";
    for (let v = 0; v < levels; v++) {
      const p = view.p[pixel * levels + v], tall = p * (base - 18);
      ctx.fillStyle = v === image[pixel] ? colour.orange : "#9fb3c4";
      ctx.fillRect(30 + v * wide + wide * 0.1, base - tall, Math.max(0.5, wide * 0.8), tall);
      ctx.fillStyle = colour.soft;
      if (levels <= 20 || v % 32 === 0) ctx.fillText(v, 30 + (v + 0.5) * wide, base + 15);
      if (levels <= 3) ctx.fillText(p.toFixed(3), 30 + (v + 0.5) * wide, base - tall - 5);
    }
    ctx.fillStyle = colour.soft; ctx.textAlign = "right";
    ctx.fillText("1", 22, 22); ctx.fillText("p", 22, 60); ctx.fillText("0", 22, base + 3);
    ctx.strokeStyle = colour.soft; ctx.lineWidth = 1;
    ctx.beginPath(); ctx.moveTo(28, 18); ctx.lineTo(28, base); ctx.lineTo(width, base); ctx.stroke();
  }

  function drawStrip(painted) {
    const { ctx, width, height } = strip, base = height - 4, wide = width / n;
    strip.clear();
    const top = Math.max(...view.bits, 1);
    for (let i = 0; i < n; i++) {
      ctx.fillStyle = i < painted ? colour.blue : "#c9d2da";
      const tall = view.bits[i] / top * (base - 2);
      ctx.fillRect(i * wide, base - tall, Math.max(0.6, wide * 0.85), tall);
    }
    ctx.fillStyle = colour.ink;
    ctx.fillRect(Math.min(painted, n - 1) * wide - 0.5, 2, 1.5, base - 2);
  }

  const paint = course.painter(model, root, (values) => {
    const painted = Math.round(values.painted), at = current(painted), pixel = hovered < 0 ? at : hovered;
    drawImage(painted, pixel);
    drawChart(pixel);
    drawStrip(painted);
    price.textContent = `Bits each pixel costs, in the order of painting (highest ${Math.max(...view.bits, 1).toFixed(1)}).`;
    const earlier = view.rank[pixel], cost = view.bits[earlier];
    const looks = [0, 0, 0]; // at earlier pixels, itself, later ones
    for (let j = 0; j < n; j++) if (view.context[pixel * n + j]) looks[1 + Math.sign(view.rank[j] - earlier)]++;
    const leak = [looks[1] && "itself", looks[2] && `${looks[2]} later`].filter(Boolean).join(" and ");
    lines[0].textContent = `Pixel ${earlier + 1} of ${n}: row ${Math.floor(pixel / columns) + 1}, column ${pixel % columns + 1}.`;
    lines[1].textContent = `It looks at ${looks[0]} of the ${earlier} earlier pixels`
      + (leak ? `, and at ${leak}: a leak.` : ".");
    lines[2].textContent = `The image has ${image[pixel]} (orange): −log₂ p = ${cost.toFixed(2)} bits.`;
    lines[3].textContent = `Painted so far: ${view.total[Math.min(painted, n)].toFixed(1)} of ${view.total[n].toFixed(1)} bits.`;
    cursor.place((at % columns + 0.5) * cell, (Math.floor(at / columns) + 0.5) * cell,
      `row ${Math.floor(at / columns) + 1}, column ${at % columns + 1}`, view.rank[at]);
  });
  return paint.stop;
}

export default { render };
