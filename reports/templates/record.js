// The study beside a run, and when each of its tasks was computed.
const STATES = { done: "circle", stopped: "circle-open", failed: "x" };

function studyRows() {
  const t = data.study.trials;
  const rows = t.trial.map((ordinal, k) => Object.fromEntries(Object.entries(t).map(([name, values]) => [name, values[k]])));
  return rows.filter((row) => row.setting === state.study);
}

// The objectives as [metric, "maximize" or "minimize"]; a study of old is read from its columns.
const objectives = () => Object.entries(data.study.study?.objective ?? { tokens_per_s: "maximize" });
const METRIC_WORDS = { tokens_per_s: "tok/s", delta_ppl: "ΔPPL", kl: "KL", ppl: "perplexity", mlp_density: "MLP density", hit_rate: "hit rate", flash_bytes_per_token: "Flash bytes per token" };
const metricWord = (name) => METRIC_WORDS[name] || name;
const searchedNames = () => data.study.study?.searched ?? [];
const trialText = (row) => literal(`trial ${row.trial}, ${row.state}${row.feasible === "False" ? ", beyond the budget" : ""}`) + searchedNames().map((n) => `<br>${literal(n)} ${literal(typeof row[n] === "number" ? figure(row[n]) : row[n] ?? ABSENT)}`).join("") + `<br>${figure(row.tokens_per_s)} tok/s, ΔPPL ${signed(row.delta_ppl)}` + (known(row.kl) ? `, KL ${figure(row.kl)}` : "");
const measuredWhole = (row) => row.state === "done";
const allowed = (row) => row.feasible !== "False";
const trialMarker = (rows) => ({ size: 8, symbol: rows.map((r) => STATES[r.state] || "circle"), color: rows.map((r) => (allowed(r) ? css("--accent") : css("--quiet"))), line: { width: 1.2, color: rows.map((r) => (allowed(r) ? css("--accent") : css("--quiet"))) } });

function drawHistory() {
  const rows = studyRows(), [metric, way] = objectives()[0], usable = rows.filter((r) => known(r[metric]));
  let best = null;
  const steps = rows.map((r) => {
    if (measuredWhole(r) && allowed(r) && known(r[metric]) && (best === null || (way === "maximize" ? r[metric] > best : r[metric] < best))) best = r[metric];
    return best;
  });
  const traces = [{ type: "scatter", mode: "markers", name: "trials", x: usable.map((r) => r.trial), y: usable.map((r) => r[metric]), text: usable.map(trialText), hovertemplate: "%{text}<extra></extra>", marker: trialMarker(usable) }];
  if (objectives().length === 1) traces.push({ type: "scatter", mode: "lines", name: "best so far", x: rows.map((r) => r.trial), y: steps, line: { shape: "hv", color: css("--good"), width: 2 }, hoverinfo: "skip" });
  Plotly.react("history", traces, plotLayout({ showlegend: false, xaxis: { title: "trial" }, yaxis: { title: metricWord(metric) } }), CONFIG);
}

function drawImportance() {
  const box = document.getElementById("importance");
  const found = data.study.study?.importance?.[state.study] ?? {}, names = objectives().map(([n]) => n);
  const entries = Object.entries(found).filter(([k]) => names[Number(k)]);
  box.hidden = !entries.length;
  if (!entries.length) return;
  const traces = entries.map(([k, shares]) => ({ type: "bar", orientation: "h", name: literal(metricWord(names[Number(k)])), y: Object.keys(shares).map(literal), x: Object.values(shares).map((s) => 100 * s), hovertemplate: "%{y}: %{x:.1f} %<extra></extra>", marker: { color: Number(k) ? css("--open") : css("--accent") } }));
  Plotly.react("importance", traces, plotLayout({ barmode: "group", showlegend: entries.length > 1, xaxis: { title: "share of what varies, %", range: [0, 100] }, yaxis: { title: "", type: "category", automargin: true } }), CONFIG);
}

