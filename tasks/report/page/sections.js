// One function for each section of the page: from the report's data to nodes, or null where there is nothing yet.

const ORIGINS = {
  parsed: "named in captions",
  generated: "added by generated captions",
  predicted: "added by prediction",
  by_hand: "added by hand",
};
const SHORT = { parsed: "captions", generated: "generated captions", predicted: "prediction", by_hand: "by hand" };
const REASONS = {
  no_box: "no region was found",
  cluster_outlier: "its region looks unlike the tag's other regions",
  region_not_predicted: "the annotator does not see it in its region",
  caption_disagrees: "its caption does not fit the picture",
  kept_by_hand: "a person kept it",
  removed_by_hand: "a person removed it",
};
const reason = (code) => REASONS[code] || words(code);

function section(id, title, lead, ...content) {
  return element("section", { id }, element("h2", {}, title), lead && element("p", { class: "lead" }, lead), content);
}

function header(data) {
  const wanted = data.stages.filter((stage) => !stage.left_out);
  const done = wanted.filter((stage) => stage.figures).length;
  const next = wanted.find((stage) => !stage.figures);
  const state = next ? `${done} of ${wanted.length} stages done; next: ${next.name}` : "all stages done";
  const splits = data.splits.map((row) => `${count(row.images)} ${words(row.split)}`).join(", ");
  return element("header", {},
    element("h1", {}, `What the data engine made of ${data.header.dataset}`),
    verdictBox(data),
    element("p", { class: "quiet" }, `${state} · ${data.header.time} · store `, element("code", {}, data.header.store)),
    splits && element("p", { class: "quiet" }, `Pictures: ${splits}.` + (data.bare ? ` ${count(data.bare)} of them came without captions; figures leave these out where it is not said otherwise.` : "")),
    data.findings.length > 0 && element("ul", { class: "findings" }, data.findings.map((text) => element("li", {}, text))),
    tiles(data));
}

function verdictBox(data) {
  const found = data.opening;
  if (!found) return null;
  const code = (text) => text.split("`").map((part, at) => (at % 2 ? element("code", {}, part) : part));
  const tone = { better: "better", worse: "worse" }[found.word] || "open";
  return element("div", { class: "verdict " + tone },
    element("p", { class: "word" }, found.headline), found.basis && element("p", {}, found.basis),
    [...found.more, ...found.added].map((text) => element("p", {}, text)),
    found.next.length > 0 && element("ul", {}, found.next.map((text) => element("li", {}, code(text)))));
}

function growthSection(data) {
  const found = data.growth;
  if (!found?.images) return null;
  const { tags, checks } = found;
  const lead = Object.values(checks).map((row) => row.told).filter((text) => text && !data.opening?.added.includes(text));
  const estimated = tags.some((row) => known(row.plausible));
  const range = (row) => (known(row.plausible) ? `${count(row.plausible)} (${count(row.low)} to ${count(row.high)})` : "not estimated");
  const rows = tags.map((row) => [
    [element("b", {}, row.name), element("div", { class: "quiet small" }, row.type)], count(row.named), count(row.added), range(row), decimal(row.ratio, 1) + " ×",
    element("div", { class: "strip" }, row.pictures.map((picture) => element("img", { src: picture, alt: "picture to which " + row.name + " was added" })))]);
  return section("growth", "The tags that grew most",
    tags.length
      ? `Pictures that have the tag now, over ${estimated ? "those that can show it, as estimated from how often captions name it" : "those whose captions name it"}. Beside each some pictures by chance to which it was added: look whether it is there.`
      : "Nothing was added to what the captions name.",
    lead.map((text) => element("p", {}, text)),
    tags.length > 0 && table([["Tag", false], ["kept from captions", true], ["added", true], ["plausible, pictures", true], ["grew to", true], ["added to", false]], rows));
}

