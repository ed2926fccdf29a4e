// What the caches did: hit rate over cache size, layer by layer, and what a token waits for.
const plotLayout = (more) => {
  const base = layout({ x: undefined, y: undefined, low: 0, high: 0 }, "");
  const axis = (given, own) => ({ ...given, type: "linear", tickmode: "auto", tickvals: undefined, ...own, title: { ...given.title, text: own.title || "" } });
  return { ...base, shapes: [], annotations: [], ...more, xaxis: axis(base.xaxis, more.xaxis || {}), yaxis: axis(base.yaxis, more.yaxis || {}) };
};
const inFamily = (i) => FAMILIES[columns.setting[i]] === FAMILIES[state.setting];

// A plain table from rows of texts; the first cell of a row heads it.
function plainTable(titles, rows, caption) {
  const table = element("table", "", "compact");
  if (caption) table.createCaption().textContent = caption;
  const head = table.createTHead().insertRow();
  titles.forEach((title, k) => { const cell = element("th", title, k ? "num" : ""); cell.scope = "col"; head.append(cell); });
  const body = table.createTBody();
  for (const [first, ...rest] of rows) {
    const row = body.insertRow(), cell = element("th", first);
    cell.scope = "row";
    row.append(cell, ...rest.map((text) => element("td", text, "num")));
  }
  return table;
}

// --- hit rate over cache size ---------------------------------------------------------------------
const masksOf = (i) => `${coded("method", i)}${coded("told", i) && ` · ${coded("told", i)}`}${coded("allocation", i) && coded("allocation", i) !== "none" ? ` · ${coded("allocation", i)}` : ""}${densityText(i, " · ")}`;

function startCurve() {
  const select = document.getElementById("m-masks");
  if (!select) return;
  const names = [...groupBy(everyPoint.filter((i) => groupsOf(i)?.some((g) => g.curve.length)), masksOf).keys()].sort();
  const others = [...groupBy(everyPoint.filter((i) => groupsOf(i)?.length && !has(i, CACHE_AWARE)), masksOf).keys()].sort();
  const offered = names.length ? names : others;
  const preferred = offered.find((n) => seriesByName.has(`${n.split(" ")[0]}-ca`) && n.endsWith("0.7"));
  state.masks = preferred || offered[0] || "";
  options(select, offered.map((n) => [n, n]), state.masks);
  select.addEventListener("change", () => { state.masks = select.value; drawCurve(); fillTables(); });
}

// The LRU curve of one configuration: hits of all groups together, at each per cent of them cached.
function lruCurve(members) {
  const with100 = members.find((i) => groupsOf(i).every((g) => g.curve.length));
  if (with100 === undefined) return null;
  const groups = groupsOf(with100), used = sumOf(groups, (g) => g.total);
  return Array.from({ length: 101 }, (_, p) => sumOf(groups, (g) => g.curve[p]) / used);
}

function curveMembers() {
  const like = everyPoint.filter((i) => inFamily(i) && groupsOf(i)?.length && masksOf(i) === state.masks);
  const distinct = [...groupBy(like, (i) => `${coded("series", i)}|${coded("policy", i)}|${columns.gamma[i]}|${settingOf(i).dram_gb}`).values()].map((g) => g[0]);
  return { like, distinct: distinct.filter((i) => coded("policy", i) !== "none" && known(columns.hit_rate[i])).sort((a, b) => columns.cache_fraction[a] - columns.cache_fraction[b]) };
}

function drawCurve() {
  if (!document.getElementById("curve") || !counts.doc) return;
  const { like, distinct } = curveMembers(), traces = [], shares = Array.from({ length: 101 }, (_, p) => p);
  traces.push({ type: "scatter", mode: "lines", name: "no locality", x: [0, 100], y: [0, 100], line: { color: css("--strong"), width: 1.2, dash: "dot" }, hoverinfo: "skip" });
  const curve = lruCurve(like);
  const lru = policyByName.get("lru");
  if (curve) traces.push({ type: "scatter", mode: "lines", name: "lru, every size", x: shares, y: curve.map((h) => 100 * h), line: { color: shade(lru), width: 2.5 }, hovertemplate: "lru with %{x} % cached hits %{y:.1f} %<extra></extra>" });
  const named = (i) => (has(i, CACHE_AWARE) ? `γ ${columns.gamma[i]} · ${coded("policy", i)}` : coded("policy", i) + bounded(i));
  for (const [name, members] of groupBy(distinct, named)) {
    const aware = has(members[0], CACHE_AWARE), color = aware ? shade(seriesByName.get(coded("series", members[0]))) : shade(policyLook(members[0]));
    const symbol = aware ? SYMBOLS[traces.length % SYMBOLS.length] : "circle";
    traces.push({ type: "scatter", mode: "markers", name: literal(name), x: members.map((i) => 100 * columns.cache_fraction[i]), y: members.map((i) => 100 * columns.hit_rate[i]), text: members.map(hoverText), customdata: members, hovertemplate: "%{text}<extra></extra>", marker: { color, size: aware ? 11 : 9, symbol: policyLook(members[0]).offline ? "circle-open" : symbol, line: { width: 1.2, color: policyLook(members[0]).offline ? color : css("--surface") } } });
  }
  Plotly.react("curve", traces, plotLayout({ xaxis: { title: narrow() ? "cached share, %" : "share of the pruned weights that the caches hold, %", range: [-1, 101] }, yaxis: { title: "hit rate, %", range: [-1, 102] } }), CONFIG);
}