function drawStudyFrontier() {
  const several = objectives().length > 1, ofKl = String(data.study.study?.within ?? "").startsWith("kl=");
  const [[x, xWay], [y, yWay]] = several ? objectives() : [[ofKl ? "kl" : "delta_ppl", "minimize"], ["tokens_per_s", "maximize"]];
  const rows = studyRows().filter((r) => known(r[x]) && known(r[y]));
  const whole = rows.map((_, k) => k).filter((k) => measuredWhole(rows[k]));
  const cost = (k) => (xWay === "maximize" ? -1 : 1) * rows[k][x], value = (k) => (yWay === "minimize" ? -1 : 1) * rows[k][y];
  const line = pareto(whole, cost, value);
  const traces = [
    { type: "scatter", mode: "lines", name: "frontier", x: line.map((k) => rows[k][x]), y: line.map((k) => rows[k][y]), line: { color: css("--good"), width: 2 }, hoverinfo: "skip" },
    { type: "scatter", mode: "markers", name: "trials", x: rows.map((r) => r[x]), y: rows.map((r) => r[y]), text: rows.map(trialText), hovertemplate: "%{text}<extra></extra>", marker: trialMarker(rows) },
  ];
  Plotly.react("study-frontier", traces, plotLayout({ showlegend: false, xaxis: { title: metricWord(x) }, yaxis: { title: metricWord(y) } }), CONFIG);
}

function drawFit() {
  const box = document.getElementById("fit"), fit = data.study.fit;
  box.hidden = !fit || !Array.isArray(fit.points) || !fit.points.length;
  if (box.hidden) return;
  const shares = Array.from({ length: 91 }, (_, k) => 0.05 + k / 100);
  const curve = ({ slope, intercept }) => shares.map((d) => 1 / (1 + Math.exp(-(slope * Math.log(d / (1 - d)) + intercept))));
  const traces = [{ type: "scatter", mode: "markers", name: "frontier", x: fit.points.map((p) => p[0]), y: fit.points.map((p) => p[1]), marker: { size: 8, color: css("--accent") }, hovertemplate: "density %{x:.3f}: input %{y:.3f}<extra></extra>" },
    { type: "scatter", mode: "lines", name: "fit", x: shares, y: curve(fit), line: { color: css("--good"), width: 2 }, hoverinfo: "skip" }];
  if (fit.published) traces.push({ type: "scatter", mode: "lines", name: "paper", x: shares, y: curve(fit.published), line: { color: css("--quiet"), width: 1.5, dash: "dash" }, hoverinfo: "skip" });
  Plotly.react("fit", traces, plotLayout({ xaxis: { title: "MLP density", range: [0, 1] }, yaxis: { title: "density of the input group", range: [0, 1] } }), CONFIG);
}

function drawStudy() {
  if (!data.study || !document.getElementById("history")) return;
  drawHistory();
  drawImportance();
  drawStudyFrontier();
  drawFit();
}

function studyTable(box) {
  const names = searchedNames();
  const cell = (x) => (typeof x === "number" ? figure(x) : x ?? ABSENT);
  const rows = studyRows().map((r) => [String(r.trial), r.feasible === "False" ? `${r.state}, beyond` : r.state, ...names.map((n) => cell(r[n])), figure(r.tokens_per_s), signed(r.delta_ppl), fixed(r.mlp_density, 4), percent(r.hit_rate)]);
  box.replaceChildren(plainTable(["Trial", "State", ...names, "tok/s", "ΔPPL", "MLP density", "Hit rate"], rows, state.study));
}

function startStudy() {
  const select = document.getElementById("s-setting");
  if (!select || !data.study) return;
  const names = [...new Set(data.study.trials.setting)];
  state.study = names[0];
  options(select, names.map((n) => [n, n]), names[0]);
  select.closest("label").hidden = names.length < 2;
  select.addEventListener("change", () => { state.study = select.value; drawStudy(); fillTables(); });
}

