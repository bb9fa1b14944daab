/** Lines over fixed axes, as SVG that takes its colours from the style sheet: one class for each line. */

const NAMESPACE = "http://www.w3.org/2000/svg";
const LEFT = 40, RIGHT = 76, TOP = 10, BOTTOM = 40; // pixels around the lines
const NEAR = 15; // pixels that two labels keep apart, and from the upper end

/** An SVG element with its attributes. */
export function mark(parent, kind, attributes = {}, text = "") {
  const element = document.createElementNS(NAMESPACE, kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return parent.appendChild(element);
}

/**
 * Axes in an svg of the page, and a function that draws lines over them.
 *
 * The page says with data-lines what each line is called, as "hard: hardest; topk: pool", and with data-x what the axis
 * counts. Drawn again when the width changes.
 * @param {SVGSVGElement} svg
 * @param {{x: number[], y: number[], height?: number, format?: (value: number) => string}} axes ticks of both axes, from
 *   end to end
 * @returns {(lines: {name: string, points: number[][], faint?: boolean}[]) => void}
 */
export function lineChart(svg, { x, y, height = 190, format = String }) {
  const labels = Object.fromEntries(svg.dataset.lines.split("; ").map((entry) => entry.split(": ")));
  const [ends, rises] = [[x[0], x.at(-1)], [y[0], y.at(-1)]];
  let shown = [];
  const draw = () => {
    const width = svg.clientWidth || 640;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("height", height);
    const right = (value) => LEFT + ((value - ends[0]) / (ends[1] - ends[0])) * (width - LEFT - RIGHT);
    const inside = (value) => Math.min(Math.max(value, rises[0]), rises[1]);
    const down = (value) => height - BOTTOM - ((inside(value) - rises[0]) / (rises[1] - rises[0])) * (height - TOP - BOTTOM);
    svg.replaceChildren();
    for (const value of y) {
      mark(svg, "line", { class: "lab-grid", x1: LEFT, x2: width - RIGHT, y1: down(value), y2: down(value) });
      mark(svg, "text", { class: "lab-tick", x: LEFT - 6, y: down(value) + 4, "text-anchor": "end" }, format(value));
    }
    for (const value of x) {
      mark(svg, "text", { class: "lab-tick", x: right(value), y: height - BOTTOM + 17, "text-anchor": "middle" }, value);
    }
    const middle = (LEFT + width - RIGHT) / 2;
    mark(svg, "text", { class: "lab-tick", x: middle, y: height - 5, "text-anchor": "middle" }, svg.dataset.x);
    const ended = [];
    for (const { name, points, faint } of shown) {
      if (!points.length) continue;
      const path = points.map(([a, b], place) => `${place ? "L" : "M"}${right(a).toFixed(1)} ${down(b).toFixed(1)}`);
      mark(svg, "path", { class: `lab-line lab-${name}${faint ? " lab-faint" : ""}`, d: path.join("") });
      if (!faint) ended.push({ name, at: right(points.at(-1)[0]), height: down(points.at(-1)[1]) });
    }
    for (const { name, at, height: place } of apart(ended)) {
      mark(svg, "text", { class: `lab-label lab-${name}`, x: at + 6, y: place + 4 }, labels[name] ?? name);
    }
  };
  new ResizeObserver(draw).observe(svg);
  return (lines) => { shown = lines; draw(); };
}

/** Labels moved up or down until none stands on another. */
function apart(labels) {
  const ordered = labels.sort((a, b) => a.height - b.height);
  for (let round = 0; round < 8; round++) {
    for (let n = 1; n < ordered.length; n++) {
      const [above, below] = [ordered[n - 1], ordered[n]];
      const short = NEAR - (below.height - above.height);
      if (short > 0) [above.height, below.height] = [above.height - short / 2, below.height + short / 2];
    }
    if (ordered.length) ordered[0].height = Math.max(ordered[0].height, NEAR / 2);
  }
  return ordered;
}
