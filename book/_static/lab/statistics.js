/**
 * The interval of a change over the same users and seeds, as rodpo_lite/evaluation/statistics.py computes it
 * (`crossed_change`); tests/companion/site/test_lab.py compares.
 *
 * Axes: S seeds, U users; tables are flat, a seed after the other.
 */

/** log Γ(x) for x > 0 (Lanczos 1964, the coefficients of Godfrey 2001). */
function logGamma(x) {
  const coefficients = [676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
    12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7];
  if (x < 0.5) return Math.log(Math.PI / Math.abs(Math.sin(Math.PI * x))) - logGamma(1 - x);
  const base = x + 6.5;
  const sum = coefficients.reduce((total, one, place) => total + one / (x + place), 0.99999999999980993);
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(base) - base + Math.log(sum);
}

/** The regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz 1976). */
function incompleteBeta(x, a, b) {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
  const kept = (value) => (Math.abs(value) < 1e-300 ? 1e-300 : value);
  let c = 1;
  let d = 1 / kept(1 - ((a + b) * x) / (a + 1));
  let fraction = d;
  for (let m = 1, ratio = 0; m < 500 && Math.abs(ratio - 1) > 1e-15; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    for (const step of [even, odd]) {
      d = 1 / kept(1 + step * d);
      c = kept(1 + step / c);
      ratio = c * d;
      fraction *= ratio;
    }
  }
  const front = logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x);
  return (Math.exp(front) * fraction) / a;
}

/** The value that Student's t with so many degrees of freedom stays within in 95 of 100 cases. */
export function studentLimit(freedom) {
  const beyond = (t) => incompleteBeta(freedom / (freedom + t * t), freedom / 2, 0.5);
  let [low, high] = [1.9, 4];
  while (beyond(high) > 0.05) high *= 2; // with less than one degree of freedom it lies far out
  for (let round = 0; round < 60; round++) {
    const middle = (low + high) / 2;
    if (beyond(middle) > 0.05) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/**
 * Change of the mean from `before` to `after` in percent, with its 95 % interval, for S seeds crossed with U users: the
 * variance of the mean in a two-way random model, with Satterthwaite's degrees of freedom.
 * @param {Float64Array} before [S, U]
 * @param {Float64Array} after [S, U]
 * @param {number} seeds S
 * @param {number} more users beside these U whose values are all 0
 * @returns {{change: number, low: number, high: number}}
 */
export function crossedChange(before, after, seeds, more = 0) {
  const listed = before.length / seeds;
  const users = listed + more;
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const [mean, ratio] = [sum(before) / (seeds * users), sum(after) / sum(before)];
  const rest = before.map((value, place) => (100 * (after[place] - ratio * value)) / mean); // percent; its mean is 0
  const bySeed = Array.from({ length: seeds }, (_, s) => sum(rest.subarray(s * listed, (s + 1) * listed)) / users);
  const byUser = new Float64Array(listed);
  rest.forEach((value, place) => { byUser[place % listed] += value / seeds; });
  const squares = (values) => sum(values.map((value) => value * value));
  const parts = [[users - 1, seeds * squares(byUser)]];
  if (seeds > 1) {
    const left = rest.map((value, place) => value - bySeed[Math.floor(place / listed)] - byUser[place % listed]);
    parts.push([seeds - 1, users * squares(bySeed)]);
    parts.push([(seeds - 1) * (users - 1), -(squares(left) + more * squares(bySeed))]);
  }
  const terms = parts.map(([freedom, total]) => [total / freedom / (seeds * users), freedom]);
  const total = sum(terms.map(([value]) => value));
  // Where the rest is larger than what it is taken from, the largest of the three is still a bound.
  const variance = Math.max(total, ...terms.map(([value]) => Math.abs(value)));
  const freedom = variance ** 2 / sum(terms.map(([value, of]) => value ** 2 / of));
  const [change, half] = [100 * (ratio - 1), studentLimit(freedom) * Math.sqrt(variance)];
  return { change, low: change - half, high: change + half };
}
