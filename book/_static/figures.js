/* Draws the figures that companion/site/figures.py writes into the pages: each when the reader nears it, in the reader's
   theme, with the plotly.js in vendor/ beside this file. A page without figures does not load plotly. */
"use strict";
(() => {
  const root = document.documentElement;
  const plotlySource = new URL("vendor/plotly/plotly-cartesian.min.js", document.currentScript.src);
  const config = { responsive: true, displayModeBar: false, displaylogo: false };
  const drawn = new Set();

  const colour = (name) => getComputedStyle(root).getPropertyValue(`--pst-color-${name}`).trim();

  function themed(template) {
    const [text, muted, border, surface] = ["text-base", "text-muted", "border", "surface"].map(colour);
    const copy = structuredClone(template);
    const layout = copy.layout;
    const merge = (key, values) => { layout[key] = { ...layout[key], ...values }; };
    merge("font", { color: text });
    for (const axis of ["xaxis", "yaxis"]) {
      merge(axis, { gridcolor: border, linecolor: muted, tickcolor: border, zerolinecolor: border });
    }
    merge("hoverlabel", { bgcolor: surface, bordercolor: border, font: { ...layout.hoverlabel?.font, color: text } });
    return copy;
  }

  function draw(plot) {
    if (drawn.has(plot)) return;
    drawn.add(plot);
    const figure = JSON.parse(plot.parentElement.querySelector('script[type="application/json"]').textContent);
    const layout = figure.layout;
    plot.rodpoTemplate = layout.template;
    layout.template = themed(layout.template);
    layout.height ??= plot.clientHeight;
    const choices = [...(layout.sliders ?? []).map((slider) => ({ ...slider, options: slider.steps })),
      ...(layout.updatemenus ?? []).map((menu) => ({ ...menu, options: menu.buttons }))];
    delete layout.sliders;
    delete layout.updatemenus;
    if (plot.clientWidth < 480) narrow(layout);
    if (matchMedia("(pointer: coarse)").matches) layout.dragmode = false; // a finger scrolls the page
    Plotly.newPlot(plot, { ...figure, layout, config }).then(() => {
      choices.forEach((choice, n) => plot.before(control(choice, `rodpo-choice-${drawn.size}-${n}`, (option) =>
        Plotly[option.method](plot, ...structuredClone(option.args)))));
    });
  }

  // A slider or a menu of plotly's as a control of the page's own, which keyboard, fingers and screen readers know.
  function control({ options, active = 0, currentvalue }, id, choose) {
    const name = (currentvalue?.prefix ?? "").replace(/[:=\s]+$/, "") || "Show";
    const box = document.createElement("div");
    box.className = "rodpo-control";
    if (options.length > 4) {
      box.innerHTML = `<label for="${id}"></label><input type="range" id="${id}" min="0" step="1"><output for="${id}"></output>`;
      const [label, range, output] = box.children;
      label.textContent = name;
      range.max = options.length - 1;
      range.value = active;
      const show = () => {
        output.textContent = options[range.value].label;
        range.setAttribute("aria-valuetext", output.textContent);
      };
      range.addEventListener("input", () => { show(); choose(options[range.value]); });
      show();
      return box;
    }
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", name);
    box.append(Object.assign(document.createElement("span"), { textContent: name, ariaHidden: "true" }));
    const buttons = options.map(({ label }) => Object.assign(document.createElement("button"), { type: "button", textContent: label }));
    const press = (chosen) => buttons.forEach((button, n) => button.setAttribute("aria-pressed", n === chosen));
    buttons.forEach((button, n) => button.addEventListener("click", () => { press(n); choose(options[n]); }));
    press(active);
    box.append(...buttons);
    return box;
  }

  // On a telephone: smaller letters, and titles of axes in lines of 24 letters.
  function narrow(layout) {
    layout.template.layout.font.size = 12;
    for (const axis of ["xaxis", "yaxis"]) {
      const title = layout[axis]?.title;
      if (!title?.text) continue;
      const lines = [""];
      for (const word of title.text.split(" ")) {
        if (lines.at(-1) && `${lines.at(-1)} ${word}`.length > 24) lines.push(word);
        else lines.push(`${lines.pop()} ${word}`.trim());
      }
      title.text = lines.join("<br>");
      title.font = { ...title.font, size: 12 };
    }
  }

  function recolour() {
    for (const plot of drawn) {
      const template = themed(plot.rodpoTemplate);
      template.layout.font.size = plot.layout.template.layout.font.size;
      Plotly.relayout(plot, { template });
    }
  }

  function start(plots) {
    const observer = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        observer.unobserve(target);
        draw(target);
      }
    }, { rootMargin: "600px" });
    plots.forEach((plot) => observer.observe(plot));
    new MutationObserver(recolour).observe(root, { attributeFilter: ["data-theme"] });

    let theme; // paper is white
    addEventListener("beforeprint", () => {
      theme = root.dataset.theme;
      root.dataset.theme = "light";
      plots.forEach(draw);
      recolour();
    });
    addEventListener("afterprint", () => { root.dataset.theme = theme; });
  }

  function load() {
    const plots = document.querySelectorAll(".rodpo-plot");
    if (!plots.length) return;
    const script = document.createElement("script");
    script.src = plotlySource;
    script.onload = () => start(plots);
    script.onerror = () => plots.forEach((plot) => { plot.textContent = "plotly-cartesian.min.js could not be loaded."; });
    document.head.append(script);
  }

  load(); // deferred: the document is parsed
})();
