// Subsets: as ids and in words, saved by name, and two of them compared.
"use strict";

// "1,5,7-9" from ids, and back; null if the text is not that.
function formatIds(ids) {
  const parts = [];
  for (let i = 0; i < ids.length; i += 1) {
    let j = i;
    while (ids[j + 1] === ids[j] + 1) j += 1;
    parts.push(j > i ? `${ids[i]}-${ids[j]}` : String(ids[i]));
    i = j;
  }
  return parts.join(",");
}

function parseIds(text) {
  const ids = [];
  for (const word of text.split(/[\s,]+/).filter(Boolean)) {
    const match = /^(\d+)(?:-(\d+))?$/.exec(word);
    if (!match) return null;
    const last = Number(match[2] || match[1]);
    if (last >= state.data.n || last < Number(match[1])) return null;
    for (let i = Number(match[1]); i <= last; i += 1) ids.push(i);
  }
  return ids;
}

const pickedIds = () => [...state.picked].sort((a, b) => a - b);
const count = (n) => `${n.toLocaleString("en")} ${state.data.unit}${n === 1 ? "" : "s"}`;

function nameOf(i) {
  const { items, labels, unit } = state.data;
  return items ? items[i] : state.data.unit === "group" && labels ? labels[i] : `${unit} ${i}`;
}

function nameSubset(ids) {
  const names = ids.slice(0, 4).map(nameOf).join(", ");
  return ids.length ? `without ${names}${ids.length > 4 ? `, \u2026 (${count(ids.length)})` : ""}` : "as trained";
}

const storageKey = () => `circuitsketch ${state.data.title} ${state.data.n}`;

function readSaved() {
  try {
    const entries = Object.entries(JSON.parse(localStorage.getItem(storageKey()) || "{}"));
    entries.forEach(([name, ids]) => state.saved.set(name, ids));
  } catch { /* a page in a frame, or of a file, may have no storage: subsets last as long as the page */ }
}

function writeSaved() {
  try {
    localStorage.setItem(storageKey(), JSON.stringify(Object.fromEntries(state.saved)));
  } catch { /* as above */ }
}

function save() {
  const ids = pickedIds();
  if (!ids.length) return say(`Nothing is picked: pick at least one ${state.data.unit}.`);
  readSaved();
  state.saved.set(byId("name").value.trim() || nameSubset(ids), ids);
  writeSaved();
  byId("name").value = "";
  fillSubsets();
  if (state.log.length) listQuestions(); // by its name now
  return say("");
}

function fillSubsets() {
  for (const [id, first] of [["first", 0], ["second", 1]]) {
    const select = byId(id);
    const before = select.value;
    const names = ["what is picked now", ...state.saved.keys()];
    select.replaceChildren(...names.map((name, k) => new Option(name, String(k ? name : ""))));
    select.value = names.includes(before) || before === "" ? before : "";
    if (!before && first && state.saved.size) select.value = [...state.saved.keys()].pop();
  }
  compare();
}

async function compare() {
  const asked = (state.compared = (state.compared || 0) + 1);
  for (const id of ["load", "forget"]) byId(id).disabled = !byId("first").value;
  const subsets = ["first", "second"].map((id) => {
    const name = byId(id).value;
    return { name: name || "what is picked now", ids: name ? state.saved.get(name) : pickedIds() };
  });
  if (!state.saved.size) {
    byId("comparison").textContent = "Save a subset to compare it with another.";
    byId("compared").replaceChildren();
    byId("differences").replaceChildren();
    return;
  }
  try {
    const now = state.answer && formatIds(state.answer.ids);
    const both = await Promise.all(subsets.map(({ ids }) => (formatIds(ids) === now ? state.answer : answers.ask(ids))));
    if (asked !== state.compared) return;
    const curves = both.map((answer, k) => ({ name: subsets[k].name, strengths: answer.strengths,
      curve: answer.values[state.value].curve, truth: truthOf(answer, state.value) }));
    const { name } = state.data.values[state.value];
    const [a, b] = both.map((answer) => answer.values[state.value]);
    const apart = a.low > b.high || b.low > a.high;
    byId("comparison").textContent = `${name}: ${valueOf(a)} without \u201c${subsets[0].name}\u201d, ` +
      `${valueOf(b)} without \u201c${subsets[1].name}\u201d; the intervals ` +
      `${[a.low, a.high, b.low, b.high].includes(null) ? "are unknown" : apart ? "do not overlap" : "overlap"}.`;
    drawCurves(byId("compared"), curves, name, byId("comparison").textContent);
    fillTable(byId("differences"), "Second less first", ["Value", "First", "Second", "Difference"],
      both[0].values.map((v, k) => [state.data.values[k].name, `${valueOf(v)} (${intervalOf(v)})`,
        `${valueOf(both[1].values[k])} (${intervalOf(both[1].values[k])})`,
        formatChange(both[1].values[k].value - v.value)]));
  } catch (reason) {
    byId("comparison").textContent = `No answer: ${reason.message}`;
  }
}
