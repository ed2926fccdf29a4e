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

// The bytes of these slots by the groups' own shares, where they have some: simulator/cache_shares.py.
function sharedSlots(groups, slots) {
  if (!groups.some((g) => g.share !== undefined)) return slots;
  const slot = groups.map((g) => g.bytes * g.layers), taken = groups.map(() => null);
  const room = sumOf(slots, (n, k) => n * slot[k]);
  while (taken.includes(null)) {
    const left = room - sumOf(taken, (size) => size ?? 0), open = groups.filter((_, k) => taken[k] === null);
    const weight = sumOf(open, (g) => g.share) ? (g) => g.share : (g) => g.size;
    const given = groups.map((g, k) => (taken[k] === null ? (left * weight(g)) / sumOf(open, weight) : 0));
    const full = groups.map((g, k) => taken[k] === null && given[k] > g.size);
    groups.forEach((g, k) => { if (full[k]) taken[k] = g.size; else if (taken[k] === null && !full.includes(true)) taken[k] = given[k]; });
  }
  return groups.map((g, k) => Math.min(g.units, Math.floor(taken[k] / slot[k] + 1e-9)));
}

// Static bytes are pinned first, the rest is spread over the groups as an equal share of each.
function allocate(fixedBytes, groups, size) {
  const pruned = sumOf(groups, (g) => g.size), left = size - fixedBytes;
  const room = Math.abs(left) < 0.5 ? 0 : left; // by less, only the rounding of numbers differs
  const share = groups.length ? Math.max(0, room) / pruned : Number(room >= 0);
  const fraction = groups.length && room > pruned - 0.5 ? 1 : share;
  const slots = groups.map((g) => Math.floor(fraction * g.units + 1e-9));
  return { fraction, slots: sharedSlots(groups, slots), resident: Math.min(fixedBytes, size), excess: Math.max(0, -room) };
}

// What a device says of its reads: latency and bandwidth, or tables by reads in flight; null of the
// paper's. `depth` of a table is the largest measured one that is not above.
const STREAMED = 4 * 2 ** 20;
const lawOf = (k) => counts.doc.laws[k];
function tableOf(law, depth) {
  const measured = Object.keys(law.tables).map(Number).sort((a, b) => a - b);
  return law.tables[measured.filter((d) => d <= depth).pop() ?? measured[0]];
}
const depthOf = (law, w) => w.depth ?? law.depth;
const latencyOf = (law, w) => w.latency ?? law.latency_us * 1e-6;
function streamedRate(law, w) {
  if (!law) return w.flash;
  return law.tables ? tableOf(law, depthOf(law, w)).streamed_gbps * 1e9 : STREAMED / (latencyOf(law, w) + STREAMED / w.flash);
}

// Seconds of a read by a table: log-log between rows, the law of two rows beyond its ends (ReadCost).
function tableCost(rows, size) {
  const time = ([b, g]) => b / g / 1e9, line = (p, q) => { const slope = (time(q) - time(p)) / (q[0] - p[0]); return [time(p) - slope * p[0], slope]; };
  if (size > rows[rows.length - 1][0]) { const [a, b] = line(rows[rows.length - 2], rows[rows.length - 1]); return a + b * size; }
  if (size < rows[0][0]) { const [a, b] = line(rows[0], rows[1]); return a < 0 ? time([size, rows[0][1]]) : a + b * size; }
  const k = Math.min(Math.max(rows.findIndex((r) => r[0] >= size), 1), rows.length - 1), [p, q] = [rows[k - 1], rows[k]];
  const share = Math.log(size / p[0]) / Math.log(q[0] / p[0]);
  return time([size, Math.exp(Math.log(p[1]) + share * Math.log(q[1] / p[1]))]);
}

