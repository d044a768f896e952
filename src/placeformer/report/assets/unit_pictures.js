// Pictures of one unit, drawn as SVG from the packed data of the report: maps, fields and tests.
"use strict";

const at = (id) => document.getElementById(id);
const data = JSON.parse(at("payload").textContent);
const colors = bytes(data.colors);

// --- Data -------------------------------------------------------------------------------------

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** Unpack the arrays of a network once they are asked for. */
function arrays(network) {
  network.unpacked ??= {
    rates: bytes(network.rates),
    fields: bytes(network.fields),
    nulls: Object.fromEntries(
      Object.entries(network.nulls).map(([key, text]) => [key, new DataView(bytes(text).buffer)]),
    ),
  };
  return network.unpacked;
}

/** Places (y, x) of one unit on one map in an array (map, unit, y, x). */
function places(array, network, map, unit) {
  const size = network.y[0] * network.x[0];
  const start = (map * network.layer.length + unit) * size;
  return array.subarray(start, start + size);
}

/** Values of one unit on one map in the shuffles of a test; those undefined are left out. */
function shuffled(network, key, map, unit) {
  const view = arrays(network).nulls[key];
  const n = view.byteLength / 2 / data.maps.length / network.layer.length;
  const start = (map * network.layer.length + unit) * n;
  return Array.from({ length: n }, (_, i) => view.getInt16(2 * (start + i), true))
    .filter((value) => value > -32768)
    .map((value) => value * data.fine);
}

const show = (value) =>
  value === null ? "–" : typeof value === "number" ? String(Number(value.toPrecision(3))) : value;

// --- Pictures ---------------------------------------------------------------------------------

/** Both maps of a unit in the same colours, and the bar that says what they mean. */
function mapsOf(one) {
  const { network } = one;
  const [ny, nx] = [network.y[0], network.x[0]];
  const side = 124 / Math.max(ny, nx);
  const name = `Rate maps of ${one.name} of ${network.name} on a trained and on a novel map.`;
  const picture = svg("svg", { viewBox: `0 0 384 ${ny * side + 52}`, role: "img", "aria-label": name });
  picture.append(hatching());
  data.maps.forEach((kind, map) => {
    const group = svg("g", { transform: `translate(${28 + map * 140} 20)` });
    group.append(label(0, -7, `${kind} map`), ...squares(one, map, side), ...outlines(one, map, side));
    group.append(svg("rect", { class: "frame", width: nx * side, height: ny * side }));
    group.append(...axes(network, side, map === 0));
    picture.append(group);
  });
  picture.append(bar(network, one.unit, ny * side));
  return picture;
}

function squares(one, map, side) {
  const nx = one.network.x[0];
  const shades = places(arrays(one.network).rates, one.network, map, one.unit);
  return [...shades].map((shade, i) => {
    const where = { x: (i % nx) * side, y: Math.floor(i / nx) * side, width: side, height: side };
    const fill = shade === data.unvisited ? "url(#hatch)" : color(shade);
    return svg("rect", { ...where, fill, "shape-rendering": "crispEdges" });
  });
}

const color = (shade) => {
  const i = 3 * Math.round((shade / (data.unvisited - 1)) * 255);
  return `rgb(${colors.slice(i, i + 3).join(" ")})`;
};