// --- timeline -------------------------------------------------------------------------------------
const KIND_COLORS = { evaluate: ["#0a5fc2", "#62aef8"], simulate: ["#007a5c", "#3fcaa0"], calibrate: ["#b07d00", "#edc251"], train: ["#6437b5", "#bb9ff8"], transform: ["#d0430a", "#ff8f57"] };

// Idle stretches of more than a minute between tasks are cut out, so that a resumed run is readable.
const LONGEST_IDLE = 60;
function compressed(t) {
  const order = t.start.map((_, k) => k).sort((a, b) => t.start[a] - t.start[b]);
  const starts = [...t.start], cuts = [];
  let end = 0, cut = 0;
  for (const k of order) {
    if (t.start[k] - end > LONGEST_IDLE) { cut += t.start[k] - end - LONGEST_IDLE / 4; cuts.push(t.start[k] - cut - LONGEST_IDLE / 8); }
    starts[k] = t.start[k] - cut;
    end = Math.max(end, t.start[k] + t.length[k]);
  }
  return { starts, cuts };
}

function drawTimeline() {
  const box = document.getElementById("timeline"), t = data.timeline;
  if (!box || !t) return;
  const workers = [...new Set(t.worker)], { starts, cuts } = compressed(t), traces = [];
  for (const [kind, members] of groupBy(t.kind.map((_, k) => k), (k) => (t.status[k] === "done" ? t.kind[k] : `${t.kind[k]}, ${t.status[k]}`))) {
    const color = t.status[members[0]] === "done" ? (KIND_COLORS[kind] || ["#555555", "#cccccc"])[Number(window.sweepTheme.isDark())] : css("--bad");
    traces.push({ type: "bar", orientation: "h", name: literal(kind), base: members.map((k) => starts[k]), x: members.map((k) => t.length[k]), y: members.map((k) => workers.indexOf(t.worker[k])), customdata: members.map((k) => [literal(t.label[k]), figure(t.length[k]), literal(t.worker[k])]), hovertemplate: "%{customdata[0]}<br>%{customdata[1]} s on %{customdata[2]}<extra></extra>", marker: { color, line: { width: 0.6, color: css("--surface") } } });
  }
  box.style.height = `${(narrow() ? 240 : 170) + 30 * Math.min(workers.length, 24)}px`;
  const more = plotLayout({ barmode: "overlay", bargap: 0.25, xaxis: { title: narrow() ? "seconds from the first" : "seconds since the first task began" }, yaxis: { title: "" } });
  const short = (name) => (name.length <= (narrow() ? 10 : 18) ? name : narrow() ? `${name.slice(0, 9)}…` : `…${name.slice(-17)}`);
  Object.assign(more.yaxis, { tickmode: "array", tickvals: workers.map((_, k) => k), ticktext: workers.map((w) => literal(short(w))), zeroline: false, autorange: "reversed" });
  more.legend = { orientation: "h", yref: "container", y: 0, yanchor: "bottom", font: { size: 12, color: css("--text") } };
  more.shapes = cuts.map((x) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: css("--strong"), width: 1, dash: "dot" } }));
  more.margin = { ...more.margin, b: narrow() ? 110 : 70 };
  if (state.paper) more.height = parseInt(box.style.height); // paper has no sizes of its own
  Plotly.react("timeline", traces, more, CONFIG);
}

function timelineTable(box) {
  const t = data.timeline;
  const longest = t.length.map((_, k) => k).sort((a, b) => t.length[b] - t.length[a]).slice(0, 50);
  box.replaceChildren(plainTable(["Task", "Kind", "Start s", "Seconds", "Worker"], longest.map((k) => [t.label[k], t.status[k] === "done" ? t.kind[k] : `${t.kind[k]}, ${t.status[k]}`, figure(t.start[k]), figure(t.length[k]), t.worker[k]]), "The longest tasks"));
}
