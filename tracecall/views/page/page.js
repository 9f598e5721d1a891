// What the page does as it opens, and its buttons.
const MOST = 3000; // rows that "Open all" makes

const widest = (of, most) => Math.min(most, largest((call) => of(call).length));
const wide = document.documentElement.style;
wide.setProperty("--type", `${widest((call) => (call.depth ? call.type : ""), 26)}ch`);
wide.setProperty("--shapes", `${widest((call) => call.shapes, 40)}ch`);
if (timed) wide.setProperty("--time", `${Math.max(onDevice ? 9 : 5, widest((call) => time(call.host), 12) + 1)}ch`);
wide.setProperty("--place", `${widest((call) => call.near, 24)}ch`);
wide.setProperty("--name", `${largest((call) => Math.min(48, 2.2 * Math.min(call.depth, DEEP) + call.name.length + 5))}ch`);
document.body.classList.toggle("timed", timed);
document.body.classList.toggle("on-device", onDevice);

const titles = ["", "", "shapes", ...(timed ? [`${onDevice ? "host " : ""}${data.unit.name}`] : []), ...(onDevice ? [`device ${data.unit.name}`] : [])];
document.getElementById("titles").append(...titles.map((title) => element("span", title && title !== "shapes" ? "time" : "", title)));

document.getElementById("open-all").addEventListener("click", () => {
  const unopened = calls.length > MOST;
  openUpTo(MOST);
  count.textContent = unopened ? `Opened to ${counted(MOST)} lines; the others open one by one.` : "";
});
document.getElementById("close-all").addEventListener("click", () => {
  for (const details of treeBox.querySelectorAll("details[open]")) details.open = calls[Number(details.dataset.index)].depth < 1;
  count.textContent = "";
});
const internal = document.getElementById("internal");
document.getElementById("internal-label").hidden = !calls.some((call) => call.hidden);
internal.addEventListener("change", () => {
  withHidden = internal.checked;
  buildTree();
  runSearch();
  if (selected >= 0 && (withHidden || !calls[selected].hidden)) select(selected, "page");
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target === search || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  search.focus();
});
// paper cannot be opened: what a person would read through is printed whole
window.addEventListener("beforeprint", () => openUpTo(500));

makeTitles();
drawModules();
buildTree();
drawChart();
const failing = calls.findIndex((call) => call.mark === "failed");
if (failing >= 0) select(failing, "chart");
