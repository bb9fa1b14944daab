/**
 * The mathematics of one position: a user has taken the item i⁺, a selector rejects another one, i⁻, and one step of
 * gradient descent on the scores s of a softmax policy follows. The reference r is frozen.
 *
 *     π(j)  = exp s(j) / Σ exp s                         policy
 *     h     = [s(i⁺) − s(i⁻)] − [r(i⁺) − r(i⁻)]          margin; the normalisers cancel
 *     L     = −log σ(β h) − λ log π(i⁺)                  DPO, and the cross-entropy anchor
 *     w     = ∂L/∂s(i⁻) without the anchor = β σ(−β h)   suppression: how hard i⁻ is pushed down
 *     ∂L/∂s(j) = w [j = i⁻] − w [j = i⁺] + λ (π(j) − [j = i⁺])
 *
 * It mirrors rodpo_lite/losses/preference.py (`dpo`), rodpo_lite/losses/cross_entropy.py, rodpo_lite/sampling/selectors.py
 * (`hard`, `topk`, `uniform`) and rodpo_lite/evaluation/metrics.py (`ndcg`); tests/companion/site/test_lab.py compares.
 *
 * Axes: N items. An item is its place in the arrays; ties go to the earlier one.
 *
 * @typedef {"hard" | "topk" | "uniform" | "none"} Selector what is rejected: the best eligible item, one of the best K,
 *   any eligible one, or nothing, which leaves the anchor
 * @typedef {{k: number, beta: number, lambda: number, rate: number}} Settings pool size K, β, λ, and the size of a step
 */

/**
 * A small generator of random numbers in [0, 1) that is the same everywhere: mulberry32 (T. Ettinger, public domain).
 * @param {number} seed a whole number
 * @returns {() => number}
 */
export function mulberry32(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 4294967296;
  };
}

/** σ(x), without overflow. */
export function sigmoid(x) {
  return x < 0 ? Math.exp(x) / (1 + Math.exp(x)) : 1 / (1 + Math.exp(-x));
}

/**
 * π, [N].
 * @param {ArrayLike<number>} scores [N]
 * @param {Float64Array} [into] where the result goes
 */
export function softmax(scores, into = new Float64Array(scores.length)) {
  let highest = -Infinity;
  for (let j = 0; j < scores.length; j++) if (scores[j] > highest) highest = scores[j];
  let total = 0;
  for (let j = 0; j < scores.length; j++) total += into[j] = Math.exp(scores[j] - highest);
  for (let j = 0; j < scores.length; j++) into[j] /= total;
  return into;
}

/** h, of the scores of two items by policy and reference. */
export function margin(policyPositive, policyNegative, referencePositive, referenceNegative) {
  return policyPositive - policyNegative - (referencePositive - referenceNegative);
}

/** w = β σ(−β h). */
export function suppression(beta, h) {
  return beta * sigmoid(-beta * h);
}

/**
 * How many items may be rejected.
 * @param {ArrayLike<number | boolean>} eligible [N], which of them
 */
function countEligible(eligible) {
  let count = 0;
  for (let j = 0; j < eligible.length; j++) if (eligible[j]) count++;
  return count;
}

/** The eligible items, best score first. */
export function ranking(scores, eligible) {
  const items = [];
  for (let j = 0; j < scores.length; j++) if (eligible[j]) items.push(j);
  return items.sort((a, b) => scores[b] - scores[a] || a - b);
}

/** How many of the best items a selector draws from, each alike. */
function poolSize(selector, k, count) {
  return { none: 0, hard: Math.min(1, count), topk: Math.min(k, count), uniform: count }[selector];
}

/**
 * The law of one draw: the probability of each item, [N].
 * @param {Selector} selector
 */
export function law(selector, scores, eligible, k) {
  const probabilities = new Float64Array(scores.length);
  const size = poolSize(selector, k, countEligible(eligible));
  for (const item of ranking(scores, eligible).slice(0, size)) probabilities[item] = 1 / size;
  return probabilities;
}

/**
 * The item that a selector rejects where chance says u in [0, 1): the eligible item of rank ⌊u · size of its pool⌋, or
 * for `uniform`, which needs no ranks, the one of that number in the order of the catalogue. −1 if it rejects nothing.
 * @param {Selector} selector
 */
