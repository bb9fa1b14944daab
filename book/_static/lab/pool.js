/** The pool, by hand: one customer of a small shop, and three selectors that reject on the same scores. */
import { law, mulberry32, ndcg, ranking, step } from "./mathematics.js";
import { lineChart } from "./chart.js";
import { controls, copyOf, fill, guesses, mayMove, number, show, worded } from "./page.js";

const LOWEST = -1, HIGHEST = 6; // ends of every bar's axis
const MOST_STEPS = 40, MOST_PUSH = 6; // ends of the axes of chart and meters
const RATE = 4; // size of a step
const PAUSE = 320; // ms between steps that are taken by themselves

const place = (score) => (100 * (Math.min(Math.max(score, LOWEST), HIGHEST) - LOWEST)) / (HIGHEST - LOWEST);

/** What a selector has made of the shop: scores after every step, and what was rejected in each. */
class Column {
  constructor(section, root, names) {
    this.section = section;
    this.selector = section.dataset.selector;
    this.rows = names.map((name) => this.row(section.querySelector("ol"), root, name));
    section.append(copyOf(root, "meters"));
  }

  row(list, root, name) {
    const row = list.appendChild(copyOf(root, "row"));
    row.querySelector(".lab-name").textContent = name;
    for (const part of row.querySelectorAll("[data-label]")) {
      part.setAttribute("aria-label", worded(part.dataset.label, { name }));
    }
    return row;
  }

  restart(reference) {
    this.scores = [Float64Array.from(reference)];
    this.rejected = [];
  }

  get now() {
    return this.scores.at(-1);
  }
}

class Shop {
  constructor(root) {
    this.root = root;
    const items = [...root.querySelectorAll(".lab-shop li")];
    this.names = items.map((item) => item.textContent);
    this.taken = items.findIndex((item) => item.dataset.taken);
    this.takenWord = items[this.taken].dataset.taken;
    this.reference = items.map((item) => Number(item.dataset.score));
    this.liked = items.map(() => false);
    this.eligible = items.map((_, item) => item !== this.taken);
    this.columns = [...root.querySelectorAll("[data-selector]")].map((one) => new Column(one, root, this.names));
    this.seed = 1;
    this.controls = controls(root, () => this.render());
    const svg = root.querySelector("[data-chart] svg");
    this.chart = lineChart(svg, { x: [0, 10, 20, 30, 40], y: [0, 0.5, 1], format: (value) => number(value, 1) });
    this.listen();
    this.startOver();
  }

  get steps() {
    return this.columns[0].rejected.length;
  }

  startOver(word = "") {
    clearTimeout(this.timer);
    this.random = mulberry32(this.seed);
    for (const column of this.columns) column.restart(this.reference);
    this.render();
    if (word) this.say(word);
  }

  /** One step of all columns, each with the same luck. */
  step() {
    if (this.steps === MOST_STEPS) return;
    const [settings, luck] = [{ ...this.controls.values(), rate: RATE }, this.random()];
    for (const column of this.columns) {
      const scores = column.now.slice();
      column.rejected.push(
        step(scores, this.reference, this.taken, this.eligible, column.selector, settings, luck),
      );
      column.scores.push(scores);
    }
    this.render();
  }

  /** Several steps, one after the other where things may move; then `done`. */
  walk(count, done = () => {}) {
    clearTimeout(this.timer);
    if (count === 0) {
      this.sayStep();
      return done();
    }
    this.step();
    if (mayMove()) this.timer = setTimeout(() => this.walk(count - 1, done), PAUSE);
    else this.walk(count - 1, done);
  }

  say(word, values = {}) {
    const place = this.root.querySelector(".lab-said");
    place.textContent = worded(place.dataset[word], values);
  }

  sayStep() {
    const last = this.columns.map(({ selector, rejected }) => [selector, this.names[rejected.at(-1).negative]]);
    this.say("step", Object.fromEntries(last));
  }

  /** Push that fell on what the customer would like, or on the rest, in points of the score. */
  pushed(column, wrong) {
    return RATE * column.rejected.reduce((sum, { negative, push }) => sum + (this.liked[negative] === wrong ? push : 0), 0);
  }

  ndcg(scores) {
    return ndcg(scores, this.liked, this.names.map((_, item) => item === this.taken));
  }

  render() {
    const { k } = this.controls.values();
    for (const column of this.columns) this.renderColumn(column, k);
    const isMarked = this.liked.includes(true);
    const lines = this.columns.map(({ selector: name, scores }) => ({
      name, points: isMarked ? scores.map((after, at) => [at, this.ndcg(after)]) : [],
    }));
    this.chart(lines);
    this.root.querySelector(".lab-nothing").hidden = isMarked;
    fill(this.root, { steps: this.steps });
    for (const name of ["step", "ten"]) {
      this.root.querySelector(`[data-do="${name}"]`).disabled = this.steps === MOST_STEPS;
    }
  }

  /** What the answers of the page quote: draws by selector and item, and NDCG. */
  counts() {
    const values = {};
    for (const { selector, rejected, now } of this.columns) {
      values[`ndcg.${selector}`] = number(this.ndcg(now));
      this.names.forEach((name, item) => {
        values[`hits.${selector}.${name}`] = rejected.filter(({ negative }) => negative === item).length;
      });
    }
    return values;
  }

