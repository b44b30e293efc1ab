// Two encoded images and the way between them: decoded along the line of codes, and cross-faded pixel by pixel.

function render({ model, el }) {
  const { colour, clamp } = course;
  const data = model.get("data"), [channels, rows, columns] = data.shape, n = rows * columns;
  const decode = network(data.layers), codes = course.array(data.codes), images = course.array(data.images);
  const places = course.array(data.places), labels = course.array(data.labels), [many, latents] = codes.shape;
  const root = course.card(el);
  const asked = course.question(root, {
    ask: "Guess first: halfway between two images, what is the mean of their pixels, and what does the mean of their codes decode to?",
    options: ["the same picture twice", "a double exposure; one new image", "one new image; a double exposure"], right: 1,
    answer: "The mean of pixels shows both images at half ink: no pen ever wrote that. The mean of codes is another code, and a "
      + "decoder that has learned the shape of the data turns it into one image, if the line does not cross a hole.",
  });
  const body = course.node("div", { class: "columns" });
  root.append(body);
  const left = course.node("div", { style: { flex: "1 1 270px", "max-width": "290px" } });
  const right = course.node("div", { style: { flex: "1 1 340px" } });
  body.append(left, right);
  const stage = course.stage(left, 290, 290, "Encoded images as dots; the two ends of the way");
  const wide = 7, small = 45, gap = 3, big = 96;
  const pictures = course.stage(right, 350, 24 + big * rows / columns + 2 * (small * rows / columns + 24) + 8,
    "Images along the way, decoded and cross-faded");
  root.append(course.node("div", { class: "row", style: { margin: "8px 0 0" } },
    course.button("swap", () => course.set(model, { start: end(), end: start() })),
    course.button("random pair", () => course.set(model, { start: pickOne(), end: pickOne() })),
    course.button("reset", () => { asked.reset(); course.reset(model); paint.again(); }),
    course.node("span", { class: "note", style: { margin: "0" }, text: "Drag A and B to other dots, and the dark knob between them." })));
  const pickOne = () => Math.floor(Math.random() * many);
  const start = () => Math.round(model.get("start")), end = () => Math.round(model.get("end"));

  const [xLow, xHigh, yLow, yHigh] = data.frame;
  const X = (i) => 12 + (places[2 * i] - xLow) / (xHigh - xLow) * 266, Y = (i) => 278 - (places[2 * i + 1] - yLow) / (yHigh - yLow) * 266;
  // The dot nearest to a point, and the next dot in a direction of the arrow keys.
  const nearest = (x, y) => {
    let best = 0, least = Infinity;
    for (let i = 0; i < many; i++) { const d = (X(i) - x) ** 2 + (Y(i) - y) ** 2; if (d < least) { least = d; best = i; } }
    return best;
  };
  const next = (from, dx, dy) => {
    let best = from, least = Infinity;
    for (let i = 0; i < many; i++) {
      const right = X(i) - X(from), up = Y(from) - Y(i), along = right * Math.sign(dx) + up * Math.sign(dy);
      const score = Math.hypot(right, up) + Math.abs(dx ? up : right);
      if (along > 0.01 && score < least) { least = score; best = i; }
    }
    return best;
  };
  const ends = [["start", "A, first image", colour.blue, start], ["end", "B, last image", colour.red, end]];
  const knobs = ends.map(([name, label, c, now]) => course.handle(stage, { label, c, range: course.range(model, name),
    drag: (x, y) => course.set(model, { [name]: nearest(x, y) }),
    key: (dx, dy) => course.set(model, { [name]: next(now(), dx, dy) }) }));
  const between = course.handle(stage, { label: "place between A and B", c: colour.ink, range: course.range(model, "t"),
    drag: (x, y) => {
      const [ax, ay, bx, by] = [X(start()), Y(start()), X(end()), Y(end())], length = (bx - ax) ** 2 + (by - ay) ** 2;
      if (length > 0) course.set(model, { t: ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length });
    },
    key: (dx, dy) => course.set(model, { t: model.get("t") + (dx + dy) * 0.02 }) });

  const bitmap = course.bitmap(rows, columns), z = new Float32Array(latents), mix = new Float32Array(channels * n);
  const grey = (v) => 255 * (1 - clamp(v, 0, 1));
  const show = (x, at, y, w) => bitmap(pictures.ctx, at, y, w, (j) => (channels === 1 ? Array(3).fill(grey(x[j]))
    : [0, 1, 2].map((c) => 255 * clamp(x[c * n + j], 0, 1))));
  const decoded = (a, b, t) => { for (let l = 0; l < latents; l++) z[l] = (1 - t) * codes[a * latents + l] + t * codes[b * latents + l]; return decode(z); };
  const faded = (a, b, t) => { for (let j = 0; j < mix.length; j++) mix[j] = (1 - t) * images[a * mix.length + j] + t * images[b * mix.length + j]; return mix; };

  // The seven steps of the way change with A and B only: kept until they do.
  const kept = course.node("canvas", { width: pictures.canvas.width, height: pictures.canvas.height });
  let way = "";

  const paint = course.painter(model, root, ({ t }) => {
    const a = start(), b = end(), { ctx } = stage;
    stage.clear();
    ctx.fillStyle = "#fafbfc"; ctx.fillRect(0, 0, 290, 290);
    for (let i = 0; i < many; i++) {
      ctx.fillStyle = course.classes[labels[i] % 10]; ctx.globalAlpha = 0.7;
      ctx.beginPath(); ctx.arc(X(i), Y(i), 3, 0, 7); ctx.fill();
    }
    ctx.globalAlpha = 1; ctx.strokeStyle = colour.ink; ctx.lineWidth = 1.5;
    ctx.beginPath(); ctx.moveTo(X(a), Y(a)); ctx.lineTo(X(b), Y(b)); ctx.stroke();
    ctx.font = `600 14px ${course.font}`; ctx.textAlign = "center";
    for (const [letter, i, c] of [["A", a, colour.blue], ["B", b, colour.red]]) { // below a dot at the upper edge
      ctx.fillStyle = c; course.write(ctx, letter, clamp(X(i), 9, 281), Y(i) < 32 ? Y(i) + 25 : Y(i) - 13);
    }
    knobs[0].place(X(a), Y(a), `image ${a + 1} of ${many}, class ${labels[a]}`, a);
    knobs[1].place(X(b), Y(b), `image ${b + 1} of ${many}, class ${labels[b]}`, b);
    between.place(X(a) + t * (X(b) - X(a)), Y(a) + t * (Y(b) - Y(a)), `${Math.round(100 * t)} per cent of the way`, t);

    pictures.clear();
    const p = pictures.ctx, write = (text, x, y) => { p.fillStyle = colour.soft; p.textAlign = "left"; p.fillText(text, x, y); };
    write(`codes mixed, t = ${t.toFixed(2)}`, 0, 14); write("pixels mixed", 180, 14);
    show(decoded(a, b, t), 0, 20, big); show(faded(a, b, t), 180, 20, big);
    const first = 20 + big * rows / columns + 22, second = first + small * rows / columns + 24, from = first - 20;
    if (way !== `${a} ${b}`) {
      way = `${a} ${b}`;
      write("A to B through codes", 0, first - 6); write("A to B through pixels", 0, second - 6);
      for (let k = 0; k < wide; k++) {
        show(decoded(a, b, k / (wide - 1)), k * (small + gap), first, small);
        show(faded(a, b, k / (wide - 1)), k * (small + gap), second, small);
      }
      const own = kept.getContext("2d");
      own.clearRect(0, 0, kept.width, kept.height);
      own.drawImage(pictures.canvas, 0, 0);
      return;
    }
    const top = from * kept.height / pictures.height;
    p.drawImage(kept, 0, top, kept.width, kept.height - top, 0, from, pictures.width, pictures.height - from);
  });
  return paint.stop;
}

export default { render };
