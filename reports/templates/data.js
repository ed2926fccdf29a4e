// The columns of the results table, how they are written, and the frontier of any set of points.
const data = JSON.parse(document.getElementById("data").textContent);
const columns = data.columns;
const coded = (name, i) => columns[name].names[columns[name].codes[i]];
const everyPoint = Array.from({ length: data.count }, (_, i) => i);
const MEASURED = 1, CACHE_AWARE = 2, BOUND = 4;
const has = (i, flag) => (columns.flags[i] & flag) !== 0;
const seriesByName = new Map(data.series.map((s) => [s.name, s]));
const policyByName = new Map(data.policies.map((p) => [p.name, p]));
const gain = (i) => now("tokens_per_s", i) / now("tokens_per_s_dense", i);

// Words: the same rules as numbers.py.
const ABSENT = "–";
const known = (x) => x !== null && x !== undefined && Number.isFinite(x);
const GROUPED = Array.from({ length: 9 }, (_, n) => new Intl.NumberFormat("en-US", { minimumFractionDigits: n, maximumFractionDigits: n }));
function figure(x, digits = 3) {
  if (!known(x)) return ABSENT;
  if (x === 0) return "0";
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(x))));
  return GROUPED[Math.min(places, 8)].format(x);
}
const fixed = (x, places) => (known(x) ? x.toFixed(places) : ABSENT);
function signed(x, places = 3) {
  if (!known(x)) return ABSENT;
  if (x === 0) return "0";
  const size = Math.abs(x).toFixed(places);
  return (Number(size) === 0 ? "" : x < 0 ? "−" : "+") + size;
}
const percent = (x) => (known(x) ? (100 * x).toFixed(1) + " %" : ABSENT);
const megabytes = (x) => (known(x) ? figure(x / 1e6) : ABSENT);
const times = (x) => (known(x) ? x.toFixed(2) + "×" : ABSENT);
const interval = (i) => known(columns.delta_ppl_low[i]) && known(columns.delta_ppl_high[i])
  ? `[${signed(columns.delta_ppl_low[i])}, ${signed(columns.delta_ppl_high[i])}]` : "";
const between = (name, write) => (i) => (coded("method", i) !== "dense" && known(columns[`${name}_low`][i]) && known(columns[`${name}_high`][i])
  ? `[${write(columns[`${name}_low`][i])}, ${write(columns[`${name}_high`][i])}]` : "");
const klInterval = between("kl", figure), flipsInterval = between("flip_rate", percent);
const klText = (i) => `${figure(columns.kl[i])} ${klInterval(i)}`.trim();
const flipsText = (i) => `${percent(columns.flip_rate[i])} ${flipsInterval(i)}`.trim();

// Plotly reads a few tags in texts: values appear literally.
const literal = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

// Indices of the points that no other is at least as good as on both, by rising cost (frontier.py).
function pareto(indices, cost, value) {
  const usable = indices.filter((i) => known(cost(i)) && known(value(i)));
  usable.sort((a, b) => cost(a) - cost(b) || value(b) - value(a) || a - b);
  const kept = [];
  for (const i of usable) {
    if (!kept.length || value(i) > value(kept[kept.length - 1])) kept.push(i);
  }
  return kept;
}

function groupBy(indices, key) {
  const groups = new Map();
  for (const i of indices) {
    const k = key(i);
    if (!groups.has(k)) groups.set(k, []);
    groups.get(k).push(i);
  }
  return groups;
}

// A table element from column definitions [{title, text(i), numeric}] and point indices.
function pointTable(definitions, indices, caption) {
  const table = document.createElement("table");
  table.className = "compact";
  if (caption) table.createCaption().textContent = caption;
  const head = table.createTHead().insertRow();
  for (const d of definitions) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = d.title;
    if (d.numeric) cell.className = "num";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const i of indices) fillRow(body.insertRow(), definitions, i);
  return table;
}

function fillRow(row, definitions, i) {
  for (const d of definitions) {
    const cell = row.insertCell();
    if (d.open) cell.append(keyButton(d, i));
    else cell.textContent = d.text(i);
    if (d.numeric) cell.className = "num";
    if (d.kind) cell.className = d.kind;
    if (d.hint) cell.title = d.hint(i);
  }
}

function keyButton(definition, i) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = definition.text(i);
  button.addEventListener("click", () => definition.open(i));
  return button;
}

const number = (title, name, write, read = (i) => columns[name][i]) => ({ title, numeric: true, value: read, text: (i) => write(read(i)) });
const words = (title, name) => ({ title, value: (i) => coded(name, i), text: (i) => coded(name, i) });
const plainNumber = (x) => (known(x) ? String(x) : ABSENT);
// The density that was asked for; a fixed price of reads asks for none.
const densityText = (i, before = "") => (known(columns.density[i]) ? `${before}density ${columns.density[i]}` : "");
const settingOf = (i) => data.settings[columns.setting[i]];
const severalWeights = new Set(data.settings.map((s) => s.weights)).size > 1;

const DISTANCES = [
  number("KL", "kl", figure),
  { title: "KL interval", numeric: true, value: (i) => columns.kl_high[i], text: klInterval },
  number("Flips", "flip_rate", percent),
  { title: "Flips interval", numeric: true, value: (i) => columns.flip_rate_high[i], text: flipsInterval },
];

// The columns of every table of points; `read` gives a figure as stored, or as it is now.
const stored = (name, i) => columns[name][i];
function figuresBy(read) {
  const live = (title, name, write) => number(title, name, write, (i) => read(name, i));
  const ratio = (i) => read("tokens_per_s", i) / read("tokens_per_s_dense", i);
  return [
    words("Method", "series"),
    number("Density", "density", plainNumber),
    number("γ", "gamma", plainNumber),
    ...(columns.told.names.some(Boolean) ? [words("Parameters", "told")] : []),
    words("Allocation", "allocation"),
    words("Policy", "policy"),
    live("tok/s", "tokens_per_s", figure),
    { title: "Gain", numeric: true, value: ratio, text: (i) => times(ratio(i)) },
    number("ΔPPL", "delta_ppl", signed),
    { title: "Interval", numeric: true, value: (i) => columns.delta_ppl_high[i], text: interval },
    ...(data.distances ? DISTANCES : []),
    live("Hit rate", "hit_rate", percent),
    live("Flash MB/token", "flash_bytes_per_token", megabytes),
    live("DRAM MB/token", "dram_bytes_per_token", megabytes),
  ];
}
const FIGURES = figuresBy(stored);
const NAMES = FIGURES.findIndex((c) => c.title === "Policy") + 1; // what a point is called by comes first
