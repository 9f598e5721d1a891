// The tree: <details> whose inside is made when it is first opened.
const DEEP = 16; // levels that are indented; the depth of what lies deeper is said in a number
const CHUNK = 300; // rows made at once: more wait for a button
const treeBox = document.getElementById("tree");
const FLAT = 60; // browsers draw no thousand nested elements: from this depth on, calls stand after one another
const rowOf = new Map(); // index → its row, where that has been made
const moreOf = new Map(); // index of the call around → the button that shows more of what is in it
const madeInside = new WeakSet();

/** What goes in and what comes out: where both have no room beside each other, the second stands on a line of its own. */
const sides = (shapes) => shapes.split(/(?<= → )/).map((side) => element("span", "side", side.trimEnd()))
  .flatMap((side, i) => (i ? [" ", side] : [side]));

function cells(call, name, parts = []) {
  const mark = call.mark ? [element("span", call.mark === "caught" ? "caught" : "bad", "✗ ")] : [];
  if (call.mark) {
    mark[0].setAttribute("role", "img");
    mark[0].setAttribute("aria-label", { caught: "raised, caught", failed: "failed here", raised: "failed inside" }[call.mark]);
  }
  const deep = call.depth > DEEP ? [element("span", "quiet", `${call.depth - 1} `)] : [];
  if (deep.length) deep[0].title = `depth ${call.depth - 1}`;
  const label = element("span", "name", ...deep, ...mark, element("span", `call ${call.kind}`, name));
  if (call.mark === "caught") label.append(element("span", "quiet", "  caught"));
  label.append(...parts);
  const type = call.kind !== "module" || call.depth ? call.type : "";
  const row = [label, element("span", "type", type), element("span", "shapes", ...sides(call.shapes))];
  if (timed) {
    row.push(element("span", "time", (call.unsteady ? "~" : "") + time(call.host)));
    if (onDevice) row.push(element("span", "time", time(call.device)));
    const share = element("span", "share");
    share.setAttribute("aria-hidden", "true");
    if (call.host !== null && call.depth) {
      const bar = share.appendChild(element("i"));
      bar.style.width = `${Math.min(100, (100 * call.host) / total)}%`;
    }
    row.push(share);
  }
  row.push(element("span", "place", call.near));
  if (call.shapes.length > 30) row[2].title = call.shapes;
  row[row.length - 1].title = call.place;
  return row;
}

function makeRow(index) {
  const call = calls[index];
  const within = inside(index).length > 0;
  const row = element(within ? "summary" : "div", "row", ...cells(call, call.name));
  row.dataset.index = index;
  row.tabIndex = -1;
  if (!within && call.kind !== "part") row.setAttribute("role", "button");
  row.style.setProperty("--depth", Math.min(call.depth, DEEP));
  rowOf.set(index, row);
  if (!within) return row;
  const details = element("details", "", row);
  details.dataset.index = index;
  return details;
}

/** Rows of some lines inside one, the first of them at once, the others when a button asks for them. */
function makeRows(parent, indices, upTo = CHUNK) {
  const made = indices.slice(0, upTo).map(makeRow);
  const rest = indices.slice(upTo);
  moreOf.delete(parent);
  if (!rest.length) return made;
  const more = element("button", "more", `Show ${counted(Math.min(CHUNK, rest.length))} more of ${counted(rest.length)}`);
  more.type = "button";
  more.rest = rest;
  more.dataset.parent = parent;
  more.addEventListener("click", () => {
    more.replaceWith(...makeRows(parent, rest));
    focusRow(rowOf.get(rest[0]));
  });
  moreOf.set(parent, more);
  return [...made, more];
}

const callOf = (details) => calls[Number(details.dataset.index)];
const isFlat = (details) => callOf(details).depth >= FLAT;

/** What is inside an open call; made at most once. */
function makeInside(details) {
  if (madeInside.has(details)) return;
  madeInside.add(details);
  const { index } = callOf(details);
  const rows = makeRows(index, inside(index));
  if (isFlat(details)) details.after(...rows);
  else details.append(element("div", "inside", ...rows));
}

