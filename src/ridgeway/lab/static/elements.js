// Elements and what every figure has: sliders, read-outs, a sentence for screen readers, a table, a command.

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const html = (name, attributes = {}, ...children) => filled(document.createElement(name), attributes, children);
export const svg = (name, attributes = {}, ...children) => filled(document.createElementNS(SVG, name), attributes, children);

/** A range input over listed stops; `format` says a stop for people. */
export function slider({ name, label, stops, format, onChange }) {
  const id = `slider-${name}`;
  const said = html("output", { for: id });
  const input = html("input", { type: "range", id, min: 0, max: stops.length - 1, step: 1, "data-slider": name });
  const say = () => {
    const text = format(stops[input.valueAsNumber]);
    said.textContent = text;
    input.setAttribute("aria-valuetext", text);
    input.style.setProperty("--filled", `${(100 * input.valueAsNumber) / Math.max(1, stops.length - 1)}%`);
  };
  input.addEventListener("input", () => {
    say();
    onChange(stops[input.valueAsNumber]);
  });
  const element = html("div", { class: "slider" }, html("label", { for: id }, label), said, input);
  return {
    element,
    set(value) {
      input.value = Math.max(0, stops.indexOf(value));
      say();
    },
  };
}

/** A definition list whose entries are set by name. */
export class Readouts {
  constructor(figure, entries) {
    this.parts = {};
    this.element = html("dl", { class: "readouts" });
    for (const [name, label] of entries) {
      const value = html("dd", { "data-readout": `${figure}.${name}` });
      const note = html("dd", { class: "note" });
      this.parts[name] = { value, note };
      this.element.append(html("div", {}, html("dt", {}, label), value, note));
    }
  }

  set(name, text, note = "", tone = "") {
    const part = this.parts[name];
    part.value.textContent = text;
    part.value.dataset.tone = tone;
    part.note.textContent = note;
  }
}

/** The stage of a figure: what all of them have, in the same order. */
export class Stage {
  constructor(name, label, { sliders = [], readouts = [] }) {
    this.root = document.querySelector(`#${name} .stage`);
    this.sliders = Object.fromEntries(sliders.map((made) => [made.name, slider(made)]));
    this.controls = html("div", { class: "controls" }, Object.values(this.sliders).map((made) => made.element));
    this.picture = html("div", { class: "picture" });
    this.readouts = new Readouts(name, readouts);
    this.told = html("p", { class: "told", "aria-live": "polite" });
    this.command = html("code", { "data-command": name });
    this.table = html("div", { class: "rows", tabindex: 0, role: "region", "aria-label": `${label}, as a table` });
    this.extras = html("div", { class: "extras" });
    const numbers = html("details", {}, html("summary", {}, "The numbers as a table"), this.table);
    this.besides = html("span", {});
    const same = html("p", { class: "command" }, "the same as ", this.command, this.besides);
    this.root.replaceChildren(this.controls, this.picture, this.readouts.element, this.told, this.extras, same, numbers);
  }

  /** The sentence that a screen reader says once the sliders rest. */
  tell(sentence) {
    clearTimeout(this.telling);
    this.telling = setTimeout(() => {
      if (this.told.textContent !== sentence) this.told.textContent = sentence;
    }, 500);
  }

  tabulate(headings, rows) {
    const cell = (text, place) => html(place ? "td" : "th", place ? {} : { scope: "row" }, text);
    this.table.replaceChildren(
      html("table", {},
        html("thead", {}, html("tr", {}, headings.map((text) => html("th", { scope: "col" }, text)))),
        html("tbody", {}, rows.map((row) => html("tr", {}, row.map(cell))))),
    );
  }
}

const tip = () => document.getElementById("tip");

/** Lines that appear beside an element while it is pointed at or has the focus. */
export function explain(element, lines) {
  const show = () => {
    const box = tip();
    box.replaceChildren(...lines().map((line, place) => html(place ? "span" : "b", {}, line)));
    box.hidden = false;
    const from = element.getBoundingClientRect();
    const { offsetWidth: wide, offsetHeight: high } = box;
    const left = Math.min(Math.max(8, from.left + from.width / 2 - wide / 2), document.documentElement.clientWidth - wide - 8);
    const above = from.top - high - 10;
    box.style.left = `${left + scrollX}px`;
    box.style.top = `${(above > 56 ? above : from.bottom + 10) + scrollY}px`;
  };
  const hide = () => { tip().hidden = true; };
  element.addEventListener("pointerenter", show);
  element.addEventListener("pointerleave", hide);
  element.addEventListener("focus", show);
  element.addEventListener("blur", hide);
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") tip().hidden = true;
});

export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