// Time at another depth over that at the device's, of reads of which powers of two alone are known:
// each class at the mean size that makes the bytes of all.
function depthRatio(came, there, here) {
  const all = sumOf(came.sizes, ([size, n]) => size * n), factor = all ? sumOf(came.bytes, (b) => b) / all : 1;
  const cost = (table) => sumOf(came.sizes, ([size, n]) => n * tableCost(table.rows, size * factor));
  return all ? cost(there) / cost(here) : 1;
}

// Weights of [1, size, seconds here] that come nearest to the seconds there, over all classes.
function nearest(classes, there, here) {
  const known = classes.map(([size]) => [1, size, tableCost(here.rows, size)]);
  const scale = [0, 1, 2].map((j) => Math.max(...known.map((row) => row[j])));
  const rows = known.map((row) => row.map((x, j) => x / scale[j])), count = (k) => classes[k][1];
  const target = classes.map(([size]) => tableCost(there.rows, size));
  const m = scale.map((_, i) => [...scale.map((__, j) => sumOf(rows, (row, k) => count(k) * row[i] * row[j])), sumOf(rows, (row, k) => count(k) * row[i] * target[k])]);
  const ridge = 1e-12 * (m[0][0] + m[1][1] + m[2][2]);
  for (let i = 0; i < 3; i += 1) m[i][i] += ridge;
  for (let i = 0; i < 3; i += 1) for (let r = 0; r < 3; r += 1) if (r !== i) { const f = m[r][i] / m[i][i]; for (let j = i; j < 4; j += 1) m[r][j] -= f * m[i][j]; }
  return m.map((row, i) => row[3] / row[i] / scale[i]);
}

// Seconds of each pair at another depth: at_cost of simulator/read_classes.py, within 0.5 % in all; of
// an older run, which has powers of two alone, an estimate.
function atDepth(came, law, depth) {
  const [there, here] = [tableOf(law, depth), tableOf(law, law.depth)];
  if (there === here) return came.seconds;
  came.at ??= new Map();
  if (!came.at.has(there)) came.at.set(there, repriced(came, there, here));
  return came.at.get(there);
}

function repriced(came, there, here) {
  const cost = (table) => sumOf(came.classes, ([size, n]) => n * tableCost(table.rows, size)), now = cost(here), all = sumOf(came.seconds, (s) => s);
  const ratio = now ? cost(there) / now : depthRatio(came, there, here);
  if (!now) return came.seconds.map((s) => s * ratio);
  const [each, perByte, perSecond] = nearest(came.classes, there, here);
  const shared = came.seconds.map((s, j) => Math.max(0, came.reads[j] * each + came.bytes[j] * perByte + s * perSecond)), whole = sumOf(shared, (s) => s);
  return whole ? shared.map((s) => (s * all * ratio) / whole) : came.seconds.map((s) => s * ratio);
}

// The least time that any plan of reads could take, where the plan is the best one of another law
// {latency, rate}: it has the phases' first reads and the missed bytes, and took `now` by that law.
function leastTime(reads, size, missedBytes, firsts, law, w) {
  const rate = law.gbps * 1e9, latency = law.latency_us * 1e-6, now = reads * latency + size / rate;
  const cost = (r, b) => r * latencyOf(law, w) + b / w.flash;
  return Math.min(cost(Math.max(firsts, (now - missedBytes / rate) / latency), missedBytes), cost(firsts, Math.max(missedBytes, (now - firsts * latency) * rate)));
}