  renderColumn(column, k) {
    const { now, rows, rejected, scores, section } = column;
    const chances = law(column.selector, now, this.eligible, k);
    const order = ranking(now, rows.map(() => true));
    const last = rejected.at(-1)?.negative;
    const before = scores.at(-2) ?? now;
    rows.forEach((row, item) => {
      const isTaken = item === this.taken;
      row.classList.toggle("is-taken", isTaken);
      row.classList.toggle("is-liked", this.liked[item]);
      row.classList.toggle("is-eligible", chances[item] > 0);
      row.style.setProperty("--rank", order.indexOf(item));
      row.querySelector(".lab-rank").textContent = order.indexOf(item) + 1;
      this.renderTrack(row.querySelector(".lab-track"), now[item], before[item], this.reference[item],
        item === last || (isTaken && rejected.length > 0));
      row.querySelector("button").setAttribute("aria-pressed", this.liked[item]);
    });
    for (const part of ["wrong", "right"]) {
      const amount = this.pushed(column, part === "wrong");
      section.querySelector(`[data-part="${part}"]`).textContent = number(amount);
      section.querySelector(`.lab-${part} i`).style.width = `${Math.min(100, (100 * amount) / MOST_PUSH)}%`;
    }
  }

  renderTrack(track, now, before, start, isPushed) {
    track.querySelector(".lab-bar").style.width = `${place(now)}%`;
    const span = (element, from, to) => {
      element.style.left = `${Math.min(place(from), place(to))}%`;
      element.style.width = `${Math.abs(place(from) - place(to))}%`;
    };
    span(track.querySelector(".lab-start"), now, start);
    track.querySelector(".lab-start").classList.toggle("is-below", now < start);
    const push = track.querySelector(".lab-push");
    push.hidden = !isPushed;
    push.classList.toggle("is-up", now > before);
    span(push, before, now);
    track.setAttribute("aria-valuenow", number(start, 1));
  }

  toggle(item) {
    this.liked[item] = !this.liked[item];
    this.render();
  }

  /** Another score at the start: the reference changes, so it all begins anew. */
  setScore(item, score) {
    this.reference[item] = Math.min(Math.max(Math.round(10 * score) / 10, LOWEST), HIGHEST);
    this.startOver("changed");
  }

  listen() {
    this.columns.forEach((column, number) => column.rows.forEach((row, item) => {
      const [button, track] = [row.querySelector("button"), row.querySelector(".lab-track")];
      if (item === this.taken) {
        button.hidden = true;
        row.querySelector(".lab-taken").textContent = this.takenWord;
      }
      button.addEventListener("click", () => this.toggle(item));
      // By keyboard one column is enough: all three begin at the same scores.
      if (number === 0) track.tabIndex = 0;
      else [button.tabIndex, track.tabIndex] = [-1, -1];
      track.addEventListener("keydown", (event) => this.moveByKey(event, item));
      track.addEventListener("pointerdown", (event) => this.drag(event, track, item));
    }));
    const actions = {
      step: () => this.walk(1),
      ten: () => this.walk(Math.min(10, MOST_STEPS - this.steps)),
      over: () => { this.seed += 1; this.startOver("over"); },
    };
    for (const button of this.root.querySelectorAll("[data-do]")) {
      button.addEventListener("click", () => actions[button.dataset.do]?.());
    }
    guesses(this.root, (data) => this.act(data));
  }

  moveByKey(event, item) {
    const by = { ArrowRight: 0.1, ArrowUp: 0.1, ArrowLeft: -0.1, ArrowDown: -0.1, PageUp: 1, PageDown: -1 }[event.key];
    const to = { Home: LOWEST, End: HIGHEST }[event.key];
    if (by === undefined && to === undefined) return;
    event.preventDefault();
    this.setScore(item, to ?? this.reference[item] + by);
  }

  /** A bar follows the pointer, once that has clearly moved; where it has not, the flavour is marked. */
  drag(event, track, item) {
    const [begin, from] = [event.clientX, this.reference[item]];
    let moved = false;
    const move = ({ clientX }) => {
      moved ||= Math.abs(clientX - begin) > 4;
      if (moved) this.setScore(item, from + ((clientX - begin) / track.clientWidth) * (HIGHEST - LOWEST));
    };
    const stop = ({ type }) => {
      track.removeEventListener("pointermove", move);
      if (!moved && type === "pointerup" && item !== this.taken) this.toggle(item);
      this.root.classList.remove("is-dragging");
    };
    track.setPointerCapture(event.pointerId);
    this.root.classList.add("is-dragging");
    track.addEventListener("pointermove", move);
    for (const end of ["pointerup", "pointercancel"]) track.addEventListener(end, stop, { once: true });
  }

  /** Do what a guess is about; resolves with what its answer quotes. */
  act({ liked, k, steps, seed }) {
    this.liked = this.names.map((name) => liked.split(", ").includes(name));
    this.controls.set({ k, beta: "0.2", lambda: "0.05" });
    this.seed = Number(seed);
    this.startOver();
    return new Promise((resolve) => this.walk(Number(steps), () => resolve(this.counts())));
  }
}

show("pool", (root) => new Shop(root));
