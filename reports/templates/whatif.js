// Sliders for a device that was not simulated, and the decision that they lead to.
const live = { on: false, device: null, setting: 0, points: [], of: new Map(), hidden: 0, dense: null };

// A figure as it is now: of the simulated device, or of the one that the sliders say.
function now(name, i) {
  const figures = live.on ? live.of.get(i) : null;
  return figures && name in figures ? figures[name] : columns[name][i];
}
const isBound = (i) => live.on && live.of.has(i) && !live.of.get(i).exact;
const byClass = (i) => (groupsOf(i) ?? []).every((g) => !g.came || g.came.classes.length || !g.lost);
const isAbout = (i) => live.on && live.of.has(i) && live.of.get(i).about;
const written = (i) => (isAbout(i) ? "≈ " : isBound(i) ? "≥ " : "") + figure(speed(i));

// Settings that differ from k only in DRAM size: where the caches were simulated.
function simulatedSizes(k) {
  const s = data.settings[k], sizes = new Map();
  data.settings.forEach((other, j) => {
    if (FAMILIES[j] !== FAMILIES[k]) return;
    const nearer = other.flash_gbps === s.flash_gbps && other.dram_gbps === s.dram_gbps;
    if (!sizes.has(other.dram_gb) || nearer) sizes.set(other.dram_gb, j);
  });
  return sizes;
}

function price(k, device) {
  const at = simulatedSizes(k).get(device.gb) ?? k;
  const members = everyPoint.filter((i) => columns.setting[i] === at && has(i, MEASURED));
  const dense = densePriced(at, device), of = new Map();
  for (const i of members) {
    const figures = priced(i, device);
    if (figures) of.set(i, { ...figures, tokens_per_s_dense: dense });
  }
  return { setting: at, of, points: [...of.keys()], hidden: members.length - of.size, dense };
}

// --- the decision within a budget, as decisions.py makes it --------------------------------------
const ranked = (i, cost) => [-speed(i), cost(i), policyLook(i).rank ?? 0, Number(has(i, CACHE_AWARE)), columns.key[i]];
const isDense = (i) => coded("method", i) === "dense";
const isKl = (budget) => budget.of === "kl";
const LOSS = { of: "ppl", relative: false };
const costOf = (budget) => (isKl(budget) ? (i) => (isDense(i) ? 0 : columns.kl[i]) : delta);
const upperOf = (budget) => (i) => { // upper_end of costs.py
  if (isDense(i)) return costOf(budget)(i);
  if (isKl(budget)) return columns.kl_high[i];
  const ratio = columns.ppl_ratio_high[i];
  return budget.relative && known(ratio) ? columns.ppl_dense[i] * (ratio - 1) : columns.delta_ppl_high[i];
};
const unmeasured = (budget, indices) => {
  const pruned = indices.filter((i) => !isDense(i));
  return isKl(budget) && pruned.length > 0 && !pruned.some((i) => known(columns.kl[i]));
};
function before(a, b) {
  const k = a.findIndex((x, n) => x !== b[n]);
  return k >= 0 && a[k] < b[k];
}

function fastest(indices, limit, cost = delta) {
  let best = null;
  for (const i of indices) {
    if (!known(speed(i)) || !known(cost(i)) || cost(i) > limit) continue;
    if (best === null || before(ranked(i, cost), ranked(best, cost))) best = i;
  }
  return best;
}

function decision(limit, budget = LOSS) {
  if (unmeasured(budget, live.points)) return { best: null, conservative: null, runnerUp: null };
  const cost = costOf(budget);
  const slower = (i) => known(gain(i)) && gain(i) <= 1;
  const real = live.points.filter((i) => !has(i, BOUND) && (isDense(i) || !slower(i)));
  const best = fastest(real, limit, cost);
  const others = best === null ? [] : real.filter((i) => coded("series", i) !== coded("series", best));
  return { best, conservative: fastest(real, limit, upperOf(budget)), runnerUp: fastest(others, limit, cost) };
}

function configurationOf(i) {
  if (coded("method", i) === "dense") return "dense";
  const policy = coded("policy", i), allocation = coded("allocation", i);
  return [coded("series", i), densityText(i), has(i, CACHE_AWARE) ? `γ ${columns.gamma[i]}` : "", ...lyingOf(i), coded("told", i), allocation !== "none" ? allocation : "", policy && policy !== "none" ? policy : "no cache"].filter(Boolean).join(" · ");
}

// How units lie and are read, where that is not the plain way, as points.py words it.
function lyingOf(i) {
  const chunk = columns.chunk[i], layout = coded("layout", i), ahead = columns.preload_layers[i], shares = coded("cache_shares", i);
  return [chunk > 1 ? `chunks of ${chunk}` : "", layout && layout !== "natural" ? `${layout} order` : "", ahead > 0 ? `${ahead} layer${ahead > 1 ? "s" : ""} ahead` : "", shares ? `cache shares ${shares}` : ""];
}

