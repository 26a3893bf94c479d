// The cleaning with other thresholds: the rule of the stage `judge`, applied here to the stored scores.

const KEPT = 1, TRUE = 2, FIXED = 4;

function decode(base64, Kind) {
  const raw = atob(base64);
  const buffer = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at++) buffer[at] = raw.charCodeAt(at);
  return new Kind(buffer.buffer);
}

function readVerdicts(stored) {
  return {
    tag: decode(stored.tag, Uint16Array), score: decode(stored.score, Float32Array), flags: decode(stored.flags, Uint8Array),
    row: decode(stored.row, Uint32Array), regionScore: decode(stored.region_score, Float32Array),
    typicality: decode(stored.typicality, Float32Array), trueTags: stored.true_tags,
  };
}

// For each tag of an image 1 if it stays under `rule`. A typicality of NaN is no outlier: comparisons with NaN are false.
function judge(verdicts, rule) {
  const { score, flags, row, regionScore, typicality } = verdicts;
  const limit = Math.fround(rule.outlier_share);
  const stays = new Uint8Array(flags.length);
  for (let at = 0; at < row.length; at++) {
    if (regionScore[at] >= rule.region_threshold && !(typicality[at] < limit)) stays[row[at]] = 1;
  }
  for (let at = 0; at < flags.length; at++) {
    if (flags[at] & FIXED) stays[at] = flags[at] & KEPT;
    else if (score[at] >= rule.doubt) stays[at] = 1;
  }
  return stays;
}

// How many tags are kept and removed, and how many of each are right.
function measure(verdicts, stays) {
  const found = { kept: 0, removed: 0, rightKept: 0, rightRemoved: 0 };
  stays.forEach((stay, at) => {
    const right = verdicts.flags[at] & TRUE ? 1 : 0;
    if (stay) { found.kept++; found.rightKept += right; }
    else { found.removed++; found.rightRemoved += right; }
  });
  found.precision = found.kept ? found.rightKept / found.kept : 0;
  found.recall = verdicts.trueTags ? found.rightKept / verdicts.trueTags : 0;
  return found;
}

function slider(name, id, most, value, show, change) {
  const output = element("output", {});
  const input = element("input", { type: "range", id, min: 0, max: most, step: 0.01, value, oninput: () => set(input.value) });
  function set(wanted) {
    input.value = wanted;
    output.textContent = show(Number(input.value));
    change();
  }
  output.textContent = show(value);
  return { node: element("label", {}, name, output, input), set, value: () => Number(input.value) };
}

