// Pictures of one unit, drawn as SVG from the packed data of the report: maps, fields and tests.
"use strict";

const at = (id) => document.getElementById(id);
const data = JSON.parse(at("payload").textContent);
const colors = bytes(data.colors);

// --- Data -------------------------------------------------------------------------------------

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** Unpack the arrays of a network on first use. */
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

/** Places of one unit on one map in an array (map, unit, place). */
function places(array, network, map, unit) {
  const size = network.axes.reduce((n, axis) => n * axis.n, 1);
  const start = (map * network.layer.length + unit) * size;
  return array.subarray(start, start + size);
}

/** Values of one unit on one map in the shuffles of a test, without undefined values. */
function shuffled(network, key, map, unit) {
  const view = arrays(network).nulls[key];
  if (!view) return [];
  const n = view.byteLength / 2 / network.maps.length / network.layer.length;
  const start = (map * network.layer.length + unit) * n;
  return Array.from({ length: n }, (_, i) => view.getInt16(2 * (start + i), true))
    .filter((value) => value > -32768)
    .map((value) => value * data.fine);
}

const show = (value) =>
  value === null || value === undefined
    ? "–"
    : typeof value === "number"
      ? String(Number(value.toPrecision(3)))
      : value;

// --- Pictures ---------------------------------------------------------------------------------

const WIDTH = 124; // maximum width and height of a map

/** Every map of a unit in the same colours, with a colour bar. */
function mapsOf(one) {
  const { network } = one;
  const flat = network.axes.length === 1;
  const [height, width] = sizes(network);
  const [column, row] = flat ? [0, height + 62] : [140, height + 52];
  const rows = flat ? network.maps.length : Math.ceil(network.maps.length / 2);
  const name = `Rate maps of ${one.name} of ${network.name}: ${network.maps.join(", ")}.`;
  const box = `0 0 384 ${rows * row + (flat ? 8 : 0)}`;
  const picture = svg("svg", { viewBox: box, role: "img", "aria-label": name });
  picture.append(hatching());
  network.maps.forEach((kind, map) => {
    const where = flat ? [44, map * row + 20] : [28 + (map % 2) * column, Math.floor(map / 2) * row + 20];
    const group = svg("g", { transform: `translate(${where.join(" ")})` });
    const size = [height, width];
    group.append(label(0, -7, kind), ...(flat ? curve(one, map, size) : squares(one, map, size)));
    if (!flat) group.append(...outlines(one, map, size));
    group.append(svg("rect", { class: "frame", width, height }), ...axes(network, size, map % 2 === 0));
    picture.append(group);
  });
  if (!flat) picture.append(bar(network, one.unit, height));
  return picture;
}

/** Height and width of a map, in the proportions of its place. */
function sizes(network) {
  if (network.axes.length === 1) return [90, 330];
  const [y, x] = network.axes.map((axis) => axis.length);
  return [(WIDTH * y) / Math.max(y, x), (WIDTH * x) / Math.max(y, x)];
}

/** Row in which the bins with a number along y are drawn. */
const rowOf = (network, y) => (network.up ? network.axes[0].n - 1 - y : y);

function squares(one, map, [height, width]) {
  const { network } = one;
  const [ny, nx] = network.axes.map((axis) => axis.n);
  const [h, w] = [height / ny, width / nx];
  return [...places(arrays(network).rates, network, map, one.unit)].map((shade, i) => {
    const y = rowOf(network, Math.floor(i / nx)) * h;
    const fill = shade === data.unvisited ? "url(#hatch)" : color(shade);
    return svg("rect", { x: (i % nx) * w, y, width: w, height: h, fill, "shape-rendering": "crispEdges" });
  });
}

