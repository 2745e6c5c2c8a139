// The page of a replica: what /live says each second, as words, figures and lines. Reads only.
"use strict";

const SPAN = 300; // seconds that the charts show
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

let fields = [];
let samples = [];
let last = null; // the last event
let heardAt = 0;

// -- words and figures ----------------------------------------------------------------------------

const plain = (value, digits) => `${Number(value.toFixed(digits))}`; // 1.50 is 1.5, and 10.0 is 10
const count = (value) => value >= 1e6 ? `${plain(value / 1e6, 2)} M` : value >= 1e4 ? `${plain(value / 1e3, 1)} k` : plain(value, 0);
const seconds = (value) => value == null ? "–"
  : value < 1e-3 ? `${plain(value * 1e6, 0)} µs` : value < 1 ? `${plain(value * 1e3, value < 0.01 ? 1 : 0)} ms`
  : `${plain(value, 1)} s`;
const bytes = (value) => {
  if (value == null) return "–";
  let unit = 0;
  for (; value >= 1000 && unit < 5; unit++) value /= 1000;
  return `${value.toFixed(unit && value < 100 ? 1 : 0)} ${["B", "kB", "MB", "GB", "TB", "PB"][unit]}`;
};
const span = (value) => value < 90 ? `${Math.round(value)} s` : value < 5400 ? `${Math.round(value / 60)} min`
  : value < 172800 ? `${(value / 3600).toFixed(1)} h` : `${Math.round(value / 86400)} days`;
const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { hour12: false });
const list = (names) => names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
const are = (names) => names.length === 1 ? "is" : "are";

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// -- the verdict ----------------------------------------------------------------------------------

function judge({ replica, members, observers, waiting }) {
  const missing = members.filter((one) => !one.heard).map((one) => one.name);
  const heard = members.length - missing.length;
  const notes = [];
  if (missing.length) {
    const spare = heard - replica.quorum;
    notes.push(`${list(missing)} ${are(missing)} not heard; ` + (observers.some((one) => one.self) ? "it observes what it hears of" : spare < 0 ? `${replica.quorum} replicas are needed`
      : spare === 0 ? "if one more is lost, nothing commits" : `${spare} more may be lost`));
  }
  if (replica.dead.length) return ["bad", "×", "This replica has stopped", replica.dead];
  if (replica.reasons.length) return ["bad", "×", "This replica does not serve", replica.reasons];
  if (!replica.answers && last.opened > 3) {
    return ["bad", "×", "This replica does not answer", ["it is at work on one thing, perhaps a disk that hangs", ...notes]];
  }
  const { storage } = replica;
  if (waiting.stuck) notes.push(`${waiting.stuck} instance${waiting.stuck > 1 ? "s" : ""} waiting for up to ${span(waiting.longest)}: see below`);
  if (storage.refused) notes.push(`no checkpoint can be written: ${storage.refused}`);
  if (isTight(storage)) notes.push(`${bytes(storage.free)} are free on the disk`);
  if (notes.length) return ["warn", "!", missing.length ? `It serves, with ${heard} of ${members.length} replicas` : "It serves, but look", notes];
  const leader = replica.leader ? `, ${replica.leader} leads` : "";
  return ["good", "✓", "All is well", [`all ${members.length} replicas are heard${leader}`]];
}

const isTight = (storage) => storage.free != null && storage.free < 0.05 * storage.total;

function showVerdict(level, sign, headline, reasons) {
  $("verdict").className = `verdict ${level}`;
  $("sign").textContent = sign;
  $("headline").textContent = headline;
  $("reasons").replaceChildren(...reasons.map((text) => element("li", {}, text)));
  const { name } = last ? last.replica : { name: "epaxos" };
  document.title = level === "good" ? `${name} – epaxos` : `${sign} ${name}: ${headline}`;
}

// -- replicas and tiles ---------------------------------------------------------------------------

