// Figure 1: a token being decoded. Weights stream in layer by layer; the arithmetic idles.

import { chart, linear, show } from "lab/chart";
import { Stage, explain, html, still, svg } from "lab/elements";
import { bytes, count, number, percent, scaled, seconds, times } from "lab/format";

const PERIOD = 7000; // milliseconds that a token takes on the page
const CELLS = 12;

export class Wall {
  figure = "wall";
  sliders = {};

  constructor() {
    this.stage = new Stage("wall", "The wall", {
      readouts: [
        ["by_memory", "Memory allows"],
        ["by_arithmetic", "Arithmetic allows"],
        ["ratio", "Apart by"],
        ["expected", "Expected of an engine"],
      ],
    });
    this.play = html("button", { type: "button", class: "quiet" }, "Pause");
    this.step = html("button", { type: "button", class: "quiet" }, "Next layer");
    this.clock = html("span", { class: "clock" });
    this.stage.controls.append(this.play, this.step, this.clock);
    this.running = !still();
    this.reached = 0; // share of a token
    this.play.addEventListener("click", () => this.#run(!this.running));
    this.step.addEventListener("click", () => {
      this.#run(false);
      const next = this.starts.findIndex((start) => start > this.reached + 1e-9);
      this.reached = next < 0 ? 0 : this.starts[next];
      this.#move();
    });
    this.visible = true;
    new IntersectionObserver(([entry]) => { this.visible = entry.isIntersecting; }).observe(this.stage.picture);
    this.#run(this.running);
    requestAnimationFrame((now) => this.#tick(now, now));
  }

  draw(state, table, lab) {
    const facts = table.facts;
    this.facts = facts;
    this.layers = layersOf(facts);
    const whole = this.layers.reduce((sum, layer) => sum + layer.memory, 0);
    let before = 0;
    this.starts = this.layers.map((layer) => {
      const start = before / whole;
      before += layer.memory;
      return start;
    });
    const { readouts } = this.stage;
    readouts.set("by_memory", `${number(facts.by_memory)} tok/s`, `${bytes(facts.weight_bytes)} each, ${scaled(facts.bandwidth, "B/s")}`, "memory");
    readouts.set("by_arithmetic", `${number(facts.by_arithmetic)} tok/s`, `${scaled(facts.flops, "FLOP")} each, ${scaled(facts.peak, "FLOP/s")} (${facts.arithmetic})`, "compute");
    readouts.set("ratio", times(facts.ratio), `the ridge lies at ${number(facts.ridge)} FLOP/B`);
    readouts.set("expected", `${number(facts.expected)} tok/s`, `${number(facts.slow)} to ${number(facts.fast)}`);
    this.stage.command.textContent = lab.command(state, {});
    this.stage.tell(`${lab.title(state)}: memory allows ${number(facts.by_memory)} tokens per second, arithmetic ${number(facts.by_arithmetic)}.`);
    this.stage.tabulate(["part", "weights", "to read", "to multiply"], alike(this.layers).map(([name, layer]) => [name, bytes(layer.bytes), seconds(layer.memory), seconds(layer.compute)]));
    this.#paint();
    this.#move();
  }

  #run(running) {
    this.running = running;
    this.play.textContent = running ? "Pause" : "Play";
  }

  #tick(now, before) {
    if (this.running && this.visible && this.facts) {
      this.reached = (this.reached + (now - before) / PERIOD) % 1;
      this.#move();
    }
    requestAnimationFrame((next) => this.#tick(next, now));
  }

  #paint() {
    const { facts } = this;
    const place = this.stage.picture;
    const width = Math.max(280, place.clientWidth);
    const narrow = width < 560;
    const high = narrow ? 190 : 220;
    const root = svg("svg", { viewBox: `0 0 ${width} ${high}`, width, height: high, role: "img", "aria-label": `Memory of ${bytes(facts.memory_bytes)}, a bus of ${scaled(facts.bandwidth, "B/s")}, and a chip that could do ${scaled(facts.peak, "FLOP/s")}` });
    const top = 34;
    const floor = high - 26;
    const box = narrow ? 84 : 150;
    const chip = narrow ? 112 : 210;
    const text = (x, y, said, attributes = {}) => svg("text", { x, y, ...attributes }, said);
    // The large memory, filled as far as the weights go.
    const share = Math.min(1, facts.weight_share || 1);
    const filled = (floor - top) * share;
    root.append(
      text(1, 14, narrow ? "memory" : "main memory", { class: "strong" }),
      text(1, 28, facts.memory_bytes ? giga(facts.memory_bytes) : "size unknown", { class: "faint" }),
      svg("rect", { x: 1, y: top, width: box, height: floor - top, rx: 4, class: "shell" }),
    );
    const stack = linear([0, 1], [floor - filled, floor]);
    this.stripes = this.layers.map((layer, place) => {
      const from = stack(this.starts[place]);
      const to = stack(this.starts[place + 1] ?? 1);
      const stripe = svg("rect", { x: 4, y: from, width: box - 6, height: Math.max(0.6, to - from - (to - from > 2.5 ? 0.8 : 0)), class: "layer" });
      root.append(stripe);
      return stripe;
    });
    const over = facts.weight_share > 1;
    root.append(text(1, high - 8, over ? `needs ${bytes(facts.held_bytes)}` : `${bytes(facts.held_bytes)} of weights`, { class: over ? "alarm" : "faint" }));
    // The bus.
    const middle = (top + floor) / 2;
    const from = box + 8;
    const to = width - chip - 8;
    this.bus = svg("path", { d: `M${from} ${middle}H${to}`, class: "flow" });
    root.append(
      svg("path", { d: `M${from} ${middle}H${to}`, class: "bus" }),
      this.bus,
      text((from + to) / 2, middle - 18, scaled(facts.bandwidth, "B/s"), { "text-anchor": "middle", class: "strong" }),
      text((from + to) / 2, middle + 28, narrow ? "the bus" : "the bus: always busy", { "text-anchor": "middle", class: "faint" }),
    );
    // The chip: its own memory to scale with the large one, and multipliers, of which as many are lit as are busy.
    const left = width - chip - 1;
    root.append(
      text(left, 14, narrow ? "chip" : "the chip", { class: "strong" }),
      text(left, 28, `${scaled(facts.peak, "FLOP/s")}`, { class: "faint" }),
      svg("rect", { x: left, y: top, width: chip, height: floor - top, rx: 4, class: "shell" }),
    );
    const sram = facts.memory_bytes && facts.cache_bytes ? Math.max(1.5, (floor - top) * (facts.cache_bytes / facts.memory_bytes)) : 0;
    if (sram) {
      root.append(svg("rect", { x: left + 4, y: floor - sram - 2, width: narrow ? 12 : 22, height: sram, class: "layer lit" }));
      root.append(text(left, high - 8, narrow ? `${bytes(facts.cache_bytes)} on chip` : `${bytes(facts.cache_bytes)} on the chip, to scale`, { class: "faint" }));
    }
    const rows = narrow ? 8 : 9;
    const columns = narrow ? 7 : CELLS;
    const start = left + (narrow ? 22 : 36);
    const pitch = Math.min((left + chip - 6 - start) / columns, (floor - top - 12) / rows);
    const cells = rows * columns;
    const busy = facts.compute_seconds / Math.max(facts.compute_seconds, facts.memory_seconds);
    for (let cell = 0; cell < cells; cell += 1) {
      const lit = Math.max(0, Math.min(1, busy * cells - cell));
      const x = start + (cell % columns) * pitch;
      const y = floor - 8 - (Math.floor(cell / columns) + 1) * pitch;
      root.append(svg("rect", { x, y, width: pitch - 3, height: pitch - 3, rx: 1.5, class: "cell" }));
      if (lit > 0) root.append(svg("rect", { x, y, width: Math.max(1, (pitch - 3) * lit), height: pitch - 3, rx: 1.5, class: "cell lit" }));
    }
    show(place, root, this.#timeline(place));
    this.busy = busy;
  }

  /** When bytes arrive and when products are made, for the length of one token. */
  #timeline(place) {
    const { facts, layers, starts } = this;
    const whole = Math.max(facts.memory_seconds, facts.compute_seconds);
    const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => part * whole);
    const made = chart(place, {
      height: 132, left: 1, right: 1, top: 22, bottom: 42,
      x: { domain: [0, whole], ticks, format: (value) => (value ? seconds(Number(value.toPrecision(3))) : "0"), label: "one token" },
      y: { domain: [0, 1], ticks: [], label: "" },
      label: `For one token the bus is busy ${seconds(facts.memory_seconds)}, the multipliers ${seconds(facts.compute_seconds)}`,
    });
    const memory = layers.reduce((sum, layer) => sum + layer.memory, 0);
    const busy = percent(Number((facts.compute_seconds / whole).toPrecision(3)));
    layers.forEach((layer, number_) => {
      const from = starts[number_] * facts.memory_seconds;
      const wide = (layer.memory / memory) * facts.memory_seconds;
      const bar = svg("rect", { x: made.across(from), y: 26, width: Math.max(0.5, made.across(wide) - made.across(0) - 0.7), height: 22, class: "layer lit" });
      const products = svg("rect", { x: made.across(Math.min(from + wide, whole)) - 0.4, y: 58, width: Math.max(0.8, made.across(layer.compute) - made.across(0)), height: 22, class: "cell lit" });
      explain(bar, () => [layer.name, `${bytes(layer.bytes)} to read: ${seconds(layer.memory)}`, `its products: ${seconds(layer.compute)}`]);
      made.plot.append(bar, products);
    });
    this.cursor = svg("path", { class: "cursor", d: "M0 20V88" });
    this.along = (reached) => made.across(reached * facts.memory_seconds);
    made.root.append(
      svg("text", { x: 1, y: 16, class: "strong memory" }, "bytes arriving"),
      svg("text", { x: made.box.right, y: 16, "text-anchor": "end", class: "strong compute" }, made.width < 480 ? `multiplying ${busy}` : `multipliers busy ${busy} of the time`),
      this.cursor,
    );
    return made.root;
  }

  #move() {
    if (!this.stripes) return;
    let now = this.starts.findIndex((start) => start > this.reached + 1e-9) - 1;
    if (now < 0) now = this.starts.length - 1;
    this.stripes.forEach((stripe, place) => stripe.classList.toggle("lit", place === now));
    this.bus.style.strokeDashoffset = still() ? 0 : -this.reached * 2400;
    const x = this.along(this.reached);
    this.cursor.setAttribute("d", `M${x} 20V88`);
    const layer = this.layers[now];
    this.clock.textContent = `${layer.name}${layer.of ? ` of ${count(layer.of)}` : ""}: ${bytes(layer.bytes)}`;
  }
}

