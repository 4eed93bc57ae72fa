"use strict";
// The diagram of a run. Time runs downwards in microseconds; everything that is drawn is found by its time, so that only
// what is in view costs anything.

const run = JSON.parse(document.getElementById("run").textContent);
const byId = (id) => document.getElementById(id);

// What a line is, and where its fields are (`row` in html.rs).
const MESSAGE = 0, STATE = 1, COMMIT = 2, DURABLE = 3, NOTE = 4, FAULT = 5, HEALED = 6, ASKED = 7, TOLD = 8, BROKEN = 9, SNAPSHOT = 10;
const WHAT = 0, AT = 1, NODE = 2, TEXT = 3, MORE = 4;
const DOWN = 0, LEADER = 4, PAUSED = 5;

const STATES = [
  { name: "down", color: "down", width: 2 },
  { name: "follower", color: "follower", width: 8 },
  { name: "pre-candidate", color: "precandidate", width: 11 },
  { name: "candidate", color: "candidate", width: 11 },
  { name: "leader", color: "leader", width: 16 },
  { name: "paused", color: "paused", width: 4 },
];

// The filters; the first five are the kinds of messages.
const SHOWN = [
  { name: "votes", on: true, title: "PreVote, Vote and their answers" },
  { name: "appends", on: true, title: "AppendEntries that say something new, and their answers" },
  { name: "heartbeats", on: false, title: "AppendEntries and answers that repeat the one before" },
  { name: "reads", on: true, title: "questions for a read index and their answers" },
  { name: "abdication", on: true, title: "leaders giving up" },
  { name: "commits", on: true, title: "commit indexes", color: "commit" },
  { name: "disk", on: false, title: "what is durable", color: "durable" },
  { name: "clients", on: true, title: "calls of clients", color: "client" },
  { name: "notes", on: false, title: "refusals, truncations and the like", color: "ink" },
  { name: "faults", on: true, title: "what was done to the cluster", color: "fault" },
  { name: "snapshots", on: true, title: "snapshots taken, fetched and installed", color: "snapshot" },
];
const HEARTBEATS = 2, COMMITS = 5, DISK = 6, CLIENTS = 7, NOTES = 8, FAULTS = 9, SNAPSHOTS = 10;
const FILTER_OF = { [COMMIT]: COMMITS, [DURABLE]: DISK, [NOTE]: NOTES, [SNAPSHOT]: SNAPSHOTS, [FAULT]: FAULTS, [HEALED]: FAULTS, [ASKED]: CLIENTS, [TOLD]: CLIENTS };

const filterOf = (line) => (line[WHAT] === MESSAGE ? line[MORE + 1] : FILTER_OF[line[WHAT]]);
const isShown = (line) => SHOWN[filterOf(line)]?.on ?? true;

// ---- the run, indexed ------------------------------------------------------------------------------------------------

const end = Math.max(run.ends, 1);
const lines = run.lines;
const healed = lines.find((line) => line[WHAT] === HEALED)?.[AT] ?? end;

/** The first place in `sorted` whose time is not before `time`. */
function firstAt(sorted, time, timeOf = (item) => item[AT]) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (timeOf(sorted[middle]) < time) low = middle + 1; else high = middle;
  }
  return low;
}

/** Intervals sorted by their beginning, of which those that touch a window are found without looking at all of them. */
class Intervals {
  constructor(items) {
    this.items = items;
    this.block = 256;
    this.latest = [];
    items.forEach((item, place) => {
      const block = Math.floor(place / this.block);
      this.latest[block] = Math.max(this.latest[block] ?? 0, item.to);
    });
  }

  each(from, to, visit) {
    for (let block = 0; block < this.latest.length; block++) {
      const first = block * this.block;
      if (this.items[first].from > to) return;
      if (this.latest[block] < from) continue;
      for (let place = first; place < Math.min(first + this.block, this.items.length); place++) {
        const item = this.items[place];
        if (item.from > to) return;
        if (item.to >= from) visit(item);
      }
    }
  }
}

const UNDER_WAY = "on its way"; // when the run ended
const flights = [];     // each copy of each message: from where to where, and whether it arrived
const faults = [];      // what lasts a while, or is a mark
const calls = [];       // what clients asked for, until they were told
const lanes = Array.from({ length: run.nodes + 1 }, () => []);
const events = [];      // what one jumps to

