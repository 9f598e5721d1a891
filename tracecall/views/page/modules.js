// The modules as a table that each title sorts.
const table = document.getElementById("modules");
const moreModules = document.getElementById("more-modules");
const COLUMNS = [
  ["module", 0, String], ["type", 1, String], ["state", 2, String], ["calls", 3, counted],
  [`host ${data.unit.name}`, 4, time], [`self ${data.unit.name}`, 5, time], [`device ${data.unit.name}`, 6, time],
  ["FLOPs", 7, short], ["output", 8, (number) => short(number, "B")], ["parameters", 9, counted],
].filter(([, at]) =>
  at === 2 ? data.modules.some((row) => row[2] !== "called")
  : at < 4 || data.modules.some((row) => row[at]));
let sorted = { at: onDevice ? 6 : timed ? 4 : -1, down: true };
let shownModules = 20;

function makeTitles() {
  const line = element("tr");
  for (const [name, at] of COLUMNS) {
    const button = element("button", "", name, element("span", "arrow"));
    button.type = "button";
    button.addEventListener("click", () => {
      sorted = { at, down: sorted.at === at ? !sorted.down : at > 2 };
      drawModules();
    });
    const title = element("th", at > 2 ? "number" : "", button);
    title.scope = "col";
    title.dataset.at = at;
    line.append(title);
  }
  table.append(element("thead", "", line), element("tbody"));
}

function order(left, right) {
  const [a, b] = [left[sorted.at], right[sorted.at]];
  if (a === null || b === null) return (a === null) - (b === null); // what was not measured stands last
  const less = typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
  return sorted.down ? -less : less;
}

function drawModules() {
  const rows = data.modules.filter((row) => matches(tight(`${row[0]} ${row[1]} ${row[2]}`)) || matchedShape(row[10]));
  if (sorted.at >= 0) rows.sort(order);
  for (const title of table.tHead.querySelectorAll("th")) {
    const now = Number(title.dataset.at) === sorted.at;
    if (now) title.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
    else title.removeAttribute("aria-sort");
    title.querySelector(".arrow").textContent = now ? (sorted.down ? " ▾" : " ▴") : "";
  }
  table.tBodies[0].replaceChildren(...rows.slice(0, shownModules).map(moduleLine));
  moreModules.hidden = rows.length <= shownModules;
  moreModules.textContent = `Show all ${counted(rows.length)}`;
}

let shapesOf = null; // path → the shapes of its calls, made by the first search
function matchedShape(path) {
  if (!query.length) return true;
  if (!shapesOf) {
    shapesOf = new Map();
    for (const call of calls) if (call.kind === "module") shapesOf.set(call.path, `${shapesOf.get(call.path) ?? call.type} ${call.shapes}`);
  }
  return matches(tight(`${path} ${shapesOf.get(path) ?? ""}`));
}

function moduleLine(row) {
  const line = element("tr");
  for (const [, at, written] of COLUMNS) {
    const value = row[at];
    let content = value === null || (value === 0 && at > 3) ? "" : written(value);
    if (at === 2 && value === "called") content = "";
    const cell = element(at ? "td" : "th", at > 2 ? "number" : at === 1 ? "quiet" : "");
    if (!at) cell.scope = "row";
    if (!at && row[3]) {
      const go = element("button", "", content);
      go.type = "button";
      go.addEventListener("click", () => showInTree(calls.findIndex((call) => call.kind === "module" && call.path === row[10])));
      content = go;
    }
    cell.append(content);
    line.append(cell);
  }
  return line;
}

moreModules.addEventListener("click", () => {
  shownModules = Infinity;
  drawModules();
});
