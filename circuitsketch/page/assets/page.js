// The page: picks examples, asks about them, and shows what comes back. Text from the data only ever becomes
// textContent, so that a label is never markup. Where answers come from is left to `answers.js`.
"use strict";

const SHOWN = 50; // examples per page of the table
const RANKED = 10; // examples per chart of what matters most
const LABELS = 5000; // in the list of labels
const PAUSE = 80; // milliseconds without another pick before a question is asked

const byId = (id) => document.getElementById(id);
const state = { data: null, picked: new Set(), page: 0, sort: "effect", down: true, value: 0, answer: null, asked: 0,
  saved: new Map(), log: [], order: [], texts: [] };

function say(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

function cell(row, content, kind = "td", className = "") {
  const element = document.createElement(kind);
  if (className) element.className = className;
  if (kind === "th") element.scope = row.parentNode.tagName === "THEAD" ? "col" : "row";
  element.append(content);
  row.append(element);
  return element;
}

// Fill a table: headings (those in `numbers` aligned right), then rows of text.
function fillTable(table, caption, headings, rows, numbers = 1) {
  table.replaceChildren();
  table.createCaption().textContent = caption;
  const head = table.createTHead().insertRow();
  headings.forEach((text, k) => cell(head, text, "th", k >= numbers ? "number" : ""));
  const body = table.createTBody();
  rows.forEach((texts) => {
    const row = body.insertRow();
    texts.forEach((text, k) => cell(row, text, k ? "td" : "th", k >= numbers ? "number" : ""));
  });
}

// ------------------------------------------------------------------------------------------ examples

function shownIds() {
  const { data, texts } = state;
  const text = byId("search").value.trim().toLowerCase();
  const label = byId("label").value;
  const ids = [];
  for (let i = 0; i < data.n; i += 1) {
    if (label && `=${data.labels[i]}` !== label) continue;
    if (!text || texts[i].includes(text) || String(i) === text) ids.push(i);
  }
  const effects = data.values[state.value].effects;
  const keys = { id: (i) => i, item: (i) => data.items[i], label: (i) => data.labels[i],
    effect: (i) => Math.abs(effects[i] ?? 0), picked: (i) => Number(state.picked.has(i)) };
  const key = keys[state.sort];
  const compare = (a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : b - a);
  return ids.sort((a, b) => (state.down ? -compare(a, b) : compare(a, b)));
}

function headOf(table) {
  const { data } = state;
  const head = table.createTHead().insertRow();
  const columns = [["picked", "Pick"], ["id", "Id"]];
  if (data.items) columns.push(["item", data.unit === "group" ? "Group" : "Item"]);
  if (data.labels) columns.push(["label", "Label"]);
  columns.push(["effect", "Change without it"]);
  for (const [key, text] of columns) {
    const button = document.createElement("button");
    const sorted = state.sort === key;
    button.type = "button";
    button.textContent = text + (sorted ? (state.down ? "\u00a0\u25be" : "\u00a0\u25b4") : "");
    button.addEventListener("click", () => {
      Object.assign(state, { sort: key, down: sorted ? !state.down : key === "effect" || key === "picked", page: 0 });
      listExamples();
      table.querySelector(`[data-key=${key}]`).focus();
    });
    button.dataset.key = key;
    const heading = cell(head, button, "th", key === "effect" ? "number" : "");
    if (sorted) heading.ariaSort = state.down ? "descending" : "ascending";
  }
}

function listExamples() {
  const { data } = state;
  state.order = shownIds();
  const pages = Math.max(1, Math.ceil(state.order.length / SHOWN));
  state.page = Math.min(state.page, pages - 1);
  const table = byId("rows");
  table.replaceChildren();
  table.createCaption().textContent = `Change of ${data.values[state.value].name}; space picks, ± is one standard error`;
  headOf(table);
  const body = table.createTBody();
  const { effects, stderr } = data.values[state.value];
  for (const i of state.order.slice(state.page * SHOWN, (state.page + 1) * SHOWN)) {
    const row = body.insertRow();
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = state.picked.has(i);
    box.dataset.id = i;
    box.setAttribute("aria-label", `Leave out ${nameOf(i)}`);
    row.classList.toggle("picked", box.checked);
    cell(row, box);
    cell(row, String(i), "th");
    if (data.items) cell(row, data.images[i] ? image(data.images[i], data.items[i]) : data.items[i]);
    if (data.labels) cell(row, data.labels[i]);
    const error = stderr[i] === 0 ? "" : ` \u00b1 ${shorten(stderr[i], 2)}`;
    cell(row, effects[i] === null ? "unknown" : formatChange(Number(effects[i].toPrecision(4))) + error, "td", "number");
  }
  byId("page-number").textContent = `page ${state.page + 1} of ${pages}`;
  byId("previous").disabled = state.page === 0;
  byId("next").disabled = state.page >= pages - 1;
  describePicks();
}

function image(address, text) {
  const picture = new Image();
  picture.src = address;
  picture.alt = text;
  return picture;
}

function describePicks() {
  byId("shown").textContent = `${state.order.length.toLocaleString("en")} of ${count(state.data.n)} shown, ` +
    `${state.picked.size.toLocaleString("en")} picked`;
}

function pick(ids, add = true) {
  ids.forEach((i) => (add ? state.picked.add(i) : state.picked.delete(i)));
  for (const box of byId("rows").querySelectorAll("input")) {
    box.checked = state.picked.has(Number(box.dataset.id));
    box.closest("tr").classList.toggle("picked", box.checked);
  }
  describePicks();
  byId("checking").textContent = "";
  clearTimeout(state.timer);
  state.timer = setTimeout(ask, PAUSE);
}

// ------------------------------------------------------------------------------------------ answers

async function ask() {
  const asked = (state.asked += 1);
  const ids = pickedIds();
  try {
    const answer = await answers.ask(ids);
    if (asked !== state.asked) return; // another question has been asked since
    say("");
    showAnswer(answer);
    if (ids.length) record(answer);
  } catch (reason) {
    if (asked === state.asked) say(`No answer: ${reason.message}`);
  }
}

function truthOf(answer, k) {
  return answer.truth && { strengths: answer.truth.strengths, values: answer.truth.values[k] };
}

const retrainedOf = (answer, k) => (answer.truth ? answer.truth.values[k][answer.truth.values[k].length - 1] : null);
const valueOf = (v) => formatNumber(v.value, digitsOf(v));
const intervalOf = (v) => (v.low === null || v.high === null ? "unknown"
  : `${formatNumber(v.low, digitsOf(v))} to ${formatNumber(v.high, digitsOf(v))}`);

function showAnswer(answer) {
  state.answer = answer;
  const { data } = state;
  const now = answer.values[state.value];
  const { name, baseline } = data.values[state.value];
  const truth = retrainedOf(answer, state.value);
  const checked = truth === null ? "" : ` Trained again: ${formatNumber(truth, digitsOf(now))}.`;
  byId("headline").textContent = answer.ids.length
    ? `${name} without ${count(answer.ids.length)}: ${valueOf(now)}, 95 % from ${intervalOf(now)}. ` +
      `With all: ${formatNumber(baseline, digitsOf(now))}.${checked}`
    : `${name} as trained: ${formatNumber(baseline)}. Pick examples to leave out.`;
  byId("warnings").replaceChildren(...answer.warnings.map((text) => {
    const line = document.createElement("li");
    line.textContent = `Warning: ${text}`;
    return line;
  }));
  const curve = { name, strengths: answer.strengths, curve: now.curve, truth: truthOf(answer, state.value) };
  drawCurves(byId("curve"), [curve], name, `Curve of ${byId("headline").textContent}`);
  fillTable(byId("numbers"), "Every measured value",
    ["Value", "Without", "95 % interval", ...(answer.truth ? ["Retrained"] : []), "Change", "As trained"],
    answer.values.map((v, k) => [data.values[k].name, valueOf(v), intervalOf(v),
      ...(answer.truth ? [formatNumber(retrainedOf(answer, k), digitsOf(v))] : []), shorten(v.change, 4, true),
      formatNumber(data.values[k].baseline, digitsOf(v))]));
  byId("words").textContent = `${answer.words}; answered in ${(1000 * answer.seconds).toFixed(0)} ms`;
  fillTable(byId("terms"), "Change by order, ± one standard error", ["Order", "Term", "±"],
    now.terms.map((t) => [String(t.order), formatChange(t.term), shorten(t.stderr, 2)]));
  byId("terms-part").hidden = !now.terms.length;
  byId("pair-note").textContent = answer.pair_note;
  fillTable(byId("pairs"), "What two do together beyond their sum, ± one standard error. Redundant: each makes up for the other.",
    ["Pair", "Kind", "Effect", "±"], now.pairs.map((p) =>
      [p.ids.map(nameOf).join(" and "), p.kind + (p.stderr === null || p.stderr < Math.abs(p.effect) ? "" : ", unsure"),
        shorten(p.effect, 3, true), shorten(p.stderr, 2)]), 2);
  byId("pairs").hidden = !now.pairs.length;
  byId("pairs-part").hidden = !answer.ids.length;
  byId("check").disabled = !answer.ids.length || state.checking;
  fillSubsets();
}

async function check() {
  const ids = pickedIds();
  state.checking = true;
  byId("check").disabled = true;
  byId("progress").hidden = false;
  try {
    const answer = await answers.check(ids, (share, text) => {
      byId("progress").value = share;
      byId("checking").textContent = text;
    });
    byId("checking").textContent = `Trained again without ${count(ids.length)}.`;
    if (formatIds(ids) === formatIds(pickedIds())) showAnswer(answer);
    record(answer);
    await readCalibration();
  } catch (reason) {
    byId("checking").textContent = "";
    say(`Training again failed: ${reason.message}`);
  } finally {
    state.checking = false;
    byId("progress").hidden = true;
    byId("check").disabled = !state.picked.size;
  }
}

// ------------------------------------------------------------------------------------------ what matters, calibration

function showInfluence() {
  const { name, effects, stderr } = state.data.values[state.value];
  const ids = effects.map((_, i) => i).filter((i) => effects[i] !== null);
  const row = (i) => ({ name: nameOf(i), change: effects[i], reach: stderr[i] === null ? null : 1.96 * stderr[i] });
  const sorted = ids.sort((a, b) => effects[b] - effects[a]);
  const raises = sorted.filter((i) => effects[i] > 0).slice(0, RANKED);
  const lowers = sorted.filter((i) => effects[i] < 0).reverse().slice(0, RANKED);
  drawBars(byId("raises"), raises.map(row), `${name} is higher without (helpful, if lower is better)`, false);
  drawBars(byId("lowers"), lowers.map(row), `${name} is lower without (harmful, if lower is better)`, true);
}

function showTrust(trust) {
  byId("trust").textContent = trust.sentence;
  const figure = (x, digits) => (x === null || x === undefined ? "unknown" : x.toPrecision(digits));
  fillTable(byId("worth"), "Each calibration subset predicted without itself; error in the truths' standard deviations",
    ["Measurement", "Trusted up to", "Rank correlation", "Error", "Estimators"], trust.rows.map((r) => [r.name,
      r.reach === null ? "unknown" : count(r.reach), figure(r.lds, 3), figure(r.relative_error, 2),
      r.estimators || "not calibrated"]));
}

async function readCalibration() {
  try {
    state.calibration = await answers.calibration();
  } catch (reason) {
    say(`The calibration is not known: ${reason.message}`);
    return;
  }
  showTrust(state.calibration.trust);
  showCalibration();
}

function showCalibration() {
  const all = state.calibration;
  if (!all) return;
  const view = all.values[state.value];
  const { name } = state.data.values[state.value];
  const shares = Object.entries(view.coverage).map(([level, share]) =>
    `${(100 * share).toFixed(0)} % inside the ${(100 * level).toFixed(0)} % intervals`);
  const text = view.points.length || view.checks.length
    ? `${name}: ` + [...(view.points.length ? [`${view.points.length} subsets of the calibration, each predicted ` +
        `without itself (circles)${shares.length ? `: ${shares.join(", ")}` : ""}`] : []),
      ...(view.lds === null ? [] : [`rank correlation ${view.lds.toPrecision(3)}`]),
      ...(view.checks.length ? [`${view.checks.length} checked by training again (squares)`] : [])].join("; ") + "."
    : "Nothing was retrained yet.";
  byId("coverage").textContent = text;
  byId("agreement").replaceChildren();
  if (view.points.length + view.checks.length) drawAgreement(byId("agreement"), view.points, view.checks, name, text);
}

// ------------------------------------------------------------------------------------------ the beginning

function showAbout() {
  const { data } = state;
  byId("title").textContent = `${data.title ? `${data.title}: ` : ""}${data.values.map((v) => v.name).slice(0, 4).join(", ")}` +
    `${data.values.length > 4 ? ", \u2026" : ""}, ${count(data.n)}`;
  byId("counterfactual").textContent = data.counterfactual;
  byId("about").replaceChildren(...data.about.flatMap(([name, text]) => [["dt", name], ["dd", text]].map(([kind, words]) => {
    const element = document.createElement(kind);
    element.textContent = words;
    return element;
  })));
  showTrust(data.trust);
  byId("effect-warnings").textContent = data.effect_warnings.map((text) => `Warning: ${text}.`).join(" ");
  byId("value").replaceChildren(...data.values.map((v, k) => new Option(v.name, String(k))));
  byId("value-choice").hidden = data.values.length < 2;
  byId("label-choice").hidden = !data.labels;
  if (data.labels) listLabels([...new Set(data.labels)]);
  for (const id of ["check", "checking"]) byId(id).hidden = !data.can_retrain;
}

// Labels to choose from, 10 after 9; those that are too many for a list can be searched for.
function listLabels(labels) {
  const order = new Intl.Collator("en", { numeric: true });
  const shown = labels.sort(order.compare).slice(0, LABELS).map((label) => new Option(label, `=${label}`));
  if (labels.length > LABELS) {
    shown.push(new Option(`${(labels.length - LABELS).toLocaleString("en")} more: search for them`, "?"));
    shown[LABELS].disabled = true;
  }
  byId("label").replaceChildren(new Option("any", ""), ...shown);
}

function listen() {
  const filter = () => Object.assign(state, { page: 0 }) && listExamples();
  byId("search").addEventListener("input", filter);
  byId("label").addEventListener("change", filter);
  byId("rows").addEventListener("change", (event) => pick([Number(event.target.dataset.id)], event.target.checked));
  byId("rows").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const boxes = [...byId("rows").querySelectorAll("input")];
    const next = boxes[boxes.indexOf(event.target) + step];
    if (!step || !boxes.includes(event.target) || !next) return;
    event.preventDefault();
    next.focus();
  });
  byId("pick-shown").addEventListener("click", () => pick(state.order));
  byId("drop-shown").addEventListener("click", () => pick(state.order, false));
  byId("clear").addEventListener("click", () => pick([...state.picked], false));
  const pickIds = () => {
    const ids = parseIds(byId("ids").value);
    if (ids === null) return say(`Ids are numbers and ranges from 0 to ${state.data.n - 1}, such as 1,5,7-9.`);
    say("");
    return pick(ids);
  };
  byId("pick-ids").addEventListener("click", pickIds);
  byId("ids").addEventListener("keydown", (event) => event.key === "Enter" && pickIds());
  for (const [id, step] of [["previous", -1], ["next", 1]])
    byId(id).addEventListener("click", () => { state.page += step; listExamples(); });
  byId("value").addEventListener("change", (event) => {
    state.value = Number(event.target.value);
    listExamples();
    redraw();
  });
  // Charts are as wide as there is room, which a frame may have only some time after it has loaded.
  new ResizeObserver(([{ contentRect }]) => {
    if (Math.abs(contentRect.width - state.width) < 1) return;
    state.width = contentRect.width;
    clearTimeout(state.resized);
    state.resized = setTimeout(redraw, 150);
  }).observe(document.querySelector("main"));
  byId("check").addEventListener("click", check);
  byId("save").addEventListener("click", save);
  byId("first").addEventListener("change", compare);
  byId("second").addEventListener("change", compare);
  byId("load").addEventListener("click", () => {
    const ids = state.saved.get(byId("first").value);
    pick([...state.picked], false);
    pick(ids);
  });
  byId("forget").addEventListener("click", () => {
    state.saved.delete(byId("first").value);
    writeSaved();
    fillSubsets();
  });
  byId("log-json").addEventListener("click", () => download("questions.json", logJson(), "application/json"));
  byId("log-csv").addEventListener("click", () => download("questions.csv", logCsv(), "text/csv"));
}

function redraw() {
  showInfluence();
  showCalibration();
  if (state.answer) showAnswer(state.answer);
}

async function start() {
  try {
    state.data = await answers.load();
    state.texts = Array.from({ length: state.data.n }, (_, i) =>
      [state.data.items?.[i], state.data.labels?.[i]].filter((t) => t !== undefined && t !== null).join("\n").toLowerCase());
    state.width = document.querySelector("main").clientWidth;
    readSaved();
    showAbout();
    listen();
    listExamples();
    showInfluence();
    await Promise.all([ask(), readCalibration()]);
    document.body.dataset.ready = "yes";
  } catch (reason) {
    say(`This page cannot start: ${reason.message}`);
  }
}

start();
