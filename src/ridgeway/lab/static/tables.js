// Where numbers come from: tables of the cost model, asked of the server or carried by the page. Nothing is computed.

const FIRST = 2;
const LOWEST = -40;
const MANTISSAS = 900;

/** A figure's numbers at every stop of the sliders within it. */
export class Table {
  constructor(axes, columns, facts) {
    this.axes = axes;
    this.columns = columns;
    this.facts = facts;
  }

  /** The value of a column where the sliders stand; `position` may name more sliders than the table has. */
  at(column, position) {
    return this.columns[column][this.#index(position)];
  }

  /** All columns there. */
  row(position) {
    const index = this.#index(position);
    return Object.fromEntries(Object.entries(this.columns).map(([name, values]) => [name, values[index]]));
  }

  /** [stop, value] along one slider while the others stand. */
  along(column, axis, position) {
    return this.axes[axis].map((stop) => [stop, this.at(column, { ...position, [axis]: stop })]);
  }

  #index(position) {
    let index = 0;
    for (const [name, stops] of Object.entries(this.axes)) {
      const place = stops.indexOf(position[name]);
      if (place < 0) throw new Error(`${name}=${position[name]} is not a stop`);
      index = index * stops.length + place;
    }
    return index;
  }
}

/** Asks the server for each table once. */
export class ServedTables {
  #kept = new Map();

  load(subject, figure, position) {
    const address = `/api/tables/${figure}?${new URLSearchParams({ ...subject, ...position })}`;
    if (!this.#kept.has(address)) {
      const asked = this.#ask(address);
      asked.catch(() => this.#kept.delete(address));
      this.#kept.set(address, asked);
    }
    return this.#kept.get(address);
  }

  async #ask(address) {
    let answer;
    try {
      answer = await fetch(address);
    } catch {
      throw new Error("the server does not answer; is ridgeway lab still running?");
    }
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error ?? `the server answered ${answer.status}`);
    return new Table(told.axes, told.columns, told.facts);
  }
}

/** Unpacks the tables that the page carries, a model and machine at a time. */
export class CarriedTables {
  #figures;
  #packed;
  #kept = new Map();

  constructor(figures, packed) {
    this.#figures = figures;
    this.#packed = packed;
  }

  async load(subject, figure, position) {
    const held = this.#packed.find((one) => Object.keys(subject).every((name) => one[name] === subject[name]));
    if (!held) throw new Error(`this file does not hold ${subject.model} in ${subject.precision} on ${subject.machine}`);
    const key = `${Object.values(subject).join()} ${figure}`;
    if (!this.#kept.has(key)) this.#kept.set(key, this.#unpack(figure, held.figures[figure]));
    const tables = await this.#kept.get(key);
    let index = 0;
    for (const [name, stops] of Object.entries(this.#figures[figure].chosen)) {
      index = index * stops.length + stops.indexOf(position[name]);
    }
    return tables[index];
  }

  async #unpack(figure, packed) {
    const { chosen, within } = this.#figures[figure];
    const many = (stops) => Object.values(stops).reduce((product, list) => product * list.length, 1);
    const numbers = packed.data ? varints(await inflate(packed.data)) : null;
    const facts = packed.facts ? JSON.parse(new TextDecoder().decode(await inflate(packed.facts))) : [];
    return Array.from({ length: many(chosen) }, (_, place) => {
      const columns = {};
      for (const [name, kind, words] of packed.columns) {
        let code = 0;
        columns[name] = Array.from({ length: many(within) }, () => {
          const step = numbers.next().value;
          code += step % 2 ? -(step + 1) / 2 : step / 2;
          return meaning(code, kind, words);
        });
      }
      return new Table(within, columns, facts[place] ?? {});
    });
  }
}

function meaning(code, kind, words) {
  if (code === 0) return null;
  if (kind === "word") return words[code - FIRST];
  if (kind === "count") return code - FIRST;
  if (code === 1) return 0;
  const digits = (code - FIRST) % MANTISSAS + 100;
  return Number(`${digits}e${Math.floor((code - FIRST) / MANTISSAS) + LOWEST - 2}`);
}

async function inflate(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function* varints(data) {
  let value = 0;
  let scale = 1;
  for (const byte of data) {
    value += (byte & 127) * scale;
    scale *= 128;
    if (byte < 128) {
      yield value;
      value = 0;
      scale = 1;
    }
  }
}
