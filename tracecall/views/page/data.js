"use strict";
// The calls as the page was given them: one line each, in call order, with its depth; every text is written once.
const data = JSON.parse(document.getElementById("data").textContent);
const texts = data.texts;
const words = (rows) => rows.map((row) => row.map((number) => texts[number]));
const calls = data.calls.map(
  ([depth, kind, name, type, path, shapes, place, near, text, mark, host, own, device, deviceOwn, flags, repeats, ...more], index) => ({
    index, depth,
    kind: texts[kind], name: texts[name], type: texts[type], path: texts[path], shapes: texts[shapes],
    place: texts[place], near: texts[near], text: texts[text], mark: texts[mark],
    host, own, device, deviceOwn,
    hidden: Boolean(flags & 1), unsteady: Boolean(flags & 2), more,
    repeats, parent: -1, end: 0,
  }),
);

// parent: the line above it in the tree; end: the first line that is not inside it any more
const above = [];
for (const call of calls) {
  while (above.length && above[above.length - 1].depth >= call.depth) above.pop().end = call.index;
  if (above.length) call.parent = above[above.length - 1].index;
  above.push(call);
}
while (above.length) above.pop().end = calls.length;

const largest = (of) => calls.reduce((most, call) => Math.max(most, of(call)), 0);
const total = largest((call) => (call.depth === 0 ? (call.host ?? 0) : 0));
const timed = calls.some((call) => call.host !== null);
const onDevice = calls.some((call) => call.device !== null);
let withHidden = false;

/** Whether a line is no call, but stands around some: a part of the root's chain, or what repeats. */
const stands = (call) => call.kind === "part" || call.kind === "repeats";

/** The lines right inside one line, or the roots for -1. */
function inside(index) {
  const found = [];
  const end = index < 0 ? calls.length : calls[index].end;
  for (let i = index + 1; i < end; i = calls[i].end) if (withHidden || !calls[i].hidden) found.push(i);
  return found;
}

function ancestors(index) {
  const found = [];
  for (let i = calls[index].parent; i >= 0; i = calls[i].parent) found.unshift(i);
  return found;
}

const time = (ns) => (ns === null ? "" : (ns / data.unit.size).toFixed(data.unit.decimals));
const withUnit = (ns) => (ns === null ? "" : `${time(ns)} ${data.unit.name}`);
const counted = (number) => number.toLocaleString("en-US");
const percent = (ns) => `${((100 * ns) / total).toFixed(1)} %`;

/** A number in two or three digits: 1.2 G. */
function short(number, of = "") {
  for (const prefix of ["", "k", "M", "G", "T", "P"]) {
    const digits = number.toFixed(prefix && number < 9.95 ? 1 : 0);
    if (Number(digits) < 1000 || prefix === "P") return `${digits} ${prefix}${of}`.trim();
    number /= 1000;
  }
}

/** An element with its class and what is in it; text is always text, never markup. */
function element(tag, name, ...content) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...content);
  return made;
}