function curveTable(box) {
  const { like, distinct } = curveMembers(), curve = lruCurve(like);
  const rows = curve ? [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100].map((p) => ["lru", `${p} %`, percent(curve[p])]) : [];
  const own = distinct.map((i) => [has(i, CACHE_AWARE) ? `${coded("series", i)}, γ ${columns.gamma[i]}, ${coded("policy", i)}` : `${coded("policy", i)}${bounded(i)}`, percent(columns.cache_fraction[i]), percent(columns.hit_rate[i])]);
  box.replaceChildren(plainTable(["Policy", "Cached", "Hit rate"], [...rows, ...own], state.masks));
}

// --- layer by layer -------------------------------------------------------------------------------
const MOST_ROWS = 28;
const layerValue = (values, k) => (Array.isArray(values) ? values[k] : values);

function layerRows() {
  const line = frontiers().flatMap((f) => f.line).filter((i) => groupsOf(i)?.length);
  const rows = [...new Set(line)].sort((a, b) => delta(a) - delta(b)).slice(0, MOST_ROWS);
  return rows.flatMap((i) => groupsOf(i).map((g) => ({ i, g, name: `${configurationOf(i)} · ${g.name}` })));
}

function layerFigures({ g }) {
  return Array.from({ length: g.layers }, (_, k) => {
    if (state.layers === "density") return layerValue(g.usedByLayer, k) / (g.tokens * g.units);
    return g.hitRates[k] >= 0 ? g.hitRates[k] / 1000 : null;
  });
}

const HEAT = { light: [[0, "#f2f6fb"], [0.5, "#5b9bd8"], [1, "#08306b"]], dark: [[0, "#1b2430"], [0.5, "#2f74b5"], [1, "#d6ecff"]] };

function drawLayers() {
  const box = document.getElementById("layers");
  if (!box || !counts.doc) return;
  const rows = layerRows().reverse();
  const z = rows.map((row) => layerFigures(row).map((x) => (x === null ? null : 100 * x)));
  const brief = ({ i, g }) => `${coded("series", i)} ${known(columns.density[i]) ? columns.density[i] : coded("told", i)}${has(i, CACHE_AWARE) ? ` γ${columns.gamma[i]}` : ""} ${g.name}`;
  const labels = rows.map((row) => row.name);
  box.style.height = `${Math.max(220, 110 + 19 * rows.length)}px`;
  const trace = {
    type: "heatmap", z, y: labels.map((_, k) => k), x: z[0]?.map((_, k) => k) ?? [], text: labels.map((name) => (z[0] ?? []).map(() => literal(name))), hoverongaps: false,
    hovertemplate: `%{text}<br>layer %{x}: %{z:.1f} %<extra></extra>`, colorscale: window.sweepTheme.isDark() ? HEAT.dark : HEAT.light,
    colorbar: { thickness: 12, ticksuffix: " %", outlinewidth: 0, tickfont: { color: css("--quiet") }, orientation: narrow() ? "h" : "v", ...(narrow() ? { y: -0.12, yanchor: "top" } : {}) },
  };
  const more = plotLayout({ xaxis: { title: "layer", constrain: "domain" }, yaxis: { title: "" } });
  Object.assign(more.yaxis, { tickmode: "array", tickvals: labels.map((_, k) => k), ticktext: rows.map((row) => literal(narrow() ? brief(row) : row.name)), tickfont: { size: narrow() ? 9 : 11 }, zeroline: false });
  if (state.paper) more.height = parseInt(box.style.height); // paper has no sizes of its own
  Plotly.react("layers", rows.length ? [trace] : [], more, CONFIG);
}

function layersTable(box) {
  const rows = layerRows(), layers = Math.max(0, ...rows.map(({ g }) => g.layers));
  box.replaceChildren(plainTable(["Configuration, group", ...Array.from({ length: layers }, (_, k) => String(k))], rows.map((row) => [row.name, ...layerFigures(row).map((x) => percent(x))]), state.layers === "density" ? "Share of the units that a token uses, by layer" : "Hit rate by layer"));
}

