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
 * counts; the title beside it is its name. Drawn again when the width changes.
 * @param {SVGSVGElement} svg
 * @param {{x: number[], y: number[], height?: number, format?: (value: number) => string}} axes ticks of both axes, from
 *   end to end
 * @returns {(lines: {name: string, points: number[][], faint?: boolean}[]) => void}
 */
export function lineChart(svg, { x, y, height = 190, format = String }) {
  svg.setAttribute("aria-label", svg.parentElement.querySelector(".lab-chart-title").textContent);
  svg.setAttribute("height", height);
  const names = Object.fromEntries(svg.dataset.lines.split("; ").map((entry) => entry.split(": ")));
  const [axes, over] = [mark(svg, "g"), mark(svg, "g")];
  const down = (value) => {
    const share = (value - y[0]) / (y.at(-1) - y[0]);
    return height - BOTTOM - Math.min(Math.max(share, 0), 1) * (height - TOP - BOTTOM);
  };
  let width = 640;
  const right = (value) => LEFT + ((value - x[0]) / (x.at(-1) - x[0])) * (width - LEFT - RIGHT);
  const drawAxes = () => {
    axes.replaceChildren();
    for (const value of y) {
      mark(axes, "line", { class: "lab-grid", x1: LEFT, x2: width - RIGHT, y1: down(value), y2: down(value) });
      mark(axes, "text", { class: "lab-tick", x: LEFT - 6, y: down(value) + 4, "text-anchor": "end" }, format(value));
    }
    const below = (at, row, text) => {
      mark(axes, "text", { class: "lab-tick", x: at, y: height - BOTTOM + row, "text-anchor": "middle" }, text);
    };
    for (const value of x) below(right(value), 17, value);
    below((LEFT + width - RIGHT) / 2, 35, svg.dataset.x);
  };
  let shown = [];
  const drawLines = () => {
    over.replaceChildren();
    const ends = [];
    for (const { name, points, faint } of shown.filter((line) => line.points.length)) {
      const path = points.map(([a, b]) => `${right(a).toFixed(1)} ${down(b).toFixed(1)}`);
      mark(over, "path", { class: `lab-line lab-${name}${faint ? " lab-faint" : ""}`, d: `M${path.join("L")}` });
      const [last, value] = points.at(-1);
      if (!faint) ends.push({ name, at: right(last), height: down(value) });
    }
    for (const { name, at, height: place } of apart(ends, height - BOTTOM)) {
      mark(over, "text", { class: `lab-label lab-${name}`, x: at + 6, y: place + 4 }, names[name]);
    }
  };
  // The width is that of the observer: to ask for it while drawing would lay out the page each time.
  new ResizeObserver(([{ contentRect }]) => {
    width = contentRect.width;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    drawAxes();
    drawLines();
  }).observe(svg);
  return (lines) => {
    shown = lines;
    drawLines();
  };
}

/** Labels moved up or down until none stands on another, or below the lowest place. */
function apart(labels, lowest) {
  const ordered = labels.sort((a, b) => a.height - b.height);
  for (let round = 0; round < 8; round++) {
    for (let n = 1; n < ordered.length; n++) {
      const [above, below] = [ordered[n - 1], ordered[n]];
      const short = NEAR - (below.height - above.height);
      if (short > 0) [above.height, below.height] = [above.height - short / 2, below.height + short / 2];
    }
    if (ordered.length) {
      ordered[0].height = Math.max(ordered[0].height, NEAR / 2);
      ordered.at(-1).height = Math.min(ordered.at(-1).height, lowest);
    }
  }
  return ordered;
}