function showMembers({ replica, members, observers }) {
  const heard = members.filter((one) => one.heard).length;
  $("quorum").textContent = `${heard} of ${members.length} heard, ${replica.quorum} needed`;
  $("members").replaceChildren(...members.map((one) => {
    const state = one.self ? "this one" : one.heard ? "heard" : "not heard";
    const lines = one.self ? [progress(replica.behind)] : [
      one.heard && one.behind != null ? progress(one.behind) : "",
      one.heard && one.round_trip_s ? `round trip ${seconds(one.round_trip_s)}` : "",
      !one.heard && one.last_heard_s != null ? `last heard ${span(one.last_heard_s)} ago` : "",
      !one.heard && one.trouble ? one.trouble : "",
    ].filter(Boolean);
    if (replica.leader === one.id) lines.push("leads");
    const name = one.self || one.host == null ? element("b", {}, one.name)
      : element("a", { href: `${location.protocol}//${one.host.includes(":") ? `[${one.host}]` : one.host}:${one.metrics_port}/` }, element("b", {}, one.name));
    return element("div", { class: `member ${one.self || one.heard ? "up" : "down"}` },
      element("span", { class: "state" }, state), name,
      element("p", {}, lines.join(" · ") || " "), element("p", {}, one.host == null ? "at an address not known here" : `${one.host}:${one.port}`));
  }), ...observers.map((one) => element("div", { class: `member ${one.heard ? "up" : "down"}` },
    element("span", { class: "state" }, one.self ? "this one" : one.heard ? "heard" : "not heard"), element("b", {}, one.name),
    element("p", {}, one.self ? old(one.age) : one.heard ? progress(one.behind) : " "), element("p", {}, "observes, has no vote"))));
}

const old = (age) => age == null ? "how old its state is, it does not know" : `at most ${seconds(age)} old`;

// What a replica has not said yet may only be on its way: two seconds' worth of work is none to speak of.
const progress = (behind) => behind <= Math.max(20, 2 * (recently("executed") ?? 0)) ? "keeps up" : `behind by ${count(behind)}`;

function tile(name, value, hint = "", mood = "") {
  const said = element("dd", {}, value);
  if (hint) said.append(element("span", { class: "hint" }, hint));
  return element("div", mood ? { class: mood } : {}, element("dt", {}, name), said);
}

function recently(name, back = 5) {
  const place = fields.indexOf(name);
  const values = samples.slice(-back).map((sample) => sample[place]).filter((value) => value != null);
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
}

function showTiles({ replica, waiting }) {
  const { storage, commits } = replica;
  const total = Object.values(commits).reduce((sum, value) => sum + value, 0);
  const recovered = `${count(commits.recovered ?? 0)} recovered for others`;
  const fast = Object.hasOwn(commits, "fast") ? tile("Fast path", total ? `${plain(100 * commits.fast / total, 1)} %` : "–", recovered)
    : tile("Recovered", count(commits.recovered ?? 0), "for a leader that was silent");
  $("tiles").replaceChildren(
    tile("Commands/s", count(recently("executed") ?? 0), `${count(recently("proposed") ?? 0)} of them asked here`),
    tile("Latency, median", seconds(recently("median")), "proposed to executed"),
    tile("Latency, 99 %", seconds(recently("late")), "of what is asked here"),
    tile("Behind", count(replica.behind), "instances known, not executed", waiting.stuck ? "caution" : ""),
    fast,
    tile("Keys", count(replica.keys), `${count(replica.sessions)} sessions`),
    storage.engine === "memory" ? tile("Disk", "none", "all is in memory")
      : tile("Disk", bytes(storage.bytes), storage.failed ? "failed" : `${bytes(storage.free)} free`,
        storage.failed ? "alarm" : isTight(storage) ? "caution" : ""),
  );
}

// -- charts ---------------------------------------------------------------------------------------

const PATHS = { fast: "--three", slow: "--two", recovered: "--four", led: "--three", forwarded: "--one" };

