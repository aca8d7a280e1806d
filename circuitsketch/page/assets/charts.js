// Charts as SVG: curves with bands, bars with intervals, predicted against retrained. Never told apart by colour alone.
"use strict";

const SVG = "http://www.w3.org/2000/svg";

function draw(parent, tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

const formatNumber = (x, digits = 6) => {
  if (x === null || x === undefined || !Number.isFinite(x)) return "unknown";
  const text = Number(x.toPrecision(digits));
  return (Math.abs(text) >= 1e6 || (text !== 0 && Math.abs(text) < 1e-4) ? text.toExponential() : String(text))
    .replace("-", "\u2212").replace("e\u2212", "e-");
};
// As many digits as tell the two ends of an interval apart, and a value from what it was: 6 to 12.
const digitsOf = ({ value, low, high, change }) => {
  const known = [Math.abs(high - low) / 2, Math.abs(change)].filter((x) => x > 0 && low !== null && high !== null);
  const finest = Math.max(Math.abs(value), Math.abs(low), Math.abs(high)) / Math.min(...known);
  return known.length && Number.isFinite(finest) ? Math.min(12, Math.max(6, Math.ceil(Math.log10(finest)) + 2)) : 6;
};
const formatChange = (x) => (x > 0 ? "+" : "") + formatNumber(x);
const shorten = (x, digits, signed = false) =>
  (x === null ? "unknown" : (signed ? formatChange : formatNumber)(Number(x.toPrecision(digits))));
const shortChange = (x) => shorten(x, 3, true);

// As wide as there is room, so that text keeps its size.
const widthOf = (figure) => Math.min(Math.max(figure.clientWidth, 260), 760);

// Round numbers between two ends.
function ticksOf(low, high, count = 5) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const ticks = [];
  for (let x = Math.ceil(low / step - 1e-9) * step; x <= high + step * 1e-9; x += step) ticks.push(x);
  return ticks.map((x) => Number(x.toPrecision(12)));
}

// Digits that tell one tick from the next.
const digitsOfTicks = (ticks) =>
  Math.min(15, Math.max(2, Math.ceil(Math.log10(Math.max(...ticks.map(Math.abs)) / (ticks[1] - ticks[0]))) + 2 || 6));

const textsOf = (ticks) => ticks.map((tick) => formatNumber(tick, digitsOfTicks(ticks)));

