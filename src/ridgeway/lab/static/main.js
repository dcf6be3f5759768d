// The page: what is chosen, which tables that takes, and the figures that show them.

import { Batching } from "lab/batching";
import { show } from "lab/chart";
import { Diffusion } from "lab/diffusion";
import { Drafting } from "lab/drafting";
import { html, still, svg } from "lab/elements";
import { bytes, count, number, scaled, seconds } from "lab/format";
import { LiveDiffusion } from "lab/live";
import { Passes } from "lab/passes";
import { Roofline } from "lab/roofline";
import { Run } from "lab/run";
import { CarriedTables, ServedTables } from "lab/tables";
import { Wall } from "lab/wall";

const SUBJECT = ["model", "machine", "precision"];
const AS_RUN = "as run";
const TOY = "toy-diffusion";
const BEGIN = {
  prompt: 512, output: 256, context: 2048, batch: 64, length: 4, acceptance: 0.75, cost: 0.05, at_once: 1,
  answer: 256, block: 32, per_step: 2, ends: 0.75,
};
const KINDS = {
  this: "here", "dc-gpu": "data centre", "dc-asic": "data centre, other chips", "dc-apu": "data centre, other chips", "ws-gpu": "workstation",
  "consumer-gpu": "consumer", soc: "system on chip", edge: "small", cpu: "processors",
};

class Lab {
  constructor(boot) {
    this.boot = boot;
    this.served = boot.served;
    this.runs = boot.runs;
    this.tables = boot.served ? new ServedTables() : new CarriedTables(boot.figures, boot.tables);
    this.state = { ...boot.start, ...BEGIN, ...this.#remembered() };
    this.figures = [new Wall(this), new Passes(this), new Batching(this), new Drafting(this), new Diffusion(this), new Roofline(this)];
    this.#choosers();
    this.#theme();
    let wide = innerWidth;
    addEventListener("resize", () => {
      if (innerWidth !== wide) this.refresh();
      wide = innerWidth;
    });
    addEventListener("hashchange", () => this.set(this.#remembered()));
    if (boot.served) this.#runs();
    const held = `This file holds ${count(boot.models.length)} models on ${count(boot.machines.length)} machines; `;
    const holds = document.getElementById("holds");
    holds.append(boot.served ? "To keep this page as one file: " : held, html("code", {}, boot.served ? "ridgeway lab --export page.html" : "ridgeway lab"), boot.served ? "" : " shows all that are known.");
    this.refresh();
  }

  /** Stops of a slider, wherever it stands. */
  stops(name) {
    for (const { chosen, within } of Object.values(this.boot.figures)) {
      const stops = chosen[name] ?? within[name];
      if (stops) return stops;
    }
    throw new Error(`no slider ${name}`);
  }

  set(changes) {
    Object.assign(this.state, changes);
    const { model, machine, precision } = this.state;
    const names = this.boot.runnable.map((one) => one.name);
    if (this.served && precision === AS_RUN && (machine !== "this" || !names.includes(model))) {
      // As it runs here is said of a model that runs, and here.
      if ("precision" in changes) Object.assign(this.state, { machine: "this", model: names.includes(model) ? model : names[0] });
      else this.state.precision = "bf16";
    }
    this.refresh();
  }

  /** Loads what the state takes, and draws. The latest wish wins. */
  refresh() {
    const wish = (this.wish = Symbol("wish"));
    this.settled = this.#draw(wish).catch((error) => this.#problem(error.message));
    return this.settled;
  }

  async #draw(wish) {
    const state = { ...this.state };
    const subject = Object.fromEntries(SUBJECT.map((name) => [name, state[name]]));
    const tables = {};
    const loading = setTimeout(() => document.body.classList.add("loading"), 250);
    try {
      await Promise.all(Object.entries(this.boot.figures).map(async ([name, { chosen }]) => {
        const position = Object.fromEntries(Object.keys(chosen).map((slider) => [slider, state[slider]]));
        tables[name] = await this.tables.load(subject, name, position);
      }));
    } finally {
      clearTimeout(loading);
      document.body.classList.remove("loading");
    }
    if (wish !== this.wish) return;
    this.#problem("");
    this.roof = tables.roofline.facts;
    this.wall = tables.wall.facts;
    this.#opening(state);
    for (const figure of this.figures) {
      for (const [name, made] of Object.entries(figure.sliders)) made.set(state[name]);
      const shows = this.#shows(figure, state);
      if (figure.shows === shows) continue;
      figure.shows = shows;
      figure.draw(state, tables[figure.figure], this, tables);
    }
    for (const name of SUBJECT) document.getElementById(name).value = state[name];
    this.#remember(state);
  }

  /** What a figure depends on; the map shows all the others. */
  #shows(figure, state) {
    const { chosen, within } = this.boot.figures[figure.figure];
    const names = figure instanceof Roofline ? Object.keys(state) : [...SUBJECT, ...Object.keys(chosen), ...Object.keys(within)];
    return JSON.stringify([innerWidth, this.runs.length, figure.own?.length, ...names.map((name) => state[name])]);
  }

  #opening(state) {
    const { wall } = this;
    const said = {
      subject: this.title(state),
      by_arithmetic: number(wall.by_arithmetic),
      by_memory: number(wall.by_memory),
      moved: `That is ${bytes(wall.weight_bytes)} through ${scaled(wall.bandwidth, "B/s")} for every one of them, ${seconds(wall.memory_seconds)}, while the products take ${seconds(wall.compute_seconds)}.`,
    };
    for (const element of document.querySelectorAll("[data-said]")) element.textContent = said[element.dataset.said];
    const place = document.querySelector("[data-scale]");
    const width = Math.max(260, place.clientWidth);
    const most = Math.max(wall.by_arithmetic, wall.by_memory);
    const bar = (value, tone, y) => svg("rect", { x: 0, y, width: Math.max(1, (width * value) / most), height: 16, class: tone });
    show(place, svg("svg", { viewBox: `0 0 ${width} 62`, width, height: 62, "aria-hidden": true },
      bar(wall.by_arithmetic, "cell lit", 0), bar(wall.by_memory, "layer lit", 24),
      svg("text", { x: 0, y: 57, class: "faint" }, `both in tokens per second, to scale: ${number(wall.ratio)} to 1`)));
    place.setAttribute("aria-label", `${number(wall.by_arithmetic)} by arithmetic, ${number(wall.by_memory)} by memory, ${number(wall.ratio)} to 1`);
  }

