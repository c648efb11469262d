// Sorting and filtering of the tables. Pages work without it, in the order of the ranks.
"use strict";

function valueOf(row, column, kind) {
  const text = row.cells[column].dataset.value;
  if (kind !== "number") return text;
  const number = Number.parseFloat(text);
  return Number.isNaN(number) ? null : number;
}

function compare(a, b, sign) {
  if (a === b) return 0;
  if (a === null || a === "") return 1; // what is missing stands last, whichever way
  if (b === null || b === "") return -1;
  return (a < b ? -1 : 1) * sign;
}

function sortBy(table, column, kind, sign) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows).map((row, place) => ({ row, place, value: valueOf(row, column, kind) }));
  rows.sort((a, b) => compare(a.value, b.value, sign) || a.place - b.place);
  body.append(...rows.map((each) => each.row));
}

function makeSortable(table) {
  for (const button of table.querySelectorAll("thead button[data-sort]")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.querySelectorAll("thead th[aria-sort]")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sortBy(table, head.cellIndex, button.dataset.sort, ascending ? 1 : -1);
    });
  }
}

function makeFilterable(section) {
  const text = section.querySelector("[data-filter=text]");
  const tier = section.querySelector("[data-filter=tier]");
  const count = section.querySelector("[data-count]");
  const rows = Array.from(section.querySelectorAll("tbody tr"));
  const apply = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const fits = words.every((word) => row.dataset.text.includes(word)) && (!tier?.value || row.dataset.tier === tier.value);
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = shown === rows.length ? `${rows.length} shown` : `${shown} of ${rows.length} shown`;
  };
  text.addEventListener("input", apply);
  tier?.addEventListener("change", apply);
  apply();
}

for (const section of document.querySelectorAll("[data-table]")) {
  makeSortable(section.querySelector("table"));
  makeFilterable(section);
}