function index() {
  const open = new Map();
  lines.forEach((line, place) => {
    const at = line[AT];
    switch (line[WHAT]) {
      case MESSAGE: {
        const flight = { from: at, sender: line[NODE], receiver: line[MORE], kind: line[MORE + 1], place };
        if (line.length === MORE + 2) flights.push({ ...flight, to: at, lost: UNDER_WAY });
        for (let more = MORE + 2; more < line.length; more += 2) {
          flights.push({ ...flight, to: line[more], lost: run.texts[line[more + 1]] });
        }
        break;
      }
      case STATE: {
        const [state, term] = [line[MORE], line[MORE + 1]];
        const lane = lanes[line[NODE]];
        const before = lane.at(-1);
        if (state === LEADER && !(before?.state === LEADER && before.term === term)) {
          events.push({ at, place, kind: "leader", text: `n${line[NODE]} leads term ${term}` });
        }
        lane.push({ at, state, term, place });
        break;
      }
      case FAULT: {
        // Whatever lasts is over when everything is healed.
        const until = line[MORE] > 0 ? Math.min(line[MORE], Math.max(healed, at)) : at;
        const near = faults.filter((fault) => fault.node === line[NODE] && fault.to > at).map((fault) => fault.column);
        let column = 0;
        while (near.includes(column)) column++;
        faults.push({ from: at, to: until, node: line[NODE], column: until > at ? column : -1, place });
        events.push({ at, place, kind: "fault", text: run.texts[line[TEXT]] });
        break;
      }
      case HEALED:
        events.push({ at, place, kind: "fault", text: run.texts[line[TEXT]] });
        break;
      case ASKED: {
        const call = { from: at, to: end, node: line[NODE], client: line[MORE], outcome: 0, place, answer: -1 };
        open.set(call.client, call);
        calls.push(call);
        break;
      }
      case TOLD: {
        const call = open.get(line[MORE]);
        if (call) Object.assign(call, { to: at, outcome: line[MORE + 1], answer: place });
        open.delete(line[MORE]);
        break;
      }
      case BROKEN:
        events.push({ at, place, kind: "broken", text: run.texts[line[TEXT]] });
        break;
      default:
    }
    // A process that dies or stands still is something to jump to, unless a fault says so.
    if (line[WHAT] === STATE && line[MORE] === PAUSED) events.push({ at, place, kind: "fault", text: run.texts[line[TEXT]] });
  });
}
index();
const inFlight = new Intervals(flights);
const lasting = new Intervals(faults);
const underWay = new Intervals(calls);
const marks = lines.map((line, place) => ({ line, place })).filter(({ line }) => [COMMIT, DURABLE, NOTE, SNAPSHOT].includes(line[WHAT]));
const broken = lines.findIndex((line) => line[WHAT] === BROKEN);

const ms = (micros) => `${(micros / 1000).toFixed(1)} ms`;

/** What became of a message, in words. */
function fate(line) {
  const ends = [];
  for (let more = MORE + 2; more < line.length; more += 2) {
    const [took, why] = [line[more] - line[AT], run.texts[line[more + 1]]];
    if (!why) ends.push(`arrives after ${ms(took)}`); else ends.push(took === 0 ? why : `${why} after ${ms(took)}`);
  }
  return line[WHAT] !== MESSAGE ? "" : ` (${ends.join(", ") || UNDER_WAY})`;
}

const told = (place) => run.texts[lines[place][TEXT]] + fate(lines[place]);
const inFull = (place) => `${ms(lines[place][AT])}  ${told(place)}`;

// ---- the view --------------------------------------------------------------------------------------------------------

const canvas = byId("lanes"), map = byId("map"), tip = byId("tip");
const pen = canvas.getContext("2d");
const margin = end * 0.02 + 1000;
const SHORTEST = 200;
const view = { from: 0, to: end };
let width = 0, height = 0, colors = {}, targets = [], pinned = -1, due = false;

const AXIS = 66, TOP = 26;
const quiet = () => Math.min(130, Math.max(60, width * 0.12)); // the lane of what happens to no node in particular
const laneWidth = () => (width - AXIS - quiet() - 30) / run.nodes;
const laneOf = (node) => AXIS + quiet() + (node - 0.5) * laneWidth();
const yOf = (at) => TOP + ((at - view.from) / (view.to - view.from)) * (height - TOP);
const timeOf = (y) => view.from + ((y - TOP) / (height - TOP)) * (view.to - view.from);

function look(from, to) {
  const span = Math.min(Math.max(to - from, SHORTEST), end + 2 * margin);
  const start = Math.min(Math.max((from + to - span) / 2, -margin), end + margin - span);
  Object.assign(view, { from: start, to: start + span });
  redraw();
}

function zoom(factor, around = (view.from + view.to) / 2) {
  const span = Math.min(Math.max((view.to - view.from) * factor, SHORTEST), end + 2 * margin);
  const share = (around - view.from) / (view.to - view.from);
  look(around - span * share, around + span * (1 - share));
}

function pan(by) {
  look(view.from + by, view.to + by);
}

/** Brings a moment into view, keeping the scale unless it shows too much or too little to see anything. */
function goTo(place) {
  const at = lines[place][AT];
  const span = Math.min(Math.max(view.to - view.from, run.e / 20), run.e * 2);
  pinned = place;
  look(at - span / 2, at + span / 2);
  byId("events").querySelector("[aria-current]")?.removeAttribute("aria-current");
  const button = byId("events").querySelector(`[data-place="${place}"]`);
  button?.setAttribute("aria-current", "true");
  button?.scrollIntoView({ block: "nearest" });
}