export function draw(selector, scores, eligible, k, u) {
  const count = countEligible(eligible);
  const size = poolSize(selector, k, count);
  if (!size) return -1;
  const number = Math.floor(u * size);
  return selector === "uniform" ? nthEligible(eligible, number) : nthBest(scores, eligible, count, number);
}

function nthEligible(eligible, number) {
  for (let j = 0; ; j++) if (eligible[j] && !number--) return j;
}

/** The eligible item of a rank, counted from 0, without sorting (Hoare's quickselect). */
function nthBest(scores, eligible, count, rank) {
  if (rank === 0) {
    let best = -1;
    for (let j = 0; j < scores.length; j++) if (eligible[j] && (best < 0 || scores[j] > scores[best])) best = j;
    return best;
  }
  const items = new Int32Array(count);
  for (let j = 0, place = 0; j < scores.length; j++) if (eligible[j]) items[place++] = j;
  const better = (a, b) => scores[a] > scores[b] || (scores[a] === scores[b] && a < b);
  for (let low = 0, high = count - 1; low < high; ) {
    const pivot = items[(low + high) >> 1];
    let left = low;
    let right = high;
    while (left <= right) {
      while (better(items[left], pivot)) left++;
      while (better(pivot, items[right])) right--;
      if (left <= right) [items[left++], items[right--]] = [items[right], items[left]];
    }
    if (rank <= right) high = right;
    else if (rank >= left) low = left;
    else break;
  }
  return items[rank];
}

/**
 * Turn scores [N] into the slopes ∂L/∂s(j) = w [j = i⁻] − w [j = i⁺] + λ (π(j) − [j = i⁺]), where they are.
 * @param {Float64Array} scores s, [N]
 * @param {number} positive i⁺
 * @param {number} negative i⁻, or −1
 * @param {number} push w, 0 if nothing is rejected
 */
export function slopes(scores, positive, negative, push, lambda) {
  if (lambda > 0) {
    softmax(scores, scores);
    for (let j = 0; j < scores.length; j++) scores[j] *= lambda;
  } else {
    scores.fill(0);
  }
  scores[positive] -= lambda + push;
  if (negative >= 0) scores[negative] += push;
  return scores;
}

/**
 * One step of gradient descent on the scores, which it changes; tells which item was rejected and how hard.
 * @param {Float64Array} policy s, [N]
 * @param {Selector} selector
 * @param {Settings} settings
 * @param {number} u chance, in [0, 1)
 */
export function step(policy, reference, positive, eligible, selector, settings, u) {
  const negative = draw(selector, policy, eligible, settings.k, u);
  const [now, before] = [policy, reference].map((scores) => [scores[positive], scores[negative]]);
  const push = negative < 0 ? 0 : suppression(settings.beta, margin(...now, ...before));
  const slope = slopes(policy.slice(), positive, negative, push, settings.lambda);
  for (let j = 0; j < policy.length; j++) policy[j] -= settings.rate * slope[j];
  return { negative, push };
}

/**
 * NDCG of all items that a user wants: 1 / log2(rank + 2) of each among the best `cutoff` (ranks from 0), over the most
 * that they could add up to. NaN for a user who wants nothing.
 * @param {ArrayLike<number>} scores [N]
 * @param {ArrayLike<number | boolean>} wanted [N]
 * @param {ArrayLike<number | boolean>} [dropped] [N], which items the list leaves out; none by default
 */
export function ndcg(scores, wanted, dropped = [], cutoff = 5) {
  const best = [];
  let count = 0;
  for (let j = 0; j < scores.length; j++) {
    if (dropped[j]) continue;
    if (wanted[j]) count++;
    if (best.length === cutoff && scores[j] <= scores[best[cutoff - 1]]) continue;
    let place = best.length === cutoff ? cutoff - 1 : best.length;
    for (; place > 0 && scores[j] > scores[best[place - 1]]; place--) best[place] = best[place - 1];
    best[place] = j;
  }
  let gain = 0;
  let most = 0;
  for (let rank = 0; rank < cutoff; rank++) {
    if (rank < best.length && wanted[best[rank]]) gain += 1 / Math.log2(rank + 2);
    if (rank < count) most += 1 / Math.log2(rank + 2);
  }
  return gain / most;
}
