/**
 * Alignment of a small recommender: score(position, item) = ⟨state of the position, vector of the item⟩. The vectors of
 * the items learn, the states stay, and so does the reference. A step takes B positions at random, rejects one item at
 * each, and descends by the mean of the gradients of mathematics.js,
 *
 *     ∂L/∂v(j) = (1/B) Σ over the B positions  ∂L/∂s(j) · state,        v(j) ← v(j) − rate · ∂L/∂v(j).
 *
 * It mirrors rodpo_lite/training/alignment.py with plain gradient descent in place of Adam, and companion/demonstrations/lab.py
 * is its twin.
 *
 * Axes: U users, N items, P positions, D width; tables are flat, row after row.
 *
 * @typedef {{vectors: Float64Array, states: Float64Array, last: Float64Array}} Reference item vectors [N, D], states of
 *   the positions [P, D], and of each user's whole history [U, D]
 * @typedef {{users: number, items: number, width: number, user: Uint16Array, positive: Uint16Array, liked: Uint8Array,
 *   owned: Uint8Array, references: Reference[]}} World user and positive [P] of each position; liked and owned [U, N],
 *   1 for what a user would like, and for what is in the log
 * @typedef {Settings & {hidden: number, batch: number}} RaceSettings hidden:
 *   the share of what users would like, and the log does not show, that may be rejected; the rest is spared
 */
import { draw, margin, mulberry32, ndcg, slopes, suppression } from "./mathematics.js";

const SHOWN_SEED = 7; // of the choice of what is spared: the same for every run

/** Bytes of a base64 text. */
function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** A table that was rounded to 8 bits: whole numbers from −127 to 127, times their unit. */
function table({ unit, values }) {
  return Float64Array.from(new Int8Array(bytes(values).buffer), (value) => unit * value);
}

/** Truth values, packed eight to a byte, the first in the highest bit. */
function truths(text, count) {
  const packed = bytes(text);
  return Uint8Array.from({ length: count }, (_, place) => (packed[place >> 3] >> (7 - (place & 7))) & 1);
}

/**
 * The world as companion/demonstrations/lab.py wrote it.
 * @returns {World}
 */
export function readWorld({ users, items, width, user, positive, liked, owned, references }) {
  return {
    users, items, width,
    user: new Uint16Array(bytes(user).buffer),
    positive: new Uint16Array(bytes(positive).buffer),
    liked: truths(liked, users * items),
    owned: truths(owned, users * items),
    references: references.map(({ vectors, states, last }) => ({
      vectors: table(vectors), states: table(states), last: table(last),
    })),
  };
}

/**
 * What may be rejected, [U, N]: nothing in the log, and of the rest of what is liked only the share that is hidden.
 * @param {World} world
 */
export function eligibleItems({ liked, owned }, hidden) {
  const chance = mulberry32(SHOWN_SEED);
  return owned.map((isOwned, place) => {
    const spared = chance() >= hidden && liked[place];
    return isOwned || spared ? 0 : 1;
  });
}

/**
 * left · rightᵀ, [A, C] of [A, D] and [C, D], four rows at a time: a sum alone waits for itself.
 * @param {Float64Array} into [A, C]
 */
function products(left, right, width, into) {
  const [rows, columns] = [left.length / width, right.length / width];
  for (let j = 0, from = 0; j < columns; j++, from += width) {
    for (let n = 0; n < rows; n += 4) {
      let a = 0, b = 0, c = 0, e = 0;
      for (let d = 0, at = n * width; d < width; d++, at++) {
        const value = right[from + d];
        a += value * left[at];
        b += value * left[at + width];
        c += value * left[at + 2 * width];
        e += value * left[at + 3 * width];
      }
      const at = n * columns + j;
      into[at] = a;
      into[at + columns] = b;
      into[at + 2 * columns] = c;
      into[at + 3 * columns] = e;
    }
  }
}

/**
 * vectors − size · slopesᵀ · states, where vectors [N, D] are; slopes [B, N], states [B, D]. Four columns at a time.
 */
