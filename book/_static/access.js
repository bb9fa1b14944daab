/* What the theme leaves out for those who listen to a page or walk through it by keyboard. */
"use strict";
(() => {
  // A name without the text that one sees cannot be spoken to a voice control; icons bring theirs when they are drawn.
  document.querySelectorAll("summary[aria-label]").forEach((summary) => summary.removeAttribute("aria-label"));
  for (const button of document.querySelectorAll("button[aria-label]")) {
    const label = button.getAttribute("aria-label");
    const name = () => {
      const text = button.textContent.replace(/\s+/g, " ").trim();
      button.setAttribute("aria-label", !text || label.includes(text) ? label : `${text} (${label})`);
    };
    name();
    new MutationObserver(name).observe(button, { childList: true, subtree: true });
  }
  // A list may hold list items only.
  document.querySelectorAll(".citation-list[role=list]").forEach((list) => list.removeAttribute("role"));
  // What scrolls must be reachable by keyboard; formulas are typeset later and change their size then.
  const watch = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  document.querySelectorAll("div.math").forEach((formula) => watch.observe(formula));
})();
