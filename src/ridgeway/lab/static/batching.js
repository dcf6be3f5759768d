// Figure 3: batch and context. What sharing gains, and what fills the memory.

import { chart, decades, line, show } from "lab/chart";
import { Stage, explain, html, svg } from "lab/elements";
import { bytes, count, number, percent, times } from "lab/format";
import { giga } from "lab/wall";

export class Batching {
  figure = "batching";

  constructor(lab) {
    this.stage = new Stage("batching", "Batches", {
      sliders: [
        { name: "batch", label: "Requests at once", stops: lab.stops("batch"), format: (n) => count(n), onChange: (value) => lab.set({ batch: value }) },
        { name: "context", label: "Tokens of each", stops: lab.stops("context"), format: (n) => count(n), onChange: (value) => lab.set({ context: value }) },
      ],
      readouts: [
        ["intensity_gain", "Intensity"],
        ["throughput_gain", "Throughput gain"],
        ["kv_share", "K/V pressure"],
        ["saturates_at", "Saturates at"],
        ["paged_waste", "Wasted with pages"],
        ["contiguous_waste", "Wasted without"],
      ],
    });
    this.sliders = this.stage.sliders;
    this.memory = html("div", {});
    this.plot = html("div", {});
    this.stage.picture.append(this.plot, this.memory);
  }

  draw(state, table, lab) {
    const row = table.row(state);
    const { readouts } = this.stage;
    const fits = row.fits === 1;
    readouts.set("intensity_gain", times(row.intensity_gain), `that of one request; ${number(row.intensity)} FLOP/B, ${row.regime}-bound`);
    readouts.set("throughput_gain", times(row.throughput_gain), `${number(row.total)} tok/s in all, ${number(row.per_request)} each`);
    readouts.set("kv_share", percent(row.kv_share), fits ? `of the memory: ${bytes(row.kv_bytes)}, beside weights of ${percent(row.weight_share)}` : doesNotFit(row), fits ? "" : "alarm");
    readouts.set("saturates_at", `${count(row.saturates_at)} requests`, `then ${why[row.saturates_why]}`);
    readouts.set("paged_waste", percent(row.paged_waste), `${many(row.largest_batch)} requests fit`);
    readouts.set("contiguous_waste", percent(row.contiguous_waste), `${many(row.largest_contiguous)} fit, the longest context reserved for each`);
    this.stage.command.textContent = lab.command(state, { prompt: state.context - 256, output: 256, batch: state.batch });
    this.stage.tell(`${count(state.batch)} requests of ${count(state.context)} tokens: ${number(row.throughput_gain)} times the throughput, K/V take ${percent(row.kv_share)} of memory${fits ? "" : `, which ${doesNotFit(row)}`}.`);
    this.#plot(state, table, row, lab.runsOf(state).filter((run) => run.gain && run.method === "ar"));
    this.#memory(row, lab);
    this.stage.tabulate(
      ["at once", "intensity", "throughput", "tok/s in all", "K/V of memory", "bound by", "fits"],
      table.axes.batch.map((batch) => {
        const at = table.row({ ...state, batch });
        return [count(batch), times(at.intensity_gain), times(at.throughput_gain), number(at.total), percent(at.kv_share), at.regime, at.fits ? "yes" : "no"];
      }),
    );
  }

