// All points: sorted by any column, filtered by words, a hundred rows at a time.
const PAGE = 100;
const view = { sort: 0, down: true, page: 0, rows: [] };
const VARIED = ["device", "dram_gb", "flash_gbps", "dram_gbps", "timing", "cache_start", "cache_scope", "text", "windows", "dtype", "context", "dense_tokens"];
const TITLES = { device: "Device", dram_gb: "DRAM GB", flash_gbps: "Flash GB/s", dram_gbps: "DRAM GB/s", timing: "Timing", cache_start: "Start", cache_scope: "Scope", text: "Text", windows: "Windows", dtype: "Type", context: "Context", dense_tokens: "Dense tokens" };
const SETTING_COLUMNS = VARIED
  .filter((f) => ["dram_gb", "flash_gbps"].includes(f) || (f === "dense_tokens" && data.settings.some((s) => s[f])) || new Set(data.settings.map((s) => s[f])).size > 1)
  .map((f) => ({ title: TITLES[f], numeric: f.endsWith("gb") || f.endsWith("gbps"), value: (i) => settingOf(i)[f], text: (i) => (f === "text" ? settingOf(i).text_title : String(settingOf(i)[f])) }));
const POINT_COLUMNS = [
  ...FIGURES.slice(0, NAMES),
  ...(severalWeights ? [{ title: "Model", value: (i) => settingOf(i).weights, text: (i) => settingOf(i).weights }] : []),
  ...SETTING_COLUMNS,
  ...FIGURES.slice(NAMES),
  number("PPL", "ppl", (x) => fixed(x, 4)),
  number("Realised density", "mlp_density", (x) => fixed(x, 4)),
  ...(data.attention ? [number("Linear density", "linear_density", (x) => fixed(x, 4))] : []),
  number("Cache holds", "cache_fraction", percent),
  ...data.accuracyTasks.map((task) => number(task, `acc_${task}`, (x) => fixed(x, 4))),
  number("Reads/token", "reads_per_token", (x) => (known(x) ? Math.round(x).toLocaleString("en-US") : ABSENT)),
  number("KiB a read", "mean_read_bytes", (x) => figure(known(x) ? x / 1024 : null)),
  { title: "Frontier", value: (i) => columns.place[i], text: (i) => (columns.place[i] === null ? "" : "yes") },
  words("Status", "status"),
  { title: "Point", kind: "key", value: (i) => columns.key[i], text: (i) => columns.key[i], open: showPoint },
  { title: "Error", kind: "error", value: (i) => coded("error", i), text: (i) => coded("error", i), hint: (i) => coded("error", i) },
];

// At first the frontier of each setting, by rising ΔPPL; then the other points, the fastest first.
view.sort = POINT_COLUMNS.findIndex((c) => c.title === "Frontier");
view.down = false;
let searchable = null;
function searchText() {
  searchable ||= everyPoint.map((i) => {
    const s = settingOf(i);
    return [coded("series", i), coded("method", i), coded("selector", i), coded("told", i), coded("allocation", i), coded("policy", i), columns.density[i], columns.gamma[i], s.weights, s.label, coded("status", i), coded("error", i), columns.key[i]].join(" ").toLowerCase();
  });
  return searchable;
}

function compare(a, b) {
  if (typeof a === "string" || typeof b === "string") return String(a).localeCompare(String(b));
  return a - b;
}

function arrange() {
  const terms = document.getElementById("t-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const texts = terms.length ? searchText() : [];
  const rows = terms.length ? everyPoint.filter((i) => terms.every((t) => texts[i].includes(t))) : [...everyPoint];
  const { value } = POINT_COLUMNS[view.sort], sign = view.down ? -1 : 1;
  const absent = (x) => x === null || x === "" || Number.isNaN(x);
  rows.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (absent(x) || absent(y)) return absent(x) - absent(y) || (columns.tokens_per_s[b] ?? -1) - (columns.tokens_per_s[a] ?? -1) || a - b;
    return sign * compare(x, y) || a - b;
  });
  view.rows = rows;
  view.page = 0;
  showPage();
}

function header() {
  const row = document.createElement("tr");
  POINT_COLUMNS.forEach((column, k) => {
    const cell = document.createElement("th");
    cell.scope = "col";
    if (column.numeric) cell.className = "num";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = column.title + (k === view.sort ? (view.down ? " ↓" : " ↑") : "");
    if (k === view.sort) cell.setAttribute("aria-sort", view.down ? "descending" : "ascending");
    button.addEventListener("click", () => {
      view.down = k === view.sort ? !view.down : Boolean(column.numeric);
      view.sort = k;
      arrange();
      document.querySelectorAll("#t-box thead button")[k].focus();
    });
    cell.append(button);
    row.append(cell);
  });
  return row;
}

function showPage() {
  const box = document.getElementById("t-box");
  const pages = Math.max(1, Math.ceil(view.rows.length / PAGE));
  const table = document.createElement("table");
  table.createTHead().append(header());
  const body = table.createTBody();
  for (const i of view.rows.slice(view.page * PAGE, (view.page + 1) * PAGE)) {
    const row = body.insertRow();
    row.className = ["failed", "missing"].includes(coded("status", i)) ? coded("status", i) : "";
    fillRow(row, POINT_COLUMNS, i);
  }
  const sideways = box.scrollLeft;
  box.replaceChildren(table);
  box.scrollTo(sideways, 0);
  document.getElementById("t-count").textContent = `${view.rows.length.toLocaleString("en-US")} of ${data.count.toLocaleString("en-US")} points`;
  document.getElementById("t-page").textContent = `page ${view.page + 1} of ${pages}`;
  document.getElementById("t-page").classList.toggle("one-of-many", pages > 1);
  document.getElementById("t-back").disabled = view.page === 0;
  document.getElementById("t-next").disabled = view.page >= pages - 1;
}

function startTable() {
  let timer = 0;
  document.getElementById("t-filter").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(arrange, 120); });
  document.getElementById("t-back").addEventListener("click", () => { view.page -= 1; showPage(); });
  document.getElementById("t-next").addEventListener("click", () => { view.page += 1; showPage(); });
  arrange();
}