function descend(vectors, slopes, states, width, size) {
  const [items, rows] = [vectors.length / width, states.length / width];
  for (let j = 0; j < items; j++) {
    for (let d = 0; d < width; d += 4) {
      let a = 0, b = 0, c = 0, e = 0;
      for (let n = 0, at = d; n < rows; n++, at += width) {
        const slope = slopes[n * items + j];
        a += slope * states[at];
        b += slope * states[at + 1];
        c += slope * states[at + 2];
        e += slope * states[at + 3];
      }
      const at = j * width + d;
      vectors[at] -= size * a;
      vectors[at + 1] -= size * b;
      vectors[at + 2] -= size * c;
      vectors[at + 3] -= size * e;
    }
  }
}

/** A run from one reference; B, U and D are multiples of 4. */
export class Alignment {
  /**
   * @param {World} world
   * @param {number} reference which of the world's
   * @param {Selector} selector
   * @param {RaceSettings} settings
   * @param {number} seed of the positions and of what is rejected at them
   */
  constructor(world, reference, selector, settings, seed) {
    const { vectors, states, last } = world.references[reference];
    Object.assign(this, { world, selector, settings, states, last, frozen: vectors, vectors: vectors.slice() });
    this.eligible = eligibleItems(world, settings.hidden); // [U, N]
    this.random = mulberry32(seed);
    this.block = new Float64Array(settings.batch * world.width); // states of a step, [B, D]
    this.scores = new Float64Array(settings.batch * world.items); // [B, N]
    this.lists = new Float64Array(world.users * world.items); // scores for the users' lists, [U, N]
    /** Push on what the user would like, and on the rest: means over the positions, added up over the steps. */
    this.wrong = 0;
    this.right = 0;
  }

  /** One step; changes the vectors. */
  step() {
    const { world: { items, width, user }, states, vectors, block, scores, settings: { batch, rate } } = this;
    const drawn = Array.from({ length: batch }, () => [Math.floor(this.random() * user.length), this.random()]);
    drawn.forEach(([position], n) => {
      block.set(states.subarray(position * width, (position + 1) * width), n * width);
    });
    products(block, vectors, width, scores);
    drawn.forEach(([position, u], n) => this.reject(position, u, scores.subarray(n * items, (n + 1) * items)));
    descend(vectors, scores, block, width, rate / batch);
  }

  /** Reject an item at a position where chance says u, and turn its scores into slopes. */
  reject(position, u, scores) {
    const { world, settings, selector, eligible } = this;
    const [user, positive] = [world.user[position], world.positive[position]];
    const row = user * world.items;
    const negative = draw(selector, scores, eligible.subarray(row, row + world.items), settings.k, u);
    let push = 0;
    if (negative >= 0) {
      const before = [positive, negative].map((item) => this.scoreBefore(position, item));
      push = suppression(settings.beta, margin(scores[positive], scores[negative], ...before));
      this[world.liked[row + negative] ? "wrong" : "right"] += push / settings.batch;
    }
    slopes(scores, positive, negative, push, settings.lambda);
  }

  /** The reference's score of an item. */
  scoreBefore(position, item) {
    const { frozen, states, world: { width } } = this;
    let sum = 0;
    for (let d = 0; d < width; d++) sum += frozen[item * width + d] * states[position * width + d];
    return sum;
  }

  /** Mean NDCG@5 of what users would like and do not have, over the users who would like something. */
  ndcg() {
    const { world: { users, items, width, liked, owned }, last, lists } = this;
    products(last, this.vectors, width, lists);
    let [sum, count] = [0, 0];
    for (let from = 0; from < users * items; from += items) {
      const [scores, wanted, known] = [lists, liked, owned].map((table) => table.subarray(from, from + items));
      const one = ndcg(scores, wanted, known);
      if (!Number.isNaN(one)) [sum, count] = [sum + one, count + 1];
    }
    return sum / count;
  }
}