// --- what a token waits for -----------------------------------------------------------------------
const PART_COLORS = { static: ["#7d8590", "#98a1ad"], input: ["#0a5fc2", "#62aef8"], intermediate: ["#d0430a", "#ff8f57"], neuron: ["#6437b5", "#bb9ff8"], "gate-neuron": ["#007a5c", "#3fcaa0"], "up-neuron": ["#ad3f86", "#eb8fcb"], "gate-input": ["#00747f", "#4cc3cf"], "up-input": ["#3a4cb4", "#97a5f5"], "attn-input": ["#8a6a00", "#dcb84a"], "attn-output": ["#4d6b00", "#a9cb52"] };
const PART_WORDS = { static: `always used (${data.attention ? "" : "attention, "}embedding, KV cache, dense matrices)` };

// The dense model and the best within each budget, on the device as it is now.
function timeRows() {
  const w = live.on ? live.device : deviceOf(state.setting), rows = [];
  const members = live.on ? live.points : everyPoint.filter((i) => columns.setting[i] === state.setting && has(i, MEASURED));
  const real = members.filter((i) => !has(i, BOUND));
  const add = (name, i) => {
    const figures = i === null || i === undefined ? null : live.on ? live.of.get(i) : priced(i, w);
    if (figures) rows.push({ name, i, parts: figures.parts, seconds: sumOf(figures.parts, (p) => p.flash + p.dram) });
  };
  add("dense", members.find((i) => coded("method", i) === "dense"));
  const seen = new Map();
  for (const limit of limits()) {
    const best = fastest(real, limit.at, costOf(limit));
    if (best === null || coded("method", best) === "dense") continue;
    seen.set(best, [...(seen.get(best) || []), limit.label]);
  }
  for (const [i, labels] of seen) add(`${labels.join(", ")}: ${configurationOf(i)}`, i);
  return rows;
}

function drawTime() {
  const box = document.getElementById("time");
  if (!box || !counts.doc) return;
  const rows = timeRows().reverse(), dark = window.sweepTheme.isDark();
  const names = [...new Set(rows.flatMap((r) => r.parts.map((p) => p.name)))];
  const traces = [];
  for (const name of names) {
    for (const wait of ["flash", "dram"]) {
      const x = rows.map((r) => 1e3 * (r.parts.find((p) => p.name === name)?.[wait] ?? 0));
      if (!x.some((ms) => ms > 0)) continue;
      const color = (PART_COLORS[name] || ["#555555", "#cccccc"])[Number(dark)];
      traces.push({ type: "bar", orientation: "h", name: literal(`${name}, ${wait === "flash" ? "Flash" : "DRAM"}`), x, y: rows.map((_, k) => k), marker: { color, pattern: wait === "dram" ? { shape: "/", bgcolor: color, fgcolor: css("--surface"), size: 6, solidity: 0.35 } : undefined }, text: rows.map((r) => literal(r.name)), hovertemplate: `%{text}<br>${literal(PART_WORDS[name] || name)}, waits for ${wait === "flash" ? "Flash" : "DRAM"}: %{x:.3f} ms<extra></extra>`, textposition: "none" });
    }
  }
  const wide = narrow() ? 26 : 64;
  box.style.height = `${150 + 46 * rows.length}px`;
  const more = plotLayout({ barmode: "stack", bargap: 0.35, xaxis: { title: "milliseconds of a token", rangemode: "tozero" }, yaxis: { title: "" } });
  const wrapped = (text) => { const lines = []; for (const word of text.split(" ")) { if (lines.length && (lines[lines.length - 1] + word).length < wide) lines[lines.length - 1] += ` ${word}`; else lines.push(word); } return lines.map(literal).join("<br>"); };
  Object.assign(more.yaxis, { tickmode: "array", tickvals: rows.map((_, k) => k), ticktext: rows.map((r) => wrapped(r.name)), zeroline: false, tickfont: { size: narrow() ? 10 : 12 } });
  more.legend = { orientation: "h", y: -0.28, yanchor: "top", traceorder: "normal", font: { size: 12, color: css("--text") } };
  Plotly.react("time", traces, more, CONFIG);
}

function timeTable(box) {
  const rows = timeRows(), names = [...new Set(rows.flatMap((r) => r.parts.map((p) => p.name)))];
  const cells = names.flatMap((n) => [[n, "flash"], [n, "dram"]]);
  const titles = ["Configuration", ...cells.map(([n, wait]) => `${n}, ${wait === "flash" ? "Flash" : "DRAM"} ms`), "Sum ms"];
  box.replaceChildren(plainTable(titles, rows.map((r) => [r.name, ...cells.map(([n, wait]) => figure(1e3 * (r.parts.find((p) => p.name === n)?.[wait] ?? 0))), figure(1e3 * r.seconds)]), placeName()));
}
