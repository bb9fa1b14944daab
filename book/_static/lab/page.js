/** What the figures share: where they stand in the page, its words, its sliders, and whether the reader wants motion. */

/**
 * Show the figure of a name and hand over its part of the page, with what the build left for it.
 * @param {string} name of book/live/<name>.html.j2
 * @param {(root: HTMLElement, inputs: any) => void} draw
 */
export function show(name, draw) {
  for (const figure of document.querySelectorAll(`[data-live="${name}"]`)) {
    const root = figure.querySelector(".rodpo-lab");
    draw(root, JSON.parse(figure.querySelector('script[type="application/json"]').textContent));
    root.hidden = false;
  }
}

/** Whether things may move by themselves. */
export function mayMove() {
  return !matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** A text of the page with its {names} replaced. */
export function worded(text, values) {
  return text.replace(/\{([\w.]+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Write values into the elements that ask for them by data-fill. */
export function fill(root, values) {
  for (const place of root.querySelectorAll("[data-fill]")) {
    const value = values[place.dataset.fill];
    if (value !== undefined && place.textContent !== String(value)) place.textContent = value;
  }
}

/** A copy of what a template of the page holds. */
export function copyOf(root, name) {
  return root.querySelector(`template[data-for="${name}"]`).content.firstElementChild.cloneNode(true);
}

/** A number for a reader: a true minus, and so many digits. */
export function number(value, digits = 2) {
  const text = value.toFixed(digits);
  return Number(text) ? text.replace("-", "−") : text.replace("-", "");
}

/**
 * The controls of a figure: sliders, whose values may be named in data-values, choices and switches.
 * @returns {{values: () => Record<string, any>, set: (values: Record<string, any>) => void}}
 */
export function controls(root, changed) {
  const inputs = [...root.querySelectorAll(".lab-controls :is(input, select)")];
  const steps = (input) => input.dataset.values?.split(" ");
  const read = (input) => {
    if (input.type === "checkbox") return input.checked;
    if (input.type !== "range") return input.value;
    return Number(steps(input)?.[input.value] ?? input.value);
  };
  const values = () => {
    const chosen = inputs.filter((input) => input.type !== "radio" || input.checked);
    return Object.fromEntries(chosen.map((input) => [input.name, read(input)]));
  };
  const tell = () => {
    for (const input of inputs.filter(({ type }) => type === "range")) {
      input.setAttribute("aria-valuetext", worded(input.dataset.says ?? "{value}", { value: read(input) }));
    }
    fill(root, Object.fromEntries(Object.entries(values()).map(([name, value]) => [`setting.${name}`, value])));
  };
  const set = (wanted) => {
    for (const input of inputs.filter(({ name }) => name in wanted)) {
      const value = String(wanted[input.name]);
      if (input.type === "checkbox") input.checked = wanted[input.name];
      else if (input.type === "radio") input.checked = input.value === value;
      else input.value = steps(input)?.indexOf(value) ?? value;
    }
    tell();
  };
  for (const input of inputs) input.addEventListener("input", () => { tell(); changed(input.name); });
  tell();
  return { values, set };
}

/** Bring a part of a figure onto the screen, if it is not there. */
function bringNear(part) {
  part.scrollIntoView({ block: "nearest", behavior: mayMove() ? "smooth" : "auto" });
}

/**
 * Guesses, one after the other: a form each, with a choice. When the reader has chosen, `act` does what the form is
 * about, by its data, while .lab-stage is on the screen and nothing else can be moved, and resolves with the values that
 * the answer quotes; the answer says whether the guess was right, and takes the focus.
 * @param {HTMLElement} root
 * @param {(data: DOMStringMap) => Promise<Record<string, string>>} act
 */
export function guesses(root, act) {
  const forms = [...root.querySelectorAll(".lab-guess")];
  const movable = root.querySelectorAll(".lab-controls, .lab-stage");
  const [stage, onwards, play] = [".lab-stage", ".lab-onwards", ".lab-play"].map((name) => root.querySelector(name));
  forms.forEach((form, place) => form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const [chosen] = [...form.querySelectorAll("input:checked")].map(({ value }) => value);
    for (const element of form.elements) element.disabled = true;
    bringNear(stage);
    movable.forEach((part) => { part.inert = true; });
    fill(form, await act(form.dataset));
    movable.forEach((part) => { part.inert = false; });
    form.querySelector('[data-verdict="right"]').hidden = chosen !== form.dataset.right;
    form.querySelector('[data-verdict="wrong"]').hidden = !chosen || chosen === form.dataset.right;
    const answer = form.querySelector(".lab-answer");
    answer.hidden = false;
    (place + 1 < forms.length ? onwards : play).hidden = false;
    answer.focus({ preventScroll: true });
    bringNear(answer);
  }));
  onwards.querySelector("button").addEventListener("click", () => {
    const place = forms.findIndex((form) => !form.hidden);
    [forms[place].hidden, forms[place + 1].hidden, onwards.hidden] = [true, false, true];
    forms[place + 1].querySelector("input").focus();
  });
}
