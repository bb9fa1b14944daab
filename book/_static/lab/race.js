/** The race: a small world, aligned with four selectors at once while the reader looks on. */
import { lineChart } from "./chart.js";
import { controls, fill, guesses, mayMove, number, show } from "./page.js";

const STEPS = 200, EVERY = 10; // of a race, and of its drawing
const BATCH = 80; // positions of a step
const TEAMS = [["hard", "none"], ["topk", "uniform"]]; // of selectors, a worker each

class Race {
  constructor(root, world) {
    Object.assign(this, { root, world, seed: 1, workers: [], points: {}, before: {} });
    this.controls = controls(root, () => this.tell());
    const [ndcg, wrong] = ["ndcg", "wrong"].map((name) => root.querySelector(`[data-chart="${name}"] svg`));
    const x = [0, 50, 100, 150, 200];
    this.charts = {
      change: lineChart(ndcg, { x, y: [-20, -15, -10, -5, 0, 5, 10], height: 250, format: (value) => number(value, 0) }),
      wrong: lineChart(wrong, { x, y: [0, 25, 50, 75, 100, 125], height: 220 }),
    };
    const actions = { run: () => this.run(), luck: () => { this.seed += 1; this.run(); } };
    for (const button of root.querySelectorAll("[data-do]")) {
      button.addEventListener("click", () => actions[button.dataset.do]?.());
    }
    guesses(root, ({ settings, seed }) => {
      this.controls.set(JSON.parse(settings));
      this.seed = Number(seed);
      return this.run();
    });
    this.tell();
    this.draw();
  }

  tell() {
    const { reference } = this.controls.values();
    fill(this.root, { "setting.epochs": this.world.references[reference].epochs });
  }

  /** Start anew with what the sliders say; resolves with what the answers of the page quote, when all have ended. */
  run() {
    this.workers.forEach((worker) => worker.terminate());
    const { reference, ...settings } = this.controls.values();
    this.beta = settings.beta;
    const job = { world: this.world, reference, settings: { ...settings, batch: BATCH }, seed: this.seed, steps: STEPS, every: EVERY };
    this.before = this.points;
    this.points = Object.fromEntries(TEAMS.flat().map((name) => [name, []]));
    this.began = performance.now();
    this.root.removeAttribute("data-took");
    const ended = TEAMS.map((selectors) => new Promise((resolve) => {
      const worker = new Worker(new URL("./runner.js", import.meta.url), { type: "module" });
      this.workers.push(worker);
      let left = selectors.length;
      worker.onmessage = ({ data }) => {
        this.points[data.selector].push(data);
        if (mayMove()) this.drawSoon();
        if (data.step === STEPS && (left -= 1) === 0) {
          worker.terminate();
          resolve();
        }
      };
      worker.postMessage({ ...job, selectors });
    }));
    return Promise.all(ended).then(() => {
      this.workers = [];
      this.draw();
      fill(this.root, this.values());
      this.root.dataset.took = ((performance.now() - this.began) / 1000).toFixed(2); // seconds
      return this.values();
    });
  }

  /** Draw at most once a frame. */
  drawSoon() {
    this.waiting ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.waiting);
    this.waiting = undefined;
    const lines = (value) => [this.before, this.points].flatMap((runs) => Object.entries(runs).map(([name, points]) => ({
      name, faint: runs === this.before, points: points.map((point) => [point.step, value(point)]),
    })));
    this.charts.change(lines(({ change }) => change));
    this.charts.wrong(lines(({ wrong }) => wrong / this.beta).filter(({ name, faint }) => name !== "none" && !faint));
    fill(this.root, { steps: this.values().steps });
    this.root.querySelector(".lab-nothing").hidden = "hard" in this.points;
  }

  /** The last values of each selector, as the page shows them. */
  values() {
    const values = { steps: Math.min(...Object.values(this.points).map((points) => points.at(-1)?.step ?? 0)) };
    for (const [name, points] of Object.entries(this.points)) {
      const { change = 0, wrong = 0, right = 0 } = points.at(-1) ?? {};
      values[`change.${name}`] = change > 0 ? `+${number(change, 1)}` : number(change, 1);
      values[`wrong.${name}`] = number(wrong / this.beta, 0);
      values[`share.${name}`] = wrong + right ? number((100 * wrong) / (wrong + right), 0) : "–";
    }
    return values.steps === Infinity ? { steps: 0 } : values;
  }
}

show("race", (root, world) => new Race(root, world));
