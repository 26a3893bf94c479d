// The charts, as SVG of the width that there is. Colours come from the page's style, so that they follow its mode.

const color = (name) => `var(--${name})`;

function svg(width, height, title, ...children) {
  return shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title }, children);
}

function text(x, y, content, attributes) {
  return shape("text", { x, y, ...attributes }, content);
}

// Where tags come from (left) and what becomes of them (right); links: {from, to, count, color, title}.
function flowChart(width, sources, outcomes, links) {
  const top = 8, gap = 16, least = 36, bar = 12;
  const total = links.reduce((sum, link) => sum + link.count, 0) || 1;
  const scale = 250 / total;
  const place = (nodes) => {
    let y = top;
    for (const node of nodes) {
      node.height = Math.max(2, node.count * scale);
      node.slot = Math.max(node.height, least);
      node.y = node.used = y + (node.slot - node.height) / 2;
      y += node.slot + gap;
    }
    return y - gap;
  };
  const height = Math.max(place(sources), place(outcomes)) + 8;
  const find = (nodes, id) => nodes.find((node) => node.id === id);
  const ribbons = links.map((link) => {
    const from = find(sources, link.from), to = find(outcomes, link.to), thick = link.count * scale;
    const [a, b, middle] = [from.used, to.used, width / 2];
    from.used += thick;
    to.used += thick;
    const path = `M${bar},${a} C${middle},${a} ${middle},${b} ${width - bar},${b} v${thick} C${middle},${b + thick} ${middle},${a + thick} ${bar},${a + thick} Z`;
    return shape("path", { d: path, fill: color(link.color), "fill-opacity": 0.3 }, shape("title", {}, link.title));
  });
  const label = (node, x, anchor) => {
    const y = node.y + node.height / 2;
    return [
      text(x, y - 3, width < 560 ? node.short : node.name, { class: "halo strong", "text-anchor": anchor }),
      text(x, y + 13, node.detail, { class: "halo quiet", "text-anchor": anchor }),
    ];
  };
  const block = (node, x) => shape("rect", { x, y: node.y, width: bar, height: node.height, rx: 2, fill: color(node.color) });
  return svg(width, height, "Flow of tags from their sources to what became of them", ribbons,
    sources.map((node) => [block(node, 0), label(node, bar + 8, "start")]),
    outcomes.map((node) => [block(node, width - bar), label(node, width - bar - 8, "end")]));
}

// Groups of horizontal bars from 0 to 1; rows: {name, values}, series: [colour, name].
function barChart(width, rows, series) {
  const thick = 15, gap = 16, top = 4;
  const beside = width > 520;
  const left = beside ? 178 : 0, right = 46, room = width - left - right;
  const most = Math.max(0.1, ...rows.flatMap((row) => row.values.filter(known)));
  const each = (beside ? 0 : 18) + series.length * (thick + 2) + gap;
  const marks = rows.map((row, at) => {
    const y = top + at * each, first = y + (beside ? 0 : 18);
    const name = beside
      ? text(left - 12, y + (series.length * (thick + 2)) / 2 + 4, row.name, { "text-anchor": "end" })
      : text(0, y + 11, row.name, {});
    const bars = row.values.map((value, one) => known(value) && [
      shape("rect", { x: left, y: first + one * (thick + 2), width: Math.max(1, (value / most) * room), height: thick, rx: 3, fill: color(series[one][0]) },
        shape("title", {}, `${row.name}: ${series[one][1]} ${decimal(value)}`)),
      text(left + (value / most) * room + 6, first + one * (thick + 2) + 12, decimal(value), { class: "quiet" }),
    ]);
    return [name, bars];
  });
  return svg(width, top + rows.length * each - gap + 6, series.map(([, name]) => name).join(" and ") + " of each model",
    shape("line", { x1: left, x2: left, y1: 0, y2: top + rows.length * each - gap + 4, class: "axis" }), marks);
}

