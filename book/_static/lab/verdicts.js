/** The verdict explorer: one comparison of recorded runs at a time, on every dataset, and what it shows in a sentence. */
import { mark } from "./chart.js";
import { controls, number, show, worded } from "./page.js";

const ENDS = [-25, 20], TICK = 5; // of the axis, in percent
const LEFT = 74, ROW = 54, BOTTOM = 42; // pixels

class Explorer {
  constructor(root, { choices, rows }) {
    Object.assign(this, { root, choices });
    this.rows = new Map(rows.map(([...row]) => [row.slice(0, 6).join(), { change: row[6], low: row[7], high: row[8] }]));
    for (const select of root.querySelectorAll("select")) {
      select.replaceChildren(...choices[select.name].map(([key, name]) => new Option(name, key)));
      select.value = choices[select.name].some(([key]) => key === select.dataset.first) ? select.dataset.first : select.value;
    }
    this.svg = root.querySelector("svg");
    this.controls = controls(root, () => this.render());
    new ResizeObserver(([{ contentRect }]) => { this.width = contentRect.width; this.draw(); }).observe(this.svg);
    this.render();
  }

  /** The comparison that is chosen, dataset by dataset; null where it has not run. */
  chosen() {
    const chosen = this.controls.values();
    const place = (key) => this.choices[key].findIndex(([name]) => name === chosen[key]);
    const key = [...["base", "rejected", "against", "protocol"].map(place), Number(chosen.stays)];
    return this.choices.dataset.map(([, name], at) => ({ name, ...(this.rows.get([...key, at].join()) ?? { change: null }) }));
  }

  render() {
    this.before = this.now;
    this.now = this.chosen();
    this.say();
    if (this.width) this.draw();
  }

  say() {
    const { dataset: words } = this.root.querySelector(".lab-verdict");
    const known = this.now.filter(({ change }) => change !== null);
    const isSame = ({ low, high }) => low === 0 && high === 0;
    const kinds = {
      better: known.filter(({ low }) => low > 0),
      worse: known.filter(({ high }) => high < 0),
      same: known.filter(isSame),
      open: known.filter((one) => one.low <= 0 && one.high >= 0 && !isSame(one)),
    };
    const listed = (names) => names.length > 1 ? `${names.slice(0, -1).join(", ")} ${words.and} ${names.at(-1)}` : names[0];
    const parts = Object.entries(kinds).filter(([, some]) => some.length)
      .map(([kind, some]) => worded(words[kind], { datasets: listed(some.map(({ name }) => name)) }));
    const chosen = this.controls.values();
    const names = Object.fromEntries(Object.entries(this.choices).map(([key, some]) => [key, Object.fromEntries(some)[chosen[key]]]));
    const lead = worded(words.lead, { ...names, stays: chosen.stays ? words.stays : "" });
    this.root.querySelector(".lab-verdict").textContent = known.length ? `${lead} ${parts.join("; ")}.` : words.missing;
  }

  draw() {
    const { svg, width, now } = this;
    const height = now.length * ROW + BOTTOM;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("height", height);
    svg.setAttribute("aria-label", this.root.querySelector(".lab-verdict").textContent);
    svg.replaceChildren();
    const across = (value) => {
      const share = (Math.min(Math.max(value, ENDS[0]), ENDS[1]) - ENDS[0]) / (ENDS[1] - ENDS[0]);
      return LEFT + share * (width - LEFT - 10);
    };
    for (let value = ENDS[0]; value <= ENDS[1]; value += TICK) {
      const line = { x1: across(value), x2: across(value), y1: 0, y2: height - BOTTOM };
      mark(svg, "line", { class: value ? "lab-grid" : "lab-zero", ...line });
      if (value % (width < 480 ? 10 : TICK)) continue;
      mark(svg, "text", { class: "lab-tick", x: across(value), y: height - BOTTOM + 16, "text-anchor": "middle" },
        number(value, 0));
    }
    mark(svg, "text", { class: "lab-tick", x: (LEFT + width) / 2, y: height - 6, "text-anchor": "middle" }, svg.dataset.x);
    now.forEach((one, place) => {
      const middle = place * ROW + 34;
      mark(svg, "text", { class: "lab-label", x: 0, y: middle + 4 }, one.name);
      if (this.before) this.point(across, this.before[place], middle, "lab-faint");
      this.point(across, one, middle, "lab-now");
      const text = one.change === null ? svg.dataset.missing
        : `${signed(one.change)} % [${signed(one.low)}, ${signed(one.high)}]`;
      mark(svg, "text", { class: "lab-tick lab-number", x: width - 10, y: middle - 14, "text-anchor": "end" }, text);
    });
  }

  /** An estimate with its interval; its shape says on which side of zero that lies. */
  point(across, { change, low, high }, middle, look) {
    if (change === null) return;
    const kind = low > 0 ? "better" : high < 0 ? "worse" : "open";
    const group = mark(this.svg, "g", { class: `lab-point lab-${kind} ${look}` });
    mark(group, "line", { x1: across(low), x2: across(high), y1: middle, y2: middle });
    const at = across(change);
    const shapes = {
      better: `M${at - 7} ${middle + 5}L${at} ${middle - 8}L${at + 7} ${middle + 5}Z`,
      worse: `M${at - 7} ${middle - 5}L${at} ${middle + 8}L${at + 7} ${middle - 5}Z`,
      open: `M${at - 6} ${middle}a6 6 0 1 0 12 0a6 6 0 1 0 -12 0`,
    };
    mark(group, "path", { d: shapes[kind] });
  }
}

const signed = (value) => (value > 0 ? "+" : "") + number(value, 1);

show("verdicts", (root, inputs) => new Explorer(root, inputs));
