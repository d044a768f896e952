// The table of all units: search, filters, order, pages, and what is shown of the unit picked.
"use strict";

const PAGE = 25;

// --- Units --------------------------------------------------------------------------------------

const units = data.networks.flatMap((network) =>
  network.layer.map((layer, unit) => ({
    network,
    layer,
    unit,
    name: `${layer} unit ${network.index[unit]}`,
  })),
);

const reason = (one, map) => one.network.reasons[one.network.reason[map][one.unit]];
const isPlaceCell = (one, map) => reason(one, map) === "place cell";
const remembers = (one) => one.network.remembered[one.unit] === 1;

// --- Columns ----------------------------------------------------------------------------------

const several = data.networks.length > 1;
const columns = [
  { head: "unit", value: (one) => one.name, compare: byUnit },
  ...(several ? [{ head: "network", value: (one) => one.network.name }] : []),
  { head: "place cell", value: (one) => (isPlaceCell(one, state.map) ? "yes" : "no") },
  { head: "reason", value: (one) => reason(one, state.map) },
  { head: "memory", value: (one) => (remembers(one) ? "needed" : "") },
  ...Object.entries(data.columns).map(([key, head]) => ({
    head,
    key,
    value: (one) => one.network.values[key][state.map][one.unit],
  })),
];

function byUnit(a, b) {
  const [first, second] = [a, b].map((one) => data.networks.indexOf(one.network));
  return first - second || a.unit - b.unit;
}

/** Order of two units by a column; values that are undefined come last, ties stay in order. */
function order(column, sign) {
  if (column.compare) return (a, b) => sign * column.compare(a, b);
  return (a, b) => {
    const [x, y] = [column.value(a), column.value(b)];
    const missing = (x === null || x === "") - (y === null || y === "");
    return missing || sign * (typeof x === "number" ? x - y : x < y ? -1 : x > y ? 1 : 0) || byUnit(a, b);
  };
}

// --- State and table --------------------------------------------------------------------------

const score = columns.findIndex((column) => column.key === "score");
const state = { map: 0, sort: score, sign: -1, page: 0, found: units, picked: null };

/** Whether a unit has every word looked for; a number is that of the unit and nothing else. */
function matches(one, words) {
  const text = `${one.network.name} ${one.name} ${reason(one, state.map)}`.toLowerCase();
  const index = String(one.network.index[one.unit]);
  return words.every((word) => (/^\d+$/.test(word) ? word === index : text.includes(word)));
}

const kinds = {
  "": () => true,
  place: (one) => isPlaceCell(one, state.map),
  memory: remembers,
  other: (one) => !isPlaceCell(one, state.map),
};

function filter() {
  const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const [network, layer] = [at("network").value, at("layer").value];
  state.map = Number(at("map").value);
  state.found = units
    .filter((one) => !network || one.network.name === network)
    .filter((one) => !layer || one.layer === layer)
    .filter(kinds[at("kind").value])
    .filter((one) => matches(one, words))
    .sort(order(columns[state.sort], state.sign));
  state.page = 0;
  draw();
}

function sortBy(i) {
  const falling = columns[i].key || columns[i].head === "place cell"; // the most or the yes first
  state.sign = state.sort === i ? -state.sign : falling ? -1 : 1;
  state.sort = i;
  filter();
}

function draw() {
  const first = state.page * PAGE;
  const last = Math.max(Math.ceil(state.found.length / PAGE), 1);
  const cells = state.found.filter((one) => isPlaceCell(one, state.map)).length;
  const [n, all, yes] = [state.found.length, units.length, cells].map((x) => x.toLocaleString("en"));
  at("count").textContent = `${n} of ${all} units; ${yes} of these are place cells of the ${data.maps[state.map]} map.`;
  at("page").textContent = `page ${state.page + 1} of ${last}`;
  at("back").disabled = state.page === 0;
  at("on").disabled = state.page + 1 >= last;
  at("rows").replaceChildren(...state.found.slice(first, first + PAGE).map(row));
  [...at("heads").children].forEach((head, i) => {
    const sorted = state.sign > 0 ? "ascending" : "descending";
    head.setAttribute("aria-sort", i === state.sort ? sorted : "none");
    head.querySelector("span").textContent = i === state.sort ? (state.sign > 0 ? " ▲" : " ▼") : "";
  });
}

