// The charts of points. They share one set of filters and are drawn again whenever one changes.
const state = { setting: 0, method: "", policy: "", gamma: "", bounds: true, range: "budget", scale: "linear", series: "", masks: "", layers: "hits", study: "", paper: false };
const narrow = () => window.innerWidth < 760;
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const shade = (look) => (window.sweepTheme.isDark() ? look.dark : look.light);
const CONFIG = { responsive: true, displaylogo: false, plotlyServerURL: "", modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };

function chosenPoints({ policies = true } = {}) {
  const here = live.on ? live.points : everyPoint.filter((i) => columns.setting[i] === state.setting && has(i, MEASURED));
  return here.filter((i) => {
    if (has(i, BOUND) && !state.bounds) return false;
    if (coded("method", i) === "dense") return true;
    if (state.method && coded("series", i) !== state.method) return false;
    if (policies && state.policy && coded("policy", i) !== state.policy) return false;
    return !(state.gamma && has(i, CACHE_AWARE) && String(columns.gamma[i]) !== state.gamma);
  });
}

function hoverText(i) {
  const lines = [
    `<b>${literal(coded("series", i))}</b>  density ${plainNumber(columns.density[i])} (realised ${figure(columns.mlp_density[i])})`,
    [has(i, CACHE_AWARE) ? `γ ${columns.gamma[i]}` : "", coded("told", i), coded("allocation", i), `policy ${coded("policy", i)}`].filter(Boolean).map(literal).join(" · "),
    `<b>${written(i)} tok/s</b>  ${times(gain(i))} dense${isBound(i) ? `, at most ${figure(live.of.get(i).most)}` : ""}`,
    `ΔPPL <b>${signed(columns.delta_ppl[i])}</b> ${interval(i)}  PPL ${fixed(columns.ppl[i], 3)}`,
    ...(known(columns.kl[i]) ? [`KL ${klText(i)}  flips ${flipsText(i)}`] : []),
    `hit rate ${percent(now("hit_rate", i))}, cache holds ${percent(now("cache_fraction", i))}`,
    `Flash ${megabytes(now("flash_bytes_per_token", i))} MB, DRAM ${megabytes(now("dram_bytes_per_token", i))} MB a token`,
  ];
  const plain = columns.plain_flash[i];
  if (known(plain) && plain > 0) lines.push(`Flash ${signed(100 * (now("flash_bytes_per_token", i) / plain - 1), 1)} % against plain at this ΔPPL`);
  for (const task of data.accuracyTasks) {
    if (known(columns[`acc_${task}`][i])) lines.push(`${literal(task)} ${fixed(columns[`acc_${task}`][i], 4)}`);
  }
  if (has(i, BOUND)) lines.push("a bound: needs to know the future");
  lines.push(`point ${literal(columns.key[i])}`);
  return lines.join("<br>");
}

const limits = () => {
  const dense = everyPoint.find((i) => columns.setting[i] === state.setting && known(columns.ppl_dense[i]));
  const ppl = dense === undefined ? NaN : columns.ppl_dense[dense];
  return data.budgets.map((b) => ({ label: b.label, of: b.of, relative: b.relative, at: b.relative ? b.amount * ppl : b.amount })).filter((b) => known(b.at));
};

const lossLimits = () => limits().filter((b) => !isKl(b)); // those that have a place on an axis of ΔPPL

// Axis ranges: around the budgets, or everything. Plotly takes logarithms for log axes.
function ranges(indices, height) {
  const xs = indices.map((i) => columns.delta_ppl[i]);
  const positive = xs.filter((x) => x > 0);
  const log = state.scale === "log";
  const top = Math.max(...lossLimits().map((b) => b.at), 0.1) * 1.5;
  let low = log ? Math.min(...positive, 1) * 0.8 : Math.min(0, ...xs);
  let high = state.range === "budget" ? top : Math.max(top, ...xs) * (log ? 1.3 : 1.03);
  if (!log) low -= 0.025 * (high - low);
  const inside = indices.filter((i) => columns.delta_ppl[i] <= high && columns.delta_ppl[i] >= low);
  const shippable = inside.filter((i) => !has(i, BOUND)); // bounds may leave the view at the top
  const ys = (shippable.length ? shippable : inside.length ? inside : indices).map(height).filter((y) => known(y) && (!log || y > 0));
  const [bottom, ceiling] = [Math.min(...ys), Math.max(...ys)];
  const pad = (ceiling - bottom || ceiling || 1) * 0.07;
  const y = log ? [bottom * 0.93, ceiling * 1.1] : [Math.max(bottom - pad, 0), ceiling + 1.6 * pad];
  const written = (pair) => (log ? pair.map(Math.log10) : pair);
  return { x: written([low, high]), y: ys.length ? written(y) : undefined, hidden: indices.length - inside.length, low, high };
}

