// Figure 5: one answer three ways, pass by pass. Which position is filled in when is an illustration, unless a model
// was run; how many passes there are and how long they take is not.

import { show } from "lab/chart";
import { Stage, html, still, svg } from "lab/elements";
import { count, number, percent, seconds } from "lab/format";

const PLAYED = 9000; // milliseconds that the slowest way takes on the page
const WAYS = [
  ["plain", "token by token"],
  ["masked", "whole answer at once"],
  ["block", "block by block"],
];

export class Diffusion {
  figure = "diffusion";

  constructor(lab) {
    const set = (name) => (value) => lab.set({ [name]: value });
    this.stage = new Stage("diffusion", "Three ways to an answer", {
      sliders: [
        { name: "answer", label: "Room for the answer", stops: lab.stops("answer"), format: (n) => `${count(n)} tokens`, onChange: set("answer") },
        { name: "block", label: "Block", stops: lab.stops("block"), format: (n) => `${count(n)} tokens`, onChange: set("block") },
        { name: "per_step", label: "Filled in per pass", stops: lab.stops("per_step"), format: (n) => count(n), onChange: set("per_step") },
        { name: "ends", label: "The answer ends after", stops: lab.stops("ends"), format: percent, onChange: set("ends") },
      ],
      readouts: WAYS.flatMap(([way, name]) => [
        [`${way}_passes`, `${name}: passes`],
        [`${way}_wasted`, "computed in vain"],
      ]),
    });
    this.sliders = this.stage.sliders;
    this.play = html("button", { type: "button", class: "quiet" }, "Play");
    this.time = html("input", { type: "range", min: 0, max: 1000, value: 0, "aria-label": "Time" });
    this.clock = html("span", { class: "clock" });
    this.lanes = html("div", { class: "lanes" });
    this.stage.picture.append(html("div", { class: "player" }, this.play, this.time, this.clock), this.lanes);
    this.play.addEventListener("click", () => {
      if (this.reached >= 1) this.reached = 0;
      this.#run(!this.running);
    });
    this.time.addEventListener("input", () => {
      this.#run(false);
      this.reached = this.time.valueAsNumber / 1000;
      this.#move();
    });
    this.reached = still() ? 0.4 : 0;
    this.running = false;
    this.seen = false;
    new IntersectionObserver(([entry]) => {
      this.visible = entry.isIntersecting;
      if (this.visible && !this.seen && !still()) this.#run(true);
      this.seen ||= this.visible;
    }, { threshold: 0.4 }).observe(this.lanes);
    requestAnimationFrame((now) => this.#tick(now, now));
  }

  draw(state, table, lab) {
    const row = table.row(state);
    const { readouts } = this.stage;
    for (const [way] of WAYS) {
      const regime = row[`${way}_regime`];
      readouts.set(`${way}_passes`, count(row[`${way}_passes`]), `${regime}-bound, ${number(row[`${way}_intensity`])} FLOP/B; ${seconds(row[`${way}_seconds`])}`, regime);
      readouts.set(`${way}_wasted`, percent(row[`${way}_wasted`]), `${number(row[`${way}_tokens`])} ${row[`${way}_tokens`] === 1 ? "token" : "tokens"} per pass`);
    }
    const method = `block-diffusion:block=${state.block},tokens_per_step=${state.per_step}`;
    this.stage.command.textContent = lab.command(state, { output: state.answer, method });
    this.stage.besides.textContent = state.ends < 1 ? " but for the early end" : "";
    this.stage.tell(`Passes: ${count(row.plain_passes)} token by token, ${count(row.masked_passes)} for the whole answer at once, ${count(row.block_passes)} block by block.`);
    this.stage.tabulate(
      ["way", "passes", "intensity", "bound by", "tokens per pass", "in vain", "time"],
      WAYS.map(([way, name]) => [name, count(row[`${way}_passes`]), number(row[`${way}_intensity`]), row[`${way}_regime`], number(row[`${way}_tokens`]), percent(row[`${way}_wasted`]), seconds(row[`${way}_seconds`])]),
    );
    this.row = row;
    this.state = state;
    this.#paint();
    this.#move();
  }

  #run(running) {
    this.running = running;
    this.play.textContent = running ? "Pause" : this.reached >= 1 ? "Again" : "Play";
  }

