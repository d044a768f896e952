// The table of all units: search, filters, order, pages, links, and details of the selected unit.
"use strict";

const PAGE = 25;

// --- Units --------------------------------------------------------------------------------------

const units = data.networks.flatMap((network) =>
  network.layer.map((layer, unit) => ({ network, layer, unit, name: network.names[unit] })),
);

const reason = (one, map) => one.network.reasons[one.network.reason[map][one.unit]];
const isPlaceCell = (one, map) => reason(one, map) === "place cell";
const remembers = (one, map) => one.network.remembered[map][one.unit] === 1;
const measure = (one, key, map) => one.network.values[key]?.[map][one.unit] ?? null;

// --- Columns ----------------------------------------------------------------------------------

const several = data.networks.length > 1;
const withMemory = data.networks.some((network) => network.remembered.some((map) => map.includes(1)));
const numeric = Object.entries(data.columns).map(([key, head]) => ({
  head,
  key,
  value: (one) => measure(one, key, state.map),
}));
const columns = [
  { head: "unit", value: (one) => one.name, compare: byUnit },
  ...(several ? [{ head: "subject", value: (one) => one.network.name }] : []),
  { head: "type", value: (one) => one.network.types[state.map][one.unit] },
  ...numeric.slice(0, data.first),
  { head: "reason", value: (one) => reason(one, state.map) },
  ...(withMemory ? [{ head: "memory", value: (one) => (remembers(one, state.map) ? "needed" : "") }] : []),
  ...numeric.slice(data.first).map((column) => ({ ...column, more: true })),
];
const shownColumns = () => columns.filter((column) => state.wide || !column.more);

function byUnit(a, b) {
  const [first, second] = [a, b].map((one) => data.networks.indexOf(one.network));
  return first - second || a.unit - b.unit;
}

/** Order of two units by a column; undefined values come last, ties keep their order. */
function order(column, sign) {
  if (column.compare) return (a, b) => sign * column.compare(a, b);
  return (a, b) => {
    const [x, y] = [column.value(a), column.value(b)];
    const missing = (x === null || x === "") - (y === null || y === "");
    return missing || sign * (typeof x === "number" ? x - y : x < y ? -1 : x > y ? 1 : 0) || byUnit(a, b);
  };
}

// --- Search -----------------------------------------------------------------------------------

const CONDITION = /^([^<>=≤≥]+)(<=|>=|≤|≥|<|>|=)(-?(?:\d+\.?\d*|\.\d+)(?:e-?\d+)?)$/;
const COMPARE = {
  "<": (x, y) => x < y,
  ">": (x, y) => x > y,
  "<=": (x, y) => x <= y,
  ">=": (x, y) => x >= y,
  "≤": (x, y) => x <= y,
  "≥": (x, y) => x >= y,
  "=": (x, y) => x === y,
};
const SHORT = { fields: "n_fields", information: "information_rectify", q: "q_place", "η²": "eta2" };

/** The words and conditions of a search, and conditions on unknown measures. */
function parse(text) {
  const tight = text.toLowerCase().replace(/\s*(<=|>=|[<>=≤≥])\s*/g, "$1");
  const found = { words: [], conditions: [], unknown: [] };
  tight.split(/\s+/).filter(Boolean).forEach((word) => {
    const parts = CONDITION.exec(word);
    if (!parts) return void (/[<>=≤≥]/.test(word) ? found.unknown : found.words).push(word);
    const key = SHORT[parts[1]] ?? parts[1];
    if (!(key in data.columns)) return void found.unknown.push(word);
    found.conditions.push((one) => {
      const value = measure(one, key, state.map);
      return value !== null && COMPARE[parts[2]](value, Number(parts[3]));
    });
  });
  return found;
}

/** Whether a unit matches every word; a number matches only the number of the unit. */
function matches(one, words) {
  const { network, unit } = one;
  const text = `${network.name} ${one.name} ${network.types[state.map][unit]} ${reason(one, state.map)}`.toLowerCase();
  return words.every((word) => (/^\d+$/.test(word) ? word === network.index[unit] : text.includes(word)));
}

const kinds = {
  "": () => true,
  place: (one) => isPlaceCell(one, state.map),
  memory: (one) => remembers(one, state.map),
  other: (one) => !isPlaceCell(one, state.map),
};

// --- State and table --------------------------------------------------------------------------

const state = { map: 0, sort: columns.findIndex((column) => column.key), sign: -1, page: 0, wide: false, found: [], picked: null, unknown: [] };