/** Take away what stands after a closed call instead of in it. */
function dropInside(details) {
  if (!isFlat(details) || !madeInside.delete(details)) return;
  const { end } = callOf(details);
  for (let next = details.nextElementSibling; next; next = details.nextElementSibling) {
    const row = next.dataset.parent === undefined ? Number(next.dataset.index) : -1;
    if (row < 0 ? Number(next.dataset.parent) < callOf(details).index : row >= end) return;
    if (row < 0) moreOf.delete(Number(next.dataset.parent));
    else rowOf.delete(row);
    next.remove();
  }
}

function openDetails(details) {
  makeInside(details);
  details.open = true;
}

/** The row of a call, with everything around it opened. */
function reveal(index) {
  for (const one of [...ancestors(index), index]) {
    const more = rowOf.has(one) ? null : moreOf.get(calls[one].parent);
    if (more) more.replaceWith(...makeRows(calls[one].parent, more.rest, more.rest.indexOf(one) + CHUNK));
    if (one !== index) openDetails(rowOf.get(one).parentElement);
  }
  return rowOf.get(index);
}

/** Open level by level while that many rows can be seen; what repeats only if it is asked for. */
function openUpTo(limit, repeats = true) {
  let seen = treeBox.querySelectorAll(".row").length;
  let level = [...treeBox.querySelectorAll(":scope > details")];
  while (level.length) {
    const next = [];
    for (const details of level) {
      if (!repeats && callOf(details).kind === "repeats") continue;
      const within = inside(callOf(details).index).slice(0, CHUNK);
      if (seen + within.length > limit && callOf(details).depth > 1) continue;
      if (!madeInside.has(details)) seen += within.length;
      openDetails(details);
      next.push(...within.map((i) => rowOf.get(i)).filter((row) => row.tagName === "SUMMARY").map((row) => row.parentElement));
    }
    level = next;
  }
}

function buildTree() {
  rowOf.clear();
  moreOf.clear();
  treeBox.replaceChildren(...makeRows(-1, inside(-1)));
  openUpTo(40, false);
  const first = treeBox.querySelector(".row");
  if (first) first.tabIndex = 0;
}

/** Whether nothing around a row is closed. */
function seen(row) {
  for (let box = row.closest("details"); box; box = box.parentElement.closest("details")) {
    if (!box.open && box.firstElementChild !== row) return false;
  }
  return true;
}

/** Only one row can be reached with Tab; the arrow keys lead to the others. */
function focusRow(row) {
  if (!row) return;
  for (const old of treeBox.querySelectorAll('.row[tabindex="0"]')) old.tabIndex = -1;
  row.tabIndex = 0;
  row.focus();
}

function nextRow(row, by) {
  const rows = [...treeBox.querySelectorAll(".row")].filter(seen);
  return rows[rows.indexOf(row) + by];
}

treeBox.addEventListener("toggle", ({ target }) => (target.open ? makeInside(target) : dropInside(target)), true);
treeBox.addEventListener("keydown", (event) => {
  const row = event.target.closest(".row");
  if (!row || event.ctrlKey || event.altKey || event.metaKey) return;
  const details = row.tagName === "SUMMARY" ? row.parentElement : null;
  const parent = calls[Number(row.dataset.index)].parent;
  if (event.key === "ArrowDown") focusRow(nextRow(row, 1));
  else if (event.key === "ArrowUp") focusRow(nextRow(row, -1));
  else if (event.key === "ArrowRight" && details && !details.open) openDetails(details);
  else if (event.key === "ArrowRight" && details) focusRow(nextRow(row, 1));
  else if (event.key === "ArrowLeft" && details && details.open) details.open = false;
  else if (event.key === "ArrowLeft" && parent >= 0) focusRow(rowOf.get(parent));
  else if (event.key === "Home") focusRow(treeBox.querySelector(".row"));
  else if ((event.key === "Enter" || event.key === " ") && !details) select(Number(row.dataset.index), "tree");
  else return;
  event.preventDefault();
});
