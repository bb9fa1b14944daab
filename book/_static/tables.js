/* Long tables: a click on the head of a column sorts by it, a field above keeps the lines that hold what is typed. */
"use strict";
(() => {
  const LONG = 15;

  // A cell as a number where it begins with one, such as +1.2 %, 0.0355 ± 0.0004 or 11,924; else NaN.
  const number = (text) => parseFloat(text.replace("−", "-").replace(/,(?=\d{3})/g, ""));

  function sortable(table) {
    const body = table.tBodies[0];
    for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.ariaSort !== "descending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.ariaSort = down ? "descending" : "ascending";
        const text = (row) => row.cells[column].textContent.trim();
        const rows = [...body.rows].sort((first, second) => {
          const [one, two] = [first, second].map((row) => number(text(row)));
          if (isNaN(one) && isNaN(two)) return text(second).localeCompare(text(first));
          if (isNaN(one) || isNaN(two)) return (isNaN(one) - isNaN(two)) * (down ? 1 : -1); // what is missing is last
          return two - one;
        });
        body.append(...(down ? rows : rows.reverse()));
      });
    }
  }

  function searchable(box) {
    const body = box.querySelector("tbody");
    const field = Object.assign(document.createElement("input"), { type: "search", placeholder: "Filter lines" });
    field.className = "rodpo-filter";
    field.setAttribute("aria-label", `Filter: ${box.getAttribute("aria-label")}`);
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/);
      for (const row of body.rows) {
        const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
    box.before(field);
  }

  for (const box of document.querySelectorAll(".rodpo-table:not(.rodpo-board)")) {
    const table = box.querySelector("table");
    if (!table?.tHead || table.tBodies[0].rows.length < LONG || box.closest("details")) continue;
    sortable(table);
    searchable(box);
  }
})();