function filter() {
  const { words, conditions, unknown } = parse(at("search").value);
  const [network, layer] = [at("network").value, at("layer").value];
  state.map = Number(at("map").value);
  state.wide = at("wide").checked;
  state.unknown = unknown;
  state.found = units
    .filter((one) => state.map < one.network.maps.length)
    .filter((one) => !network || one.network.name === network)
    .filter((one) => !layer || one.layer === layer)
    .filter(kinds[at("kind").value])
    .filter((one) => matches(one, words) && conditions.every((condition) => condition(one)))
    .sort(order(columns[state.sort], state.sign));
  state.page = 0;
  draw();
}

function sortBy(column) {
  const i = columns.indexOf(column);
  const falling = Boolean(column.key); // highest values first
  state.sign = state.sort === i ? -state.sign : falling ? -1 : 1;
  state.sort = i;
  filter();
  remember();
}

function draw() {
  const first = state.page * PAGE;
  const last = Math.max(Math.ceil(state.found.length / PAGE), 1);
  const cells = state.found.filter((one) => isPlaceCell(one, state.map)).length;
  const [n, all, yes] = [state.found.length, units.length, cells].map((x) => x.toLocaleString("en"));
  const where = [...new Set(data.networks.map((one) => one.maps[state.map]).filter(Boolean))].join(" / ");
  const wrong = state.unknown.map((word) => `“${word}” is not a condition: write one of ${Object.keys(data.columns).join(", ")}, then >, < or =, and a number.`);
  at("count").textContent = [`${n} of ${all} units; ${yes} of these are place cells (${where}).`, ...wrong].join(" ");
  at("page").textContent = `page ${state.page + 1} of ${last}`;
  at("back").disabled = state.page === 0;
  at("on").disabled = state.page + 1 >= last;
  at("heads").replaceChildren(...shownColumns().map(heading));
  at("rows").replaceChildren(...state.found.slice(first, first + PAGE).map(row));
}

function heading(column) {
  const sorted = columns[state.sort] === column;
  const head = html("th", { scope: "col", "aria-sort": sorted ? (state.sign > 0 ? "ascending" : "descending") : "none" });
  const button = html("button", { type: "button" }, column.head);
  button.append(html("span", { "aria-hidden": "true" }, sorted ? (state.sign > 0 ? " ▲" : " ▼") : ""));
  button.addEventListener("click", () => {
    sortBy(column);
    at("heads").children[shownColumns().indexOf(column)].querySelector("button").focus();
  });
  head.append(button);
  return head;
}

