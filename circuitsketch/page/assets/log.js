// The log of questions that were asked in this tab, which can be downloaded as JSON or CSV.
"use strict";

function record(answer) {
  const ids = formatIds(answer.ids);
  const name = [...state.saved].find(([, saved]) => formatIds(saved) === ids);
  state.log = state.log.filter((one) => one.ids !== ids || one.retrained);
  state.log.push({ name: name ? name[0] : `question ${state.log.length + 1}`, ids, asked: new Date().toISOString(),
    retrained: Boolean(answer.truth), warnings: answer.warnings, values: answer.values.map((v, k) => ({
      name: state.data.values[k].name, value: v.value, low: v.low, high: v.high, retrained: retrainedOf(answer, k) })) });
  fillTable(byId("questions"), `${state.log.length} questions, the last one first`,
    ["Without", "Value", "Predicted", "95 % interval", "Retrained"],
    state.log.slice(-20).reverse().flatMap((one) => one.values.slice(0, 3).map((v) => [one.ids, v.name,
      formatNumber(v.value), intervalOf(v), v.retrained === null ? "" : formatNumber(v.retrained)])), 2);
}

const logJson = () => JSON.stringify({ circuitsketch: state.data.version, title: state.data.title,
  unit: state.data.unit, n: state.data.n, level: state.data.level, questions: state.log }, null, 1);

// Cells that a spreadsheet would take for a formula begin with an apostrophe.
const csvCell = (x) => {
  const text = x === null ? "" : String(x);
  return `"${(typeof x === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
};

const logCsv = () => [["name", "ids", "value_name", "value", "low", "high", "retrained", "asked"],
  ...state.log.flatMap((one) => one.values.map((v) =>
    [one.name, one.ids, v.name, v.value, v.low, v.high, v.retrained, one.asked]))]
  .map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";

function download(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
