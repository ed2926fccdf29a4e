// One point with everything that is known of it, and how to compute it again.
function pairs(entries) {
  const list = document.createElement("dl");
  for (const [title, text] of entries) {
    if (text === "" || text === null || text === undefined) continue;
    list.append(element("dt", title), element("dd", text));
  }
  return list;
}

function taskKeys(i) {
  const written = counts.doc ? counts.doc.tasks.names[counts.doc.tasks.codes[i]] : "[]";
  try { return JSON.parse(written).map(String); } catch { return []; }
}

function pointDetail(i) {
  const s = settingOf(i), seed = counts.doc ? counts.doc.seed.names[counts.doc.seed.codes[i]] : "";
  const figures = POINT_COLUMNS.filter((c) => c.title !== "Point").map((c) => [c.title, c.text(i)]).filter(([, text]) => text !== ABSENT);
  const box = document.createDocumentFragment();
  const title = element("h2", configurationOf(i));
  title.id = "detail-title";
  box.append(title, element("p", `${s.weights} · ${s.label}`, "quiet"));
  const command = data.command.replace("@@@", columns.key[i]);
  box.append(element("h3", "Compute it again"), codeLine(command));
  box.append(element("h3", "Figures"), pairs(figures));
  box.append(element("h3", "Measured on"), pairs([["Text", s.text_title], ["Windows", `${s.windows} of ${s.window_tokens} tokens`], ["Left dense", s.dense_tokens ? `first ${s.dense_tokens} tokens of each` : ""], ["Type", s.dtype], ["Cache", `${s.cache_start} start, scope ${s.cache_scope}`], ["Cache shares", coded("cache_shares", i)], ["Timing", s.timing], ["Seed", seed]]));
  if (known(columns.tokens_per_s_paper[i])) {
    const { chunk, wasted, tokens_per_s_paper: paper } = columns;
    box.append(element("h3", "Flash as it is"), pairs([["Layout", coded("layout", i)], ["Chunk", chunk[i] > 1 ? `${chunk[i]} units` : "single units"], ["Read ahead", lyingOf(i)[2]], ["Wasted", known(wasted[i]) ? percent(wasted[i]) : ""], ["By bytes alone", `${figure(paper[i])} tok/s`]]));
  }
  const keys = taskKeys(i);
  box.append(element("h3", `Tasks behind it${keys.length ? ` (${keys.length})` : ""}`), element("p", keys.join(" ") || "not recorded", "keys"));
  const versions = Object.entries(data.versions);
  if (versions.length) box.append(element("h3", "Versions"), pairs(versions));
  return box;
}

function codeLine(text) {
  const line = element("p", "", "command"), code = element("code", text), button = element("button", "Copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } catch { getSelection().selectAllChildren(code); button.textContent = "Selected"; }
  });
  line.append(code, button);
  return line;
}

function showPoint(i) {
  const dialog = document.getElementById("detail");
  document.getElementById("detail-body").replaceChildren(pointDetail(i));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

function startDetail() {
  const dialog = document.getElementById("detail");
  document.getElementById("detail-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}

// A click on a point of a chart; Plotly's listeners exist once it has drawn there.
const listening = new Set();
function listenTo(name) {
  const chart = document.getElementById(name);
  if (!chart?.on || listening.has(name)) return;
  listening.add(name);
  chart.on("plotly_click", (event) => { const i = event.points[0].customdata; if (Number.isInteger(i)) showPoint(i); });
}
