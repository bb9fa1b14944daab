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
    const control = { bgcolor: surface, bordercolor: border, font: { color: text } };
    const copy = structuredClone(template);
    const layout = copy.layout;
    const merge = (key, values) => { layout[key] = { ...layout[key], ...values }; };
    merge("font", { color: text });
    for (const axis of ["xaxis", "yaxis"]) {
      merge(axis, { gridcolor: border, linecolor: muted, tickcolor: border, zerolinecolor: border });
    }
    merge("hoverlabel", { bgcolor: surface, bordercolor: border, font: { ...layout.hoverlabel?.font, color: text } });
    merge("updatemenudefaults", control);
    merge("sliderdefaults", { ...control, activebgcolor: muted, tickcolor: muted });
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
    if (plot.clientWidth < 480) narrow(layout);
    if (matchMedia("(pointer: coarse)").matches) layout.dragmode = false; // a finger scrolls the page
    Plotly.newPlot(plot, { ...figure, layout, config }).then(() => {
      clearLegend(plot);
      plot.on("plotly_afterplot", () => clearLegend(plot));
    });
  }

  // On a telephone: smaller letters, and titles of axes in lines of 24 letters.
  function narrow(layout) {
    layout.template.layout.font.size = 12;
    layout.template.layout.sliderdefaults.font = { ...layout.template.layout.sliderdefaults.font, size: 10 };
    for (const axis of ["xaxis", "yaxis"]) {
      const title = layout[axis]?.title;
      if (!title?.text) continue;
      const lines = [""];
      for (const word of title.text.split(" ")) {
        if (lines.at(-1) && `${lines.at(-1)} ${word}`.length > 24) lines.push(word);
        else lines.push(`${lines.pop()} ${word}`.trim());
      }
      title.text = lines.join("<br>");
      if (axis === "xaxis") {
        for (const slider of layout.sliders ?? []) slider.pad = { ...slider.pad, t: 48 + 16 * (lines.length - 1) };
      }
      title.font = { ...title.font, size: 12 };
    }
  }

  // A menu stands above the legend, however many lines that takes at this width.
  function clearLegend(plot) {
    const legend = plot.querySelector(".legend");
    if (!legend || !plot.layout.updatemenus) return;
    const above = Math.round(legend.getBBox().height) + 12;
    const changes = {};
    plot.layout.updatemenus.forEach((menu, n) => {
      if (menu.pad?.b !== above) changes[`updatemenus[${n}].pad.b`] = above;
    });
    if (Object.keys(changes).length) Plotly.relayout(plot, changes);
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
