// The comparison of two entries of a track, from the numbers that the track's data file has put into `board`.
"use strict";

const SVG = "http://www.w3.org/2000/svg";

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function variance(values) {
  const centre = mean(values);
  return values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1);
}

function quantile(degrees) {
  // board.t has Student's 97.5% quantiles for 1, 2, ... degrees of freedom
  const low = Math.min(Math.max(Math.floor(degrees), 1), board.t.length);
  const high = Math.min(low + 1, board.t.length);
  const part = Math.min(Math.max(degrees - low, 0), 1);
  return board.t[low - 1] * (1 - part) + board.t[high - 1] * part;
}

function paired(strata) {
  // the mean over environments of the mean difference, with Student's (Welch's) interval
  const used = strata.filter((values) => values.length);
  const value = mean(used.map(mean));
  if (!used.length || used.some((values) => values.length < 2)) return { value, low: Number.NaN, high: Number.NaN };
  const errors = used.map((values) => variance(values) / values.length);
  const sum = errors.reduce((a, b) => a + b, 0);
  if (sum === 0) return { value, low: value, high: value };
  const degrees = sum ** 2 / errors.reduce((total, error, i) => total + error ** 2 / (used[i].length - 1), 0);
  const half = (quantile(degrees) * Math.sqrt(sum)) / used.length;
  return { value, low: value - half, high: value + half };
}

function pairsOf(first, second, environment) {
  const other = second.values[environment];
  return first.values[environment].map((value, i) => [value, other[i]]).filter(([a, b]) => a !== null && b !== null);
}

function shown(number) {
  return Number.isNaN(number) ? "–" : number.toFixed(3).replace("-", "−");
}

function cell(row, text, isHead) {
  const made = document.createElement(isHead ? "th" : "td");
  if (isHead) made.scope = "row";
  else made.className = "n";
  made.textContent = text;
  row.append(made);
}

function fill(body, label, pairs, result) {
  const row = body.insertRow();
  const all = pairs.flat();
  cell(row, label, true);
  for (const side of [0, 1]) cell(row, shown(mean(pairs.filter((p) => p.length).map((p) => mean(p.map((pair) => pair[side]))))));
  cell(row, shown(result.value));
  cell(row, Number.isNaN(result.low) ? "–" : `[${shown(result.low)}, ${shown(result.high)}]`);
  cell(row, `${all.filter(([a, b]) => a < b).length} of ${all.length}`);
}

function shape(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
}

function steps(top) {
  const size = 10 ** Math.floor(Math.log10(top));
  const step = [0.2, 0.5, 1, 2].map((part) => part * size).find((each) => top / each <= 6);
  return Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, i) => Number((i * step).toPrecision(6)));
}

function chart(environment, index, first, second) {
  const [width, height, left, right, top, bottom] = [460, 260, 52, 450, 14, 226];
  const figure = document.createElement("figure");
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("class", "chart");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Cumulative regret of ${first.title} and ${second.title} on ${environment.label}`);
  const highest = Math.max(...[first, second].flatMap((each) => each.curves[index] ?? [0]), 1e-9);
  const x = (t) => left + ((right - left) * t) / environment.horizon;
  const y = (value) => bottom - ((bottom - top) * value) / highest;
  for (const value of steps(highest)) {
    shape(svg, "line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) });
    shape(svg, "text", { class: "tick", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, value.toLocaleString("en"));
  }
  for (const [part, side] of [[0, "middle"], [0.5, "middle"], [1, "end"]]) {
    const label = Math.round(part * environment.horizon).toLocaleString("en");
    shape(svg, "text", { class: "tick", x: x(part * environment.horizon), y: bottom + 18, "text-anchor": side }, label);
  }
  for (const [each, look] of [[first, "own"], [second, "other"]]) {
    if (!each.curves[index]) continue;
    const points = [`${x(0)},${y(0)}`, ...each.curves[index].map((value, i) => `${x(environment.rounds[i])},${y(value)}`)];
    shape(svg, "polyline", { class: look, points: points.join(" ") });
  }
  const caption = document.createElement("figcaption");
  const label = document.createElement("strong");
  label.textContent = environment.label;
  caption.append(label, ": cumulative regret over rounds. ");
  for (const [each, look] of [[first, ""], [second, " second"]]) {
    const swatch = document.createElement("span");
    swatch.className = `swatch${look}`;
    caption.append(swatch, each.title, " ");
  }
  figure.append(svg, caption);
  return figure;
}

function show(selects) {
  const [first, second] = selects.map((select) => board.entries[Number(select.value)]);
  const body = document.querySelector("[data-rows]");
  body.replaceChildren();
  for (const side of [0, 1]) document.querySelector(`[data-name="${side}"]`).textContent = [first, second][side].title;
  const pairs = board.environments.map((_, i) => pairsOf(first, second, i));
  const differences = pairs.map((all) => all.map(([a, b]) => a - b));
  board.environments.forEach((environment, i) => fill(body, environment.label, [pairs[i]], paired([differences[i]])));
  const whole = paired(differences);
  if (board.environments.length > 1) fill(body, "All environments", pairs, whole);
  const verdict = document.querySelector("[data-verdict]");
  if (first === second) verdict.textContent = "Choose two different entries.";
  else if (Number.isNaN(whole.low)) verdict.textContent = "Too few common seeds to tell them apart.";
  else if (whole.low > 0 || whole.high < 0) {
    const [better, worse] = whole.value < 0 ? [first, second] : [second, first];
    verdict.textContent = `${better.title} has less regret than ${worse.title}: by ${shown(Math.abs(whole.value))} of the worst policy's.`;
  } else verdict.textContent = `${first.title} and ${second.title} cannot be told apart with these seeds.`;
  document.querySelector("[data-charts]").replaceChildren(...board.environments.map((environment, i) => chart(environment, i, first, second)));
}

const selects = [0, 1].map((side) => document.querySelector(`[data-side="${side}"]`));
selects.forEach((select, side) => {
  board.entries.forEach((entry, i) => select.add(new Option(entry.title, String(i))));
  select.value = String(Math.min(side, board.entries.length - 1));
  select.addEventListener("change", () => show(selects));
});
if (board.entries.length) show(selects);
