// Puts the page together.

const data = JSON.parse(document.getElementById("data").textContent);

const SECTIONS = [
  ["ablation", "Ablation", ablationSection], ["growth", "Growth", growthSection], ["flow", "Flow", flowSection],
  ["quality", "Precision, recall", qualitySection], ["models", "Models", modelsSection],
  ["tags", "Tags", tagsSection], ["examples", "Pictures", examplesSection], ["cleaning", "Cleaning", cleaningSection],
  ["stages", "Stages", stagesSection], ["rejected", "Rejected", rejectedSection], ["screened", "Screened", screenedSection],
  ["candidates", "Candidates", candidatesSection], ["lineage", "Lineage", lineageSection],
];

function modeButton() {
  const dark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const button = element("button", { type: "button", onclick: () => { document.documentElement.dataset.theme = dark() ? "light" : "dark"; name(); } });
  const name = () => { button.textContent = dark() ? "Light" : "Dark"; };
  name();
  return button;
}

const made = SECTIONS.map(([id, title, build]) => [id, title, build(data)]).filter(([, , node]) => node);
document.title = `Report: ${data.header.dataset}`;
document.getElementById("page").append(
  header(data),
  element("nav", { "aria-label": "Sections" }, element("div", {}, made.map(([id, title]) => element("a", { href: "#" + id }, title))), modeButton()),
  ...made.map(([, , node]) => node),
  element("footer", {}, "This file holds everything that it shows and loads nothing from outside."),
);
