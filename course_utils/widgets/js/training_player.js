// A generator and a critic in the plane, trained here: step D, step G, or let both run.

// ---- two networks of three layers, float64, leaky units with slope 0.2 ------------------------------------------------
const LEAK = 0.2;

function net(layers) {
  const own = layers.map(({ weight, bias }) => {
    const [out, inn] = weight.shape;
    return { out, inn, w: Float64Array.from(weight), b: Float64Array.from(bias) };
  });
  for (const l of own) {
    l.gw = new Float64Array(l.w.length); l.gb = new Float64Array(l.out);
    l.mw = new Float64Array(l.w.length); l.vw = new Float64Array(l.w.length);
    l.mb = new Float64Array(l.out); l.vb = new Float64Array(l.out);
  }
  return { layers: own, steps: 0 };
}

// Outputs (n × out), and per layer its input and the slopes of its units, for the way back.
function forward(network, x, n) {
  const kept = [];
  let input = x;
  network.layers.forEach((l, k) => {
    const last = k === network.layers.length - 1, output = new Float64Array(n * l.out), slope = new Float64Array(n * l.out).fill(1);
    for (let i = 0; i < n; i++) for (let o = 0; o < l.out; o++) {
      let sum = l.b[o];
      for (let j = 0; j < l.inn; j++) sum += l.w[o * l.inn + j] * input[i * l.inn + j];
      const at = i * l.out + o;
      if (!last && sum < 0) { sum *= LEAK; slope[at] = LEAK; }
      output[at] = sum;
    }
    kept.push({ input, slope });
    input = output;
  });
  return { output: input, kept };
}

// Adds the gradients of sum(output · outer) to the layers' own, unless `weights` is false; returns that by the input.
function backward(network, kept, outer, n, weights = true) {
  let back = outer;
  for (let k = network.layers.length - 1; k >= 0; k--) {
    const l = network.layers[k], { input, slope } = kept[k], next = new Float64Array(n * l.inn);
    for (let i = 0; i < n; i++) for (let o = 0; o < l.out; o++) {
      const g = back[i * l.out + o] * slope[i * l.out + o];
      if (g === 0) continue;
      if (weights) l.gb[o] += g;
      for (let j = 0; j < l.inn; j++) {
        if (weights) l.gw[o * l.inn + j] += g * input[i * l.inn + j];
        next[i * l.inn + j] += g * l.w[o * l.inn + j];
      }
    }
    back = next;
  }
  return back;
}

// R1: gamma/2 · mean |grad D|². The slopes of leaky units are constant almost everywhere, so the gradient g of D is a
// product of matrices, and the derivative of |g|²/2 by each weight is (what comes from above) × (g sent down to there).
function addR1(network, kept, n, gamma) {
  const depth = network.layers.length;
  let total = 0;
  for (let i = 0; i < n; i++) {
    const above = new Array(depth); // derivative of D(x_i) by the sum of each unit of layer k
    let back = Float64Array.of(1);
    for (let k = depth - 1; k >= 0; k--) {
      const l = network.layers[k];
      above[k] = back.map((value, o) => value * kept[k].slope[i * l.out + o]);
      const next = new Float64Array(l.inn);
      for (let o = 0; o < l.out; o++) for (let j = 0; j < l.inn; j++) next[j] += above[k][o] * l.w[o * l.inn + j];
      back = next;
    }
    total += back.reduce((sum, value) => sum + value * value, 0);
    let sent = back.map((value) => value * gamma / n); // g, sent forward through the linear part of the network
    for (let k = 0; k < depth; k++) {
      const l = network.layers[k], next = new Float64Array(l.out);
      for (let o = 0; o < l.out; o++) for (let j = 0; j < l.inn; j++) {
        l.gw[o * l.inn + j] += above[k][o] * sent[j];
        next[o] += l.w[o * l.inn + j] * sent[j];
      }
      sent = next.map((value, o) => value * kept[k].slope[i * l.out + o]);
    }
  }
  return gamma / 2 * total / n;
}