  #tick(now, before) {
    if (this.running && this.visible && this.row) {
      this.reached = Math.min(1, this.reached + (now - before) / PLAYED);
      this.time.value = Math.round(1000 * this.reached);
      this.#move();
      if (this.reached >= 1) this.#run(false);
    }
    requestAnimationFrame((next) => this.#tick(next, now));
  }

  #paint() {
    const { answer } = this.state;
    const room = Math.max(260, this.stage.picture.clientWidth);
    const three = room > 520;
    const width = three ? Math.floor((room - 40) / 3) : room;
    const columns = three || answer <= 256 ? 32 : 64;
    const pitch = width / columns;
    const high = Math.ceil(answer / columns) * pitch;
    this.drawn = WAYS.map(([way, name]) => {
      const cells = Array.from({ length: answer }, (_, place) => svg("rect", {
        x: (place % columns) * pitch + 0.5, y: Math.floor(place / columns) * pitch + 0.5, width: pitch - 1.5, height: pitch - 1.5, rx: Math.min(2, pitch / 5), class: "blank",
      }));
      const said = html("p", { class: "passes" });
      const root = svg("svg", { viewBox: `0 0 ${width} ${high}`, width, height: high, role: "img", "aria-label": `${name}: ${count(answer)} positions` }, cells);
      return { way, cells, said, kinds: new Array(answer).fill("blank"), element: html("div", { class: "lane" }, html("h3", {}, name), said, root) };
    });
    this.lanes.classList.toggle("three", three);
    show(this.lanes, ...this.drawn.map((lane) => lane.element));
  }

  #move() {
    const { row, state } = this;
    if (!row) return;
    const longest = Math.max(...WAYS.map(([way]) => row[`${way}_seconds`]));
    const now = this.reached * longest;
    this.time.value = Math.round(1000 * this.reached);
    this.clock.textContent = seconds(Number(now.toPrecision(3)) || 0);
    this.time.setAttribute("aria-valuetext", this.clock.textContent);
    for (const lane of this.drawn) {
      const all = row[`${lane.way}_passes`];
      const share = Math.min(1, now / row[`${lane.way}_seconds`]);
      const pass = Math.floor(share * all + 1e-6);
      lane.said.textContent = `${count(pass)} of ${count(all)} passes${share >= 1 ? ", done" : ""}`;
      const kinds = shown[lane.way](state, row, pass, share >= 1);
      kinds.forEach((kind, place) => {
        if (lane.kinds[place] === kind) return;
        lane.kinds[place] = kind;
        lane.cells[place].setAttribute("class", kind);
      });
    }
  }
}

// What each position is after `pass` passes: blank, busy (computed in this pass), said, or vain (filled in for nobody).
const shown = {
  plain(state, row, pass, done) {
    return Array.from({ length: state.answer }, (_, place) => (place <= pass && place < row.useful ? "said" : place === pass + 1 && !done && place < row.useful ? "busy" : "blank"));
  },
  masked(state, row, pass, done) {
    const filled = Math.ceil((pass / row.masked_passes) * state.answer);
    const rank = ranks(state.answer);
    return Array.from({ length: state.answer }, (_, place) => (rank[place] < filled ? (place < row.useful ? "said" : "vain") : done ? "blank" : "busy"));
  },
  block(state, row, pass, done) {
    const blocks = Math.ceil(row.useful / state.block);
    const each = row.block_passes / blocks;
    const now = Math.floor(pass / each + 1e-9);
    const filled = Math.ceil(((pass - now * each) / each) * state.block);
    const rank = ranks(state.block);
    return Array.from({ length: state.answer }, (_, place) => {
      const block = Math.floor(place / state.block);
      const full = block < now || (block === now && rank[place % state.block] < filled);
      if (block >= blocks) return "blank";
      if (full) return place < row.useful ? "said" : "vain";
      return block === now && !done ? "busy" : "blank";
    });
  },
};

const known = new Map();

/** An order that looks like none: the same at every visit. */
function ranks(length) {
  if (!known.has(length)) {
    let seed = length;
    const next = () => { // xorshift (Marsaglia 2003)
      seed ^= seed << 13;
      seed ^= seed >>> 17;
      seed ^= seed << 5;
      return seed >>> 0;
    };
    for (let warm = 0; warm < 8; warm += 1) next();
    const keys = Array.from({ length }, (_, place) => [next(), place]);
    const rank = new Array(length);
    keys.sort(([one], [other]) => one - other).forEach(([, place], order) => { rank[place] = order; });
    known.set(length, rank);
  }
  return known.get(length);
}