const speedOf = (i) => `${written(i)} tok/s`;
const element = (tag, text = "", kind = "") => { const e = document.createElement(tag); e.textContent = text; if (kind) e.className = kind; return e; };

// Where the interval of a choice lies, as on the cards above; nothing for dense.
function certaintyOf(i, budget) {
  if (coded("method", i) === "dense") return ["good", ""];
  const high = upperOf(budget)(i);
  if (!known(high)) return ["open", "interval unknown"];
  return high <= budget.at ? ["good", "interval within"] : ["open", "interval reaches beyond"];
}

function liveCard(budget) {
  const card = element("article", "", "card"), found = decision(budget.at, budget);
  const head = element("header");
  head.append(element("h4", budget.label));
  card.append(head);
  if (found.best === null) {
    card.append(element("p", unmeasured(budget, live.points) ? data.unmeasured : `No point that is faster than dense and has a known speed is within ${budget.label}.`, "message"));
    return card;
  }
  const [kind, certainty] = certaintyOf(found.best, budget);
  if (certainty) head.append(element("span", certainty, `badge ${kind}`));
  const big = element("p", "", "big");
  big.append(element("b", written(found.best)), " tok/s ");
  const ratio = gain(found.best);
  if (coded("method", found.best) !== "dense" && known(ratio)) big.append(element("span", `${times(ratio)} dense`, ratio < 1 ? "gain loss" : "gain"));
  card.append(big, element("p", configurationOf(found.best)));
  const list = document.createElement("dl");
  const row = (title, text) => list.append(element("dt", title), element("dd", text));
  if (isKl(budget)) row("KL", klText(found.best));
  row("ΔPPL", `${signed(delta(found.best))} ${interval(found.best)}`);
  if (data.distances && !isKl(budget)) row("KL", klText(found.best));
  if (data.distances) row("Flips", flipsText(found.best));
  if (isBound(found.best)) row("At most", `${figure(live.of.get(found.best).most)} tok/s`);
  row("Hit rate", percent(now("hit_rate", found.best)));
  row("Per token", `${megabytes(now("flash_bytes_per_token", found.best))} MB Flash, ${megabytes(now("dram_bytes_per_token", found.best))} MB DRAM`);
  const other = (i) => (i === null ? "none" : i === found.best ? "the same" : `${configurationOf(i)}: ${speedOf(i)}`);
  row("Fastest sure", other(found.conservative));
  row("Runner-up", other(found.runnerUp));
  card.append(list);
  return card;
}

// --- sliders --------------------------------------------------------------------------------------
const ALL_SLIDERS = ["flash", "dram", "size", "latency", "depth"];
// Latency where a read has one; of tables the reads in flight, and no bandwidth beside them.
function sliders() {
  const law = lawOf(state.setting);
  if (!law) return ["flash", "dram", "size"];
  return law.tables ? ["dram", "size", "depth"] : ["flash", "dram", "size", "latency"];
}
const STEPS = 400;
const three = (x) => Number(x.toPrecision(3));
const scales = {}; // of each slider: {low, high, log}

const toValue = (name, step) => {
  const { low, high, log } = scales[name], share = step / STEPS;
  return three(log ? low * (high / low) ** share : low + share * (high - low));
};
const toStep = (name, value) => {
  const { low, high, log } = scales[name];
  const share = log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  return Math.round(STEPS * Math.min(1, Math.max(0, share)));
};

function startScales() {
  const s = data.settings[state.setting], sizes = [...simulatedSizes(state.setting).keys()];
  scales.flash = { low: s.flash_gbps / 8, high: s.flash_gbps * 16, log: true };
  scales.dram = { low: s.dram_gbps / 8, high: s.dram_gbps * 8, log: true };
  const whole = counts.doc.dense[state.setting];
  const law = lawOf(state.setting);
  if (law?.tables) {
    const measured = Object.keys(law.tables).map(Number);
    scales.depth = { low: Math.min(...measured), high: Math.max(...measured), log: true };
  } else if (law) scales.latency = { low: law.latency_us / 16, high: law.latency_us * 16, log: true };
  for (const name of ALL_SLIDERS) document.getElementById(`w-${name}`).closest(".slider").hidden = !sliders().includes(name);
  scales.size = { low: Math.min(...sizes) / 2, high: Math.max(...sizes, whole === null ? 0 : whole / 1e9) * 1.1, log: false };
}

function readDevice() {
  const value = (name) => Number(document.getElementById(`w-${name}`).value);
  const law = lawOf(state.setting), reads = !law ? {} : law.tables ? { depth: Math.round(value("depth")) } : { latency: value("latency") * 1e-6 };
  return { ...reads, flash: law?.tables ? data.settings[state.setting].flash_gbps * 1e9 : value("flash") * 1e9, dram: value("dram") * 1e9, size: value("size") * 1e9, gb: value("size"), timing: data.settings[state.setting].timing };
}