function tiles(data) {
  const found = [];
  const change = (before, after, show) => (before === after || !known(after) ? show(before) : `${show(before)} → ${show(after)}`);
  if (data.tags) {
    const { mean, without, annotated, judged, rows } = data.tags;
    const later = annotated || judged;
    found.push([change(mean[0], later ? mean[1] : mean[0], (value) => decimal(value, 1)), "tags a picture"]);
    found.push([change(without[0], later ? without[1] : without[0], (value) => percent(value, 1)), "pictures without a tag"]);
    found.push([count(rows.length), "tags in the label system"]);
  }
  if (data.flows.length) {
    const steps = data.flows.at(-1).steps, first = data.flows[0].steps[0], last = steps.at(-1);
    if (known(first.precision)) found.push([change(first.precision, last.precision, percent), "of the tags are right, by the known truth"]);
    if (known(first.recall)) found.push([change(first.recall, last.recall, percent), "of the true tags are found"]);
  }
  const model = data.models.filter((row) => known(row.step)).sort((one, other) => one.step - other.step).at(-1); // the last step that was made
  if (model && model.figures.all) found.push([decimal(model.figures.all.mAP), `mAP, ${model.title.replace("+ ", "with ")}, against ${data.header.against.split(":")[0]}`]);
  return found.length > 0 && element("div", { class: "tiles" },
    found.map(([figure, text]) => element("div", { class: "tile" }, element("b", {}, figure), element("span", {}, text))));
}

function flowSection(data) {
  if (!data.flows.length) return null;
  const place = element("div", {});
  const pick = choices(data.flows.map((flow) => `Round ${flow.round}`), (at) => place.replaceChildren(flowOf(data.flows[at])));
  pick.press(data.flows.length - 1);
  return section("flow", "The flow of tags",
    `Every tag of the ${count(data.flows[0].images)} training pictures: where it comes from, and whether cleaning kept it.`,
    data.flows.length > 1 && pick.node, place, data.flows.length > 1 && rounds(data.flows));
}

function flowOf(flow) {
  const sum = (links, key) => links.reduce((total, link) => total + link[key], 0);
  const right = (links) => (known(flow.true_tags) ? ` · ${percent(sum(links, "right") / sum(links, "count"))} right` : "");
  const node = (id, name, short, links, tone) => ({ id, name, short, color: tone, count: sum(links, "count"), detail: count(sum(links, "count")) + right(links) });
  const sources = Object.entries(ORIGINS).map(([origin, name]) => [origin, name, flow.links.filter((link) => link.origin === origin)])
    .filter(([, , links]) => links.length).map(([origin, name, links]) => node(origin, name, SHORT[origin], links, origin));
  const kept = flow.links.filter((link) => link.kept);
  const removed = [...new Set(flow.links.filter((link) => !link.kept).map((link) => link.reason))];
  const outcomes = [
    ...(kept.length ? [node("kept", flow.judged ? "kept" : "not judged yet", flow.judged ? "kept" : "not judged", kept, "kept")] : []),
    ...removed.map((code) => node(code, "removed: " + words(code), words(code), flow.links.filter((link) => !link.kept && link.reason === code), "removed")),
  ];
  const links = [];
  for (const source of sources) {
    for (const outcome of outcomes) {
      const meant = flow.links.filter((link) => link.origin === source.id && (outcome.id === "kept" ? link.kept : !link.kept && link.reason === outcome.id));
      if (meant.length) {
        links.push({
          from: source.id, to: outcome.id, count: sum(meant, "count"), color: outcome.id === "kept" ? source.id : "removed",
          title: `${ORIGINS[source.id]}, ${outcome.name}: ${count(sum(meant, "count"))}${right(meant)}`,
        });
      }
    }
  }
  return drawn((width) => flowChart(width, sources, outcomes, links));
}

