/** The race: a small world, aligned with four selectors at once while the reader looks on, with one luck after another. */
import { lineChart } from "./chart.js";
import { controls, fill, guesses, mayMove, number, show } from "./page.js";

const STEPS = 200, EVERY = 10; // of a race, and of its drawing
const LAST = 50; // steps at the end of a race, over which a number is the mean
const LUCKS = 3; // races, with other positions and other draws, that answer a question
const BATCH = 80; // positions of a step
const TEAMS = [["hard", "none"], ["topk", "uniform"]]; // of selectors, a worker each
const NAMES = TEAMS.flat();

const mean = (numbers) => numbers.reduce((sum, one) => sum + one, 0) / numbers.length;
const signed = (change) => (change > 0 ? `+${number(change, 1)}` : number(change, 1));

/** Steps of a race, {selector: what the worker told of it, ...}, that all selectors have taken. */
const steps = (race) => Math.min(...NAMES.map((name) => race[name].at(-1)?.step ?? 0));

class Race {
  constructor(root, world) {
    Object.assign(this, { root, world, workers: [], races: [] });
    this.controls = controls(root, () => this.clear());
    const [ndcg, wrong] = ["ndcg", "wrong"].map((name) => root.querySelector(`[data-chart="${name}"] svg`));
    const x = [0, 50, 100, 150, 200];
    this.charts = {
      change: lineChart(ndcg, { x, y: [-20, -15, -10, -5, 0, 5, 10], height: 250, format: (value) => number(value, 0) }),
      wrong: lineChart(wrong, { x, y: [0, 25, 50, 75, 100, 125], height: 220 }),
    };
    const actions = { run: () => this.run(), luck: () => this.go(this.races.length + 1) };
    for (const button of root.querySelectorAll("[data-do]")) {
      button.addEventListener("click", () => actions[button.dataset.do]?.());
    }
    guesses(root, ({ settings }) => {
      this.controls.set(JSON.parse(settings));
      return this.run();
    });
    this.clear();
  }

  /** Forget the races, which had other settings; what they came to stays in the table, as what was before. */
  clear() {
    this.stop();
    const values = this.values();
    if (values) fill(this.root, Object.fromEntries(NAMES.map((name) => [`before.${name}`, values[`change.${name}`]])));
    this.races = [];
    const { reference } = this.controls.values();
    fill(this.root, { "setting.epochs": this.world.references[reference].epochs });
    for (const place of this.root.querySelectorAll("tbody [data-fill]:not([data-fill^=before])")) place.textContent = "–";
    this.draw();
  }

  /** Leave a race that is under way. */
  stop() {
    this.workers.forEach((worker) => worker.terminate());
    this.workers = [];
    this.races = this.races.filter((race) => steps(race) === STEPS);
  }

  /** Start anew with what the sliders say. */
  run() {
    this.clear();
    return this.go(LUCKS);
  }

  /** Race on, to so many lucks in all; resolves with what the answers of the page quote. */
  async go(lucks) {
    this.stop();
    const began = performance.now();
    this.root.removeAttribute("data-took");
    while (this.races.length < lucks) {
      await this.race(this.races.length + 1);
      this.draw();
      fill(this.root, this.values());
    }
    this.root.dataset.took = ((performance.now() - began) / 1000).toFixed(2); // seconds
    return this.values();
  }

  /** One race of all selectors, with the luck of a seed; resolves when all have ended. */
  race(seed) {
    const { reference, ...settings } = this.controls.values();
    const job = { world: this.world, reference, settings: { ...settings, batch: BATCH }, seed, steps: STEPS, every: EVERY };
    const race = Object.fromEntries(NAMES.map((name) => [name, []]));
    this.races.push(race);
    return Promise.all(TEAMS.map((selectors) => new Promise((resolve) => {
      const worker = new Worker(new URL("./runner.js", import.meta.url), { type: "module" });
      this.workers.push(worker);
      worker.onmessage = ({ data }) => {
        race[data.selector].push(data);
        if (mayMove()) this.drawSoon();
        if (selectors.some((name) => race[name].at(-1)?.step !== STEPS)) return;
        worker.terminate();
        resolve();
      };
      worker.postMessage({ ...job, selectors });
    })));
  }

  /** Draw at most once a frame. */
  drawSoon() {
    this.waiting ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.waiting);
    this.waiting = undefined;
    const { beta } = this.controls.values();
    const lines = (value) => this.races.flatMap((race, place) => NAMES.map((name) => ({
      name, faint: place + 1 < this.races.length, points: race[name].map((point) => [point.step, value(point)]),
    })));
    this.charts.change(lines(({ change }) => change));
    this.charts.wrong(lines(({ wrong }) => wrong / beta).filter(({ name, faint }) => name !== "none" && !faint));
    const last = this.races.at(-1);
    fill(this.root, { steps: last ? steps(last) : 0, luck: this.races.length || 1 });
    this.root.querySelector(".lab-nothing").hidden = Boolean(last);
  }

  /** What each selector comes to over the races that have ended, as the page shows it; nothing if none has. */
  values() {
    const ended = this.races.filter((race) => steps(race) === STEPS);
    if (!ended.length) return undefined;
    const { beta } = this.controls.values();
    const values = { lucks: ended.length };
    for (const name of NAMES) {
      const last = ended.flatMap((race) => race[name].filter(({ step }) => step > STEPS - LAST));
      values[`change.${name}`] = signed(mean(last.map(({ change }) => change)));
      const [wrong, right] = ["wrong", "right"].map((push) => mean(ended.map((race) => race[name].at(-1)[push])));
      values[`wrong.${name}`] = number(wrong / beta, 0);
      values[`share.${name}`] = wrong + right ? number((100 * wrong) / (wrong + right), 0) : "–";
    }
    return values;
  }
}

show("race", (root, world) => new Race(root, world));
