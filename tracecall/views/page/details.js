// The one selected call, which the tree, the chart and the list of results all mark.
let selected = -1;
const detailsBox = document.getElementById("details");

function select(index, from) {
  if (index < 0 || calls[index].kind === "part") return;
  if (index !== selected) {
    selected = index;
    showDetails(calls[index]);
  }
  for (const old of document.querySelectorAll('#tree [aria-current], #results [aria-current]')) old.removeAttribute("aria-current");
  const row = from === "results" ? null : from === "tree" ? rowOf.get(index) : reveal(index);
  if (row) row.setAttribute("aria-current", "true");
  if (row && from !== "tree") {
    for (const old of treeBox.querySelectorAll('.row[tabindex="0"]')) old.tabIndex = -1;
    row.tabIndex = 0;
    if (treeBox.offsetParent !== null && from !== "chart") row.scrollIntoView({ block: "nearest" });
  }
  for (const result of document.querySelectorAll(`#results [data-index="${index}"]`)) result.setAttribute("aria-current", "true");
  markInChart(index);
}

/** Mark a call that is pointed at, in the tree and in the chart. */
function hover(index) {
  for (const old of document.querySelectorAll(".hovered")) old.classList.remove("hovered");
  if (index < 0) return;
  const row = rowOf.get(index);
  if (row) row.classList.add("hovered");
  hoverInChart(index);
}

function showDetails(call) {
  const list = element("dl");
  const add = (name, ...content) => list.append(element("dt", "", name), element("dd", "", ...content));
  const code = (text, name = "") => element("code", name, text);
  const [inputs, output, facts] = call.more.map(words);
  if (call.path) add("path", code(call.path));
  if (call.type) add("type", code(call.type));
  if (call.place) add("line", code(call.place));
  if (call.text) add("expression", code(call.text, "text"));
  inputs.forEach(([where, what, source], i) =>
    add(i ? "" : "inputs", code(where ? `${where}  ` : ""), code(what), source ? element("span", "quiet", `  ← ${source}`) : ""));
  output.forEach(([where, what], i) => add(i ? "" : "output", code(where ? `${where}  ` : ""), code(what)));
  if (call.host !== null) add("host time", `${withUnit(call.host)}, ${percent(call.host)} of the run`);
  if (call.own !== null && call.own !== call.host) add("of it self", withUnit(call.own));
  if (call.device !== null) add("device time", withUnit(call.device));
  if (call.deviceOwn !== null && call.deviceOwn !== call.device) add("of it self", withUnit(call.deviceOwn));
  facts.forEach(([name, value]) => add(name, value));
  detailsBox.replaceChildren(element("p", "title", element("span", `call ${call.kind}`, call.name)), list);
}

for (const box of [treeBox, document.getElementById("results")]) {
  const from = box.id;
  const index = (event) => Number(event.target.closest?.("[data-index]")?.dataset.index ?? -1);
  box.addEventListener("focusin", (event) => event.target.closest(".row") && select(index(event), from));
  box.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (!row) return;
    if (from === "tree") focusRow(row);
    select(index(event), from);
  });
  box.addEventListener("mouseover", (event) => event.target.closest(".row") && hover(index(event)));
  box.addEventListener("mouseleave", () => hover(-1));
}