function rounds(flows) {
  const sum = (flow, test) => flow.links.filter(test).reduce((total, link) => total + link.count, 0);
  const truth = known(flows[0].true_tags);
  const rows = flows.map((flow) => {
    const last = flow.steps.at(-1);
    return [`Round ${flow.round}`, count(sum(flow, (link) => link.origin !== "parsed")), count(sum(flow, (link) => !link.kept)),
      count(sum(flow, (link) => link.kept)), ...(truth ? [percent(last.precision, 1), percent(last.recall, 1)] : [])];
  });
  const columns = [["", false], ["added", true], ["removed", true], ["kept", true]];
  if (truth) columns.push(["precision", true], ["recall", true]);
  return [element("h3", {}, "Rounds"), element("p", { class: "quiet small" }, "From the second round on, the model trained in the round before annotates."), table(columns, rows)];
}

function qualitySection(data) {
  const flow = data.flows[0];
  if (!flow || !known(flow.true_tags)) return null;
  const tones = ["predicted", "generated", "second", "removed", "kept"];
  const lines = data.flows.map((one, at) => ({
    color: tones[at % tones.length],
    points: one.steps.filter((step) => known(step.precision)).map((step) => [step.recall, step.precision, step.name + (data.flows.length > 1 ? ` (${one.round})` : "")]),
  }));
  const rows = data.flows.flatMap((one) => one.steps.filter((step) => one.round === 1 || step.name !== "parsed from captions").map((step) => [
    step.name + (data.flows.length > 1 && step.name !== "parsed from captions" ? `, round ${one.round}` : ""),
    count(step.tags), decimal(step.tags / Math.max(one.images, 1), 1), percent(step.precision, 1), percent(step.recall, 1)]));
  return section("quality", "How right the tags are",
    `Measured against the known truth of the same pictures: ${count(flow.true_tags)} true tags of the label system. No stage has read it.`,
    element("div", { class: "columns" },
      table([["After", false], ["tags", true], ["a picture", true], ["precision", true], ["recall", true]], rows),
      drawn((width) => precisionRecallChart(width, lines))));
}

function modelsSection(data) {
  if (!data.models.length) return null;
  const all = (row) => row.figures.all || {}, never = (row) => row.figures.never_captioned || {};
  const some = (part, metric) => data.models.some((row) => known(part(row)[metric]));
  const columns = [
    ["mAP", all, "mAP"], ["mAP, never captioned", never, "mAP"], ["CP", all, "CP"], ["CR", all, "CR"], ["CF1", all, "CF1"],
    ["OP", all, "OP"], ["OR", all, "OR"], ["OF1", all, "OF1"],
  ].filter(([, part, metric]) => some(part, metric));
  const rows = data.models.map((row) => [row.title, ...columns.map(([, part, metric]) => decimal(part(row)[metric]))]);
  const series = [["parsed", "mAP"], ...(some(never, "mAP") ? [["second", "mAP of what no caption names"]] : [])];
  const bars = data.models.map((row) => ({ name: row.title, values: [all(row).mAP, never(row).mAP].slice(0, series.length) }));
  return section("models", "What each step is worth",
    "Every row is a model on the same test pictures; a row with + adds one step to the row above it. mAP is the mean over tags of the average precision, CP to OF1 are class and overall precision, recall and F1." +
      ` All figures are measured against ${data.header.against}.`,
    legend(series), drawn((width) => barChart(width, bars, series)),
    curvesOf(data), element("h3", {}, "Figures"), table([["Model", false], ...columns.map(([title]) => [title, true])], rows), kinds(data.models));
}

function ablationSection(data) {
  if (!data.ablation) return null;
  const interval = (values, show) => (values ? `${show(values[0])} (${show(values[1])} to ${show(values[2])})` : "");
  const blocks = Object.entries(data.ablation).map(([name, one]) => {
    const rows = Object.entries(one.rows).map(([row, each]) => [words(row), decimal(each.mAP, 4), known(each.spread) ? decimal(each.spread, 4) : "",
      interval(each.more, (value) => decimal(value, 4)), interval(each.gap_closed, percent), decimal(each.operating.CF1), decimal(each.operating.OF1)]);
    const columns = [["Taught", false], ["mAP", true], ["spread", true], ["more than parsed", true], ["gap closed", true], ["CF1", true], ["OF1", true]];
    const against = one.against ? `, measured against ${one.against}` : "";
    return [element("h3", {}, `${name}: ${count(one.tags)} tags, ${count(one.images)} pictures, ${count(one.seeds)} seeds${against}`), table(columns, rows)];
  });
  return section("ablation", "What each stage's labels are worth",
    "One trainer, one budget, the same seeds; only the labels differ. Intervals (95%) are over seeds and pictures; one that holds zero shows nothing. What ablate found when it ran last.", blocks);
}