function redraw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    draw();
    drawMap();
    read();
  });
}

// ---- drawing ---------------------------------------------------------------------------------------------------------

function line(x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

// Labels are written at the end, above all lines, the most important first; one that would cover another is left out.
const FIRST = -1, NOW = 0, ROLE = 1, DONE = 2, CALL = 3, SAID = 4;
let labels = [], taken = new Set();

/** Along `angle` from x, y (or up to it, aligned right). `room` is the width to which the text is shortened. */
function label(text, x, y, color, { rank = NOW, align = "left", room = 1e9, bold = 0, angle = 0, lift = 0 } = {}) {
  labels.push({ text, x, y, color, rank, align, room, bold, angle, lift });
}

const CELL = 6;
const cell = (x, y) => Math.round(y / CELL) * 4096 + Math.round(x / 24);

function writeLabels() {
  labels.sort((a, b) => a.rank - b.rank);
  labels.forEach(writeLabel);
}

function writeLabel({ text, x, y, color, align, room, bold, angle, lift }) {
  // Most labels of a crowd have no place: that is found out before anything is measured.
  if (taken.has(cell(x, y))) return;
  pen.font = bold ? `bold ${bold}px system-ui, sans-serif` : "11px system-ui, sans-serif";
  const shortened = shorten(text, room);
  if (shortened === "") return;
  const long = pen.measureText(shortened).width * (align === "right" ? -1 : 1);
  const [dx, dy] = [Math.cos(angle), Math.sin(angle)];
  const cells = [];
  for (let along = 0; along <= Math.abs(long); along += 12) {
    const by = Math.sign(long) * along - (align === "center" ? long / 2 : 0);
    for (let across = -1; across <= 1; across++) cells.push(cell(x + dx * by - dy * lift, y + dy * by + dx * lift + across * CELL));
  }
  if (cells.some((one) => taken.has(one))) return;
  cells.forEach((one) => taken.add(one));
  pen.save();
  pen.translate(x, y);
  pen.rotate(angle);
  Object.assign(pen, { textAlign: align, textBaseline: "middle", lineJoin: "round", lineWidth: 3, strokeStyle: colors.paper, fillStyle: color });
  pen.strokeText(shortened, 0, lift);
  pen.fillText(shortened, 0, lift);
  pen.restore();
}

function shorten(text, room) {
  const wide = pen.measureText(text).width;
  if (wide <= room) return text;
  let length = Math.min(text.length, Math.floor((text.length * room) / wide));
  while (length > 0 && pen.measureText(text.slice(0, length) + "…").width > room) length--;
  return length < 3 ? "" : text.slice(0, length) + "…";
}

function draw() {
  pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  pen.clearRect(0, 0, width, height);
  [targets, labels, taken] = [[], [], new Set()];
  pen.save();
  pen.beginPath();
  pen.rect(0, TOP, width, height - TOP);
  pen.clip();
  drawAxis();
  if (SHOWN[FAULTS].on) drawFaults();
  drawFlights();
  drawLanes();
  if (SHOWN[CLIENTS].on) drawCalls();
  drawMarks();
  drawBroken();
  writeLabels();
  drawPinned();
  pen.restore();
  drawHeads();
}

function drawHeads() {
  pen.fillStyle = colors.shade;
  pen.fillRect(0, 0, width, TOP);
  pen.strokeStyle = colors.rule;
  pen.lineWidth = 1;
  line(0, TOP - 0.5, width, TOP - 0.5);
  [labels, taken] = [[], new Set()];
  for (let node = 1; node <= run.nodes; node++) {
    const { state, term } = stateAt(node, view.from);
    const room = laneWidth() - 4;
    const text = room > 110 ? `n${node}  ${STATES[state].name} t${term}` : `n${node}`;
    label(text, laneOf(node), TOP / 2, colors.ink, { align: "center", bold: 13, room });
  }
  label(axisStep() >= SECOND ? "s" : "ms", AXIS - 10, TOP / 2, colors.soft, { align: "right" });
  writeLabels();
}

function stateAt(node, at) {
  const place = firstAt(lanes[node], at + 1, (turn) => turn.at) - 1;
  return lanes[node][place] ?? { state: DOWN, term: 0, at: 0 };
}

const SECOND = 1e6;

/** A round time that is about sixty pixels high. */
function axisStep() {
  const least = ((view.to - view.from) * 60) / height;
  const ten = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((times) => times * ten).find((candidate) => candidate >= least);
}

function drawAxis() {
  const step = axisStep(), unit = step >= SECOND ? SECOND : 1000;
  const decimals = Math.max(0, Math.ceil(Math.log10(unit / step)));
  for (let at = Math.ceil(Math.max(view.from, 0) / step) * step; at <= Math.min(view.to, end); at += step) {
    const y = Math.round(yOf(at)) + 0.5;
    Object.assign(pen, { strokeStyle: colors.grid, lineWidth: 1 });
    line(AXIS, y, width, y);
    label((at / unit).toFixed(decimals), AXIS - 10, y, colors.soft, { align: "right" });
  }
  for (const [at, text] of [[0, "begins"], [end, "ends"]]) {
    const y = yOf(at);
    if (y < TOP || y > height) continue;
    pen.strokeStyle = colors.soft;
    line(AXIS, y, width, y);
    label(text, width - 6, y, colors.soft, { align: "right" });
  }
}

function drawLanes() {
  for (let node = 1; node <= run.nodes; node++) {
    const x = laneOf(node), turns = lanes[node];
    const first = Math.max(0, firstAt(turns, view.from, (turn) => turn.at) - 1);
    let named = { state: -1, term: turns[first - 1]?.term ?? 0 };
    for (let place = first; place < turns.length && turns[place].at <= view.to; place++) {
      const turn = turns[place], { color, width: wide } = STATES[turn.state];
      const [top, bottom] = [Math.max(yOf(turn.at), TOP), Math.min(yOf(turns[place + 1]?.at ?? end), height)];
      pen.fillStyle = colors[color];
      if (turn.state === DOWN) drawDown(x, top, bottom);
      else pen.fillRect(x - wide / 2, top, wide, Math.max(bottom - top, 1));
      if (turn.state === PAUSED) drawHatch(x, top, bottom);
      if (nameTurn(x, top, bottom, turn, named)) named = turn;
      targets.push({ x0: x, y0: top, x1: x, y1: bottom, reach: Math.max(wide / 2, 5), place: turn.place, weak: true });
    }
  }
}

/** Says what a node is from here on, unless that is over too soon or was said. */
function nameTurn(x, top, bottom, { state, term, at }, named) {
  if (bottom - top < 8 || (state === named.state && term === named.term)) return false;
  const plain = state === DOWN || STATES[state].name === "follower";
  const text = term === named.term ? STATES[state].name : `${STATES[state].name} t${term}`;
  if (at >= view.from) label(text, x + 12, top + 7, colors[plain ? "soft" : STATES[state].color], { rank: state === LEADER ? NOW : ROLE, room: laneWidth() - 20, bold: 11 });
  return true;
}

function drawDown(x, top, bottom) {
  pen.save();
  pen.strokeStyle = colors.soft;
  pen.lineWidth = 1.5;
  pen.setLineDash([2, 5]);
  line(x, top, x, bottom);
  pen.restore();
}

function drawHatch(x, top, bottom) {
  pen.strokeStyle = colors.paused;
  pen.lineWidth = 1;
  for (let y = Math.ceil(top / 6) * 6; y < bottom; y += 6) line(x - 6, y + 3, x + 6, y - 3);
}

function drawFaults() {
  lasting.each(view.from, view.to, (fault) => {
    const place = fault.place;
    const text = run.texts[lines[place][TEXT]].replace(/^n\d+ /, "");
    const [top, bottom] = [Math.max(yOf(fault.from), TOP), Math.min(yOf(fault.to), height)];
    const room = fault.node === 0 ? quiet() - 16 - 7 * Math.max(fault.column, 0) : laneWidth() / 2 - 12;
    const x = fault.node === 0 ? AXIS + 6 + 7 * Math.max(fault.column, 0) : laneOf(fault.node) - 14 - 7 * Math.max(fault.column, 0);
    pen.fillStyle = colors.fault;
    if (fault.column >= 0) pen.fillRect(x - 2, top, 4, Math.max(bottom - top, 3));
    else { pen.beginPath(); pen.moveTo(x - 4, top - 4); pen.lineTo(x + 4, top); pen.lineTo(x - 4, top + 4); pen.fill(); }
    const align = fault.node === 0 ? "left" : "right";
    const beside = fault.node === 0 ? x + 7 : x - 6;
    label(text, beside, top + 6, colors.fault, { rank: ROLE, align, room });
    targets.push({ x0: x, y0: top, x1: x, y1: Math.max(bottom, top + 3), reach: 5, place });
  });
  const y = yOf(healed);
  if (healed < end && y >= TOP && y <= height) {
    pen.strokeStyle = colors.commit;
    pen.lineWidth = 1.5;
    line(AXIS, y, width, y);
    label("everything is healed", AXIS + 6, y - 8, colors.commit);
  }
}

const CROWD = 1500; // so many messages in view have neither heads nor labels

function drawFlights() {
  const paths = SHOWN.slice(0, 5).map(() => ({ lines: new Path2D(), heads: new Path2D(), crosses: new Path2D() }));
  const visible = [];
  const drawn = new Drawn();
  inFlight.each(view.from, view.to, (flight) => {
    if (!SHOWN[flight.kind].on) return;
    const leg = legOf(flight);
    const key = ((flight.kind * 64 + flight.sender) * 64 + flight.receiver) * 2 + (flight.lost ? 1 : 0);
    if (drawn.over(key, leg.y0, leg.y1)) return;
    visible.push(leg);
  });
  const crowd = visible.length > CROWD;
  for (const leg of visible) {
    const { x0, y0, x1, y1, kind, lost } = leg;
    paths[kind].lines.moveTo(x0, y0);
    paths[kind].lines.lineTo(x1, y1);
    if (lost && lost !== UNDER_WAY) cross(paths[kind].crosses, x1, y1, crowd ? 2.5 : 4);
    else if (!lost && !crowd) head(paths[kind].heads, leg);
    targets.push(leg);
  }
  // Heartbeats lie below everything else.
  for (const kind of [HEARTBEATS, 3, 1, 0, 4]) {
    const { lines: strokes, heads, crosses } = paths[kind];
    const color = colors[SHOWN[kind].name];
    pen.globalAlpha = kind === 0 || kind === 4 ? 1 : Math.min(1, Math.max(0.15, CROWD / visible.length));
    Object.assign(pen, { strokeStyle: color, fillStyle: color, lineWidth: kind === HEARTBEATS ? 0.8 : crowd ? 0.9 : 1.4 });
    pen.stroke(strokes);
    pen.fill(heads);
    pen.lineWidth = 1.6;
    pen.strokeStyle = kind === HEARTBEATS ? colors.soft : color;
    pen.stroke(crosses);
    pen.globalAlpha = 1;
  }
  if (visible.length < 150) visible.forEach(nameLeg);
}

/** From the edge of one lane to that of the other; one that is lost at once ends half way. */
function legOf({ from, to, sender, receiver, kind, lost, place }) {
  const side = Math.sign(receiver - sender);
  const [x0, y0] = [laneOf(sender) + 6 * side, yOf(from)];
  const target = laneOf(receiver) - 8 * side;
  const share = lost ? (to > from ? 0.85 : 0.42) : 1;
  return { x0, y0, x1: x0 + (target - x0) * share, y1: lost && to === from ? y0 + 5 : yOf(to), kind, lost, place, reach: 5 };
}

function head(path, { x0, y0, x1, y1 }) {
  const angle = Math.atan2(y1 - y0, x1 - x0);
  const at = (by, length) => [x1 - length * Math.cos(angle + by), y1 - length * Math.sin(angle + by)];
  path.moveTo(x1, y1);
  path.lineTo(...at(0.4, 8));
  path.lineTo(...at(-0.4, 8));
  path.closePath();
}

function cross(path, x, y, size) {
  path.moveTo(x - size, y - size);
  path.lineTo(x + size, y + size);
  path.moveTo(x - size, y + size);
  path.lineTo(x + size, y - size);
}

/** What a message says, along its arrow, where nothing else is written. */
function nameLeg(leg) {
  const { x0, y0, x1, y1 } = leg;
  const long = Math.hypot(x1 - x0, y1 - y0);
  if (leg.kind === HEARTBEATS || long < 70) return;
  const text = run.texts[lines[leg.place][TEXT]].split(" ").slice(2).join(" ");
  const left = x1 < x0;
  const angle = Math.atan2(y1 - y0, x1 - x0) + (left ? Math.PI : 0);
  const [align, room] = [left ? "right" : "left", Math.min(long - 34, laneWidth() * 1.2)];
  const [x, y] = [x0 + ((x1 - x0) * 18) / long, y0 + ((y1 - y0) * 18) / long];
  label(text, x, y, colors[SHOWN[leg.kind].name], { rank: SAID, align, room, angle, lift: -7 });
}

/** Whether something is drawn over its predecessor, at less than a pixel's distance. */
class Drawn {
  last = new Map();

  over(key, y0, y1) {
    const before = this.last.get(key);
    const over = before !== undefined && Math.abs(before[0] - y0) < 0.7 && Math.abs(before[1] - y1) < 0.7;
    if (!over) this.last.set(key, [y0, y1]);
    return over;
  }
}

const OUTCOMES = ["soft", "client", "soft", "fault"]; // no answer, done, refused, unknown

function drawCalls() {
  const drawn = new Drawn();
  underWay.each(view.from, view.to, (call) => {
    const x = laneOf(call.node) + 13 + (call.client % 5) * 4;
    const [top, bottom] = [yOf(call.from), yOf(call.to)];
    if (drawn.over(call.node * 8 + (call.client % 5), top, bottom)) return;
    const color = colors[OUTCOMES[call.outcome]];
    Object.assign(pen, { strokeStyle: color, fillStyle: color, lineWidth: 1.5 });
    pen.setLineDash(call.outcome === 1 ? [] : [3, 3]);
    line(x, top, x, bottom);
    pen.setLineDash([]);
    pen.beginPath();
    pen.arc(x, top, 2.5, 0, 7);
    pen.fill();
    if (call.outcome === 1) line(x - 3, bottom, x + 3, bottom);
    else if (call.answer >= 0) { const path = new Path2D(); cross(path, x, bottom, 3); pen.stroke(path); }
    nameCall(call, x, top, bottom, color);
    targets.push({ x0: x, y0: top, x1: x, y1: bottom, reach: 4, place: call.place, also: call.answer });
  });
}

/** What was asked and answered, if it lasts long enough to tell the two apart. */
function nameCall({ place, answer, outcome }, x, top, bottom, color) {
  const style = { rank: CALL, room: laneWidth() / 2 - 24 };
  if (outcome !== 2 || bottom - top > 12) label(run.texts[lines[place][TEXT]].split(": ").slice(1).join(": "), x + 6, top, color, style);
  if (answer >= 0 && bottom - top > 12) label(told(answer).replace(/^client \d+ (is told )?/, ""), x + 6, bottom, color, style);
}

const MARKS = {
  [COMMIT]: { color: "commit", side: 1, text: (mark) => `commit ${mark[MORE]}` },
  [DURABLE]: { color: "durable", side: -1, text: (mark) => `disk ${mark[MORE]}` },
  [NOTE]: { color: "ink", side: -1, text: (mark) => run.texts[mark[TEXT]].replace(/^n\d+ /, "") },
  [SNAPSHOT]: { color: "snapshot", side: 1, text: (mark) => run.texts[mark[TEXT]].replace(/^n\d+ /, "") },
};

function drawMarks() {
  const drawn = new Drawn();
  const first = firstAt(marks, view.from, ({ line: mark }) => mark[AT]);
  for (let at = first; at < marks.length && marks[at].line[AT] <= view.to; at++) {
    const { line: mark, place } = marks[at];
    const { color, side, text } = MARKS[mark[WHAT]];
    const [x, y] = [laneOf(mark[NODE]), yOf(mark[AT])];
    if (!isShown(mark) || drawn.over(mark[NODE] * 16 + mark[WHAT], y, y)) continue;
    Object.assign(pen, { strokeStyle: colors[color], lineWidth: 2 });
    line(x + 3 * side, y, x + 10 * side, y);
    label(text(mark), x + 12 * side, y, colors[color], { rank: DONE, align: side > 0 ? "left" : "right", room: laneWidth() / 2 - 12 });
    targets.push({ x0: x + 3 * side, y0: y, x1: x + 10 * side, y1: y, reach: 3, place });
  }
}

function drawBroken() {
  if (broken < 0) return;
  const y = yOf(lines[broken][AT]);
  Object.assign(pen, { strokeStyle: colors.broken, fillStyle: colors.broken, lineWidth: 3 });
  line(0, y, width, y);
  label(run.texts[lines[broken][TEXT]], AXIS + 6, y + 13, colors.broken, { rank: FIRST, bold: 13, room: width - AXIS - 12 });
  targets.push({ x0: 0, y0: y, x1: width, y1: y, reach: 4, place: broken, weak: true });
}

/** What was chosen from a list, or is under the pointer there. */
function drawPinned() {
  if (pinned < 0) return;
  const y = yOf(lines[pinned][AT]);
  pen.save();
  Object.assign(pen, { strokeStyle: colors.focus, fillStyle: colors.focus, lineWidth: 1 });
  pen.setLineDash([5, 4]);
  line(AXIS, y, width, y);
  pen.setLineDash([]);
  pen.beginPath();
  pen.moveTo(AXIS - 7, y - 5);
  pen.lineTo(AXIS, y);
  pen.lineTo(AXIS - 7, y + 5);
  pen.fill();
  pen.lineWidth = 3;
  targets.filter((target) => target.place === pinned && !target.weak).forEach(({ x0, y0, x1, y1 }) => line(x0, y0, x1, y1));
  pen.restore();
}

// ---- the map: the whole run at a glance ------------------------------------------------------------------------------

let mapped = null; // everything but the frame around what is in view

function drawMap() {
  if (map.clientWidth === 0) return;
  const [wide, high] = [map.clientWidth, map.clientHeight];
  const paper = map.getContext("2d");
  const y = (at) => (at / end) * (high - 4) + 2;
  if (!mapped) {
    mapped = new OffscreenCanvas(map.width, map.height);
    const brush = mapped.getContext("2d");
    brush.scale(devicePixelRatio, devicePixelRatio);
    const lane = (wide - 20) / run.nodes;
    for (let node = 1; node <= run.nodes; node++) {
      lanes[node].forEach((turn, place) => {
        const until = lanes[node][place + 1]?.at ?? end;
        brush.fillStyle = colors[STATES[turn.state].color];
        const whole = Math.max(y(until) - y(turn.at), 0.5);
        brush.fillRect(14 + (node - 1) * lane, y(turn.at), lane - Math.min(3, lane / 3), whole);
      });
    }
    brush.fillStyle = colors.fault;
    faults.forEach((fault) => brush.fillRect(4 + (Math.max(fault.column, 0) % 2) * 4, y(fault.from), 3, Math.max(y(fault.to) - y(fault.from), 1)));
    brush.fillStyle = colors.broken;
    if (broken >= 0) brush.fillRect(0, y(lines[broken][AT]) - 1.5, wide, 3);
  }
  paper.setTransform(1, 0, 0, 1, 0, 0);
  paper.clearRect(0, 0, map.width, map.height);
  paper.drawImage(mapped, 0, 0);
  paper.scale(devicePixelRatio, devicePixelRatio);
  const [top, bottom] = [y(Math.max(view.from, 0)), y(Math.min(view.to, end))];
  Object.assign(paper, { strokeStyle: colors.focus, fillStyle: colors.focus, lineWidth: 2 });
  paper.globalAlpha = 0.18;
  paper.fillRect(1, top, wide - 2, Math.max(bottom - top, 3));
  paper.globalAlpha = 1;
  paper.strokeRect(1, top - 1, wide - 2, Math.max(bottom - top, 3) + 2);
}

// ---- what is in view, to read ----------------------------------------------------------------------------------------

const LEGIBLE = 300, COUNTED = 100_000;

function read() {
  const list = byId("reading"), first = firstAt(lines, view.from);
  const visible = [];
  for (let place = first; place < lines.length && lines[place][AT] <= view.to; place++) {
    if (isShown(lines[place])) visible.push(place);
    if (visible.length > COUNTED) break;
  }
  byId("span").textContent = `${ms(Math.max(view.from, 0))} to ${ms(Math.min(view.to, end))}`;
  const many = visible.length > LEGIBLE;
  const count = visible.length > COUNTED ? `More than ${COUNTED.toLocaleString("en")}` : visible.length.toLocaleString("en");
  Object.assign(byId("toomuch"), { hidden: !many, textContent: `${count} lines: zoom in to read them.` });
  list.hidden = many;
  list.replaceChildren(...(many ? [] : visible.map(item)));
}

function item(place) {
  const element = document.createElement("li"), time = document.createElement("time");
  time.textContent = `${ms(lines[place][AT])}  `;
  element.append(time, told(place));
  const line = lines[place];
  const name = line[WHAT] === MESSAGE ? SHOWN[line[MORE + 1]].name : line[WHAT] === STATE ? STATES[line[MORE]].color : line[WHAT] === BROKEN ? "broken" : SHOWN[filterOf(line)]?.color;
  element.style.borderLeftColor = colors[name] ?? "transparent";
  element.dataset.place = place;
  return element;
}

// ---- pointer and keys ------------------------------------------------------------------------------------------------

/** The distance of a point from a stretch. */
function distance({ x0, y0, x1, y1 }, x, y) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const along = Math.min(1, Math.max(0, ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x - x0 - along * dx, y - y0 - along * dy);
}

function hover(x, y) {
  const near = targets.map((target) => ({ target, far: distance(target, x, y) })).filter(({ target, far }) => far <= target.reach);
  near.sort((a, b) => (a.target.weak ?? false) - (b.target.weak ?? false) || a.far - b.far);
  const places = new Set(near.flatMap(({ target }) => [target.place, target.also ?? -1]).filter((place) => place >= 0));
  tip.hidden = places.size === 0;
  if (tip.hidden) return;
  const texts = [...places].slice(0, 8).map(inFull);
  if (places.size > 8) texts.push(`and ${places.size - 8} more: zoom in`);
  tip.textContent = texts.join("\n");
  const [wide, high] = [tip.offsetWidth, tip.offsetHeight];
  tip.style.left = `${Math.max(2, Math.min(x + 14, width - wide - 4))}px`;
  tip.style.top = `${y + 16 + high > height ? Math.max(2, y - high - 10) : y + 16}px`;
}

let dragged = null;
canvas.addEventListener("pointerdown", (event) => {
  dragged = event.offsetY;
  canvas.setPointerCapture(event.pointerId);
  canvas.classList.add("dragged");
});
canvas.addEventListener("pointermove", (event) => {
  if (dragged === null) return hover(event.offsetX, event.offsetY);
  tip.hidden = true;
  pan(timeOf(dragged) - timeOf(event.offsetY));
  dragged = event.offsetY;
});
for (const over of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(over, () => {
    dragged = null;
    canvas.classList.remove("dragged");
  });
}
canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  tip.hidden = true;
  if (event.shiftKey) pan(((event.deltaY || event.deltaX) / height) * (view.to - view.from));
  else zoom(1.0016 ** Math.max(-400, Math.min(400, event.deltaY)), timeOf(event.offsetY));
}, { passive: false });