// An empty chart with axes: its SVG, and the functions from data to pixels.
function axes(figure, label, xRange, yRange, xName, yName, height = 300, above = 0) {
  const width = widthOf(figure);
  figure.replaceChildren();
  const svg = draw(figure, "svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
  const pad = (range) => {
    const margin = 0.06 * (range[1] - range[0]) || Math.abs(range[0]) * 0.01 || 0.01;
    return [range[0] - margin, range[1] + margin];
  };
  const [y0, y1] = pad(yRange);
  const marks = ticksOf(y0, y1);
  const texts = textsOf(marks);
  const [left, right, top, bottom] = [Math.max(56, 30 + 7.5 * Math.max(...texts.map((t) => t.length))), 14, 12 + above, 46];
  const [x0, x1] = xRange;
  const x = (value) => left + ((value - x0) / (x1 - x0)) * (width - left - right);
  const y = (value) => height - bottom - ((value - y0) / (y1 - y0)) * (height - top - bottom);
  marks.forEach((tick, k) => {
    draw(svg, "line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) });
    draw(svg, "text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, texts[k]);
  });
  const letters = Math.max(...textsOf(ticksOf(x0, x1)).map((t) => t.length));
  const across = ticksOf(x0, x1, Math.max(2, Math.min(8, (width - left) / (30 + 8 * letters))));
  for (const tick of across) {
    draw(svg, "line", { class: "axis", x1: x(tick), x2: x(tick), y1: height - bottom, y2: height - bottom + 4 });
    draw(svg, "text", { x: x(tick), y: height - bottom + 17, "text-anchor": "middle" },
      textsOf(across)[across.indexOf(tick)]);
  }
  draw(svg, "line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom });
  fitText(draw(svg, "text", { x: (left + width) / 2, y: height - 8, "text-anchor": "middle" }, xName), width - left);
  fitText(draw(svg, "text", { x: 14, y: height / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${height / 2})` },
    yName), height);
  return { svg, x, y };
}

const shortenText = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}\u2026` : text);

// Shorten a drawn text until it is at most so many pixels long.
function fitText(element, pixels) {
  const letters = [...element.textContent];
  if (letters.length > 100) letters.length = 100;
  while (letters.length > 1 && element.getComputedTextLength() > pixels) {
    letters.pop();
    element.textContent = `${letters.join("")}\u2026`;
  }
}

const known = (numbers) => numbers.filter((v) => v !== null && Number.isFinite(v));

// Curves over the share that is removed, each {name, strengths, curve, truth}; the second is dashed.
function drawCurves(figure, curves, yName, label) {
  const all = known(curves.flatMap(({ curve, truth }) =>
    [...curve.value, ...curve.low, ...curve.high, ...(truth ? truth.values : [])]));
  const range = [Math.min(...all), Math.max(...all)];
  const legend = curves.length > 1 ? 18 * curves.length : 0;
  const { svg, x, y } = axes(figure, label, [0, 1], range, "share removed (0: as trained, 1: deleted)", yName,
    300 + legend, legend);
  curves.forEach(({ name, strengths, curve, truth }, k) => {
    const line = (numbers) => numbers.map((v, i) => `${x(strengths[i]).toFixed(1)},${y(v).toFixed(1)}`);
    if (known(curve.low).length === strengths.length && known(curve.high).length === strengths.length) {
      const ring = [...line(curve.low), ...line(curve.high).reverse()];
      draw(svg, "polygon", { class: k ? "band-two" : "band", points: ring.join(" ") });
    }
    draw(svg, "polyline", { class: `curve ${k ? "two-line" : "one"}`, points: line(curve.value).join(" ") });
    if (curves.length > 1) {
      draw(svg, "line", { class: `curve ${k ? "two-line" : "one"}`, x1: 74, x2: 108, y1: 10 + 18 * k, y2: 10 + 18 * k });
      fitText(draw(svg, "text", { x: 116, y: 14 + 18 * k }, name), widthOf(figure) - 122);
    }
    if (truth) truth.values.forEach((v, i) =>
      draw(svg, "circle", { class: "truth", cx: x(truth.strengths[i]), cy: y(v), r: 5 }));
  });
}

// Bars of the effects that are largest, each {name, change, reach}; reach is null where the error is unknown.
function drawBars(figure, rows, title, lower) {
  const [left, step] = [130, 24];
  const height = 4 + step * Math.max(rows.length, 1);
  figure.replaceChildren();
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  figure.append(caption);
  const width = widthOf(figure);
  const label = `${title}: ` + (rows.map((r) => `${r.name} ${shortChange(r.change)}`).join(", ") || "none");
  const svg = draw(figure, "svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
  const largest = Math.max(...rows.map((r) => Math.abs(r.change) + (r.reach || 0)), 1e-300);
  const x = (value) => left + (Math.max(value, 0) / largest) * (width - left - 72);
  rows.forEach(({ name, change, reach }, k) => {
    const middle = 12 + step * k;
    const size = Math.abs(change);
    fitText(draw(svg, "text", { x: left - 6, y: middle + 4, "text-anchor": "end" }, name), left - 8);
    draw(svg, "rect", { class: lower ? "bar lower" : "bar", x: left, y: middle - 7, width: x(size) - left, height: 14 });
    if (reach) draw(svg, "line",
      { class: "whisker", x1: x(size - reach), x2: x(size + reach), y1: middle, y2: middle });
    draw(svg, "text", { x: x(size + (reach || 0)) + 6, y: middle + 4 }, shortChange(change));
  });
  if (!rows.length) draw(svg, "text", { x: left, y: 16 }, "none");
}

// Predicted against retrained: circles for the subsets of the calibration, squares for those that were checked.
function drawAgreement(figure, points, checks, yName, label) {
  const all = known([...points, ...checks].flatMap((p) => [p.predicted, p.truth, p.low, p.high]));
  const range = [Math.min(...all), Math.max(...all)];
  const margin = 0.05 * (range[1] - range[0]) || 0.01;
  const ends = [range[0] - margin, range[1] + margin];
  const { svg, x, y } = axes(figure, label, ends, range, `${yName}, retrained`, `${yName}, predicted`, 400);
  draw(svg, "line", { class: "diagonal", x1: x(range[0]), x2: x(range[1]), y1: y(range[0]), y2: y(range[1]) });
  [...points, ...checks].forEach((point, k) => {
    if (known([point.low, point.high]).length === 2)
      draw(svg, "line", { class: k < points.length ? "whisker faint" : "whisker", x1: x(point.truth), x2: x(point.truth), y1: y(point.low), y2: y(point.high) });
    if (k < points.length) draw(svg, "circle", { class: "point", cx: x(point.truth), cy: y(point.predicted), r: 4 });
    else draw(svg, "rect",
      { class: "truth", x: x(point.truth) - 5, y: y(point.predicted) - 5, width: 10, height: 10 });
  });
}