  /** A model on a machine, for people. */
  title(state) {
    const model = this.boot.models.find((one) => one.name === state.model)?.title ?? state.model;
    const machine = this.boot.machines.find((one) => one.name === state.machine)?.title ?? state.machine;
    const article = /^8|^11|^18/.test(model) ? "An" : "A";
    const where = machine === "this machine" ? machine : `an ${machine}`.replace(/^an (?=[^AEFHILMNORSX8])/, "a ");
    if (state.precision === AS_RUN) return `${model}, as it runs on ${where},`;
    const named = /model/.test(model) ? `${article} ${model.replace(", dense", "")}` : model;
    return `${named} in ${state.precision} on ${where}`;
  }

  /** The command that gives the same numbers. */
  command(state, { prompt = 512, output = 256, batch = 1, method = "", plot = false }) {
    const sized = /^[\d.]+[mbt]$/.exec(state.model);
    const power = { m: "e6", b: "e9", t: "e12" }[state.model.at(-1)];
    const words = ["ridgeway roof", sized ? `--params ${state.model.slice(0, -1)}${power}` : state.model, ...(state.precision === AS_RUN ? [] : [`--on ${state.machine}`, `--dtype ${state.precision}`])];
    if (prompt !== 512) words.push(`--prompt ${prompt}`);
    if (output !== 256) words.push(`--output ${output}`);
    if (batch !== 1) words.push(`--batch ${batch}`);
    if (method) words.push(`--method ${method}`);
    if (plot) words.push("--plot roof.svg");
    return words.join(" ");
  }

  /** Points of a run that has just ended. */
  measured(points) {
    this.runs.push(...points);
    this.refresh();
  }

