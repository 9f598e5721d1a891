// The icicle: a bar for each call, as wide as its time, the calls inside it below. What is too narrow is left out.
const chart = document.getElementById("chart");
const readout = document.getElementById("readout");
const NARROWEST = 0.0015; // of the chart's width
const HEIGHT = 22; // px, as in page.css
const LETTER = 7.3; // px
const barOf = new Map();
let clock = "host";
let top = -1; // the call that fills the chart's width; -1 for the whole run

function bars() {
  const found = [];
  const roots = top >= 0 ? [top] : inside(-1).filter((i) => calls[i][clock] !== null);
  const whole = roots.reduce((sum, i) => sum + calls[i][clock], 0);
  if (!whole) return found;
  let at = 0;
  const waiting = roots.map((i) => {
    const bar = { index: i, level: 0, left: at, width: calls[i][clock] / whole };
    at += bar.width;
    return bar;
  }).reverse();
  while (waiting.length) {
    const bar = waiting.pop();
    found.push(bar);
    const within = measuredInside(bar.index);
    const sum = within.reduce((all, i) => all + calls[i][clock], 0);
    // medians of the calls inside may add up to more than that of the call itself
    const { repeats } = calls[bar.index];
    const scale = (repeats * bar.width) / Math.max(calls[bar.index][clock], repeats * sum);
    let left = bar.left;
    const next = [];
    for (const i of within) {
      const width = calls[i][clock] * scale;
      if (width >= NARROWEST) next.push({ index: i, level: bar.level + 1, left, width });
      left += width;
    }
    waiting.push(...next.reverse());
  }
  return found;
}

/** The measured calls right inside one; a line that is no call is looked through. */
function measuredInside(index) {
  const end = calls[index].end;
  const found = [];
  for (let i = index + 1; i < end; ) {
    if (stands(calls[i])) { i += 1; continue; }
    if (calls[i][clock] !== null) found.push(i);
    i = calls[i].end;
  }
  return found;
}

/** As much of a name as can be read in a bar of that many pixels: "layers.7", "7", or nothing. */
function written(name, width) {
  const fits = (text) => text.length * LETTER + 12 <= width;
  const last = name.slice(name.lastIndexOf(".") + 1);
  if (fits(name)) return name;
  if (fits(last)) return last;
  return width > 6 * LETTER + 12 ? name : "";
}

function drawChart() {
  if (!chart) return;
  barOf.clear();
  const made = bars();
  const across = chart.clientWidth;
  const box = element("div", "bars");
  box.style.height = `${(1 + made.reduce((most, bar) => Math.max(most, bar.level), 0)) * HEIGHT}px`;
  for (const bar of made) {
    const call = calls[bar.index];
    const button = element("button", `bar ${call.kind}`, element("span", "", written(call.name, bar.width * across)));
    button.type = "button";
    button.tabIndex = -1;
    button.dataset.index = bar.index;
    button.setAttribute("aria-label", `${call.name}, ${withUnit(call[clock])}`);
    button.style.left = `${100 * bar.left}%`;
    button.style.width = `${100 * bar.width}%`;
    button.style.top = `${bar.level * HEIGHT}px`;
    barOf.set(bar.index, button);
    box.append(button);
  }
  if (!made.length) box.append(element("p", "quiet", "Nothing of this call was measured by this clock."));
  chart.replaceChildren(box);
  const first = barOf.get(selected) ?? box.querySelector(".bar");
  if (first) first.tabIndex = 0;
  if (selected >= 0) markInChart(selected);
  document.getElementById("whole").disabled = top < 0;
}

/** The bar of a call, or of the nearest one around it that is drawn. */
function nearestBar(index) {
  for (let i = index; i >= 0; i = calls[i].parent) if (barOf.has(i)) return barOf.get(i);
  return null;
}

function markInChart(index) {
  if (!chart) return;
  for (const old of chart.querySelectorAll("[aria-current]")) old.removeAttribute("aria-current");
  for (const old of chart.querySelectorAll('[tabindex="0"]')) old.tabIndex = -1;
  const bar = nearestBar(index);
  if (bar) {
    bar.tabIndex = 0;
    bar.setAttribute("aria-current", Number(bar.dataset.index) === index ? "true" : "location");
  }
  tell(index);
  document.getElementById("zoom").disabled = calls[index][clock] === null || index === top || !measuredInside(index).length;
}

function hoverInChart(index) {
  if (chart) nearestBar(index)?.classList.add("hovered");
}

function tell(index) {
  const call = calls[index];
  const own = clock === "host" ? call.own : call.deviceOwn;
  const parts = [call.path || call.name, call.type, call.shapes, withUnit(call[clock]), own === null || own === call[clock] ? "" : `self ${withUnit(own)}`];
  readout.textContent = parts.filter((part, i) => part && parts.indexOf(part) === i).join("   ");
}

/** From bar to bar: up to the call around it, down to the first inside, left and right on its level. */
function neighbour(index, key) {
  const bar = barOf.get(index);
  if (key === "ArrowUp") return nearestBar(calls[index].parent);
  if (key === "ArrowDown") return measuredInside(index).map((i) => barOf.get(i)).find(Boolean);
  const level = [...barOf.values()].filter((one) => one.style.top === bar.style.top);
  return level[level.indexOf(bar) + (key === "ArrowRight" ? 1 : -1)];
}

if (chart) {
  let drawn = 0; // the width that names were fitted to
  new ResizeObserver(() => {
    if (Math.abs(chart.clientWidth - drawn) < 20 || chart.contains(document.activeElement)) return;
    drawn = chart.clientWidth;
    drawChart();
  }).observe(chart);
  const of = (event) => Number(event.target.closest(".bar")?.dataset.index ?? -1);
  chart.addEventListener("click", (event) => {
    if (of(event) < 0) return;
    event.target.closest(".bar").focus();
    select(of(event), "chart");
  });
  chart.addEventListener("focusin", (event) => select(of(event), "chart"));
  chart.addEventListener("dblclick", (event) => of(event) >= 0 && widen(of(event)));
  chart.addEventListener("mouseover", (event) => {
    if (of(event) < 0) return;
    hover(of(event));
    tell(of(event));
  });
  chart.addEventListener("mouseleave", () => {
    hover(-1);
    if (selected >= 0) tell(selected);
  });
  chart.addEventListener("keydown", (event) => {
    const index = of(event);
    if (index < 0) return;
    if (event.key === "Enter") focusRow(reveal(index));
    else if (event.key.startsWith("Arrow")) neighbour(index, event.key)?.focus();
    else return;
    event.preventDefault();
  });
  document.getElementById("zoom").addEventListener("click", () => widen(selected));
  document.getElementById("whole").addEventListener("click", () => widen(-1));
  document.getElementById("clocks").hidden = !onDevice;
  for (const radio of document.querySelectorAll('[name="clock"]')) {
    radio.addEventListener("change", () => {
      clock = radio.value;
      top = -1;
      drawChart();
    });
  }
}

function widen(index) {
  top = index;
  drawChart();
  if (index >= 0) chart.querySelector(".bar")?.focus();
}