/** The rate on one axis of place as a curve, over its fields. */
function curve(one, map, [height, width]) {
  const { network, unit } = one;
  const n = network.axes[0].n;
  const rates = places(arrays(network).rates, network, map, unit);
  const field = places(arrays(network).fields, network, map, unit);
  const x = (i) => ((i + 0.5) * width) / n;
  const shades = [...field].map((number, i) =>
    number ? svg("rect", { class: "field", x: (i * width) / n, width: width / n, height }) : null,
  );
  let path = "";
  rates.forEach((shade, i) => {
    if (shade === data.unvisited) return;
    const starts = i === 0 || rates[i - 1] === data.unvisited;
    path += `${starts ? "M" : "L"}${x(i)} ${height * (1 - shade / (data.unvisited - 1))}`;
  });
  const ends = [network.high[unit], network.low[unit]].map((v, i) => label(-4, i * height + 4, show(v), "end"));
  const name = label(0, 0, network.rate, "middle");
  name.setAttribute("transform", `translate(-34 ${height / 2}) rotate(-90)`);
  return [...shades.filter(Boolean), svg("path", { class: "curve", d: path }), ...ends, name];
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

/** Borders of the fields, between places with different field numbers. */
function outlines(one, map, [height, width]) {
  const { network } = one;
  const [ny, nx] = network.axes.map((axis) => axis.n);
  const [h, w] = [height / ny, width / nx];
  const field = places(arrays(network).fields, network, map, one.unit);
  const number = (y, x) => (y < 0 || x < 0 || y >= ny || x >= nx ? 0 : field[rowOf(network, y) * nx + x]);
  let path = "";
  for (let y = 0; y <= ny; y++) {
    for (let x = 0; x <= nx; x++) {
      if (number(y, x) !== number(y, x - 1)) path += `M${x * w} ${y * h}v${h}`;
      if (number(y, x) !== number(y - 1, x)) path += `M${x * w} ${y * h}h${w}`;
    }
  }
  return path ? ["outline under", "outline"].map((kind) => svg("path", { class: kind, d: path })) : [];
}

function axes(network, [height, width], withY) {
  const x = network.axes.at(-1);
  const below = x.ticks.map(([at, text]) => label((at * width) / x.n, height + 13, text, "middle"));
  below.push(label(width / 2, height + 27, x.label, "middle"));
  if (!withY || network.axes.length === 1) return below;
  const y = network.axes[0];
  const up = (at) => (network.up ? y.n - at : at);
  const beside = y.ticks.map(([at, text]) => label(-4, (up(at) * height) / y.n + 4, text, "end"));
  const name = label(0, 0, y.label, "middle");
  name.setAttribute("transform", `translate(-19 ${height / 2}) rotate(-90)`);
  return [...below, ...(y.ticks.some(([, text]) => text.length > 2) ? [] : beside), name];
}

/** The colour bar, labelled with the minimum, middle and maximum rate. */
function bar(network, unit, height) {
  const left = network.maps.length === 1 ? 28 + WIDTH + 16 : 302;
  const group = svg("g", { transform: `translate(${left} 20)` });
  const n = 32;
  for (let i = 0; i < n; i++) {
    const shade = ((n - 1 - i) / (n - 1)) * (data.unvisited - 1);
    group.append(svg("rect", { y: (i * height) / n, width: 11, height: height / n + 0.5, fill: color(shade) }));
  }
  group.append(svg("rect", { class: "frame", width: 11, height }));
  const [low, high] = [network.low[unit], network.high[unit]];
  [high, (low + high) / 2, low].forEach((value, i) => group.append(label(15, (i * height) / 2 + 4, show(value))));
  const name = label(0, 0, network.rate, "middle");
  name.setAttribute("transform", `translate(76 ${height / 2}) rotate(-90)`);
  group.append(name);
  return group;
}

/** A test: the values in the shuffles as bars, and the value of the unit as a line. */
function test(one, key, map) {
  const values = shuffled(one.network, key, map, one.unit);
  const own = one.network.values[key]?.[map][one.unit] ?? null;
  const figure = html("figure");
  const words = own === null ? `${data.columns[key]}: not defined.` : sentence(one, key, map, values, own);
  if (own !== null && values.length) figure.append(histogram(values, own, data.columns[key], words));
  figure.append(html("figcaption", {}, words));
  return figure;
}

function sentence(one, key, map, values, own) {
  const reached = values.filter((value) => value >= own - data.fine / 2).length;
  const p = show(one.network.p[key][map][one.unit]);
  const q = show(one.network.values[`q_${data.tests[key]}`][map][one.unit]);
  const count = !values.length
    ? "the shuffles are in the files"
    : reached
      ? `${reached} of ${values.length} shuffles reach it`
      : `none of ${values.length} shuffles reaches it`;
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