function row(one) {
  const line = html("tr", { "aria-selected": String(one === state.picked) });
  shownColumns().forEach((column, i) => {
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

// --- The address: the selected unit and the filters ---------------------------------------------

const FILTERS = ["search", "network", "layer", "map", "kind"];

/** Write the selected unit and the filters into the address, so that a reload keeps them. */
function remember() {
  const said = new URLSearchParams();
  if (state.picked && state.linked) {
    said.set("unit", state.picked.network.links[state.picked.unit]);
    if (several) said.set("of", state.picked.network.name);
  }
  FILTERS.filter((id) => at(id).value !== at(id).dataset.first).forEach((id) => said.set(id, at(id).value));
  if (state.sort !== state.firstSort || state.sign > 0) said.set("sort", (state.sign > 0 ? "-" : "") + columns[state.sort].head);
  const text = said.toString();
  try {
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  } catch {
    // some browsers do not change the address of a file
  }
}

/** Read the address: filters first, then the unit, which is shown. */
function recall() {
  if (state.picked && !location.hash.includes("=")) return false; // a link to a section
  const said = new URLSearchParams(location.hash.slice(1));
  FILTERS.filter((id) => said.has(id)).forEach((id) => (at(id).value = said.get(id)));
  const sort = said.get("sort");
  const by = columns.findIndex((column) => column.head === sort?.replace(/^-/, ""));
  if (by >= 0) [state.sort, state.sign] = [by, sort.startsWith("-") ? 1 : -1];
  filter();
  const wanted = said.get("unit");
  const one = units.find(({ network, unit }) => network.links[unit] === wanted && (!said.has("of") || network.name === said.get("of")));
  if (!one) {
    if (wanted) at("count").textContent += ` The link is to “${wanted}”, but no unit on this page has this name.`;
    if (wanted) at("explorer").scrollIntoView({ block: "start" });
    return false;
  }
  state.linked = true;
  const here = state.found.indexOf(one);
  if (here >= 0) state.page = Math.floor(here / PAGE);
  state.picked = one;
  draw();
  pick(one, false);
  at("explorer").scrollIntoView({ block: "start" });
  if (!matchMedia("(min-width: 62rem)").matches) at("detail").scrollIntoView({ block: "start" });
  return true;
}

// --- The selected unit ------------------------------------------------------------------------

function pick(one, byReader) {
  state.picked = one;
  if (byReader) state.linked = true;
  const here = state.found.indexOf(one) - state.page * PAGE;
  [...at("rows").children].forEach((line, i) => line.setAttribute("aria-selected", String(i === here)));
  at("detail").replaceChildren(...describe(one));
  if (!byReader) return;
  remember();
  if (!matchMedia("(min-width: 62rem)").matches) at("detail").scrollIntoView({ block: "start" });
}

function describe(one) {
  const { network } = one;
  const map = Math.min(state.map, network.maps.length - 1);
  const about = network.about ? ` (${network.about})` : "";
  const title = html("h3", {}, `${one.name}, ${network.name}${about}`);
  const verdicts = network.maps.map((kind, i) => (network.maps.length > 1 ? `${kind}: ${reason(one, i)}` : reason(one, i)));
  if (remembers(one, map)) verdicts.push("its tuning depends on memory");
  const nearby = html("p", { class: "pager" });
  nearby.append(neighbour(one, -1, "Previous unit"), back(), neighbour(one, 1, "Next unit"));
  const maps = html("figure");
  maps.append(mapsOf(one), html("figcaption", {}, captionOf(one)));
  const tests = Object.keys(data.tests).filter((key) => key in network.p).map((key) => test(one, key, map));
  const against = html("h4", {}, network.maps.length > 1 ? `Against chance, on: ${network.maps[map]}` : "Against chance");
  return [title, html("p", { class: "note" }, `${verdicts.join("; ")}.`), maps, saving(one), against, ...tests, values(one, map), nearby];
}

/** Every measure of the unit on the map. */
function values(one, map) {
  const list = html("dl", { class: "values" });
  numeric
    .filter(({ key }) => key in one.network.values)
    .forEach(({ key, head }) => list.append(html("dt", {}, head), html("dd", {}, show(measure(one, key, map)))));
  const more = html("details");
  more.append(html("summary", {}, "All measures"), list);
  return more;
}

/** A button back to the unit in the table, or to the search if the unit is not in the table. */
function back() {
  const button = html("button", { type: "button" }, "Table");
  button.addEventListener("click", () => {
    (document.querySelector('#rows [aria-selected="true"] button') ?? at("search")).focus();
  });
  return button;
}

function captionOf(one) {
  const { network } = one;
  const counts = network.maps.map((kind, map) => {
    const n = show(measure(one, "n_fields", map));
    return network.maps.length > 1 ? `${n} (${kind})` : n;
  });
  const outlined = network.axes.length === 1 ? "shaded" : "white outlines";
  const unvisited = network.axes.length === 1 ? "" : " Hatched: not visited.";
  return `${network.rate[0].toUpperCase()}${network.rate.slice(1)} at every place. Fields (${outlined}): ${counts.join(", ")}.${unvisited}`;
}

/** A button for the unit before or after this one in the table. */
function neighbour(one, step, label) {
  const next = state.found[state.found.indexOf(one) + step];
  const button = html("button", { type: "button" }, label);
  button.disabled = !next || !state.found.includes(one);
  button.addEventListener("click", () => {
    state.page = Math.floor(state.found.indexOf(next) / PAGE);
    state.picked = next;
    state.linked = true;
    draw();
    pick(next, false);
    remember();
    const again = [...at("detail").querySelectorAll("button")].find((b) => b.textContent === label);
    (again.disabled ? at("detail") : again).focus();
  });
  return button;
}

// --- Files --------------------------------------------------------------------------------------

/** Buttons that save the picture of a unit, and copy a link to it. */
function saving(one) {
  const name = `${one.network.name}-${one.network.links[one.unit]}`;
  const line = html("p", { class: "pager" });
  const button = (text, action) => {
    const made = html("button", { type: "button" }, text);
    made.addEventListener("click", action);
    line.append(made);
    return made;
  };
  button("SVG", () => save(`${name}.svg`, new Blob([drawing(one)], { type: "image/svg+xml" })));
  button("PNG", () => png(one).then((blob) => save(`${name}.png`, blob)));
  const link = button("Copy link", () => {
    state.linked = true;
    remember();
    copy(location.href).then((done) => (link.textContent = done ? "Copied" : "Link in the address bar"));
  });
  return line;
}

/** The maps of a unit as a separate SVG file, in dark ink on white. */
function drawing(one) {
  const picture = mapsOf(one);
  const [, , width, height] = picture.getAttribute("viewBox").split(" ");
  fill(picture, { width, height, "font-family": "sans-serif", "font-size": 11 });
  const style = svg("style", {}, INK);
  picture.prepend(style, svg("rect", { width: "100%", height: "100%", fill: "#fff" }));
  return new XMLSerializer().serializeToString(picture);
}

const INK =
  "text{fill:#1c2730}.outline{fill:none;stroke:#fff;stroke-width:1.6}.outline.under{stroke:#000;stroke-width:3.6}" +
  ".frame{fill:none;stroke:#6f7d88}.unvisited{fill:#c2c9ce}.hatching{stroke:#1c2730;stroke-opacity:.7;stroke-width:1.2}" +
  ".curve{fill:none;stroke:#00609a;stroke-width:1.8}.field{fill:#cfe3f1}";

/** The same picture as a PNG of four times the size. */
function png(one) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => {
      const canvas = html("canvas");
      [canvas.width, canvas.height] = [image.width * 4, image.height * 4];
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(resolve, "image/png");
    };
    image.onerror = reject;
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(drawing(one))}`;
  });
}

function save(name, blob) {
  const link = html("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** The units found, with every column, as comma-separated values. */
function csv() {
  const heads = ["subject", "layer", "unit", "map", "type", "reason", "depends_on_memory", ...numeric.map(({ key }) => key)];
  const lines = state.found.map((one) => [
    one.network.name,
    one.layer,
    one.network.index[one.unit],
    one.network.maps[state.map],
    one.network.types[state.map][one.unit],
    reason(one, state.map),
    remembers(one, state.map),
    ...numeric.map(({ key }) => measure(one, key, state.map) ?? ""),
  ]);
  const cell = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
  return [heads, ...lines].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

/** Copy text; false if the browser does not allow it. */
function copy(text) {
  if (!navigator.clipboard) return Promise.resolve(false);
  return navigator.clipboard.writeText(text).then(
    () => true,
    () => false,
  );
}

// --- Meanings -----------------------------------------------------------------------------------

/** Open the meaning of a number below it; the browser closes it on Escape or a press elsewhere. */
function explain(button) {
  const note = at("why");
  note.textContent = button.dataset.why;
  note.showPopover();
  const place = button.getBoundingClientRect();
  const left = Math.max(8, Math.min(place.left, innerWidth - note.offsetWidth - 8));
  const below = place.bottom + 6;
  const top = below + note.offsetHeight < innerHeight ? below : place.top - note.offsetHeight - 6;
  note.style.left = `${left}px`;
  note.style.top = `${Math.max(8, top)}px`;
}

function listenForMeanings() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".why");
    if (button) explain(button);
  });
  at("copy").hidden = false;
  at("copy").addEventListener("click", () => {
    copy(at("citation").textContent).then((done) => {
      getSelection().selectAllChildren(at("citation"));
      at("copied").textContent = done ? "Copied." : "Selected: press Ctrl+C.";
    });
  });
}

// --- Start ------------------------------------------------------------------------------------

function option(select, value, text) {
  at(select).append(html("option", { value }, text));
}

function start() {
  data.networks.forEach((network) => option("network", network.name, `${network.name} (${network.about})`));
  new Set(units.map((one) => one.layer)).forEach((layer) => option("layer", layer, layer));
  const most = Math.max(...data.networks.map((network) => network.maps.length));
  for (let map = 0; map < most; map++) {
    option("map", map, [...new Set(data.networks.map((network) => network.maps[map]).filter(Boolean))].join(" / "));
  }
  at("network").closest("label").hidden = !several;
  at("layer").closest("label").hidden = at("layer").options.length < 3;
  at("map").closest("label").hidden = most < 2;
  if (!withMemory) at("kind").querySelector('[value="memory"]').remove();
  state.firstSort = state.sort;
  FILTERS.forEach((id) => (at(id).dataset.first = at(id).value));
  at("tools").addEventListener("submit", (event) => event.preventDefault());
  ["network", "layer", "map", "kind", "wide"].forEach((id) => at(id).addEventListener("change", filter));
  at("map").addEventListener("change", () => state.picked && pick(state.picked, false));
  at("search").addEventListener("input", filter);
  FILTERS.forEach((id) => at(id).addEventListener("change", remember));
  at("csv").addEventListener("click", () => save("units.csv", new Blob([csv()], { type: "text/csv" })));
  at("rows").addEventListener("keydown", walk);
  at("back").addEventListener("click", () => turn(-1));
  at("on").addEventListener("click", () => turn(1));
  addEventListener("hashchange", recall);
  listenForMeanings();
  at("tools").hidden = at("browser").hidden = false;
  if (!recall() && state.found.length) pick(state.found[0], false);
}

start();