function cleaningSection(data) {
  const stored = data.cleaning;
  if (!stored) return null;
  const verdicts = readVerdicts(stored), truth = known(stored.true_tags), set = stored.settings;
  const sliders = {
    outlier_share: slider("Outlier share of a tag's regions", "outlier-share", 0.5, set.outlier_share, (value) => percent(value), update),
    region_threshold: slider("Least score of a good region", "region-threshold", 1, set.region_threshold, (value) => decimal(value, 2), update),
    doubt: slider("Picture's score beyond doubt", "doubt", 1, set.doubt, (value) => decimal(value, 2), update),
  };
  const chosen = () => Object.fromEntries(Object.entries(sliders).map(([name, one]) => [name, one.value()]));
  const reset = element("button", { type: "button", onclick: () => Object.entries(sliders).forEach(([name, one]) => one.set(set[name])) }, "As it was run");
  const figures = element("div", { class: "figures", "aria-live": "polite" });
  const asRun = measure(verdicts, judge(verdicts, set));
  const rows = stored.crops.map((tag) => cropRow(tag, stored, verdicts));
  const chart = element("div", {});
  function update() {
    const rule = chosen(), stays = judge(verdicts, rule), now = measure(verdicts, stays);
    const right = now.rightKept + now.rightRemoved;
    const shown = [[count(now.kept), `tags kept (as run ${count(asRun.kept)})`, "kept"], [count(now.removed), `tags removed (as run ${count(asRun.removed)})`, "removed"]];
    if (truth) {
      shown.push([percent(now.precision, 1), `precision (as run ${percent(asRun.precision, 1)})`, "precision"],
        [percent(now.recall, 1), `recall (as run ${percent(asRun.recall, 1)})`, "recall"],
        [now.removed ? percent(1 - now.rightRemoved / now.removed) : "–", "of the removed are wrong", "wrong-removed"],
        [percent(right ? now.rightRemoved / right : 0, 1), "of the right tags lost", "lost"]);
    }
    figures.replaceChildren(...shown.map(([figure, text, name]) => element("div", { "data-figure": name }, element("b", {}, figure), element("span", {}, text))));
    rows.forEach((row) => row.update(stays));
    if (truth) chart.replaceChildren(drawn((width) => curve(width, rule, now)));
  }
  function curve(width, rule, now) {
    const points = [];
    for (let at = 0; at <= 30; at++) {  // closer together where scores are low: most are
      const found = measure(verdicts, judge(verdicts, { ...rule, region_threshold: (at / 30) ** 2 }));
      if (found.kept) points.push([found.recall, found.precision, ""]);
    }
    const same = now.kept === asRun.kept && now.rightKept === asRun.rightKept;
    return precisionRecallChart(width, [
      { color: "faint", dashed: true, points },
      { color: "second", points: [[asRun.recall, asRun.precision, "as run"]] },
      { color: "removed", points: same ? [] : [[now.recall, now.precision, "now"]] },
    ], 220);
  }
  update();
  return section("cleaning", "Cleaning, with other thresholds",
    `${count(verdicts.flags.length)} judged tags of ${count(stored.images)} pictures` + (data.flows.length > 1 ? `, round ${stored.round}` : "") +
      ". A tag falls when no region of it is good, unless the whole picture leaves no doubt. Move a slider: what is kept is worked out anew from the stored scores." +
      (truth ? " Precision and recall are against the known truth." : ""),
    element("div", { class: "live" }, element("div", { class: "sliders" }, Object.values(sliders).map((one) => one.node)), figures),
    element("p", { style: "margin-top:10px" }, reset),
    truth && element("p", { class: "quiet small" }, "Dashed: every least score of a region, at the other two values as they are chosen."), chart,
    rows.length > 0 && [
      element("h3", {}, "Regions that are kept and removed"),
      element("p", { class: "quiet small" }, "Some tags, with a few of their regions on either side." + (truth ? " ✓ right, ✗ wrong by the known truth." : "") + " A coloured ring: not as it was run."),
      element("div", { class: "tag-crops head" }, element("span", {}, "Tag"), element("span", {}, "kept"), element("span", {}, "removed")),
      rows.map((row) => row.node)]);
}

function cropRow(tag, stored, verdicts) {
  const kept = element("div", { class: "crops" }), removed = element("div", { class: "crops removed" });
  const counts = element("div", { class: "quiet small" });
  const name = stored.names[tag.tag];
  const mine = [];
  verdicts.tag.forEach((one, row) => { if (one === tag.tag) mine.push(row); });
  const figures = tag.items.map((item) => {
    const mark = known(stored.true_tags) && element("figcaption", {}, verdicts.flags[item.row] & TRUE ? "✓" : "✗");
    return { row: item.row, node: element("figure", {}, element("img", { src: item.picture, alt: name }), mark) };
  });
  function update(stays) {
    for (const { row, node } of figures) {
      node.classList.toggle("moved", Boolean(stays[row]) !== Boolean(verdicts.flags[row] & KEPT));
      (stays[row] ? kept : removed).append(node);
    }
    const staying = mine.filter((row) => stays[row]).length;
    counts.textContent = `${count(staying)} kept, ${count(mine.length - staying)} removed`;
  }
  return { node: element("div", { class: "tag-crops" }, element("div", {}, element("b", {}, name), counts), kept, removed), update };
}