function clearGradients(network) { for (const l of network.layers) { l.gw.fill(0); l.gb.fill(0); } }

function adam(network, rate, b1 = 0.5, b2 = 0.9) {
  const t = ++network.steps, c1 = 1 - b1 ** t, c2 = 1 - b2 ** t;
  for (const l of network.layers) for (const [w, g, m, v] of [[l.w, l.gw, l.mw, l.vw], [l.b, l.gb, l.mb, l.vb]]) {
    for (let i = 0; i < w.length; i++) {
      m[i] = b1 * m[i] + (1 - b1) * g[i]; v[i] = b2 * v[i] + (1 - b2) * g[i] * g[i];
      w[i] -= rate * (m[i] / c1) / (Math.sqrt(v[i] / c2) + 1e-8);
    }
  }
}

const sigmoid = (t) => 1 / (1 + Math.exp(-t));
const soft = (t) => Math.max(0, t) + Math.log1p(Math.exp(-Math.abs(t)));

// The critic's loss and, in its layers, the gradients: mean softplus(-D(x)) + softplus(D(G(z))) + R1.
function criticGradients(generator, critic, real, codes, n, gamma) {
  clearGradients(critic);
  const a = forward(critic, real, n), fakes = forward(generator, codes, n).output, b = forward(critic, fakes, n);
  let loss = 0;
  for (let i = 0; i < n; i++) loss += (soft(-a.output[i]) + soft(b.output[i])) / n;
  backward(critic, a.kept, a.output.map((v) => -sigmoid(-v) / n), n);
  backward(critic, b.kept, b.output.map((v) => sigmoid(v) / n), n);
  const penalty = gamma > 0 ? addR1(critic, a.kept, n, gamma) : 0;
  return { loss, penalty };
}

// The generator's loss and gradients: mean softplus(-D(G(z))), through the critic.
function generatorGradients(generator, critic, codes, n) {
  clearGradients(generator);
  const fakes = forward(generator, codes, n), b = forward(critic, fakes.output, n);
  let loss = 0;
  for (let i = 0; i < n; i++) loss += soft(-b.output[i]) / n;
  backward(generator, fakes.kept, backward(critic, b.kept, b.output.map((v) => -sigmoid(-v) / n), n, false), n);
  return loss;
}

