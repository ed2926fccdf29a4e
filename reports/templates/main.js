// Joins controls to charts.
function options(select, entries, chosen) {
  for (const [value, label] of entries) select.add(new Option(label, value, false, value === chosen));
}

// Models in one list, the device settings of the chosen model in the other.
function startSettings() {
  const model = document.getElementById("f-model"), setting = document.getElementById("f-setting");
  const models = [...new Set(data.settings.map((s) => s.weights))];
  const fill = () => {
    setting.replaceChildren();
    options(setting, data.settings.flatMap((s, k) => (s.weights === model.value ? [[String(k), s.label]] : [])), String(state.setting));
  };
  options(model, models.map((m) => [m, m]), models[0]);
  model.closest("label").hidden = models.length < 2;
  fill();
  model.addEventListener("change", () => {
    state.setting = data.settings.findIndex((s) => s.weights === model.value);
    fill();
    resetDevice();
    drawAll();
  });
}

function startFilters() {
  startSettings();
  options(document.getElementById("f-method"), [["", "all"], ...data.series.filter((s) => s.name !== "dense").map((s) => [s.name, s.name])], "");
  options(document.getElementById("f-policy"), [["", "all"], ...data.policies.map((p) => [p.name, p.offline ? `${p.name} (bound)` : p.name])], "");
  const gammas = [...new Set(everyPoint.filter((i) => has(i, CACHE_AWARE)).map((i) => columns.gamma[i]))].filter(known).sort((a, b) => a - b);
  options(document.getElementById("f-gamma"), [["", gammas.length ? "all" : "none in this run"], ...gammas.map((g) => [String(g), String(g)])], "");
  const listen = (id, then) => document.getElementById(id).addEventListener("change", (event) => { then(event.target); drawAll(); });
  listen("f-setting", (t) => { state.setting = Number(t.value); resetDevice(); });
  listen("f-method", (t) => { state.method = t.value; });
  listen("f-policy", (t) => { state.policy = t.value; });
  listen("f-gamma", (t) => { state.gamma = t.value; });
  listen("f-bounds", (t) => { state.bounds = t.checked; });
  document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
}

function startPolicies() {
  const select = document.getElementById("p-series");
  if (!select) return;
  const names = data.series.map((s) => s.name).filter((n) => everyPoint.some((i) => coded("series", i) === n && coded("policy", i) !== "none"));
  const twin = data.series.find((s) => s.plain && names.includes(s.plain));
  state.series = twin ? twin.plain : names[0];
  options(select, names.map((n) => [n, n]), state.series);
  select.addEventListener("change", () => { state.series = select.value; drawPolicies(); });
}

function startSwitch(name) {
  const buttons = document.querySelectorAll(`[data-${name}]`);
  for (const button of buttons) {
    button.addEventListener("click", () => {
      state[name] = button.dataset[name];
      for (const b of buttons) b.setAttribute("aria-pressed", String(b === button));
      drawAll();
    });
  }
}

// Paper is light, and narrower than most windows.
function onPaper(paper) {
  state.paper = paper;
  window.sweepTheme.onPaper(paper);
  drawAll();
  drawStale(true);
}

function startTheme() {
  const button = document.getElementById("theme");
  const name = () => { button.textContent = window.sweepTheme.isDark() ? "Light" : "Dark"; };
  button.addEventListener("click", () => { window.sweepTheme.toggle(); name(); drawAll(); });
  window.sweepTheme.onSystemChange(() => { name(); drawAll(); });
  window.addEventListener("beforeprint", () => onPaper(true));
  window.addEventListener("afterprint", () => onPaper(false));
  name();
}

// A link to a folded part opens it.
function reveal() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  const fold = target.closest("details");
  if (!fold || fold.open) return;
  fold.open = true;
  target.scrollIntoView();
}

function startFolds() {
  for (const button of document.querySelectorAll("[data-fold]")) {
    button.addEventListener("click", () => {
      for (const fold of document.querySelectorAll("details.setting")) fold.open = button.dataset.fold === "open";
    });
  }
  for (const box of document.querySelectorAll("[data-table]")) box.closest("details").addEventListener("toggle", fillTables);
  window.addEventListener("hashchange", reveal);
  reveal();
}

startTheme();
startFolds();
startFilters();
startPolicies();
startWhatIf();
startDetail();
startStudy();
startSwitch("range");
startSwitch("scale");
startSwitch("layers");
startTable();
watchCharts();
requestAnimationFrame(() => setTimeout(() => { drawAll(); setTimeout(enableWhatIf); })); // the decision is readable before the charts are drawn
