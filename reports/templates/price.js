// Prices points anew from their counts: the formula of simulator/throughput.py and footprint.py.
// A speed is exact, or it lies between two values that the counts prove; nothing else is shown.
const counts = { doc: null, kin: new Map() };

async function loadCounts() {
  if (counts.doc) return counts.doc;
  const packed = atob(document.getElementById("counts").textContent);
  const bytes = Uint8Array.from(packed, (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const doc = JSON.parse(await new Response(stream).text());
  for (const groups of doc.reads) groups?.forEach(completed);
  counts.doc = doc;
  return doc;
}

// The values of which page_counts.py wrote the first and the differences.
function summed(list) {
  let total = 0;
  return list.map((step) => (total += step));
}

function completed(group) {
  for (const name of ["used", "missed", "usedByLayer", "hitRates"]) {
    if (Array.isArray(group[name])) group[name] = summed(group[name]);
  }
  group.curve = summed(summed(group.curve));
  const { used } = group;
  group.usedOf = Array.isArray(used) ? (j) => used[j] : () => used;
  group.total = sumOf(group.count, (n, j) => n * group.usedOf(j));
  group.lost = sumOf(group.count, (n, j) => n * group.missed[j]);
  group.tokens = sumOf(group.count, (n) => n) / group.layers;
  group.size = group.units * group.bytes * group.layers;
}

const sumOf = (list, value) => list.reduce((total, x, j) => total + value(x, j), 0);
const groupsOf = (i) => (counts.doc.of[i] < 0 ? null : counts.doc.reads[counts.doc.of[i]]);

// Static bytes are pinned first, the rest is spread over the groups as an equal share of each.
function allocate(fixedBytes, groups, size) {
  const pruned = sumOf(groups, (g) => g.size), left = size - fixedBytes;
  const room = Math.abs(left) < 0.5 ? 0 : left; // by less, only the rounding of numbers differs
  const share = groups.length ? Math.max(0, room) / pruned : Number(room >= 0);
  const fraction = groups.length && room > pruned - 0.5 ? 1 : share;
  return { fraction, slots: groups.map((g) => Math.floor(fraction * g.units + 1e-9)), resident: Math.min(fixedBytes, size), excess: Math.max(0, -room) };
}

// Seconds of all phases of a group, apart by what each waits for; `per` are seconds of one unit.
function phaseTime(group, per, serial) {
  let flash = 0, dram = 0;
  for (let j = 0; j < group.count.length; j += 1) {
    const a = group.missed[j] * per.flash, b = group.usedOf(j) * per.dram, n = group.count[j];
    if (serial || a >= b) flash += n * a;
    if (serial || a < b) dram += n * b;
  }
  return { flash, dram };
}

const exactly = (time, lost) => ({ low: time.flash + time.dram, high: time.flash + time.dram, flash: time.flash, dram: time.dram, lost: [lost, lost] });

// LRU with another number of slots. Its cache of C units is the first C of one list, so hits grow
// with C, in each phase by itself too. Hits of all phases together are known at each per cent.
function bracketed(group, kin, slots, per, serial) {
  const known100 = (p) => Math.floor((p * group.units) / 100);
  let below = 0, above = 100;
  while (below < 100 && known100(below + 1) <= slots) below += 1;
  while (above > 0 && known100(above - 1) >= slots) above -= 1;
  const used = group.total, lost = [used - group.curve[above], used - group.curve[below]];
  const reading = used * per.dram;
  if (serial) return { low: lost[0] * per.flash + reading, high: lost[1] * per.flash + reading, flash: lost[1] * per.flash, dram: reading, lost };
  if (per.flash <= per.dram) return { low: reading, high: reading, flash: 0, dram: reading, lost };
  const larger = kin.filter((g) => g.slots >= slots).sort((a, b) => a.slots - b.slots)[0];
  const smaller = kin.filter((g) => g.slots <= slots).sort((a, b) => b.slots - a.slots)[0];
  const timeOf = (g) => { const t = phaseTime(g, per, false); return t.flash + t.dram; };
  // What phases that wait for DRAM take beyond their Flash time: no more than with a larger cache.
  const slack = larger ? sumOf(larger.count, (n, j) => n * Math.max(0, larger.usedOf(j) * per.dram - larger.missed[j] * per.flash)) : Infinity;
  const low = Math.max(lost[0] * per.flash, reading, larger ? timeOf(larger) : 0);
  const beyond = Math.min((used - lost[1]) * per.dram, slack);
  const high = Math.max(low, Math.min(lost[1] * per.flash + beyond, smaller ? timeOf(smaller) : Infinity));
  const flash = Math.min(high, lost[1] * per.flash);
  return { low, high, flash, dram: high - flash, lost };
}

// The counts of the same configuration in caches of other sizes that were simulated.
const UNLIKE = ["dram_gb", "flash_gbps", "dram_gbps", "weights", "label"];
const familyOf = (k) => JSON.stringify(Object.entries(data.settings[k]).filter(([name]) => !UNLIKE.includes(name)));
const FAMILIES = data.settings.map((_, k) => familyOf(k));
const alike = (i) => [FAMILIES[columns.setting[i]], coded("series", i), coded("policy", i), coded("told", i), coded("allocation", i), columns.density[i], columns.gamma[i], columns.ppl[i]].join("|");

function kinOf(i) {
  if (!counts.kin.size) {
    for (const [key, members] of groupBy(everyPoint.filter((j) => groupsOf(j)), alike)) counts.kin.set(key, [...new Set(members.map((j) => counts.doc.of[j]))].map((r) => counts.doc.reads[r]));
  }
  return counts.kin.get(alike(i)) || [];
}

// One group at `slots`: from its own counts, from those of a like point, or between two bounds.
function groupTime(i, k, slots, w) {
  const group = groupsOf(i)[k], serial = w.timing === "serial";
  const per = { flash: group.bytes / w.flash, dram: group.bytes / w.dram };
  if (slots === group.slots || coded("policy", i) === "none") return exactly(phaseTime(group, per, serial), group.lost);
  if (has(i, CACHE_AWARE)) return null; // its masks depend on the size of the cache
  const kin = kinOf(i).map((groups) => groups[k]);
  const twin = kin.find((g) => g.slots === slots);
  if (twin) return exactly(phaseTime(twin, per, serial), twin.lost);
  return group.curve.length ? bracketed(group, kin, slots, per, serial) : null;
}

// Figures of point i on a device w: {flash, dram: bytes/s, size: bytes, timing}; null if unknown.
function priced(i, w) {
  const groups = groupsOf(i), fixedBytes = counts.doc.static[i];
  if (!groups || fixedBytes === null) return null;
  const room = allocate(fixedBytes, groups, w.size);
  const times = groups.map((_, k) => groupTime(i, k, room.slots[k], w));
  if (times.includes(null)) return null;
  const tokens = groups.length ? groups[0].tokens : 1;
  const still = [room.excess / w.flash, room.resident / w.dram];
  const fixed = w.timing === "serial" ? still[0] + still[1] : Math.max(...still);
  const total = (end) => fixed + sumOf(times, (t, k) => t[end] / groups[k].tokens);
  const [fewest, most] = [0, 1].map((end) => sumOf(times, (t, k) => t.lost[end] * groups[k].bytes) / tokens);
  const used = sumOf(groups, (g) => g.total);
  return {
    tokens_per_s: 1 / total("high"), most: 1 / total("low"), exact: total("high") - total("low") <= 1e-9 * total("high"),
    flash_bytes_per_token: room.excess + most, fewest: room.excess + fewest,
    dram_bytes_per_token: room.resident + sumOf(groups, (g) => (g.total * g.bytes) / g.tokens),
    hit_rate: used ? 1 - sumOf(times, (t) => t.lost[1]) / used : null,
    cache_fraction: coded("policy", i) === "none" ? 0 : room.fraction,
    parts: [
      { name: "static", flash: w.timing === "serial" || still[0] >= still[1] ? still[0] : 0, dram: w.timing === "serial" || still[0] < still[1] ? still[1] : 0 },
      ...groups.map((g, k) => ({ name: g.name, flash: times[k].flash / g.tokens, dram: times[k].dram / g.tokens })),
    ],
  };
}

// The device as it was simulated in setting k, and the speed of the dense model on any.
const deviceOf = (k) => { const s = data.settings[k]; return { flash: s.flash_gbps * 1e9, dram: s.dram_gbps * 1e9, size: s.dram_gb * 1e9, timing: s.timing }; };

function densePriced(k, w) {
  const bytes = counts.doc.dense[k];
  if (bytes === null) return null;
  const flash = Math.max(0, bytes - w.size) / w.flash, dram = Math.min(bytes, w.size) / w.dram;
  return 1 / (w.timing === "serial" ? flash + dram : Math.max(flash, dram));
}