// A plane of recall (across) and precision (up); lines: {color, points: [recall, precision, label], dashed}.
function precisionRecallChart(width, lines, height = 290) {
  const left = 44, bottom = 40, right = 14, top = 26;
  const points = lines.flatMap((line) => line.points);
  const low = (values) => Math.max(0, Math.floor((Math.min(...values) - 0.05) * 10) / 10);
  const high = (values) => Math.min(1, Math.ceil((Math.max(...values) + 0.05) * 10) / 10);
  const span = (at) => [low(points.map((point) => point[at])), high(points.map((point) => point[at]))];
  const [x0, x1] = span(0), [y0, y1] = span(1);
  const x = (value) => left + ((value - x0) / (x1 - x0)) * (width - left - right);
  const y = (value) => top + ((y1 - value) / (y1 - y0)) * (height - top - bottom);
  const ticks = (from, to) => Array.from({ length: Math.round((to - from) * 10) + 1 }, (_, at) => from + at / 10);
  const every = Math.ceil((40 * (ticks(x0, x1).length - 1)) / (width - left - right));
  const grid = [
    ticks(x0, x1).map((value, at) => [
      shape("line", { x1: x(value), x2: x(value), y1: top, y2: height - bottom, class: "grid" }),
      at % every === 0 && text(x(value), height - bottom + 17, percent(value), { class: "quiet", "text-anchor": "middle" }),
    ]),
    ticks(y0, y1).map((value) => [
      shape("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "grid" }),
      text(left - 7, y(value) + 4, percent(value), { class: "quiet", "text-anchor": "end" }),
    ]),
    text(width - right, height - 4, "recall", { class: "quiet", "text-anchor": "end" }),
    text(0, 11, "precision", { class: "quiet" }),
  ];
  const place = labelPlaces(width, points.filter((point) => point[2]).map((point) => [x(point[0]), y(point[1])]));
  const marks = lines.map((line) => [
    shape("path", {
      d: line.points.map((point, at) => `${at ? "L" : "M"}${x(point[0])},${y(point[1])}`).join(""),
      fill: "none", stroke: color(line.color), "stroke-width": 2, "stroke-dasharray": line.dashed ? "4 4" : null,
    }),
    line.points.map(([recall, precision, label]) => label && [
      shape("circle", { cx: x(recall), cy: y(precision), r: 5, fill: color(line.color), stroke: color("surface"), "stroke-width": 2 },
        shape("title", {}, `${label}: precision ${percent(precision, 1)}, recall ${percent(recall, 1)}`)),
      place(x(recall), y(precision), label),
    ]),
  ]);
  return svg(width, height, "Precision and recall", grid, marks);
}

// Puts a label beside its point, where it covers no other label and no point.
function labelPlaces(width, points) {
  const taken = points.map(([x, y]) => [x - 6, y - 6, x + 6, y + 6]);
  return (x, y, label) => {
    const long = label.length * 6.3;
    const boxes = [-9, 19, -25, 35].flatMap((down) => [[x + 8, y + down - 11, x + 8 + long, y + down + 3], [x - 8 - long, y + down - 11, x - 8, y + down + 3]]);
    const free = (box) => box[0] > 44 && box[2] < width && taken.every((other) => box[2] < other[0] || box[0] > other[2] || box[3] < other[1] || box[1] > other[3]);
    const box = boxes.find(free) || [Math.max(44, Math.min(boxes[0][0], width - long)), ...boxes[0].slice(1)];
    taken.push(box);
    return text(box[0], box[1] + 11, label, { class: "halo" });
  };
}

// How often each tag stands, by rank, on a logarithmic scale; rows as in the data, `found` marks some of them.
function frequencyChart(width, rows, after, found) {
  const height = 270, left = 50, bottom = 48, right = 10, top = 10;
  const most = Math.max(10, ...rows.map((row) => Math.max(row[2], row[4])));
  const decades = Math.ceil(Math.log10(most));
  const x = (at) => left + ((at + 0.5) / rows.length) * (width - left - right);
  const y = (value) => (value < 1 ? height - bottom + 14 : top + (1 - Math.log10(value) / decades) * (height - top - bottom));
  const title = (row) => shape("title", {}, `${row[0]} (${row[1]}): ${count(row[2])} from captions` + (after ? `, ${count(row[4])} now` : ""));
  const grid = Array.from({ length: decades + 1 }, (_, at) => [
    shape("line", { x1: left, x2: width - right, y1: y(10 ** at), y2: y(10 ** at), class: "grid" }),
    text(left - 7, y(10 ** at) + 4, count(10 ** at), { class: "quiet", "text-anchor": "end" }),
  ]);
  const none = text(left - 7, y(0) + 5, "0", { class: "quiet", "text-anchor": "end" });
  const radius = rows.length > 400 ? 1.6 : 3;
  const dots = (column, name) => rows.map((row, at) => shape("circle", {
    cx: x(at), cy: y(row[column]), r: found && found.has(row) ? radius + 2 : radius,
    fill: color(name), "fill-opacity": found && !found.has(row) ? 0.12 : 0.85,
  }, title(row)));
  return svg(width, height, "Frequency of each tag before and after, on a logarithmic scale", grid, none,
    text(left, height - 6, `${count(rows.length)} tags, the most frequent in captions first`, { class: "quiet" }),
    after && dots(4, "predicted"), dots(2, "parsed"));
}