  #plot(state, table, row, runs) {
    const gains = table.along("throughput_gain", "batch", state);
    const floors = table.along("floor_gain", "batch", state);
    const domain = [1, 512];
    const made = chart(this.stage.picture, {
      height: 270,
      x: { domain, log: true, ticks: table.axes.batch, format: count, label: "requests at once" },
      y: { domain, log: true, ticks: decades(domain), format: (value) => times(value), label: "throughput" },
      label: `Throughput gain over batch size with ${count(state.context)} tokens of each request`,
    });
    const room = Math.max(1, row.largest_batch);
    if (room < 512) {
      const x = made.across(Math.max(1, room));
      made.plot.append(svg("rect", { x, y: made.box.top - 6, width: made.box.right - x, height: made.box.bottom - made.box.top + 6, class: "beyond" }));
      const near = x > made.box.right - 120;
      made.root.append(svg("text", { x: near ? x - 6 : x + 6, y: gains.at(-1)[1] < 6 ? made.down(60) : made.box.bottom - 8, "text-anchor": near ? "end" : "start", class: "faint" }, row.largest_batch ? `memory full at ${count(row.largest_batch)}` : "does not fit"));
    }
    made.plot.append(
      line([[1, 1], [512, 512]], made, { class: "ideal" }),
      line(floors, made, { class: "curve floor" }),
      line(gains, made, { class: "curve memory" }),
    );
    const point = svg("circle", { cx: made.across(state.batch), cy: made.down(row.throughput_gain), r: 6.5, class: "point memory" });
    explain(point, () => [`${count(state.batch)} at once`, `${times(row.throughput_gain)} the throughput, ${number(row.total)} tok/s`, `${percent(row.kv_traffic)} of the bytes are K/V`]);
    for (const run of runs) {
      const dot = svg("circle", { cx: made.across(run.batch), cy: made.down(Math.max(1, run.gain)), r: 5, class: "dot" });
      explain(dot, () => [`measured: ${count(run.batch)} at once`, `${times(run.gain)} one request, ${number(run.tokens_per_second)} tok/s`]);
      made.root.append(dot);
    }
    const tag = (points, text, lift, tone) => svg("text", { x: made.box.right - 4, y: made.down(Math.min(512, points.at(-1)[1])) + lift, "text-anchor": "end", class: tone }, text);
    made.root.append(point, svg("text", { x: made.across(24), y: made.down(34) - 8, "text-anchor": "end", class: "faint" }, "nothing but gain"),
      tag(floors, "floor", -6, "faint"), tag(gains, "estimate", 16, "strong memory"));
    show(this.plot, made.root);
  }

  #memory(row, lab) {
    const width = Math.max(260, this.stage.picture.clientWidth);
    const bars = [
      ["with pages", row.paged_share, row.largest_batch],
      ["reserved for the longest", row.contiguous_share, row.largest_contiguous],
    ];
    const root = svg("svg", { viewBox: `0 0 ${width} 132`, width, height: 132, role: "img", "aria-label": `Memory: weights ${percent(row.weight_share)}, keys and values ${percent(row.kv_share)}, set aside for them ${percent(row.paged_share)} with pages and ${percent(row.contiguous_share)} without` });
    const most = width - 2;
    bars.forEach(([name, share], place) => {
      const y = 24 + place * 56;
      const weights = Math.min(1, row.weight_share) * most;
      const used = Math.min(most - weights, row.kv_share * most);
      const aside = Math.max(0, Math.min(most - weights, share * most) - used);
      root.append(
        svg("text", { x: 1, y: y - 7, class: "strong" }, name),
        svg("rect", { x: 1, y, width: most, height: 20, class: "shell" }),
        svg("rect", { x: 1, y, width: weights, height: 20, class: "layer lit" }),
        svg("rect", { x: 1 + weights, y, width: used, height: 20, class: "kv" }),
        svg("rect", { x: 1 + weights + used, y, width: aside, height: 20, class: "waste" }),
      );
      const whole = row.weight_share + share;
      root.append(svg("text", { x: most, y: y - 7, "text-anchor": "end", class: whole > row.usable_share ? "alarm" : "faint" }, `${percent(Number(whole.toPrecision(3)))} of ${lab.wall.memory_bytes ? giga(lab.wall.memory_bytes) : "memory"}`));
      if (row.usable_share) root.append(svg("path", { d: `M${1 + row.usable_share * most} ${y - 2}v24`, class: "cursor" }));
    });
    const keys = [["layer lit", "weights"], ["kv", "K/V"], ["waste", "set aside, empty"]];
    let x = 1;
    for (const [kind, text] of keys) {
      root.append(svg("rect", { x, y: 116, width: 10, height: 10, rx: 2, class: kind }), svg("text", { x: x + 15, y: 125, class: "faint" }, text));
      x += 32 + 6.6 * text.length;
    }
    show(this.memory, root);
  }
}

const why = {
  "memory is full": "twice as many do not fit",
  "K/V": "reading K/V takes most of the time",
  arithmetic: "the arithmetic is used up",
  overhead: "twice as many gain less than a quarter",
};
const many = (n) => (n >= 1e6 ? "any number of" : count(n));
const doesNotFit = (row) => (row.largest_batch ? `does not fit: at most ${count(row.largest_batch)} such requests do` : "does not fit: the weights alone take too much");