function layersOf(facts) {
  const layers = [];
  for (let place = 0; place + 1 < facts.parts.length; place += 2) {
    const [attention, mlp] = [facts.parts[place], facts.parts[place + 1]];
    layers.push({
      name: `layer ${place / 2 + 1}`,
      of: facts.layers,
      bytes: attention.weight_bytes + mlp.weight_bytes,
      memory: attention.memory_seconds + mlp.memory_seconds,
      compute: attention.compute_seconds + mlp.compute_seconds,
    });
  }
  const head = facts.parts.at(-1);
  layers.push({ name: "head", of: 0, bytes: head.weight_bytes, memory: head.memory_seconds, compute: head.compute_seconds });
  return layers;
}

/** Equal neighbours in one row. */
function alike(layers) {
  const rows = [];
  layers.forEach((layer, place) => {
    const last = rows.at(-1);
    if (last && last.layer.bytes === layer.bytes && layer.of) last.to = place + 1;
    else rows.push({ layer, from: place + 1, to: place + 1 });
  });
  return rows.map(({ layer, from, to }) => [layer.of ? (from === to ? `layer ${from}` : `layers ${from} to ${to}, each`) : "head", layer]);
}

const giga = (size) => (size >= 2 ** 30 ? `${number(Number((size / 2 ** 30).toPrecision(3)))} GiB` : bytes(size));
export { giga };
