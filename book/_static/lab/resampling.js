/**
 * Recorded runs drawn again: fewer or more users and seeds, and a true change of one's own. companion/findings/power.py
 * writes what is drawn from.
 *
 * @typedef {{seeds: number, users: number, zeros: number, before: Float64Array, rest: Float64Array}} Known NDCG@5 before
 *   and what is left of after without the mean change, [S, U], a seed after the other; zeros: how many users beside these
 *   have none in any run
 */
import { crossedChange } from "./statistics.js";

/**
 * The runs as they were written: for each seed and user the places of before and after among a few levels.
 * @returns {Known}
 */
export function readRuns({ levels, seeds, pairs, zeros }) {
  const codes = Uint8Array.from(atob(pairs), (letter) => letter.charCodeAt(0)); // before · levels + after
  const before = Float64Array.from(codes, (code) => levels[Math.floor(code / levels.length)]);
  const after = Float64Array.from(codes, (code) => levels[code % levels.length]);
  const [sumBefore, sumAfter] = [before, after].map((values) => values.reduce((total, value) => total + value, 0));
  const rest = after.map((value, place) => value - (sumAfter / sumBefore) * before[place]);
  return { seeds, users: codes.length / seeds, zeros, before, rest };
}

/**
 * The change that one repetition shows: users and seeds are drawn with replacement, and `effect` percent are true.
 * @param {Known} known
 * @param {{users: number, seeds: number, effect: number}} settings
 * @param {() => number} random
 */
export function repetition(known, { users, seeds, effect }, random) {
  const share = known.users / (known.users + known.zeros);
  const drawn = [];
  for (let n = 0; n < users; n++) if (random() < share) drawn.push(Math.floor(random() * known.users));
  const [before, after] = [new Float64Array(seeds * drawn.length), new Float64Array(seeds * drawn.length)];
  for (let s = 0; s < seeds; s++) {
    const row = Math.floor(random() * known.seeds) * known.users;
    drawn.forEach((user, place) => {
      const [at, value] = [s * drawn.length + place, known.before[row + user]];
      before[at] = value;
      after[at] = (1 + effect / 100) * value + known.rest[row + user];
    });
  }
  return crossedChange(before, after, seeds, users - drawn.length);
}
