// The log of questions that were asked in this tab, which can be downloaded as JSON or CSV.
"use strict";

function record(answer) {
  const ids = formatIds(answer.ids);
  state.log = state.log.filter((one) => one.ids !== ids); // asked again: the last answer counts
  state.questions = (state.questions || 0) + 1;
  state.log.push({ number: state.questions, size: answer.ids.length, ids, asked: new Date().toISOString(),
    retrained: Boolean(answer.truth), warnings: answer.warnings, values: answer.values.map((v, k) => ({
      name: state.data.values[k].name, value: v.value, low: v.low, high: v.high, change: v.change,
      retrained: retrainedOf(answer, k) })) });
  listQuestions();
}

const nameOfQuestion = ({ number, ids }) => {
  const saved = [...state.saved].find(([, others]) => formatIds(others) === ids);
  return saved ? saved[0] : `question ${number}`;
};

function listQuestions() {
  const values = state.data.values.length > 1;
  fillTable(byId("questions"), `${state.log.length} questions, the last one first`,
    ["Without", ...(values ? ["Value"] : []), "Predicted", "95 % interval", "Retrained", "Ids"],
    state.log.slice(-20).reverse().flatMap((one) => one.values.slice(0, 3).map((v, k) => [
      `${shortenText(nameOfQuestion(one), 40)} (${one.size.toLocaleString("en")})`, ...(values ? [v.name] : []),
      valueOf(v), intervalOf(v), v.retrained === null ? "" : formatNumber(v.retrained, digitsOf(v)),
      k ? "" : shortenText(one.ids, 28)])), values ? 2 : 1);
}

const logJson = () => JSON.stringify({ circuitsketch: state.data.version, title: state.data.title,
  unit: state.data.unit, n: state.data.n, level: state.data.level,
  questions: state.log.map((one) => ({ name: nameOfQuestion(one), ids: one.ids, asked: one.asked,
    retrained: one.retrained, warnings: one.warnings, values: one.values })) }, null, 1);

// Cells that a spreadsheet would take for a formula begin with an apostrophe.
const csvCell = (x) => {
  const text = x === null ? "" : String(x);
  return `"${(typeof x === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
};

const logCsv = () => [["name", "ids", "value_name", "value", "low", "high", "retrained", "asked"],
  ...state.log.flatMap((one) => one.values.map((v) =>
    [nameOfQuestion(one), one.ids, v.name, v.value, v.low, v.high, v.retrained, one.asked]))]
  .map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";

function download(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