function row(one) {
  const line = html("tr", { "aria-selected": String(one === state.picked) });
  columns.forEach((column, i) => {
    const cell = html(i ? "td" : "th", i ? {} : { scope: "row" });
    if (i) cell.textContent = show(column.value(one));
    else cell.append(html("button", { type: "button" }, column.value(one)));
    line.append(cell);
  });
  line.addEventListener("click", () => pick(one, true));
  return line;
}

function turn(pages) {
  state.page += pages;
  draw();
}

/** Move the focus to the unit above or below. */
function walk(event) {
  const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  const buttons = [...at("rows").querySelectorAll("button")];
  const next = buttons[buttons.indexOf(document.activeElement) + step];
  if (!step || !next || !buttons.includes(document.activeElement)) return;
  event.preventDefault();
  next.focus();
}

// --- The unit picked --------------------------------------------------------------------------

function pick(one, scroll) {
  state.picked = one;
  const here = state.found.indexOf(one) - state.page * PAGE;
  [...at("rows").children].forEach((line, i) => line.setAttribute("aria-selected", String(i === here)));
  at("detail").replaceChildren(...describe(one));
  if (scroll && !matchMedia("(min-width: 62rem)").matches) at("detail").scrollIntoView({ block: "start" });
}

function describe(one) {
  const { network } = one;
  const heading = html("h3", {}, `${one.name}, ${network.name} (${network.about})`);
  const verdicts = data.maps.map((kind, map) => `${kind} map: ${reason(one, map)}`);
  if (remembers(one)) verdicts.push("its tuning depends on memory");
  const nearby = html("p", { class: "pager" });
  nearby.append(neighbour(one, -1, "Unit before"), back(), neighbour(one, 1, "Unit after"));
  const maps = html("figure");
  maps.append(mapsOf(one), html("figcaption", {}, captionOf(one)));
  const tests = Object.keys(data.tests).map((key) => test(one, key));
  const title = html("h4", {}, `Against chance, on the ${data.maps[state.map]} map`);
  return [heading, html("p", { class: "note" }, `${verdicts.join("; ")}.`), maps, title, ...tests, nearby];
}

/** A button back to the unit in the table, or to the search where the table does not hold it. */
function back() {
  const button = html("button", { type: "button" }, "Table");
  button.addEventListener("click", () => {
    (document.querySelector('#rows [aria-selected="true"] button') ?? at("search")).focus();
  });
  return button;
}

function captionOf(one) {
  const fields = data.maps.map((kind, map) => `${one.network.values.n_fields[map][one.unit]} on the ${kind} map`);
  return `Mean activation at every place. Fields (white outlines): ${fields.join(", ")}. Hatched: not visited.`;
}

/** A button for the unit before or after this one in the table. */
function neighbour(one, step, label) {
  const next = state.found[state.found.indexOf(one) + step];
  const button = html("button", { type: "button" }, label);
  button.disabled = !next || !state.found.includes(one);
  button.addEventListener("click", () => {
    state.page = Math.floor(state.found.indexOf(next) / PAGE);
    state.picked = next;
    draw();
    pick(next, false);
    const again = [...at("detail").querySelectorAll("button")].find((b) => b.textContent === label);
    (again.disabled ? at("detail") : again).focus();
  });
  return button;
}

// --- Start ------------------------------------------------------------------------------------

function option(select, value, text) {
  at(select).append(html("option", { value }, text));
}

function start() {
  data.networks.forEach((network) => option("network", network.name, `${network.name} (${network.about})`));
  new Set(units.map((one) => one.layer)).forEach((layer) => option("layer", layer, layer));
  data.maps.forEach((kind, map) => option("map", map, `${kind} map`));
  columns.forEach((column, i) => {
    const button = html("button", { type: "button" }, column.head);
    button.append(html("span", { "aria-hidden": "true" }));
    button.addEventListener("click", () => sortBy(i));
    const head = html("th", { scope: "col" });
    head.append(button);
    at("heads").append(head);
  });
  at("tools").addEventListener("submit", (event) => event.preventDefault());
  ["network", "layer", "map", "kind"].forEach((id) => at(id).addEventListener("change", filter));
  at("map").addEventListener("change", () => state.picked && pick(state.picked, false));
  at("search").addEventListener("input", filter);
  at("rows").addEventListener("keydown", walk);
  at("back").addEventListener("click", () => turn(-1));
  at("on").addEventListener("click", () => turn(1));
  filter();
  if (state.found.length) pick(state.found[0], false);
  at("tools").hidden = at("browser").hidden = false;
}

start();