class Chart {
  constructor(title, series, { format, log = false, stacked = false }) {
    Object.assign(this, { series, format, log, stacked });
    this.outputs = series.map(() => element("output"));
    const legend = series.map(({ label, colour }, index) =>
      element("span", {}, element("i", { style: `background:var(${colour})` }), `${label} `, this.outputs[index]));
    this.when = element("span", { class: "when" });
    this.svg = shape("svg", { role: "img", "aria-label": title });
    this.figure = element("figure", {}, element("figcaption", {}, element("b", {}, title), this.when, ...legend), this.svg);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => { this.at = null; this.draw(); });
    this.at = null;
  }

  point(event) {
    const { left, width } = this.svg.getBoundingClientRect();
    const share = (event.clientX - left - this.left) / (width - this.left - 6);
    this.at = this.end - SPAN * (1 - Math.min(Math.max(share, 0), 1));
    this.draw();
  }

  scale(values) {
    const known = values.flat().filter((value) => value != null && value > 0);
    if (this.log) {
      const low = Math.floor(Math.log10(Math.min(...known, 1e-3))), high = Math.ceil(Math.log10(Math.max(...known, 1e-2)));
      const ticks = Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index));
      return { ticks, y: (value) => (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low) };
    }
    const most = Math.max(...known, 1) * 1.05;
    const rough = [1, 2, 2.5, 5, 10].map((factor) => factor * 10 ** Math.floor(Math.log10(most / 3))).find((size) => most / size <= 3.5);
    const step = Math.max(rough, 1); // all that is counted is whole
    const ticks = Array.from({ length: Math.floor(most / step) + 1 }, (_, index) => index * step);
    return { ticks, y: (value) => value / most };
  }

  draw() {
    const width = this.svg.clientWidth || 400, height = this.svg.clientHeight || 150;
    const bottom = height - 22, top = 8;
    this.left = 52;
    this.end = samples.length ? samples.at(-1)[fields.indexOf("at")] : Date.now() / 1000;
    const raw = this.series.map(({ read }) => samples.map(read));
    const values = this.stacked ? raw.map((_, index) => samples.map((_, at) => raw.slice(0, index + 1).reduce((sum, line) => sum + (line[at] ?? 0), 0))) : raw;
    const { ticks, y } = this.scale(values);
    const times = samples.map((sample) => sample[fields.indexOf("at")]);
    const px = (at) => this.left + (width - this.left - 6) * (1 - (this.end - at) / SPAN);
    const py = (value) => bottom - (bottom - top) * Math.min(y(value), 1);
    const parts = [...bands(px, top, bottom)];
    for (const tick of ticks) {
      parts.push(shape("line", { class: "grid", x1: this.left, x2: width - 6, y1: py(tick), y2: py(tick) }));
      parts.push(text(this.left - 7, py(tick) + 4, this.format(tick), "end"));
    }
    for (let minute = 0; minute <= 5; minute++) {
      parts.push(text(px(this.end - 60 * minute), height - 3, minute ? `−${minute} min` : "now", minute ? "middle" : "end"));
    }
    const lines = []; // above all areas, so that none hides one
    [...values.keys()].reverse().forEach((index) => {
      const colour = `var(${this.series[index].colour})`;
      for (const piece of pieces(times, values[index])) {
        const points = piece.map(([at, value]) => `${px(at).toFixed(1)} ${py(value).toFixed(1)}`);
        if (!this.log) {
          const floor = ` L${px(piece.at(-1)[0]).toFixed(1)} ${bottom} L${px(piece[0][0]).toFixed(1)} ${bottom}Z`;
          const style = `fill:color-mix(in srgb, ${colour} ${this.stacked ? "32%, var(--card)" : "14%, transparent"})`;
          parts.push(shape("path", { class: "area", d: `M${points.join(" L")}${floor}`, style }));
        }
        lines.push(shape("path", { class: "line", d: `M${points.join(" L")}`, style: `stroke:${colour}` }));
      }
    });
    parts.push(...lines);
    const chosen = this.at == null ? samples.length - 1 : nearest(times, this.at);
    if (this.at != null && chosen >= 0) {
      parts.push(shape("line", { class: "cross", x1: px(times[chosen]), x2: px(times[chosen]), y1: top, y2: bottom }));
    }
    this.when.textContent = this.at != null && chosen >= 0 ? clock(times[chosen]) : "";
    this.outputs.forEach((output, index) => {
      const value = chosen >= 0 ? raw[index][chosen] : null;
      output.textContent = value == null ? "–" : this.format(value);
    });
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren(...parts);
  }
}

function text(x, y, content, anchor) {
  const made = shape("text", { x, y, "text-anchor": anchor });
  made.textContent = content;
  return made;
}

function nearest(times, at) {
  let best = -1;
  times.forEach((time, index) => { if (best < 0 || Math.abs(time - at) < Math.abs(times[best] - at)) best = index; });
  return best;
}

function pieces(times, values) { // lines without a value have a gap, as has time without samples
  const found = [];
  let piece = [];
  values.forEach((value, index) => {
    if (value == null || (index && times[index] - times[index - 1] > 3)) {
      if (piece.length) found.push(piece);
      piece = [];
    }
    if (value != null) piece.push([times[index], value]);
  });
  if (piece.length) found.push(piece);
  return found;
}

function bands(px, top, bottom) { // when somebody was missing, or nothing was served
  const [at, heard, ready] = ["at", "heard", "ready"].map((name) => fields.indexOf(name));
  const all = last ? last.members.length : 0;
  const made = [];
  let open = null;
  const close = (until) => {
    if (!open) return;
    const x = Math.max(px(open.from), px(samples[0][at]));
    made.push(shape("rect", { class: open.kind, x, y: top, width: Math.max(px(until) - x, 1.5), height: bottom - top }));
    open = null;
  };
  for (const sample of samples) {
    const kind = !sample[ready] ? "band-bad" : sample[heard] < all ? "band-warn" : null;
    if (open && open.kind !== kind) close(sample[at]);
    if (kind && !open) open = { kind, from: sample[at] - 1 };
  }
  if (samples.length) close(samples.at(-1)[at]);
  return made;
}