// Ticks at 1, 2 and 5 of each decade, fewer where the range is wide and more where it is narrow.
function logTicks([low, high]) {
  const steps = high - low > 3 ? [1] : high - low > 1 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
  const tickvals = [];
  for (let k = Math.floor(low); k <= high; k += 1) {
    for (const step of steps) tickvals.push(step * 10 ** k);
  }
  return { tickmode: "array", tickvals, ticktext: tickvals.map((v) => String(Number(v.toPrecision(2)))) };
}

function layout(axes, yTitle) {
  const line = css("--line"), quiet = css("--quiet");
  const axis = (title, range) => ({
    title: { text: title, font: { size: 13 }, standoff: 8 }, range, type: state.scale,
    gridcolor: line, zerolinecolor: css("--strong"), linecolor: css("--strong"), tickcolor: line, automargin: true,
    ...(state.scale === "log" && range ? logTicks(range) : {}),
  });
  return {
    width: state.paper ? 640 : undefined, autosize: !state.paper, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", dragmode: narrow() ? false : "zoom",
    font: { family: getComputedStyle(document.body).fontFamily, color: quiet, size: 12 },
    margin: narrow() ? { l: 44, r: 8, t: axes.x ? 128 : 26, b: 44 } : { l: 60, r: 16, t: 30, b: 50 },
    xaxis: axis("ΔPPL against dense", axes.x), yaxis: axis(yTitle, axes.y),
    modebar: { bgcolor: "rgba(0,0,0,0)", color: quiet, activecolor: css("--accent") },
    legend: narrow() ? { orientation: "h", y: -0.2, yanchor: "top", font: { size: 11.5 } } : { y: 1, font: { size: 13, color: css("--text") }, tracegroupgap: 2 },
    hoverlabel: { bgcolor: css("--surface"), bordercolor: css("--strong"), align: "left", font: { color: css("--text"), size: 12.5 } },
    ...(axes.x ? budgetLines(axes) : {}),
  };
}

function budgetLines(axes) {
  const log = state.scale === "log";
  const shown = lossLimits().filter((b) => b.at > axes.low && b.at < axes.high).sort((a, b) => a.at - b.at);
  const place = (x) => (log ? Math.log10(x) : x);
  const span = axes.x[1] - axes.x[0], width = Math.min(window.innerWidth, 1200) - (narrow() ? 70 : 260);
  const labels = []; // lines too close for two labels share one
  for (const { label, at } of shown) {
    const pixel = (width * (place(at) - axes.x[0])) / span;
    const last = labels.at(-1);
    if (last && pixel - last.pixel < 15) Object.assign(last, { label: `${last.label}, ${label}`, brief: `${last.first} … ${label}` });
    else labels.push({ label, brief: label, first: label, at, pixel });
  }
  return {
    shapes: shown.map((b) => ({ type: "line", x0: b.at, x1: b.at, yref: "paper", y0: 0, y1: 1, layer: "below", line: { color: css("--strong"), width: 1.2, dash: "dot" } })),
    // A narrow chart has no room for them beside its points: they stand above it, in few words.
    annotations: labels.map((b) => ({ x: place(b.at), yref: "paper", ...(narrow() ? { y: 1, yanchor: "bottom", xanchor: "center", text: literal(b.brief) } : { y: 0.995, yanchor: "top", xanchor: "right", text: literal(b.label) }), textangle: -90, showarrow: false, font: { size: 11, color: css("--quiet") } })),
  };
}

const policyLook = (i) => policyByName.get(coded("policy", i)) || { light: "#555555", dark: "#cccccc", dash: "solid" };
const policyOrder = (a, b) => (policyLook(a[1][0]).offline || false) - (policyLook(b[1][0]).offline || false) || (a[0] < b[0] ? -1 : 1);
const bounded = (i) => (policyLook(i).offline ? " (bound)" : "");
const pick = (indices, of) => indices.map(of);
const delta = (i) => columns.delta_ppl[i];
const speed = (i) => now("tokens_per_s", i);
const flash = (i) => { const bytes = now("flash_bytes_per_token", i); return known(bytes) ? bytes / 1e6 : null; };
const spread = (indices, height) => ({ x: pick(indices, delta), y: pick(indices, height), text: pick(indices, hoverText), customdata: indices, hovertemplate: "%{text}<extra></extra>" });
const lineOf = (indices, height, look, more) => ({ type: "scatter", mode: "lines", x: pick(indices, delta), y: pick(indices, height), hoverinfo: "skip", showlegend: false, line: { color: look, width: 2 }, ...more });

