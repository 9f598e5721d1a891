// Search: the calls whose path, name, type or shapes hold every word, as a flat list in call order.
const search = document.getElementById("search");
const results = document.getElementById("results");
const count = document.getElementById("count");
const tight = (text) => text.toLowerCase().replace(/\s*([,→\[\]×])\s*/g, "$1");
let haystacks = null; // made by the first search
let query = [];

const matches = (text) => query.every((word) => text.includes(word));

function runSearch() {
  query = tight(search.value).split(/\s+/).filter(Boolean);
  const searching = query.length > 0;
  treeBox.hidden = searching;
  results.hidden = !searching;
  results.replaceChildren();
  drawModules();
  if (!searching) {
    count.textContent = "";
    if (selected >= 0) select(selected, "search");
    return;
  }
  haystacks ??= calls.map((call) => tight(`${call.path} ${call.name} ${call.type} ${call.shapes}`));
  const all = calls.filter((call) => !stands(call) && (withHidden || !call.hidden));
  const found = all.filter((call) => matches(haystacks[call.index]));
  count.textContent = `${counted(found.length)} of ${counted(all.length)} calls`;
  showResults(found);
}

function showResults(found) {
  for (const call of found.slice(0, CHUNK)) {
    const name = call.kind === "module" ? call.path || call.name : call.name;
    const at = call.kind === "module" || !call.path ? [] : [element("span", "quiet", `  in ${call.path}`)];
    const row = element("div", "row", ...cells({ ...call, depth: Math.min(call.depth, 1) }, name, at));
    row.setAttribute("role", "button");
    row.tabIndex = 0;
    row.dataset.index = call.index;
    results.append(row);
  }
  const rest = found.slice(CHUNK);
  if (!rest.length) return;
  const more = element("button", "more", `Show ${counted(Math.min(CHUNK, rest.length))} more of ${counted(rest.length)}`);
  more.type = "button";
  more.addEventListener("click", () => {
    more.remove();
    showResults(rest);
  });
  results.append(more);
}

/** Leave the search with a call selected, shown where it stands in the tree. */
function showInTree(index) {
  search.value = "";
  runSearch();
  select(index, "search");
  focusRow(rowOf.get(index));
}

let waiting = 0;
search.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(runSearch, 100);
});
search.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && search.value) {
    search.value = "";
    runSearch();
  } else if (event.key === "ArrowDown" || event.key === "Enter") {
    clearTimeout(waiting);
    runSearch();
    const rows = query.length ? results : treeBox;
    rows.querySelector(query.length ? ".row" : '.row[tabindex="0"]')?.focus();
  } else return;
  event.preventDefault();
});
results.addEventListener("dblclick", (event) => {
  const row = event.target.closest(".row");
  if (row) showInTree(Number(row.dataset.index));
});
results.addEventListener("keydown", (event) => {
  const row = event.target.closest(".row");
  if (!row) return;
  if (event.key === "Enter" || event.key === " ") showInTree(Number(row.dataset.index));
  else if (event.key === "ArrowDown") row.nextElementSibling?.focus();
  else if (event.key === "ArrowUp") (row.previousElementSibling ?? search).focus();
  else return;
  event.preventDefault();
});