function curvesOf(data) {
  const shown = data.models.filter((row) => (data.curves[row.model] || []).length);
  const line = (row) => ({ color: row.tone, dashed: !row.step, points: data.curves[row.model] });
  return shown.length > 0 && [element("h3", {}, "Precision and recall of each model, over all thresholds"),
    legend(shown.map((row) => [row.tone, row.title])), drawn((width) => precisionRecallChart(width, shown.map(line), 340))];
}

function kinds(models) {
  const subsets = ["object", "scene", "attribute", "action", "frequent", "medium", "rare"].filter((subset) => models.some((row) => known(row.figures[subset]?.mAP)));
  return subsets.length > 0 && [element("h3", {}, "mAP by type of tag, and by how often captions name it"),
    table([["Model", false], ...subsets.map((subset) => [subset, true])], models.map((row) => [row.title, ...subsets.map((subset) => decimal(row.figures[subset]?.mAP))]))];
}

function tagsSection(data) {
  if (!data.tags) return null;
  const { rows, annotated, judged, models } = data.tags;
  const after = annotated || judged;
  const place = element("div", {}), list = element("div", {});
  let shown = 25;
  const search = element("input", { type: "search", placeholder: "Search a tag or a type", "aria-label": "Search a tag or a type", oninput: () => { shown = 25; update(); } });
  const columns = [["Tag", false], ["type", false], ["in captions", true]];
  if (annotated) columns.push(["with added", true]);
  if (judged) columns.push(["kept", true]);
  columns.push(...models.map((model) => [`AP, ${words(model)}`, true]));
  let chart = null;
  function update() {
    const wanted = search.value.trim().toLowerCase();
    const found = wanted ? rows.filter((row) => row[0].toLowerCase().includes(wanted) || row[1] === wanted) : rows;
    chart = drawn((width) => frequencyChart(width, rows, after, wanted ? new Set(found) : null));
    place.replaceChildren(chart);
    const cells = found.slice(0, shown).map((row) => [row[0], row[1], count(row[2]), ...(annotated ? [count(row[3])] : []),
      ...(judged ? [count(row[4])] : []), ...models.map((_, at) => decimal(row[5 + at]))]);
    list.replaceChildren(table(columns, cells), element("p", { class: "quiet small" },
      found.length === 0 ? "No tag matches. " : `${count(Math.min(shown, found.length))} of ${count(found.length)} tags. `,
      found.length > shown && element("button", { type: "button", onclick: () => { shown += 200; update(); } }, "Show more")));
  }
  update();
  return section("tags", "How often each tag stands",
    `Captions repeat a few words and leave out the rest; generation fills the long tail. ${data.tags.synonyms}`,
    legend([["parsed", "in captions"], ...(after ? [["predicted", judged ? "kept at the end" : "with added tags"]] : [])]),
    place, element("p", { style: "margin-top:14px" }, search), list);
}

function examplesSection(data) {
  if (!data.examples.length) return null;
  const some = (key) => data.examples.some((example) => example[key].length);
  const keys = Object.entries(ORIGINS).filter(([origin]) => data.examples.some((one) => one.tags.some((tag) => tag.origin === origin)));
  return section("examples", "Example pictures",
    some("tags") && data.flows.some((flow) => flow.judged)
      ? "Half of them lost a tag, the others are there by chance. Numbers are the annotator's probabilities; press a tag with ▢ to see its region."
      : "Pictures by chance.",
    legend([...keys, ...(data.flows.some((flow) => flow.judged) ? [["removed", "removed"]] : [])]),
    element("div", { class: "cards" }, data.examples.map(exampleCard)));
}