// --- throughput against loss --------------------------------------------------------------------
function frontiers() {
  const groups = groupBy(chosenPoints(), (i) => coded("series", i));
  return data.series.filter((s) => groups.has(s.name)).map((s) => {
    const all = groups.get(s.name);
    const real = all.filter((i) => !has(i, BOUND));
    return { series: s, all, bound: !real.length, line: pareto(real.length ? real : all, delta, speed) };
  });
}

// Points behind the frontiers are thinned evenly where there are too many to draw at once.
const MOST_DRAWN = 1200;
function thinned(indices) {
  const step = Math.ceil(indices.length / MOST_DRAWN);
  return step > 1 ? indices.filter((_, k) => k % step === 0) : indices;
}

function drawScatter() {
  const traces = [];
  const found = frontiers();
  const lines = new Set(found.flatMap((f) => f.line));
  const behind = found.flatMap((f) => f.all).filter((i) => !lines.has(i));
  const drawn = new Set(thinned(behind));
  for (const { series, all, bound, line } of found) {
    const color = shade(series), group = series.name;
    const off = all.filter((i) => drawn.has(i));
    traces.push(lineOf(line, speed, color, { legendgroup: group, line: { color, width: 2, dash: bound ? "dot" : "solid" } }));
    const parts = [[off.filter((i) => has(i, BOUND)), `${series.symbol}-open`, 0.55, 6], [off.filter((i) => !has(i, BOUND)), series.symbol, 0.4, 6], [line, bound ? `${series.symbol}-open` : series.symbol, 1, 9]];
    for (const [members, symbol, opacity, size] of parts) {
      const front = members === line;
      if (!members.length && !front) continue;
      traces.push({ type: "scatter", mode: "markers", name: literal(series.name), legendgroup: group, showlegend: front, ...spread(members, speed), marker: { color, symbol, opacity, size: group === "dense" ? 13 : size, line: { width: front && !bound ? 1 : 0.8, color: front && !bound ? css("--surface") : color } } });
    }
  }
  const shown = found.flatMap((f) => f.all);
  const axes = ranges(shown, speed);
  const unloggable = state.scale === "log" ? shown.filter((i) => delta(i) <= 0).length : 0;
  const notes = [];
  if (drawn.size < behind.length) notes.push(`${lines.size + drawn.size} of ${shown.length} points are drawn, every one of the frontiers`);
  if (axes.hidden - unloggable > 0) notes.push(`${axes.hidden - unloggable} of ${shown.length} points lie outside this view`);
  if (unloggable) notes.push(`${unloggable} with ΔPPL of 0 or less ${unloggable === 1 ? "has" : "have"} no place on a logarithmic axis`);
  document.getElementById("scatter-note").textContent = notes.join("; ");
  Plotly.react("scatter", traces, layout(axes, "tok/s"), CONFIG);
}

// --- cache-aware against plain --------------------------------------------------------------------
const SYMBOLS = ["diamond", "square", "triangle-up", "cross", "pentagon", "hexagon", "star"];

function awarePoints() {
  return chosenPoints().filter((i) => has(i, CACHE_AWARE) && known(flash(i)));
}

function drawFlash() {
  if (!document.getElementById("flash")) return;
  const twins = new Set(data.series.filter((s) => s.plain).map((s) => s.plain));
  const plain = chosenPoints().filter((i) => twins.has(coded("series", i)) && known(flash(i)));
  const traces = [];
  for (const [key, members] of [...groupBy(plain, (i) => `${coded("series", i)} · ${coded("policy", i)}`)].sort(policyOrder)) {
    const color = shade(twins.size > 1 ? seriesByName.get(coded("series", members[0])) : policyLook(members[0]));
    const line = pareto(members, delta, (i) => -flash(i));
    traces.push({ ...lineOf(line, flash, color), ...spread(line, flash), mode: "lines+markers", hoverinfo: undefined, name: literal(key) + bounded(members[0]), showlegend: true, marker: { color, size: 6, symbol: policyLook(members[0]).symbol }, line: { color, width: policyLook(members[0]).offline ? 1 : 2, dash: policyLook(members[0]).dash } });
  }
  const aware = thinned(awarePoints());
  const gammas = [...new Set(aware.map((i) => columns.gamma[i]))].sort((a, b) => a - b);
  for (const [key, members] of [...groupBy(aware, (i) => `${coded("series", i)} · ${coded("policy", i)} · γ ${columns.gamma[i]}`)].sort()) {
    const color = shade(seriesByName.get(coded("series", members[0])));
    traces.push({ type: "scatter", mode: "markers", name: literal(key), ...spread(members, flash), marker: { color, size: 10, symbol: SYMBOLS[gammas.indexOf(columns.gamma[members[0]]) % SYMBOLS.length], line: { width: 1, color: css("--surface") } } });
  }
  Plotly.react("flash", traces, layout(ranges([...plain, ...aware], flash), "Flash MB per token"), CONFIG);
}

