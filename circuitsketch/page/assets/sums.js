// Answers from single examples' series, summed in the browser: what a page without a server can say.
// In: the data of `static_page.py`. Out: `askSums(data, ids)`, of the form of `View.ask`; the same numbers as Python's.
"use strict";

const STRENGTHS = Array.from({ length: 13 }, (_, k) => k / 12);
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

// The parts that are weighed, first order and the whole series, at some ids removed by t: changes and errors per part.
function predictParts(measured, column, ids, t) {
  const { terms, exact } = measured;
  const first = t * sum(ids.map((i) => terms[0][column][i]));
  const every = sum(terms.map((term, r) => t ** (r + 1) * sum(ids.map((i) => term[column][i]))));
  const apart = t * Math.sqrt(sum(ids.map((i) => terms[0][column][i] ** 2)));
  const known = (ids.length === 1 && t === 1 && exact[ids[0]]) || !ids.length || t === 0;
  const changes = terms.length > 1 ? [first, every] : [first];
  const errors = changes.map((change, k) => (known && k === changes.length - 1 ? 0 : Math.hypot(change, apart)));
  return { changes, errors };
}

// What some ids removed by t have in common with each retrained subset: 1 and its squared effect per example.
function overlapWith(measured, column, ids, t) {
  const { subsets } = measured.calibration;
  if (!subsets) return [];
  const gradient = measured.terms[0][column];
  const square = measured.scales[column] ** 2;
  const chosen = new Set(ids);
  return subsets.map((subset) =>
    t * sum(subset.filter((i) => chosen.has(i)).map((i) => 1 + gradient[i] ** 2 / square)));
}

// The change by one fit: weighed parts, and what it has learned from the retrained subsets.
function applyFit(fit, column, changes, size, overlap) {
  const weighed = changes.map((change, k) => (fit.weights[k][column] ? change * fit.weights[k][column] : 0));
  const learned = fit.shares ? sum(fit.shares[column].map((share, j) => share * overlap[j])) : 0;
  return sum(weighed) + (fit.perSize ? fit.perSize[column] * size : 0) + learned;
}

// How large an error may be, by the scale that a fit found: a power of the size, or the best part's own error.
function scaleOf(fit, column, size, errors, powers) {
  const power = powers[fit.scale[column]];
  if (power !== undefined) return size ** power;
  const best = fit.best[column];
  return best === errors.length ? NaN : errors[best];
}

// The change and its interval by the jackknife+; the ends are null where nothing is known of the error.
function estimate(measured, column, ids, t) {
  const { changes, errors } = predictParts(measured, column, ids, t);
  const exact = errors.indexOf(0);
  if (exact >= 0) return { change: changes[exact], low: changes[exact], high: changes[exact] };
  const fitted = measured.calibration;
  if (!fitted) return { change: changes[changes.length - 1], low: null, high: null };
  const size = t * t * ids.length;
  const overlap = overlapWith(measured, column, ids, t);
  const change = applyFit(fitted.fit, column, changes, size, overlap);
  const count = fitted.leftOut.length;
  const rank = Math.ceil(fitted.level * (count + 1) - 1e-9);
  if (rank > count) return { change, low: null, high: null };
  const ends = fitted.leftOut.map((fit, j) => {
    const reach = scaleOf(fit, column, size, errors, fitted.powers) * fitted.scores[j][column];
    const centre = applyFit(fit, column, changes, size, overlap);
    return [centre - reach, centre + reach];
  });
  const sorted = [0, 1].map((end) => ends.map((pair) => pair[end]).sort((a, b) => a - b));
  return { change, low: sorted[0][count - rank], high: sorted[1][rank - 1] };
}

// How much the examples act in one direction: |sum g| over the root of sum |g|^2, each value on its own scale.
function coherence(measured, ids) {
  let together = 0;
  let apart = 0;
  measured.terms[0].forEach((gradient, column) => {
    const scale = measured.scales[column];
    together += (sum(ids.map((i) => gradient[i])) / scale) ** 2;
    apart += sum(ids.map((i) => (gradient[i] / scale) ** 2));
  });
  return apart > 0 ? Math.sqrt(together / apart) : 0;
}

function shareLabel(labels, ids) {
  if (!labels || ids.length < 2 || ids.some((i) => labels[i] !== labels[ids[0]])) return false;
  const counts = new Map();
  labels.forEach((label) => counts.set(label, (counts.get(label) || 0) + 1));
  return counts.size * (counts.get(labels[ids[0]]) / labels.length) ** ids.length < 0.05;
}

function warningsOf(measured, data, ids, changes) {
  const fitted = measured.calibration;
  if (ids.length === 1 && measured.exact[ids[0]]) return [];
  if (!fitted) return ["nothing is known of the error of a sum: no subsets were retrained to compare it with"];
  const [low, high] = fitted.sizes;
  const unknown = "the interval is not known to hold";
  if (ids.length < low || ids.length > high)
    return [`size ${ids.length}, and calibrated on subsets of sizes ${low} to ${high}: ${unknown} there`];
  if (coherence(measured, ids) > fitted.margin * fitted.coherence)
    return [`these examples act more in one direction than those of the calibration: ${unknown} for them`];
  if (shareLabel(data.labels, ids))
    return [`these examples share a label, and those of the calibration do not: ${unknown} for them`];
  if (changes.some((change, c) => Math.abs(change) > fitted.margin * fitted.largest[c]))
    return [`the predicted change is larger than any that was retrained: ${unknown} there`];
  return [];
}

function askSums(data, ids) {
  const begin = performance.now();
  const values = [];
  const warnings = [];
  data.sums.forEach((measured) => {
    const changes = [];
    measured.baselines.forEach((baseline, column) => {
      const curve = STRENGTHS.map((t) => estimate(measured, column, ids, t));
      const end = curve[curve.length - 1];
      const at = (key) => (one) => (one[key] === null ? null : baseline + one[key]);
      changes.push(end.change);
      values.push({
        value: baseline + end.change, change: end.change, low: at("low")(end), high: at("high")(end), outside: 0,
        curve: { value: curve.map(at("change")), low: curve.map(at("low")), high: curve.map(at("high")) },
        terms: ids.length ? measured.terms.map((term, r) => (
          { order: r + 1, term: sum(ids.map((i) => term[column][i])), stderr: null })) : [],
        pairs: [],
      });
    });
    const prefix = data.sums.length > 1 ? `${measured.name}: ` : "";
    if (ids.length) warnings.push(...warningsOf(measured, data, ids, changes).map((text) => prefix + text));
  });
  return {
    ids, strengths: STRENGTHS, values, warnings: [...new Set(warnings)], truth: null,
    words: ids.length ? "single examples' effects, summed" : "the trained model",
    pair_note: "A page without a server knows single examples only.", seconds: (performance.now() - begin) / 1000,
  };
}