  /** Runs of this machine, where the roof is that of the arithmetic that they used. */
  runsHere(state) {
    return this.runs.filter((run) => state.precision === AS_RUN && run.machine === this.roof.machine);
  }

  /** Those of the model that is chosen. */
  runsOf(state) {
    return this.runsHere(state).filter((run) => run.name === state.model);
  }

  /** What was run, on the map. */
  showRuns(model) {
    this.set({ model, machine: "this", precision: AS_RUN });
    document.getElementById("roofline").scrollIntoView({ behavior: still() ? "auto" : "smooth" });
  }

  #choosers() {
    const fill = (name, groups) => {
      const select = document.getElementById(name);
      for (const [group, rows] of groups) {
        const options = rows.map((row) => html("option", { value: row.name }, row.title ?? row.name));
        select.append(...(group ? [html("optgroup", { label: group }, options)] : options));
      }
      if (![...select.options].some((option) => option.value === this.state[name])) select.append(html("option", { value: this.state[name] }, this.state[name]));
      select.addEventListener("change", () => this.set({ [name]: select.value }));
    };
    const by = (rows, key) => {
      const groups = new Map();
      for (const row of rows) groups.set(key(row), [...(groups.get(key(row)) ?? []), row]);
      return [...groups];
    };
    fill("model", by(this.boot.models, (row) => (row.title.includes("dense") ? "of a size" : row.experts ? "mixtures of experts" : "dense")));
    fill("machine", by(this.boot.machines, (row) => KINDS[row.kind] ?? "others"));
    fill("precision", [["", this.boot.precisions]]);
  }

  #theme() {
    const button = document.getElementById("theme");
    const root = document.documentElement;
    const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
    const say = () => {
      button.textContent = dark() ? "Light" : "Dark";
      button.setAttribute("aria-label", dark() ? "Light colours" : "Dark colours");
    };
    button.removeAttribute("aria-pressed");
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      say();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", say);
    say();
  }

  #runs() {
    const runs = (name) => this.boot.runnable.some((one) => one.name === name);
    const model = "smollm2-135m";
    const place = (figure) => document.querySelector(`#${figure} .extras`);
    if (runs(TOY)) new LiveDiffusion(place("diffusion"), this, TOY);
    if (!runs(model)) return;
    const plain = { model, method: "ar", max_tokens: 48 };
    new Run(place("wall"), this, { title: "Run it here: SmolLM2 135M", asks: () => [plain] });
    new Run(place("passes"), this, { title: "Run a long prompt here", asks: () => [{ ...plain, max_tokens: 24, prompt: LONG }] });
    new Run(place("batching"), this, { title: "Run 1 and 8 at once here", asks: () => [plain, { ...plain, batch: 8 }] });
    new Run(place("drafting"), this, {
      title: "Run it here, plain and with drafts",
      asks: () => ["ar", `ngram:depth=${Math.min(8, this.state.length)}`].map((method) => ({ ...plain, method, prompt: REPEATS })),
    });
  }

  #problem(text) {
    const place = document.getElementById("problem");
    place.textContent = text;
    place.hidden = !text;
  }

  #remembered() {
    const found = {};
    for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
      if (SUBJECT.includes(name)) found[name] = value;
      else if (name in BEGIN && this.stops(name).includes(Number(value))) found[name] = Number(value);
    }
    return found;
  }

  #remember(state) {
    const first = { ...this.boot.start, ...BEGIN };
    const moved = Object.entries(state).filter(([name, value]) => value !== first[name]);
    const hash = moved.length ? `#${new URLSearchParams(moved)}` : "";
    if (hash !== location.hash) history.replaceState(null, "", hash || location.pathname + location.search);
  }
}

const LONG = "Which of these words is an animal? " + "A boat, a lamp, a table, a river, a letter, a window, a garden, a spoon. ".repeat(12) + "A horse.";
const REPEATS = "Write a short poem in which every line begins with: The sea is wide";

window.lab = new Lab(JSON.parse(document.getElementById("boot").textContent));