function mapTo(event) {
  const at = (event.offsetY / map.clientHeight) * end, half = (view.to - view.from) / 2;
  look(at - half, at + half);
}
map.addEventListener("pointerdown", (event) => {
  map.setPointerCapture(event.pointerId);
  mapTo(event);
});
map.addEventListener("pointermove", (event) => { if (event.buttons) mapTo(event); });

/** To the event before or after what was chosen last, or the middle of the view. */
function step(forwards) {
  const from = pinned >= 0 && lines[pinned][AT] >= view.from && lines[pinned][AT] <= view.to ? pinned : firstAt(lines, (view.from + view.to) / 2);
  const found = forwards ? events.find((event) => event.place > from) : events.findLast((event) => event.place < from);
  if (found) goTo(found.place);
}

const KEYS = {
  ArrowUp: () => pan((view.from - view.to) / 10),
  ArrowDown: () => pan((view.to - view.from) / 10),
  PageUp: () => pan((view.from - view.to) * 0.9),
  PageDown: () => pan((view.to - view.from) * 0.9),
  Home: () => look(0, view.to - view.from),
  End: () => look(end - (view.to - view.from), end),
  "+": () => zoom(0.6),
  "=": () => zoom(0.6),
  "-": () => zoom(1 / 0.6),
  0: () => look(0, end),
  n: () => step(true),
  p: () => step(false),
};
canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
});
byId("previous").addEventListener("click", KEYS.p);
byId("next").addEventListener("click", KEYS.n);
byId("closer").addEventListener("click", KEYS["+"]);
byId("further").addEventListener("click", KEYS["-"]);
byId("whole").addEventListener("click", KEYS[0]);
byId("reading").addEventListener("pointerover", (event) => {
  const place = event.target.closest("li")?.dataset.place;
  if (place === undefined || pinned === Number(place)) return;
  pinned = Number(place);
  draw();
});