function hatching() {
  const pattern = svg("pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  pattern.append(svg("rect", { class: "unvisited", width: 5, height: 5 }), svg("line", { class: "hatching", x1: 1, y1: 0, x2: 1, y2: 5 }));
  return pattern;
}

/** Borders of the fields, between places of different numbers. */
function outlines(one, map, side) {
  const [ny, nx] = [one.network.y[0], one.network.x[0]];
  const field = places(arrays(one.network).fields, one.network, map, one.unit);
  const number = (y, x) => (y < 0 || x < 0 || y >= ny || x >= nx ? 0 : field[y * nx + x]);
  let path = "";
  for (let y = 0; y <= ny; y++) {
    for (let x = 0; x <= nx; x++) {
      if (number(y, x) !== number(y, x - 1)) path += `M${x * side} ${y * side}v${side}`;
      if (number(y, x) !== number(y - 1, x)) path += `M${x * side} ${y * side}h${side}`;
    }
  }
  return path ? ["outline under", "outline"].map((kind) => svg("path", { class: kind, d: path })) : [];
}

function axes(network, side, withY) {
  const [[ny, nameY], [nx, nameX]] = [network.y, network.x];
  const ticks = (n) => [...new Set([0, Math.floor((n - 1) / 2), n - 1])];
  const below = ticks(nx).map((x) => label((x + 0.5) * side, ny * side + 13, x, "middle"));
  below.push(label((nx * side) / 2, ny * side + 27, nameX, "middle"));
  if (!withY) return below;
  const beside = ticks(ny).map((y) => label(-4, (y + 0.5) * side + 4, y, "end"));
  const name = label(0, 0, nameY, "middle");
  name.setAttribute("transform", `translate(-19 ${(ny * side) / 2}) rotate(-90)`);
  return [...below, ...beside, name];
}

/** The bar of colours, with the least, the middle and the greatest rate. */
function bar(network, unit, height) {
  const group = svg("g", { transform: "translate(302 20)" });
  const n = 32;
  for (let i = 0; i < n; i++) {
    const shade = ((n - 1 - i) / (n - 1)) * (data.unvisited - 1);
    group.append(svg("rect", { y: (i * height) / n, width: 11, height: height / n + 0.5, fill: color(shade) }));
  }
  group.append(svg("rect", { class: "frame", width: 11, height }));
  const [low, high] = [network.low[unit], network.high[unit]];
  [high, (low + high) / 2, low].forEach((value, i) => group.append(label(15, (i * height) / 2 + 4, show(value))));
  const name = label(0, 0, `mean activation (${network.unit})`, "middle");
  name.setAttribute("transform", `translate(76 ${height / 2}) rotate(-90)`);
  group.append(name);
  return group;
}

/** A test: the values in the shuffles as bars, and the unit's own as a line. */
function test(one, key) {
  const values = shuffled(one.network, key, state.map, one.unit);
  const own = one.network.values[key][state.map][one.unit];
  const figure = html("figure");
  const words = own === null || !values.length ? `${data.columns[key]}: not defined.` : sentence(one, key, values, own);
  if (own !== null && values.length) figure.append(histogram(values, own, data.columns[key], words));
  figure.append(html("figcaption", {}, words));
  return figure;
}

function sentence(one, key, values, own) {
  const reached = values.filter((value) => value >= own - data.fine / 2).length;
  const p = show(one.network.p[key][state.map][one.unit]);
  const q = show(one.network.values[`q_${data.tests[key]}`][state.map][one.unit]);
  const count = reached ? `${reached} of ${values.length} shuffles reach it` : `none of ${values.length} shuffles reaches it`;
  return `${data.columns[key]} ${show(own)} (line); ${count}; p = ${p}, q = ${q}.`;
}

function histogram(values, own, name, words) {
  const [low, high] = [Math.min(...values, own), Math.max(...values, own)];
  const span = high - low || 1;
  const n = 24;
  const counts = new Array(n).fill(0);
  values.forEach((value) => counts[Math.min(Math.floor(((value - low) / span) * n), n - 1)]++);
  const most = Math.max(...counts);
  const x = (value) => 30 + ((value - low) / span) * 320;
  const picture = svg("svg", { viewBox: "0 0 384 92", role: "img", "aria-label": words });
  counts.forEach((count, i) => {
    const height = (count / most) * 50;
    if (count) picture.append(svg("rect", { class: "bars", x: 30 + (i * 320) / n, y: 58 - height, width: 320 / n - 1, height }));
  });
  picture.append(svg("line", { class: "frame", x1: 30, y1: 58.5, x2: 352, y2: 58.5 }));
  picture.append(svg("line", { class: "observed", x1: x(own), y1: 4, x2: x(own), y2: 58 }));
  picture.append(label(26, 62, "0", "end"), label(26, 14, most, "end"), label(191, 88, name, "middle"));
  [low, (low + high) / 2, high].forEach((value) => picture.append(label(x(value), 73, show(value), "middle")));
  return picture;
}

// --- Elements ---------------------------------------------------------------------------------

function fill(element, attributes, text) {
  Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
  if (text !== undefined) element.textContent = text;
  return element;
}

function html(tag, attributes = {}, text = undefined) {
  return fill(document.createElement(tag), attributes, text);
}

function svg(tag, attributes, text = undefined) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, text);
}

function label(x, y, text, anchor = "start") {
  return svg("text", { x, y, "text-anchor": anchor }, text);
}