let charts = [];

function makeCharts() {
  const of = (name) => { const place = fields.indexOf(name); return (sample) => sample[place]; };
  const paths = Object.keys(last.replica.commits);
  const path = (name) => { const place = fields.indexOf("paths"); return (sample) => sample[place][name]; };
  charts = [
    new Chart("Commands/s", [
      { label: "executed", colour: "--one", read: of("executed") },
      { label: "asked for here", colour: "--three", read: of("proposed") },
    ], { format: count }),
    new Chart("Latency here", [
      { label: "median", colour: "--one", read: of("median") },
      { label: "99 %", colour: "--two", read: of("late") },
      ...(last.replica.storage.engine === "memory" ? [] : [{ label: "disk, 99 %", colour: "--four", read: of("sync") }]),
    ], { format: seconds, log: true }),
    new Chart("Own instances/s, by path", paths.map((name) => ({ label: name, colour: PATHS[name] ?? "--one", read: path(name) })),
      { format: count, stacked: true }),
    new Chart("Waiting", [
      { label: "not executed", colour: "--two", read: of("behind") },
      { label: "own, not committed", colour: "--one", read: of("in_flight") },
    ], { format: count }),
  ];
  $("charts").replaceChildren(...charts.map((chart) => chart.figure));
  new ResizeObserver(() => charts.forEach((chart) => chart.draw())).observe($("charts"));
}

// -- what waits, what happened --------------------------------------------------------------------

let drawn = "";

async function showWaiting({ waiting }) {
  const graph = JSON.stringify(waiting.graph);
  $("waiting-note").textContent = waiting.stuck ? `${waiting.stuck} for up to ${span(waiting.longest)}` : "";
  if (graph === drawn) return;
  drawn = graph;
  const place = $("waiting");
  if (!waiting.stuck) {
    place.replaceChildren("Nothing waits: all that this replica knows of gets on.");
    return;
  }
  const answer = await fetch("/waiting.svg", { cache: "no-store" });
  if (!answer.ok || graph !== drawn) return;
  const host = element("div");
  host.attachShadow({ mode: "open" }).innerHTML = await answer.text(); // of this replica, which escapes what it draws
  place.replaceChildren(host);
}

function showChanges({ changes }) {
  $("changes").replaceChildren(...(changes.length ? [...changes].reverse().map(({ at, level, text }) =>
    element("li", { class: level }, element("time", {}, clock(at)), element("span", {}, text)))
    : [element("li", {}, element("span", {}, "Nothing yet."))]));
}

// -- the stream -----------------------------------------------------------------------------------

function show(told) {
  if (told.fields) {
    fields = told.fields;
    samples = told.samples;
  } else if (told.sample) {
    samples = [...samples, told.sample].slice(-SPAN);
  }
  const opened = last ? last.opened + 1 : 0;
  const first = !charts.length;
  last = { ...told, opened };
  const { replica } = told;
  $("name").textContent = replica.name;
  $("of").textContent = `of ${replica.cluster}`;
  $("about").textContent = [`epaxos ${replica.version}`, replica.protocol === "epaxos" ? "" : replica.protocol, `epoch ${replica.epoch}`, `level ${replica.level}`,
    replica.uptime == null ? "" : `up for ${span(replica.uptime)}`].filter(Boolean).join(" · ");
  showVerdict(...judge(told));
  showMembers(told);
  showTiles(told);
  if (first) makeCharts();
  charts.forEach((chart) => chart.draw());
  showChanges(told);
  showWaiting(told).catch(() => { drawn = ""; });
}

function mark(online) {
  $("link").textContent = online ? "live" : "no connection";
  $("link").className = `link ${online ? "on" : "off"}`;
  document.body.classList.toggle("old", !online);
  if (!online) {
    showVerdict("bad", "×", "No connection to this replica", [heardAt ? `what is shown is of ${clock(heardAt)}` : "it has not answered yet"]);
  }
}

const events = new EventSource("/live");
events.onmessage = ({ data }) => {
  heardAt = Date.now() / 1000;
  mark(true);
  show(JSON.parse(data));
};
events.onerror = () => mark(false); // it connects again by itself
setInterval(() => { if (heardAt && Date.now() / 1000 - heardAt > 5) mark(false); }, 1000);