// ---- the page around it ----------------------------------------------------------------------------------------------

function definitions(list, pairs) {
  const element = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
  list.append(...pairs.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function furnish() {
  document.querySelector("h1").classList.toggle("broken", run.broken !== "");
  definitions(byId("facts"), run.facts);
  definitions(byId("counts"), run.counts);
  for (const shown of SHOWN) {
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: shown.on, name: shown.name });
    box.addEventListener("change", () => {
      shown.on = box.checked;
      redraw();
    });
    const swatch = Object.assign(document.createElement("span"), { className: shown.name === "heartbeats" ? "swatch thin" : "swatch" });
    swatch.style.borderTopColor = `var(--${shown.color ?? shown.name})`;
    const whole = Object.assign(document.createElement("label"), { title: shown.title });
    whole.append(box, swatch, shown.name);
    byId("filters").append(whole);
  }
  const legend = (name, color, wide) => {
    const entry = document.createElement("span"), sample = document.createElement("i");
    Object.assign(sample.style, { width: `${wide}px`, background: `var(--${color})` });
    entry.append(sample, name);
    byId("legend").append(entry);
  };
  STATES.forEach(({ name, color, width: wide }) => legend(name, color, wide));
  byId("legend").append("Arrows end in a cross where a message was lost. Right of a lane: commits, and calls of clients (solid: answered; dashed: refused or unknown). Left: the disk, notes, faults.");
  byId("events").append(...events.map(({ at, place, kind, text }) => {
    const entry = document.createElement("li");
    const button = Object.assign(document.createElement("button"), { type: "button", className: kind });
    button.append(Object.assign(document.createElement("time"), { textContent: ms(at) }), text);
    button.dataset.place = place;
    button.addEventListener("click", () => goTo(place));
    entry.append(button);
    return entry;
  }));
}