function exampleCard(example) {
  const over = element("div", { class: "over" }, element("img", { src: example.picture, alt: example.captions[0] || "picture" }));
  const point = (box) => {
    over.querySelector(".region")?.remove();
    if (!box) return;
    const place = { left: box[0], top: box[1], width: box[2] - box[0], height: box[3] - box[1] };
    over.append(element("div", { class: "region", style: Object.entries(place).map(([name, value]) => `${name}:${100 * value}%`).join(";") }));
  };
  const chip = (tag) => {
    const removed = !tag.kept;
    const marks = [known(tag.score) && decimal(tag.score, 2), tag.is_true === true && "✓", tag.is_true === false && "✗ not true"].filter(Boolean).join(" ");
    const content = [removed ? element("del", {}, tag.name) : tag.name, marks && element("small", {}, " " + marks)];
    const attributes = { class: "chip " + (removed ? "removed" : tag.origin), title: `${tag.type}, ${ORIGINS[tag.origin]}` };
    if (!tag.box) return element("span", attributes, content);
    return element("button", { ...attributes, type: "button", onclick: () => point(tag.box), onmouseenter: () => point(tag.box), onmouseleave: () => point(null), onblur: () => point(null) }, content);
  };
  const lines = [];
  const add = (title, content) => content.length && lines.push(element("dt", {}, title), element("dd", {}, content));
  const quotes = (captions) => captions.slice(0, 5).map((caption) => element("div", {}, "“" + caption + "”"));
  add(example.captions.length > 1 ? "Captions" : "Caption", example.bare ? "It came without one." : quotes(example.captions));
  add("Generated", quotes(example.generated));
  for (const [origin, title] of Object.entries(ORIGINS)) {
    add(title[0].toUpperCase() + title.slice(1), example.tags.filter((tag) => tag.kept && tag.origin === origin).map(chip));
  }
  add("Removed", example.tags.filter((tag) => !tag.kept).map((tag) => element("div", {}, chip(tag),
    element("span", { class: "small quiet" }, ` ${ORIGINS[tag.origin]}; ${reason(tag.reason)}`))));
  add("True, but not found", example.lacks.map((name) => element("span", { class: "chip lacks" }, name)));
  return element("article", { class: "card" }, element("div", { class: "frame" }, over), element("div", {}, element("dl", {}, lines)));
}

function stagesSection(data) {
  const most = Math.max(1, ...data.stages.map((stage) => Math.max(stage.figures?.seconds || 0, stage.figures?.planned_seconds || 0)));
  const planned = data.stages.some((stage) => known(stage.figures?.planned_seconds));
  const amounts = (list) => list.map((one) => [element("span", { class: "amount" }, one.name, known(one.rows) && element("span", { class: "quiet" }, " " + count(one.rows))), " "]);
  const bar = (value, name) => element("span", { class: "bar " + name, style: `width:${(100 * value) / most}%` });
  const columns = [["Stage", false], ["took in, rows", false], ["gave out, rows", false], ["shards", true], ["rejected", false], ["time", true]];
  if (planned) columns.push(["planned", true]);
  const rows = data.stages.map((stage) => {
    const figures = stage.figures;
    const about = element("div", {}, element("b", {}, stage.name), element("div", { class: "quiet small" }, stage.about));
    if (!figures) return { class: "waiting", cells: [about, amounts(stage.reads), stage.left_out ? "left out" : "not yet", "", "", "", ...(planned ? [""] : [])] };
    const rejected = Object.entries(stage.rejected).map(([code, number]) => element("div", {}, `${count(number)} ${words(code)}`));
    return [about, amounts(stage.reads), amounts(stage.writes),
      [element("div", {}, `${count(figures.computed)} computed`), figures.reused > 0 && element("div", { class: "quiet" }, `${count(figures.reused)} reused`)],
      rejected.length ? rejected : "",
      [seconds(figures.seconds), known(figures.seconds) && bar(figures.seconds, "")],
      ...(planned ? [[seconds(figures.planned_seconds), known(figures.planned_seconds) && bar(figures.planned_seconds, "planned")]] : [])];
  });
  const total = (key) => data.stages.reduce((sum, stage) => sum + (stage.figures?.[key] || 0), 0);
  return section("stages", "The stages",
    `${seconds(total("seconds"))} in all` + (planned ? `, planned were ${seconds(total("planned_seconds"))}` : "") + ". Each row is the run that computed what the store holds now.",
    table(columns, rows));
}