// Seconds of the phases of a group by its reads: as they were planned, and the least of any plan.
function readTime(group, law, w, perDram, serial) {
  const came = group.came, sum = { flash: 0, dram: 0, low: 0 };
  const perCompute = law.compute_gbps ? group.bytes / (law.compute_gbps * 1e9) : 0;
  const seconds = law.tables ? atDepth(came, law, depthOf(law, w)) : null;
  const same = law.tables || Math.abs(latencyOf(law, w) * w.flash / (law.latency_us * 1e3 * law.gbps) - 1) < 1e-9;
  for (let j = 0; j < group.count.length; j += 1) {
    const n = group.count[j], dram = group.usedOf(j) * perDram * n, compute = group.usedOf(j) * perCompute * n;
    const planned = law.tables ? seconds[j] : came.reads[j] * latencyOf(law, w) + came.bytes[j] / w.flash;
    const missed = group.missed[j] * n * group.bytes;
    const least = same ? planned : leastTime(came.reads[j], came.bytes[j], missed, missed ? n : 0, law, w);
    const phase = (flash) => Math.max(serial ? flash + dram : Math.max(flash, dram), compute);
    const time = phase(planned), flash = serial ? Math.min(planned, time) : planned >= Math.max(dram, compute) ? time : 0;
    sum.flash += flash;
    sum.dram += time - flash;
    sum.low += phase(Math.min(least, planned));
  }
  const about = Boolean(law.tables) && seconds !== came.seconds;
  return { low: sum.low, high: sum.flash + sum.dram, flash: sum.flash, dram: sum.dram, lost: [group.lost, group.lost], read: sumOf(came.bytes, (b) => b), about };
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
const alike = (i) => [FAMILIES[columns.setting[i]], coded("series", i), coded("policy", i), coded("told", i), coded("allocation", i), coded("cache_shares", i), columns.density[i], columns.gamma[i], columns.ppl[i]].join("|");

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
  const law = lawOf(columns.setting[i]);
  if (law && group.came) {
    if (slots !== group.slots && coded("policy", i) !== "none") return null; // what is missed there is not known
    return readTime(group, law, w, per.dram, serial);
  }
  if (slots === group.slots || coded("policy", i) === "none") return exactly(phaseTime(group, per, serial), group.lost);
  if (has(i, CACHE_AWARE)) return null; // its masks depend on the size of the cache
  const kin = kinOf(i).map((groups) => groups[k]);
  const twin = kin.find((g) => g.slots === slots);
  if (twin) return exactly(phaseTime(twin, per, serial), twin.lost);
  return group.curve.length ? bracketed(group, kin, slots, per, serial) : null;
}

// Seconds of what every token uses: Flash and DRAM at once or in turn, and what its processor needs.
function fixedTime([flash, dram], bytes, law, w) {
  const moved = w.timing === "serial" ? flash + dram : Math.max(flash, dram);
  return (law?.compute_gbps ? Math.max(moved, bytes / (law.compute_gbps * 1e9)) : moved) + (law?.head_ms ?? 0) * 1e-3;
}

// Figures of point i on a device w: {flash, dram: bytes/s, size: bytes, timing}; null if unknown.
function priced(i, w) {
  const groups = groupsOf(i), fixedBytes = counts.doc.static[i];
  if (!groups || fixedBytes === null) return null;
  const room = allocate(fixedBytes, groups, w.size);
  const times = groups.map((_, k) => groupTime(i, k, room.slots[k], w));
  if (times.includes(null)) return null;
  const tokens = groups.length ? groups[0].tokens : 1;
  const law = lawOf(columns.setting[i]);
  const still = [room.excess / streamedRate(law, w), room.resident / w.dram];
  const fixed = fixedTime(still, room.excess + room.resident, law, w);
  const total = (end) => fixed + sumOf(times, (t, k) => t[end] / groups[k].tokens);
  const [fewest, most] = [0, 1].map((end) => sumOf(times, (t, k) => t.read ?? t.lost[end] * groups[k].bytes) / tokens);
  const used = sumOf(groups, (g) => g.total);
  return {
    tokens_per_s: 1 / total("high"), most: 1 / total("low"), exact: total("high") - total("low") <= 1e-9 * total("high"), about: times.some((t) => t.about) || (Boolean(law?.tables) && tableOf(law, depthOf(law, w)) !== tableOf(law, law.depth) && groups.length > 0),
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
  const law = lawOf(k), flash = Math.max(0, bytes - w.size) / streamedRate(law, w), dram = Math.min(bytes, w.size) / w.dram;
  return 1 / fixedTime([flash, dram], bytes, law, w);
}
