"use strict";
// Makes elements. Texts only ever become text nodes: nothing in the data can become markup.

function element(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function shape(name, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (known(child) && child !== false) node.append(child);
  }
  return node;
}

const known = (value) => value !== null && value !== undefined;
const count = (value) => (known(value) ? Math.round(value).toLocaleString("en") : "–");
const percent = (value, digits = 0) => (known(value) ? (100 * value).toFixed(digits) + "%" : "–");
const decimal = (value, digits = 3) => (known(value) ? value.toFixed(digits) : "–");
const words = (code) => String(code).replaceAll("_", " ");

function seconds(value) {
  if (!known(value)) return "–";
  if (value < 100) return value.toFixed(1) + " s";
  const whole = Math.round(value);
  return Math.floor(whole / 60) + " min " + (whole % 60) + " s";
}

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  for (; value >= 1000 && at < units.length - 1; at++) value /= 1000;
  return (at ? value.toFixed(1) : value) + " " + units[at];
}

// columns: [title, is it a number]; rows: lists of cells, each a text or a node, or {cells, class}
function table(columns, rows) {
  const kind = (at) => (columns[at][1] ? "number" : null);
  const line = (row) => {
    const cells = Array.isArray(row) ? row : row.cells;
    return element("tr", { class: row.class }, cells.map((cell, at) => element("td", { class: kind(at) }, cell)));
  };
  return element("div", { class: "scroll" }, element("table", {},
    element("thead", {}, element("tr", {}, columns.map(([title], at) => element("th", { class: kind(at), scope: "col" }, title)))),
    element("tbody", {}, rows.map(line))));
}

function legend(entries) {
  return element("div", { class: "legend" }, entries.map(([color, text]) =>
    element("span", {}, element("i", { style: `background:var(--${color})` }), text)));
}

// Buttons of which one is chosen.
function choices(names, choose) {
  const buttons = names.map((name, at) => element("button", { type: "button", onclick: () => press(at) }, name));
  function press(at) {
    buttons.forEach((button, other) => button.setAttribute("aria-pressed", String(other === at)));
    choose(at);
  }
  return { node: element("div", { class: "choices" }, buttons), press };
}

// A place whose drawing follows its width.
function drawn(draw) {
  const place = element("div", {});
  let last = 0;
  new ResizeObserver(() => {
    const width = Math.floor(place.clientWidth);
    if (width && width !== last) place.replaceChildren(draw((last = width)));
  }).observe(place);
  return place;
}