// --- policies -----------------------------------------------------------------------------------
function drawPolicies() {
  if (!document.getElementById("policy")) return;
  const all = chosenPoints({ policies: false });
  const members = all.filter((i) => coded("series", i) === state.series);
  const traces = [];
  for (const [name, points] of [...groupBy(members, (i) => coded("policy", i))].sort(policyOrder)) {
    const look = policyLook(points[0]);
    const line = pareto(points, delta, speed);
    traces.push({ type: "scatter", mode: "lines+markers", name: literal(name || "none") + bounded(points[0]), ...spread(line, speed), line: { color: shade(look), width: 2, dash: look.dash }, marker: { color: shade(look), size: 7, symbol: look.symbol } });
  }
  const twin = data.series.find((s) => s.plain === state.series);
  const aware = twin ? pareto(all.filter((i) => coded("series", i) === twin.name), delta, speed) : [];
  if (aware.length) traces.push({ type: "scatter", mode: "lines+markers", name: literal(twin.name), ...spread(aware, speed), line: { color: shade(twin), width: 3 }, marker: { color: shade(twin), size: 9, symbol: twin.symbol } });
  const axes = ranges([...members, ...aware], speed);
  Plotly.react("policy", traces, layout(axes, "tok/s"), CONFIG);
}

// Where the figures of the charts are from: the device as simulated, or as the sliders have it.
function placeName() {
  if (!live.on) return data.settings[state.setting].label;
  const d = live.device;
  const reads = d.depth ? `${d.depth} reads in flight` : `${figure(d.flash / 1e9)} GB/s Flash${d.latency ? ` and ${figure(d.latency * 1e6)} µs a read` : ""}`;
  return `what if: ${reads}, ${figure(d.dram / 1e9)} GB/s DRAM, ${d.gb} GB DRAM`;
}

// --- the same figures as tables -------------------------------------------------------------------
const TABLES = {
  scatter: (box) => box.replaceChildren(pointTable(figuresBy(now), frontiers().flatMap((f) => f.line), placeName())),
  flash: (box) => {
    const against = { title: "Against plain", numeric: true, text: (i) => known(columns.plain_flash[i]) && columns.plain_flash[i] > 0 ? `${signed(100 * (columns.flash_bytes_per_token[i] / columns.plain_flash[i] - 1), 1)} %` : "outside its range" };
    const shown = awarePoints().sort((a, b) => delta(a) - delta(b));
    box.replaceChildren(pointTable([...figuresBy(now), against], shown, placeName()));
  },
  curve: (box) => counts.doc && curveTable(box),
  layers: (box) => counts.doc && layersTable(box),
  time: (box) => counts.doc && timeTable(box),
  study: (box) => studyTable(box),
  timeline: (box) => timelineTable(box),
};

function fillTables() {
  for (const box of document.querySelectorAll("[data-table]")) {
    if (box.closest("details").open) TABLES[box.dataset.table](box);
  }
}

// The lower charts are drawn when they come near the screen, and before printing.
const LOWER = { flash: drawFlash, policy: drawPolicies, curve: drawCurve, layers: drawLayers, time: drawTime, history: drawStudy, timeline: drawTimeline };
const near = new Set(), stale = new Set();

function drawStale(all = false) {
  for (const name of [...stale]) {
    if (!all && !near.has(name)) continue;
    stale.delete(name);
    LOWER[name]();
    listenTo(name);
  }
}

function watchCharts() {
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) entry.isIntersecting ? near.add(entry.target.id) : near.delete(entry.target.id);
    drawStale();
  }, { rootMargin: "400px" });
  for (const name of Object.keys(LOWER)) {
    const box = document.getElementById(name);
    if (box) watcher.observe(box);
  }
}

function drawAll() {
  if (data.settings.length) {
    drawScatter();
    listenTo("scatter");
    fillTables();
    Object.keys(LOWER).forEach((name) => stale.add(name));
    drawStale();
  }
  document.documentElement.dataset.drawn = "yes";
  performance.mark("drawn");
}