// Random numbers in [0, 1) from a seed, so that a reset plays the same film.
function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6D2B79F5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function render({ model, el }) {
  const { colour } = course;
  const data = model.get("data"), view = data.view, given = course.array(data.points);
  const layers = (name) => data.weights[name].map(({ weight, bias }) => ({ weight: course.array(weight), bias: course.array(bias) }));
  const batch = 64, cells = 44, spread = 0.14;
  let generator, critic, random, round, points, playing = false, collapse = false, bayes = false, losses = { critic: NaN, generator: NaN };
  let drawing = false;
  const codes = (n) => Float64Array.from({ length: 2 * n }, () => 2 * random() - 1);
  const reals = (n) => {
    const out = new Float64Array(2 * n), many = points.length / 2;
    for (let i = 0; i < n; i++) { const k = Math.floor(random() * many); out[2 * i] = points[2 * k]; out[2 * i + 1] = points[2 * k + 1]; }
    return out;
  };
  const start = () => {
    generator = net(layers("generator")); critic = net(layers("critic")); random = randomNumbers(7); round = 0;
    losses = { critic: NaN, generator: NaN };
  };
  const stepD = () => {
    const { loss } = criticGradients(generator, critic, reals(batch), codes(batch), batch, collapse ? 0 : model.get("gamma"));
    adam(critic, 0.002); losses.critic = loss;
  };
  const stepG = () => { losses.generator = generatorGradients(generator, critic, codes(batch), batch); adam(generator, 0.002); };
  const both = () => { stepD(); for (let k = 0; k < (collapse ? 5 : 1); k++) stepG(); round++; };
  points = Float64Array.from(given); start();

  const root = course.card(el);
  const asked = course.question(root, {
    ask: "Guess first: what do the fakes do if the generator moves five times for each move of the critic?",
    options: ["they spread evenly", "they gather where D is high"], right: 1,
    answer: "Between two moves of the critic all fakes slide to the place it likes best, and there they lie on one another. Then the critic "
      + "turns against that place, and they run on. Press collapse and play.",
  });
  const play = course.button("play", () => { playing = !playing; tick(); show(); }, { "aria-pressed": "false" });
  const hard = course.button("collapse", () => { collapse = !collapse; show(); }, { "aria-pressed": "false" });
  const best = course.button("best D", () => { bayes = !bayes; show(); }, { "aria-pressed": "false" });
  const draw = course.button("draw your own data", () => {
    drawing = !drawing; if (drawing) { playing = false; points = new Float64Array(0); drawn = []; } else if (points.length < 20) points = Float64Array.from(given);
    show();
  }, { "aria-pressed": "false" });
  let drawn = [];
  root.append(course.node("div", { class: "row" }, play, course.button("step D", () => { if (ready()) { stepD(); show(); } }),
    course.button("step G", () => { if (ready()) { stepG(); show(); } }), course.button("step both", () => { if (ready()) { both(); show(); } }), hard, best, draw,
    course.button("reset", () => {
      playing = collapse = bayes = drawing = false; points = Float64Array.from(given); start(); asked.reset(); course.reset(model); show();
    })));
  const body = course.node("div", { class: "columns" });
  root.append(body);
  const left = course.node("div", { style: { flex: "1 1 310px", "max-width": "330px" } }), right = course.node("div", { style: { flex: "1 1 310px", "max-width": "330px" } });
  body.append(left, right);
  const plane = course.stage(left, 330, 330, "Data, fakes and the critic in the plane"), warp = course.stage(right, 330, 330, "Where the generator sends a grid of codes");
  course.legend(root, { "data": colour.ink, "fakes": colour.orange, "D says real": "#9cc4e4", "D says fake": "#f0b7a4" });
  const bars = course.node("div", { class: "bars" });
  root.append(bars);
  const rows = [course.bar(bars, "critic's loss", colour.blue, 2 * Math.log(4)), course.bar(bars, "generator's loss", colour.orange, 2 * Math.log(4))];
  const note = course.node("p", { class: "note", "aria-live": "off" });
  root.append(note);
  const X = (x) => (x + view) / (2 * view) * 330, Y = (y) => 330 - X(y);
  const ready = () => !drawing && points.length >= 40;
  course.draggable(plane, plane.canvas, (x, y) => addPoints(x, y), (x, y) => { addPoints(x, y); });
  function addPoints(x, y) {
    if (!drawing) return;
    for (let k = 0; k < 8; k++) drawn.push(x / 330 * 2 * view - view + 0.05 * (Math.random() - 0.5) * 4, (330 - y) / 330 * 2 * view - view + 0.05 * (Math.random() - 0.5) * 4);
    points = Float64Array.from(drawn); paint.again();
  }

  const map = course.bitmap(cells, cells), where = new Float64Array(2 * cells * cells);
  for (let i = 0; i < cells; i++) for (let j = 0; j < cells; j++) {
    where[2 * (i * cells + j)] = -view + 2 * view * (j + 0.5) / cells; where[2 * (i * cells + j) + 1] = view - 2 * view * (i + 0.5) / cells;
  }
  const heap = (places, n, x, y) => { // a kernel estimate of the density, from n points
    let sum = 0;
    for (let k = 0; k < n; k++) { const dx = x - places[2 * k], dy = y - places[2 * k + 1]; const r = (dx * dx + dy * dy) / (2 * spread * spread); if (r < 12) sum += Math.exp(-r); }
    return sum / n + 1e-9;
  };
  const shownCodes = Float64Array.from({ length: 800 }, (_, i) => 2 * ((i * (i % 2 ? 0.7548776662 : 0.5698402910)) % 1) - 1);
  const lines = [];
  for (let a = -6; a <= 6; a++) for (const upright of [true, false]) {
    const line = new Float64Array(2 * 40);
    for (let k = 0; k < 40; k++) { const t = -1 + 2 * k / 39; line[2 * k] = upright ? a / 6 : t; line[2 * k + 1] = upright ? t : a / 6; }
    lines.push(line);
  }

  const paint = course.painter(model, root, () => {
    const { ctx } = plane, fakes = forward(generator, shownCodes, 400).output;
    plane.clear();
    let belief;
    if (bayes && points.length) {
      const n = Math.min(400, points.length / 2);
      belief = Float64Array.from({ length: cells * cells }, (_, j) => {
        const p = heap(points, n, where[2 * j], where[2 * j + 1]), q = heap(fakes, 400, where[2 * j], where[2 * j + 1]);
        return p / (p + q);
      });
    } else belief = forward(critic, where, cells * cells).output.map(sigmoid);
    const mix = (a, b, t) => a + (b - a) * t;
    map(ctx, 0, 0, 330, (j) => { const t = belief[j]; return t > 0.5 ? [mix(250, 86, 2 * t - 1), mix(250, 160, 2 * t - 1), mix(250, 220, 2 * t - 1)] : [mix(230, 250, 2 * t), mix(130, 250, 2 * t), mix(95, 250, 2 * t)]; });
    ctx.fillStyle = colour.ink; ctx.globalAlpha = 0.6;
    for (let k = 0; k < Math.min(500, points.length / 2); k++) ctx.fillRect(X(points[2 * k]) - 1, Y(points[2 * k + 1]) - 1, 2, 2);
    ctx.globalAlpha = 0.9; ctx.fillStyle = colour.orange;
    for (let k = 0; k < 400; k++) { ctx.beginPath(); ctx.arc(X(fakes[2 * k]), Y(fakes[2 * k + 1]), 2, 0, 7); ctx.fill(); }
    ctx.globalAlpha = 1;
    const w = warp.ctx;
    warp.clear();
    w.strokeStyle = colour.line; w.strokeRect(0.5, 0.5, 329, 329); w.strokeStyle = colour.blue; w.lineWidth = 0.8;
    for (const line of lines) {
      const sent = forward(generator, line, 40).output;
      w.beginPath();
      for (let k = 0; k < 40; k++) if (k) w.lineTo(X(sent[2 * k]), Y(sent[2 * k + 1])); else w.moveTo(X(sent[0]), Y(sent[1]));
      w.stroke();
    }
    rows[0].show(losses.critic, " nats"); rows[0].mark(Math.log(4)); rows[1].show(losses.generator, " nats"); rows[1].mark(Math.LN2);
    note.textContent = drawing ? "Paint data into the left picture, then press the button again."
      : `Round ${round.toLocaleString("en")}. The ticks are log 4 and log 2: what both pay when D says ½ everywhere.` + (bayes ? " The map is p / (p + q), estimated with a kernel from 400 points of each." : "");
    root.dataset.round = round;
  });
  const show = () => {
    play.textContent = playing ? "pause" : "play";
    for (const [b, on] of [[play, playing], [hard, collapse], [best, bayes], [draw, drawing]]) b.setAttribute("aria-pressed", String(on));
    paint.again();
  };
  let frame = 0;
  const tick = () => {
    cancelAnimationFrame(frame);
    if (!playing || !ready()) return;
    const until = performance.now() + 12; // a frame must not wait for the training
    for (let k = 0; k < model.get("speed") && performance.now() < until; k++) both();
    paint.again();
    frame = requestAnimationFrame(tick);
  };
  return () => { playing = false; cancelAnimationFrame(frame); paint.stop(); };
}

export { adam, criticGradients, forward, generatorGradients, net };
export default { render };