function rejectedSection(data) {
  const { counts, rows } = data.rejected;
  if (!counts.length) return null;
  const all = counts.reduce((sum, row) => sum + row.count, 0);
  return section("rejected", "What could not be used", "These rows were kept apart, and the run went on.",
    table([["Reason", false], ["from", false], ["rows", true]], counts.map((row) => [words(row.reason), row.artifact.replace("_rejected", ""), count(row.count)])),
    element("details", { open: rows.length <= 12 }, element("summary", {}, rows.length < all ? `The first ${count(rows.length)} rows` : "The rows"),
      table([["Where", false], ["reason", false], ["what is wrong", false]], rows.map((row) => [element("code", {}, row.where), words(row.reason), row.detail]))));
}

function screenedSection(data) {
  const { counts, rows } = data.screened;
  if (!counts.length) return null;
  const all = counts.reduce((sum, row) => sum + row.count, 0);
  const figure = (value, digits) => known(value) ? value.toFixed(digits) : "";
  return section("screened", "What was left out of training",
    "These images are in the store, and trainings and exports leave them out. Other thresholds (screen.*) compute nothing else anew.",
    table([["Reason", false], ["split", false], ["images", true]], counts.map((row) => [words(row.reason), words(row.split), count(row.count)])),
    element("details", { open: rows.length <= 12 }, element("summary", {}, rows.length < all ? `The first ${count(rows.length)} images` : "The images"),
      table([["Image", false], ["why", false], ["most like", false], ["cosine", true], ["bits apart", true], ["short side", true], ["best caption", true]],
        rows.map((row) => [element("code", {}, row.name), row.reasons.map(words).join(", "), element("code", {}, row.other || ""),
          figure(row.cosine, 3), figure(row.hash_bits, 0), count(row.short_side), figure(row.caption_fit, 3)]))));
}

function candidatesSection(data) {
  if (!data.candidates.length) return null;
  return section("candidates", "Frequent words that are no tag",
    "Words of the captions that the label system does not know: candidates for new tags, the most frequent first.",
    data.candidates.map((row) => element("span", { class: "chip", title: row.type }, row.lemma, element("small", { class: "quiet" }, ` ${row.type} ${count(row.count)}`))));
}

function lineageSection(data) {
  const rows = data.lineage.map((row) => [row.artifact, row.stage + " v" + row.version, element("code", {}, row.key), row.model ? "model" : count(row.rows),
    row.model ? "" : count(row.parts), row.model ? "" : bytes(row.bytes), element("div", { class: "wide" }, Object.values(row.inputs).map((input) => element("code", {}, input + " ")))]);
  const settings = data.stages.filter((stage) => stage.settings).map((stage) =>
    element("details", {}, element("summary", {}, stage.name), element("pre", {}, JSON.stringify(stage.settings, null, 1))));
  return section("lineage", "Where everything comes from", "Each artifact is named by a key of what it was made from, so that the same key is the same data.",
    element("details", {}, element("summary", {}, `${data.lineage.length} artifacts with their keys`),
      table([["Artifact", false], ["stage", false], ["snapshot", false], ["rows", true], ["parts", true], ["size", true], ["made from", false]], rows)),
    element("h3", {}, "Settings of each stage"), settings);
}
