// Half an image is given; a model paints the rest several times. Temperature and progress follow the hand.

function render({ model, el }) {
  const { colour } = course;
  const data = model.get("data");
  const [rows, columns] = data.size, n = rows * columns, levels = data.levels;
  const [images, steps, many] = data.counts;
  const originals = course.array(data.originals), known = course.array(data.known), endings = course.array(data.endings);
  const bits = data.bits ? course.array(data.bits) : null;
  const order = course.array(data.order), hidden = order.length;
  const rank = new Int32Array(n).fill(-1);
  order.forEach((pixel, i) => { rank[pixel] = i; });
  let which = 0;

  // How many hidden pixels differ between two endings, on average over all pairs: counted per pixel by its levels.
  const varieties = new Map();
  function variety(step) {
    const key = which * steps + step;
    if (varieties.has(key)) return varieties.get(key);
    let equal = 0;
    const count = new Float64Array(levels);
    for (const pixel of order) {
      count.fill(0);
      for (let m = 0; m < many; m++) count[endings[(key * many + m) * n + pixel]]++;
      for (const c of count) equal += c * (c - 1);
    }
    const share = 1 - equal / (hidden * many * (many - 1)); // NaN where there is nothing to compare
    varieties.set(key, share);
    return share;
  }

  const root = course.card(el);
  const asked = course.question(root, {
    ask: "Guess first: every logit is divided by T before a pixel is drawn. "
      + `What happens to the endings as T falls from 1 to ${data.temperatures[0]}?`,
    options: ["they grow alike and clean", "they grow noisy", "they differ more from each other"], right: 0,
    answer: "Dividing by a small T sharpens every prediction, so all endings drift to the same few choices: clean, but "
      + "surer than the model is. (Whether they are also right more often is counted below.) Only T = 1 draws from the model's own p(rest | given half).",
  });
  const pick = course.choices(Array.from({ length: images }, (_, i) => `image ${i + 1}`), (i) => { which = i; paint.again(); }, 0);
  if (images > 1) root.append(pick); // which beginning

  const across = Math.ceil(many / 2), gap = 6, small = (670 - 170 - gap * across) / across;
  const tall = small * rows / columns, big = 150, bigTall = big * rows / columns;
  const height = Math.max(bigTall + 4, Math.ceil(many / across) * (tall + gap));
  const title = course.node("p", { class: "note", style: { margin: "0 0 4px" } });
  root.append(title);
  const stage = course.stage(root, 670, height, "The given half, and the endings a model painted");
  const bitmap = course.bitmap(rows, columns);

  // Given pixels in black ink, painted ones in blue, the rest of the paper grey.
  function drawTile(x, y, w, values, offset, upTo) {
    bitmap(stage.ctx, x, y, w, (j) => {
      const v = values[offset + j] / (levels - 1);
      if (known[j]) return [255 * (1 - v), 255 * (1 - v), 255 * (1 - v)];
      return rank[j] < upTo ? [250 * (1 - v), 252 - v * 138, 255 - v * 77] : [223, 228, 232];
    });
  }

  const bars = course.node("div", { class: "bars", style: { "margin-top": "8px" } });
  root.append(bars);
  const spread = course.bar(bars, "two endings differ in", colour.pink, 50, 1);
  const price = bits ? course.bar(bars, "an ending costs", colour.blue, Math.max(...bits), 0) : null;
  root.append(course.node("div", { class: "row", style: { margin: "10px 0 0" } },
    course.button("reset", () => { which = 0; pick.mark(0); asked.reset(); course.reset(model); paint.again(); }),
    course.node("span", { class: "note", style: { margin: "0" },
      text: "Same random numbers at every temperature, so what changes is the temperature alone." })));

  const paint = course.painter(model, root, ({ temperature, painted }) => {
    let step = 0;
    data.temperatures.forEach((t, k) => {
      if (Math.abs(t - temperature) < Math.abs(data.temperatures[step] - temperature)) step = k;
    });
    const upTo = Math.round(painted * hidden / 100), t = data.temperatures[step];
    stage.clear();
    title.textContent = `Left: given. Right: painted by the model at T = ${t} (blue).`;
    drawTile(0, 1, big, originals, which * n, 0);
    for (let m = 0; m < many; m++) {
      drawTile(170 + (m % across) * (small + gap), 1 + Math.floor(m / across) * (tall + gap), small, endings,
        ((which * steps + step) * many + m) * n, upTo);
    }
    spread.show(100 * variety(step), " % of pixels");
    if (price) {
      let sum = 0;
      for (let m = 0; m < many; m++) sum += bits[(which * steps + step) * many + m];
      price.show(sum / many, " bits");
    }
  });
  return paint.stop;
}

export default { render };