function readColors() {
  const style = getComputedStyle(document.documentElement);
  const names = ["paper", "shade", "rule", "grid", "ink", "soft", "fault", "client", "broken", "focus", "commit", "durable"];
  const all = [...names, ...STATES.map(({ color }) => color), ...SHOWN.slice(0, 5).map(({ name }) => name)];
  colors = Object.fromEntries(all.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function resize() {
  const box = byId("diagram").getBoundingClientRect();
  [width, height] = [box.width, box.height];
  [canvas.width, canvas.height] = [width * devicePixelRatio, height * devicePixelRatio];
  [map.width, map.height] = [map.clientWidth * devicePixelRatio, map.clientHeight * devicePixelRatio];
  mapped = null;
  redraw();
}

furnish();
readColors();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readColors();
  mapped = null;
  redraw();
});
new ResizeObserver(resize).observe(byId("diagram"));
resize();

/** What one wants to see first: what went before a promise was broken, or the first leader. */
function begin() {
  if (broken < 0) {
    const first = events.find(({ kind }) => kind === "leader")?.at ?? 0;
    return look(first - run.e * 0.1, first + run.e * 0.4);
  }
  const at = lines[broken][AT];
  const before = lines.slice(0, broken).filter(isShown).at(-24)?.[AT] ?? 0;
  const span = Math.min(Math.max((at - before) * 1.1, 5000), run.e);
  look(at - span, at + span * 0.15);
}
begin();