function setControls(given) {
  for (const name of sliders()) {
    document.getElementById(`w-${name}`).value = given[name];
    showOnSlider(name, given[name]);
  }
}

function showOnSlider(name, value) {
  const range = document.getElementById(`w-${name}-range`);
  range.value = toStep(name, value);
  range.setAttribute("aria-valuetext", `${value} ${range.dataset.unit}`);
}

const asSimulated = () => { const s = data.settings[state.setting], law = lawOf(state.setting); return { flash: s.flash_gbps, dram: s.dram_gbps, size: s.dram_gb, latency: law?.latency_us, depth: law?.depth }; };
const UNIT_OF = { latency: 1e-6, depth: 1 }; // of the value in a box; others are of 1e9

function changeDevice() {
  const given = readDevice();
  if (!sliders().every((name) => given[name] > 0 && Number.isFinite(given[name]))) {
    document.getElementById("w-note").textContent = "Each must be a number above 0.";
    return;
  }
  const s = asSimulated();
  live.on = sliders().some((name) => given[name] !== s[name] * (UNIT_OF[name] ?? 1e9));
  live.device = given;
  Object.assign(live, live.on ? price(state.setting, given) : { of: new Map(), points: [], hidden: 0 });
  showLive();
  drawAll();
}

function showLive() {
  document.getElementById("w-reset").disabled = !live.on;
  document.body.classList.toggle("what-if", live.on);
  const box = document.getElementById("w-cards"), sizes = [...simulatedSizes(state.setting).keys()].sort((a, b) => a - b);
  const bounds = live.points.filter((i) => !live.of.get(i).exact).length, abouts = live.points.filter(isAbout).length;
  const shown = `Simulated: ${sizes.join(", ")} GB. `;
  const notes = live.on
    ? [live.dense === null ? "" : `Dense: ${figure(live.dense)} tok/s.`, abouts ? `${abouts} speeds are estimates (≈), from how many reads have which size: ${live.points.every(byClass) ? "the time of Flash is within 0.5 %" : "of a run of an older release, from powers of two alone"}.` : bounds && lawOf(state.setting) ? `${live.points.length - bounds} speeds are exact; ${bounds} are guaranteed (≥): the reads are those that were planned as simulated, and others might be faster.` : bounds ? `${live.points.length - bounds} speeds are exact; ${bounds} are guaranteed (≥), as the hits are known at each per cent of the cache.` : `All ${live.points.length} speeds are exact.`, live.hidden ? `${live.hidden} points are not shown: their hits are not known at this DRAM size.` : ""]
    : ["The charts show the device as it was simulated."];
  document.getElementById("w-note").textContent = shown + notes.filter(Boolean).join(" ");
  box.replaceChildren(...(live.on ? limits().map(liveCard) : []));
}

function startWhatIf() {
  const form = document.getElementById("what");
  if (!form) return;
  let waiting = false;
  const soon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; changeDevice(); });
  };
  for (const name of ALL_SLIDERS) {
    const box = document.getElementById(`w-${name}`), range = document.getElementById(`w-${name}-range`);
    range.addEventListener("input", () => {
      const near = name === "size" && [...simulatedSizes(state.setting).keys()].find((x) => Math.abs(toStep(name, x) - Number(range.value)) < 3);
      box.value = near || toValue(name, Number(range.value));
      range.setAttribute("aria-valuetext", `${box.value} ${range.dataset.unit}`);
      soon();
    });
    box.addEventListener("input", () => { showOnSlider(name, Number(box.value)); soon(); });
  }
  document.getElementById("w-reset").addEventListener("click", resetDevice);
  form.addEventListener("submit", (event) => event.preventDefault());
}

// Back to the device as simulated, also when another setting is chosen.
function resetDevice() {
  if (!counts.doc || !document.getElementById("what")) return;
  startScales();
  setControls(asSimulated());
  changeDevice();
}

// The counts are the last and largest part of the page: charts do not wait for them.
async function enableWhatIf() {
  if (document.readyState === "loading") await new Promise((then) => document.addEventListener("DOMContentLoaded", then, { once: true }));
  const form = document.getElementById("what");
  if (!form) { document.documentElement.dataset.counts = "yes"; return; }
  try {
    await loadCounts();
    startCurve();
  } catch {
    document.getElementById("w-note").textContent = "This browser cannot unpack the counts, so nothing can be priced anew.";
    return;
  }
  if (!counts.doc.of.some((r) => r >= 0)) {
    document.getElementById("w-note").textContent = "The run has no counts of reads that give the speeds of its table, so nothing can be priced anew.";
    drawAll();
    document.documentElement.dataset.counts = "yes";
    return;
  }
  form.querySelector("fieldset").disabled = false;
  startScales();
  setControls(asSimulated());
  showLive();
  drawAll();
  document.documentElement.dataset.counts = "yes";
}
