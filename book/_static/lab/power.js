/** Could you see it? A hundred repetitions of an experiment of one's own size, drawn one after the other. */
import { mark } from "./chart.js";
import { mulberry32 } from "./mathematics.js";
import { controls, fill, guesses, mayMove, number, show, worded } from "./page.js";
import { readRuns, repetition } from "./resampling.js";

const REPEATS = 100; // in a series
const END = 15, TICKS = [-15, -10, -5, 0, 5, 10, 15]; // of the axis, in percent
const HEIGHT = 250, LEFT = 40, TOP = 8, BOTTOM = 26; // pixels
const FRAME = 12; // ms of drawing at once

class Power {
  constructor(root, inputs) {
    Object.assign(this, { root, known: readRuns(inputs), seed: 1, svg: root.querySelector("svg"), width: 640 });
    this.controls = controls(root, () => this.run());
    root.querySelector("[data-do=again]").addEventListener("click", () => { this.seed += 1; this.run(); });
    new ResizeObserver(([{ contentRect }]) => { this.width = contentRect.width; this.draw(); }).observe(this.svg);
    guesses(root, ({ settings, seed }) => {
      this.controls.set(JSON.parse(settings));
      this.seed = Number(seed);
      return this.run();
    });
    this.shown = [];
    this.tell();
  }

  /** A series with what the sliders say; resolves with what the answers quote. */
  run() {
    cancelAnimationFrame(this.waiting);
    this.shown = [];
    this.draw();
    const [settings, random] = [this.controls.values(), mulberry32(this.seed)];
    return new Promise((resolve) => {
      const some = () => {
        for (const began = performance.now(); this.shown.length < REPEATS;) {
          this.add(repetition(this.known, settings, random));
          if (mayMove() && performance.now() - began > FRAME) break;
        }
        this.tell();
        if (this.shown.length < REPEATS) this.waiting = requestAnimationFrame(some);
        else resolve(this.facts());
      };
      some();
    });
  }

  facts() {
    const { users, seeds, effect } = this.controls.values();
    const count = this.shown.length;
    const seen = this.shown.filter(({ low, high }) => low > 0 || high < 0).length;
    const half = this.shown.reduce((sum, { low, high }) => sum + (high - low) / 2, 0) / count;
    return { users: users.toLocaleString("en"), seeds, effect, count, seen, half: count ? number(half, 1) : "–" };
  }

  tell() {
    const [facts, place] = [this.facts(), this.root.querySelector(".lab-verdict")];
    place.textContent = facts.count ? worded(place.dataset.result, facts) : place.dataset.before;
    fill(this.root, { "setting.users": facts.users });
  }

  draw() {
    const { svg, width } = this;
    svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    svg.setAttribute("height", HEIGHT);
    svg.setAttribute("aria-label", this.root.querySelector(".lab-chart-title").textContent);
    svg.replaceChildren();
    for (const value of TICKS) {
      const at = this.down(value);
      mark(svg, "line", { class: value ? "lab-grid" : "lab-zero", x1: LEFT, x2: width, y1: at, y2: at });
      mark(svg, "text", { class: "lab-tick", x: LEFT - 6, y: at + 4, "text-anchor": "end" }, number(value, 0));
    }
    const effect = this.down(this.controls.values().effect);
    mark(svg, "line", { class: "lab-true", x1: LEFT, x2: width, y1: effect, y2: effect });
    mark(svg, "text", { class: "lab-tick", x: (LEFT + width) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, svg.dataset.x);
    if (!this.shown.length) {
      mark(svg, "text", { class: "lab-empty", x: (LEFT + width) / 2, y: this.down(10), "text-anchor": "middle" }, svg.dataset.empty);
    }
    this.shown.forEach((one, place) => this.bar(one, place));
  }

  add(one) {
    if (!this.shown.length) this.svg.querySelector(".lab-empty")?.remove();
    this.bar(one, this.shown.push(one) - 1);
  }

  down(value) {
    const share = (Math.min(Math.max(value, -END), END) + END) / (2 * END);
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
  }

  /** An interval; its colour says on which side of zero it lies, and a dot where it does. */
  bar({ change, low, high }, place) {
    const at = LEFT + ((place + 0.5) / REPEATS) * (this.width - LEFT);
    const look = `lab-interval lab-${low > 0 ? "better" : high < 0 ? "worse" : "open"}`;
    mark(this.svg, "line", { class: look, x1: at, x2: at, y1: this.down(low), y2: this.down(high) });
    if (low > 0 || high < 0) mark(this.svg, "circle", { class: look, cx: at, cy: this.down(change), r: 2.6 });
  }
}

show("power", (root, inputs) => new Power(root, inputs));
